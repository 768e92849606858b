"""Workers that are threads of the calling process.

A thread steps its lane into the arena, which is ordinary memory here. Nothing is pickled: commands
and answers are handed over as they are. All threads are given their commands, and then a gate that
they wait at is opened once for all of them; the last one to answer wakes the caller.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.lane import LaneFailure, raised_here
from vecselect.backends.pool.link import WATCH_PERIOD_S
from vecselect.backends.pool.settings import sample_of
from vecselect.backends.pool.worker import WorkerLane, close_all
from vecselect.backends.pool.workers import PENDING, Worker, Workers
from vecselect.errors import VecselectError, built_too_late, warn
from vecselect.process.remote_errors import annotate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.settings import LaneSpec, Sample, Settings, Work
    from vecselect.backends.pool.workers import Arguments

_REOPEN_PERIOD_S = 1e-4
"""Threads that have nothing to do but to come through the gate are given so much time at once."""


class PipeGate:
    """A gate that threads wait at, again and again, and that one system call opens for all.

    A thread woken by one that runs Python finds the interpreter's lock taken, and goes back to
    sleep: two switches for nothing, for each thread. A pipe is opened by a call of the system
    during which the caller does without that lock.

    There are two pipes, which are open while they hold something, and which threads come through in
    turn. One is shut when everybody has come through it, and before the other is opened. So nobody
    misses an opening, and nobody comes through twice.
    """

    def __init__(self, threads: int) -> None:
        self._openings = 0
        self._passed = [0] * threads
        self._ends: list[tuple[int, int]] = []
        for _ in range(2):
            self._ends.append(os.pipe())
            for end in self._ends[-1]:
                os.set_blocking(end, False)

    def waiter(self, place: int) -> Callable[[], object]:
        """Makes the function that one of the threads calls to wait until the gate is opened."""
        passed, waits = self._passed, []
        for read_end, _ in self._ends:
            poll = select.poll()
            poll.register(read_end, select.POLLIN)
            waits.append(poll.poll)

        def wait(gate: PipeGate = self) -> None:  # keeps the pipes open
            number = passed[place] + 1
            waits[number % 2]()
            passed[place] = number

        return wait

    def open(self) -> None:
        """Opens it for every thread; all of them wait, or have nothing to do before they do."""
        while not self.reopen():
            time.sleep(_REOPEN_PERIOD_S)

    def reopen(self) -> bool:
        """Opens the next pipe if everybody has come through the last; else holds that open.

        Returns:
            Whether it was the next one. Interrupted anywhere, it can be called again.
        """
        is_next = self._passed.count(self._openings) == len(self._passed)
        if is_next:
            self._shut(self._openings % 2)
            self._openings += 1
        self._open(self._openings % 2)
        return is_next

    def open_for_good(self) -> None:
        """Opens it for every thread, now and whenever it comes."""
        for pipe in range(2):
            self._open(pipe)

    def _open(self, pipe: int) -> None:
        with contextlib.suppress(BlockingIOError):  # full: more than open it cannot be
            os.write(self._ends[pipe][1], b"o")

    def _shut(self, pipe: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._ends[pipe][0], 4096):
                pass

    def __del__(self) -> None:
        """Closes the pipes."""
        for ends in self._ends:
            for end in ends:
                os.close(end)


class LockGate:
    """The same made of a lock for each thread, which it takes and the caller releases."""

    def __init__(self, threads: int) -> None:
        self._for_good = False
        self._locks = [threading.Lock() for _ in range(threads)]
        for lock in self._locks:
            lock.acquire()

    def waiter(self, place: int) -> Callable[[], object]:
        """Makes the function that one of the threads calls to wait until the gate is opened."""
        acquire = self._locks[place].acquire
        return lambda: self._for_good or acquire()

    def reopen(self) -> bool:
        """Opens it for every thread: none has to wait for others here."""
        for lock in self._locks:
            if lock.locked():
                lock.release()
        return True

    open = reopen

    def open_for_good(self) -> None:
        """Opens it for every thread, now and whenever it comes."""
        self._for_good = True
        self.reopen()


def make_gate(threads: int) -> PipeGate | LockGate:
    """A gate for so many threads, of the best kind that there is."""
    if hasattr(select, "poll"):  # not on Windows, and not where gevent has replaced it
        with contextlib.suppress(OSError):  # no descriptors left
            return PipeGate(threads)
    return LockGate(threads)


class _Answers:
    """The answers to commands that were given together: the caller is woken once, by the last.

    They are counted anew each time, so that a count that Ctrl-C has upset is soon forgotten.

    Attributes:
        all_in: Held until the last one is in.
    """

    def __init__(self, awaited: int) -> None:
        self.all_in: threading.Lock = threading.Lock()
        self.all_in.acquire()
        # Counting down is one indivisible step in `itertools`, and would not be in Python.
        self._left = itertools.count(awaited - 1, -1)

    def count(self) -> None:
        """Counts an answer that can be seen already."""
        if next(self._left) == 0:
            self.all_in.release()


class _Meeting:
    """Where the threads of one vector environment and the caller meet.

    Attributes:
        gate: What the threads wait at for commands.
        answers: Those to the commands that the gate was opened for last.
    """

    def __init__(self, threads: int) -> None:
        self.gate: PipeGate | LockGate = make_gate(threads)
        self.answers: _Answers = _Answers(0)


class ThreadWorker(Worker):
    """A worker thread, both sides of it.

    The gate and the answers only say that there may be something to see; what counts are the
    numbers of the commands. So a wake-up that was lost to Ctrl-C, or is left over from an
    interrupted command, does no harm.
    """

    def __init__(self, work: Work, meeting: _Meeting) -> None:
        """Prepares the thread; `built` starts it, so that environments are built in order."""
        super().__init__(work)
        self.envs: list[gym.Env] = []
        self._work = work
        self._meeting = meeting
        self._lane: WorkerLane | None = None
        # Numbers of the commands that were given, answered and collected last.
        self._given = self._finished = self._collected = 0
        self._command: tuple[Any, ...] | None = None  # what `packed` has made
        self._slot = 0
        self._reply: Any = None
        # A daemon: the program can end whatever an environment is doing.
        self.thread: threading.Thread = threading.Thread(
            target=self._serve, name=f"vecselect-thread-{work.index}", daemon=True
        )

    @property
    def outstanding(self) -> bool:
        """Whether a command was given whose end has not been seen."""
        return self._collected != self._given

    def built(self, timeout_s: float | None = None) -> Sample | None:
        """Starts the thread and waits until it has built its sub-environments: see `Worker`."""
        self._given = 1
        self._meeting.answers = _Answers(1)
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
            raise built_too_late(self.name(), timeout_s)
        if isinstance(found, BaseException):
            raise found
        return sample_of(self.envs[0])

    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Makes a lane of its sub-environments."""
        try:
            self._lane = WorkerLane(self._work, spec, self.envs, arena)
        except Exception as error:
            annotate(error, self.rows[0], "its constructor")
            raise

    def lane_made(self) -> tuple[str, list[gym.Space[Any]]]:
        """What is wrong with its spaces, and these where they may differ: see `Worker`."""
        assert self._lane is not None
        return self._lane.spaces()

    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the new templates; `request` gives it."""
        return self.new_templates, name, args

    def request(self, data: Any, slot: int = 0) -> None:
        """Gives the command that `packed` made; the thread begins it when the gate is opened."""
        self._slot = slot
        self._command = data
        self._given += 1
        self.new_templates = []

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun: see `Worker`."""
        while self._finished != self._given:
            period_s = WATCH_PERIOD_S
            if deadline_s is not None:
                period_s = min(period_s, max(deadline_s(), 0.0))
            all_in = self._meeting.answers.all_in
            if all_in.acquire(True, period_s) or self._finished == self._given:
                continue
            (look_around or self.check)()
            if deadline_s is not None and deadline_s() <= 0:
                return PENDING
        reply, self._reply = self._reply, None
        self._collected = self._given
        return reply

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        done = self.outstanding and self._finished == self._given
        return done and isinstance(self._reply, BaseException)

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Collects the answer to a command that was interrupted: see `Worker`."""

        def wake() -> None:  # Ctrl-C may have come before the gate was opened
            self.check()
            self._meeting.gate.reopen()

        if self._finished != self._given:
            wake()
        return self.collect(deadline_s, wake)

    def name(self) -> str:
        """The thread and what it runs, as the beginning of a sentence."""
        return f"Thread {self.index}, {self.runs()}"

    def ask_to_end(self) -> None:
        """Tells the thread to close its sub-environments and end."""
        self.ended = True
        self._meeting.gate.open_for_good()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread to end; returns whether it has."""
        if self.thread.ident is None or self.thread is threading.current_thread():
            return True  # never started; or its own garbage collector closes what it belongs to
        self.thread.join(max(timeout_s, 0.0))
        return not self.thread.is_alive()

    def _serve(self) -> None:
        """Runs in the thread: builds and does what the caller asks for until the end."""
        built = self._build()
        self._answer(1, built, self._meeting.answers)
        if built is not None:
            return
        self._work_on()
        if self._lane is None:
            close_all(self.envs, self.rows[0])
        else:
            self._lane.close()

    def _work_on(self) -> None:
        """In the thread: does what the caller asks for until the end."""
        meeting = self._meeting
        wait = meeting.gate.waiter(self.index)
        while True:
            wait()
            number, answers = self._given, meeting.answers
            if self.ended:
                break
            if number != self._finished:
                self._answer(number, self._done(), answers)

    def _answer(self, number: int, reply: Any, answers: _Answers) -> None:
        """In the thread: answers a command; the last thread to do so wakes the caller."""
        self._reply = reply
        self._finished = number
        answers.count()

    def _build(self) -> BaseException | None:
        """In the thread: builds the sub-environments."""
        row = self.rows[0]
        try:
            for make in self._work.env_fns:
                self.envs.append(make())
                row += 1
        except BaseException as error:
            annotate(error, row, "its constructor")
            for env in self.envs:
                with contextlib.suppress(Exception):
                    env.close()
            self.envs.clear()
            return error
        return None

    def _done(self) -> Any:
        """In the thread: does the command; returns the answer."""
        assert self._lane is not None
        assert self._command is not None
        try:
            return self._lane.request(self._slot, *self._command)
        except LaneFailure as failure:
            return raised_here(failure)
        except BaseException as error:  # what would end the program, were it raised in its thread
            return error


