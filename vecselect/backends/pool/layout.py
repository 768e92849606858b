"""How the elements of a space lie in memory: one array per leaf, batch first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space, spaces

ALIGNMENT_BYTES = 64
"""Arrays begin on cache lines of their own, so that two lanes never write to the same one."""


@dataclass(frozen=True)
class Leaf:
    """A part of a space that has no parts.

    Attributes:
        path: Keys and indices that lead from the whole element to this part.
        dtype: Of the numpy array that holds it; None if no array can.
        shape: Of one element.
    """

    path: tuple[str | int, ...]
    dtype: np.dtype | None
    shape: tuple[int, ...] = ()


def leaves(space: Space, path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """The leaves of a space, in the order in which Gymnasium batches them."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaves(part, (*path, index))
    elif isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        yield Leaf(path, np.dtype(space.dtype), tuple(space.shape or ()))
    else:  # Text, OneOf, Graph, Sequence and custom spaces: Python objects
        yield Leaf(path, None)


def assembled(space: Space, parts: Iterator[Any]) -> Any:
    """A nested element of a space from its leaves' values, in the order of `leaves`."""
    if isinstance(space, spaces.Dict):
        return {key: assembled(part, parts) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(assembled(part, parts) for part in space.spaces)
    return next(parts)


def at(element: Any, path: tuple[str | int, ...]) -> Any:
    """The part of a nested element that a path leads to."""
    for step in path:
        element = element[step]
    return element


Write = Callable[[int, Any], None]
"""Stores one sub-environment's observation in its row of a batch."""


def writer(space: Space, batches: Mapping[tuple[str | int, ...], Any]) -> Write:
    """A function that stores observations in the rows of a batch.

    As strict as Gymnasium's `concatenate`: shapes must be the leaf's and dtypes of the same kind;
    nothing is broadcast or wrapped.

    Args:
        space: The space of one observation.
        batches: For each leaf's path an array of shape `(num_envs, *shape)`, or a list where the
            leaf holds Python objects.

    Returns:
        The function; it raises ValueError for a wrong shape and TypeError for a wrong dtype.
    """
    return _writer(space, batches, ())


def _writer(space: Space, batches: Mapping[Any, Any], path: tuple[str | int, ...]) -> Write:
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        inner = space.spaces
        named: Any = inner.items() if isinstance(inner, dict) else enumerate(inner)
        parts = [(key, _writer(part, batches, (*path, key))) for key, part in named]

        def write_parts(row: int, value: Any) -> None:
            for key, part in parts:
                part(row, value[key])

        return write_parts
    batch = batches[path]
    if isinstance(batch, list):
        return batch.__setitem__
    return _array_writer(batch, path) if batch.ndim > 1 else _scalar_writer(batch, path)


def _array_writer(batch: np.ndarray, path: tuple[str | int, ...]) -> Write:
    dtype, shape, rows = batch.dtype, batch.shape[1:], list(batch)

    def write_array(row: int, value: Any) -> None:
        if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape:
            rows[row][...] = value
        else:
            rows[row][...] = _strict(value, dtype, shape, row, path)

    return write_array


def _scalar_writer(batch: np.ndarray, path: tuple[str | int, ...]) -> Write:
    dtype, numbers = batch.dtype, row_store(batch)
    # np.stack takes a Python int for any int64, and the scalar of the very dtype for any dtype.
    plain = (int, dtype.type) if dtype == np.int64 else (dtype.type,)

    def write_scalar(row: int, value: Any) -> None:
        if type(value) in plain:
            numbers[row] = value
        else:
            batch[row] = _strict(value, dtype, (), row, path)

    return write_scalar


def row_store(batch: np.ndarray) -> Any:
    """What takes a number for a row: a memoryview if it can, in a fraction of an array's time."""
    return batch.data if batch.dtype.char in "?bBhHiIlLqQfd" else batch


def _strict(
    value: Any, dtype: np.dtype, shape: tuple[int, ...], row: int, path: tuple[str | int, ...]
) -> np.ndarray:
    """The value as an array that may be assigned, or an error that says why it may not."""
    array = np.asarray(value)
    where = "".join(f"[{step!r}]" for step in path)
    if array.shape != shape:
        raise ValueError(
            f"Sub-environment {row} returned an observation{where} of shape {array.shape}; its "
            f"space says {shape}."
        )
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise TypeError(
            f"Sub-environment {row} returned an observation{where} of dtype {array.dtype}; its "
            f"space says {dtype}."
        )
    return array
