"""How many cores' worth of work this machine really does at once."""

from __future__ import annotations

import hashlib
import threading
import time

CHUNK = bytes(1 << 18)
SPAN_S = 0.02
ROUNDS = 5


def effective_cores(cores: float, rounds: int = ROUNDS) -> float:
    """The work that as many threads as there are cores do, over that of one thread.

    Siblings of one physical core, a quota, and neighbours on the machine all make it less than the
    number of cores. Hashing is the work, since it lets other threads run beside it.

    Args:
        cores: Cores this process may use.
        rounds: Attempts, of 0.04 s each.

    Returns:
        At least 1, and the best of a few attempts: what other programs take for a moment is not a
        property of the machine.
    """
    threads = int(cores)
    if threads < 2:
        return 1.0
    ratios = []
    for _ in range(rounds):
        alone = _hashes(1)
        ratios.append(_hashes(threads) / max(alone, 1))
    return min(max(*ratios, 1.0), cores)


def _hashes(threads: int) -> int:
    """Blocks hashed by so many threads together within a span of time."""
    counts = [0] * threads
    end_s = time.perf_counter() + SPAN_S

    def work(index: int) -> None:
        while time.perf_counter() < end_s:
            hashlib.sha256(CHUNK)
            counts[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(1, threads)]
    for worker in workers:
        worker.start()
    work(0)
    for worker in workers:
        worker.join()
    return sum(counts)
