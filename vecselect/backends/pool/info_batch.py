"""Batches of infos from their columns: what `VectorEnv._add_info` gives, made key by key.

`_add_info` merges infos row after row. Here the templates that come together are looked at once;
from then on each key costs one copy of its column and one mask, however many rows there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

AddInfo = Callable[[dict[str, Any], dict[str, Any], int], dict[str, Any]]
"""`VectorEnv._add_info`: merges one sub-environment's info into the batch's."""

Batch = Callable[[bytes, "dict[int, Any]", AddInfo], "dict[str, Any]"]
"""Makes a batch from the template id of every row, and what is in no column."""

_OBJECTS = frozenset({str, bytes, type(None), np.bool_, list, tuple, set, frozenset})
"""Kinds of values that Gymnasium keeps as they are."""

_BOXED = np.array([np.bool_(False), np.bool_(True)], dtype=object)


_CUT_OFF = np.dtype(np.int64), np.dtype(np.float64)
_WHOLE = 2.0**53
"""Numbers below it can be cut off to whole ones."""


@dataclass(frozen=True)
class Column:
    """Where the values of one key are kept, by all templates that have it.

    Attributes:
        dtype: Of one value.
        shape: Of one value; `()` for numbers.
        offset: Of the column, in bytes, within the arena's info columns.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Field:
    """A key of a template.

    Attributes:
        key: The key.
        kind: The exact type of its values; None where any may come.
        column: Where they are kept, if they are numbers or arrays.
        fields: Of a nested dict.
        array: The column in this process; None before the template is added.
        place: Where any may come: its index in what the row has outside the columns.
    """

    key: str
    kind: type | None
    column: Column | None = None
    fields: tuple[Field, ...] = ()
    array: np.ndarray | None = dataclasses.field(default=None, compare=False)
    place: int = dataclasses.field(default=-1, compare=False)

    def read(self, row: int, rest: Any) -> Any:
        """The value of a row, of the type it had."""
        if self.kind is dict:
            return {field.key: field.read(row, rest) for field in self.fields}
        if self.array is None:
            return rest[self.place]
        if self.kind is np.ndarray:
            return self.array[row, ...].copy()
        value = self.array[row]
        return value.item() if self.kind in (int, float, bool) else value


def batcher(templates: Mapping[int, Sequence[Field]], ids: Set[int], num_envs: int) -> Batch | None:
    """A function that batches rows of some templates.

    Args:
        templates: The keys of each, by id, in the order of their first rows.
        ids: All that rows have; one without a template has no info.
        num_envs: The number of rows.

    Returns:
        The function; None where a key is another one's mask.
    """
    level = _level(templates, ids, num_envs)
    if level is None:
        return None
    every = np.ones(num_envs, np.bool_)
    if not templates:
        return lambda *_: {}

    def batch(ids: bytes, rest: dict[int, Any], add_info: AddInfo) -> dict[str, Any]:
        return level.batch(_Rows(ids, rest, add_info, every))

    return batch


def _level(templates: Mapping[int, Sequence[Field]], ids: Set[int], num_envs: int) -> _Level | None:
    """The dicts of some templates at one place."""
    found: dict[str, dict[int, Field]] = {}
    for id, fields in templates.items():
        for field in fields:
            found.setdefault(field.key, {})[id] = field
    parts = []
    for key, fields_of in found.items():
        if f"_{key}" in found:
            return None
        part = _part(fields_of, ids, num_envs)
        if part is None:
            return None
        have = fields_of.keys()
        table = None if have == ids else bytes(id in have for id in range(256))
        parts.append((key, f"_{key}", table, part))
    return _Level(parts)


def _part(fields_of: dict[int, Field], ids: Set[int], num_envs: int) -> Any:
    """What batches the values of one key, found in some templates; None if nothing can."""
    fields = list(fields_of.values())
    kinds = {field.kind for field in fields}
    if kinds == {dict}:
        return _level({id: field.fields for id, field in fields_of.items()}, ids, num_envs)
    first = fields[0]
    if first.array is not None and all(field.array is first.array for field in fields):
        return _Numbers(first)
    if _are_numbers(fields):
        return _Mixed(first.key, fields_of, num_envs)
    return _Values(first.key, fields_of, num_envs)


def _are_numbers(fields: Sequence[Field]) -> bool:
    """Whether all are numbers that the kind of the first holds, or that are cut off to whole ones.

    Others raise or warn, as they do when Gymnasium assigns one of them.
    """
    arrays = [field.array for field in fields]
    first = arrays[0]
    return first is not None and all(
        array is not None
        and array.ndim == 1
        and field.kind is not np.bool_
        and (np.can_cast(array.dtype, first.dtype) or (first.dtype, array.dtype) == _CUT_OFF)
        for field, array in zip(fields, arrays, strict=True)
    )


