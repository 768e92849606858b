"""Plots of plans and sweeps: what each shows, how it is drawn, and how it becomes SVG or PNG.

Curves come from the cost model, over the plan's own evidence; all else is in the plan. matplotlib
is loaded when a figure is made. pyplot and its global state are never used, and the user's own
settings of matplotlib neither count here nor change.
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
from vecselect.report.units import all_printable, rate, ratio, seconds, share, short, size
from vecselect.selection.model import mean_step_s
from vecselect.selection.what_if import over_num_envs, over_step_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.figure import Figure

    from vecselect.plan import Plan
    from vecselect.selection.compare import Interval
    from vecselect.selection.evidence import Evidence
    from vecselect.selection.race import RaceRecord
    from vecselect.selection.sweep import Point
    from vecselect.selection.what_if import Curve
    from vecselect.sweeps import Sweep

WIDTH_IN, HEIGHT_IN = 4.2, 3.2
"""Of one plot of a plan: narrow, so that its text can be read on a phone."""

SWEEP_WIDTH_IN, SWEEP_HEIGHT_IN = 6.6, 5.0

STEPS_COLOUR, RESETS_COLOUR = "#0072b2", "#d55e00"

FAR = 2.5
"""Where an entrant takes this many times as long as the leader, the axis is logarithmic."""

FAR_ABOVE = 6.0
"""Where the largest throughput of a sweep is this many times the best one, the axis is too."""

LIGHT = {"ink": "#1d2127", "muted": "#697582", "grid": "#d9dee4", "paper": "#fdfdfc"}
DARK = {"ink": "#e4e7eb", "muted": "#8b96a2", "grid": "#343b43", "paper": "#15181c"}
"""Greys: of text and outlines, of what stands back, of the grid's lines, of the background."""

GREYS = {
    "ink": ("text.color", "axes.labelcolor", "axes.titlecolor", "legend.labelcolor")
    + ("xtick.labelcolor", "ytick.labelcolor"),
    "muted": ("axes.edgecolor", "xtick.color", "ytick.color"),
    "grid": ("grid.color",),
    "paper": ("figure.facecolor",),
}
"""By grey: the settings of matplotlib that it is for."""

