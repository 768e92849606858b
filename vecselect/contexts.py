"""How processes are started on POSIX: contexts of multiprocessing, with what environments need.

In every process that one of these contexts starts

- the environment variables, the working folder, the umask, the usable cores and `sys.path` are
  those of the caller at that time, and are set before anything is imported;
- the user's script is not run a second time: what `__main__` defines comes by value, so that no
  script needs an `if __name__ == "__main__"` guard;
- Ctrl-C is ignored from the first: it is the caller's to handle;
- the end of the parent can be watched (`parent_file`), whoever else holds its pipes.

A process that is forked from one that has used them, as by `os.fork` or a `ProcessPoolExecutor`,
has no part in the workers of that one, and starts its own afresh.
"""

from __future__ import annotations

import contextlib
import errno
import io
import multiprocessing
import os
import pickle
import signal
from multiprocessing import (
    connection,
    context,
    popen_fork,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from typing import TYPE_CHECKING, Any

from vecselect import fork_client
from vecselect.caller_state import ParentFile, preparation, state_of_caller
from vecselect.errors import refusals_named
from vecselect.fork_client import deaf_to_interrupts
from vecselect.forkserver import MAX_FILES, NUMBER, read_number, reap

if TYPE_CHECKING:
    import socket

NAME_PREFIX = "vecselect-"
"""What `multiprocessing.get_context` knows our contexts by: this, and the start method."""


class _Process(process.BaseProcess):
    """A process of one of our contexts."""

    parent_file: ParentFile

    def start(self) -> None:
        """Starts it.

        Raises:
            StartError: If the system refuses that.
        """
        with refusals_named():
            self.parent_file = ParentFile()
            try:
                super().start()
            finally:
                self.parent_file.close()

    def run(self) -> None:
        """In the process: runs what it was made for."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        super().run()


def parent_file() -> int:
    """In a process of one of our contexts: what becomes readable when its parent ends, or -1."""
    current = multiprocessing.current_process()
    return current.parent_file.file if isinstance(current, _Process) else -1


class _ForkPopen(popen_fork.Popen):
    """A process under way that was forked from the caller."""

    def _launch(self, process_obj: Any) -> None:
        with deaf_to_interrupts():
            super()._launch(process_obj)  # type: ignore[misc]

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Its exit code, if it has ended; what it has started and left running is killed then."""
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):
                self.returncode = reap(self.pid, block=flag == 0)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.poll() is None:
            super()._send_signal(sig)  # type: ignore[misc]


