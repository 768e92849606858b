"""The fork server of this process: starting it, and asking it for workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from multiprocessing import resource_tracker, spawn, util
from typing import TYPE_CHECKING, Any

from vecselect.backends.interrupts import Unbroken
from vecselect.caller_state import ParentFile, preparation
from vecselect.errors import StartError, refusals_named
from vecselect.forkserver import read_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PRELOADED: tuple[str, ...] = ("numpy", "gymnasium", "vecselect.backends.pool.worker")
"""Modules that the fork server imports when it starts; what they import, no worker has to."""


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Puts Ctrl-C off here; what is started meanwhile does not get it until it unblocks it."""
    with Unbroken():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Server:
    """The fork server, as a process sees it that starts workers with it.

    Attributes:
        channel: On which it is asked for workers.
        pid: Its process, where that is a child of this one.
    """

    def __init__(self, channel: socket.socket, pid: int | None = None) -> None:
        self.channel = channel
        self.pid = pid

    @staticmethod
    def started() -> Server:
        """A new one."""
        resource_tracker.ensure_running()
        ours, theirs = socket.socketpair()
        owner = ParentFile()
        path = preparation("")["sys_path"]
        # With `-c`, the working folder comes first on `sys.path`: a `random.py` there would be
        # taken for the library's.
        code = (
            f"import sys; sys.path[:] = {path!r}; from vecselect.forkserver import main; "
            f"main({theirs.fileno()}, {owner.file}, {PRELOADED!r})"
        )
        program: Any = spawn.get_executable()
        arguments = [program, *util._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]
        files = [file for file in (theirs.fileno(), owner.file) if file >= 0]
        try:
            pid = util.spawnv_passfds(program, arguments, files)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            owner.close()
        util.Finalize(None, forget_server, exitpriority=-100)
        return Server(ours, pid)

    def alive(self) -> bool:
        """Whether it runs, as far as this process can tell."""
        if self.pid is None:
            return True
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:  # somebody else has waited for it
            return False

    def how_it_ended(self) -> str:
        """A sentence on what has become of it."""
        how = "has ended"
        with contextlib.suppress(ChildProcessError):
            if self.pid is not None:
                code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                how = f"has ended with code {code}"
        forget_server()
        return (
            f"A worker process cannot be started: the fork server, which starts them, {how}. What "
            'it wrote to stderr says why; vector_kwargs={"context": "spawn"} does without it.'
        )


lock = threading.RLock()
_server: Server | None = None


def running_server() -> Server:
    """The fork server of this process."""
    global _server
    if _server is not None and not _server.alive():
        forget_server()
    if _server is None:
        _server = Server.started()
    return _server


def ask(files: Sequence[int]) -> Server:
    """Asks the fork server for a worker.

    Args:
        files: The descriptors that it gets, as `forkserver` expects them.

    Returns:
        The server, from which `answer` gets the worker's process id.

    Raises:
        StartError: If the server has ended.
    """
    with lock:
        server = running_server()
        try:
            socket.send_fds(server.channel, [b"1"], files)
        except ConnectionError:
            raise StartError(server.how_it_ended()) from None
        return server


def answer(server: Server, status: int) -> int:
    """The process id of the worker that a server was asked for.

    Args:
        server: The fork server.
        status: Descriptor of our end of the pipe that the worker's status comes through.

    Raises:
        StartError: If the server has ended.
        OSError: If the system refuses another process.
    """
    try:
        pid = read_number(status)
    except EOFError:
        raise StartError(server.how_it_ended()) from None
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def ensure_server() -> int | None:
    """Starts the fork server unless it runs; returns its process id where it is ours."""
    with refusals_named(), deaf_to_interrupts(), lock:
        return running_server().pid


def forget_server() -> None:
    """Has the next worker started by a new fork server; this one ends with this process."""
    global _server
    if _server is not None:
        _server.channel.close()
        _server = None


def use_channel(channel: socket.socket) -> None:
    """In a worker that the fork server has forked: has it ask the same server for workers."""
    global _server
    _server = Server(channel)


def _after_fork_in_child() -> None:
    """In a forked process: the fork server is not its own."""
    global lock
    lock = threading.RLock()
    forget_server()


os.register_at_fork(after_in_child=_after_fork_in_child)
