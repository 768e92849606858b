"""Around a worker of `AsyncVectorEnv`, in its process: what goes wrong is told and survived."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from typing import TYPE_CHECKING, Any

# Private, but what `worker=None` stands for.
from gymnasium.vector.async_vector_env import _async_worker  # isort: skip

from vecselect import processes
from vecselect.backends.orphans import LOOK_S, ParentWatch
from vecselect.backends.specs import facts_of
from vecselect.backends.strict import Watched
from vecselect.failures import Failed, annotate, portable
from vecselect.learner_threads import seed_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    import gymnasium as gym
    from gymnasium.vector import AutoresetMode

    from vecselect.backends.samples import Announced
    from vecselect.backends.specs import Facts

    Worker = Callable[..., None]


class Factory:
    """Builds one sub-environment; sent as bytes, so that what fails in unpacking can be told.

    Attributes:
        announced: What the calling process gets instead, where it is not to build any.
        facts: Of the spec of what the calling process has built, once it has.
    """

    def __init__(self, make: Callable[[], gym.Env], row: int) -> None:
        """Wraps a factory.

        Args:
            make: Builds the sub-environment.
            row: Its index.
        """
        self.announced: Announced | None = None
        self.facts: Facts | None = None
        self._make: Callable[[], gym.Env] | None = make
        self._packed = b""
        self._row = row
        self._home = os.getpid()

    def __call__(self) -> gym.Env:
        """Builds a new sub-environment."""
        if self.announced is not None and os.getpid() == self._home:
            return self.announced  # type: ignore[return-value]
        try:
            make: Any = processes.loads(self._packed) if self._make is None else self._make
            env: gym.Env = make()
        except Exception as error:
            if os.getpid() == self._home:  # else the caller does it
                annotate(error, self._row, "construct")
            raise
        self.facts = facts_of(env)
        return env

    def __getstate__(self) -> tuple[bytes, int, int]:
        """The wrapped factory by value."""
        return processes.dumps(self._make), self._row, self._home

    def __setstate__(self, state: tuple[bytes, int, int]) -> None:
        """Keeps the bytes until it is called."""
        self.announced = self.facts = self._make = None
        self._packed, self._row, self._home = state


class Guarded:
    """A worker of `AsyncVectorEnv` around another one, Gymnasium's or the user's.

    What its sub-environment raises is sent whole, whatever it is, and Gymnasium's worker, which
    ends with it, is begun anew with the same environment and in the same state. It has a process
    group and global random generators of its own, is deaf to Ctrl-C, and ends when its parent has
    gone.
    """

    def __init__(
        self,
        worker: Worker | None,
        seeds: Sequence[int],
        may_start_processes: bool,
        inherited: Callable[[], Sequence[Connection]],
    ) -> None:
        """Wraps a worker.

        Args:
            worker: The user's; Gymnasium's where it is None.
            seeds: Of the global random generators, one for each worker.
            may_start_processes: Whether environments may use multiprocessing themselves.
            inherited: Gives the parent's ends of the pipes so far, which a forked worker inherits
                and has to close: an open one would keep other workers from seeing the parent go.
        """
        self._worker = worker
        self._seeds = seeds
        self._may_start_processes = may_start_processes
        self._inherited = inherited

    @property
    def __wrapped__(self) -> Worker:
        """The worker inside, whose signature Gymnasium looks at."""
        return self._worker or _async_worker

    def __getstate__(self) -> tuple[Any, ...]:
        """All that a process needs that inherits nothing."""
        worker = None if self._worker is None else processes.dumps(self._worker)
        return worker, self._seeds, self._may_start_processes

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Takes what `__getstate__` gave."""
        worker, self._seeds, self._may_start_processes = state
        self._worker = None if worker is None else processes.loads(worker)
        self._inherited = list

    def __call__(
        self,
        index: int,
        env_fn: Callable[[], gym.Env],
        pipe: Connection,
        parent_pipe: Connection,
        shared_memory: Any,
        error_queue: Any,
        autoreset_mode: AutoresetMode,
        *rest: Any,
    ) -> None:
        """Runs in the worker's process, with the arguments that Gymnasium gives its worker."""
        for end in (parent_pipe, *self._inherited()):
            end.close()
        if self._may_start_processes:
            multiprocessing.current_process().daemon = False
        processes.settle_in(self._seeds[index])
        watch = ParentWatch()
        channel = Channel(pipe, index)
        try:
            forgetful = not shared_memory and self._worker is None
            channel.env = Watched(env_fn(), channel, autoreset_mode, forgetful)
            seed_torch(self._seeds[index])
        except Exception as error:
            channel.fail(error)
            return
        channel.send((facts_of(channel.env), True))
        try:
            self._serve(channel, (parent_pipe, shared_memory, channel, autoreset_mode, *rest))
        finally:
            channel.env.really_close()
            if channel.orphaned:
                watch.end_orphan(LOOK_S + 0.1)

    def _serve(self, channel: Channel, arguments: tuple[Any, ...]) -> None:
        """Runs the worker, again and again where it was Gymnasium's and ended with an error."""
        assert channel.env is not None
        env = channel.env
        while not channel.ended:
            channel.failed = False
            try:
                self.__wrapped__(channel.row, lambda: env, channel, *arguments)
            except _Again:
                pass
            except SystemExit:
                raise
            except BaseException as error:
                if not channel.failed:
                    channel.fail(error)
            if self._worker is not None:  # nobody knows how to bring it back to where it was
                return
            channel.again = env.repeated()


