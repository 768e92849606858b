"""Counts what a case leaves behind: processes, descriptors and names in shared memory."""

from __future__ import annotations

import contextlib
import os

import psutil

MARK = "VECSELECT_FAULT_CASE"


def names_in_shared_memory(pid):
    """Those that a process made: they carry its number (see `name_own`)."""
    if not os.path.isdir("/dev/shm"):
        return set()
    return {name for name in os.listdir("/dev/shm") if f"-{pid}-" in name}


def name_own():
    """Has multiprocessing put this process's number into the names of its semaphores."""
    import multiprocessing

    multiprocessing.current_process()._config["semprefix"] = f"/mp-{os.getpid()}"


def marked(mark, session=None):
    """Every process whose environment carries the mark, or that is in the session; no zombies.

    What a case starts without loading a program anew shows the environment of what it was forked
    from, but is in the session of the case.
    """
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if session is not None and os.getsid(process.pid) == session:
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            elif mark in process.environ().get(MARK, "").split("/"):
                found.append(process)
    return found


def describe(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())[:160]}"
    return str(process.pid)


def descriptors():
    """Those of this process that are open, with what they lead to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    # multiprocessing keeps the memory of its shared arrays for the next ones.
    return {name: link for name, link in found.items() if "/pym-" not in link}


def helpers():
    """The processes that are kept for as long as the interpreter lives."""
    from multiprocessing import resource_tracker

    from vecselect import contexts

    return {contexts.ensure_fork_server(), resource_tracker._resource_tracker._pid}
