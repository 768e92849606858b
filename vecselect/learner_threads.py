"""The threads that the learner computes with: torch's, and those of numerical libraries.

torch is never imported for our sake. Numerical libraries are told by calls of their own, where the
system lists what is loaded (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPENMP = ("libgomp", "libomp", "libiomp")
"""How the files of the OpenMP runtimes begin, one of which runs torch's threads."""

NUMERICAL = {
    "openblas": [
        (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
        for prefix in ("", "scipy_")
        for suffix in ("", "64_")
    ],
    "libmkl_rt": [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")],
}
"""By a part of the name of a numerical library's file, the calls that tell and set its threads."""

TRIED_UPDATES = 3
"""So many updates are timed with the rollout's threads, and as many with those of before."""

PAUSE_SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0: threads end, thread-private data stays."""


def loaded_torch(needed: str = "get_num_threads") -> Any:
    """The torch module if it is loaded, else None.

    Args:
        needed: What it is wanted for: while it is being imported it has not got everything yet.
    """
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, needed) else None


def seed_torch(seed: int) -> None:
    """Gives torch, where an environment has loaded it, a generator unlike that of other workers.

    Every process of torch begins with the same seed.
    """
    if torch := loaded_torch("manual_seed"):
        torch.manual_seed(seed)


def torch_threads() -> int | None:
    """The threads torch computes with; None where it is not loaded."""
    torch = loaded_torch()
    return int(torch.get_num_threads()) if torch else None


def library_threads() -> int:
    """The most threads that a numerical library in this process computes with; 1 without any."""
    return max((get() for get, _ in _libraries()), default=1)


def set_library_threads(threads: int) -> None:
    """Sets the number of threads of the loaded numerical libraries."""
    for _, set_threads in _libraries():
        set_threads(threads)


def settable_threads() -> int:
    """The threads of torch, or else of a numerical library, that can be brought down to one."""
    return torch_threads() or library_threads()


@contextlib.contextmanager
def set_learner_threads(threads: int | None) -> Iterator[None]:
    """Sets the number of threads of torch and of numerical libraries.

    Where torch had more, its idle threads are ended: they would go on spinning for 3 to 7 ms, on
    the cores that workers need. They start again, in some 0.1 ms, when they are next computed with.

    Args:
        threads: The number; None leaves them as they are. On leaving all are put back.
    """
    if threads is None:
        yield
        return
    torch, before = loaded_torch(), torch_threads()
    libraries = [(set_again, get()) for get, set_again in _libraries()]
    try:
        set_library_threads(threads)
        if before is not None:
            torch.set_num_threads(threads)
            if threads < before:
                end_idle_threads()
        yield
    finally:
        if before is not None:
            torch.set_num_threads(before)
        for set_again, number in libraries:
            set_again(number)


class RolloutThreads:
    """The learner's threads while a loop collects, and in its updates.

    Small networks are updated in several threads no faster than in one, and often slower: each
    operation waits for all of them. So where `free`, the first updates are timed with the rollout's
    threads and with those of before, in turns, and the faster ones stay.
    """

    def __init__(self, threads: int | None, *, free: bool) -> None:
        """Sets nothing yet.

        Args:
            threads: The number while the loop collects; None leaves them as they are.
            free: Whether updates may have that number too.
        """
        self._threads = threads
        self._updates_may = free and threads is not None
        self._put_back = contextlib.ExitStack()
        self._are_set = False
        self._updates_s: dict[bool, list[float]] = {True: [], False: []}  # by whether they were
        self._left_s: float | None = None

    def enter(self) -> None:
        """Sets them, for a rollout."""
        if self._left_s is not None:
            self._updates_s[self._are_set].append(time.perf_counter() - self._left_s)
            self._left_s = None
        if not self._are_set:
            self._are_set = True
            self._put_back.enter_context(set_learner_threads(self._threads))

    def leave(self) -> None:
        """Puts them back for an update, unless that is as fast with them."""
        ours, others = self._updates_s[True], self._updates_s[False]
        tried = len(ours) >= TRIED_UPDATES
        stay = min(ours) <= min(others) if tried else len(ours) < len(others)
        if not (self._updates_may and stay):
            self.put_back()
        if self._updates_may and not tried:
            self._left_s = time.perf_counter()

    def put_back(self) -> None:
        """Puts back what there was; does nothing where they are not set."""
        self._put_back.close()
        self._are_set = False


def end_idle_threads() -> None:
    """Ends the calling thread's idle OpenMP threads, where the runtime can; takes some 0.1 ms."""
    for pause in _native_calls(loaded_torch() is not None)[1]:
        pause(PAUSE_SOFT)


def _libraries() -> list[tuple[Callable[[], int], Callable[[int], Any]]]:
    """Of each numerical library, what gets and what sets its number of threads."""
    return _native_calls(loaded_torch() is not None)[0]


@functools.lru_cache(maxsize=2)  # libraries are looked for once without torch, and once with
def _native_calls(with_torch: bool) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """`_libraries`, and `omp_pause_resource_all` of each OpenMP runtime in this process."""
    libraries, pauses = [], []
    for path in _mapped_files():
        name = path.rpartition("/")[2]
        calls = [pair for part, pairs in NUMERICAL.items() if part in name for pair in pairs]
        for get, set_ in calls:
            with contextlib.suppress(OSError, AttributeError):  # deleted, or of another build
                library = ctypes.CDLL(path)
                libraries.append((getattr(library, get), getattr(library, set_)))
        if name.startswith(OPENMP):
            with contextlib.suppress(OSError, AttributeError):  # deleted, or before OpenMP 5.0
                pauses.append(ctypes.CDLL(path).omp_pause_resource_all)
    return libraries, pauses


def _mapped_files() -> list[str]:
    """The files that are mapped into this process, as Linux lists them; none elsewhere."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            return sorted({line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/" in line})
    except OSError:
        return []
