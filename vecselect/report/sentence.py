"""A race in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.report.verdict import able, fastest

if TYPE_CHECKING:
    from vecselect.plan import Plan
    from vecselect.selection.race import Entrant


def sentence(plan: Plan) -> str | None:
    """Who was the fastest, and how many times as fast as each of the others, with 95 % intervals.

    Returns:
        None where no race was run with two entrants or more.
    """
    race = plan.race
    if race is None or not race.entrants:
        return None
    # The same figures as in the table of the report: each stands in its measured ratio to these.
    best = fastest(plan, race)
    others = sorted(
        (one for one in race.entrants if one.mode != best.mode), key=lambda one: one.loop_s.mid
    )
    if not others:
        return None
    could = {one.mode for one in able(plan, race)}
    texts = [
        f"{_times(other, best)} times as fast as {other.mode}"
        + ("" if other.mode in could else ", which was only timed")
        for other in others
    ]
    head, last = texts[:-1], texts[-1]
    listed = f"{', '.join(head)} and {last}" if head else last
    return f"{best.mode} ran {listed}."


def _times(other: Entrant, fastest: Entrant) -> str:
    """How many times the throughput of another one the fastest has."""
    low, mid, high = (
        end / fastest.loop_s.mid for end in (other.loop_s.low, other.loop_s.mid, other.loop_s.high)
    )
    return f"{mid:.2f} ({low:.2f}-{high:.2f})"
