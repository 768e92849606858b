"""How mode `async` starts its workers and talks to them: see `async_env`."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import select
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.backends.base import need_no_ended_episode
from vecselect.backends.specs import same_factory
from vecselect.backends.worker_pipe import WorkerPipe
from vecselect.errors import TOO_LATE_ADVICE, StepTimeout
from vecselect.process import children, contexts, generators, pickling
from vecselect.process.remote_errors import Failed, raised_there

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from multiprocessing.connection import Connection

    from vecselect.backends.async_worker import Task
    from vecselect.backends.specs import Facts

LOOK_S = 0.05
"""How long one worker is waited for before it is seen what has become of the others."""


class RanOut(multiprocessing.TimeoutError):
    """The time that the user gave a wait has run out."""


class AsyncWorkers:
    """The workers of one vector environment, and the context that starts them.

    Attributes:
        lines: The caller's ends of the pipes to them.
        limit_s: Seconds that they may take to answer; infinite without a limit.
        option: What that limit is called.
        chosen: The rows that commands go to; None for all.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]],
        facts: Facts | None,
        start_method: str | None,
        limit_s: float | None,
    ) -> None:
        """Starts none yet; `facts` are those of the spec of what `env_fns[0]` has built here."""
        self.lines: list[Line] = []
        self.set_limit("start_timeout_s", limit_s)
        self.chosen: Collection[int] | None = None
        self._tasks: list[Task] = [
            (
                len(env_fns),
                generators.child_seed(row),
                facts if same_factory(make, env_fns[0]) else None,
                pickling.dumps(make),
            )
            for row, make in enumerate(env_fns)
        ]
        self._context: Any = contexts.get_context(start_method)

    def __getattr__(self, name: str) -> Any:
        """What else a context has."""
        return getattr(self._context, name)

    def set_limit(self, option: str, limit_s: float | None) -> None:
        """Sets how long workers may take to answer from now on."""
        self.option = option
        self.limit_s: float = math.inf if limit_s is None else limit_s

    @contextlib.contextmanager
    def only(self, rows: Collection[int]) -> Iterator[None]:
        """Has commands go to these rows only; the others answer None."""
        self.chosen = rows
        try:
            yield
        finally:
            self.chosen = None

    def Pipe(self) -> tuple[Line, Connection]:
        """A pipe to the next worker."""
        ours, theirs = self._context.Pipe()
        self.lines.append(Line(self, ours))
        return self.lines[-1], theirs

    def Process(self, *, args: tuple[Any, ...], **options: Any) -> Any:
        """The worker at the pipe that was made last; `args` are those that Gymnasium gives it."""
        row, _, theirs, line, *rest = args
        forks = self._context.get_start_method() == "fork"
        inherited = [one.pipe.connection for one in self.lines] if forks else []
        args = (row, self._tasks[row], theirs, inherited, *rest)
        line.pipe.process = self._context.Process(args=args, **options)
        return line.pipe.process

    def Queue(self) -> None:
        """None: errors come with the answers."""

    def Array(self, typecode: str, size: int) -> Any:
        """Memory for observations, without a semaphore: nobody locks it.

        Python would lose a Ctrl-C that came while it collects a semaphore.
        """
        return self._context.Array(typecode, size, lock=_NoLock())

    def end(self, limit_s: float) -> None:
        """Ends the workers: asks them, and kills them after a time limit; 0 does not ask."""
        lines, self.lines = self.lines, []
        try:
            for line in lines if limit_s > 0 else ():
                line.ask_to_end()
        finally:
            for line in lines:
                line.pipe.connection.close()  # a worker that is busy sees it when it has answered
            started = [line.pipe.process for line in lines]
            children.end_all([one for one in started if one and one.pid], limit_s)


class _NoLock:
    """Stands in for a lock."""

    def acquire(self) -> None:
        """Does nothing."""

    release = acquire


