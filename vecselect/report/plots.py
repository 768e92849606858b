"""The plots of a plan: what each shows, and how it is drawn. Their numbers come from elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect.report.figures import (
    INK,
    MUTED,
    PAPER,
    colour_of,
    dashes_of,
    marker_of,
    new_figure,
    styled,
)
from vecselect.report.units import rate, ratio, seconds, share, short
from vecselect.selection.curves import histogram, over_num_envs, over_step_time, race_ratios

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from vecselect.plan import Plan

WIDTH_IN, HEIGHT_IN = 4.2, 3.2
"""Of one plot: narrow, so that its text can be read on a phone."""

STEPS_COLOUR, RESETS_COLOUR = "#0072b2", "#d55e00"
FAR = 2.5
"""Where an entrant takes this many times as long as the leader, the axis is logarithmic."""


@dataclass(frozen=True)
class Plot:
    """A plot of a plan.

    Attributes:
        name: A word for it.
        title: What it shows.
        caption: How to read it.
        draw: Draws it on axes; called inside `figures.styled`.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], None]


def plots_of(plan: Plan) -> list[Plot]:
    """The plots for which a plan has the numbers."""
    plots = []
    mode = plan.mode.removesuffix(":sleep")
    situation = plan.situation
    learner = ", learner included" if plan.learner_s > 0 else ""
    raced = " Outlined marks are what the race measured." if plan.race else ""
    how = "as measured" if plan.chosen and plan.chosen.measured else "as predicted"
    if situation is not None and situation.estimate().forecast(mode) is not None:
        plots.append(
            Plot(
                "step-time",
                "Throughput against step time",
                f"By the cost model, for {plan.num_envs} sub-environments{learner}. A ring marks "
                f"where a mode begins to beat sync; the dot is this environment, {how}.",
                lambda axes: _step_time(axes, plan, mode),
            )
        )
        plots.append(
            Plot(
                "num-envs",
                "Throughput against num_envs",
                f"By the cost model{learner}, for more and for fewer sub-environments; memory is "
                f"not thought of.{raced}",
                lambda axes: _num_envs(axes, plan, mode),
            )
        )
    if plan.profile is not None and plan.profile.step_times_s:
        plots.append(
            Plot(
                "times",
                "Step and reset times of one environment",
                "Shares of the steps, and of the resets, that took so long.",
                lambda axes: _times(axes, plan),
            )
        )
    if plan.race is not None and any(len(ratios) > 1 for _, ratios in race_ratios(plan.race)):
        plots.append(
            Plot(
                "race",
                "The race, round by round",
                f"Time of a block over the leader's ({plan.race.leader}) in the same round: lower "
                "is faster. A line ends where its mode was out of the running.",
                lambda axes: _race(axes, plan),
            )
        )
    return plots


def missing_plots(plan: Plan) -> list[str]:
    """Why a plan has no more plots than it has, in sentences."""
    reasons = []
    if plan.profile is None:
        return ["Nothing was measured, so there is nothing to plot."]
    if plan.situation is None:
        reasons.append(
            'Throughput is not plotted: the cost model was not asked; effort="estimate" asks it.'
        )
    if plan.race is None:
        reasons.append("There was no race to plot.")
    return reasons


