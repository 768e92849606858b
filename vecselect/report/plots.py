"""Plots of plans and sweeps: what each shows, how it is drawn, and how it becomes SVG or PNG.

Curves come from the cost model, over the plan's own evidence. matplotlib is loaded when a figure is
made. pyplot and its global state are never used, and the user's own settings of matplotlib neither
count here nor change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError
from vecselect.modes import Mode
from vecselect.report.units import all_printable, rate, seconds, short, size
from vecselect.selection.curves import over_num_envs, over_step_time
from vecselect.selection.model import mean_step_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.figure import Figure

    from vecselect.plan import Plan
    from vecselect.selection.curves import Curve
    from vecselect.selection.evidence import Evidence
    from vecselect.selection.race import Timed
    from vecselect.sweeps import Sweep

PLOT_IN, SWEEP_IN = (4.4, 3.4), (6.6, 5.0)
"""Width and height in inches: narrow, so that texts can be read on a phone."""

DOTS_PER_INCH = 160

FAR_ABOVE = 6.0
"""Where the largest throughput of a sweep is this many times the best, the axis is logarithmic."""

LIGHT = {"ink": "#1d2127", "muted": "#697582", "grid": "#d9dee4", "paper": "#fdfdfc"}
DARK = {"ink": "#e4e7eb", "muted": "#8b96a2", "grid": "#343b43", "paper": "#15181c"}
"""Greys: of text and outlines, of what stands back, of the grid's lines, of the background."""

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "vecselect",
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


