"""Contexts of multiprocessing for what runs environments, on every system.

In every process that one of them starts

- the environment variables, the working folder, the umask, the usable cores and `sys.path` are
  those of the caller at that time, and are set before anything is imported;
- the user's script is not run a second time, so that no script needs an
  `if __name__ == "__main__"` guard;
- Ctrl-C is ignored: it is the caller's to handle.

A process that is forked from one that has used them, as by `os.fork` or a `ProcessPoolExecutor`,
has no part in the workers of that one, and starts its own afresh.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import time
from multiprocessing import connection, context
from typing import TYPE_CHECKING, Any

from vecselect.errors import refusals_named
from vecselect.process.forkserver import LOOK_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.context import BaseContext

POSIX = "fork" in multiprocessing.get_all_start_methods()
"""Whether there are process groups, signals to processes, and descriptors that can be sent."""

if POSIX:
    from vecselect.process.posix import PROCESS_CLASSES
else:
    from vecselect.process.windows import PROCESS_CLASSES

ORPHAN_GRACE_S = 1.5
"""Seconds that a worker whose parent has gone may take to close its sub-environments."""


def start_methods() -> tuple[str, ...]:
    """The start methods of this platform, the default first.

    `spawn` is the default where it is multiprocessing's: on macOS, whose libraries do not bear a
    fork. `fork` never is: it copies locks that other threads hold, so that with torch loaded in the
    parent a forked worker deadlocks. A user who wants it says so with `context="fork"`.
    """
    available = multiprocessing.get_all_start_methods()
    first = ("spawn", "forkserver") if available[0] == "spawn" else ("forkserver", "spawn")
    return tuple(method for method in (*first, "fork") if method in available)


def get_context(method: str | None = None) -> BaseContext:
    """The context of multiprocessing for a start method."""
    return _CONTEXTS[method or start_methods()[0]]


def run_with_variables(variables: Mapping[str, str], function: str, *arguments: Any) -> None:
    """Runs a function in a child, whose module is imported once environment variables are set.

    Args:
        variables: The variables; those that the user has set stay as they are.
        function: As `module:name`.
        *arguments: Of the function. Unpickling them must not import what reads the variables.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    pkgutil.resolve_name(function)(*arguments)


def registered(method: str | None = None) -> str:
    """A name by which `multiprocessing.get_context` finds the context for a start method.

    Gymnasium's `AsyncVectorEnv` takes no context, but the name of one, and nothing public of
    multiprocessing adds a name.
    """
    known: dict[str, Any] = context._concrete_contexts  # type: ignore[attr-defined]
    name = f"vecselect-{method or start_methods()[0]}"
    known[name] = get_context(method)
    return name


class _Context(context.BaseContext):
    """A context that starts one class of processes; `OSError` becomes a `StartError`."""

    def __init__(self, process_class: Any) -> None:
        self._name = process_class._start_method
        self.Process = process_class

    Array = refusals_named()(context.BaseContext.Array)
    Queue = refusals_named()(context.BaseContext.Queue)
    Semaphore = refusals_named()(context.BaseContext.Semaphore)


_CONTEXTS = {one._start_method: _Context(one) for one in PROCESS_CLASSES}


class ParentWatch(threading.Thread):
    """Ends this worker once its parent process has exited, even if a sub-environment hangs.

    Attributes:
        gone: Set once the parent has gone.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """Starts the thread."""
        super().__init__(daemon=True, name="vecselect-watch-parent")
        self.gone: threading.Event = threading.Event()
        self._wake = wake
        self.start()

    def run(self) -> None:
        """Waits for the parent to exit, then `ORPHAN_GRACE_S` more, and kills this process."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        current: Any = multiprocessing.current_process()  # one of `PROCESS_CLASSES`
        file = current.parent_file
        # A forked sibling of the parent may hold the other end of the sentinel. Where no file tells
        # of the parent itself, the parent's id does, if this is a direct child.
        files = [parent.sentinel] if file < 0 else [parent.sentinel, file]
        direct = file < 0 and parent.pid == os.getppid()
        while not connection.wait(files, LOOK_S if direct else None):
            if direct and os.getppid() != parent.pid:
                break
        self.gone.set()
        self._wake()
        time.sleep(ORPHAN_GRACE_S)
        _kill_own_group()
        os._exit(1)

    def end_orphan(self, wait_s: float = 0.0) -> None:
        """Called when all is closed: kills this process as `run` does if its parent has exited."""
        if self.gone.wait(wait_s):
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            _kill_own_group()


def _kill_own_group() -> None:
    """Kills this process and its group, if it leads one; see `children.prepare_child`."""
    if POSIX and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
