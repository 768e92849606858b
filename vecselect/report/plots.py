"""The plots of a plan: what each shows, and how it is drawn.

Curves come from the cost model, over the plan's own evidence; all else is in the plan.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.report.figures import LIGHT, line_of, literal, look_of, new_figure, styled
from vecselect.report.units import all_printable, kind_of, rate, ratio, seconds, share, short
from vecselect.selection.model import mean_step_s
from vecselect.selection.what_if import over_num_envs, over_step_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from vecselect.plan import Plan
    from vecselect.report.figures import Palette
    from vecselect.selection.evidence import Evidence
    from vecselect.selection.race import RaceRecord
    from vecselect.selection.what_if import Curve

WIDTH_IN, HEIGHT_IN = 4.2, 3.2
"""Of one plot: narrow, so that its text can be read on a phone."""

BINS = 36
STEPS_COLOUR, RESETS_COLOUR = "#0072b2", "#d55e00"
FAR = 2.5
"""Where an entrant takes this many times as long as the leader, the axis is logarithmic."""


@dataclass(frozen=True)
class Plot:
    """A plot of a plan.

    Attributes:
        title: What it shows.
        caption: How to read it.
        draw: Draws it on axes in a palette; called inside `figures.styled`.
    """

    title: str
    caption: str
    draw: Callable[[Any, Palette], None]


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
                lambda axes, palette: _step_time(axes, plan, palette),
            ),
            Plot(
                "Throughput against num_envs",
                f"By the cost model{learner}, for more and for fewer sub-environments.{raced}",
                lambda axes, palette: _num_envs(axes, plan, palette),
            ),
        ]
    if evidence.profile is not None:
        plots.append(
            Plot(
                "Step and reset times of one environment",
                "Shares of the steps, and of the resets, that took so long.",
                lambda axes, palette: _times(axes, plan, palette),
            )
        )
    race = evidence.race
    if race is not None and any(len(ratios) > 1 for _, ratios in race_ratios(race)):
        plots.append(
            Plot(
                "The race, round by round",
                all_printable(
                    f"Time of a block over the leader's ({race.leader}) in the same round: lower "
                    "is faster. A line ends where its mode was out of the running."
                ),
                lambda axes, palette: _race(axes, race, palette),
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


def figure_of(plot: Plot, palette: Palette = LIGHT) -> Figure:
    """One plot as a figure.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    with styled(palette):
        figure = new_figure(WIDTH_IN, HEIGHT_IN)
        plot.draw(figure.subplots(), palette)
    return figure


