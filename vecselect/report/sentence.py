"""A race in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.selection.compare import compare

if TYPE_CHECKING:
    from vecselect.plan import Plan


def sentence(plan: Plan) -> str | None:
    """Who was the fastest, and how many times as fast as each of the others, with 95 % intervals.

    Returns:
        None where no race was run with two entrants or more.
    """
    race = plan.race
    fastest = race.of(race.leader) if race else None
    if race is None or fastest is None:
        return None
    rivals = [
        compare(entrant.mode, entrant.blocks_s, fastest.blocks_s)
        for entrant in race.entrants
        if entrant.mode != race.leader
    ]
    if not rivals:
        return None
    texts = []
    for rival in sorted(rivals, key=lambda rival: rival.ratio.mid):
        ratio = rival.ratio
        said = f"{ratio.mid:.2f} ({ratio.low:.2f}-{ratio.high:.2f}) times as fast as {rival.mode}"
        # Only one that could not be chosen is faster.
        texts.append(said if ratio.mid >= 1 else f"{said}, which was only timed")
    head, last = texts[:-1], texts[-1]
    listed = f"{', '.join(head)} and {last}" if head else last
    return f"{race.leader} ran {listed}."
