"""Why a plan chooses what it chooses, in a sentence or two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.selection.compare import compare
from vecselect.selection.race import HYSTERESIS, TIE

if TYPE_CHECKING:
    from vecselect.planning.draft import Draft
    from vecselect.selection.race import Entrant, RaceRecord


def reason_of_estimate(draft: Draft, mode: str) -> str:
    """Why the estimate's choice is what it is."""
    estimate, rule = draft.estimate, draft.rule
    assert estimate is not None and rule is not None
    if len(estimate.forecasts) == 1:
        return "It is the only candidate."
    sync, ours = estimate.of("sync"), estimate.of(mode)
    learner_s = estimate.learner_s
    if mode == "sync" or sync is None or ours is None:
        text = f"No other candidate is predicted to be more than {TIE * 100:.0f} % faster."
        return text + _unlike(draft, mode)
    low, high = _ratio_range(draft, mode)
    return (
        f"Predicted {low:.2g}-{high:.2g} times the throughput of sync"
        f"{', learner included' if learner_s else ''}.{_unlike(draft, mode)}"
    )


def _ratio_range(draft: Draft, mode: str) -> tuple[float, float]:
    """Throughput over that of `sync`, as far as the model's error allows."""
    estimate = draft.estimate
    assert estimate is not None
    sync, ours = estimate.of("sync"), estimate.of(mode)
    assert sync is not None and ours is not None
    loop_s = sync.mid + estimate.learner_s
    return loop_s / (ours.high + estimate.learner_s), loop_s / (ours.low + estimate.learner_s)


def reason_of_race(draft: Draft, incumbent: str | None) -> str:
    """Why the race's choice is what it is.

    Args:
        draft: With the race.
        incumbent: What was remembered before, and is kept unless it is surely beaten.
    """
    race = draft.race
    assert race is not None
    if race.difference is not None:
        return (
            "The candidates did not return the same bits for the same seeds and actions: the "
            "environment is not deterministic, or draws from generators that are not its own, so "
            f"{race.chosen} is kept."
        )
    return _of_times(draft, race, incumbent) + _unlike(draft, race.chosen)


def _of_times(draft: Draft, race: RaceRecord, incumbent: str | None) -> str:
    """What was measured, as far as it decides."""
    whole = race.num_envs == draft.request.num_envs
    fewer = "" if whole else f", with {race.num_envs} sub-environments"
    if race.speedup is not None:
        ours = race.speedup
        text = (
            f"Measured again after the race{fewer}: {ours.mid:.2f} times the throughput of sync "
            f"(95 %: {ours.low:.2f}-{ours.high:.2f})"
        )
        if ours.mid <= 1 + TIE and race.chosen != incumbent:
            text += f"; together with the race, more than {TIE * 100:.0f} % faster"
        return f"{text}."
    # One that was only timed could not have been chosen.
    able = [entrant for entrant in race.entrants if not draft.skipped.get(entrant.mode)]
    others = [entrant for entrant in able if entrant.mode != race.chosen]
    won, leader = race.of(race.chosen), race.of(race.leader)
    if not others or won is None:
        return "It was the only one left in the race."
    if race.chosen != race.leader and leader is not None:
        return _of_a_tie(race, won, leader, others, incumbent, fewer)
    # One that was beaten early ran in other rounds.
    to_the_end = [entrant for entrant in others if len(entrant.blocks_s) >= race.rounds]
    second = min(to_the_end or others, key=lambda entrant: entrant.loop_s.mid)
    factor = won.loop_s.mid / second.loop_s.mid
    short = " in the only round there was time for" if race.rounds == 1 else ""
    return (
        f"It was the fastest{short}{fewer}: {second.mode} came to {factor:.2f} times its "
        "throughput."
    )


def _of_a_tie(
    race: RaceRecord,
    won: Entrant,
    leader: Entrant,
    others: list[Entrant],
    incumbent: str | None,
    fewer: str,
) -> str:
    """Why it is not the leader."""
    lead = won.loop_s.mid / leader.loop_s.mid
    raced = compare(won.mode, won.blocks_s, leader.blocks_s).ratio
    if raced.mid > 1 + TIE >= lead:
        return (
            f"{leader.mode} led the race{fewer}, but measured again, and all rounds taken "
            f"together, it came to {lead:.2f} times the throughput of {won.mode}."
        )
    if raced.mid > 1 + TIE and won.mode == incumbent:
        return (
            f"It was remembered, and no candidate was surely more than {HYSTERESIS * 100:.0f} % "
            f"faster{fewer}."
        )
    ratios = [compare(won.mode, won.blocks_s, other.blocks_s).ratio for other in others]
    proven = "" if all(ratio.high <= 1 + TIE for ratio in ratios) else "proven to be "
    return f"No candidate was {proven}more than {TIE * 100:.0f} % faster{fewer}."


def _unlike(draft: Draft, mode: str) -> str:
    """Why the rule says something else, where it does."""
    rule = draft.rule
    assert rule is not None
    kind = "in one process" if mode in ("sync", "pool:0") else "in parallel"
    ruled = "in one process" if rule.mode == "sync" else "in parallel"
    if mode == rule.mode:
        return " The ~1 ms rule agrees."
    if kind == ruled:
        return f" The ~1 ms rule says {rule.mode}; it does not know {mode}."
    if ruled == "in one process":
        return f" The ~1 ms rule says {rule.mode}: it counts a message per environment and step."
    return f" The ~1 ms rule says {rule.mode}: it does not count cores, nor the learner."
