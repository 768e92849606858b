"""How processes are started on POSIX: contexts of multiprocessing, with what environments need.

    caller                        fork server                     worker
    ------                        -----------                     ------
    starts the server with the
      first worker        ------> imports PRELOADED
    names of modules      ------> imports them
    own pid, descriptors  ------> forks                    -----> reads from its start pipe
    reads the worker's pid <----- writes into the status pipe
    preparation, Process  --------------- start pipe -----------> takes over variables, umask,
                                                                  cores, folder, sys.path;
                                                                  unpickles Process, runs it
                                  kills its process group,
    reads the exit code   <------ then reaps it            <----- ends

- `spawn` uses the start pipe too, `fork` inherits everything. Both do without the server: the
  caller kills the worker's process group and reaps the worker (`forkserver.reap`).
- The caller ends a worker that it does not need any more (`processes.end_all`).
- When the caller has ended, its pidfd becomes readable in the worker, which ends and kills its own
  group (`ParentWatch`), and in the server, which kills the workers that have not ended in time.
- When the server has ended, its workers run on, and the next start begins a new server.

In every process that one of these contexts starts

- the environment variables, the working folder, the umask, the usable cores and `sys.path` are
  those of the caller at that time, and are set before anything is imported;
- the user's script is not run a second time, so that no script needs an
  `if __name__ == "__main__"` guard;
- Ctrl-C is ignored from the first: it is the caller's to handle.

A process that is forked from one that has used them, as by `os.fork` or a `ProcessPoolExecutor`,
has no part in the workers of that one, and starts its own afresh. Where multiprocessing has no
`fork`, on Windows, its own contexts are used.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import (
    connection,
    context,
    popen_fork,
    popen_forkserver,
    popen_spawn_posix,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from typing import TYPE_CHECKING, Any

from vecselect import forkserver
from vecselect.errors import refusals_named
from vecselect.interrupts import start_with_deferred_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

LOOK_S = forkserver.LOOK_S

ORPHAN_GRACE_S = 1.5
"""Seconds that a worker whose parent has gone may take to close its sub-environments."""


def start_methods() -> tuple[str, ...]:
    """The start methods of this platform, the default first.

    `fork` is never the default: it copies locks that other threads hold, so with torch loaded in
    the parent a forked worker deadlocks. A user who wants it says so with `context="fork"`.
    """
    available = multiprocessing.get_all_start_methods()
    order = ("forkserver", "spawn", "fork")
    return tuple(method for method in order if method in available)


def context_name(method: str | None = None) -> str:
    """What `multiprocessing.get_context` knows the context by that `get_context` returns."""
    method = method or start_methods()[0]
    return f"vecselect-{method}" if os.name == "posix" else method


def get_context(method: str | None = None) -> BaseContext:
    """A context of multiprocessing.

    Args:
        method: A start method; the default is the safest one there is.

    Raises:
        ValueError: If there is no such method here.
    """
    return multiprocessing.get_context(context_name(method))


def ensure_fork_server() -> int | None:
    """Starts the fork server unless it runs; returns its process id where it is a child."""
    with refusals_named():
        resource_tracker.ensure_running()
        with start_with_deferred_interrupts():
            return forkserver.running_server().pid


class _Process(process.BaseProcess):
    """A process of one of our contexts."""

    parent_file = -1
    """In the process: a descriptor that becomes readable when its parent ends; -1 if there is none.
    The parent has it only while it starts the process."""

    def start(self) -> None:
        """Starts it.

        Raises:
            StartError: If the system refuses that.
        """
        with refusals_named():
            self.parent_file = forkserver.open_own_pidfd()
            try:
                super().start()
            finally:
                forkserver.close_files(self.parent_file)
                self.parent_file = -1

    def __getstate__(self) -> dict[str, Any]:
        """All of it; the descriptor is sent along."""
        file = reduction.DupFd(self.parent_file) if self.parent_file >= 0 else None
        return {**self.__dict__, "parent_file": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes what `__getstate__` gave."""
        self.__dict__.update(state)
        file = state["parent_file"]
        self.parent_file = -1 if file is None else file.detach()

    def run(self) -> None:
        """In the process: runs what it was made for."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        super().run()


class _Popen(popen_fork.Popen):
    """A started process that is a child of the caller."""

    pid = 0

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Its exit code, if it has ended; what it has started and left running is killed then."""
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):
                self.returncode = forkserver.reap(self.pid, block=flag == 0)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.poll() is None:
            super()._send_signal(sig)  # type: ignore[misc]


class _ForkPopen(_Popen):
    """One that was forked from the caller."""

    def _launch(self, process_obj: Any) -> None:
        with start_with_deferred_interrupts():
            super()._launch(process_obj)  # type: ignore[misc]


