"""One vector step taken apart, as bars of characters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vecselect.report.units import seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vecselect.plan import Plan
    from vecselect.selection.estimate import Forecast, Parts

PARTS = {
    "stepping_s": ("stepping", "█", "green"),
    "stragglers_s": ("stragglers", "▓", "yellow"),
    "hand_off_s": ("hand-off", "▒", "red"),
    "infos_s": ("infos", "░", "magenta"),
    "copying_s": ("copying", "=", "cyan"),
    "loop_s": ("loop", "·", "blue"),
}
"""By the name in `Parts`: a word, a character and a colour."""

COLUMNS = 52
LONGEST = 4.0
"""A bar more than this many times as long as the chosen one's is cut off."""

CUT = "»"
VISIBLE = 0.02
"""Share of a vector step below which a part gets no word in the legend."""


MOST_BARS = 6


def shown_forecasts(plan: Plan) -> list[Forecast]:
    """The forecasts worth taking apart: the choice's, the best of each mode's, and who raced."""
    if plan.estimate is None:
        return []
    chosen = plan.mode.removesuffix(":sleep")
    raced = {one.mode.removesuffix(":sleep") for one in plan.race.entrants} if plan.race else set()
    known = [forecast for forecast in plan.estimate.forecasts if forecast.parts is not None]
    best: dict[str, Forecast] = {}
    for forecast in sorted(known, key=lambda one: (one.mode != chosen, one.vector_step_s.mid)):
        best.setdefault(forecast.mode.partition(":")[0], forecast)
    shown = list(best.values())
    more = (one for one in known if one.mode in raced and one not in shown)
    shown += sorted(more, key=lambda one: one.vector_step_s.mid)[: max(MOST_BARS - len(shown), 0)]
    return sorted(shown, key=lambda one: (one.mode != chosen, one.vector_step_s.mid))


def bars(plan: Plan) -> RenderableType | None:
    """What a vector step of the candidates that matter is made of, as the cost model predicts it.

    Returns:
        A legend and a bar each, all to one scale; None where the model was not asked.
    """
    forecasts = shown_forecasts(plan)
    if not forecasts:
        return None
    limit_s = forecasts[0].vector_step_s.mid * LONGEST
    scale_s = min(max(forecast.vector_step_s.mid for forecast in forecasts), limit_s) / COLUMNS
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    visible = [name for name in PARTS if _is_visible(name, forecasts)]
    for forecast in forecasts:
        assert forecast.parts is not None
        bar = _bar(forecast.parts, scale_s, visible)
        grid.add_row(forecast.mode, seconds(forecast.vector_step_s.mid), bar)
    return Group(_legend(visible), grid)


def _legend(visible: list[str]) -> Text:
    """What the characters stand for; with all of them there is room for one blank between two."""
    words = [
        Text.assemble((character, colour), (f" {word}", "dim"))
        for word, character, colour in (PARTS[name] for name in visible)
    ]
    blanks = Text("  " if len(words) < len(PARTS) else " ")
    return Text.assemble(("predicted step: ", "dim"), blanks.join(words))


def _is_visible(name: str, forecasts: list[Forecast]) -> bool:
    """Whether a part is large enough anywhere; others are drawn with the loop."""
    return any(
        getattr(forecast.parts, name) >= VISIBLE * forecast.vector_step_s.mid
        for forecast in forecasts
    )


def _bar(parts: Parts, scale_s: float, visible: list[str]) -> Text:
    """The parts in turn; where each ends is rounded, so that the whole has the right length."""
    text, end_s, drawn = Text(), 0.0, 0
    for name, value_s in dataclasses.asdict(parts).items():
        end_s += value_s
        ends = min(round(end_s / scale_s), COLUMNS)
        _, character, colour = PARTS[name if name in visible else "loop_s"]
        text.append(character * (ends - drawn), colour)
        drawn = max(ends, drawn)
    return text.append(CUT, "dim") if end_s > scale_s * (COLUMNS + 1) else text