STYLE = {
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

_LOOKS = {
    "sync": ("#0072b2", "o"),
    "async": ("#009e73", "^"),
    "thread": ("#56b4e9", "v"),
    "native": ("#cc79a7", "D"),
    "ray": ("#8c6bb1", "X"),
}
_POOL_LOOKS = (("#e8a020", "p"), ("#d55e00", "s"), ("#b04a00", "h"), ("#923c00", "8"))
"""By the number of workers: none, one, two or three, more."""

OTHER_LOOK = ("#697582", "P")
"""Of kinds of modes that have no look of their own."""


def look_of(mode: str) -> tuple[str, str]:
    """The colour of a mode and matplotlib's name of its mark, the same in every figure.

    The colours serve colour-blind readers too. All pools have one hue, the darker the more workers
    they have.

    Args:
        mode: As a user pins it, such as `pool:1`.
    """
    found = Mode.parse(mode)
    if found.kind != "pool":
        return _LOOKS.get(found.kind, OTHER_LOOK)
    workers = 1 if found.workers is None else found.workers
    return _POOL_LOOKS[workers if workers < 2 else 2 if workers < 4 else 3]


@contextlib.contextmanager
def styled(*, dark: bool = False) -> Iterator[None]:
    """Sets the style while a figure is made, on top of matplotlib's defaults.

    Args:
        dark: Whether the figure is for a dark page.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(
            "A plot needs matplotlib, which is not installed here; "
            "install it with: pip install 'vecselect[plot]'."
        ) from error
    greys = DARK if dark else LIGHT
    coloured = {setting: greys[name] for name, settings in GREYS.items() for setting in settings}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update({**STYLE, **coloured})
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that arranges its axes itself; call it inside `styled`.

    Args:
        width_in: Width in inches; an inch is 72 units of the SVG.
        height_in: Height in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def svg(draw: Callable[[], Figure], title: str = "", *, dark: bool = False) -> str:
    """A figure as the text of an SVG file, in which text stays text.

    Args:
        draw: Makes it.
        title: What it shows, for those who cannot see it.
        dark: Whether it is for a dark page.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    buffer = io.StringIO()
    with styled(dark=dark):
        draw().savefig(buffer, format="svg", metadata={"Date": None, "Title": title or None})
    return buffer.getvalue()


def png(draw: Callable[[], Figure], dots_per_inch: int = 160) -> bytes:
    """A figure as a PNG; otherwise as `svg`."""
    buffer = io.BytesIO()
    with styled():
        draw().savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()


@dataclass(frozen=True)
class Plot:
    """A plot of a plan.

    Attributes:
        title: What it shows.
        caption: How to read it.
        draw: Draws it on axes.
    """

    title: str
    caption: str
    draw: Callable[[Any], None]

    def figure(self) -> Figure:
        """It alone as a figure; call it inside `styled`."""
        figure = new_figure(WIDTH_IN, HEIGHT_IN)
        self.draw(figure.subplots())
        return figure


def plots_of(plan: Plan) -> list[Plot]:
    """The plots for which a plan has the numbers."""
    plots, evidence = [], plan.evidence
    learner = ", learner included" if plan.learner_s > 0 else ""
    if _has_model(evidence):
        how = "as measured" if plan.chosen and plan.chosen.measured else "as predicted"
        raced = " Outlined marks are what the race measured." if evidence.race else ""
        plots = [
            Plot(
                "Throughput against step time",
                f"By the cost model, for {plan.num_envs} sub-environments{learner}. A ring marks "
                f"where a mode begins to beat sync; the dot is this environment, {how}.",
                lambda axes: _step_time(axes, plan),
            ),
            Plot(
                "Throughput against num_envs",
                f"By the cost model{learner}, for more and for fewer sub-environments.{raced}",
                lambda axes: _num_envs(axes, plan),
            ),
        ]
    if evidence.profile is not None:
        plots.append(
            Plot(
                "Step and reset times of one environment",
                "The share of the steps, and of the resets, that took no longer than a time.",
                lambda axes: _times(axes, plan),
            )
        )
    race = evidence.race
    if race is not None and any(len(ratios) > 1 for _, ratios in race_ratios(race)):
        plots.append(
            Plot(
                "The race, round by round",
                f"Time of a block over the leader's ({race.leader}) in the same round: lower is "
                "faster. A line ends where its mode was out of the running.",
                lambda axes: _race(axes, race),
            )
        )
    return plots


def missing_plots(plan: Plan) -> list[str]:
    """Why a plan has no more plots than it has, in sentences."""
    if plan.evidence.profile is None:
        return ["Nothing was measured, so there is nothing to plot."]
    reasons = []
    if not _has_model(plan.evidence):
        reasons.append(
            'Throughput is not plotted: the cost model was not asked; effort="measure" asks it.'
        )
    if plan.evidence.race is None:
        reasons.append("There was no race to plot.")
    return reasons


def headline(plan: Plan) -> str:
    """What all plots of a plan are about."""
    return all_printable(f"vecselect: {plan.env} x {plan.num_envs}, {plan.mode}")


def sheet_of(plan: Plan) -> Figure:
    """All plots of a plan in one figure, or why there are none; call it inside `styled`."""
    plots = plots_of(plan)
    columns = min(max(len(plots), 1), 2)
    rows = -(-len(plots) // columns)
    figure = new_figure(
        WIDTH_IN * max(columns, 1.3), HEIGHT_IN * 1.05 * rows + (0.4 if rows else 1.2)
    )
    figure.suptitle(_literal(headline(plan)), fontsize=12, fontweight="bold")
    if not plots:
        figure.text(0.5, 0.35, " ".join(missing_plots(plan)), ha="center")
    for place, plot in enumerate(plots, 1):
        axes = figure.add_subplot(rows, columns, place)
        plot.draw(axes)
        axes.set_title(plot.title)
    return figure


def race_ratios(race: RaceRecord) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """By entrant, the time of each block over the leader's of the same round.

    Nothing where the leader's blocks are not known.
    """
    leader = race.of(race.leader)
    leaders_s = leader.blocks_s if leader else ()
    return tuple(
        (one.mode, tuple(own / its for own, its in zip(one.blocks_s, leaders_s, strict=False)))
        for one in (race.entrants if leader else ())
    )


def _has_model(evidence: Evidence) -> bool:
    return None not in (evidence.profile, evidence.hand_off, evidence.loops)


def _grey(name: str) -> str:
    """A grey of the style that is set, by its name in `GREYS`."""
    import matplotlib

    settings: Any = matplotlib.rcParams
    return str(settings[GREYS[name][-1]])


def _line_of(mode: str, **changes: Any) -> dict[str, Any]:
    """How matplotlib draws the line of a mode."""
    colour, marker = look_of(mode)
    style = ":" if mode == "native" else "-"
    return {"color": colour, "marker": marker, "linestyle": style, **changes}


def _literal(text: str) -> str:
    """A foreign text without controls, in which matplotlib finds no formula."""
    return all_printable(text).replace("$", r"\$")


def _evidence(plan: Plan) -> Evidence:
    """The evidence with the learner first whose threads the choice is for: curves are about it."""
    learners = sorted(plan.evidence.learners, key=lambda one: one.threads != plan.threads)
    return dataclasses.replace(plan.evidence, learners=tuple(learners))


def _curves(axes: Any, curves: Sequence[Curve], mode: str) -> list[float]:
    """Draws predicted throughputs, that of a mode thicker; returns all their values."""
    # Of pools with workers the best has one curve, and so of threads.
    alone = mode in ("sync", "pool:0", "thread:0")
    chosen = mode if alone else Mode.parse(mode).kind
    for curve in curves:
        several = curve.mode in ("pool", "thread")
        look = _line_of(curve.mode, marker="none", linewidth=2.4 if curve.mode == chosen else 1.6)
        label = f"best {curve.mode}" if several else curve.mode
        axes.plot(curve.at, curve.env_steps_per_s, label=label, **look)
    return [value for curve in curves for value in curve.env_steps_per_s]


def _step_time(axes: Any, plan: Plan) -> None:
    evidence = _evidence(plan)
    curves = over_step_time(evidence)
    values = _curves(axes, curves, plan.mode)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(curves[0].at[0], curves[0].at[-1])
    sync = next((curve for curve in curves if curve.mode == "sync"), None)
    for kind, at_s in plan.break_even_s.items():
        if sync is not None and at_s is not None and sync.at[0] <= at_s <= sync.at[-1]:
            logs = np.interp(math.log(at_s), np.log(sync.at), np.log(sync.env_steps_per_s))
            axes.plot(at_s, math.exp(logs), "o", **_ring(look_of(kind)[0], 9))
    if plan.chosen is not None and plan.chosen.loop_s:
        per_s = plan.num_envs / plan.chosen.loop_s
        values.append(per_s)
        _dot(axes, mean_step_s(evidence), per_s, plan.mode)
    axes.set_ylim(min(values) / 1.4, max(values) * 1.6)
    _few_ticks(axes.xaxis, seconds)
    _few_ticks(axes.yaxis, rate)
    rule = evidence.rule
    if rule is not None:
        _upright(axes, rule.threshold_s, f"{short(seconds(rule.threshold_s))} rule")
    axes.set_xlabel("step time, resets included")
    axes.set_ylabel("env steps/s")
    axes.legend(loc="lower left")


def _num_envs(axes: Any, plan: Plan) -> None:
    curves, race = over_num_envs(_evidence(plan)), plan.evidence.race
    values = _curves(axes, curves, plan.mode)
    if race is not None:
        for one in race.entrants:
            per_s = race.num_envs / one.loop_s.mid
            values.append(per_s)
            _dot(axes, race.num_envs, per_s, one.mode)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.4, max(values) * 1.5)
    _few_ticks(axes.yaxis, rate)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:.0f}")
    _upright(axes, plan.num_envs, f"{plan.num_envs} asked for", bottom=True)
    axes.set_xlabel("sub-environments (num_envs)")
    axes.set_ylabel("env steps/s")
    _legend_below(axes)