class Line:
    """The caller's end of the pipe to one worker, with the methods that `AsyncVectorEnv` calls.

    Attributes:
        awaited: Whether an answer is there, or due, that was not given up.
        ended: Whether an episode has ended that has to be reset before the next step.
    """

    closed = False

    def __init__(self, workers: AsyncWorkers, connection: Connection) -> None:
        advice = "Close the vector environment and make a new one."
        self.pipe: WorkerPipe = WorkerPipe(connection, None, self._name, advice)
        self.awaited: bool = True  # that its sub-environment is built
        self.ended: bool = False
        self._workers = workers
        self._row = len(workers.lines)
        self._busy = True
        self._reply: Any = None
        self._until_s = time.monotonic() + workers.limit_s
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll:
            self._poll.register(connection.fileno(), select.POLLIN)

    def send(self, command: tuple[str, Any]) -> None:
        """Sends a command, unless the rows that are chosen leave this one out."""
        workers = self._workers
        if command[0] == "step" and self._row == 0:
            need_no_ended_episode(np.array([line.ended for line in workers.lines]))
        # A batch of actions consists of what every process can import; arguments may not.
        dumps = pickling.dumps_importable if command[0] == "step" else pickling.dumps
        data = dumps(command)
        self.recv()  # what was given up is answered first: no end writes while the other one does
        self.awaited = True
        if workers.chosen is not None and self._row not in workers.chosen:
            self._reply = (None, True)
            return
        self._until_s = time.monotonic() + workers.limit_s
        with self.pipe.message():
            self.pipe.connection.send_bytes(data)
            self._busy = True

    def poll(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for an answer; False if it was given up.

        Raises `RanOut` if it does not come: for False Gymnasium would give up the call.
        """
        if self.awaited and not self._comes(time.monotonic() + timeout):
            raise RanOut(f"{self._name()} has not answered within {timeout:g} s.")
        return self.awaited

    def recv(self) -> Any:
        """The answer, if one is due; raises what a sub-environment raised, a death, a timeout."""
        self._comes(math.inf)
        self._raise_failure()
        self.awaited, reply, self._reply = False, self._reply, None
        return reply

    def give_up(self) -> None:
        """Has the answer that is due, if any, dropped; before the next command it is waited for."""
        self.awaited = False
        self._until_s = time.monotonic() + self._workers.limit_s

    def ask_to_end(self) -> None:
        """Tells a worker that listens to close its sub-environment and end."""
        if not self._busy and self.pipe.death() is None:
            with contextlib.suppress(OSError):
                if os.name == "posix":  # one that is stopped blocks nobody
                    os.set_blocking(self.pipe.connection.fileno(), False)
                self.pipe.connection.send_bytes(pickling.dumps(("close", None)))

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
                advice = TOO_LATE_ADVICE.replace("step_timeout_s", self._workers.option)
                raise StepTimeout(f"{self._name()} has not answered within {limit}. {advice}")
        return True

    def _look(self) -> None:
        """Raises if the worker has failed or died."""
        if self._busy and self._ready(0.0):
            self._read()
        elif death := self.pipe.death():
            raise death
        self._raise_failure()

    def _ready(self, wait_s: float) -> bool:
        if self._poll:
            return bool(self._poll.poll(math.ceil(wait_s * 1e3)))
        return self.pipe.connection.poll(wait_s)

    def _read(self) -> None:
        """Reads an answer, whole or not at all."""
        with self.pipe.message():
            data = self.pipe.connection.recv_bytes()
            self._busy = False
        self._reply = pickling.loads(data)
        if not isinstance(self._reply, Failed):
            *self._reply, self.ended = self._reply

    def _raise_failure(self) -> None:
        if self.awaited and isinstance(self._reply, Failed):
            raise raised_there(self._reply)

    def _name(self) -> str:
        return f"The worker of sub-environment {self._row} (pid {self.pipe.process.pid})"
