"""Starting a worker process, with the semaphores and the pipe that lead to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.backends.pool.entry import THREAD_VARIABLES, run
from vecselect.backends.pool.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from vecselect.backends.pool.memory import Memory


@dataclass(frozen=True)
class Launched:
    """A worker process that was started, and what leads to it.

    Attributes:
        process: The process.
        go: Given by the caller when there is something to do.
        done: Given by the worker when it has been done.
        pipe: The caller's end, for everything that shared memory cannot hold.
    """

    process: BaseProcess
    go: Signal
    done: Signal
    pipe: Connection

    def forget_names(self) -> None:
        """Removes the names of the semaphores, which the worker has opened or will never need."""
        self.go.forget_name()
        self.done.forget_name()


def launch(
    context: BaseContext, task: Any, memory: Memory, *, daemon: bool, threads: int, name: str
) -> Launched:
    """Starts a worker process; it takes up its task by itself.

    Args:
        context: Of multiprocessing.
        task: What it begins with: see `worker.serve`.
        memory: The block that it shares with the caller.
        daemon: Whether it is a daemon, which may not start processes itself.
        threads: Threads that its numerical libraries may start.
        name: Of the process.

    Raises:
        StartError: If the system refuses that.
    """
    go, done = Signal(context), Signal(context)
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=run,
        args=(_thread_variables(threads), processes.dumps(task), memory, go, done, theirs),
        name=name,
        daemon=daemon,
    )
    launched = Launched(process, go, done, ours)
    try:
        process.start()
    except BaseException:
        launched.forget_names()
        ours.close()
        raise
    finally:
        theirs.close()
    return launched


def _thread_variables(threads: int) -> Mapping[str, str]:
    """What a worker's numerical libraries are told, where the user has not told them."""
    return {name: str(threads) for name in THREAD_VARIABLES if name not in os.environ}
