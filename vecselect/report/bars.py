"""A predicted vector step taken apart, as bars of parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.report.units import kind_of, seconds, share

if TYPE_CHECKING:
    from vecselect.plan import Candidate, Plan

PARTS = {
    "stepping_s": "stepping",
    "stragglers_s": "stragglers",
    "hand_off_s": "hand-off",
    "copying_s": "copying",
    "loop_s": "loop",
}
"""By the name in `Parts`: a word."""

MOST_BARS = 6
LONGEST = 4.0
"""A bar that is more than this many times as long as the chosen one's is cut off."""

VISIBLE = 0.02
"""Share of a vector step below which a part is drawn with the loop."""


@dataclass(frozen=True)
class Part:
    """A part of a vector step.

    Attributes:
        name: One of the words of `PARTS`.
        text: Its time, and its share of the vector step.
        start: Where it begins, as a share of the longest bar.
        end: Where it ends.
    """

    name: str
    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Bar:
    """A predicted vector step taken apart.

    Attributes:
        mode: The mode.
        total: Its time.
        parts: The parts that are worth drawing, one after the other.
        cut: Whether it is longer than there is room for.
    """

    mode: str
    total: str
    parts: tuple[Part, ...]
    cut: bool


def bars(plan: Plan) -> tuple[Bar, ...]:
    """A vector step of the candidates that matter, all to one scale, the choice first."""
    known = [
        one
        for one in plan.candidates
        if one.parts and one.parts.total_s > 0 and one.threads in (None, plan.threads)
    ]
    chosen = plan.chosen

    def place(one: Candidate) -> tuple[bool, float]:
        return one is not chosen, one.parts.total_s if one.parts else 0.0

    best: dict[str, Candidate] = {}
    for one in sorted(known, key=place):
        best.setdefault(kind_of(one.mode), one)
    measured = [one for one in known if one.measured and one not in best.values()]
    more = sorted(measured, key=place)[: max(MOST_BARS - len(best), 0)]
    shown = sorted([*best.values(), *more], key=place)
    if not shown:
        return ()
    totals_s = [one.parts.total_s for one in shown if one.parts]
    scale_s = min(max(totals_s), LONGEST * totals_s[0])
    return tuple(_bar(one, scale_s) for one in shown)


def _bar(one: Candidate, scale_s: float) -> Bar:
    assert one.parts is not None
    total_s, parts, start_s, hidden_s = one.parts.total_s, [], 0.0, 0.0
    for name, word in PARTS.items():
        value_s = getattr(one.parts, name)
        if name == "loop_s":
            value_s += hidden_s
        elif value_s < VISIBLE * total_s:
            hidden_s += value_s
            continue
        end_s = start_s + value_s
        if value_s > 0:
            text = f"{seconds(value_s)} ({share(value_s / total_s)})"
            ends = (min(start_s / scale_s, 1.0), min(end_s / scale_s, 1.0))
            parts.append(Part(word, text, *ends))
        start_s = end_s
    return Bar(one.mode, seconds(total_s), tuple(parts), total_s > scale_s * 1.001)
