"""What else the reader of a plan should know, beside why this mode.

Notes have codes that stay the same from version to version:

| code | about |
|---|---|
| `machine-busy` | other programs used the cores while this was measured |
| `resets` | resets take much of the time |
| `near-the-line` | the step time lies close to the ~1 ms rule's line |
| `rule-against-costs` | the rule says one thing and the costs measured here another |
| `memory` | a candidate was left out, since it would not fit into memory |
| `not-settled` | the estimate leaves candidates open, and more effort would settle it |
| `not-raced` | the environment holds something that a second one could not have |
| `race-too-long` | building the entrants of a race does not fit into the budget |
| `race-smaller` | the race ran fewer sub-environments |
| `race-lost` | the race's process died |
| `race-out` | an entrant was taken out of the race |
| `bits-differ` | candidates did not return the same bits |
| `not-repeatable` | the environment differs from itself, so candidates were not compared |
| `ray-measured` | what Ray actors cost here, where `ray` was allowed |
| `native-faster` | the environment's own vectorized implementation would be faster |
| `learner-threads` | the learner's threads keep the cores from the workers |
| `learner-stand-in` | a small network ran in place of the learner |
| `copy` | copying observations takes a share worth saving |
| `not-together` | a sweep measured modes one after another |
| `heat-lost` | a sweep's process died |
| `note` | a note of an older version |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vecselect.measure.learner import torch_threads
from vecselect.plan import Note
from vecselect.selection.finalists import SEVERAL_THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.machine import Machine
    from vecselect.measure.step import StepProfile
    from vecselect.planning.draft import Draft
    from vecselect.request import Request
    from vecselect.selection.costs import RayCosts
    from vecselect.selection.finalists import Doubt
    from vecselect.selection.race import RaceRecord
    from vecselect.selection.rule import RuleVerdict

LANES_NEED_EVIDENCE = "the rule chooses between sync and async; pin it to use it"
NATIVE_NEEDS_PIN = "another implementation of the environment; pin it to use it"
NATIVE_NOT_ALLOWED = (
    'another implementation of the environment; allow=("native",) lets it be chosen'
)

DRAWS = (
    "it {}, and what draws may not be safe beside another of its kind in a second thread; mode="
    '"thread" pins it all the same'
)
"""Why threads are not chosen, with what speaks for drawing."""

LOUD = 1.5
"""A native environment or a setting of torch that gives this many times as much is pointed out."""

WORTH_SAYING = 1.1


COPY_SHARE = 0.05
"""Share of a vector step from which on copying observations is pointed out."""


def how_to_measure_again(request: Request, learner: object) -> str:
    """How to do again what is remembered, in words that follow a sentence's end.

    Args:
        request: What was asked for. The command line sees what is registered by a module, and no
            wrappers or options of the vector environment.
        learner: What the loop does between two steps; a callable it does not see either.
    """
    by_module = request.spec is not None and isinstance(request.spec.entry_point, str)
    hidden = not by_module or request.wrappers or request.vector_kwargs or callable(learner)
    way = "vecselect.recommend(..., fresh=True)" if hidden else "vecselect recommend ... --fresh"
    return (
        f"; `{way}` does, though this plan is remembered, or the next start after `vecselect plans "
        "forget KEY`"
    )


def of_profile(machine: Machine, profile: StepProfile, again: str = "") -> list[Note]:
    """What the profile and the machine's load tell the reader.

    Args:
        machine: What was read of the machine.
        profile: What was measured of the environment.
        again: What is to be said of how to measure again.
    """
    notes = []
    if machine.load_1min is not None and machine.load_1min > machine.cores:
        text = (
            f"{machine.load_1min:.1f} processes compete for {machine.cores:g} cores: measure again "
            f"when the machine is idle{again}."
        )
        notes.append(Note("machine-busy", text))
    if profile.reset_share > 0.1:
        most = 1 / (1 - profile.reset_share)
        text = (
            f"Resets take {profile.reset_share:.0%} of the time of one environment: a reset that "
            f"cost nothing would give {most:.2f} times as much."
        )
        notes.append(Note("resets", text))
    return notes


def of_rule(verdict: RuleVerdict) -> list[Note]:
    """Where the rule's own figures speak against it."""
    notes = []
    if verdict.near_line:
        text = 'The step time lies close to the rule\'s line: effort="measure" tells more.'
        notes.append(Note("near-the-line", text))
    predicted = "async" if verdict.async_s < verdict.sync_s else "sync"
    if predicted != verdict.mode and not verdict.near_line:
        text = (
            f'By the costs measured here {predicted} would be faster: effort="estimate" goes by '
            "those."
        )
        notes.append(Note("rule-against-costs", text))
    return notes


def left_out(mode: str, why: str) -> Note:
    """That a candidate would not fit."""
    return Note("memory", f"{mode} is left out: {why}. Fewer sub-environments may fit.")


def race_lost(lost: Exception) -> Note:
    """That a race ended without a result."""
    text = (
        f"The race came to nothing: {lost}. The estimate stands; run one environment alone to see "
        "what ended it."
    )
    return Note("race-lost", text)


