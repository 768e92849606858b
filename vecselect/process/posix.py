"""Processes on POSIX: forked from the caller or from the fork server, or new interpreters.

    caller                        fork server                     worker
    ------                        -----------                     ------
    starts the server with the
      first worker        ------> imports PRELOADED
    names of modules      ------> imports them
    descriptors           ------> forks                    -----> reads from its start pipe
    reads the worker's pid <----- writes into the status pipe
    preparation, Process  --------------- start pipe -----------> takes over variables, umask,
                                                                  cores, folder, sys.path;
                                                                  unpickles Process, runs it
                                  kills its process group,
    reads the exit code   <------ then reaps it            <----- ends

- `spawn` uses the start pipe too, `fork` inherits everything. Both do without the server: the
  caller kills the worker's process group and reaps the worker (`forkserver.reap`).
- The caller ends a worker that it does not need any more (`children.end_all`).
- When the caller has ended, its pidfd becomes readable in the worker, which ends and kills its own
  group (`contexts.ParentWatch`), and in the server, which kills the workers that have not ended in
  time.
- When the server has ended, its workers run on, and the next start begins a new server.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
from multiprocessing import (
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
from typing import Any

from vecselect.errors import refusals_named
from vecselect.process import forkserver
from vecselect.process.interrupts import start_with_deferred_interrupts


class _Process(process.BaseProcess):
    """What all three classes of processes have in common."""

    parent_file: int = -1
    """In the process: a descriptor that becomes readable when its parent ends; -1 if there is none.
    The parent has it only while it starts the process."""

    def start(self) -> None:
        """Starts it; raises `StartError` if the system refuses that."""
        with refusals_named():
            self.parent_file = forkserver.open_own_pidfd()
            try:
                super().start()
            finally:
                forkserver.close_files(self.parent_file)
                self.parent_file = -1

    def __getstate__(self) -> dict[str, Any]:
        """The state, with a duplicate of the descriptor."""
        file = reduction.DupFd(self.parent_file) if self.parent_file >= 0 else None
        return {**self.__dict__, "parent_file": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the state, and opens the descriptor."""
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
        """Its exit code, or None; kills what is left in its process group once it has exited."""
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):
                self.returncode = forkserver.reap(self.pid, block=flag == 0)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.poll() is None:
            super()._send_signal(sig)  # type: ignore[misc]


class _ForkPopen(_Popen):
    """A process that was forked from the caller."""

    def _launch(self, process_obj: Any) -> None:
        with start_with_deferred_interrupts():
            super()._launch(process_obj)  # type: ignore[misc]


class _SentPopen(_Popen):
    """A process that receives its work through a pipe."""

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
        """Starts the process; returns its id. The descriptors of the pipes are closed here.

        It reads from `start`; the other end of `status` is `sentinel`, which tells its end.
        """
        raise NotImplementedError


class _SpawnPopen(_SentPopen):
    """A process that is a new interpreter."""

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
    """A process that was forked from the fork server, which reaps it and sends its exit code."""

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


PROCESS_CLASSES: tuple[Any, ...] = (ForkProcess, SpawnProcess, ForkServerProcess)


def _after_fork_in_child() -> None:
    """In a forked process: forgets the workers, which belong to the parent."""
    children: set[Any] = getattr(process, "_children", set())
    children.difference_update([one for one in children if isinstance(one, _Process)])


os.register_at_fork(after_in_child=_after_fork_in_child)
