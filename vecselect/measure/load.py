"""How much of the cores other programs use while something is measured."""

from __future__ import annotations

import time
from typing import Any

TICK_S = 0.01
"""Resolution of the system's own accounting; over less than a few ticks it says nothing."""

MIN_SPAN_S = 0.03


class ForeignLoad:
    """Counts, from its creation on, the cores that programs other than this one keep busy.

    From the system's CPU times (`/proc/stat` on Linux) less those of this process and of all
    processes below it.
    """

    def __init__(self) -> None:
        self._before = _read()

    def cores(self) -> float:
        """Cores kept busy by others on average since the creation; 0.0 where that is not known."""
        after = _read()
        if self._before is None or after is None:
            return 0.0
        wall_s, busy_s, own_s = (b - a for a, b in zip(self._before, after, strict=True))
        if wall_s < MIN_SPAN_S:
            return 0.0
        return max((busy_s - max(own_s, 0.0)) / wall_s - TICK_S / wall_s, 0.0)


def _read() -> tuple[float, float, float] | None:
    """Wall time, busy CPU time of all cores, and CPU time of this process and those below it."""
    try:
        import psutil

        times = psutil.cpu_times()
        busy_s = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        busy_s -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return time.perf_counter(), busy_s, _own_s(psutil)
    except Exception:  # without /proc, or on a system it does not know, psutil raises anything
        return None


def _own_s(psutil: Any) -> float:
    """CPU seconds of this process, of its ended children and of the living processes below it."""
    process = psutil.Process()
    own_s = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        try:
            own_s += sum(child.cpu_times()[:2])
        except psutil.Error:  # it has ended meanwhile
            continue
    return float(own_s)
