"""How mode `async` starts its workers and talks to them.

Gymnasium's `AsyncVectorEnv` takes the name of a context of multiprocessing, and asks that context
for pipes and processes. `Workers` is one. Its pipes have the methods that Gymnasium calls, and
raise what sub-environments have raised, that a worker has died, or that one takes too long.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import select
import time
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from vecselect import contexts, processes
from vecselect.backends.base import need_no_ended_episode
from vecselect.errors import StepTimeout, WorkerDied
from vecselect.interrupts import DeferredInterrupts
from vecselect.remote_errors import Failed, raised_there

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from multiprocessing.connection import Connection

LOOK_S = 0.05
"""How long one worker is waited for before it is seen what has become of the others."""


class RanOut(multiprocessing.TimeoutError):
    """The time that the user gave a wait has run out."""


class Workers:
    """The workers of one vector environment, and the context that starts them.

    Attributes:
        lines: The caller's ends of the pipes to them.
        limit_s: Seconds that they may take to answer; infinite without a limit.
        option: What that limit is called.
        chosen: The rows that commands go to; None for all.
    """

    def __init__(
        self, env_fns: Sequence[Callable[[], Any]], start_method: str | None, limit_s: float | None
    ) -> None:
        self.lines: list[Line] = []
        self.set_limit("start_timeout_s", limit_s)
        self.chosen: Collection[int] | None = None
        self._tasks = [
            (processes.child_seed(row), processes.dumps(make)) for row, make in enumerate(env_fns)
        ]
        self._context: Any = contexts.get_context(start_method)

    def __getattr__(self, name: str) -> Any:
        """What else a context has."""
        return getattr(self._context, name)

    def set_limit(self, option: str, limit_s: float | None) -> None:
        """Sets how long workers may take to answer from now on."""
        self.option = option
        self.limit_s = math.inf if limit_s is None else limit_s

    @contextlib.contextmanager
    def only(self, rows: Collection[int]) -> Iterator[None]:
        """Has commands go to these rows only; the others answer None."""
        self.chosen = rows
        try:
            yield
        finally:
            self.chosen = None

    @contextlib.contextmanager
    def named(self) -> Iterator[str]:
        """Gives it a name meanwhile: Gymnasium takes no context, but what `get_context` takes."""
        known: dict[str, Any] = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
        name = f"vecselect-async-{id(self)}"
        known[name] = self
        try:
            yield name
        finally:
            del known[name]

    def Pipe(self) -> tuple[Line, Connection]:
        """A pipe to the next worker."""
        ours, theirs = self._context.Pipe()
        self.lines.append(Line(self, ours))
        return self.lines[-1], theirs

    def Process(self, *, args: tuple[Any, ...], **options: Any) -> Any:
        """The worker at the pipe that was made last; `args` are those that Gymnasium gives it."""
        row, _, theirs, line, *rest = args
        forks = self._context.get_start_method() == "fork"
        ends = Ends(one.pipe for one in self.lines) if forks else Ends()
        args = (row, self._tasks[row], theirs, ends, *rest)
        line.process = self._context.Process(args=args, **options)
        return line.process

    def Queue(self) -> None:
        """None: errors come with the answers."""

    def end(self, limit_s: float) -> None:
        """Ends the workers. Twice does nothing.

        Args:
            limit_s: Seconds that they may take to close their sub-environments, before they are
                terminated and then killed; 0 does not ask.
        """
        lines, self.lines = self.lines, []
        try:
            for line in lines if limit_s > 0 else ():
                line.ask_to_end()
        finally:
            for line in lines:
                line.close()  # a worker that is busy sees it when it has answered
            started = [line.process for line in lines if line.process and line.process.pid]
            processes.end_all(started, limit_s)


class Ends(list[Any]):
    """The caller's ends of pipes, as far as a worker has inherited any."""

    def close(self) -> None:
        """Closes them: an open one would keep other workers from seeing the caller go."""
        for pipe in self:
            pipe.close()


