"""Whether two results are the same to the last bit, and if not, where they first differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def first_difference(one: Any, other: Any, path: str = "result") -> str | None:
    """Finds where two values differ in structure, type, dtype, shape or any bit.

    Args:
        one: Dicts, lists, tuples, arrays and plain values, nested.
        other: What it is compared with.
        path: How the values are called in the answer.

    Returns:
        The first place of difference, as `path['key'][0]: 1.0 is not 2.0`; None if there is none.
        NaNs are equal to each other; the keys of dicts must stand in the same order.
    """
    if type(one) is not type(other):
        return f"{path}: {type(one).__name__} is not {type(other).__name__}"
    if isinstance(one, dict):
        if list(one) != list(other):
            return f"{path}: the keys {list(one)} are not {list(other)}"
        parts = ((f"{path}[{key!r}]", one[key], other[key]) for key in one)
    elif isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"{path}: {one.dtype}{one.shape} is not {other.dtype}{other.shape}"
        if one.dtype != object:
            same = one.tobytes() == other.tobytes()
            return None if same else f"{path}: the values differ"
        parts = ((f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(one.flat, other.flat)))  # noqa: B905
    elif isinstance(one, (tuple, list)):
        if len(one) != len(other):
            return f"{path}: {len(one)} elements are not {len(other)}"
        parts = ((f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other)))  # noqa: B905
    else:
        return None if _equal(one, other) else f"{path}: {_short(one)} is not {_short(other)}"
    differences = (first_difference(a, b, name) for name, a, b in parts)
    return next((found for found in differences if found is not None), None)


def _equal(one: Any, other: Any) -> bool:
    """Whether two plain values are equal; what cannot be compared counts as different."""
    try:
        if isinstance(one, float) and one == other == 0:
            return math.copysign(1, one) == math.copysign(1, other)
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # comparing runs code of the user's objects
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
