"""What a process that is started is told of its parent, and how it learns of the parent's end."""

from __future__ import annotations

import contextlib
import os
import re
from multiprocessing import reduction, spawn
from typing import Any


def preparation(name: str) -> dict[str, Any]:
    """What multiprocessing tells a process before it sends the rest, without the user's script."""
    data: dict[str, Any] = spawn.get_preparation_data(name)
    data.pop("init_main_from_name", None)
    data.pop("init_main_from_path", None)
    return data


def state_of_caller() -> dict[str, Any]:
    """What a worker that is forked from the fork server needs to be like a child of the caller.

    The working folder and `sys.path` go with multiprocessing's own preparation.
    """
    state: dict[str, Any] = {"environ": dict(os.environ), "umask": _umask()}
    if hasattr(os, "sched_getaffinity"):
        state["affinity"] = os.sched_getaffinity(0)
    return state


def adopt(state: dict[str, Any]) -> None:
    """In the worker: applies what `state_of_caller` gave."""
    environ = state["environ"]
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)
    if state["umask"] is not None:
        os.umask(state["umask"])
    if "affinity" in state:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, state["affinity"])


def _umask() -> int | None:
    """This process's umask; where it cannot be read without being changed, None."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        if found := re.search(r"^Umask:\s*(\d+)", file.read(), re.MULTILINE):
            return int(found[1], 8)
    return None


class ParentFile:
    """A descriptor that becomes readable when the process that opened it ends; -1 if there is none.

    Sent to a process while that is being started.
    """

    def __init__(self) -> None:
        self.file = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.file = os.pidfd_open(os.getpid())

    def close(self) -> None:
        """Closes it."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def __getstate__(self) -> Any:
        """A descriptor that arrives in the child."""
        return reduction.DupFd(self.file) if self.file >= 0 else None

    def __setstate__(self, descriptor: Any) -> None:
        """The same in the child."""
        self.file = -1 if descriptor is None else descriptor.detach()