def sheet_of(plan: Plan) -> Figure:
    """All plots of a plan in one figure, or why there are none.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    plots = plots_of(plan)
    with styled():
        if not plots:
            figure = new_figure(WIDTH_IN * 1.3, 1.2)
            figure.suptitle(literal(headline(plan)), fontsize=11, fontweight="bold")
            figure.text(0.5, 0.35, " ".join(missing_plots(plan)), ha="center")
            return figure
        columns = 1 if len(plots) == 1 else 2
        rows = -(-len(plots) // columns)
        figure = new_figure(WIDTH_IN * columns, HEIGHT_IN * 1.05 * rows + 0.4)
        figure.suptitle(literal(headline(plan)), fontsize=12, fontweight="bold")
        for place, plot in enumerate(plots, 1):
            axes = figure.add_subplot(rows, columns, place)
            plot.draw(axes, LIGHT)
            axes.set_title(plot.title)
    return figure


def headline(plan: Plan) -> str:
    """What all plots of a plan are about."""
    return all_printable(f"vecselect: {plan.env} x {plan.num_envs}, {plan.mode}")


def histogram(quantiles_s: Sequence[float], edges_s: np.ndarray) -> np.ndarray:
    """The share of times in each bin, from their quantiles.

    Args:
        quantiles_s: Evenly spread, the shortest and the longest among them.
        edges_s: The ends of the bins; all times lie between the first and the last.
    """
    if not quantiles_s:
        return np.zeros(len(edges_s) - 1)
    shares = np.linspace(0.0, 1.0, len(quantiles_s))
    return np.diff(np.interp(edges_s, quantiles_s, shares, left=0.0, right=1.0))


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


def _evidence(plan: Plan) -> Evidence:
    """The evidence with the learner first whose threads the choice is for: curves are about it."""
    learners = sorted(plan.evidence.learners, key=lambda one: one.threads != plan.threads)
    return dataclasses.replace(plan.evidence, learners=tuple(learners))


def _line_of(mode: str) -> str:
    """The name of the curve that a mode is on: of pools with workers the best has one."""
    return mode if mode in ("sync", "pool:0", "thread:0") else kind_of(mode)


def _curves(axes: Any, curves: Sequence[Curve], mode: str) -> None:
    for curve in curves:
        several = curve.mode in ("pool", "thread")
        look = {**line_of(curve.mode), "marker": "none"}
        look["linewidth"] = 2.4 if curve.mode == _line_of(mode) else 1.6
        label = f"best {curve.mode}" if several else curve.mode
        axes.plot(curve.at, curve.env_steps_per_s, label=label, **look)


def _step_time(axes: Any, plan: Plan, palette: Palette) -> None:
    evidence = _evidence(plan)
    curves = over_step_time(evidence)
    _curves(axes, curves, plan.mode)
    values = [value for curve in curves for value in curve.env_steps_per_s]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(curves[0].at[0], curves[0].at[-1])
    sync = next((curve for curve in curves if curve.mode == "sync"), None)
    for kind, at_s in plan.break_even_s.items():
        if sync is not None and at_s is not None and sync.at[0] <= at_s <= sync.at[-1]:
            logs = np.interp(math.log(at_s), np.log(sync.at), np.log(sync.env_steps_per_s))
            colour = look_of(kind)[0]
            ring = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6}
            axes.plot(at_s, math.exp(logs), "o", markeredgecolor=colour, **ring)
    if plan.chosen is not None and plan.chosen.loop_s:
        per_s = plan.num_envs / plan.chosen.loop_s
        values.append(per_s)
        _dot(axes, mean_step_s(evidence), per_s, plan.mode, palette)
    axes.set_ylim(min(values) / 1.4, max(values) * 1.6)
    _ticks(axes.xaxis, axes.get_xlim(), seconds)
    _ticks(axes.yaxis, axes.get_ylim(), rate)
    rule = evidence.rule
    if rule is not None:
        _upright(axes, rule.threshold_s, f"{short(seconds(rule.threshold_s))} rule", palette)
    axes.set_xlabel("step time, resets included")
    axes.set_ylabel("env steps/s")
    axes.legend(loc="lower left")


def _num_envs(axes: Any, plan: Plan, palette: Palette) -> None:
    curves = over_num_envs(_evidence(plan))
    _curves(axes, curves, plan.mode)
    values = [value for curve in curves for value in curve.env_steps_per_s]
    race = plan.evidence.race
    for one in race.entrants if race else ():
        assert race is not None
        per_s = race.num_envs / one.loop_s.mid
        values.append(per_s)
        _dot(axes, race.num_envs, per_s, one.mode, palette)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.4, max(values) * 1.5)
    axes.minorticks_off()
    _ticks(axes.yaxis, axes.get_ylim(), rate)
    counts = sorted({int(at) for curve in curves for at in curve.at})
    while len(counts) > 9:
        counts = counts[::2]
    axes.set_xticks(counts, labels=[str(count) for count in counts])
    _upright(axes, plan.num_envs, f"{plan.num_envs} asked for", palette, bottom=True)
    axes.set_xlabel("sub-environments (num_envs)")
    axes.set_ylabel("env steps/s")
    _legend_below(axes)


def _dot(axes: Any, x: float, y: float, mode: str, palette: Palette) -> None:
    look = {"markersize": 9, "markeredgecolor": palette.ink, "markeredgewidth": 1.3, "zorder": 5}
    axes.plot(x, y, **{**line_of(mode), "linestyle": "none"}, **look)


def _times(axes: Any, plan: Plan, palette: Palette) -> None:
    profile = plan.evidence.profile
    assert profile is not None
    marks = {
        "median": (profile.step_time_median_s, "-"),
        "mean": (profile.step_time_s, "--"),
        "p95": (profile.step_time_p95_s, "-."),
        "p99": (profile.step_time_p99_s, ":"),
    }
    steps_s, resets_s = profile.step_quantiles_s, profile.reset_quantiles_s
    known_s = [*steps_s, *resets_s, *(at_s for at_s, _ in marks.values())]
    low_s, high_s = max(min(known_s), 1e-9) / 1.05, max(known_s) * 1.05
    edges_s = np.geomspace(low_s, high_s, BINS + 1)
    steps, resets = histogram(steps_s, edges_s), histogram(resets_s, edges_s)
    axes.stairs(steps, edges_s, fill=True, color=STEPS_COLOUR, alpha=0.75, label="steps")
    if resets.any():
        axes.stairs(resets, edges_s, fill=True, color=RESETS_COLOUR, alpha=0.35)
        axes.stairs(resets, edges_s, color=RESETS_COLOUR, linewidth=1.4, label="resets")
    axes.set_xscale("log")
    axes.set_xlim(low_s, high_s)
    for name, (at_s, dashes) in marks.items():
        label = f"{name} {seconds(at_s)}"
        axes.axvline(at_s, color=palette.ink, linestyle=dashes, linewidth=1.2, label=label)
    axes.set_ylim(0, max(*steps, *resets, 0.01) * 1.08)
    axes.yaxis.set_major_formatter(lambda value, place: short(share(value)))
    axes.locator_params(axis="y", nbins=5)
    _ticks(axes.xaxis, axes.get_xlim(), seconds)
    axes.set_xlabel("time of one step or reset")
    axes.set_ylabel("share of its kind")
    _legend_below(axes)


def _race(axes: Any, race: RaceRecord, palette: Palette) -> None:
    lines = [(mode, ratios) for mode, ratios in race_ratios(race) if ratios]
    for mode, ratios in lines:
        edge = {"markeredgecolor": palette.paper, "markeredgewidth": 0.6}
        numbers = range(1, len(ratios) + 1)
        axes.plot(numbers, ratios, label=literal(mode), **line_of(mode), **edge)
    values = [value for _, ratios in lines for value in ratios]
    low, high = min(*values, 0.95), max(*values, 1.05)
    if high / low > FAR:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.1, high * 1.15)
        _ticks(axes.yaxis, axes.get_ylim(), ratio)
    else:
        axes.yaxis.set_major_formatter(lambda value, place: short(ratio(value)))
    rounds = max(len(ratios) for _, ratios in lines)
    axes.set_xlim(0.6, rounds + 0.4)
    axes.set_xticks(range(1, rounds + 1, -(-rounds // 10)))
    axes.set_xlabel("round")
    axes.set_ylabel("time over the leader's")
    _legend_below(axes)


def _upright(axes: Any, at: float, text: str, palette: Palette, bottom: bool = False) -> None:
    """A line that marks a place on the x axis, and its name beside it."""
    axes.axvline(at, color=palette.muted, linestyle="--", linewidth=1.1, zorder=1)
    axes.annotate(
        text,
        (at, 0.0 if bottom else 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 4 if bottom else -4),
        textcoords="offset points",
        va="bottom" if bottom else "top",
        color=palette.muted,
        fontsize=8.5,
    )


def _ticks(axis: Any, ends: tuple[float, float], text: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis at round numbers, few enough to be read."""
    low, high = ends
    decades = math.log10(high / low)
    if decades < 0.3:
        digits = 1 - math.floor(math.log10(high - low))
        steps = [low + (high - low) * share for share in (0.1, 0.5, 0.9)]
        values = sorted({round(value, digits) for value in steps})
    else:
        mantissas = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3 else (1,)
        first = math.floor(math.log10(low))
        powers = range(first, math.ceil(math.log10(high)) + 1)
        values = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
        values = [value for value in values if low <= value <= high]
    axis.axes.minorticks_off()
    axis.set_ticks(values, labels=[short(text(value)) for value in values])


def _legend_below(axes: Any) -> None:
    """The legend under the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=min(len(labels), 4 if max(map(len, labels)) < 10 else 3),
            columnspacing=1.2,
            handlelength=1.6,
        )
