"""Child processes: how they begin, and how they are ended.

`contexts` has how they are started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from multiprocessing import process
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError
from vecselect.process import generators
from vecselect.process.interrupts import DeferredInterrupts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess

END_GRACE_S = 2.0
"""Seconds that a child may take to end after it was asked to, before it is terminated."""

TERMINATE_GRACE_S = 0.5
"""Seconds that it may take after that, before it is killed: a stopped one never ends."""

DESCRIPTORS_PER_CHILD = 2
DESCRIPTORS_SPARE = 16
"""File descriptors that children take here: measured 2 each beside its pipes, and some while one is
started."""


def need_descriptors(children: int, pipes: int = 1) -> None:
    """Checks that this process may open the files that starting `children` processes takes."""
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        return
    needed = children * (DESCRIPTORS_PER_CHILD + pipes) + DESCRIPTORS_SPARE
    if limit != resource.RLIM_INFINITY and used + needed > limit:
        raise RequestError(
            f"{children} processes take about {needed} file descriptors; this process has {used} "
            f"open and may have {limit}. Raise the limit (ulimit -n {used + needed}), or pin a "
            'mode with fewer workers, such as mode="pool:1".'
        )


def why_no_children() -> str | None:
    """Why this process may not start processes, as a sentence; None if it may."""
    if process.current_process().daemon:
        return "this process is a daemon of multiprocessing, which may not start processes"
    return None


def prepare_child(seed: int) -> None:
    """Prepares a child process to run environments; called first in each.

    The child gets a process group of its own, so that what its environments start can be ended with
    it, and global random generators of its own: children of one fork server would otherwise begin
    with the same numbers.
    """
    with contextlib.suppress(OSError, AttributeError):  # a session's leader, or no POSIX
        os.setpgid(0, 0)
    generators.seed_generators(seed)


def how_it_ended(exitcode: int | None) -> str:
    """How a process ended, as a predicate: `exited with code 1`."""
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        return f"was ended by {signal.Signals(-exitcode).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-exitcode}"


def end_all(children: Sequence[BaseProcess], grace_s: float = END_GRACE_S) -> None:
    """Waits for children to exit; terminates, then kills, those that do not.

    Whatever they have started in their process groups, and left running, is killed when they are
    reaped.
    """
    try:
        _join(children, grace_s)
    finally:
        with (
            DeferredInterrupts()
        ):  # one that is left would be waited for at the program's end, for ever
            try:
                _signal_all(children, "terminate", TERMINATE_GRACE_S)
            finally:  # whatever the handler of a signal raises meanwhile
                _signal_all(children, "kill", END_GRACE_S)
        for child in children:
            if child.exitcode is not None:
                child.close()


def _signal_all(children: Sequence[BaseProcess], method: str, wait_s: float) -> None:
    """Calls `method`, `terminate` or `kill`, on those still running, and waits up to `wait_s`."""
    stuck = [child for child in children if child.exitcode is None]
    for child in stuck:  # all at once, so that many take no longer than one
        getattr(child, method)()
    _join(stuck, wait_s)


def _join(children: Sequence[BaseProcess], limit_s: float) -> None:
    """Waits up to `limit_s` in all for the processes to exit."""
    until_s = time.monotonic() + limit_s
    for child in children:
        child.join(max(until_s - time.monotonic(), 0.0))


def end_in_background(children: Sequence[Any]) -> None:
    """Ends children as `end_all` does, without making the caller wait for it."""
    threading.Thread(
        target=end_all, args=(list(children),), name="vecselect-end", daemon=True
    ).start()
