"""Child processes: what they are sent, how they begin, and how they are ended.

`contexts` has how they are started.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import random
import signal
import threading
import time
from multiprocessing import process
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError
from vecselect.forkserver import import_what_we_have
from vecselect.interrupts import DeferredInterrupts
from vecselect.machine import read_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

END_GRACE_S = 2.0
"""Seconds that a child may take to end after it was asked to, before it is terminated."""

TERMINATE_GRACE_S = 0.5
"""Seconds that it may take after that, before it is killed: a stopped one never ends."""

DESCRIPTORS_PER_CHILD = 3
DESCRIPTORS_SPARE = 16
"""File descriptors that children take here: measured 3 each, and some while one is started."""

_environments_made = 0


def need_descriptors(children: int) -> None:
    """Makes sure that so many children can be started, before the first one is.

    Raises:
        RequestError: If this process may not open enough files for it.
    """
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        return
    needed = children * DESCRIPTORS_PER_CHILD + DESCRIPTORS_SPARE
    if limit != resource.RLIM_INFINITY and used + needed > limit:
        raise RequestError(
            f"{children} processes take about {needed} file descriptors; this process has {used} "
            f"open and may have {limit}. Raise the limit (ulimit -n {used + needed}), or pin a "
            'mode with fewer workers, such as mode="pool:1".'
        )


def why_no_children() -> str | None:
    """One sentence if this process may not start processes, else None."""
    if process.current_process().daemon:
        return "this process is a daemon of multiprocessing, which may not start processes"
    return None


def dumps(value: Any) -> bytes:
    """Pickles `value`; what `__main__` or a function defines travels by value."""
    from gymnasium.vector.utils import CloudpickleWrapper

    return pickle.dumps(CloudpickleWrapper(value), protocol=pickle.HIGHEST_PROTOCOL)


def dumps_importable(value: Any) -> bytes:
    """Pickles `value` faster, for a receiver that can import all it is made of.

    A worker that answers its parent is in that position; where it is not, since the parent's
    `__main__` came to it by value, so does the answer.
    """
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return dumps(value)


def loads(data: bytes) -> Any:
    """The value that `dumps` or `dumps_importable` pickled."""
    from gymnasium.vector.utils import CloudpickleWrapper

    value = pickle.loads(data)
    return value.fn if isinstance(value, CloudpickleWrapper) else value


def why_unpicklable(functions: Sequence[Callable[[], Any]]) -> str | None:
    """One sentence if the functions cannot be sent to another process, else None."""
    try:
        dumps(tuple(functions))
    except Exception as error:  # pickling runs code of the user's objects: anything may come
        return f"the environment cannot be sent to another process ({error})"
    return None


def settle_in(seed: int) -> None:
    """Called first in every child that runs environments.

    The child gets a process group of its own, so that what its environments start can be ended with
    it, and global random generators of its own: children of one fork server would otherwise begin
    with the same numbers.

    Args:
        seed: What `child_seed` gave the parent for this child.
    """
    with contextlib.suppress(OSError, AttributeError):  # a session's leader, or no POSIX
        os.setpgid(0, 0)
    seed_generators(seed)


def seed_generators(seed: int) -> None:
    """Gives a process's global random generators a seed.

    Args:
        seed: What `child_seed` gave.
    """
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % (1 << 32))


def child_seed(index: int = 0) -> int:
    """A seed for the global generators of a child.

    It follows from the state of the caller's own generators, which stay as they are, and from how
    many vector environments were made before. So `numpy.random.seed(1)` at the top of a program
    makes repeatable what environments draw from global generators in workers too, whether or not
    anything had to be measured.

    Args:
        index: Tells the children of one vector environment from each other.
    """
    import numpy as np

    state: Any = np.random.get_state(legacy=True)
    parts = (state[1].tobytes(), state[2], random.getstate(), _environments_made, index)
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


def note_environment_made() -> None:
    """Says that the children of the next vector environment are to have other seeds."""
    global _environments_made
    _environments_made += 1


def how_it_ended(exitcode: int | None) -> str:
    """How a process ended, in words that follow its name."""
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        return f"was ended by {signal.Signals(-exitcode).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-exitcode}"


def memory_picture(exitcode: int | None) -> str:
    """What may have led to SIGKILL, which the kernel sends when memory runs out; else nothing.

    Returns:
        A sentence with a blank before it, or an empty string.
    """
    killed = getattr(signal, "SIGKILL", None)  # Windows has none
    if killed is None or exitcode != -killed:
        return ""
    import psutil

    total_bytes, free_bytes = read_memory()
    sizes = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            sizes.append(child.memory_info().rss)
    others = f"; {len(sizes)} other children hold {sum(sizes) / 1e9:.1f} GB" if sizes else ""
    return (
        " vecselect does not send that signal: the machine may be out of memory "
        f"({free_bytes / 1e9:.1f} of {total_bytes / 1e9:.1f} GB are free now{others})."
    )


def end_all(children: Sequence[BaseProcess], grace_s: float = END_GRACE_S) -> None:
    """Waits for children to end; terminates those that do not, then kills those.

    Whatever they have started in their process groups, and left running, is killed when they are
    reaped.

    Args:
        children: Started processes.
        grace_s: Seconds to wait, for all together, before they are terminated.
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
        import_what_we_have()  # now that nothing waits for it: the next workers start sooner


def _signal_all(children: Sequence[BaseProcess], method: str, wait_s: float) -> None:
    """Terminates or kills those that have not ended, and waits for them."""
    stuck = [child for child in children if child.exitcode is None]
    for child in stuck:  # all at once, so that many take no longer than one
        getattr(child, method)()
    _join(stuck, wait_s)


def _join(children: Sequence[BaseProcess], limit_s: float) -> None:
    """Waits for processes to end, for all together no longer than the time limit."""
    until_s = time.monotonic() + limit_s
    for child in children:
        child.join(max(until_s - time.monotonic(), 0.0))


def end_in_background(children: Sequence[BaseProcess]) -> None:
    """Ends children as `end_all` does, without making the caller wait for it.

    Args:
        children: Started processes that were told to end.
    """
    threading.Thread(
        target=end_all, args=(list(children),), name="vecselect-end", daemon=True
    ).start()
