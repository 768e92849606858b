"""What processes share, tried on this system: it may be refused where it would seem to be there."""

from __future__ import annotations

import multiprocessing

from vecselect.backends.pool.memory import Memory


def why_no_semaphore() -> str | None:
    """One sentence if no semaphore can be shared between processes here, else None.

    One is made, without a name that could be left behind and without starting a process. `/dev/shm`
    may be read-only or full, and some platforms have none at all.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    try:
        context.Semaphore(0)
    except (ImportError, OSError) as error:
        return f"no semaphore can be made that processes share ({_text(error)})"
    return None


def why_no_memory() -> str | None:
    """One sentence if no memory can be shared between processes here, else None.

    A page of it is made and let go: a container may refuse the system call.
    """
    try:
        block = Memory()
        block.resize(1)
        block.mapped(1).close()
        block.forget_descriptor()
    except (OSError, ValueError) as error:
        return f"no memory can be made that processes share ({_text(error)})"
    return None


def _text(error: Exception) -> str:
    """What went wrong, without what only a programmer looks for."""
    return getattr(error, "strerror", None) or str(error)
