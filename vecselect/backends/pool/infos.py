"""Infos of sub-environments: kept as columns in the arena, and batched as Gymnasium batches them.

A *template* is the shape of one info dict: its keys in order, nested dicts included, each with the
kind of its value. The caller learns a template from the first info of that shape and tells every
lane; from then on a lane stores such an info by writing its numbers and arrays into columns, and
the template's id into the sub-environment's row. Other values, and infos without a template, are
left in `rest`, which a worker process sends by pipe.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.backends.pool.arena import ALIGNMENT_BYTES, row_store
from vecselect.backends.pool.info_batch import Column, Field, batcher
from vecselect.process import pickling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.info_batch import AddInfo, Batch

NOTHING, LOOSE = 0, 255
"""What a row's id says where it has no info, or one without a template."""

MAX_TEMPLATES = 254

MAX_VARIANTS = 3
"""Templates of the same keys that are tried; what varies more than that is put into no column."""

MAX_BATCHERS = 256
"""Orders in which templates came together, for which it is remembered how they are batched."""

NUMBERS = frozenset(
    {int, float, bool, np.bool_, *(np.dtype(code).type for code in "bBhHiIlLqQefdgFDG")}
)
"""Kinds of values of which a column holds one for each row."""

UNCHANGING = frozenset({*NUMBERS, str, bytes, type(None)})


@dataclass(frozen=True)
class Template:
    """The shape of an info dict, the same plain value in every process."""

    id: int
    fields: tuple[Field, ...]


