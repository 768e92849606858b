"""`vecselect doctor`: the machine as vecselect sees it."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from vecselect.cli.plans import Commands


def add_command(commands: Commands) -> None:
    """Adds `doctor` to the command line."""
    parser = commands.add_parser("doctor", help="show this machine as vecselect sees it")
    parser.set_defaults(run=_doctor)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def _doctor(asked: argparse.Namespace) -> int:
    from vecselect.machine import read_machine
    from vecselect.make import available_modes

    machine = read_machine()
    modes = available_modes()
    if asked.json:
        document = {"machine": dataclasses.asdict(machine), "modes": modes}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        from vecselect.report.details import machine_rows
        from vecselect.report.terminal import write
        from vecselect.report.text import grid
        from vecselect.report.units import all_printable

        states = tuple(
            (f"mode {mode}", "available" if why is None else f"not available: {why}")
            for mode, why in modes.items()
        )
        write(grid(all_printable((*machine_rows(machine), *states))), sys.stdout)
    return 0
