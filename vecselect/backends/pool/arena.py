"""The arena: every array that lanes share, laid out alike in every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.backends.pool.layout import ALIGNMENT_BYTES, Leaf, at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

INFO_BYTES_PER_ROW = 4096
"""Room for info columns, for each sub-environment; what is not used is never paged in."""

WIDEST_ACTION_BYTES = 8
"""Actions travel in the dtype the user gave them, so that environments get the same bits as in a
loop; the room is that of the widest."""

ACTION_DTYPES = tuple(map(np.dtype, "?bBhHiIlLefd"))
"""Dtypes that actions may have in the arena; any other goes by pickle."""

_DTYPE_CODES = {dtype: code for code, dtype in reversed(list(enumerate(ACTION_DTYPES)))}


@dataclass(frozen=True)
class Layout:
    """What the arena holds; the same plain value in every process.

    Attributes:
        num_envs: Rows of every batch.
        workers: Workers, each with a control block of its own.
        observations: The leaves of one observation that are arrays.
        actions: The leaves of one action, or None where actions go by pickle.
        buffers: Sets of observations: 1, or 2 where results are handed out without a copy.
    """

    num_envs: int
    workers: int
    observations: tuple[Leaf, ...]
    actions: tuple[Leaf, ...] | None
    buffers: int

    @property
    def info_bytes(self) -> int:
        """Room for info columns, all rows together."""
        return self.num_envs * INFO_BYTES_PER_ROW

    def size_bytes(self) -> int:
        """The size of the block all of it needs."""
        return sum(_room_bytes(dtype, shape) for _, dtype, shape in self.arrays())

    def arrays(self) -> Iterator[tuple[Any, np.dtype, tuple[int, ...]]]:
        """Name, dtype and shape of every array, in the order in which they lie."""
        n = self.num_envs
        yield "control", np.dtype(np.uint8), (max(self.workers, 1), ALIGNMENT_BYTES)
        yield "rewards", np.dtype(np.float64), (n,)
        yield "terminated", np.dtype(np.bool_), (n,)
        yield "truncated", np.dtype(np.bool_), (n,)
        yield "info_ids", np.dtype(np.uint8), (n,)
        for index, leaf in enumerate(self.actions or ()):
            width = WIDEST_ACTION_BYTES * int(np.prod(leaf.shape, dtype=int))
            yield ("action", index), np.dtype(np.uint8), (n * width,)
        yield "action_dtypes", np.dtype(np.uint8), (max(len(self.actions or ()), 1),)
        for buffer in range(self.buffers):
            for leaf in self.observations:
                assert leaf.dtype is not None
                yield ("observation", buffer, leaf.path), leaf.dtype, (n, *leaf.shape)
        yield "info_columns", np.dtype(np.uint8), (self.info_bytes,)


class Arena:
    """The arrays of a layout, over a block of memory.

    Attributes:
        rewards_data, terminated_data, truncated_data: These arrays as memoryviews, which are faster
            to index.
        observation_rows: By buffer, the rows of the batch; empty unless it is one array.
    """

    def __init__(self, layout: Layout, block: mmap) -> None:
        self.layout = layout
        arrays: dict[Any, np.ndarray] = {}
        offset = 0
        for name, dtype, shape in layout.arrays():
            count = int(np.prod(shape, dtype=int))
            arrays[name] = np.frombuffer(block, dtype, count, offset).reshape(shape)
            offset += _room_bytes(dtype, shape)
        self.control = arrays["control"]
        self.rewards = arrays["rewards"]
        self.terminated = arrays["terminated"]
        self.truncated = arrays["truncated"]
        self.info_ids = arrays["info_ids"]
        self.info_columns = arrays["info_columns"]
        self.action_dtypes = arrays["action_dtypes"]
        # Made once for all the lanes of a process: what they share stays in its caches.
        self.rewards_data: Any = self.rewards.data
        self.terminated_data = self.terminated.view(np.uint8).data
        self.truncated_data = self.truncated.view(np.uint8).data
        self._actions = [arrays["action", index] for index in range(len(layout.actions or ()))]
        self._action_views: dict[tuple[int, int], np.ndarray] = {}
        self._action_dtype_of: Any = self.action_dtypes.data
        self.plain_actions = layout.actions is not None and [
            leaf.path for leaf in layout.actions
        ] == [()]
        self.observations = [
            {leaf.path: arrays["observation", buffer, leaf.path] for leaf in layout.observations}
            for buffer in range(layout.buffers)
        ]
        self.observation_rows = [_rows(part.get(())) for part in self.observations]

    def put_actions(self, actions: Any) -> bool:
        """Stores a batch of actions.

        Returns:
            False, with nothing of use stored, where a part of it is no array of the right shape and
            of a dtype that the arena can hold.
        """
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

    def action(self, index: int, dtype_code: int) -> np.ndarray:
        """The batch of an action leaf, seen as a dtype of `ACTION_DTYPES`."""
        key = (index, dtype_code)
        found = self._action_views.get(key)
        if found is None:
            assert self.layout.actions is not None
            shape = (self.layout.num_envs, *self.layout.actions[index].shape)
            dtype = ACTION_DTYPES[dtype_code]
            used = self._actions[index][: int(np.prod(shape, dtype=int)) * dtype.itemsize]
            found = self._action_views[key] = used.view(dtype).reshape(shape)
        return found


def _rows(batch: np.ndarray | None) -> list[np.ndarray]:
    """Views of the rows of a batch that is one array, unless a row is one number."""
    return [] if batch is None or batch.ndim < 2 else list(batch)


def _room_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    size = dtype.itemsize * int(np.prod(shape, dtype=int))
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