class InfoTable:
    """The infos of one lane; in the caller, of all rows.

    Attributes:
        rest: By row, in their order, what is in no column since `clear`: where the row has a
            template, a list of the values that have no columns; otherwise a tuple of infos.
    """

    def __init__(self, arena: Arena) -> None:
        self.rest: dict[int, Any] = {}
        self._num_envs = arena.layout.num_envs
        self._memory = arena.info_columns
        self._id_of_row = arena.info_ids.data
        self._templates: list[_Template] = []
        self._by_keys: dict[tuple[str, ...], list[_Template]] = {}
        self._columns: dict[Any, Column] = {}
        self._arrays: dict[int, np.ndarray] = {}
        self._used_bytes = 0
        self._batchers: dict[bytes, Batch | None] = {}

    # ---- in every lane

    def add(self, templates: Iterable[Template]) -> None:
        """Begins to use templates that the caller has learned."""
        for template in templates:
            known = _Template(template, self._array)
            self._templates.append(known)
            keys = tuple(field.key for field in template.fields)
            variants = self._by_keys.setdefault(keys, [])
            variants.insert(0, known)
            del variants[MAX_VARIANTS:]

    def clear(self, rows: slice, nothing: bytes) -> None:
        """Notes that a slice of rows has no infos yet; `nothing` is as many zeros."""
        self._id_of_row[rows] = nothing
        self.rest = {}

    def store(self, row: int, info: dict[str, Any]) -> None:
        """Takes in the info of a row."""
        variants = self._by_keys.get(tuple(info), [])
        for template in variants:
            rest: list[Any] = []
            try:
                fits = template.write(row, info, rest)
            except (OverflowError, ValueError):  # an int beyond 64 bits
                continue
            if fits:
                self._id_of_row[row] = template.id
                if rest:
                    self.rest[row] = rest
                if template is not variants[0]:  # the next is most likely of this shape too
                    variants.remove(template)
                    variants.insert(0, template)
                return
        self.store_loose(row, info)

    def store_loose(self, row: int, *infos: dict[str, Any]) -> None:
        """Takes in infos of a row that are to be merged one after another."""
        self._id_of_row[row] = LOOSE
        self.rest[row] = tuple(held(dict(info)) for info in infos)

    def rows_that_cannot_be_pickled(self) -> Iterator[int]:
        """Rows whose infos cannot be sent to another process."""
        for row, values in self.rest.items():
            try:
                pickling.dumps_importable(values)
            except Exception:
                yield row

    def columns_of(self, rows: slice) -> dict[int, np.ndarray]:
        """The parts of the columns in which some rows may have infos now, by their offsets."""
        present = set(self._id_of_row[rows]) - {NOTHING, LOOSE}
        offsets = {offset for id in present for offset in self._templates[id - 1].offsets}
        return {offset: self._arrays[offset][rows] for offset in offsets}

    def put(self, rows: slice, ids: bytes, columns: dict[int, np.ndarray]) -> None:
        """Takes in what `columns_of` gave in another process, and the ids of these rows."""
        self._id_of_row[rows] = ids
        for offset, part in columns.items():
            self._arrays[offset][rows] = part

    def _array(self, column: Column) -> np.ndarray:
        array = self._arrays.get(column.offset)
        if array is None:
            size = self._num_envs * math.prod(column.shape) * column.dtype.itemsize
            part = self._memory[column.offset : column.offset + size].view(column.dtype)
            array = part.reshape(self._num_envs, *column.shape)
            self._arrays[column.offset] = array
        return array

    # ---- in the caller

    def batch(self, rest: dict[int, Any], add_info: AddInfo) -> dict[str, Any]:
        """The infos of all rows, as `_add_info` would have built them one row after another.

        `rest` is of all lanes.
        """
        ids = self._id_of_row.tobytes()
        # Ids in the order of their first rows: in that, `_add_info` meets the keys.
        order = ids[:1] if ids.count(ids[0]) == len(ids) else bytes(dict.fromkeys(ids))
        try:
            batch = self._batchers[order]
        except KeyError:
            batch = self._batcher(order)
        if batch is not None:
            return batch(ids, rest, add_info)
        infos: dict[str, Any] = {}
        for row, info in self.each(rest):
            infos = add_info(infos, info, row)
        return infos

    def each(self, rest: dict[int, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The infos of all rows, one after another, each with its row; `rest` is of all lanes."""
        for row, id in enumerate(self._id_of_row.tobytes()):
            if id != NOTHING:
                yield from ((row, info) for info in self.of_row(row, rest))

    def of_row(self, row: int, rest: dict[int, Any]) -> list[dict[str, Any]]:
        """The infos of one row, which are to be merged one after another."""
        id = self._id_of_row[row]
        if id == LOOSE:
            return rest[row]  # type: ignore[no-any-return]
        return [] if id == NOTHING else [self._templates[id - 1].read(row, rest.get(row))]

    def _batcher(self, order: bytes) -> Batch | None:
        """How the infos of some templates are batched; None where only row by row."""
        if len(self._batchers) >= MAX_BATCHERS:
            self._batchers.clear()
        fields = {id: self._templates[id - 1].fields for id in order if id not in (NOTHING, LOOSE)}
        found = None if LOOSE in order else batcher(fields, frozenset(order), self._num_envs)
        self._batchers[order] = found
        return found

    def learn(self, rest: dict[int, Any]) -> list[Template]:
        """Makes templates of infos that have none, and begins to use them.

        Args:
            rest: Of all lanes.

        Returns:
            The new templates, to be added in every other lane.
        """
        learned: list[Template] = []
        if LOOSE not in self._id_of_row.tobytes():
            return learned
        for found in rest.values():
            if isinstance(found, tuple) and len(found) == 1:
                template = self._learned(found[0])
                if template is not None:
                    self.add([template])
                    learned.append(template)
        return learned

    def _learned(self, info: dict[str, Any]) -> Template | None:
        if len(self._templates) >= MAX_TEMPLATES or not _has_names(info):
            return None
        variants = [known.fields for known in self._by_keys.get(tuple(info), ())]
        fields = tuple(self._field((), key, value) for key, value in info.items())
        if len(variants) >= MAX_VARIANTS and fields not in variants:
            fields = tuple(
                field if all(field == one for one in others) else Field(field.key, None)
                for field, *others in zip(fields, *variants, strict=True)
            )
        if fields in variants:  # an int beyond 64 bits, say
            return None
        return Template(len(self._templates) + 1, fields)

    def _field(self, path: tuple[str, ...], key: str, value: Any) -> Field:
        kind = type(value)
        if key == "final_obs":  # which Gymnasium never batches
            return Field(key, None)
        if kind is dict and _has_names(value):
            inner = tuple(self._field((*path, key), *item) for item in value.items())
            return Field(key, dict, None, inner)
        if kind in NUMBERS:
            column = self._column((*path, key), np.dtype(kind), (), kind is np.bool_)
        elif kind is np.ndarray and value.dtype.kind in "?biufc":
            column = self._column((*path, key), value.dtype, value.shape, False)
        else:
            column = None
        return Field(key, None if column is None else kind, column)

    def _column(
        self, path: tuple[str, ...], dtype: np.dtype, shape: tuple[int, ...], boxed: bool
    ) -> Column | None:
        """The column of such values; None if there is no room for it."""
        key = (path, dtype, shape, boxed)
        column = self._columns.get(key)
        if column is None:
            size = self._num_envs * math.prod(shape) * dtype.itemsize
            if self._used_bytes + size > self._memory.nbytes:
                return None
            column = self._columns[key] = Column(dtype, shape, self._used_bytes)
            self._used_bytes += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        return column


def _has_names(info: dict[Any, Any]) -> bool:
    """Whether an info's keys are all strings: others may be equal and yet batched differently."""
    return all(type(key) is str for key in info)


class _Template:
    """A template in one process."""

    def __init__(self, template: Template, array: Callable[[Column], np.ndarray]) -> None:
        self.id = template.id
        self.fields = _bound(template.fields, array, itertools.count())
        self.offsets = [*_offsets(self.fields)]
        self.write = _writer(self.fields)

    def read(self, row: int, rest: list[Any] | None) -> dict[str, Any]:
        """One row, its values of the types they had."""
        return {field.key: field.read(row, rest) for field in self.fields}


def _bound(
    fields: tuple[Field, ...], array: Callable[[Column], np.ndarray], places: Iterator[int]
) -> tuple[Field, ...]:
    """The keys of an info with their columns in this process."""
    return tuple(
        dataclasses.replace(
            field,
            fields=_bound(field.fields, array, places),
            array=None if field.column is None else array(field.column),
            place=next(places) if field.kind is None else -1,
        )
        for field in fields
    )


def _offsets(fields: tuple[Field, ...]) -> Iterator[int]:
    for field in fields:
        if field.column is not None:
            yield field.column.offset
        yield from _offsets(field.fields)


def _writer(fields: tuple[Field, ...]) -> Callable[[int, dict[str, Any], list[Any]], bool]:
    """A function that writes an info into columns.

    It is compiled, each key a statement of its own: a loop over the keys takes twice as long.

    Args:
        fields: The keys of the info.

    Returns:
        `write(row, info, rest)`, for an info with just these keys. It appends the values that have
        no column to `rest`. False if a value does not fit, and then a part of them is written.
    """
    scope: dict[str, Any] = {"UNCHANGING": UNCHANGING, "held": held, "ndarray": np.ndarray}
    lines = [f"[{', '.join(f'v{index}' for index in range(len(fields)))}] = info.values()"]
    for index, field in enumerate(fields):
        value, column, kind = f"v{index}", f"column{index}", f"kind{index}"
        array = field.array
        if field.kind is None:
            lines.append(f"rest.append({value} if type({value}) in UNCHANGING else held({value}))")
        elif array is None:
            scope[column] = _writer(field.fields)
            scope[kind] = tuple(inner.key for inner in field.fields)
            lines.append(f"if type({value}) is not dict or tuple({value}) != {kind}: return False")
            lines.append(f"if not {column}(row, {value}, rest): return False")
        elif field.kind is np.ndarray:
            scope[column] = [array[row, ...] for row in range(len(array))]
            scope[kind] = array.shape[1:], array.dtype
            lines.append(f"if type({value}) is not ndarray: return False")
            lines.append(f"if ({value}.shape, {value}.dtype) != {kind}: return False")
            lines.append(f"{column}[row][...] = {value}")
        else:
            scope[column], scope[kind] = row_store(array), field.kind
            lines.append(f"if type({value}) is not {kind}: return False")
            lines.append(f"{column}[row] = {value}")
    text = "\n    ".join(["def write(row, info, rest):", *lines, "return True"])
    # Compiled first: Ctrl-C amid `exec` of a text has Python end by SIGINT, though it was caught.
    exec(compile(text, "<writer>", "exec"), scope)
    return scope["write"]  # type: ignore[no-any-return]


def held(value: Any) -> Any:
    """A value as it is now, as far as Gymnasium's batching would copy it: dicts and arrays."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return {key: held(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def snapshot(value: Any) -> Any:
    """A copy of a value down to the last array; what cannot be copied is left as it is."""
    kind = type(value)
    if kind in UNCHANGING:
        return value
    if kind is dict:
        return {key: snapshot(inner) for key, inner in value.items()}
    if kind is np.ndarray and not value.dtype.hasobject:
        return value.copy()
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