class _Again(BaseException):
    """Has the worker begun anew; no `except Exception` stops it."""


class Channel:
    """The worker's end of the pipe, and its queue of errors.

    Attributes:
        row: Index of the sub-environment.
        env: The sub-environment, once it is built.
        command: The last command.
        phase: What it does, in the words of error messages.
        ended: Whether there will be no other command.
        orphaned: Whether that is because nobody is there to give it.
        failed: Whether the last answer was an error.
        outdated: Whether the worker is to be begun anew before the next command.
        again: While a worker that was begun anew is brought to where it was: the command for that.
    """

    def __init__(self, pipe: Connection, row: int) -> None:
        self.row = row
        self.env: Watched | None = None
        self.command = self.phase = "construct"
        self.ended = False
        self.orphaned = False
        self.failed = False
        self.outdated = False
        self.again: tuple[str, Any] | None = None
        self._error: BaseException | None = None
        self._pipe = pipe

    def recv(self) -> tuple[str, Any]:
        """The next command; the last one where there is no parent any more."""
        if self.again is not None:
            return self.again
        if self.outdated:
            self.outdated = False
            raise _Again
        try:
            data = self._pipe.recv_bytes()
        except (EOFError, OSError):
            self.ended = self.orphaned = True
            return "close", None
        self.command = self.phase = "reading a command"
        command: tuple[str, Any] = processes.loads(data)
        self.command, given = command
        self.phase = _phase(self.command, given)
        self.ended = self.command == "close"
        return command

    def send(self, reply: tuple[Any, bool]) -> None:
        """Answers a command; what failed with the exception itself, in a form that arrives."""
        if self.again is not None:
            self.again = None
        elif self._error is not None:
            error, self._error = self._error, None
            self.fail(error)
        else:
            self._write(processes.dumps_importable(reply))

    def put(self, report: tuple[int, Any, Any, Any]) -> None:
        """As the queue of errors: takes the exception that the next answer is to tell of."""
        if self.again is not None:  # what succeeded before has failed: nothing can be relied on
            raise SystemExit(1)
        error = sys.exc_info()[1] or report[2]
        if not isinstance(error, BaseException):
            error = RuntimeError(str(report[2]))
        self._error = error

    def fail(self, error: BaseException) -> None:
        """Answers a command with the exception that it led to."""
        self.failed = True
        self.again = None
        phase, when = self.phase, ""
        if self.env is not None and self.command in ("step", "reset"):
            phase, when = self.env.phase, self.env.when()
        self._write(processes.dumps(Failed(self.row, phase, portable(error), when)))

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the next `recv` sees that nobody is there
            self._pipe.send_bytes(data)

    def __getattr__(self, name: str) -> Any:
        """What else a user's worker may want of a pipe."""
        return getattr(self._pipe, name)


def _phase(command: str, given: Any) -> str:
    """What a command does, in the words of error messages."""
    if command == "_call":
        return "render" if given[0] == "render" else f"call({given[0]!r})"
    return f"set_attr({given[0]!r})" if command == "_setattr" else command