class Line:
    """The caller's end of the pipe to one worker, with the methods that `AsyncVectorEnv` calls.

    Attributes:
        pipe: The pipe itself.
        process: The worker.
        awaited: Whether an answer is there, or due, that was not given up.
        extra: What the worker has added to its last answer: that about spaces, the facts of its
            sub-environment's spec; any other, whether an episode has ended that has to be reset.
    """

    closed = False

    def __init__(self, workers: Workers, pipe: Connection) -> None:
        self.pipe = pipe
        self.process: Any = None
        self.awaited = True  # that its sub-environment is built
        self.extra: Any = None
        self._workers = workers
        self._row = len(workers.lines)
        self._busy = True
        self._reply: Any = None
        self._until_s = time.monotonic() + workers.limit_s
        self._torn = False
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll:
            self._poll.register(pipe.fileno(), select.POLLIN)

    def send(self, command: tuple[str, Any]) -> None:
        """Sends a command, unless the rows that are chosen leave this one out."""
        workers = self._workers
        if command[0] == "step" and self._row == 0:
            need_no_ended_episode(np.array([line.extra is True for line in workers.lines]))
        # A batch of actions consists of what every process can import; arguments may not.
        dumps = processes.dumps_importable if command[0] == "step" else processes.dumps
        data = dumps(command)
        self.recv()  # what was given up is answered first: no end writes while the other one does
        self.awaited = True
        if workers.chosen is not None and self._row not in workers.chosen:
            self._reply = (None, True)
            return
        self._until_s = time.monotonic() + workers.limit_s
        try:
            with DeferredInterrupts(self._break_off):
                self.pipe.send_bytes(data)
                self._busy = True
        except OSError:
            self._raise_death()

    def poll(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for an answer; False if it was given up.

        Raises:
            RanOut: If it does not come. Had it returned False, Gymnasium would give up the call.
        """
        if self.awaited and not self._comes(time.monotonic() + timeout):
            raise RanOut(f"{self._name()} has not answered within {timeout:g} s.")
        return self.awaited

    def recv(self) -> Any:
        """The answer, if one is due.

        Raises:
            WorkerDied: If a worker's process has ended.
            StepTimeout: If the answer takes longer than it may.
            Exception: What a sub-environment raised.
        """
        self._comes(math.inf)
        self._raise_failure()
        self.awaited, reply, self._reply = False, self._reply, None
        return reply

    def give_up(self) -> None:
        """Has the answer that is due, if any, dropped; before the next command it is waited for."""
        self.awaited = False
        self._until_s = time.monotonic() + self._workers.limit_s

    def close(self) -> None:
        """Closes the pipe."""
        self.pipe.close()

    def ask_to_end(self) -> None:
        """Tells a worker that listens to close its sub-environment and end."""
        if not self._busy:
            with contextlib.suppress(OSError):
                if os.name == "posix":  # one that is stopped blocks nobody
                    os.set_blocking(self.pipe.fileno(), False)
                self.pipe.send_bytes(processes.dumps(("close", None)))

    def _comes(self, until_s: float) -> bool:
        """Waits for an answer that is due; where that takes long, looks at the other workers."""
        while self._busy:
            left_s = min(until_s, self._until_s) - time.monotonic()
            if self._ready(max(min(left_s, LOOK_S), 0.0)):
                self._read()
                break
            for line in self._workers.lines:
                line._look()
            if left_s <= 0 and until_s < self._until_s:
                return False
            if left_s <= 0:
                limit = f"{self._workers.option}={self._workers.limit_s:g}"
                raise StepTimeout(f"{self._name()} has not answered within {limit}.")
        return True

    def _look(self) -> None:
        """Raises if the worker has failed or died."""
        if self._busy and self._ready(0.0):
            self._read()
        elif self.process.exitcode is not None:
            self._raise_death()
        self._raise_failure()

    def _ready(self, wait_s: float) -> bool:
        if self._poll:
            return bool(self._poll.poll(math.ceil(wait_s * 1e3)))
        return self.pipe.poll(wait_s)

    def _read(self) -> None:
        """Reads an answer, whole or not at all."""
        try:
            with DeferredInterrupts(self._break_off):
                data = self.pipe.recv_bytes()
                self._busy = False
        except (EOFError, OSError):
            self._raise_death()
        self._reply = processes.loads(data)
        if not isinstance(self._reply, Failed):
            *self._reply, self.extra = self._reply

    def _raise_failure(self) -> None:
        if self.awaited and isinstance(self._reply, Failed):
            raise raised_there(self._reply)

    def _break_off(self) -> None:
        """Ends a worker that would take the next message for the rest of one that was torn."""
        self._torn = True
        self.process.kill()
        self.pipe.close()

    def _raise_death(self) -> NoReturn:
        self.process.join(processes.END_GRACE_S)
        code = self.process.exitcode
        how = f"{processes.how_it_ended(code)}.{processes.memory_picture(code)}"
        if self._torn:
            how = (
                "was ended, because an exception (such as one raised by a signal handler) "
                "interrupted a message to or from it, and the rest of it would have been "
                "misread."
            )
        advice = "Close the vector environment and make a new one."
        raise WorkerDied(f"{self._name()} {how} {advice}") from None

    def _name(self) -> str:
        return f"The worker of sub-environment {self._row} (pid {self.process.pid})"
