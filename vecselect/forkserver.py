"""The fork server: a process that starts workers by forking itself, and reaps them.

It has one thread and none of the caller's state, so that forking it is safe, where forking the
caller, with its threads and their locks, is not. It differs from multiprocessing's own in this:

- it runs neither the user's script nor a module that happens to lie in the working folder;
- each worker gets the caller's environment variables, umask and usable cores as they are when it
  is started, before anything is imported in it;
- it ends with the process that started it, even where a forked sibling of that one lives on, or
  once nobody can ask it any more and its workers have ended;
- it kills the process group of a worker that has ended before it reaps it: until then, no other
  process can have the worker's process id.

`contexts` shows who sends what to whom. The first half of this module runs in the processes that
ask for workers, the second half in the server, and `_work` in a worker.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import connection, forkserver, process, resource_tracker, spawn, util
from multiprocessing.forkserver import read_signed, write_signed
from typing import TYPE_CHECKING, Any

from vecselect.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What numerical libraries read, when they are loaded, to know how many threads to start."""

PRELOADED: tuple[str, ...] = ("numpy", "gymnasium", "vecselect.backends.pool.worker")
"""Modules that the server imports when it starts; what they import, no worker has to."""

ORPHAN_LIMIT_S = 2.0
"""Seconds that workers whose parent has gone may take to end before they are killed."""

MAX_FILES = 253
"""How many descriptors Linux sends in one message."""

LOOK_S = 0.25
"""Seconds between two looks whether a parent is there, where no descriptor tells of its end."""

PID_BYTES = 8
"""A request consists of this, the process id of whoever makes it, and of descriptors."""

lock = threading.RLock()
_channel: socket.socket | None = None
"""On which this process asks for workers; shared by all processes that ask the same server."""
_pid: int | None = None
"""The process id of the server where that is a child of this process."""


