"""A worker that is a thread: both sides of it.

It steps its lane into the arena, which is ordinary memory here. Nothing is packed: commands and
answers are handed over as they are. Commands are given to all threads, which are then let go at
once; the last one to answer wakes the caller.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.arena import Arena
from vecselect.backends.pool.gate import make_gate
from vecselect.backends.pool.handle import (
    CLOSE_LIMIT_S,
    PENDING,
    Raised,
    closed_meanwhile,
    which_runs,
)
from vecselect.backends.pool.lane import LaneFailure, keep_copied, raised_here
from vecselect.backends.pool.server import BUFFER, Server, close_all, sample_of
from vecselect.backends.pool.signals import WATCH_PERIOD_S
from vecselect.errors import StepTimeout, VecselectError, VecselectWarning
from vecselect.failures import annotate, report_closing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.construction import Settings
    from vecselect.backends.pool.handle import Greeting, Handle
    from vecselect.backends.pool.infos import InfoTable, Template
    from vecselect.backends.pool.server import Sample, Terms, Work


class _Desk:
    """What passes between the caller and one thread.

    The gate and the answers only say that there may be something to see; what counts are the
    numbers of the commands. So a signal that was lost to Ctrl-C, or is left over from an
    interrupted command, does no harm.

    Attributes:
        number: Of the command given last.
        finished: Of the command answered last.
        command: The templates to learn, a method of the lane and its arguments; None for a step.
        reply: The last answer.
        ending: Whether there will be no other command.
        envs: The sub-environments of the lane, as far as they are built.
        server: Does what is asked for, once there is a lane.
    """

    def __init__(self) -> None:
        self.number = self.finished = 0
        self.command: tuple[list[Template], str, tuple[Any, ...]] | None = None
        self.reply: Any = None
        self.ending = False
        self.envs: list[gym.Env] = []
        self.server: Server | None = None

    def answer(self, number: int, reply: Any, answers: _Answers) -> None:
        """Answers a command; the last one to do so has the caller look."""
        self.reply = reply
        self.finished = number
        answers.count()


class _Answers:
    """The answers to commands that were given together: the caller is woken once, by the last.

    They are counted anew each time, so that a count that Ctrl-C has upset is soon forgotten.

    Attributes:
        all_in: Held until the last one is in.
    """

    def __init__(self, awaited: int) -> None:
        self.all_in = threading.Lock()
        self.all_in.acquire()
        # Counting down is one indivisible step in `itertools`, and would not be in Python.
        self._left = itertools.count(awaited - 1, -1)

    def count(self) -> None:
        """Counts an answer that can be seen already."""
        if next(self._left) == 0:
            self.all_in.release()


class _Crew:
    """The threads of one vector environment.

    Attributes:
        gate: What they wait at for commands.
        answers: Those to the commands that they were let go for last.
    """

    def __init__(self, threads: int) -> None:
        self.gate = make_gate(threads)
        self.answers = _Answers(0)


class ThreadHandle:
    """A thread as the caller sees it; a `Handle`."""

    def __init__(self, work: Work, crew: _Crew) -> None:
        """Prepares the thread; `built` starts it, so that environments are built in order."""
        self.index = work.index
        self.rows = work.rows
        self.outstanding = False
        self.ended = False
        self.news: list[Template] = []
        self._desk = _Desk()
        self.envs: Sequence[gym.Env] = self._desk.envs
        self._number = 0
        self._crew = crew
        self._work = work
        self._control: Any = None
        # A daemon: the program can end whatever an environment is doing.
        self.thread = threading.Thread(
            target=_serve,
            args=(self._desk, work, crew),
            name=f"vecselect-thread-{work.index}",
            daemon=True,
        )

    def built(self, timeout_s: float | None = None) -> None:
        """Starts the thread and waits until it has built its sub-environments."""
        self._number = self._desk.number = 1
        self._crew.answers = _Answers(1)
        try:
            self.thread.start()
        except RuntimeError as error:
            raise VecselectError(
                f"The system lets this program start no more than {self.index} threads here "
                f'({error}). Use fewer, as in mode="thread:{max(self.index // 2, 1)}".'
            ) from error
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        found = self.collect(None if until_s is None else lambda: until_s - time.monotonic())
        if found is PENDING:
            raise StepTimeout(
                f"{self.name()} has not built its sub-environments within start_timeout_s="
                f"{timeout_s:g}."
            )
        if isinstance(found, Raised):
            raise found.error

    def sample(self) -> Sample:
        """What the first of its sub-environments says of itself."""
        return sample_of(self.envs[0])

    def settle(self, terms: Terms, arena: Arena) -> None:
        """Makes a lane of its sub-environments."""
        try:
            self._desk.server = Server(self._work, terms, self._desk.envs, arena, dict, keep_copied)
        except Exception as error:
            annotate(error, self.rows[0], "construct")
            raise
        self._control = self._desk.server.control

    def greeting(self) -> Greeting:
        """What it says of its spaces."""
        assert self._desk.server is not None
        return self._desk.server.greeting()

    def step(self, buffer: int) -> None:
        """Gives the command to step with the actions in the arena."""
        self.request(self.packed("step", (None,)) if self.news else None, buffer)

    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the news; `request` gives it."""
        return self.news, name, args

    def request(self, data: Any, buffer: int = 0) -> None:
        """Gives the command that `packed` made; it begins when all are let go."""
        desk = self._desk
        self._control[BUFFER] = buffer
        desk.command = data
        self.outstanding = True
        self._number = desk.number = self._number + 1
        if data is not None:
            self.news = []

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun; see `Handle`."""
        desk = self._desk
        while desk.finished != self._number:
            period_s = WATCH_PERIOD_S
            if deadline_s is not None:
                period_s = min(period_s, max(deadline_s(), 0.0))
            all_in = self._crew.answers.all_in
            if all_in.acquire(True, period_s) or desk.finished == self._number:
                continue
            (look_around or self.check)()
            if deadline_s is not None and deadline_s() <= 0:
                return PENDING
        reply, desk.reply = desk.reply, None
        self.outstanding = False
        return reply

    def read_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """An info that it replied with: itself."""
        return info

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        desk = self._desk
        done = self.outstanding and desk.finished == self._number
        return done and isinstance(desk.reply, Raised)

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Takes in, and lets go of, what an interrupted command still owes; see `Handle`."""

        def let_go() -> None:  # Ctrl-C may have come before it was
            self.check()
            self._crew.gate.hold_open()

        if self._desk.finished != self._number:
            let_go()
        return self.collect(deadline_s, let_go)

    def has_died(self) -> bool:
        """Never: a thread ends when it is told to, or with the program."""
        return False

    def check(self) -> None:
        """Raises ClosedEnvironmentError if it was told to end; a thread does not die."""
        if self.ended:
            raise closed_meanwhile()

    def kill(self) -> None:
        """Refused: there is no way to do it."""
        raise VecselectError("A thread cannot be ended from outside.")

    def name(self) -> str:
        """The thread and what it runs, as the beginning of a sentence."""
        return f"Thread {self.index}, {which_runs(self.rows)}"

    def ask_to_end(self) -> None:
        """Tells the thread to close its sub-environments and end."""
        self.ended = True
        self._desk.ending = True
        self._crew.gate.open_for_good()

    def join(self, timeout_s: float) -> bool:
        """Waits for its end; whether it has come."""
        if self.thread.ident is None or self.thread is threading.current_thread():
            return True  # never started; or its own garbage collector closes what it belongs to
        self.thread.join(max(timeout_s, 0.0))
        return not self.thread.is_alive()


