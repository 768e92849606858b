"""What the system refuses to a worker that is being started, in words."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from vecselect.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator


def why_refused(error: OSError) -> str:
    """What the system lacks that has refused something to a worker, in one sentence."""
    reasons = {
        errno.EAGAIN: "no more processes may be started here (see ulimit -u, or the limit on the "
        "number of processes of the container)",
        errno.ENOMEM: "there is no memory for another process",
        errno.ENOSPC: "/dev/shm, or the folder for temporary files, is full (containers give it "
        "64 MB: docker run --shm-size=1g)",
        errno.EMFILE: "this process may open no more files (see ulimit -n)",
        errno.ENFILE: "the system may open no more files",
        errno.ENOSYS: "this system has no shared memory or semaphores",
    }
    why = reasons.get(error.errno or 0, f"the system said: {error}")
    return f'A worker process cannot be started: {why}. Pin mode="sync", which needs none.'


@contextlib.contextmanager
def refusals_named() -> Iterator[None]:
    """Turns what the system refuses, while a worker is started, into a `StartError`."""
    try:
        yield
    except StartError:
        raise
    except OSError as error:
        raise StartError(why_refused(error)) from error
