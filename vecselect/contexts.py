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
import re
import signal
import socket
import threading
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

from vecselect.backends.interrupts import Unbroken
from vecselect.errors import StartError
from vecselect.forkserver import MAX_FILES, NUMBER, read_number, reap

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME_PREFIX = "vecselect-"
"""What `multiprocessing.get_context` knows our contexts by: this, and the start method."""

PRELOADED = ("numpy", "gymnasium", "vecselect.backends.pool.worker")
"""Modules that the fork server imports when it starts; what they import, no worker has to."""


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


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Puts Ctrl-C off here; what is started meanwhile does not get it until it unblocks it."""
    with Unbroken():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ForkPopen(popen_fork.Popen):
    """A process under way that was forked from the caller."""

    def _launch(self, process_obj: Any) -> None:
        with _deaf_to_interrupts():
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
            reduction.dump(_preparation(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        start_r, start_w = os.pipe()
        self.sentinel, status_w = os.pipe()
        # Our end of the first pipe is kept: the process learns of our end by its closing.
        self.finalizer = util.Finalize(self, _close_all, (start_w, self.sentinel))
        try:
            with _deaf_to_interrupts():
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


def _preparation(name: str) -> dict[str, Any]:
    """What multiprocessing tells a process before it sends the rest, without the user's script."""
    data: dict[str, Any] = spawn.get_preparation_data(name)
    data.pop("init_main_from_name", None)
    data.pop("init_main_from_path", None)
    return data


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
        with _lock:
            self._server = _running_server()
            try:
                socket.send_fds(self._server.channel, [b"1"], files)
            except ConnectionError:
                raise StartError(self._server.how_it_ended()) from None

    def _begun(self) -> None:
        try:
            pid = read_number(self.sentinel)
        except EOFError:
            raise StartError(self._server.how_it_ended()) from None
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        self.pid = pid

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


class _Server:
    """The fork server, as a process sees it that starts workers with it.

    Attributes:
        channel: On which it is asked for workers.
        pid: Its process, where that is a child of this one.
    """

    def __init__(self, channel: socket.socket, pid: int | None = None) -> None:
        self.channel = channel
        self.pid = pid

    @staticmethod
    def started() -> _Server:
        """A new one."""
        resource_tracker.ensure_running()
        ours, theirs = socket.socketpair()
        owner = ParentFile()
        path = _preparation("")["sys_path"]
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
        return _Server(ours, pid)

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


_lock = threading.RLock()
_server: _Server | None = None


def _running_server() -> _Server:
    """The fork server of this process."""
    global _server
    if _server is not None and not _server.alive():
        forget_server()
    if _server is None:
        _server = _Server.started()
    return _server


def ensure_server() -> int | None:
    """Starts the fork server unless it runs; returns its process id where it is ours."""
    with refusals_named(), _deaf_to_interrupts(), _lock:
        return _running_server().pid


def forget_server() -> None:
    """Has the next worker started by a new fork server; this one ends with this process."""
    global _server
    if _server is not None:
        _server.channel.close()
        _server = None


def in_forked_worker(inherited: list[int], channel: socket.socket) -> None:
    """In a worker that the fork server has forked: takes what came with it."""
    global _server
    _inherited[:] = inherited
    _server = _Server(channel)


def _after_fork_in_child() -> None:
    """In a forked process: neither the workers nor the fork server are its own."""
    global _lock
    _lock = threading.RLock()
    forget_server()
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