@contextlib.contextmanager
def styled(*, dark: bool = False) -> Iterator[None]:
    """Sets the style while a figure is made, for a light or dark page, on matplotlib's defaults.

    Raises `RequestError` if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(
            "Plots need matplotlib, which is not installed here; install it with: pip install "
            "'vecselect[plot]'."
        ) from error
    greys = DARK if dark else LIGHT
    coloured = {
        "text.color": greys["ink"],
        "axes.edgecolor": greys["muted"],
        "grid.color": greys["grid"],
        "figure.facecolor": greys["paper"],
    }
    coloured |= {f"{name}.color": greys["muted"] for name in ("xtick", "ytick")}
    coloured |= {f"{name}.labelcolor": greys["ink"] for name in ("xtick", "ytick", "axes")}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(STYLE | coloured)
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that arranges its axes itself; call it inside `styled`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def svg(draw: Callable[[], Figure], title: str, *, dark: bool = False) -> str:
    """A figure as the text of an SVG file, in which text stays text.

    The title says what it shows, for those who cannot see it. Raises as `styled` does.
    """
    buffer = io.StringIO()
    with styled(dark=dark):
        draw().savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    return buffer.getvalue()


def png(draw: Callable[[], Figure]) -> bytes:
    """A figure as a PNG; otherwise as `svg`."""
    buffer = io.BytesIO()
    with styled():
        draw().savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


@dataclass(frozen=True)
class Plot:
    """A plot of a plan: what it shows, how to read it, and what makes it inside `styled`."""

    title: str
    caption: str
    draw: Callable[[], Figure]


def plots_of(plan: Plan) -> list[Plot]:
    """The plots of a plan: predictions of the cost model; none where it was not asked."""
    evidence = plan.evidence
    if None in (evidence.profile, evidence.hand_off, evidence.loops):
        return []
    # Curves are about the learner's threads that the choice is for.
    learners = sorted(evidence.learners, key=lambda one: one.threads != plan.threads)
    evidence = dataclasses.replace(evidence, learners=tuple(learners))
    learner = ", learner included" if plan.learner_s > 0 else ""
    return [
        Plot(
            "Throughput if steps took longer, or less",
            f"Predicted for {plan.num_envs} sub-environments{learner}. A ring marks the step time "
            "from which on a mode beats sync; the dot is this environment.",
            lambda: _step_time(plan, evidence),
        ),
        Plot(
            "Throughput with more sub-environments, or fewer",
            f"Predicted for this environment{learner}; the dot is what was asked for.",
            lambda: _num_envs(plan, evidence),
        ),
    ]


def _setting(name: str) -> str:
    """A colour of the style that is set."""
    import matplotlib

    settings: Any = matplotlib.rcParams
    return str(settings[name])


def _line_of(mode: str, **changes: Any) -> dict[str, Any]:
    """How matplotlib draws the line of a mode."""
    colour, marker = look_of(mode)
    # The line of pool:0 often lies on that of sync, which shows between the dashes.
    line = "--" if mode == "pool:0" else "-"
    return {"color": colour, "marker": marker, "linestyle": line, **changes}


def _curves(plan: Plan, curves: Sequence[Curve], dot_at: float) -> tuple[Figure, Any]:
    """Predicted throughputs, that of the chosen mode thicker, and a dot for this environment."""
    figure = new_figure(*PLOT_IN)
    axes: Any = figure.subplots()
    # Of pools with workers the best has one curve, and so of threads.
    alone = plan.mode in ("sync", "pool:0", "thread:0")
    chosen = plan.mode if alone else Mode.parse(plan.mode).kind
    values: list[float] = []
    for curve in curves:
        several = curve.mode in ("pool", "thread")
        look = _line_of(curve.mode, marker="none", linewidth=2.6 if curve.mode == chosen else 1.5)
        label = f"best {curve.mode}" if several else curve.mode
        axes.plot(curve.at, curve.env_steps_per_s, label=label, **look)
        values += curve.env_steps_per_s
    if plan.chosen is not None and plan.chosen.loop_s:
        per_s = plan.num_envs / plan.chosen.loop_s
        values.append(per_s)
        edge = {"markersize": 9, "markeredgecolor": _setting("text.color"), "zorder": 5}
        axes.plot(dot_at, per_s, **_line_of(plan.mode, linestyle="none", **edge))
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.4, max(values) * 1.5)
    _few_ticks(axes.yaxis, rate)
    axes.set_ylabel("env steps/s")
    return figure, axes


def _step_time(plan: Plan, evidence: Evidence) -> Figure:
    curves = over_step_time(evidence)
    figure, axes = _curves(plan, curves, mean_step_s(evidence))
    axes.set_xscale("log")
    axes.set_xlim(curves[0].at[0], curves[0].at[-1])
    sync = next((curve for curve in curves if curve.mode == "sync"), None)
    for kind, at_s in plan.break_even_s.items():
        if sync is not None and at_s is not None and sync.at[0] <= at_s <= sync.at[-1]:
            nearest = min(range(len(sync.at)), key=lambda i: abs(math.log(sync.at[i] / at_s)))
            per_s = sync.env_steps_per_s[nearest] * sync.at[nearest] / at_s
            axes.plot(at_s, per_s, "o", **_ring(look_of(kind)[0], 9))
    _few_ticks(axes.xaxis, seconds)
    if evidence.rule is not None:
        axes.axvline(
            evidence.rule.threshold_s,
            color=_setting("axes.edgecolor"),
            linestyle="--",
            linewidth=1.1,
            label="threshold of the ~1 ms rule",
        )
    axes.set_xlabel("step time of one sub-environment, resets included")
    _legend_below(axes)
    return figure


def _num_envs(plan: Plan, evidence: Evidence) -> Figure:
    figure, axes = _curves(plan, over_num_envs(evidence), plan.num_envs)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:.0f}")
    axes.set_xlabel("sub-environments (num_envs)")
    _legend_below(axes)
    return figure


def sweep_title(sweep: Sweep) -> str:
    """What the plot of a sweep shows, in words."""
    best = sweep.recommended
    found = f"; the recommended is {best.mode} with {best.num_envs}" if best else ""
    what = "env steps/s and memory against the number of sub-environments"
    return f"{all_printable(sweep.env)}: {what}{found}"


def sweep_figure(sweep: Sweep) -> Figure:
    """Throughput of a sweep, and memory below; call it inside `styled`."""
    figure = new_figure(*SWEEP_IN)
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (2.6, 1.0), "hspace": 0.08}
    )
    for mode in sweep.modes:
        _sweep_lines(above, below, mode, [one for one in sweep.points if one.mode == mode])
    best = sweep.recommended
    above.set_ylim(0, above.get_ylim()[1] * 1.05)
    if best is not None:
        above.plot([best.num_envs], [best.per_s], "o", **_ring(_setting("text.color"), 13))
        text = f"recommended: {best.mode} x {best.num_envs}, {rate(best.per_s)}"
        above.set_title(text, loc="right", fontsize=9, fontweight="normal")
        if max(one.per_s for one in sweep.points) > FAR_ABOVE * best.per_s:
            above.set_yscale("log")
            above.autoscale(axis="y")
            above.minorticks_off()
    below.set_ylim(0, max(below.get_ylim()[1] * 1.05, 1.0))
    below.set_xscale("log", base=2)
    below.minorticks_off()
    below.set_xticks(sweep.num_envs, [str(number) for number in sweep.num_envs])
    below.set_xlim(sweep.num_envs[0] / 1.3, sweep.num_envs[-1] * 1.3)
    above.yaxis.set_major_formatter(lambda value, place: short(rate(value)))
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
    look = _line_of(mode, markeredgecolor=_setting("figure.facecolor"), markeredgewidth=0.7)
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


def _legend_below(axes: Any) -> None:
    """The legend under the axes, where it covers nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1.2)