class _SentPopen(_ForkPopen):
    """A process under way that got what it does through a pipe."""

    def __init__(self, process_obj: Any) -> None:
        self.pid = 0
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Has a descriptor sent along; returns what `DupFd` takes in the child."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        buffer = io.BytesIO()
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            reduction.dump(preparation(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        start_r, start_w = os.pipe()
        self.sentinel, status_w = os.pipe()
        # Our end of the first pipe is kept: the process learns of our end by its closing.
        self.finalizer = util.Finalize(self, _close_all, (start_w, self.sentinel))
        try:
            with deaf_to_interrupts():
                try:
                    self._begin(start_r, status_w)
                finally:
                    os.close(start_r)
                    os.close(status_w)
                self._begun()
                # A process that has ended already is told of by its exit code.
                with (
                    contextlib.suppress(BrokenPipeError),
                    open(start_w, "wb", closefd=False) as file,
                ):
                    self._send(file, buffer.getbuffer())
        except BaseException:
            if self.pid:  # interrupted, or given half of what it is to do
                os.kill(self.pid, signal.SIGKILL)
                self.poll(0)
            self.close()
            raise

    def _begin(self, start: int, status: int) -> None:
        """Starts the process, which reads from one pipe and keeps the other open."""
        raise NotImplementedError

    def _begun(self) -> None:
        """Waits until it is known that it was started."""

    def _send(self, file: Any, data: Any) -> None:
        """Sends the process what it does."""
        file.write(data)


def _close_all(*files: int) -> None:
    for file in files:
        os.close(file)


class _SpawnDupFd:
    """A descriptor that is inherited under its own number."""

    def __init__(self, file: int) -> None:
        self.file = file

    def detach(self) -> int:
        """It."""
        return self.file


class _SpawnPopen(_SentPopen):
    """A process under way that is a new interpreter."""

    method = "spawn"
    DupFd = _SpawnDupFd

    def _begin(self, start: int, status: int) -> None:
        tracker: Any = resource_tracker.getfd()
        command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=start)
        program: Any = spawn.get_executable()
        self.pid = util.spawnv_passfds(program, command, [*self._fds, tracker, start, status])


_inherited: list[int] = []


class _ForkServerDupFd:
    """A descriptor that came with the process."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        """It."""
        return _inherited[self.index]


class _ForkServerPopen(_SentPopen):
    """A process under way that was forked from the fork server, which reaps it."""

    method = "forkserver"
    DupFd = _ForkServerDupFd

    def duplicate_for_child(self, fd: int) -> int:
        """Has a descriptor sent along; returns what `DupFd` takes in the child."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _begin(self, start: int, status: int) -> None:
        tracker: Any = resource_tracker.getfd()
        files = [start, status, tracker, *self._fds]
        if len(files) > MAX_FILES:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._server = fork_client.ask(files)

    def _begun(self) -> None:
        self.pid = fork_client.answer(self._server, self.sentinel)

    def _send(self, file: Any, data: Any) -> None:
        state = pickle.dumps(state_of_caller())
        file.write(NUMBER.pack(len(state)))
        file.write(state)
        file.write(data)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Its exit code, if it has ended."""
        if self.returncode is None:
            if flag != 0 and not connection.wait([self.sentinel], 0):
                return None
            try:
                self.returncode = read_number(self.sentinel)
            except (OSError, EOFError):  # the fork server itself was ended
                self.returncode = 255
        return self.returncode


def in_forked_worker(inherited: list[int], channel: socket.socket) -> None:
    """In a worker that the fork server has forked: takes what came with it."""
    _inherited[:] = inherited
    fork_client.use_channel(channel)


def _after_fork_in_child() -> None:
    """In a forked process: the workers are not its own."""
    children: set[Any] = getattr(process, "_children", set())
    children.difference_update([one for one in children if isinstance(one, _Process)])


class _Context(context.BaseContext):
    """A context whose refusals of shared memory and semaphores are in words too."""

    def Array(self, *args: Any, **kwargs: Any) -> Any:
        """As multiprocessing's."""
        with refusals_named():
            return super().Array(*args, **kwargs)

    def Queue(self, *args: Any, **kwargs: Any) -> Any:
        """As multiprocessing's."""
        with refusals_named():
            return super().Queue(*args, **kwargs)

    def Semaphore(self, *args: Any, **kwargs: Any) -> Any:
        """As multiprocessing's."""
        with refusals_named():
            return super().Semaphore(*args, **kwargs)

    def RawArray(self, *args: Any, **kwargs: Any) -> Any:
        """As multiprocessing's."""
        with refusals_named():
            return super().RawArray(*args, **kwargs)


class ForkProcess(_Process):
    """A process that is forked from the caller."""

    _start_method = "fork"
    _Popen = _ForkPopen


class SpawnProcess(_Process):
    """A process that is a new interpreter."""

    _start_method = "spawn"
    _Popen = _SpawnPopen


class ForkServerProcess(_Process):
    """A process that is forked from the fork server."""

    _start_method = "forkserver"
    _Popen = _ForkServerPopen


class ForkContext(_Context):
    """That of `fork`."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(_Context):
    """That of `spawn`."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(_Context):
    """That of `forkserver`."""

    _name = "forkserver"
    Process = ForkServerProcess


_known: dict[str, Any] = context._concrete_contexts  # type: ignore[attr-defined]
for _kind in (ForkContext, SpawnContext, ForkServerContext):
    # Gymnasium takes a context by its name, and asks `multiprocessing.get_context` for it.
    _known[f"{NAME_PREFIX}{_kind._name}"] = _kind()
os.register_at_fork(after_in_child=_after_fork_in_child)
