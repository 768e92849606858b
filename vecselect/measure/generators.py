"""Leaving the process's global random generators as they were found."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np

from vecselect.learner_threads import loaded_torch

if TYPE_CHECKING:
    from collections.abc import Iterator


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
