"""The clocks that measuring reads; tests bring their own."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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
