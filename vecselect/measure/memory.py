"""The memory that this process and all its children take together."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROPORTIONAL = "proportional set size"
RESIDENT = "resident set size"


def memory_kind() -> str:
    """What `tree_bytes` adds up on this system."""
    return RESIDENT if _proportional_bytes(os.getpid()) is None else PROPORTIONAL


def tree_bytes() -> int:
    """Memory of this process and of all below it.

    On Linux each process counts with its proportional set size, where pages that several share
    count once altogether; elsewhere with its resident set size, where they count in each.
    """
    import psutil

    this = psutil.Process()
    total = 0
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it has just ended
            found = _proportional_bytes(process.pid)
            total += process.memory_info().rss if found is None else found
    return total


def _proportional_bytes(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "Pss:"), None)
