"""Infos without pickling: keys whose values are numbers become columns in the arena.

A *template* is the shape of one info dict: its keys in order, each with the type of its value. The
caller learns a template from the first info of that shape and tells every lane; from then on a lane
stores such an info by writing its values into the template's columns and the template's id into the
sub-environment's row. What fits no template travels pickled, beside the arena.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.backends.pool.arena import ALIGNMENT_BYTES, row_store

if TYPE_CHECKING:
    from vecselect.backends.pool.arena import Arena

AddInfo = Callable[[dict[str, Any], dict[str, Any], int], dict[str, Any]]
"""`VectorEnv._add_info`: merges one sub-environment's info into the batch's."""

Extra = tuple[int, dict[str, Any]]
"""A row and an info of it that is in no column."""

NOTHING, LOOSE = 0, 255
"""What a row's id says where it has no info, or one that travels beside the arena."""

MAX_TEMPLATES = 64

_PYTHON_DTYPES = {int: np.dtype(int), float: np.dtype(float), bool: np.dtype(bool)}


@dataclass(frozen=True)
class Column:
    """Where the values of one key are kept.

    Attributes:
        kind: The exact type of the values.
        dtype: Of the array that `_add_info` would make for them.
        shape: Of one value; `()` for numbers.
        offset: Of the column, in bytes, within the arena's info columns.
    """

    kind: type
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Template:
    """The shape of an info dict, the same plain value in every process."""

    id: int
    keys: tuple[str, ...]
    columns: tuple[Column, ...]


class InfoTable:
    """The info columns of one process: of the caller, or of a worker."""

    def __init__(self, arena: Arena) -> None:
        self._num_envs = arena.layout.num_envs
        self._memory = arena.info_columns
        self._ids = arena.info_ids
        self._id_of_row = arena.info_ids.data
        self._no_infos = bytes(self._num_envs)
        self._every_row = np.ones(self._num_envs, np.bool_)
        self._known: list[_Columns] = []
        self._by_keys: dict[tuple[str, ...], list[_Columns]] = {}
        self._used_bytes = 0

    def add(self, templates: Iterable[Template]) -> None:
        """Begins to use templates that the caller has learned."""
        for template in templates:
            columns = _Columns(template, self._memory, self._num_envs)
            self._known.append(columns)
            self._by_keys.setdefault(template.keys, []).append(columns)

    def clear(self, rows: slice, nothing: bytes) -> None:
        """Notes that a slice of rows has no infos yet; `nothing` is as many zeros."""
        self._id_of_row[rows] = nothing

    def store(self, row: int, info: dict[str, Any]) -> bool:
        """Puts a row's info into columns; False if it fits none and must travel beside them."""
        fitting = self._by_keys.get(tuple(info))
        if fitting is not None:
            if fitting[0].store(row, info.values()):
                self._id_of_row[row] = fitting[0].id
                return True
            for columns in fitting[1:]:
                if columns.store(row, info.values()):
                    self._id_of_row[row] = columns.id
                    fitting.remove(columns)  # the next info is most likely of this shape again
                    fitting.insert(0, columns)
                    return True
        self._id_of_row[row] = LOOSE
        return False

    def learn(self, info: dict[str, Any]) -> Template | None:
        """Makes a template of an info if all its values are numbers or small arrays of them.

        Returns:
            The new template, to be added in every process; None if there is nothing to learn.
        """
        if len(self._known) >= MAX_TEMPLATES:
            return None
        columns = []
        offset = self._used_bytes
        for key, value in info.items():
            dtype = _dtype_of(value)
            # `_add_info` treats these keys specially, or would mix them up with another key's mask.
            if dtype is None or not isinstance(key, str) or key == "final_obs" or key[:1] == "_":
                return None
            shape = value.shape if isinstance(value, np.ndarray) else ()
            columns.append(Column(type(value), dtype, shape, offset))
            size = self._num_envs * math.prod(shape) * dtype.itemsize
            offset += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        keys = tuple(info)
        if offset > self._memory.nbytes or any(
            [_plain(one) for one in known.template.columns] == [_plain(one) for one in columns]
            for known in self._by_keys.get(keys, ())
        ):
            return None
        self._used_bytes = offset
        return Template(len(self._known) + 1, keys, tuple(columns))

    def columns_of(self, rows: slice) -> dict[int, list[np.ndarray]]:
        """The parts of the columns in which some rows have infos now, by their template's id."""
        present = set(self._ids[rows].tobytes()) - {NOTHING, LOOSE}
        return {id: [array[rows] for *_, array in self._known[id - 1].arrays] for id in present}

    def put(self, rows: slice, ids: bytes, columns: dict[int, list[np.ndarray]]) -> None:
        """Takes in what `columns_of` gave in another process, and the ids of these rows."""
        self._id_of_row[rows] = ids
        for id, parts in columns.items():
            for (*_, array), part in zip(self._known[id - 1].arrays, parts, strict=True):
                array[rows] = part

    def batch(self, loose: list[Extra], add_info: AddInfo) -> dict[str, Any]:
        """The infos of all rows, as `_add_info` would have built them one row after another.

        Args:
            loose: Infos that are in no column, in the order of their rows; those of one row in the
                order in which they came, before that row's columns.
            add_info: `VectorEnv._add_info`.
        """
        ids = self._ids.tobytes()
        if loose:
            return self._one_by_one(ids, loose, add_info)
        if ids == self._no_infos:
            return {}
        infos: dict[str, Any] = {}
        if ids.count(ids[0]) == len(ids):  # every row has an info, all of one shape
            for key, mask, array in self._known[ids[0] - 1].arrays:
                infos[key] = array.copy()
                infos[mask] = self._every_row.copy()
            return infos
        # In the order of their first rows: that is the order in which `_add_info` meets the keys.
        present = sorted(
            (first, columns.id) for columns in self._known if (first := ids.find(columns.id)) >= 0
        )
        for _, id in present:
            rows = self._ids == id
            others = ~rows
            for key, mask, array in self._known[id - 1].arrays:
                if key not in infos:
                    kept = array.copy()
                    kept[others] = 0
                    infos[key], infos[mask] = kept, rows.copy()
                elif array.dtype == infos[key].dtype and array.shape == infos[key].shape:
                    where = rows.reshape(-1, *[1] * (array.ndim - 1))
                    np.copyto(infos[key], array, where=where)
                    infos[mask] |= rows
                else:  # the first dtype decides, and how each value is cast to it
                    return self._one_by_one(ids, loose, add_info)
        return infos

    def _one_by_one(self, ids: bytes, loose: list[Extra], add_info: AddInfo) -> dict[str, Any]:
        """The infos of all rows by Gymnasium's own means."""
        infos: dict[str, Any] = {}
        position = 0
        for row, id in enumerate(ids):
            while position < len(loose) and loose[position][0] == row:
                infos = add_info(infos, loose[position][1], row)
                position += 1
            if id not in (NOTHING, LOOSE):
                infos = add_info(infos, self._known[id - 1].read(row), row)
        return infos


