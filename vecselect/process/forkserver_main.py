"""The process of the fork server, and what its workers do first: see `forkserver`."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import math
import os
import pickle
import signal
import socket
import sys
import threading
import time
import warnings
from multiprocessing import connection, forkserver, process, resource_tracker, spawn
from multiprocessing.forkserver import write_signed
from typing import TYPE_CHECKING, Any

from vecselect.process.forkserver import (
    IMPORTED,
    LOOK_S,
    START,
    THREAD_VARIABLES,
    Server,
    close_files,
    import_conditions,
    reap,
    use_server,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ORPHAN_LIMIT_S = 2.0
"""Seconds that workers may take to end once the owner has gone, before they are killed."""

MAX_FILES = 253
"""How many descriptors Linux sends in one message."""


def main(channel: int, owner: int, preload: Sequence[str]) -> None:
    """Runs the server until no client is left and all of its workers have exited.

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
    for name in ("vecselect.process.contexts", *preload):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # else a worker's first full collection would copy the memory that all share
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _Server(channel, owner, owner_pid).run()


class _Server:
    """The server's loop; `workers` are the status pipes of those that run, by process id.

    Through its status pipe whoever has asked for a worker is told its process id, and its exit code
    later.
    """

    def __init__(self, channel: int, owner: int, owner_pid: int) -> None:
        self.channel = socket.socket(fileno=channel)
        self.owner = owner
        self.owner_pid = owner_pid
        self.workers: dict[int, int] = {}
        self.kill_at_s = math.inf
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_r, False)
        os.set_blocking(self.wake_w, False)
        self.watched: list[Any] = [self.wake_r, self.channel, *([owner] if owner >= 0 else [])]
        self.modules: frozenset[str] = frozenset()

    def run(self) -> None:
        """Forks workers, reaps them, and kills those that outlive the owner."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_w, warn_on_full_buffer=False)
        while self.workers or self.channel in self.watched:
            ready = connection.wait(self.watched, self._wait_s())
            if self.wake_r in ready:
                os.read(self.wake_r, 4096)
            if self.channel in ready:
                self._answer()
            if self.owner in ready or (self.owner < 0 and os.getppid() != self.owner_pid):
                self.watched = [self.wake_r]
                self.kill_at_s = min(self.kill_at_s, time.monotonic() + ORPHAN_LIMIT_S)
            self._reap()
            if self.kill_at_s <= time.monotonic():  # one under SIGSTOP cannot exit by itself
                self.kill_at_s = math.inf
                for pid in self.workers:
                    os.kill(pid, signal.SIGKILL)
        self.channel.close()

    def _wait_s(self) -> float | None:
        """Seconds until there is something to do that nothing tells of; None if never."""
        if self.kill_at_s < math.inf:
            return max(self.kill_at_s - time.monotonic(), 0.0)
        return LOOK_S if self.owner < 0 else None

    def _answer(self) -> None:
        """Handles one request; notes if the last client has gone."""
        try:
            request, files, _, _ = socket.recv_fds(self.channel, 1, MAX_FILES)
        except OSError:
            request, files = b"", []
        if not request:
            self.watched.remove(self.channel)
        elif request == START:
            self._fork_worker(*files)
        else:
            self._import(*files)

    def _import(self, file: int) -> None:
        """Imports the modules named in a request, and answers on its socket.

        Whoever has sent them has imported them already, so that nothing they print is new.
        """
        with socket.socket(fileno=file) as asking:
            names = b"".join(iter(lambda: asking.recv(4096), b"")).decode().split()
            silent = io.StringIO()
            for name in names:
                with (
                    contextlib.redirect_stdout(silent),
                    contextlib.redirect_stderr(silent),
                    warnings.catch_warnings(),
                    contextlib.suppress(Exception, SystemExit),  # a worker shows what goes wrong
                ):
                    warnings.simplefilter("ignore")
                    importlib.import_module(name)
                self._reap()
            self.modules = self.modules.union(names)
            gc.freeze()
            with contextlib.suppress(OSError):
                if _threads() == 1:  # else locks may be held for ever in what is forked
                    asking.send(IMPORTED)

    def _fork_worker(self, status: int, *files: int) -> None:
        """Starts a worker, which gets `files`."""
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            self._become_worker(status, files)
        close_files(*files)
        _tell(status, pid)
        if pid < 0:
            os.close(status)
        else:
            self.workers[pid] = status

    def _become_worker(self, status: int, files: tuple[int, ...]) -> None:
        """In the forked process: closes the server's descriptors, does the work, and exits."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.channel.close()
            close_files(self.wake_r, self.wake_w, self.owner, status)
            close_files(*self.workers.values())
            code = _work(self.modules, *files)
        except EOFError:  # whoever asked for it was interrupted, or has gone
            pass
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Reaps the workers that have exited, and writes their exit codes to their status pipes."""
        for pid, status in list(self.workers.items()):
            code = reap(pid, block=False)
            if code is not None:
                del self.workers[pid]
                _tell(status, code)
                os.close(status)


def _tell(status: int, number: int) -> None:
    """Writes a number into a worker's status pipe; ignores that nobody reads it."""
    with contextlib.suppress(BrokenPipeError):
        write_signed(status, number)


def _threads() -> int:
    """The threads of this process; only Python's where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _work(modules: frozenset[str], start: int, tracker: int, channel: int, *inherited: int) -> int:
    """In a worker: takes over the caller's settings, and runs what the caller has sent.

    Args:
        modules: What the server has imported.
        start: Descriptor of the pipe it comes through. Its other end stays open in the caller, so
            that this one tells the end of the caller.
        tracker: That of the resource tracker's pipe.
        channel: That of the socket on which the server is asked for workers.
        *inherited: Those that the worker itself uses.

    Returns:
        The exit code; raises `EOFError` if the caller has gone, or was interrupted.
    """
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
            use_server(Server(socket.socket(fileno=channel), None, import_conditions(), modules))
            worker: Any = pickle.load(stream)
        finally:
            del current._inheriting
    return int(worker._bootstrap(parent_sentinel))