class _Rows:
    """What rows have at this moment."""

    def __init__(
        self, ids: bytes, rest: dict[int, Any], add_info: AddInfo, every: np.ndarray
    ) -> None:
        self.ids = ids
        self.rest = rest
        self.add_info = add_info
        self.every = every
        self._masks: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def masks(self, table: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Which rows have the ids that a table names, and which have not."""
        found = self._masks.get(table)
        if found is None:
            having = np.frombuffer(self.ids.translate(table), np.bool_)
            found = self._masks[table] = having, ~having
        return found


class _Level:
    """Batches dicts."""

    def __init__(self, parts: list[tuple[str, str, bytes | None, Any]]) -> None:
        self._parts = parts

    def batch(self, rows: _Rows, lacking: np.ndarray | None = None) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for key, mask, table, part in self._parts:
            if table is None:
                infos[key] = part.batch(rows, None)
                infos[mask] = rows.every.copy()
            else:
                having, lacking = rows.masks(table)
                infos[key] = part.batch(rows, lacking)
                infos[mask] = having.copy()
        return infos


class _Numbers:
    """Batches numbers, or arrays of one dtype and shape; `np.bool_`s as objects."""

    def __init__(self, field: Field) -> None:
        assert field.array is not None
        self._boxed = field.kind is np.bool_
        self._array = field.array.view(np.uint8) if self._boxed else field.array

    def batch(self, rows: _Rows, lacking: np.ndarray | None) -> np.ndarray:
        values: np.ndarray = _BOXED[self._array] if self._boxed else self._array.copy()
        if lacking is not None:
            values[lacking] = None if self._boxed else 0
        return values


class _Values:
    """Batches values of any kinds, the first of which decides what they become."""

    def __init__(self, key: str, fields_of: dict[int, Field], num_envs: int) -> None:
        self._key = key
        self._fields_of = fields_of
        self._num_envs = num_envs
        self._every_row = range(num_envs)
        places = {field.place for field in fields_of.values()}
        # Where all have it at the same place of what is outside the columns.
        self._place = places.pop() if len(fields_of) == 1 else -1

    def batch(self, rows: _Rows, lacking: np.ndarray | None) -> Any:
        fields_of, rest = self._fields_of, rows.rest
        if lacking is None and self._place >= 0:
            where: Sequence[int] = self._every_row
            place = self._place
            values = [row[place] for row in rest.values()]
        else:
            where = [row for row, id in enumerate(rows.ids) if id in fields_of]
            values = [fields_of[rows.ids[row]].read(row, rest.get(row)) for row in where]
        return self._merged(where, values, rows.add_info)

    def _merged(self, where: Sequence[int], values: list[Any], add_info: AddInfo) -> Any:
        """The values as `_add_info` merges them."""
        first, kinds = values[0], set(map(type, values))
        if kinds <= _OBJECTS:
            array: np.ndarray = np.fromiter(values, object, len(values))
            if len(values) == self._num_envs:
                return array
            spread = np.full(self._num_envs, None, object)
            spread[where] = array
            return spread
        if any(issubclass(kind, dict) for kind in kinds):
            infos: dict[str, Any] = {}
            for row, value in zip(where, values, strict=True):
                infos = add_info(infos, {self._key: value}, row)
            return infos[self._key]
        batched = self._key != "final_obs"
        if batched and isinstance(first, np.ndarray):
            array = np.zeros((self._num_envs, *first.shape), first.dtype)
        elif batched and (type(first) in (int, float, bool) or isinstance(first, np.number)):
            array = np.zeros(self._num_envs, type(first))
        else:
            array = np.full(self._num_envs, None, object)
        for row, value in zip(where, values, strict=True):
            array[row] = value
        return array


class _Mixed(_Values):
    """Batches numbers of several kinds, which become that of the first row."""

    def __init__(self, key: str, fields_of: dict[int, Field], num_envs: int) -> None:
        super().__init__(key, fields_of, num_envs)
        ids_of: dict[int, set[int]] = {}
        arrays: dict[int, Any] = {id(field.array): field.array for field in fields_of.values()}
        for template, field in fields_of.items():
            ids_of.setdefault(id(field.array), set()).add(template)
        (_, self._first), *others = arrays.items()
        self._others = [
            (array, bytes(template in ids_of[key] for template in range(256)))
            for key, array in others
        ]

    def batch(self, rows: _Rows, lacking: np.ndarray | None) -> Any:
        values = self._first.copy()
        for array, table in self._others:
            having, _ = rows.masks(table)
            cut_off = (values.dtype, array.dtype) == _CUT_OFF
            if cut_off and not (np.abs(array[having]) < _WHOLE).all():
                return super().batch(rows, lacking)
            np.copyto(values, array, casting="unsafe", where=having)
        if lacking is not None:
            values[lacking] = 0
        return values
