"""The fork server: a process that starts workers by forking itself, and reaps them.

It has one thread and none of the caller's state, so that forking it is safe, where forking the
caller, with its threads and their locks, is not. It differs from multiprocessing's own in this: it
does not look for modules in the working folder, it ends with the process that started it even where
a forked sibling of that one lives on, and it kills what a worker's environments have left running
before the worker's process id can be given to another process.

A worker may start workers of its own: each has a channel to this server.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.link import THREAD_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

ORPHAN_LIMIT_S = 2.0
"""How long workers whose parent has gone may take to end by themselves before they are killed."""

MAX_FILES = 253
"""How many descriptors Linux sends in one message."""

NUMBER = struct.Struct("q")
"""How process ids, exit codes and sizes are sent. What is below zero in place of a process id is
the number of an error."""


def read_exactly(file: int, size: int) -> bytes:
    """Reads so many bytes from a pipe.

    Raises:
        EOFError: If it is closed before.
    """
    data = b""
    while len(data) < size:
        part = os.read(file, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_number(file: int) -> int:
    """Reads a number from a pipe.

    Raises:
        EOFError: If it is closed before.
    """
    number: int = NUMBER.unpack(read_exactly(file, NUMBER.size))[0]
    return number


def reap(pid: int, block: bool) -> int | None:
    """The exit code of a child process that has ended, once all in its process group is killed.

    As long as the child was not waited for, its number can be no other process's.

    Args:
        pid: Of a child of this process.
        block: Whether to wait for its end.

    Returns:
        None if it runs.
    """
    if hasattr(os, "waitid"):
        options = os.WEXITED | os.WNOWAIT | (0 if block else os.WNOHANG)
        if os.waitid(os.P_PID, pid, options) is None:
            return None
        kill_group(pid)
    ended, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def kill_group(pid: int) -> None:
    """Kills what is in the process group that a child of this process leads, if it leads one."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def main(channel: int, owner: int, preload: Sequence[str]) -> None:
    """Runs the server, until its owner has gone and the workers with it.

    Args:
        channel: Descriptor of a socket on which the owner asks for workers.
        owner: A descriptor that becomes readable when the owner ends, or -1.
        preload: Modules to import before any worker is forked.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
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
    with socket.socket(fileno=channel) as asked:
        _Server(asked, owner).run()


@dataclass
class _Started:
    """A worker.

    Attributes:
        parent: The process that asked for it; 0 for the owner of the server.
        status: Descriptor of a pipe that takes its process id and its exit code.
        channel: On which it may ask for workers.
        kill_at_s: When it is killed, by `time.monotonic`.
    """

    parent: int
    status: int
    channel: socket.socket
    kill_at_s: float = math.inf


class _Server:
    """The server's state."""

    def __init__(self, channel: socket.socket, owner: int) -> None:
        self.started: dict[int, _Started] = {}
        self.owner = owner
        self.channel = channel
        self.orphaned = False
        self.selector = selectors.DefaultSelector()
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_r, False)
        os.set_blocking(self.wake_w, False)

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_w, warn_on_full_buffer=False)
        self.selector.register(self.wake_r, selectors.EVENT_READ, None)
        self.selector.register(self.channel, selectors.EVENT_READ, 0)
        if self.owner >= 0:
            self.selector.register(self.owner, selectors.EVENT_READ, None)
        while self.started or not self.orphaned:
            now_s = time.monotonic()
            next_s = min((one.kill_at_s for one in self.started.values()), default=math.inf)
            ready = self.selector.select(None if next_s == math.inf else max(next_s - now_s, 0.0))
            for key, _ in ready:
                if key.fileobj == self.wake_r:
                    os.read(self.wake_r, 4096)
                elif key.fileobj == self.owner:
                    self._owner_gone()
                else:
                    self._request(key.fileobj, key.data)  # type: ignore[arg-type]
            self._reap()
            self._kill_orphans()

    def _request(self, channel: socket.socket, parent: int) -> None:
        """Starts the worker that somebody asks for."""
        try:
            data, files, _, _ = socket.recv_fds(channel, 1, MAX_FILES)
        except OSError:
            data, files = b"", []
        if not data:
            self.selector.unregister(channel)
            if parent == 0 and self.owner < 0:
                self._owner_gone()
            return
        start, status, *others = files
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            for file in (start, *others):
                os.close(file)
            ours.close()
            theirs.close()
            _write(status, -(error.errno or 1))
            os.close(status)
            return
        if pid == 0:
            self._become_worker(start, status, others, ours, theirs)
        for file in (start, *others):
            os.close(file)
        theirs.close()
        self.started[pid] = _Started(parent, status, ours)
        self.selector.register(ours, selectors.EVENT_READ, pid)
        _write(status, pid)

    def _become_worker(
        self,
        start: int,
        status: int,
        files: list[int],
        server_end: socket.socket,
        channel: socket.socket,
    ) -> None:
        """In the forked process: does the worker's work, and ends."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.selector.close()
            for one in self.started.values():
                os.close(one.status)
                one.channel.close()
            for file in (status, self.wake_r, self.wake_w, self.owner):
                if file >= 0:
                    os.close(file)
            server_end.close()
            self.channel.close()
            code = _work(start, files, channel)
        except EOFError:  # whoever asked for it was interrupted, or has gone
            pass
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tells how workers ended."""
        for pid, one in list(self.started.items()):
            code = reap(pid, block=False)
            if code is None:
                continue
            del self.started[pid]
            with contextlib.suppress(KeyError):
                self.selector.unregister(one.channel)
            one.channel.close()
            _write(one.status, code)
            os.close(one.status)
            self._orphan(pid)

    def _owner_gone(self) -> None:
        """Sees to it that the owner's workers end."""
        self.orphaned = True
        for file in (self.owner, self.channel):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(file)
        self.channel.close()
        self._orphan(0)

    def _orphan(self, parent: int) -> None:
        """Sees to it that the workers of a process that has gone end."""
        for one in self.started.values():
            if one.parent == parent:
                one.kill_at_s = min(one.kill_at_s, time.monotonic() + ORPHAN_LIMIT_S)

    def _kill_orphans(self) -> None:
        """Kills the workers that did not end by themselves: a stopped one never does."""
        now_s = time.monotonic()
        for pid, one in self.started.items():
            if one.kill_at_s <= now_s:
                one.kill_at_s = math.inf
                os.kill(pid, signal.SIGKILL)


def _write(file: int, number: int) -> None:
    """Writes a number into a pipe, if there is still somebody to read it."""
    with contextlib.suppress(BrokenPipeError):
        os.write(file, NUMBER.pack(number))


def _work(start: int, files: list[int], channel: socket.socket) -> int:
    """Runs what the caller has sent; in the worker.

    Args:
        start: Descriptor of the pipe it comes through.
        files: That of the resource tracker's pipe, and those that came with the process.
        channel: To the fork server.

    Returns:
        The exit code.
    """
    from multiprocessing import resource_tracker, spawn

    from vecselect import caller_state, contexts

    tracker, *inherited = files
    # As multiprocessing does: what is shared has one tracker.
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    contexts.in_forked_worker(inherited, channel)
    state: dict[str, Any] = pickle.loads(read_exactly(start, read_number(start)))
    caller_state.adopt(state)
    return spawn._main(start, os.dup(start))
