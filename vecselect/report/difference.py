"""Two plans side by side: what differs, and what of it makes the choice another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vecselect.report.facts import PREDICTED, against_sync
from vecselect.report.units import rate, seconds, share
from vecselect.selection.difference import factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from vecselect.plan import Plan


def render(first: Plan, second: Plan, names: Sequence[str]) -> RenderableType:
    """The two as a table of what differs, and sentences that say why.

    Args:
        first: A plan.
        second: Another one.
        names: What to call them.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for (what, ours), (_, theirs) in zip(_rows(first), _rows(second), strict=True):
        if ours != theirs:
            style = "bold" if what == "mode" else None
            table.add_row(Text(what, style="dim"), Text(ours), Text(theirs), style=style)
    if not table.row_count:
        return Text("The two plans say the same.")
    sentences = (Text(sentence) for sentence in reasons(first, second, names))
    return Group(table, *sentences)


def reasons(first: Plan, second: Plan, names: Sequence[str]) -> list[str]:
    """What makes the choice another, a sentence each, by the cost model."""
    if first.mode == second.mode:
        return [f"Both choose {first.mode}."]
    ours, theirs = first.situation, second.situation
    if ours is None or theirs is None or first.estimate is None or second.estimate is None:
        return ["One of them was made without the cost model, which could tell why they differ."]
    before, after = first.estimate.mode, second.estimate.mode
    found = []
    if before == after:
        found.append(f"The cost model says {before} of both.")
    else:
        turning = [factor for factor in factors(ours, theirs) if factor.mode == after]
        found += [
            f"With {factor.name} of {names[1]}, the model chooses {after} for {names[0]} too."
            for factor in turning
        ]
        if not turning:
            found.append(
                "No single one of these makes the model choose otherwise; together they do."
            )
    for plan, name in zip((first, second), names, strict=True):
        if plan.estimate is not None and plan.mode != plan.estimate.mode:
            said = plan.estimate.mode
            found.append(f"In {name} the race chose {plan.mode}, where the model had said {said}.")
    return found


def _rows(plan: Plan) -> list[tuple[str, str]]:
    """What two plans may differ in, as text."""
    profile, calibration, machine = plan.profile, plan.calibration, plan.machine
    chosen = plan.chosen.loop_s if plan.chosen else None
    none = "-"
    mark = "" if plan.chosen and plan.chosen.measured else PREDICTED
    return [
        ("mode", plan.mode),
        ("environment", plan.env),
        ("sub-environments", str(plan.num_envs)),
        ("env steps/s", f"{mark}{rate(plan.num_envs / chosen)}" if chosen else none),
        ("vs sync", (against_sync(plan, plan.chosen) if plan.chosen else "") or none),
        ("decided by", f"{plan.decided_by} ({plan.effort})"),
        ("step time", seconds(profile.step_time_s) if profile else none),
        ("waiting", share(profile.wait_share) if profile else none),
        ("resets", share(profile.reset_share) if profile else none),
        ("learner", f"{seconds(plan.learner_s)} ({plan.learner})"),
        ("usable cores", f"{machine.cores:g}"),
        ("effective cores", f"{calibration.effective_cores:.1f}" if calibration else none),
        ("pool hand-off", seconds(calibration.hand_off_s) if calibration else none),
        ("async message", seconds(calibration.async_message_s) if calibration else none),
        ("autoreset", plan.autoreset_mode),
        ("observations", plan.observation_space or none),
        ("actions", plan.action_space or none),
        ("processor", machine.cpu),
        ("versions", ", ".join(f"{name} {text}" for name, text in plan.versions.items())),
        ("made", plan.created),
    ]
