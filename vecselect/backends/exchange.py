"""The caller's side of an `AsyncVectorEnv`'s workers: what they are told, answer and owe."""

from __future__ import annotations

import collections
import contextlib
import math
import os
import select
import time
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.backends.interrupts import Unbroken
from vecselect.errors import StepTimeout, WorkerDied
from vecselect.failures import Failed, raised_there

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

CLOSE_LIMIT_S = 3.5
"""How long workers may take to end, all together, before they are terminated and then killed."""

LOOK_S = 0.05
"""How long one worker is waited for before it is seen what has become of the others."""


class Line:
    """The caller's end of one worker's pipe, with the methods that `AsyncVectorEnv` calls.

    A worker has one command at a time: the next one is kept until it has answered. So an answer
    always belongs to the command it was given last, and neither side writes while the other does.

    Attributes:
        row: Index of its sub-environment.
        process: The worker.
        pipe: The pipe itself.
        busy_with: Number of the command that it has not answered yet, if there is one.
        waiting: Commands that it gets after that, with their numbers.
        answered: Whether it has answered the command that counts.
        reply: What it answered.
        answers: Whether, when it stirred last, there was something to read.
    """

    def __init__(self, exchange: Exchange, row: int, pipe: Connection, process: BaseProcess):
        self.row = row
        self.process = process
        self.pid = process.pid
        self.pipe = pipe
        self.busy_with: int | None = 0  # building its sub-environment
        self.waiting: collections.deque[tuple[int, bytes]] = collections.deque()
        self.answered = False
        self.reply: Any = None
        self.answers = False
        self._exchange = exchange
        self._file = pipe.fileno()
        self._poll = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            for file in (self._file, process.sentinel):
                self._poll.register(file, select.POLLIN)

    def send(self, command: tuple[str, Any]) -> None:
        """Prepares a command; all are sent, or none."""
        self._exchange.prepare(self, command)

    def recv(self) -> Any:
        """The answer to what was sent last."""
        self._exchange.flush()
        if not self.answered:
            self._exchange.gather()
        reply, self.reply = self.reply, None
        return reply

    def close(self) -> None:
        """Closes the pipe."""
        self.pipe.close()

    def stirs(self, timeout_s: float) -> bool:
        """Whether within a time an answer comes, or the process ends; notes which of them."""
        if self._poll is not None:
            ready: list[Any] = [file for file, _ in self._poll.poll(math.ceil(timeout_s * 1e3))]
        else:
            ready = connection.wait([self.pipe, self.process.sentinel], timeout_s)
        self.answers = self._file in ready or self.pipe in ready
        return bool(ready)

    def give_next(self) -> None:
        """Sends the next command, if it has answered the one before."""
        if self.busy_with is None and self.waiting:
            with Unbroken(self.break_off):
                self.busy_with, data = self.waiting.popleft()
                self.pipe.send_bytes(data)

    def break_off(self) -> None:
        """Ends a worker that would take the next message for the rest of one that was torn."""
        self.process.kill()
        self._exchange.note_death(
            f"{self.name()} was ended: an exception, as a signal's handler raises it, had broken "
            "off a message to or from it."
        )

    def name(self) -> str:
        """The worker, as the beginning of a sentence."""
        return f"The worker of sub-environment {self.row} (pid {self.pid})"


