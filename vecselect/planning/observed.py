"""A plan that takes in what real use has shown since it was made."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from vecselect.modes import Mode
from vecselect.plan import Candidate
from vecselect.planning import explain
from vecselect.selection.evidence import ObservedRun
from vecselect.selection.model import choose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecselect.plan import Plan
    from vecselect.selection.evidence import Evidence
    from vecselect.selection.model import Choice, Forecast
    from vecselect.selection.race import TimingResult

OUTDATED_NOTES = frozenset({"learner-threads", "learner-stand-in"})
"""Codes of notes that what was observed replaces."""


def chosen_anew(plan: Plan, runs: Iterable[ObservedRun]) -> Plan:
    """The same plan with a choice that takes runs into account.

    Args:
        plan: Whatever chose; without a profile and a hand-off nothing can be compared, and a pin
            stays: it is returned as it is then.
        runs: The latest last. They replace earlier ones of the same mode and threads.
    """
    evidence = plan.evidence
    seen = {(one.mode, one.threads): one for one in evidence.runs}
    runs = tuple(runs)
    if runs and evidence.race is not None:
        # What a race has measured stands against real use as real use of another mode does.
        seen = {(one.mode, one.threads): one for one in _raced(plan, evidence.race)} | seen
    for one in runs:
        seen.pop((one.mode, one.threads), None)  # so that it comes last
        seen[one.mode, one.threads] = one
    measured = evidence.profile and evidence.hand_off and evidence.loops
    if not seen or not measured or plan.pinned_by is not None:
        return plan
    evidence = dataclasses.replace(evidence, runs=tuple(seen.values()))
    choice = choose(evidence, any_threads=plan.threads_free, incumbent=plan.mode)
    best = choice.best
    notes = [note for note in plan.notes if note.code not in OUTDATED_NOTES]
    return dataclasses.replace(
        plan,
        evidence=evidence,
        mode=best.mode,
        learner_threads=counted_on(best, evidence) if plan.threads_free else plan.learner_threads,
        reason=explain.reason_of_model(choice, evidence.rule),
        decided_by="observed",
        candidates=(
            *candidates_of(choice),
            *(row for row in plan.candidates if row.skipped),
        ),
        notes=(*explain.of_threads(choice, quiet=plan.provisional is None), *notes),
    )


def _raced(plan: Plan, race: TimingResult) -> list[ObservedRun]:
    """What a race has measured of each of its entrants that runs the user's environments."""
    return [
        ObservedRun(
            mode=one.mode,
            threads=plan.threads,
            vector_steps=one.vector_steps * len(one.blocks_s),
            inside_s=max(one.loop_s.mid - one.learner_s, 1e-9),
            outside_s=one.learner_s,
        )
        for one in race.entrants
        if one.loop_s and Mode.parse(one.mode).runs_users_environments
    ]


def counted_on(best: Forecast, evidence: Evidence) -> int | None:
    """The learner's threads that a choice counts on; None where they are as they are set."""
    return None if best.threads == evidence.learners[0].threads else best.threads


def candidates_of(choice: Choice, race: TimingResult | None = None) -> tuple[Candidate, ...]:
    """A row for each forecast, with what a race has measured of it."""
    raced = {one.mode: one for one in race.entrants} if race else {}
    rows = []
    for forecast in choice.forecasts:
        of_choice = forecast.threads == choice.best.threads
        one = raced.get(forecast.mode) if of_choice else None
        row = Candidate(
            forecast.mode,
            forecast.threads,
            predicted=None if forecast.observed else forecast.loop,
            measured=forecast.loop if forecast.observed else None,
            parts=forecast.parts,
        )
        if one is not None:
            row = dataclasses.replace(row, measured=one.loop_s or row.measured, skipped=one.skipped)
        rows.append(row)
    return tuple(rows)
