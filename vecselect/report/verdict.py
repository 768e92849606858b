"""How sure a choice is, in words that its evidence bears out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.errors import RequestError
from vecselect.modes import Mode
from vecselect.report.units import all_printable, rate, ratio, seconds, share
from vecselect.selection.compare import compare
from vecselect.selection.race import TIE

if TYPE_CHECKING:
    from vecselect.plan import Plan
    from vecselect.selection.race import Entrant, RaceRecord

CLOSE = 0.05
"""Candidates predicted within this of each other may well change places."""

LIKELIER = 0.5
"""With a smaller probability nobody is called the fastest."""


def how_sure(plan: Plan) -> str:
    """What decided, and how sure that is."""
    race, rule = plan.evidence.race, plan.evidence.rule
    if plan.decided_by == "race" and race is not None:
        start = "by a short race" if race.rounds == 1 else "by a race"
        fewer = "" if race.num_envs == plan.num_envs else f" of {race.num_envs} sub-environments"
        return f"{start}{fewer}, {_of_race(plan, race)}"
    if plan.decided_by == "model":
        return f"by prediction, {_of_prediction(plan)}"
    if plan.decided_by == "observed":
        seen = next((o for o in plan.evidence.observations[::-1] if o.mode == plan.mode), None)
        if seen is None:
            return "predicted from what earlier runs of other modes showed"
        return f"by earlier runs, {rate(seen.vector_steps)} vector steps of them in this mode"
    if plan.decided_by == "rule" and rule is not None:
        return f"by the ~1 ms rule, {of_rule(plan)}"
    return f"pinned by {plan.pinned_by}" if plan.decided_by == "pin" else "the only mode left"


def _of_prediction(plan: Plan) -> str:
    """How sure a prediction's choice is: whether another candidate may well be faster."""
    chosen = plan.chosen
    ours = chosen.predicted if chosen else None
    others = {
        one.mode: one.predicted
        for one in plan.candidates
        if one.predicted and not one.skipped and one.mode != plan.mode
        if one.threads in (None, plan.threads)
    }
    if ours is None or not others:
        return "the only candidate"
    close = [mode for mode in others if others[mode].mid <= (1 + CLOSE) * ours.mid]
    if close:
        close = sorted(close, key=lambda mode: others[mode].mid)
        return f"close to {' and '.join(close[:2])}"
    return "likely" if any(other.mid <= ours.high for other in others.values()) else "clear"


def of_rule(plan: Plan) -> str:
    """How far from the ~1 ms rule's line the step time lies."""
    rule = plan.evidence.rule
    assert rule is not None
    if rule.near_line:
        return "close to the line"
    factor = max(rule.step_time_s / rule.threshold_s, rule.threshold_s / rule.step_time_s)
    side = "above" if rule.step_time_s > rule.threshold_s else "below"
    return f"clear: {ratio(factor)} {side} the line of {seconds(rule.threshold_s)}"


def _of_race(plan: Plan, race: RaceRecord) -> str:
    """How sure a race's choice is."""
    if race.difference is not None and race.chosen == "sync":
        return "kept, since the results differ"
    chosen, leader = race.of(race.chosen), race.of(race.leader)
    if chosen is None or not [one for one in able(plan, race) if one is not chosen]:
        return "the only one left"
    if race.chosen != race.leader:
        return _not_leading(race, chosen, leader)
    best = fastest(plan, race)
    if best.mode != chosen.mode:
        return f"close to {best.mode}"
    if race.rounds == 1:
        return "the fastest in its only round"
    return f"{_chance(race.p_best) if is_proven(race) else 'perhaps'} the fastest"


def _not_leading(race: RaceRecord, chosen: Entrant, leader: Entrant | None) -> str:
    if leader is None:
        return f"instead of {race.leader}"
    raced = compare(chosen.mode, chosen.blocks_s, leader.blocks_s).ratio.mid
    if raced <= 1 + TIE and _is_simpler(chosen.mode, leader.mode):
        return f"within 5 % of the fastest and simpler than {leader.mode}"
    if chosen.loop_s.mid < leader.loop_s.mid:
        return f"ahead of {leader.mode} when measured again"
    if chosen.loop_s.mid <= (1 + TIE) * leader.loop_s.mid:
        return f"within 5 % of {leader.mode} when measured again"
    return f"kept, not surely beaten by {leader.mode}"


def _is_simpler(mode: str, other: str) -> bool:
    try:
        return Mode.parse(mode).rank() < Mode.parse(other).rank()
    except RequestError:  # the plan of another version
        return False


def _chance(p_best: float) -> str:
    """A probability in a word and a number; a race never makes it a certainty."""
    word = "clearly" if p_best >= 0.99 else "likely" if p_best >= 0.9 else "perhaps"
    return word if p_best >= 0.995 else f"{word} ({share(p_best)})"


def is_proven(race: RaceRecord) -> bool:
    """Whether what a race says of its leader stands on more than a round that may have been luck.

    The advantage as measured again must be one, with 95 % certainty.
    """
    likely = race.rounds > 1 and race.p_best >= LIKELIER
    return likely and (race.speedup is None or race.speedup.low > 1)


def able(plan: Plan, race: RaceRecord) -> list[Entrant]:
    """The entrants that could have been chosen; what was only timed could not."""
    skipped = {one.mode for one in plan.candidates if one.skipped}
    return [one for one in race.entrants if one.mode not in skipped or one.mode == race.chosen]


def fastest(plan: Plan, race: RaceRecord) -> Entrant:
    """The fastest of those that could have been chosen and ran to the end, as the table shows it.

    What was measured again after the race counts too, so it need not be the one that led.
    """
    entrants = able(plan, race)
    to_the_end = [one for one in entrants if len(one.blocks_s) >= race.rounds]
    return min(to_the_end or entrants or race.entrants, key=lambda one: one.loop_s.mid)


def sentence_of_race(plan: Plan) -> str | None:
    """Who was the fastest, and how many times as fast as each of the others, with 95 % intervals.

    Returns:
        None where no race was run with two entrants or more.
    """
    race = plan.evidence.race
    if race is None or len(race.entrants) < 2:
        return None
    # The figures of the report's table: each stands in its measured ratio to these.
    best, choosable = fastest(plan, race), {one.mode for one in able(plan, race)}
    texts = []
    for other in sorted(race.entrants, key=lambda one: one.loop_s.mid):
        if other.mode != best.mode:
            mid, low, high = (
                end / best.loop_s.mid
                for end in (other.loop_s.mid, other.loop_s.low, other.loop_s.high)
            )
            timed = "" if other.mode in choosable else ", which was only timed"
            texts.append(f"{mid:.2f} ({low:.2f}-{high:.2f}) times as fast as {other.mode}{timed}")
    listed = f"{', '.join(texts[:-1])} and {texts[-1]}" if texts[1:] else texts[0]
    return all_printable(f"{best.mode} ran {listed}.")
