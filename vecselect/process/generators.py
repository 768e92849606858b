"""The global random generators of a process: seeded in a child, kept in the caller."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.learner_threads import loaded_torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_environments_made = 0


def child_seed(index: int = 0) -> int:
    """A seed for the global generators of a child.

    It follows from the state of the caller's own generators, which stay as they are, and from how
    many vector environments were made before. So `numpy.random.seed(1)` at the top of a program
    makes repeatable what environments draw from global generators in workers too, whether or not
    anything had to be measured.
    """
    state: Any = np.random.get_state(legacy=True)
    parts = (state[1].tobytes(), state[2], random.getstate(), _environments_made, index)
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


def note_environment_made() -> None:
    """Counts a vector environment: the children of the next one get other seeds."""
    global _environments_made
    _environments_made += 1


def seed_generators(seed: int) -> None:
    """Gives a process's global random generators a seed."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))


@contextlib.contextmanager
def untouched_generators() -> Iterator[None]:
    """Restores the global generators of random, numpy and (if it is loaded) torch on leaving.

    Environments that draw from them would otherwise run differently after having been measured.
    torch's GPU generators are left alone: reading them would start CUDA.
    """
    torch = loaded_torch("get_rng_state")
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch:
            torch.set_rng_state(torch_state)