def figure_of(plot: Plot) -> Figure:
    """One plot as a figure.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    with styled():
        figure = new_figure(WIDTH_IN, HEIGHT_IN)
        plot.draw(figure.subplots())
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
            figure.suptitle(_literal(headline(plan)), fontsize=11, fontweight="bold")
            figure.text(0.5, 0.35, " ".join(missing_plots(plan)), ha="center")
            return figure
        columns = 1 if len(plots) == 1 else 2
        rows = -(-len(plots) // columns)
        figure = new_figure(WIDTH_IN * columns, HEIGHT_IN * 1.05 * rows + 0.4)
        figure.suptitle(_literal(headline(plan)), fontsize=12, fontweight="bold")
        for place, plot in enumerate(plots, 1):
            axes = figure.add_subplot(rows, columns, place)
            plot.draw(axes)
            axes.set_title(plot.title)
    return figure


def headline(plan: Plan) -> str:
    """What all plots of a plan are about."""
    return f"vecselect: {plan.env} x {plan.num_envs}, {plan.mode}"


def _step_time(axes: Any, plan: Plan, mode: str) -> None:
    assert plan.situation is not None
    curves = over_step_time(plan.situation, mode)
    for line in curves.lines:
        name = line.mode
        several = name.startswith("pool:") and name != "pool:0" and len(_pools(plan)) > 1
        axes.plot(
            line.at,
            line.env_steps_per_s,
            color=colour_of(name),
            linestyle=dashes_of(name),
            label="best pool" if several else _literal(name),
            linewidth=2.4 if name == mode else 1.6,
        )
    for crossing in curves.crossings:
        axes.plot(
            crossing.step_time_s,
            crossing.env_steps_per_s,
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=colour_of(crossing.mode),
            markeredgewidth=1.6,
        )
    chosen = curves.of(mode)
    assert chosen is not None
    own_s = curves.step_time_s
    per_s = chosen.env_steps_per_s[chosen.at.index(own_s)]
    if plan.chosen is not None and plan.chosen.measured is not None:
        per_s = plan.num_envs / plan.chosen.measured.mid
    axes.set_xscale("log")
    axes.set_yscale("log")
    least = min(min(line.env_steps_per_s) for line in curves.lines)
    most = max(max(line.env_steps_per_s) for line in curves.lines)
    axes.set_ylim(min(least, per_s) / 1.4, max(most, per_s) * 1.6)
    axes.set_xlim(chosen.at[0], chosen.at[-1])
    _ticks(axes.xaxis, axes.get_xlim(), seconds)
    _ticks(axes.yaxis, axes.get_ylim(), rate)
    if plan.rule is not None:
        _upright(axes, plan.rule.threshold_s, f"{short(seconds(plan.rule.threshold_s))} rule")
    axes.plot(
        own_s,
        per_s,
        marker="o",
        markersize=9,
        color=colour_of(mode),
        markeredgecolor=INK,
        markeredgewidth=1.4,
        linestyle="none",
        zorder=5,
    )
    axes.set_xlabel("step time, resets included")
    axes.set_ylabel("env steps/s")
    axes.legend(loc="lower left")


def _num_envs(axes: Any, plan: Plan, mode: str) -> None:
    assert plan.situation is not None
    lines = over_num_envs(plan.situation, mode)
    for line in lines:
        axes.plot(
            line.at,
            line.env_steps_per_s,
            color=colour_of(line.mode),
            linestyle=dashes_of(line.mode),
            marker=marker_of(line.mode),
            markersize=3.5,
            label=_literal(line.mode),
            linewidth=2.4 if line.mode == mode else 1.6,
        )
    values = [value for line in lines for value in line.env_steps_per_s]
    race = plan.race
    for entrant in race.entrants if race is not None else ():
        assert race is not None
        low, mid, high = (
            race.num_envs / value_s
            for value_s in (entrant.loop_s.high, entrant.loop_s.mid, entrant.loop_s.low)
        )
        values.append(mid)
        axes.errorbar(
            race.num_envs,
            mid,
            [[max(mid - low, 0.0)], [max(high - mid, 0.0)]],
            color=colour_of(entrant.mode),
            marker=marker_of(entrant.mode),
            markersize=8,
            markeredgecolor=INK,
            markeredgewidth=1.2,
            capsize=4,
            zorder=5,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.4, max(values) * 1.5)
    axes.minorticks_off()
    _ticks(axes.yaxis, axes.get_ylim(), rate)
    counts = sorted({int(at) for line in lines for at in line.at})
    while len(counts) > 9:
        counts = counts[::2]
    axes.set_xticks(counts, labels=[str(count) for count in counts])
    _upright(axes, plan.num_envs, f"{plan.num_envs} asked for", bottom=True)
    axes.set_xlabel("sub-environments (num_envs)")
    axes.set_ylabel("env steps/s")
    _legend_below(axes)


def _times(axes: Any, plan: Plan) -> None:
    profile = plan.profile
    assert profile is not None
    found = histogram(profile)
    edges = list(found.edges_s)
    axes.stairs(found.steps, edges, fill=True, color=STEPS_COLOUR, alpha=0.75, label="steps")
    if any(found.resets):
        axes.stairs(found.resets, edges, fill=True, color=RESETS_COLOUR, alpha=0.35)
        axes.stairs(found.resets, edges, color=RESETS_COLOUR, linewidth=1.4, label="resets")
    marks = {
        "median": (profile.step_time_median_s, "-"),
        "mean": (profile.step_time_s, "--"),
        "p95": (profile.step_time_p95_s, "-."),
        "p99": (profile.step_time_p99_s, ":"),
    }
    axes.set_xscale("log")
    low_s = min(edges[0], *(at_s for at_s, _ in marks.values()))
    high_s = max(edges[-1], *(at_s for at_s, _ in marks.values()))
    axes.set_xlim(low_s / 1.02, high_s * 1.02)
    for name, (at_s, dashes) in marks.items():
        label = f"{name} {seconds(at_s)}"
        axes.axvline(at_s, color=INK, linestyle=dashes, linewidth=1.2, label=label)
    axes.set_ylim(0, max(*found.steps, *found.resets, 0.01) * 1.08)
    axes.yaxis.set_major_formatter(lambda value, place: short(share(value)))
    axes.locator_params(axis="y", nbins=5)
    _ticks(axes.xaxis, axes.get_xlim(), seconds)
    axes.set_xlabel("time of one step or reset")
    axes.set_ylabel("share of its kind")
    _legend_below(axes)


def _race(axes: Any, plan: Plan) -> None:
    race = plan.race
    assert race is not None
    lines = [(mode, ratios) for mode, ratios in race_ratios(race) if ratios]
    for mode, ratios in lines:
        axes.plot(
            range(1, len(ratios) + 1),
            ratios,
            color=colour_of(mode),
            linestyle=dashes_of(mode),
            marker=marker_of(mode),
            label=_literal(mode),
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
        )
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


def _pools(plan: Plan) -> list[str]:
    assert plan.situation is not None
    return [name for name in plan.situation.modes() if name.startswith("pool:") and name[5:] != "0"]


def _upright(axes: Any, at: float, text: str, bottom: bool = False) -> None:
    """A line that marks a place on the x axis, and its name beside it."""
    axes.axvline(at, color=MUTED, linestyle="--", linewidth=1.1, zorder=1)
    axes.annotate(
        text,
        (at, 0.0 if bottom else 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 4 if bottom else -4),
        textcoords="offset points",
        va="bottom" if bottom else "top",
        color=MUTED,
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


def _literal(text: str) -> str:
    """A text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
