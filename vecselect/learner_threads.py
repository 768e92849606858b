"""The threads that the learner computes with: torch's, and those of numerical libraries.

torch is never imported for our sake; numerical libraries are reached by threadpoolctl, where it is
installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPENMP = ("libgomp", "libomp", "libiomp")
"""How the files of the OpenMP runtimes begin, one of which runs torch's threads."""

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


def settable_threads() -> int:
    """The threads of torch, or else of a numerical library, that can be brought down to one."""
    threads = torch_threads()
    if threads is not None:
        return threads
    libraries = _numerical_libraries()
    return max((found["num_threads"] for found in libraries.info()), default=1) if libraries else 1


@contextlib.contextmanager
def set_learner_threads(threads: int | None) -> Iterator[None]:
    """Has torch, and what threadpoolctl knows if it is installed, compute in so many threads.

    Where torch had more, its idle threads are ended: they would go on spinning for 3 to 7 ms, on
    the cores that workers need. They start again, in some 0.1 ms, when they are next computed with.

    Args:
        threads: The number; None leaves them as they are. On leaving all are put back.
    """
    if threads is None:
        yield
        return
    torch, libraries = loaded_torch(), _numerical_libraries()
    before = torch_threads()
    limited = libraries.limit(limits=threads) if libraries else contextlib.nullcontext()
    with limited:
        try:
            if before is not None:
                torch.set_num_threads(threads)
                if threads < before:
                    end_idle_threads()
            yield
        finally:
            if before is not None:
                torch.set_num_threads(before)


def end_idle_threads() -> None:
    """Ends the calling thread's idle OpenMP threads, where the runtime can; takes some 0.1 ms."""
    for pause in _openmp_pauses(loaded_torch() is not None):
        pause(PAUSE_SOFT)


@functools.lru_cache(maxsize=2)
def _openmp_pauses(with_torch: bool) -> tuple[Callable[[int], int], ...]:
    """`omp_pause_resource_all` of each OpenMP runtime in this process, as Linux lists them.

    Args:
        with_torch: Whether torch is loaded: looked for once without it, and once with.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/" in line}
    except OSError:
        return ()
    pauses = []
    for path in sorted(paths):
        if path.rpartition("/")[2].startswith(OPENMP):
            with contextlib.suppress(OSError, AttributeError):  # deleted, or before OpenMP 5.0
                pauses.append(ctypes.CDLL(path).omp_pause_resource_all)
    return tuple(pauses)


def _numerical_libraries() -> Any:
    """A controller of the libraries that are loaded; None without threadpoolctl."""
    return _controller(loaded_torch() is not None)


@functools.lru_cache(maxsize=2)
def _controller(with_torch: bool) -> Any:
    """Looks for the libraries, which takes a millisecond: once, and again when torch has come."""
    try:
        return importlib.import_module("threadpoolctl").ThreadpoolController()
    except ImportError:
        return None