def _times(axes: Any, plan: Plan) -> None:
    """Quantiles are evenly spread, so that their places are the shares of times below them."""
    profile = plan.evidence.profile
    assert profile is not None
    kinds = {
        "steps": (profile.step_quantiles_s, STEPS_COLOUR),
        "resets": (profile.reset_quantiles_s, RESETS_COLOUR),
    }
    for name, (times_s, colour) in kinds.items():
        shares = np.linspace(0.0, 1.0, len(times_s) + 1)
        axes.plot([times_s[0], *times_s], shares, color=colour, label=name)
    axes.set_xscale("log")
    marks = {"mean": profile.step_time_s, "p99": profile.step_time_p99_s}
    for name, at_s in marks.items():
        label = f"{name} step {seconds(at_s)}"
        dashes = "--" if name == "mean" else ":"
        axes.axvline(at_s, color=_grey("ink"), linestyle=dashes, linewidth=1.2, label=label)
    axes.yaxis.set_major_formatter(lambda value, place: short(share(value)))
    _few_ticks(axes.xaxis, seconds)
    axes.set_xlabel("time of one step or reset")
    axes.set_ylabel("share that took no longer")
    _legend_below(axes)


def _race(axes: Any, race: RaceRecord) -> None:
    lines = race_ratios(race)
    for mode, ratios in lines:
        edge = {"markeredgecolor": _grey("paper"), "markeredgewidth": 0.6}
        axes.plot(range(1, len(ratios) + 1), ratios, label=mode, **_line_of(mode), **edge)
    values = [value for _, ratios in lines for value in ratios]
    low, high = min(*values, 0.95), max(*values, 1.05)
    if high / low > FAR:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.1, high * 1.15)
        _few_ticks(axes.yaxis, ratio)
    else:
        axes.yaxis.set_major_formatter(lambda value, place: short(ratio(value)))
    rounds = max(len(ratios) for _, ratios in lines)
    axes.set_xlim(0.6, rounds + 0.4)
    axes.set_xticks(range(1, rounds + 1, -(-rounds // 10)))
    axes.set_xlabel("round")
    axes.set_ylabel("time over the leader's")
    _legend_below(axes)


def sweep_title(sweep: Sweep) -> str:
    """What the plot of a sweep shows, in words."""
    best = sweep.best
    found = f"; the best is {best.mode} with {best.num_envs}" if best else ""
    what = "env steps/s and memory against the number of sub-environments"
    return f"{all_printable(sweep.env)}: {what}{found}"


def sweep_figure(sweep: Sweep) -> Figure:
    """Throughput of a sweep, and below it memory, against the number of sub-environments.

    Call it inside `styled`.

    Args:
        sweep: Whole or not.
    """
    figure = new_figure(SWEEP_WIDTH_IN, SWEEP_HEIGHT_IN)
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (2.6, 1.0), "hspace": 0.08}
    )
    for mode in sweep.modes:
        found = [(p, p.env_steps_per_s) for p in sweep.points if p.mode == mode]
        _sweep_lines(above, below, mode, [(p, per_s) for p, per_s in found if per_s])
    best = sweep.best
    most = max((p.env_steps_per_s.mid for p in sweep.points if p.env_steps_per_s), default=1.0)
    above.set_ylim(0, above.get_ylim()[1] * 1.05)
    if best is not None and best.env_steps_per_s is not None:
        per_s = best.env_steps_per_s.mid
        above.plot([best.num_envs], [per_s], "o", **_ring(_grey("ink"), 13))
        text = f"best: {best.mode} x {best.num_envs}, {rate(per_s)}"
        above.set_title(text, loc="right", fontsize=9, fontweight="normal")
        if most > FAR_ABOVE * per_s:
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
    above.set_title(f"{_literal(sweep.env)}: env steps/s{interrupted}")
    below.set_title("memory of all processes")
    below.set_xlabel("sub-environments (num_envs)")
    if above.get_legend_handles_labels()[0]:
        above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return figure


def _sweep_lines(above: Any, below: Any, mode: str, found: list[tuple[Point, Interval]]) -> None:
    """One mode: its throughput with the 95 % band, and its memory."""
    if not found:
        return
    look = _line_of(mode, markeredgecolor=_grey("paper"), markeredgewidth=0.7)
    numbers = [point.num_envs for point, _ in found]
    above.plot(numbers, [per_s.mid for _, per_s in found], label=mode, **look)
    lows, highs = zip(*((per_s.low, per_s.high) for _, per_s in found), strict=True)
    above.fill_between(numbers, lows, highs, color=look["color"], alpha=0.18, linewidth=0)
    known = [(point.num_envs, point.memory_bytes) for point, _ in found if point.memory_bytes]
    below.plot([number for number, _ in known], [held for _, held in known], **look)


def _ring(colour: str, size: float) -> dict[str, Any]:
    return {
        "markersize": size,
        "markerfacecolor": "none",
        "markeredgecolor": colour,
        "markeredgewidth": 1.5,
    }


def _dot(axes: Any, x: float, y: float, mode: str) -> None:
    look = {"markersize": 9, "markeredgecolor": _grey("ink"), "markeredgewidth": 1.3, "zorder": 5}
    axes.plot(x, y, **_line_of(mode, linestyle="none", **look))


def _upright(axes: Any, at: float, text: str, bottom: bool = False) -> None:
    """A line that marks a place on the x axis, and its name beside it."""
    axes.axvline(at, color=_grey("muted"), linestyle="--", linewidth=1.1, zorder=1)
    axes.annotate(
        text,
        (at, 0.0 if bottom else 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 4 if bottom else -4),
        textcoords="offset points",
        va="bottom" if bottom else "top",
        color=_grey("muted"),
        fontsize=8.5,
    )


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
