"""Where a worker's process begins. Imports nothing that reads the variables it sets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from vecselect.backends.pool.memory import Memory
    from vecselect.backends.pool.signals import Signal

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What numerical libraries read, when they are loaded, to know how many threads to start."""


def run(
    variables: Mapping[str, str],
    work: bytes,
    memory: Memory,
    go: Signal,
    done: Signal,
    pipe: Connection,
) -> None:
    """Runs a worker until it is told to end or its parent has gone.

    Args:
        variables: Environment variables to set where the user has not set them.
        work: What to do, pickled: a `worker.Work`.
        memory: The arena's block.
        go: Given by the parent when there is something to do.
        done: Given by the worker when it has been done.
        pipe: For everything that the arena cannot hold.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)

    from vecselect.backends.pool.worker import serve

    serve(work, memory, go, done, pipe)