class ThreadStarter:
    """Makes workers that are threads; a `Starter`."""

    arena: Arena

    def __init__(self, settings: Settings) -> None:
        self._crew = _Crew(settings.workers)

    def start(self, work: Work) -> ThreadHandle:
        """Prepares a thread; waiting for what it builds starts it."""
        return ThreadHandle(work, self._crew)

    def agree(self, terms: Terms) -> None:
        """Makes the arena, once it is known what all lanes have in common."""
        self.arena = Arena(terms.layout, mmap.mmap(-1, terms.layout.size_bytes()))

    def need_no_more(self) -> None:
        """Nothing was needed that could be let go of."""

    def let_go(self, handles: Sequence[Handle]) -> None:
        """Has the threads begin what they were given."""
        given = sum([handle.outstanding for handle in handles])
        if given:
            self._crew.answers = _Answers(given)
            self._crew.gate.open()

    def note_seeds(self, seeds: Sequence[int | None], first_row: int = 0) -> None:
        """No thread is ever replaced, so none needs a seed for that."""

    def replaced(self, infos: InfoTable, handle: Handle, death: Exception) -> Handle:
        """Refused: a thread does not die alone."""
        raise VecselectError("A thread cannot be replaced.")

    @staticmethod
    def end_all(handles: Sequence[Any], limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends threads; warns of those that are stuck in an environment. Twice does nothing."""
        mine: list[ThreadHandle] = [handle for handle in handles if not handle.ended]
        for handle in mine:
            handle.ask_to_end()
        until_s = time.monotonic() + limit_s
        stuck = [handle for handle in mine if not handle.join(until_s - time.monotonic())]
        if stuck:
            rows = [row for handle in stuck for row in handle.rows]
            warnings.warn(
                f"The threads of sub-environments {rows} were still busy {limit_s:g} s after they "
                "had been told to end. A thread cannot be ended from outside: each closes its "
                "sub-environments when they return, or ends with the program.",
                VecselectWarning,
                stacklevel=2,
            )


def _serve(desk: _Desk, work: Work, crew: _Crew) -> None:
    """Runs in the thread: builds and does what the caller asks for until the end."""
    wait = crew.gate.way(work.index)
    if not _built(desk, work, crew.answers):
        return
    while True:
        wait()
        number, answers = desk.number, crew.answers
        if desk.ending:
            break
        if number != desk.finished:
            desk.answer(number, _done(desk.server, desk.command), answers)
    if desk.server is None:
        close_all(desk.envs, work.first_row)
        return
    try:
        desk.server.lane.close()
    except LaneFailure as failure:
        report_closing(failure.row, failure.__cause__)


def _built(desk: _Desk, work: Work, answers: _Answers) -> bool:
    """Builds the sub-environments of a thread; whether that went well."""
    row = work.first_row
    try:
        for make in work.env_fns:
            desk.envs.append(make())
            row += 1
    except BaseException as error:
        annotate(error, row, "construct")
        for env in desk.envs:
            with contextlib.suppress(Exception):
                env.close()
        desk.envs.clear()
        desk.answer(1, Raised(error), answers)
        return False
    desk.answer(1, None, answers)
    return True


def _done(
    server: Server | None, command: tuple[list[Template], str, tuple[Any, ...]] | None
) -> Any:
    """What a command was answered with."""
    assert server is not None
    try:
        return server.step() if command is None else server.request(*command)
    except LaneFailure as failure:
        return Raised(raised_here(failure))
    except BaseException as error:  # what would end the program, were it raised in its own thread
        return Raised(error)
