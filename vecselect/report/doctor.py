"""The machine as vecselect sees it, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vecselect.report import stream
from vecselect.report.units import size

if TYPE_CHECKING:
    from typing import TextIO

    from vecselect.machine import Machine


def write(machine: Machine, modes: dict[str, str | None], file: TextIO) -> None:
    """Writes the machine and its modes to a stream.

    Args:
        machine: What was read of the machine.
        modes: Every mode with None, or with why it cannot run here.
        file: The stream.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    quota = "none" if machine.cores_quota is None else f"{machine.cores_quota:g} cores"
    grid.add_row("usable cores", f"{machine.cores:g}", style="bold")
    grid.add_row("logical cores", str(machine.cores_logical))
    grid.add_row("affinity", f"{machine.cores_affinity} cores")
    grid.add_row("cgroup quota", quota)
    grid.add_row(
        "memory",
        f"{size(machine.memory_available_bytes)} of {size(machine.memory_bytes)} available",
    )
    load = "unknown" if machine.load_1min is None else f"{machine.load_1min:.2f} over 1 min"
    grid.add_row("load", load)
    grid.add_row("start methods", ", ".join(machine.start_methods))
    grid.add_row("processor", machine.cpu)
    grid.add_row("system", machine.system)
    grid.add_row("python", machine.python)
    for mode, reason in modes.items():
        state = "available" if reason is None else f"not available: {reason}"
        grid.add_row(f"mode {mode}", Text(state))
    stream.write(grid, file)