class _SentPopen(_Popen):
    """One that gets what it does through a pipe."""

    def _launch(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        buffer = io.BytesIO()
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            reduction.dump(forkserver.preparation(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        # Before Ctrl-C is put off: where this starts the tracker, it unblocks SIGINT.
        tracker: Any = resource_tracker.getfd()
        start_r, start_w = os.pipe()
        self.sentinel, status_w = os.pipe()
        # Our end of the first pipe is kept: the process learns of our end by its closing.
        self.finalizer = util.Finalize(self, forkserver.close_files, (start_w, self.sentinel))
        try:
            with start_with_deferred_interrupts():
                self.pid = self._started(start_r, status_w, tracker)
                # A process that has ended already is told of by its exit code.
                with (
                    contextlib.suppress(BrokenPipeError),
                    open(start_w, "wb", closefd=False) as file,
                ):
                    file.write(buffer.getbuffer())
        except BaseException:
            if self.pid:  # interrupted, or given half of what it is to do
                self.kill()
                self.poll(0)
            self.close()
            raise

    def _started(self, start: int, status: int, tracker: int) -> int:
        """Starts the process; returns its id.

        Args:
            start: Descriptor of the pipe it is to read from; closed here.
            status: Descriptor of a pipe whose other end is `sentinel`; closed here, and in the
                process, or the fork server, when the process has ended.
            tracker: Descriptor of the resource tracker's pipe.
        """
        raise NotImplementedError


class _SpawnPopen(_SentPopen):
    """One that is a new interpreter."""

    method = "spawn"
    DupFd = popen_spawn_posix.Popen.DupFd
    duplicate_for_child = popen_spawn_posix.Popen.duplicate_for_child

    def _started(self, start: int, status: int, tracker: int) -> int:
        command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=start)
        program: Any = spawn.get_executable()
        try:
            return util.spawnv_passfds(program, command, [*self._fds, tracker, start, status])
        finally:
            forkserver.close_files(start, status)


class _ForkServerPopen(_SentPopen):
    """One that was forked from the fork server, which reaps it and tells its exit code."""

    method = "forkserver"
    DupFd = popen_forkserver.Popen.DupFd
    duplicate_for_child = popen_forkserver.Popen.duplicate_for_child
    poll = popen_forkserver.Popen.poll

    def _started(self, start: int, status: int, tracker: int) -> int:
        return forkserver.start_worker(start, (self.sentinel, status), tracker, self._fds)


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


class _Context(context.BaseContext):
    """A context of one of these kinds of processes; what the system refuses it is named too."""

    def __init__(self, kind: Any) -> None:
        self._name = kind._start_method
        self.Process = kind

    Array = refusals_named()(context.BaseContext.Array)
    Queue = refusals_named()(context.BaseContext.Queue)
    RawArray = refusals_named()(context.BaseContext.RawArray)
    Semaphore = refusals_named()(context.BaseContext.Semaphore)


def _after_fork_in_child() -> None:
    """In a forked process: the workers are not its own."""
    children: set[Any] = getattr(process, "_children", set())
    children.difference_update([one for one in children if isinstance(one, _Process)])


if os.name == "posix":
    # Private, but Gymnasium takes a context by its name alone, and looks it up there.
    _known: dict[str, Any] = context._concrete_contexts  # type: ignore[attr-defined]
    for _kind in (ForkProcess, SpawnProcess, ForkServerProcess):
        _known[context_name(_kind._start_method)] = _Context(_kind)
    os.register_at_fork(after_in_child=_after_fork_in_child)


class ParentWatch(threading.Thread):
    """Ends this worker when its parent has gone, even where a sub-environment is stuck.

    Attributes:
        gone: Set once the parent has gone.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """Begins to watch.

        Args:
            wake: Called when the parent has gone.
        """
        super().__init__(daemon=True, name="vecselect-watch-parent")
        self.gone = threading.Event()
        self._wake = wake
        self.start()

    def run(self) -> None:
        """Waits for the parent's end; gives this process `ORPHAN_GRACE_S` to end; then ends it."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        current = multiprocessing.current_process()
        file = current.parent_file if isinstance(current, _Process) else -1
        # A forked sibling of the parent may hold the other end of the sentinel. Where no file tells
        # of the parent itself, the parent's id does, if this is a direct child.
        files = [parent.sentinel] if file < 0 else [parent.sentinel, file]
        direct = file < 0 and parent.pid == os.getppid()
        while not connection.wait(files, LOOK_S if direct else None):
            if direct and os.getppid() != parent.pid:
                break
        self.gone.set()
        self._wake()
        time.sleep(ORPHAN_GRACE_S)
        _kill_own_group()
        os._exit(1)

    def end_orphan(self, wait_s: float = 0.0) -> None:
        """Once all is closed: ends this process as `run` does, if the parent has gone.

        Args:
            wait_s: Seconds to wait for that to be noticed.
        """
        if self.gone.wait(wait_s):
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            _kill_own_group()


def _kill_own_group() -> None:
    """Kills this process and its group, if it leads one; see `processes.settle_in`."""
    if os.name == "posix" and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