class ThreadWorkers(Workers):
    """Workers that are threads. They live until they are told to end, so none is replaced."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.meeting: _Meeting = _Meeting(settings.workers)

    def start_one(self, work: Work) -> Worker:
        """Prepares a thread; waiting for what it builds starts it."""
        return ThreadWorker(work, self.meeting)

    def ask(self, name: str, arguments: Arguments, slot: int = 0) -> None:
        """Gives every thread a method of its lane to call: see `Workers`."""
        super().ask(name, arguments, slot)
        given = sum([worker.outstanding for worker in self.each])
        if given:
            self.meeting.answers = _Answers(given)
            self.meeting.gate.open()

    def end_some(self, workers: Sequence[Any], limit_s: float) -> None:
        """Ends threads; warns of those that are stuck in an environment."""
        workers = [worker for worker in workers if not worker.ended]
        for worker in workers:
            worker.ask_to_end()
        until_s = time.monotonic() + limit_s
        stuck = [worker for worker in workers if not worker.join(until_s - time.monotonic())]
        if stuck:
            rows = [row for worker in stuck for row in worker.rows]
            warn(
                f"The threads of sub-environments {rows} were still busy {limit_s:g} s after they "
                "had been told to end. A thread cannot be ended from outside: each closes its "
                "sub-environments when they return, or ends with the program."
            )
