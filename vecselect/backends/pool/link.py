"""What a worker process is started with and reached by: shared memory, signals, pipes.

Imports neither numpy nor anything else that reads environment variables: those of a worker are set
after it has unpickled these (see `contexts.run_with_variables`).
"""

from __future__ import annotations

import mmap
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from vecselect.process.contexts import POSIX
from vecselect.process.interrupts import DeferredInterrupts

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.synchronize import Semaphore

DEFAULT_TRIES = 2000
"""Tries to take a semaphore before sleeping. A try with `sched_yield` costs about half a
microsecond, so a lane that waits spins for about a millisecond and then costs nothing."""

EAGER_TRIES = 60
"""How many of the tries come one right after the other, in two microseconds: lanes of equal length
end within that of each other, and a `sched_yield` between tries would notice it late."""

SPIN_LIMIT_S = 0.002
"""Spinning ends after this time too, where `sched_yield` takes longer."""

LONG_YIELD_S = 2e-5
"""After a `sched_yield` that takes longer another program has had the core: often the other side
itself, where the system has put both on one core while another is idle. They would stay there for
long, since neither ever sleeps. So the next wait sleeps, and who is woken gets the idle core."""

VAIN_SPINS = 4
"""After so many waits in a row that outlasted the spinning, as beside a learner that takes long,
there are only the tries of the first microseconds, so that waiting costs no core."""

SPIN_PERIOD = 16
"""One of so many waits is spun through all the same, to notice when they have become short."""

WATCH_PERIOD_S = 0.2
"""While the caller sleeps, it checks this often whether the worker is still there."""

_yield: Callable[[], None] = getattr(os, "sched_yield", partial(time.sleep, 0))


@dataclass(frozen=True)
class Port:
    """What one buffer shares with the lane that a worker process has for it.

    Attributes:
        memory: The block of the buffer's arena.
        done: Given by the worker when a command of this buffer is done.
        pipe: One end of a pipe, for everything that shared memory cannot hold.
    """

    memory: Memory
    done: Signal
    pipe: Connection


class Memory:
    """A block of shared memory without a name that could be left behind.

    It is sent to a child process when that is started. Its size may be set later, by the process
    that made it, since what it has to hold is known only when environments are built. Pages that
    are never written take no room, so a generous size costs nothing.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._on_disk = False
        try:
            self._fd = os.memfd_create("vecselect")  # not bound by /dev/shm, 64 MB in containers
        except (AttributeError, OSError):  # not Linux; an old kernel, or a sandbox that refuses it
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())
            self._on_disk = True

    def resize(self, size_bytes: int) -> None:
        """Sets its size.

        Raises:
            OSError: If there is no room for it.
        """
        os.ftruncate(self._fd, size_bytes)
        if self._on_disk and hasattr(os, "posix_fallocate"):
            # A disk that turns out to be full when a page is written ends the program by a signal.
            os.posix_fallocate(self._fd, 0, size_bytes)

    def mapped(self, size_bytes: int) -> mmap.mmap:
        """Maps all of it, in any process, once its size is set."""
        return mmap.mmap(self._fd, size_bytes)

    @property
    def lends(self) -> bool:
        """Whether it can be mapped privately by way of memory alone: see `Loans`."""
        return self._fd >= 0 and not self._on_disk and hasattr(mmap, "MADV_DONTNEED")

    def mapped_privately(self, size_bytes: int) -> mmap.mmap:
        """Maps all of it so that pages which are written here are copied."""
        return mmap.mmap(self._fd, size_bytes, flags=mmap.MAP_PRIVATE)

    def forget_descriptor(self) -> None:
        """Closes the descriptor; what was mapped stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        """Closes the descriptor, where it was kept for workers to come."""
        self.forget_descriptor()

    def __getstate__(self) -> Any:
        """A descriptor that arrives in the child."""
        return reduction.DupFd(self._fd)

    def __setstate__(self, descriptor: Any) -> None:
        """The same memory in the child."""
        self._fd = descriptor.detach()
        self._on_disk = False


