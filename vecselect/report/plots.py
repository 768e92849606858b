"""Plots of plans and sweeps: what each shows, how it is drawn, and how it becomes SVG or PNG.

The curves of a plan come from the cost model, over the plan's own evidence. matplotlib is loaded
when a figure is made. pyplot and its global state are never used, and the user's own settings of
matplotlib neither count here nor change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.errors import RequestError
from vecselect.modes import Mode
from vecselect.report.units import all_printable, rate, seconds, short, size
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.model import predict, with_step_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.figure import Figure

    from vecselect.plan import Plan, Sweep
    from vecselect.selection.evidence import Evidence
    from vecselect.selection.race import Timed

PLAN_IN, SWEEP_IN = (6.6, 4.2), (6.6, 5.0)
"""Width and height in inches: narrow, so that texts can be read on a phone."""

DOTS_PER_INCH = 160

STEP_TIMES_S, POINTS = (2e-6, 1e-2), 29
"""Step times that a curve always covers; wider where the environment's own lies near an end."""

INK, MUTED, GRID, PAPER = "#1d2127", "#697582", "#d9dee4", "#fdfdfc"
"""Greys: of text and outlines, of what stands back, of the grid's lines, of the background."""

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.size": 9,
    "grid.color": GRID,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "vecselect",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}

LOOKS = {
    "sync": ("#0072b2", "o"),
    "async": ("#009e73", "^"),
    "pool:0": ("#e8a020", "p"),
    "pool": ("#d55e00", "s"),
    "thread": ("#56b4e9", "v"),
    "native": ("#cc79a7", "D"),
    "ray": ("#8c6bb1", "X"),
}
"""By mode: a colour, which serves colour-blind readers too, and matplotlib's name of a mark."""

OTHER_LOOK = ("#697582", "P")
"""Of modes that have no look of their own."""

MORE_WORKERS = (("#d55e00", "s"), ("#a34400", "h"), ("#6f2e00", "8"))
"""Of pools with one worker, with two or three, and with more: the darker the more."""


def look_of(mode: str) -> tuple[str, str]:
    """The colour and the mark of a mode, such as `pool:1`, the same in every figure."""
    found = Mode.parse(mode)
    if found.kind == "pool" and found.workers:
        return MORE_WORKERS[min(found.workers.bit_length(), 3) - 1]
    return LOOKS.get(mode) or LOOKS.get(found.kind, OTHER_LOOK)


def need_matplotlib() -> Any:
    """matplotlib; `RequestError` if it is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(
            "Plots need matplotlib, which is not installed here; install it with: pip install "
            "'vecselect[plot]'."
        ) from error
    return matplotlib


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Sets the style while a figure is made, on matplotlib's defaults."""
    matplotlib = need_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that arranges its axes itself; call it inside `styled`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


@dataclass(frozen=True)
class Plot:
    """What a plot shows, how to read it, and what draws it inside `styled`."""

    title: str
    caption: str
    draw: Callable[[], Figure]


