"""The memory that this process and all that it has started take together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from pathlib import Path

PROPORTIONAL = "proportional set size"
RESIDENT = "resident set size"


def memory_kind() -> str:
    """What `tree_bytes` adds up on this system."""
    return RESIDENT if _proportional_bytes(os.getpid()) is None else PROPORTIONAL


def tree_bytes() -> int:
    """Memory of this process, of all that it has started, and of all below those.

    On Linux each process counts with its proportional set size, where pages that several share
    count once altogether; elsewhere with its resident set size, where they count in each.
    """
    import psutil

    # What a fork server of the caller's has started for this process is no child of it.
    started = {child.pid for child in multiprocessing.active_children()}
    pids = {os.getpid(), *(pid for pid in started if pid is not None)}
    for pid in tuple(pids):
        with contextlib.suppress(psutil.Error):  # it has just ended
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found = _proportional_bytes(pid)
            total += psutil.Process(pid).memory_info().rss if found is None else found
    return total


def _proportional_bytes(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "Pss:"), None)
