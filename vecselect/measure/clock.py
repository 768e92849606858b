"""The clocks that measuring reads; tests bring their own."""

from __future__ import annotations

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