def not_settled(doubt: Doubt) -> Note:
    """That the estimate is all there is, and leaves a doubt."""
    return Note("not-settled", f'{doubt.reason} effort="measure" settles it by a race.')


def not_raced(holds: Sequence[str], doubts: Sequence[Doubt]) -> Note:
    """Why an environment that holds something is not raced."""
    held = " and ".join(holds)
    doubt = f" {doubts[0].reason}" if doubts else ""
    text = f"No race: the environment holds {held}, which others may not have beside it.{doubt}"
    return Note("not-raced", text)


def too_long(needed_s: float, budget_s: float, doubts: Sequence[Doubt]) -> Note:
    """Why a race does not fit into the budget."""
    doubt = f"{doubts[0].reason} " if doubts else ""
    enough_s = math.ceil(3 * needed_s + budget_s)
    text = (
        f"{doubt}No race: building its entrants would take about {needed_s:.2f} s, more than is "
        f"left of the {budget_s:g} s that planning may take; budget_s={enough_s} allows it."
    )
    return Note("race-too-long", text)


def fewer(num_envs: int, of: int) -> Note:
    """That a race was run with fewer sub-environments than were asked for."""
    text = (
        f"The race ran {num_envs} of the {of} sub-environments: building all of them for each "
        "candidate takes longer than planning may; a larger budget_s allows it."
    )
    return Note("race-smaller", text)


def of_copying(draft: Draft, mode: str) -> list[Note]:
    """What handing out observations without a copy would save, where that is worth saying."""
    forecast = draft.estimate.forecast(mode) if draft.estimate else None
    if forecast is None or forecast.parts is None:
        return []
    saved = forecast.parts.copying_s / forecast.vector_step_s.mid
    if saved < COPY_SHARE:
        return []
    text = (
        f"Copying observations takes {saved:.0%} of a vector step: vector_kwargs="
        '{"copy": False} saves it, where your loop is done with a batch before the next step.'
    )
    return [Note("copy", text)]


def of_race(draft: Draft) -> list[Note]:
    """What a race showed beside the choice."""
    race, notes = draft.race, []
    assert race is not None
    if race.difference is not None:
        notes.append(Note("bits-differ", f"First difference: {race.difference}."))
    elif race.compared_steps == 0 and len(race.entrants) > 1:
        text = (
            "The environment does not return the same for the same seed and actions from one run "
            "to the next, so that nothing tells whether the candidates do: their times decide."
        )
        notes.append(Note("not-repeatable", text))
    notes += [
        Note("race-out", f"{mode} is out of the race: {why}.") for mode, why in race.out.items()
    ]
    native, ours = race.of("native"), race.of(race.chosen)
    if native is not None and ours is not None and race.chosen != "native":
        factor = ours.loop_s.mid / native.loop_s.mid
        if factor >= WORTH_SAYING:
            sync = race.of("sync")
            over_sync = ""
            if sync is not None and race.chosen != "sync":
                over_sync = f" ({sync.loop_s.mid / native.loop_s.mid:.3g} times as much as sync)"
            text = (
                f"native would give {factor:.3g} times as much as {race.chosen}{over_sync}: it is "
                "the environment's own "
                'vectorized implementation, with other random numbers; allow=("native",) or '
                'mode="native" takes it.'
            )
            notes.append(Note("native-faster", text, loud=factor >= LOUD))
    notes += _of_threads(race)
    if draft.learner is not None and draft.learner.kind == "stand-in":
        text = (
            "torch is loaded, so the race ran a small network between the steps in place of your "
            "learner; learner=your_function measures your own."
        )
        notes.append(Note("learner-stand-in", text))
    return notes


def _of_threads(race: RaceRecord) -> list[Note]:
    """What the learner's threads cost the workers, where they seem to."""
    gain, threads = race.one_thread_speedup, torch_threads()
    if gain is not None and gain.low >= WORTH_SAYING:
        setting = "torch.set_num_threads(1)"
        if threads is None:
            setting = "OMP_NUM_THREADS=1 before Python starts"
        text = (
            f"The learner's threads keep the cores from the workers: {setting} would give "
            f"{gain.mid:.2f} times the throughput of {race.chosen} as it is now (measured, 95 %: "
            f"{gain.low:.2f}-{gain.high:.2f})."
        )
        return [Note("learner-threads", text, loud=gain.low >= LOUD)]
    if gain is None and race.cores_used is not None and race.cores_used > SEVERAL_THREADS:
        text = (
            f"The learner computes in several threads ({race.cores_used:.1f} cores), which may "
            "keep the cores from workers: try OMP_NUM_THREADS=1 before Python starts, or install "
            "threadpoolctl to have it measured."
        )
        return [Note("learner-threads", text)]
    return []


def ray_measured(costs: RayCosts) -> Note:
    """What actors cost, by which `ray` was predicted."""
    fixed, lane, env = (f"{s * 1e3:.2g} ms" for s in (costs.fixed_s, costs.lane_s, costs.env_s))
    text = (
        f"Beside the steps, a vector step of ray takes {fixed}, {lane} for each lane and {env} for "
        f"each sub-environment; there is room for {costs.lanes} lanes of one CPU. It is predicted, "
        "never raced."
    )
    return Note("ray-measured", text)