class _Columns:
    """A template's columns as arrays of one process."""

    def __init__(self, template: Template, memory: np.ndarray, num_envs: int) -> None:
        self.template = template
        self.id = template.id
        self.arrays: list[tuple[str, str, np.ndarray]] = []  # key, key of its mask, values
        self._kinds = tuple(column.kind for column in template.columns)
        self._targets: list[Any] = []
        for key, column in zip(template.keys, template.columns, strict=True):
            shape = (num_envs, *column.shape)
            size = math.prod(shape) * column.dtype.itemsize
            part = memory[column.offset : column.offset + size]
            array = part.view(column.dtype).reshape(shape)
            self.arrays.append((key, f"_{key}", array))
            if column.kind is np.ndarray:
                self._targets.append(_StrictRows(array))
            else:
                self._targets.append(row_store(array))

    def store(self, row: int, values: Iterable[Any]) -> bool:
        """Writes one row; False if a value does not fit its column."""
        try:
            for value, kind, target in zip(values, self._kinds, self._targets, strict=True):
                if type(value) is not kind:
                    return False
                target[row] = value
        except (OverflowError, ValueError):  # an int beyond 64 bits, an array of another shape
            return False
        return True

    def read(self, row: int) -> dict[str, Any]:
        """One row, its values of the types they had."""
        info: dict[str, Any] = {}
        for (key, _, array), column in zip(self.arrays, self.template.columns, strict=True):
            if column.kind is np.ndarray:
                info[key] = array[row].copy()
            else:
                info[key] = array[row].item() if column.kind in _PYTHON_DTYPES else array[row]
        return info


class _StrictRows:
    """Rows of an array that take only arrays of exactly their dtype and shape."""

    def __init__(self, array: np.ndarray) -> None:
        self._rows = list(array) if array.ndim > 1 else [array[i, ...] for i in range(len(array))]
        self._dtype = array.dtype
        self._shape = array.shape[1:]

    def __setitem__(self, row: int, value: np.ndarray) -> None:
        """Stores a value, or raises ValueError."""
        if value.dtype != self._dtype or value.shape != self._shape:
            raise ValueError
        self._rows[row][...] = value


def _plain(column: Column) -> tuple[type, np.dtype, tuple[int, ...]]:
    return column.kind, column.dtype, column.shape


def _dtype_of(value: Any) -> np.dtype | None:
    """The dtype of the array `_add_info` would keep such values in; None if not of numbers."""
    kind = type(value)
    if kind in _PYTHON_DTYPES:
        return _PYTHON_DTYPES[kind]
    if issubclass(kind, np.number) or (kind is np.ndarray and value.dtype.kind in "?biufc"):
        dtype: np.dtype = value.dtype
        return dtype
    return None
