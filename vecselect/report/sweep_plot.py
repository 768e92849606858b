"""A sweep as a plot: throughput, and below it memory, against the number of sub-environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecselect.report.figures import LIGHT, line_of, literal, new_figure, styled
from vecselect.report.units import all_printable, rate, short, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vecselect.report.figures import Palette
    from vecselect.selection.sweep import Point
    from vecselect.sweeping.record import Sweep

WIDTH_IN, HEIGHT_IN = 6.6, 5.0
FAR = 6.0
"""Where the largest throughput is so many times the best one, the axis is logarithmic."""


def title(sweep: Sweep) -> str:
    """What the plot shows, in words."""
    best = sweep.best
    found = f"; the best is {best.mode} with {best.num_envs}" if best else ""
    what = "env steps/s and memory against the number of sub-environments"
    return f"{all_printable(sweep.env)}: {what}{found}"


def draw(sweep: Sweep, palette: Palette = LIGHT) -> Figure:
    """Draws a sweep.

    Args:
        sweep: Whole or not.
        palette: Its greys.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    with styled(palette):
        figure = new_figure(WIDTH_IN, HEIGHT_IN)
        above, below = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": (2.6, 1.0), "hspace": 0.08}
        )
        for mode in sweep.modes:
            measured = [p for p in sweep.points if p.mode == mode and p.env_steps_per_s]
            if measured:
                _curves(above, below, mode, measured, palette)
        _mark_best(above, sweep.best, palette)
        _arrange(above, below, sweep)
    return figure


def _curves(above: Any, below: Any, mode: str, measured: list[Point], palette: Palette) -> None:
    """One mode: its throughput with the 95 % band, and its memory."""
    look = {**line_of(mode), "markeredgecolor": palette.paper, "markeredgewidth": 0.7}
    found = [(p.num_envs, p.env_steps_per_s) for p in measured if p.env_steps_per_s]
    numbers = [number for number, _ in found]
    above.plot(numbers, [one.mid for _, one in found], label=mode, **look)
    lows, highs = [one.low for _, one in found], [one.high for _, one in found]
    above.fill_between(numbers, lows, highs, color=look["color"], alpha=0.18, linewidth=0)
    known = [(p.num_envs, p.memory_bytes) for p in measured if p.memory_bytes is not None]
    below.plot([number for number, _ in known], [one for _, one in known], **look)


def _mark_best(axes: Any, best: Point | None, palette: Palette) -> None:
    if best is None or best.env_steps_per_s is None:
        return
    per_s = best.env_steps_per_s.mid
    axes.plot(
        [best.num_envs],
        [per_s],
        marker="o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor=palette.ink,
        markeredgewidth=1.3,
        linestyle="none",
    )
    axes.set_title(
        f"best: {best.mode} x {best.num_envs}, {rate(per_s)}",
        loc="right",
        fontsize=9,
        fontweight="normal",
    )


def _arrange(above: Any, below: Any, sweep: Sweep) -> None:
    """Axes, labels and legend."""
    best = sweep.best
    most = max((p.env_steps_per_s.mid for p in sweep.points if p.env_steps_per_s), default=1.0)
    if best is not None and best.env_steps_per_s and most > FAR * best.env_steps_per_s.mid:
        above.set_yscale("log")
        above.minorticks_off()
    else:
        above.set_ylim(0, above.get_ylim()[1] * 1.05)
    below.set_ylim(0, max(below.get_ylim()[1] * 1.05, 1.0))
    below.set_xscale("log", base=2)
    below.minorticks_off()
    below.set_xticks(sweep.num_envs, [str(number) for number in sweep.num_envs])
    spread = 2**0.35
    below.set_xlim(sweep.num_envs[0] / spread, sweep.num_envs[-1] * spread)
    above.yaxis.set_major_formatter(lambda value, place: short(rate(value)))
    below.yaxis.set_major_formatter(lambda value, place: short(size(value)))
    below.locator_params(axis="y", nbins=4)
    interrupted = "" if sweep.whole else " (interrupted)"
    above.set_title(f"{literal(sweep.env)}: env steps/s{interrupted}")
    below.set_title("memory of all processes")
    below.set_xlabel("sub-environments (num_envs)")
    handles, _ = above.get_legend_handles_labels()
    if handles:
        above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