def running_server() -> tuple[socket.socket, int | None]:
    """The channel to the server of this process, which is started unless it runs, and its pid."""
    global _channel, _pid
    with lock:
        if _pid is not None:
            try:
                ended = os.waitpid(_pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # somebody else has waited for it
                ended = True
            if ended:
                forget_server()
        if _channel is None:
            _channel, _pid = _start_server()
        return _channel, _pid


def start_worker(
    start: int, status: tuple[int, int], tracker: int, inherited: Sequence[int]
) -> int:
    """Has the server start a worker.

    Args:
        start: Descriptor of the pipe that the worker reads from; closed here.
        status: Descriptors of the two ends of the pipe through which the server tells its process
            id, and its exit code later; the second one is closed here.
        tracker: Descriptor of the resource tracker's pipe.
        inherited: Descriptors that the worker itself uses.

    Returns:
        Its process id.

    Raises:
        StartError: If the server has ended.
        OSError: If the system refuses another process.
    """
    try:
        with lock:
            channel, server = running_server()
            files = [status[1], start, tracker, channel.fileno(), *inherited]
            socket.send_fds(channel, [os.getpid().to_bytes(PID_BYTES, "little")], files)
    except ConnectionError:
        raise _lost(channel, server) from None
    finally:  # the end of the server shows only where nobody else holds its end of the status pipe
        close_files(start, status[1])
    try:
        pid = int(read_signed(status[0]))
    except EOFError:
        raise _lost(channel, server) from None
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def _lost(channel: socket.socket, pid: int | None) -> StartError:
    """The error that says how a server has ended; the next worker gets a new one."""
    how = "has ended"
    with contextlib.suppress(ChildProcessError):
        if pid is not None:
            how += f" with code {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"
    with lock:
        if channel is _channel:
            forget_server()
    return StartError(
        f"A worker process cannot be started: the fork server, which starts them, {how}. What "
        'it wrote to stderr says why; vector_kwargs={"context": "spawn"} does without it.'
    )


def forget_server() -> None:
    """Has the next worker started by a new server; this one ends once its workers have."""
    global _channel, _pid
    if _channel is not None:
        _channel.close()
    _channel = _pid = None


def _start_server() -> tuple[socket.socket, int]:
    """Starts a server; returns the channel to it, and its process id."""
    ours, theirs = socket.socketpair()
    owner = open_own_pidfd()
    # With `-c`, the working folder comes first on `sys.path`: a `random.py` there would be taken
    # for the library's.
    code = (
        f"import sys; sys.path[:] = {preparation('')['sys_path']!r}; from vecselect.forkserver "
        f"import main; main({theirs.fileno()}, {owner}, {PRELOADED!r})"
    )
    program: Any = spawn.get_executable()
    arguments = [program, *util._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]
    files = [file for file in (theirs.fileno(), owner) if file >= 0]
    try:
        pid = util.spawnv_passfds(program, arguments, files)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        close_files(owner)
    util.Finalize(None, forget_server, exitpriority=-100)
    return ours, pid


def open_own_pidfd() -> int:
    """A descriptor that becomes readable when this process ends; -1 where there is none."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(os.getpid())
    return -1


def close_files(*files: int) -> None:
    """Closes descriptors; passes over those below zero, which stand for none."""
    for file in files:
        if file >= 0:
            os.close(file)


def preparation(name: str) -> dict[str, Any]:
    """What a process is told first: multiprocessing's preparation, and what a fork server lacks.

    The user's script is left out: what `__main__` defines comes by value.

    Args:
        name: Of the process.
    """
    data: dict[str, Any] = spawn.get_preparation_data(name)
    data.pop("init_main_from_name", None)
    data.pop("init_main_from_path", None)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return {**data, "environ": dict(os.environ), "umask": _umask(), "cores": cores}


def _umask() -> int | None:
    """This process's umask; where it cannot be read without being changed, None."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        if found := re.search(r"^Umask:\s*(\d+)", file.read(), re.MULTILINE):
            return int(found[1], 8)
    return None


def _after_fork_in_child() -> None:
    """In a process that was forked otherwise: the server is not its own."""
    global lock
    lock = threading.RLock()
    forget_server()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# The server's process.


def main(channel: int, owner: int, preload: Sequence[str]) -> None:
    """Runs the server until nobody can ask it any more and its workers have ended.

    Args:
        channel: Descriptor of the socket on which it is asked for workers.
        owner: Descriptor that becomes readable when the process that started it ends, or -1.
        preload: Modules to import before any worker is forked.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    owner_pid = os.getppid()
    with contextlib.suppress(OSError):  # What ends the owner's group is to leave this one alive.
        os.setpgid(0, 0)
    for name in THREAD_VARIABLES:
        # Numerical libraries read them when they are loaded, and threads do not survive a fork.
        os.environ.setdefault(name, "1")
    for name in ("vecselect.contexts", *preload):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _Server(channel, owner, owner_pid).run()


@dataclass
class _Worker:
    """A worker.

    Attributes:
        parent_pid: The process that asked for it.
        status: Descriptor of a pipe that takes its process id, and its exit code later.
        orphaned: Whether its parent has gone.
        kill_at_s: When it is killed, by `time.monotonic`.
    """

    parent_pid: int
    status: int
    orphaned: bool = False
    kill_at_s: float = math.inf


class _Server:
    """The server's loop.

    Attributes:
        watched: What it waits for: the end of a worker, a request, the end of the owner.
        parents: Process ids of those that are there and may have asked for workers.
    """

    def __init__(self, channel: int, owner: int, owner_pid: int) -> None:
        self.channel = socket.socket(fileno=channel)
        self.owner = owner
        self.owner_pid = owner_pid
        self.workers: dict[int, _Worker] = {}
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_r, False)
        os.set_blocking(self.wake_w, False)
        self.watched: list[Any] = [self.wake_r, self.channel, *([owner] if owner >= 0 else [])]
        self.parents = {owner_pid}

    def run(self) -> None:
        """Forks workers, reaps them, and kills those whose parent has gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_w, warn_on_full_buffer=False)
        while self.workers or self.channel in self.watched:
            ready = connection.wait(self.watched, self._wait_s())
            if self.wake_r in ready:
                os.read(self.wake_r, 4096)
            if self.channel in ready:
                self._fork_worker()
            if self.owner in ready or (self.owner < 0 and os.getppid() != self.owner_pid):
                self.parents.discard(self.owner_pid)
                self.watched = [self.wake_r]
            self._reap()
            self._kill_orphans()
        self.channel.close()

    def _wait_s(self) -> float | None:
        """Seconds until something is to be done unasked; None if nothing is."""
        now_s = time.monotonic()
        times_s = [one.kill_at_s for one in self.workers.values()]
        if self.owner < 0:
            times_s.append(now_s + LOOK_S)
        next_s = min(times_s, default=math.inf)
        return None if next_s == math.inf else max(next_s - now_s, 0.0)

    def _fork_worker(self) -> None:
        """Starts the worker that a process asks for; where none can ask any more, notes that."""
        try:
            data, files, _, _ = socket.recv_fds(self.channel, PID_BYTES, MAX_FILES)
        except OSError:
            data, files = b"", []
        if not data:
            self.watched.remove(self.channel)
            return
        status, *others = files
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            self._become_worker(status, others)
        close_files(*others)
        _tell(status, pid)
        if pid < 0:
            os.close(status)
        else:
            self.workers[pid] = _Worker(int.from_bytes(data, "little"), status)
            self.parents.add(pid)

    def _become_worker(self, status: int, files: list[int]) -> None:
        """In the forked process: closes what is the server's, does the work, and ends."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.channel.close()
            close_files(self.wake_r, self.wake_w, self.owner, status)
            close_files(*(one.status for one in self.workers.values()))
            code = _work(*files)
        except EOFError:  # whoever asked for it was interrupted, or has gone
            pass
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Reaps the workers that have ended, and tells how they did."""
        for pid, one in list(self.workers.items()):
            code = reap(pid, block=False)
            if code is not None:
                del self.workers[pid]
                self.parents.remove(pid)
                _tell(one.status, code)
                os.close(one.status)

    def _kill_orphans(self) -> None:
        """Kills workers whose parent has gone: one that was stopped does not end by itself."""
        now_s = time.monotonic()
        for pid, one in self.workers.items():
            if not one.orphaned and one.parent_pid not in self.parents:
                one.orphaned, one.kill_at_s = True, now_s + ORPHAN_LIMIT_S
            if one.kill_at_s <= now_s:
                one.kill_at_s = math.inf
                os.kill(pid, signal.SIGKILL)


