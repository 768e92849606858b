"""The figures behind a choice, a row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.report.facts import break_even_s
from vecselect.report.units import counted, rate, ratio, seconds, share, size
from vecselect.report.verdict import certainty
from vecselect.selection.situation import changes

if TYPE_CHECKING:
    from vecselect.plan import Plan

Row = tuple[str, str]


def measured_rows(plan: Plan) -> list[Row]:
    """What was measured and what follows from it, the environment first."""
    return [
        *_environment(plan),
        *_costs(plan),
        *_learner(plan),
        *_planning(plan),
        *_changes(plan),
    ]


def _environment(plan: Plan) -> list[Row]:
    profile = plan.profile
    if profile is None:
        return []
    episode = "no episode ended"
    if profile.episode_steps is not None:
        episode = f"episodes of {profile.episode_steps:.0f} steps"
    memory = "" if profile.memory_bytes is None else f"; {size(profile.memory_bytes)} of memory"
    threads = f", {profile.cores_used:.1f} cores" if profile.cores_used > 1.25 else ""
    return [
        (
            "step time",
            f"{seconds(profile.step_time_s)}, median {seconds(profile.step_time_median_s)}, "
            f"p99 {seconds(profile.step_time_p99_s)}; {share(profile.wait_share)} waiting{threads}",
        ),
        (
            "reset time",
            f"{seconds(profile.reset_time_s)}, {share(profile.reset_share)} of the time; {episode}",
        ),
        ("one env", f"{rate(profile.plain_steps_per_s)} steps/s by benchmark_step{memory}"),
    ]


def _costs(plan: Plan) -> list[Row]:
    rows, ipc, profile, rule = [], plan.ipc, plan.profile, plan.rule
    if ipc is not None and profile is not None:
        text = (
            f"{seconds(ipc.observation_s)} a round trip of an observation "
            f"({size(profile.observation_bytes)})"
        )
        if plan.calibration is not None and plan.calibration.hand_off_s:
            text += f"; pool: {seconds(plan.calibration.hand_off_s)}"
        rows.append(("IPC cost", text))
    if rule is None:
        return rows
    texts = [f"{mode} {_pays(from_s)}" for mode, from_s in break_even_s(plan).items()]
    nothing = "nothing can run beside another here"
    if plan.estimate is not None and plan.estimate.of("sync") is None:
        nothing = "sync is no candidate to compare with"
    rows.append(("break-even", "; ".join(texts) or nothing))
    rows.append(("~1 ms rule", f"{rule.mode}, {certainty(plan)}"))
    return rows


def _pays(from_s: float | None) -> str:
    if from_s is None:
        return "never pays here"
    return f"pays from {seconds(from_s)} per step" if from_s > 0 else "pays at any step time"


def _learner(plan: Plan) -> list[Row]:
    if plan.decided_by not in ("estimate", "race"):
        return []
    if plan.learner_s > 0 and plan.collection_share is not None:
        text = (
            f"{seconds(plan.learner_s)} between two steps ({plan.learner}); "
            f"{share(plan.collection_share)} of the loop collects"
        )
    else:
        text = "none given or seen: all of the loop collects"
    return [("learner", text)]


def _planning(plan: Plan) -> list[Row]:
    if plan.recalled:
        return [("planned", f"{plan.created}, recalled as {plan.key}")]
    if plan.decided_by == "pin":
        return []
    remembered = f"; remembered as {plan.key}" if plan.key else ""
    rows, race = [("planned", f"in {seconds(plan.planning_s)}{remembered}")], plan.race
    if race is not None:
        text = f"{counted(race.rounds, 'round')} of {counted(race.vector_steps, 'vector step')}"
        if race.difference is None and race.compared_steps:
            text += f"; {counted(race.compared_steps, 'step')} the same to the bit"
        rows.insert(0, ("race", text))
    if plan.not_stored:
        rows.append(("", f"not remembered: {plan.not_stored}"))
    return rows


def _changes(plan: Plan) -> list[Row]:
    """What the model would choose if one thing were different."""
    situation = plan.situation
    if situation is None:
        return []
    texts = []
    for change in changes(situation):
        factor = "" if change.speedup is None else f" {ratio(change.speedup)}"
        texts.append(f"{change.what}: {change.mode}{factor}")
    return [("what if", "; ".join(texts))]