class WindowsMemory(Memory):
    """One on Windows, where the system removes the name with the last process that has mapped it.

    Until it is mapped there is nothing but the name: a mapping cannot change its size.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._name = f"vecselect-{secrets.token_hex(16)}"

    def resize(self, size_bytes: int) -> None:
        """Does nothing: `mapped` gives the size."""

    def mapped(self, size_bytes: int) -> mmap.mmap:
        """Maps all of it, in any process."""
        named: Any = mmap.mmap
        block: mmap.mmap = named(-1, size_bytes, tagname=self._name)
        return block

    def __getstate__(self) -> Any:
        """The name."""
        return self._name

    def __setstate__(self, name: Any) -> None:
        """The same memory in the child."""
        self._fd = -1
        self._name = name


def new_memory() -> Memory:
    """A block of memory that can be shared with child processes."""
    return Memory() if POSIX else WindowsMemory()


class Signal:
    """One direction of a hand-off. Giving it makes all earlier writes visible to the taker.

    A semaphore of multiprocessing, spun on before it is slept on. It loses its name as soon as the
    other side has opened it, so that no way of dying leaves the name behind. Only what every system
    can do is used: macOS can neither tell a semaphore's value nor wait for a limited time without
    polling. So workers, which wait for commands, wait without a limit.

    Attributes:
        acquire: Takes it, given False only if it was given already; returns whether it was taken.
        release: Gives it: wakes the other side.
    """

    def __init__(self, context: BaseContext) -> None:
        """Makes it for a process that is to be started with this context."""
        with DeferredInterrupts():  # Ctrl-C could come when it has a name that nobody removes yet
            self._use(context.Semaphore(0))

    def _use(self, semaphore: Semaphore) -> None:
        self._named: Semaphore | None = semaphore
        self._vain_spins = 0
        self._sleeps_next = False
        self.acquire: Callable[..., bool] = semaphore.acquire
        self.release: Callable[[], None] = semaphore.release

    def forget_name(self) -> None:
        """Removes the name, which only serves to send the signal to a process being started."""
        # multiprocessing removes it with the object that it made. The two methods are not bound to
        # that, but to the semaphore itself, which they keep open. Python would lose Ctrl-C there.
        with DeferredInterrupts():
            self._named = None

    def __getstate__(self) -> Semaphore | None:
        """What the other side opens it by."""
        return self._named

    def __setstate__(self, semaphore: Semaphore) -> None:
        """Opens it in the other process."""
        self._use(semaphore)
        self._named = None

    def give(self) -> None:
        """Wakes the other side."""
        self.release()

    def wait(self, tries: int) -> None:
        """Waits for the other side as long as it takes; so many tries without sleeping."""
        if not self.spun(tries):
            self.acquire()

    def take(
        self, tries: int, check: Callable[[], None], deadline_s: Callable[[], float] | None = None
    ) -> bool:
        """Waits for the other side, and calls `check` now and then.

        Args:
            tries: Tries without sleeping.
            check: Called every `WATCH_PERIOD_S` while sleeping; raises to end the waiting.
            deadline_s: Gives the seconds that are left; waits as long as it takes by default.

        Returns:
            True, or False if the time ran out.
        """
        if self.spun(tries):
            return True
        while True:
            period_s = WATCH_PERIOD_S
            if deadline_s is not None:
                period_s = min(period_s, max(deadline_s(), 0.0))
            if self.acquire(True, period_s):
                return True
            check()
            if deadline_s is not None and deadline_s() <= 0:
                return False

    def spun(self, tries: int) -> bool:
        """Tries to take it without sleeping; returns whether it was taken."""
        acquire = self.acquire
        for _ in range(min(tries, EAGER_TRIES)):
            if acquire(False):
                self._vain_spins = 0
                return True
        if tries <= EAGER_TRIES:
            return False
        self._vain_spins = vain = self._vain_spins + 1
        if self._sleeps_next or (vain > VAIN_SPINS and vain % SPIN_PERIOD):
            self._sleeps_next = False
            return False
        now_s = time.perf_counter()
        until_s = now_s + SPIN_LIMIT_S
        for _ in range(tries - EAGER_TRIES):
            if acquire(False):
                self._vain_spins = 0
                return True
            _yield()
            before_s, now_s = now_s, time.perf_counter()
            if now_s - before_s > LONG_YIELD_S:
                taken = self._sleeps_next = acquire(False)
                return taken
            if now_s > until_s:
                break
        return False