class Exchange:
    """What passes between the caller and the workers.

    Every answer is in before any is handed on, so that an error leaves nothing half read; what
    is given up is still answered some time, and those answers are dropped.

    Attributes:
        lines: One for each worker.
        limit_s: Seconds that workers may take to answer, and the option that says so.
    """

    def __init__(self, pipes: Sequence[Connection], workers: Sequence[BaseProcess]) -> None:
        self.lines = [
            Line(self, row, pipe, process)
            for row, (pipe, process) in enumerate(zip(pipes, workers, strict=False))
        ]
        self.limit_s: tuple[float | None, str] = (None, "")
        self._number = 0
        self._prepared: list[tuple[Line, bytes]] = []
        self._dead: str | None = None

    def begin(self) -> None:
        """Makes sure that commands can be given, and forgets those that were prepared.

        Raises:
            WorkerDied: If a worker has died before.
        """
        self._need_living()
        self._prepared = []

    def prepare(self, line: Line, command: tuple[str, Any]) -> None:
        """Packs a command for one worker; `flush` sends it."""
        # A batch of actions consists of what every process can import; arguments may not.
        dumps = processes.dumps_importable if command[0] == "step" else processes.dumps
        self._prepared.append((line, dumps(command)))

    def flush(self) -> None:
        """Sends what was prepared; from now on only the answers to that count."""
        if not self._prepared:
            return
        with Unbroken():
            prepared, self._prepared = self._prepared, []
            self._number += 1
            for line in self.lines:
                line.answered, line.reply = True, None
            for line, data in prepared:
                line.answered = False
                line.waiting.append((self._number, data))
            for line, _ in prepared:
                self._give_next(line)

    def gather(self, timeout_s: float | None = None) -> bool:
        """Waits until every worker has answered.

        An error that one has answered with, or a death, is raised when all have answered, or when
        another one takes long.

        Args:
            timeout_s: Seconds to wait.

        Returns:
            Whether all answers are there; if not, another `gather` goes on waiting for them.

        Raises:
            WorkerDied: If a worker's process has ended.
            StepTimeout: If workers take longer than they may.
            Exception: What a sub-environment raised.
        """
        self._need_living()
        self.flush()
        limit_s, option = self.limit_s
        users = timeout_s is not None and (limit_s is None or timeout_s < limit_s)
        wait_s = timeout_s if users else limit_s
        until_s = math.inf if wait_s is None else time.monotonic() + wait_s
        for line in self.lines:
            while not line.answered:
                if line.stirs(max(min(LOOK_S, until_s - time.monotonic()), 0.0)):
                    self._take(line)
                    continue
                self._look_around()
                if time.monotonic() >= until_s and not line.answered:
                    if users:
                        return False
                    raise StepTimeout(
                        f"{line.name()} has not answered within {option}={limit_s:g}."
                    )
        self._raise_failure()
        return True

    def pending(self) -> bool:
        """Whether there are answers to wait for."""
        return not all(line.answered for line in self.lines)

    def drop(self) -> None:
        """Lets go of what is being answered."""
        self._prepared = []
        self._number += 1
        for line in self.lines:
            line.answered, line.reply = True, None

    def _need_living(self) -> None:
        """Raises WorkerDied if a worker has died before."""
        if self._dead is not None:
            raise WorkerDied(self._dead)

    def _look_around(self) -> None:
        """Takes in what is there; raises if one has failed or died."""
        for line in self.lines:
            while line.busy_with is not None and line.stirs(0.0):
                self._take(line)
        self._raise_failure()

    def _raise_failure(self) -> None:
        for line in self.lines:
            if isinstance(line.reply, Failed):
                raise raised_there(line.reply)

    def _take(self, line: Line) -> None:
        """Reads one answer, whole or not at all; the next command goes out at once."""
        try:
            with Unbroken(line.break_off):
                if not line.answers:
                    raise EOFError
                data = line.pipe.recv_bytes()
                number, line.busy_with = line.busy_with, None
        except (EOFError, OSError):
            self._died(line)
        if number == self._number:
            line.answered = True
            line.reply = processes.loads(data)
        if line.waiting:
            self._give_next(line)

    def _give_next(self, line: Line) -> None:
        try:
            line.give_next()
        except OSError:
            self._died(line)

    def _died(self, line: Line) -> None:
        """Raises the error that says how a worker ended."""
        line.process.join(processes.END_GRACE_S)
        code = line.process.exitcode
        self.note_death(
            f"{line.name()} {processes.how_it_ended(code)}.{processes.memory_picture(code)}"
        )
        raise WorkerDied(self._dead) from None

    def note_death(self, sentence: str) -> None:
        """Notes that a worker has ended; nothing can be done without it."""
        self._dead = f"{sentence} Close the vector environment and make a new one."


def end_all(lines: list[Line], limit_s: float) -> None:
    """Ends workers: asks, and after the time limit terminates and kills. Twice does nothing.

    Args:
        lines: Of the workers; none is left in it.
        limit_s: Seconds that they may take to end by themselves; 0 does not ask.
    """
    mine, lines[:] = list(lines), []
    try:
        if limit_s > 0:
            for line in mine:
                _ask_to_end(line)
    finally:
        for line in mine:
            line.close()  # one that is busy sees it when it has answered
        processes.end_all([line.process for line in mine], limit_s)


def _ask_to_end(line: Line) -> None:
    """Tells a worker to close its environment and end; one that does not listen blocks nobody."""
    if line.busy_with is None:
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.set_blocking(line.pipe.fileno(), False)
            line.pipe.send_bytes(processes.dumps(("close", None)))
