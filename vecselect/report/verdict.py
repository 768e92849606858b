"""How sure a choice is, in words that its evidence bears out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.report.units import ratio, seconds
from vecselect.selection.candidates import simplicity
from vecselect.selection.compare import compare
from vecselect.selection.race import TIE

LIKELIER = 0.5
"""With a smaller probability nobody is told of as the fastest."""

if TYPE_CHECKING:
    from vecselect.plan import Plan
    from vecselect.selection.estimate import Estimate
    from vecselect.selection.race import Entrant, RaceRecord


def verdict(plan: Plan) -> str:
    """What decided, and how sure that is."""
    if plan.decided_by == "race" and plan.race is not None:
        start = "by a short race" if plan.race.rounds == 1 else "by a race"
        return f"{start}, {of_race(plan, plan.race)}"
    if plan.decided_by == "estimate" and plan.estimate is not None:
        return f"by estimate, {of_estimate(plan, plan.estimate)}"
    if plan.decided_by == "rule":
        return f"by the ~1 ms rule, {certainty(plan)}"
    return f"pinned by {plan.pinned_by}" if plan.decided_by == "pin" else "the only mode left"


def of_estimate(plan: Plan, estimate: Estimate) -> str:
    """How sure an estimate's choice is."""
    if close := [mode for mode in estimate.close if mode != plan.mode]:
        return f"close to {', '.join(close)}"
    sync, ours = estimate.of("sync"), estimate.of(plan.mode)
    # Beside a range of the advantage that begins below 1 nothing is clear.
    if plan.mode != "sync" and sync is not None and ours is not None and ours.high >= sync.mid:
        return "likely"
    return "clear"


def of_race(plan: Plan, race: RaceRecord) -> str:
    """How sure a race's choice is."""
    if race.difference is not None:
        return "kept, since the results differ"
    chosen, leader, others = race.of(race.chosen), race.of(race.leader), rivals(plan, race)
    if chosen is None or not others:
        return "the only one left"
    if race.chosen != race.leader:
        return _not_leading(race, chosen, leader)
    best = fastest(plan, race)
    if best.mode != chosen.mode:
        return f"close to {best.mode}"
    if race.rounds == 1:
        return "the fastest in its only round"
    if is_proven(race):
        return f"{_chance(race.p_best)} the fastest"
    return "perhaps the fastest"


def is_proven(race: RaceRecord) -> bool:
    """Whether what a race says of its leader stands on more than a round that may have been luck.

    The advantage as measured again must be one, with 95 % certainty.
    """
    likely = race.rounds > 1 and race.p_best >= LIKELIER
    return likely and (race.speedup is None or race.speedup.low > 1)


def certain(plan: Plan, race: RaceRecord) -> str:
    """How sure it is that the fastest one is the fastest, in words that follow its name."""
    if race.rounds == 1:
        return "in its only round"
    if race.leader != fastest(plan, race).mode:
        return f"when measured again; {race.leader} had led the race"
    if not is_proven(race):
        return "perhaps"
    return f"with {certainty_of(race)} certainty"


def certainty_of(race: RaceRecord) -> str:
    """The probability that the leader is the fastest; a race never makes it a certainty."""
    return "more than 99 %" if race.p_best >= 0.995 else f"{race.p_best:.0%}".replace("%", " %")


def able(plan: Plan, race: RaceRecord) -> list[Entrant]:
    """The entrants that could have been chosen; what was only timed could not."""
    modes = {one.mode for one in plan.candidates if one.skipped is None}
    return [one for one in race.entrants if one.mode in modes or one.mode == race.chosen]


def rivals(plan: Plan, race: RaceRecord) -> list[Entrant]:
    """The other entrants that could have been chosen."""
    return [one for one in able(plan, race) if one.mode != race.chosen]


def fastest(plan: Plan, race: RaceRecord) -> Entrant:
    """The fastest of those that could have been chosen and ran to the end, as the tables show it.

    What was measured again after the race counts too, so it need not be the one that led.
    """
    entrants = able(plan, race)
    to_the_end = [one for one in entrants if len(one.blocks_s) >= race.rounds]
    return min(to_the_end or entrants or race.entrants, key=lambda one: one.loop_s.mid)


def _not_leading(race: RaceRecord, chosen: Entrant, leader: Entrant | None) -> str:
    if leader is None:
        return f"instead of {race.leader}"
    raced = compare(chosen.mode, chosen.blocks_s, leader.blocks_s).ratio.mid
    if raced <= 1 + TIE and simplicity(chosen.mode) < simplicity(leader.mode):
        return f"within 5 % of the fastest and simpler than {leader.mode}"
    if chosen.loop_s.mid < leader.loop_s.mid:
        return f"ahead of {leader.mode} when measured again"
    if chosen.loop_s.mid <= (1 + TIE) * leader.loop_s.mid:
        return f"within 5 % of {leader.mode} when measured again"
    return f"kept, not surely beaten by {leader.mode}"


def _chance(p_best: float) -> str:
    """A probability in a word and a number."""
    word = "clearly" if p_best >= 0.99 else "likely" if p_best >= 0.9 else "perhaps"
    return f"{word} ({p_best:.0%})" if p_best < 0.995 else word


def certainty(plan: Plan) -> str:
    """How far from the ~1 ms rule's line the step time lies, in words."""
    rule = plan.rule
    assert rule is not None
    if rule.near_line:
        return "close to the line"
    factor = max(rule.step_time_s / rule.threshold_s, rule.threshold_s / rule.step_time_s)
    side = "above" if rule.step_time_s > rule.threshold_s else "below"
    return f"clear: {ratio(factor)} {side} the line of {seconds(rule.threshold_s)}"
