"""How batches lie in shared memory: the leaves of spaces, and the arena that holds them.

A *leaf* is a part of a space that has no parts. Each leaf that can be an array is one array in the
arena, batch first. The arena has the same layout in every process, so that what one lane writes
into its rows is seen by the others without a copy.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space, spaces

ALIGNMENT_BYTES = 64
"""Arrays begin on cache lines of their own, so that two lanes never write to the same one."""

INFO_BYTES_PER_ROW = 4096
"""Room for info columns, for each sub-environment; what is not used is never paged in."""

WIDEST_ACTION_BYTES = 8
"""Actions travel in the dtype the user gave them, so that environments get the same bits as in a
loop; the room is that of the widest."""

ACTION_DTYPES = tuple(map(np.dtype, "?bBhHiIlLefd"))
"""Dtypes that actions may have in the arena; any other goes by pickle."""

MEMORYVIEW_CHARS = frozenset("?bBhHiIlLqQfd")
"""Dtypes of which a memoryview's items can be assigned."""

LEND_BYTES = 4 << 20
"""Batches of this size or more are lent. Smaller ones are copied within the caches of a core, where
another slot every time is not."""

LENT_SLOTS = 4
"""Slots of an arena whose observations are lent: see `Loans`. Slot 0 is never lent: it is copied
while the caller holds the others. A loop holds the last observations, and maybe those before."""

SPARE_JOBS = 256
"""Room in the queues of a worker beside one job for each row."""

_DTYPE_CODES = {dtype: code for code, dtype in reversed(list(enumerate(ACTION_DTYPES)))}


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


