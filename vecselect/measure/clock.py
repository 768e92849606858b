"""Clocks: of a single step, of the other threads of this process, of other programs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.machine import process_tree, spare_cores, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable


TICK_S = 0.01
"""Resolution of the system's own accounting; over less than a few ticks it says nothing."""

MIN_SPAN_S = 0.03

SPINS = 0.1
"""Other threads that keep fewer cores busy than this do not spin."""


def voluntary_switches() -> int | None:
    """How often this thread has given up its core to wait for something; None if unknown."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):  # Windows; macOS counts no threads
        return None


@dataclass(frozen=True)
class Clock:
    """Sources of nanoseconds: time that passes, and CPU time of this thread and of all."""

    wall_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.thread_time_ns
    process_ns: Callable[[], int] = time.process_time_ns
    switches: Callable[[], int | None] = voluntary_switches

    def wall_overhead_ns(self) -> int:
        """What one pair of readings adds to whatever is timed between them: the least of many."""
        return min(-self.wall_ns() + self.wall_ns() for _ in range(100))

    def cpu_overhead_ns(self) -> int:
        """CPU time of one pair of wall readings between two CPU readings: the least of many."""
        spans = []
        for _ in range(100):
            start = self.cpu_ns()
            self.wall_ns()
            self.wall_ns()
            spans.append(self.cpu_ns() - start)
        return min(spans)


class OtherThreads:
    """CPU time of the threads of this process other than the calling one, from its creation on."""

    def __init__(self) -> None:
        """Begins to count for the thread that calls."""
        self._clocks = _clocks_of_others()
        self._start_s = self._read_s()

    @property
    def count(self) -> int:
        """The other threads that there were in the beginning; 0 where the system does not tell."""
        return len(self._clocks or ())

    def seconds(self) -> float:
        """CPU seconds of the other threads so far; threads that were started later do not count."""
        return max(self._read_s() - self._start_s, 0.0)

    def _read_s(self) -> float:
        if self._clocks is None:
            return time.process_time() - time.thread_time()
        read_s = 0.0
        for clock in self._clocks:
            try:
                read_s += time.clock_gettime(clock)
            except OSError:  # the thread has ended
                continue
        return read_s


def _clocks_of_others() -> list[int] | None:
    """The CPU clock of each other thread as `clock_gettime` takes it; None where there is none.

    What `process_time` says of a thread that is running on another core is as old as that core's
    last tick, up to 10 ms. Linux brings the clock of a single thread up to date when it is read.
    """
    try:
        own = threading.get_native_id()
        # The number of a thread's clock: see clock_getcpuclockid in Linux.
        clocks = [
            (~number << 3) | 6
            for number in map(int, os.listdir("/proc/self/task"))
            if number != own
        ]
        for clock in clocks[:1]:
            time.clock_gettime(clock)
    except (OSError, AttributeError, ValueError):
        return None
    return clocks


class ForeignLoad:
    """Counts, from its creation on, the cores that other programs take from this one.

    They take those that they keep busy beyond `machine.spare_cores`: in a container with a quota of
    2 of 64 cores, whoever keeps the others busy takes nothing.
    """

    def __init__(self) -> None:
        self._before = _read()

    def cores(self) -> float:
        """Cores taken by others on average since the creation; 0.0 where that is not known."""
        after = _read()
        if self._before is None or after is None:
            return 0.0
        wall_s, busy_s, own_s = (b - a for a, b in zip(self._before, after, strict=True))
        if wall_s < MIN_SPAN_S:
            return 0.0
        busy = (busy_s - max(own_s, 0.0)) / wall_s - TICK_S / wall_s
        return max(busy - spare_cores(), 0.0)


def _read() -> tuple[float, float, float] | None:
    """Wall time, busy CPU time of the usable cores, and CPU time of `process_tree`."""
    try:
        import psutil

        busy_s = own_s = 0.0
        every = psutil.cpu_times(percpu=True)
        for times in (every[cpu] for cpu in usable_cpus() if cpu < len(every)):
            busy_s += sum(times) - times.idle - getattr(times, "iowait", 0.0)
            busy_s -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        for pid in process_tree():
            with contextlib.suppress(psutil.Error):  # it has just ended
                # With the time of children that have ended.
                own_s += sum(psutil.Process(pid).cpu_times()[:4])
        return time.perf_counter(), busy_s, own_s
    except Exception:  # without /proc, or on a system it does not know, psutil raises anything
        return None
