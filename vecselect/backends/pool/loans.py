"""Large batches of observations that are lent to the caller instead of copied.

The caller may keep a result as long as it likes and change it, as if it were a copy. The arena has
several slots, each for one batch of observations, and the calling process maps them a second time,
privately: there a page that the caller changes becomes its own, and the arena's stays as it was. A
result is an array of that second mapping. A slot is written again when no array refers to it any
more. If all of them are held, results are copies.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vecselect.backends.pool.arena import Layout

LEND_BYTES = 4 << 20
"""Batches of this size or more are lent. Smaller ones are copied within the caches of a core, where
another slot every time is not."""


class Loans:
    """What the caller has of the slots of an arena."""

    _forks = 0  # of this process

    def __init__(self, layout: Layout, block: mmap.mmap) -> None:
        """Lends nothing yet.

        Args:
            layout: Of the arena.
            block: Its memory, mapped privately.
        """
        self._block = block
        self._shapes = {leaf.path: (layout.num_envs, *leaf.shape) for leaf in layout.observations}
        self._roots, self._spans = _slots(layout, block)
        self._unheld = [_holders(roots) for roots in self._roots]
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
            if _holders(self._roots[slot]) == self._unheld[slot]:
                if slot in self._lent:  # what the caller has changed in it is forgotten
                    self._block.madvise(mmap.MADV_DONTNEED, *self._spans[slot])
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
        shapes = self._shapes.items()
        return {
            path: root.reshape(shape)
            for (path, shape), root in zip(shapes, self._roots[slot], strict=True)
        }


def _slots(
    layout: Layout, block: mmap.mmap
) -> tuple[list[list[np.ndarray]], list[tuple[int, int]]]:
    """The flat arrays of each slot; and the offset and the size of each, in bytes."""
    roots: list[list[np.ndarray]] = [[] for _ in range(layout.slots)]
    starts, ends = [sys.maxsize] * layout.slots, [0] * layout.slots
    for name, dtype, shape, offset in layout.placed():
        if name[0] == "observation":
            slot, count = name[1], int(np.prod(shape, dtype=int))
            roots[slot].append(np.frombuffer(block, dtype, count, offset))
            starts[slot] = min(starts[slot], offset)
            ends[slot] = offset + count * dtype.itemsize
    return roots, [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def _holders(roots: list[np.ndarray]) -> int:
    """References to arrays: every array that is derived from one, however far, refers to it."""
    return sum([sys.getrefcount(root) for root in roots])


def _note_fork() -> None:
    Loans._forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_fork)