def leaves(space: Space[Any], path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
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


def assembled(space: Space[Any], parts: Iterator[Any]) -> Any:
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


def writer(space: Space[Any], batches: Mapping[tuple[str | int, ...], Any]) -> Write:
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


def _writer(space: Space[Any], batches: Mapping[Any, Any], path: tuple[str | int, ...]) -> Write:
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
    return batch.data if batch.dtype.char in MEMORYVIEW_CHARS else batch


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


@dataclass(frozen=True)
class Layout:
    """What the arena holds; the same plain value in every process.

    Attributes:
        num_envs: Rows of every batch.
        workers: Workers, each with a control block of its own.
        observations: The leaves of one observation that are arrays.
        actions: The leaves of one action, or None where actions go by pickle.
        slots: Sets of observations: 1, 2 where results are handed out without a copy, or
            `LENT_SLOTS` where they are lent; those begin on pages of their own.
        queues: Whether each sub-environment steps independently, with queues: see
            `rows`.
    """

    num_envs: int
    workers: int
    observations: tuple[Leaf, ...]
    actions: tuple[Leaf, ...] | None
    slots: int
    queues: bool = False

    @property
    def info_bytes(self) -> int:
        """Room for info columns, all rows together."""
        return self.num_envs * INFO_BYTES_PER_ROW

    def size_bytes(self) -> int:
        """The size of the block all of it needs."""
        *_, (_, dtype, shape, offset) = self.placed()
        return offset + _room_bytes(dtype, shape)

    def placed(self) -> Iterator[tuple[Any, np.dtype, tuple[int, ...], int]]:
        """The `arrays`, each with its offset in bytes."""
        offset, slot = 0, -1
        for name, dtype, shape in self.arrays():
            if self.slots == LENT_SLOTS and name[0] == "observation" and name[1] != slot:
                slot = name[1]
                offset = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
            yield name, dtype, shape, offset
            offset += _room_bytes(dtype, shape)

    def arrays(self) -> Iterator[tuple[Any, np.dtype, tuple[int, ...]]]:
        """Name, dtype and shape of every array, in the order in which they lie."""
        n = self.num_envs
        yield "control", np.dtype(np.uint64), (max(self.workers, 1), ALIGNMENT_BYTES // 8)
        yield "rewards", np.dtype(np.float64), (n,)
        yield "terminated", np.dtype(np.bool_), (n,)
        yield "truncated", np.dtype(np.bool_), (n,)
        yield "reset_seeds", np.dtype(np.int64), (n,)
        yield "reset_mask", np.dtype(np.bool_), (n,)
        yield "info_ids", np.dtype(np.uint8), (n,)
        for index, leaf in enumerate(self.actions or ()):
            width = WIDEST_ACTION_BYTES * int(np.prod(leaf.shape, dtype=int))
            yield ("action", index), np.dtype(np.uint8), (n * width,)
        yield "action_dtypes", np.dtype(np.uint8), (max(len(self.actions or ()), 1),)
        for slot in range(self.slots):
            for leaf in self.observations:
                assert leaf.dtype is not None
                yield ("observation", slot, leaf.path), leaf.dtype, (n, *leaf.shape)
        yield "info_columns", np.dtype(np.uint8), (self.info_bytes,)
        # One job for each row at the most, and some for a whole worker.
        length = -(-(n + SPARE_JOBS) // 8) * 8 if self.queues else 0
        yield "inboxes", np.dtype(np.int64), (self.workers, length)
        yield "outboxes", np.dtype(np.int64), (self.workers, length)


class Arena:
    """The arrays of a layout, over a block of memory.

    Attributes:
        rewards_data, terminated_data, truncated_data, info_ids_data: These arrays as memoryviews,
            which are faster to index.
        reset_seeds: Seeds of a reset, -1 for none.
        reset_mask: Which sub-environments it is of.
        action_dtype: The dtype of the action space, where actions are one array that fits here;
            `space_code` and `space_actions` are its code and the batch.
        observation_rows: By slot, what takes each row of the batch in a plain assignment: see
            `plain_rows`.
    """

    def __init__(self, layout: Layout, block: mmap.mmap) -> None:
        self.layout = layout
        arrays: dict[Any, np.ndarray] = {}
        for name, dtype, shape, offset in layout.placed():
            count = int(np.prod(shape, dtype=int))
            arrays[name] = np.frombuffer(block, dtype, count, offset).reshape(shape)
        self.control: np.ndarray = arrays["control"]
        self.rewards: np.ndarray = arrays["rewards"]
        self.terminated: np.ndarray = arrays["terminated"]
        self.truncated: np.ndarray = arrays["truncated"]
        self.reset_seeds: np.ndarray = arrays["reset_seeds"]
        self.reset_mask: np.ndarray = arrays["reset_mask"]
        self.info_ids: np.ndarray = arrays["info_ids"]
        self.info_columns: np.ndarray = arrays["info_columns"]
        self.action_dtypes: np.ndarray = arrays["action_dtypes"]
        self.inboxes: np.ndarray = arrays["inboxes"]
        self.outboxes: np.ndarray = arrays["outboxes"]
        # Made once for all the lanes of a process: what they share stays in its caches.
        self.rewards_data: Any = self.rewards.data
        self.info_ids_data: Any = self.info_ids.data
        self.terminated_data: Any = self.terminated.view(np.uint8).data
        self.truncated_data: Any = self.truncated.view(np.uint8).data
        self._actions = [arrays["action", index] for index in range(len(layout.actions or ()))]
        self._action_views: dict[tuple[int, int], np.ndarray] = {}
        self._action_dtype_of: Any = self.action_dtypes.data
        self.plain_actions: bool = layout.actions is not None and [
            leaf.path for leaf in layout.actions
        ] == [()]
        self.action_dtype: np.dtype | None = None
        self.space_code: int = 0
        self.space_actions: np.ndarray = np.empty(0)
        if self.plain_actions and layout.actions and layout.actions[0].dtype in _DTYPE_CODES:
            self.action_dtype = layout.actions[0].dtype
            self.space_code = _DTYPE_CODES[self.action_dtype]
            self.space_actions = self.action(0, self.space_code)
        self.observations: list[dict[tuple[str | int, ...], np.ndarray]] = [
            {leaf.path: arrays["observation", slot, leaf.path] for leaf in layout.observations}
            for slot in range(layout.slots)
        ]
        self.observation_rows: list[list[memoryview | None]] = [
            plain_rows(part.get(()), layout.num_envs) for part in self.observations
        ]

    def put_actions(self, actions: Any) -> bool:
        """Stores a batch of actions; False where a part of it is no array that fits the arena."""
        if type(actions) is np.ndarray:
            return self._put_leaf(0, actions) if self.plain_actions else False
        if self.layout.actions is None:
            return False
        for index, leaf in enumerate(self.layout.actions):
            try:
                batch = at(actions, leaf.path)
            except (KeyError, IndexError, TypeError):
                return False
            if type(batch) is not np.ndarray or not self._put_leaf(index, batch):
                return False
        return True

    def _put_leaf(self, index: int, batch: np.ndarray) -> bool:
        code = _DTYPE_CODES.get(batch.dtype)
        if code is None:
            return False
        target = self.action(index, code)
        if target.shape != batch.shape:
            return False
        target[...] = batch
        self._action_dtype_of[index] = code
        return True

    def put_some_actions(self, actions: np.ndarray, rows: np.ndarray) -> int | None:
        """Stores actions of some rows where those of others stay as they are.

        Args:
            actions: One for each of the rows; each is one array.
            rows: Which.

        Returns:
            The code of their dtype for `action`; None if they do not fit.
        """
        code = _DTYPE_CODES.get(actions.dtype) if self.plain_actions else None
        if code is not None:
            self.action(0, code)[rows] = actions
        return code

    def action(self, index: int, dtype_code: int) -> np.ndarray:
        """The batch of an action leaf, seen as a dtype of `ACTION_DTYPES`.

        Each row has its place whatever the dtype of others.
        """
        found = self._action_views.get((index, dtype_code))
        if found is None:
            assert self.layout.actions is not None
            dtype, shape = ACTION_DTYPES[dtype_code], self.layout.actions[index].shape
            used = int(np.prod(shape, dtype=int)) * dtype.itemsize
            rows = self._actions[index].reshape(self.layout.num_envs, -1)[:, :used]
            found = rows.view(dtype).reshape(self.layout.num_envs, *shape)
            self._action_views[index, dtype_code] = found
        return found


def plain_rows(batch: np.ndarray | None, num_envs: int) -> list[memoryview | None]:
    """The rows of a batch that is one array and whose rows are vectors, as memoryviews.

    `row[:] = value` raises TypeError or ValueError unless the value has the row's dtype and length,
    and takes half the time of an array's checks and assignment. Other rows are None.
    """
    if batch is None or batch.ndim != 2 or batch.dtype.char not in MEMORYVIEW_CHARS:
        return [None] * num_envs
    return [row.data for row in batch]


def _room_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    size = dtype.itemsize * int(np.prod(shape, dtype=int))
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class Loans:
    """Large batches of observations that are lent to the caller instead of copied.

    The caller may keep a result as long as it likes and change it, as if it were a copy. The arena
    has several slots, each for one batch of observations, and the calling process maps them a
    second time, privately: there a page that the caller changes becomes its own, and the arena's
    stays as it was. A result is an array of that second mapping. A slot is written again when no
    array refers to it any more. If all of them are held, results are copies.
    """

    _forks = 0  # of this process

    def __init__(self, layout: Layout, block: mmap.mmap) -> None:
        """Lends nothing yet.

        Args:
            layout: Of the arena.
            block: Its memory, mapped privately.
        """
        self._block = block
        self._batches = Arena(layout, block).observations
        self._unheld = [_holders(batch) for batch in self._batches]
        self._starts: dict[int, int] = {}  # of each slot, on a page of its own
        for name, _, _, offset in layout.placed():
            if name[0] == "observation":
                self._starts.setdefault(name[1], offset)
        self._lendable = set(range(1, layout.slots))
        self._lent: set[int] = set()
        self._next = 0
        self._forks_seen = Loans._forks

    def next_slot(self) -> int:
        """A slot for the next batch that the caller does not hold; 0 if it holds all others."""
        if self._forks_seen != Loans._forks:
            # A process that was forked from this one may hold what this one holds no more.
            self._forks_seen = Loans._forks
            self._lendable -= self._lent
        for slot in self._lendable:
            if _holders(self._batches[slot]) == self._unheld[slot]:
                if slot in self._lent:  # what the caller has changed in it is forgotten
                    start = self._starts[slot]
                    size = self._starts.get(slot + 1, len(self._block)) - start
                    self._block.madvise(mmap.MADV_DONTNEED, start, size)
                    self._lent.discard(slot)  # last: this may be interrupted
                self._next = slot
                return slot
        self._next = 0
        return 0

    def lend(self, slot: int) -> dict[Any, np.ndarray] | None:
        """The arrays of a batch that was written, by path; None where it must be copied.

        It is lent only once after `next_slot`, and what that gave must be what was written.
        """
        if slot == 0 or slot != self._next:
            return None
        self._lent.add(slot)
        self._next = 0
        return {path: array.view() for path, array in self._batches[slot].items()}


def _holders(batch: Mapping[Any, np.ndarray]) -> int:
    """References to what arrays are based on, as is all that is derived from one, however far."""
    return sum([sys.getrefcount(array.base) for array in batch.values()])


def _note_fork() -> None:
    Loans._forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_fork)
