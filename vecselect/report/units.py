"""How values become text: numbers with three digits and a unit, foreign text printable."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, TypeVar

from vecselect.printable import printable

if TYPE_CHECKING:
    from vecselect.selection.race import Interval

T = TypeVar("T")


def all_printable(value: T) -> T:
    """The same text, tuple, list, dict or dataclass, with all text in it printable, on one line."""
    shown: object = value
    if isinstance(value, str):
        shown = value if value.isprintable() else re.sub(r"[\t\n]+", " ", printable(value))
    elif isinstance(value, (tuple, list)):
        shown = type(value)(map(all_printable, value))
    elif isinstance(value, dict):
        shown = {all_printable(key): all_printable(item) for key, item in value.items()}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = dataclasses.replace(value, **all_printable(vars(value)))
    return shown  # type: ignore[return-value]  # of the same type as the value


def seconds(value: float) -> str:
    """A duration with three digits and the unit that keeps it readable: `9.81 us`, `1.2 ms`."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 0.9995:
            return f"{_three_digits(value * factor)} {unit}"
    return f"{_three_digits(value * 1e9)} ns"


def rate(per_s: float) -> str:
    """A throughput with three digits: `97.4 k`, `1.2 M`."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if per_s >= factor * 0.9995:
            return f"{_three_digits(per_s / factor)}{unit}"
    return _three_digits(per_s)


def size(value_bytes: float) -> str:
    """A number of bytes: `12 B`, `28.2 KB`, `1.5 GB`."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if value_bytes >= factor * 0.9995:
            return f"{_three_digits(value_bytes / factor)} {unit}"
    return f"{value_bytes:.0f} B"


def share(value: float) -> str:
    """A share between 0 and 1 in per cent: `0.7 %`, `12 %`."""
    percent = value * 100
    return f"{percent:.1f} %" if 0.05 <= percent < 9.95 else f"{percent:.0f} %"


def spread(interval: Interval) -> str:
    """How far a quantity may be off: ` ±1.8 %`; nothing where that rounds to 0."""
    off = interval.high / interval.mid - 1
    return f" ±{share(off)}" if off >= 0.0005 else ""


def ratio(value: float) -> str:
    """A ratio of two throughputs: `1.52x`."""
    return f"{_three_digits(value)}x"


def counted(number: int, word: str) -> str:
    """A number of things: `1 round`, `5 rounds`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def short(text: str) -> str:
    """A number of this module without the zeros behind its point, for an axis: `1 k`, `50 us`."""
    return re.sub(r"\.0+(?= |x|$)|(?<=\.\d)0(?= |x|$)", "", text)


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value) * 1.0005)))
    return f"{value:.{min(decimals, 2)}f}"