def _tell(status: int, number: int) -> None:
    """Writes a number into a worker's status pipe, if there is still somebody to read it."""
    with contextlib.suppress(BrokenPipeError):
        write_signed(status, number)


def reap(pid: int, block: bool) -> int | None:
    """Reaps a child process that has ended, once all that is left in its process group is killed.

    Until a process is reaped, no other process can have its number.

    Args:
        pid: Of a child of this process.
        block: Whether to wait for its end.

    Returns:
        Its exit code; None if it runs.
    """
    if hasattr(os, "waitid"):
        options = os.WEXITED | os.WNOWAIT | (0 if block else os.WNOHANG)
        if os.waitid(os.P_PID, pid, options) is None:
            return None
        with contextlib.suppress(OSError):  # it may lead no group
            os.killpg(pid, signal.SIGKILL)
    ended, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


# A worker's process.


def _work(start: int, tracker: int, channel: int, *inherited: int) -> int:
    """Becomes like a child of the caller, and runs what the caller has sent.

    Args:
        start: Descriptor of the pipe it comes through. Its other end stays open in the caller, so
            that this one tells the end of the caller.
        tracker: That of the resource tracker's pipe.
        channel: That of the socket on which the server is asked for workers.
        *inherited: Those that the worker itself uses.

    Returns:
        The exit code.

    Raises:
        EOFError: If the caller has gone, or was interrupted.
    """
    global _channel
    _channel = socket.socket(fileno=channel)
    # As multiprocessing's own server does.
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    forkserver._forkserver._inherited_fds = list(inherited)  # type: ignore[attr-defined]
    parent_sentinel = os.dup(start)
    current: Any = process.current_process()
    with open(start, "rb") as stream:
        current._inheriting = True
        try:
            data = pickle.load(stream)
            os.environ.clear()
            os.environ.update(data["environ"])
            if data["umask"] is not None:
                os.umask(data["umask"])
            if data["cores"] is not None:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, data["cores"])
            spawn.prepare(data)
            worker: Any = pickle.load(stream)
        finally:
            del current._inheriting
    return int(worker._bootstrap(parent_sentinel))