def svg(plot: Plot) -> str:
    """The text of an SVG file, in which text stays text; `RequestError` without matplotlib.

    The title says what it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    with styled():
        plot.draw().savefig(buffer, format="svg", metadata={"Date": None, "Title": plot.title})
    return buffer.getvalue()


def png(plot: Plot) -> bytes:
    """A PNG; otherwise as `svg`."""
    buffer = io.BytesIO()
    with styled():
        plot.draw().savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def plan_plot(plan: Plan) -> Plot | None:
    """Predicted throughput against the step time; None where the model was not asked."""
    evidence = plan.evidence
    if None in (evidence.profile, evidence.hand_off, evidence.loops):
        return None
    # Curves are about the learner's threads that the choice is for, and not about what was
    # measured of whole vector steps as they are.
    learners = sorted(evidence.learners, key=lambda one: one.threads != plan.threads)
    evidence = dataclasses.replace(evidence, learners=tuple(learners), runs=(), implementations=())
    learner = ", learner included" if plan.learner_s > 0 else ""
    return Plot(
        "Throughput if steps took longer, or less",
        f"Predicted for {plan.num_envs} sub-environments{learner}. A ring marks the step time "
        "from which on a mode beats sync; the dot is this environment.",
        lambda: _step_time(plan, evidence),
    )


def _step_time(plan: Plan, evidence: Evidence) -> Figure:
    figure = new_figure(*PLAN_IN)
    axes: Any = figure.subplots()
    # Of pools with workers the best has one curve, and so of threads.
    chosen = _curve_of(Mode.parse(plan.mode))
    assert evidence.profile is not None
    curves, now_s = over_step_time(evidence), evidence.profile.mean_step_with_resets_s
    for name, curve in curves.items():
        look = _line_of(name, marker="none", linewidth=2.6 if name == chosen else 1.5)
        label = f"best {name}" if name in ("pool", "thread") else name
        axes.plot(*zip(*curve, strict=True), label=label, **look)
    values = [per_s for curve in curves.values() for _, per_s in curve]
    if plan.chosen is not None and plan.chosen.loop_s:
        values.append(plan.num_envs / plan.chosen.loop_s)
        edge = {"markersize": 9, "markeredgecolor": INK, "zorder": 5}
        axes.plot(now_s, values[-1], **_line_of(plan.mode, linestyle="none", **edge))
    sync = curves.get("sync", [])
    for kind, at_s in plan.break_even_s.items():
        if at_s is not None and sync and sync[0][0] <= at_s <= sync[-1][0]:
            near_s, per_s = min(sync, key=lambda point: abs(math.log(point[0] / at_s)))
            axes.plot(at_s, per_s * near_s / at_s, "o", **_ring(look_of(kind)[0], 9))
    if evidence.rule is not None:
        line = {"color": MUTED, "linestyle": "--", "linewidth": 1.1}
        axes.axvline(evidence.rule.threshold_s, label="threshold of the ~1 ms rule", **line)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(sync[0][0], sync[-1][0]) if sync else None
    axes.set_ylim(min(values) / 1.4, max(values) * 1.5)
    _few_ticks(axes.xaxis, seconds)
    _few_ticks(axes.yaxis, rate)
    axes.set_xlabel("step time of one sub-environment, resets included")
    axes.set_ylabel("env steps/s")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, columnspacing=1.2)
    return figure


def over_step_time(evidence: Evidence) -> dict[str, list[tuple[float, float]]]:
    """By kind of mode its best predicted throughputs at step times, all else as it is."""
    assert evidence.profile is not None
    now_s = evidence.profile.mean_step_with_resets_s
    low_s, high_s = min(STEP_TIMES_S[0], now_s / 5), max(STEP_TIMES_S[1], now_s * 5)
    curves: dict[str, list[tuple[float, float]]] = {}
    for step_s in np.geomspace(low_s, high_s, POINTS).tolist():
        there, best = with_step_time(evidence, step_s), dict[str, float]()
        for mode in candidate_modes(there):
            name, per_s = _curve_of(mode), there.num_envs / predict(mode, there).loop_s
            best[name] = max(best.get(name, 0.0), per_s)
        for name, per_s in best.items():
            curves.setdefault(name, []).append((step_s, per_s))
    return curves


def _curve_of(mode: Mode) -> str:
    """The name of the curve that a mode is on: those without workers have one of their own."""
    return str(mode) if mode.in_caller_alone else mode.kind


def _line_of(mode: str, **changes: Any) -> dict[str, Any]:
    """How matplotlib draws the line of a mode."""
    colour, marker = look_of(mode)
    # The line of pool:0 often lies on that of sync, which shows between the dashes.
    line = "--" if mode == "pool:0" else "-"
    return {"color": colour, "marker": marker, "linestyle": line, **changes}


def sweep_plot(sweep: Sweep) -> Plot:
    """Throughput of a sweep, and memory below."""
    best, env = sweep.recommended, all_printable(sweep.env)
    found = f"; the recommended is {best.mode} with {best.num_envs}" if best else ""
    what = "env steps/s and memory against the number of sub-environments"
    return Plot(f"{env}: {what}{found}", "", lambda: _sweep_figure(sweep))


def _sweep_figure(sweep: Sweep) -> Figure:
    figure = new_figure(*SWEEP_IN)
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (2.6, 1.0), "hspace": 0.08}
    )
    for mode in sweep.modes:
        _sweep_lines(above, below, mode, [one for one in sweep.points if one.mode == mode])
    best = sweep.recommended
    if best is not None:
        above.plot([best.num_envs], [best.per_s], "o", **_ring(INK, 13))
        text = f"recommended: {best.mode} x {best.num_envs}, {rate(best.per_s)}"
        above.set_title(text, loc="right", fontsize=9, fontweight="normal")
        above.set_yscale("log")
        _few_ticks(above.yaxis, rate)
    below.set_ylim(0, max(below.get_ylim()[1] * 1.05, 1.0))
    below.set_xscale("log", base=2)
    below.minorticks_off()
    below.set_xticks(sweep.num_envs, [str(number) for number in sweep.num_envs])
    below.set_xlim(sweep.num_envs[0] / 1.3, sweep.num_envs[-1] * 1.3)
    below.yaxis.set_major_formatter(lambda value, place: short(size(value)))
    below.locator_params(axis="y", nbins=4)
    interrupted = "" if sweep.whole else " (interrupted)"
    # Without `$`, in which matplotlib would find formulas.
    env = all_printable(sweep.env).replace("$", r"\$")
    above.set_title(f"{env}: env steps/s{interrupted}")
    below.set_title("memory of all processes")
    below.set_xlabel("sub-environments (num_envs)")
    if above.get_legend_handles_labels()[0]:
        above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return figure


def _sweep_lines(above: Any, below: Any, mode: str, points: Sequence[Timed]) -> None:
    """One mode: its throughput with the 95 % band, and its memory."""
    found = [(one.num_envs, one.env_steps_per_s) for one in points]
    known = [(number, per_s) for number, per_s in found if per_s]
    if not known:
        return
    look = _line_of(mode, markeredgecolor=PAPER, markeredgewidth=0.7)
    numbers = [number for number, _ in known]
    above.plot(numbers, [per_s.mid for _, per_s in known], label=mode, **look)
    lows, highs = zip(*((per_s.low, per_s.high) for _, per_s in known), strict=True)
    above.fill_between(numbers, lows, highs, color=look["color"], alpha=0.18, linewidth=0)
    held = [one for one in points if one.loop_s and one.memory_bytes]
    below.plot([one.num_envs for one in held], [one.memory_bytes for one in held], **look)


def _ring(colour: str, size: float) -> dict[str, Any]:
    edge = {"markeredgecolor": colour, "markeredgewidth": 1.5}
    return {"markersize": size, "markerfacecolor": "none", **edge}


def _few_ticks(axis: Any, text: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis at round numbers, few enough to be read."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades <= 2 else (1.0, 3.0) if decades <= 3 else (1.0,)
    axis.axes.minorticks_off()
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, place: short(text(value)))
