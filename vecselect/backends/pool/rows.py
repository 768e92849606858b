"""Workers whose sub-environments step independently, each as soon as it has its action.

A worker process has two queues in the arena. The caller puts jobs into one, and gives the signal
`go` for each; the worker puts what it has done into the other, and gives a signal that all workers
share, so that the caller waits for whichever comes first. What the arena cannot hold goes through
the pipe, in the order of the queues. Threads have queues of Python's.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.lane import Lane, LaneFailure, raised_here
from vecselect.backends.pool.link import Signal
from vecselect.backends.pool.processes import ProcessWorker, ProcessWorkers
from vecselect.backends.pool.threads import ThreadWorker, ThreadWorkers
from vecselect.backends.pool.worker import (
    AT_ONCE_BYTES,
    ENDED,
    failed_there,
    packed_reply,
    serve,
)
from vecselect.backends.pool.workers import CLOSE_LIMIT_S
from vecselect.process import pickling
from vecselect.process.remote_errors import Failed, raised_there

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from threading import Event

    import numpy as np

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.link import Port
    from vecselect.backends.pool.settings import LaneSpec, Settings, Work
    from vecselect.backends.pool.workers import Worker

    Job = tuple[str, Any]
    """A method of a lane and its arguments; `step` has an action, `reset` a seed and options."""

MESSAGE = (1 << 63) - 1
"""In the queue: jobs, by row or by the key of a worker, and new info templates are in the pipe."""

HIGH = 32
LOW = (1 << HIGH) - 1
"""A number in a queue holds in its lower half a row, or `num_envs` and the index of a worker that
answers for all of its rows. The upper half of a job is the dtype of the action; that of an answer
is 1 where more stands in the pipe."""


class Ring:
    """A queue of numbers in shared memory, with one writer and one reader."""

    def __init__(self, words: np.ndarray) -> None:
        self._words: Any = words.data
        self._size = len(words) - 1
        self._count = 0

    def place(self, value: int) -> None:
        """Adds a number, which the reader sees after `publish`."""
        self._words[1 + self._count % self._size] = value
        self._count += 1

    def publish(self) -> None:
        """Has the reader see all that was placed."""
        self._words[0] = self._count

    def first(self) -> int | None:
        """The number that comes next; None if there is none."""
        if self._words[0] == self._count:
            return None
        value: int = self._words[1 + self._count % self._size]
        return value

    def drop(self) -> None:
        """Drops the number that comes next."""
        self._count += 1


class RowLanes:
    """The sub-environments of a worker, each with a lane of its own."""

    def __init__(self, work: Work, whole: Lane, spec: LaneSpec, arena: Arena) -> None:
        """Makes the lanes.

        Args:
            work: What the worker was started with.
            whole: A lane of all of them, for calls of their methods.
            spec: What all lanes have in common.
            arena: What they share.
        """
        self.whole = whole
        self._lanes: dict[int, Lane] = {}
        for index, (row, env) in enumerate(zip(work.rows, whole.envs, strict=True)):
            seeds = work.restart_seeds and work.restart_seeds[index : index + 1]
            self._lanes[row] = Lane(
                [env],
                row,
                spec,
                arena,
                restart_seeds=seeds,
                caught=BaseException,
                part_of=whole,
            )

    def done(self, key: int, name: str, arguments: Any) -> Any:
        """Does a job: of one sub-environment by its row, of all by any other key.

        Returns:
            What the arena cannot hold, or what a method has returned; None if there is nothing.
        """
        lane = self._lanes.get(key)
        if lane is None:
            return getattr(self.whole, name)(*arguments)
        if name == "step":
            lane.step((arguments,), 0)
        else:
            seed, options = arguments
            lane.reset([seed], options, [True], 0)
        infos, objects = lane.infos, lane.objects
        if not (infos.rest or objects):
            return None
        rest, infos.rest = infos.rest, {}
        return rest, {path: values[key] for path, values in objects.items()}


# ---- processes


def serve_rows(work: bytes, go: Signal, ports: Sequence[Port], finished: Signal) -> None:
    """Runs in the process, as `worker.serve`; each sub-environment steps independently.

    Args:
        work: As of `serve`.
        go: Taken for every job.
        ports: As of `serve`.
        finished: Given for every answer; one signal shared by all workers.
    """

    def take_jobs(
        task: Work, lane: Lane, spec: LaneSpec, arena: Arena, port: Port, orphaned: Event
    ) -> None:
        rows, index, pipe = RowLanes(task, lane, spec, arena), task.index, port.pipe
        inbox, outbox = Ring(arena.inboxes[index]), Ring(arena.outboxes[index])
        control, fence = arena.control[index].data, port.done
        actions: dict[int, np.ndarray] = {}
        outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        sender: threading.Thread | None = None

        def send() -> None:
            with contextlib.suppress(OSError):  # the parent has hung up
                while True:
                    pipe.send_bytes(outgoing.get())

        def answer(key: int, name: str, arguments: Any) -> None:
            nonlocal sender
            try:
                reply = rows.done(key, name, arguments)
            except LaneFailure as failure:
                reply = failed_there(failure)
            packed = None
            if reply is not None:
                packed = packed_reply(lane, reply)
                key |= 1 << HIGH
            outbox.place(key)
            # A fence, for processors that reorder writes: a semaphore that nobody else waits for,
            # given and taken. What the arena holds is seen before the number.
            fence.release()
            fence.acquire(False)
            outbox.publish()
            finished.release()
            if packed is None:
                return
            # After the signal: a full pipe waits for the parent, which may itself be sending what
            # waits for this thread. From the first large reply on another one sends them.
            if sender is None and len(packed) > AT_ONCE_BYTES:
                sender = threading.Thread(target=send, daemon=True)
                sender.start()
            if sender is None:
                pipe.send_bytes(packed)
            else:
                outgoing.put(packed)

        acquire, tries = go.acquire, task.tries
        while True:
            if not acquire(False):
                go.wait(tries)
            job = inbox.first()
            if job is None:
                if control[ENDED] or orphaned.is_set():
                    return
                continue
            inbox.drop()
            if job == MESSAGE:
                templates, jobs = pickling.loads(pipe.recv_bytes())
                lane.infos.add(templates)
                for key, (name, arguments) in jobs.items():
                    answer(key, name, arguments)
                continue
            row, code = job & LOW, job >> HIGH
            given = actions.get(code)
            if given is None:
                given = actions[code] = arena.action(0, code)
            answer(row, "step", given[row].copy())

    serve(work, go, ports, take_jobs)


class RowProcess(ProcessWorker):
    """A worker process whose sub-environments step independently of each other."""

    def make_queues(self, arena: Arena) -> None:
        """Makes the caller's ends of its queues, which are empty."""
        inbox, outbox = arena.inboxes[self.index], arena.outboxes[self.index]
        inbox[:] = outbox[:] = 0
        self._inbox, self._outbox = Ring(inbox), Ring(outbox)

    def tell(self, jobs: Mapping[int, Job]) -> None:
        """Gives it jobs in the pipe, and new info templates."""
        self.check()
        data = pickling.dumps((self.new_templates, jobs))
        with self.message():
            self.put(MESSAGE)
            self.pipe.connection.send_bytes(data)
            self.new_templates = []

    def put(self, job: int) -> None:
        """Gives it a job in the arena."""
        self._inbox.place(job)
        self._inbox.publish()
        self.go.release()

    def take_answers(self, answers: dict[int, Any], at_work: dict[int, Any]) -> int:
        """Takes in what it has answered: see `RowProcesses`; returns how many answers it were."""
        outbox, count = self._outbox, 0
        while (word := outbox.first()) is not None:
            count += 1
            at_work.pop(word & LOW, None)
            if word <= LOW:
                answers[word] = None  # first: Ctrl-C may come between the two, but not lose it
                outbox.drop()
                continue
            with self.message():
                data = self.pipe.connection.recv_bytes()
                try:
                    reply = pickling.loads(data)
                except Exception as error:  # it cannot be rebuilt here
                    reply = error
                answers[word & LOW] = raised_there(reply) if isinstance(reply, Failed) else reply
                outbox.drop()
        return count


class RowProcesses(ProcessWorkers):
    """Worker processes whose sub-environments step independently of each other."""

    each: list[Any]
    _worker = RowProcess
    _serve = "vecselect.backends.pool.rows:serve_rows"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._finished: Signal = Signal(self._context)
        self._more = (self._finished,)
        self._unsignalled = 0  # answers that were taken without their signal

    def make_arena(self, spec: LaneSpec) -> None:
        """Makes the arena, and the queues in it."""
        super().make_arena(spec)
        if not self.settings.restart:  # all that will ever open it have built, and so have done it
            self._finished.forget_name()
        for worker in self.each:
            worker.make_queues(self.arena)

    def give_steps(self, place: int, rows: Iterable[int], code: int) -> None:
        """Has a worker step some of its sub-environments, with the actions in the arena.

        Args:
            place: Of the worker.
            rows: Which.
            code: Of the dtype of the actions.
        """
        worker, high = self.each[place], code << HIGH
        if worker.new_templates:
            worker.tell({})
        for row in rows:
            worker.put(row | high)

    def tell(self, place: int, jobs: Mapping[int, Job]) -> None:
        """Gives a worker jobs, by row or by its own key."""
        resets = {row: arguments[0] for row, (name, arguments) in jobs.items() if name == "reset"}
        self._seeds.update((row, seed) for row, seed in resets.items() if seed is not None)
        self.each[place].tell(jobs)

    def wait(self, count: int, timeout_s: float) -> None:
        """Waits until there are so many answers, or perhaps are; or the time has run out."""
        finished, tries = self._finished, self.settings.caller_tries
        for _ in range(count):
            if not (finished.spun(tries) or finished.acquire(True, timeout_s)):
                return
            self._unsignalled -= 1

    def take_answers(self, answers: dict[int, Any], at_work: dict[int, Any]) -> None:
        """Takes in what workers have answered since the last look.

        Args:
            answers: Gets each by row, or by the key of a worker: what the sub-environment has left
                beside the arena, what a method returned, or what was raised.
            at_work: Loses the same keys.
        """
        for worker in self.each:
            self._unsignalled += worker.take_answers(answers, at_work)
        while self._unsignalled > 0 and self._finished.acquire(False):
            self._unsignalled -= 1

    def replace(self, place: int, death: Exception) -> None:
        """Replaces a worker that has died; where none are replaced, raises, now and ever after."""
        self._replace(place, death)

    def successor(self, worker: Worker, death: Exception) -> Worker:
        """Starts a process in place of one that has died: see `Workers`."""
        self.arena.inboxes[worker.index] = self.arena.outboxes[worker.index] = 0
        new: Any = super().successor(worker, death)
        new.make_queues(self.arena)
        return new  # type: ignore[no-any-return]

    def end(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends all workers, and removes the name of the signal that they share."""
        try:
            super().end(limit_s)
        finally:
            self._finished.forget_name()


# ---- threads


class RowThread(ThreadWorker):
    """A worker thread whose sub-environments step independently of each other."""

    def __init__(self, work: Work, workers: RowThreads) -> None:
        super().__init__(work, workers.meeting)
        self.inbox: queue.SimpleQueue[tuple[list[Template], Mapping[int, Job]] | None]
        self.inbox = queue.SimpleQueue()
        self._workers = workers

    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Makes the lanes of its sub-environments."""
        super().make_lane(spec, arena)
        assert self._lane is not None
        self._rows = RowLanes(self._work, self._lane.lane, spec, arena)

    def ask_to_end(self) -> None:
        """Tells the thread to close its sub-environments and end."""
        super().ask_to_end()
        self.inbox.put(None)

    def _work_on(self) -> None:
        """Runs in the thread: does its jobs until the end."""
        while (message := self.inbox.get()) is not None and not self.ended:
            templates, jobs = message
            self._rows.whole.infos.add(templates)
            for key, (name, arguments) in jobs.items():
                if self.ended:
                    return
                try:
                    reply = self._rows.done(key, name, arguments)
                except LaneFailure as failure:
                    reply = raised_here(failure)
                except BaseException as error:  # it would end the program in its own thread
                    reply = error
                self._workers.answer(key, reply)


class RowThreads(ThreadWorkers):
    """Worker threads whose sub-environments step independently: see `RowProcesses`."""

    each: list[Any]

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._answers: collections.deque[tuple[int, Any]] = collections.deque()
        self._finished: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._unsignalled = 0

    def start_one(self, work: Work) -> Worker:
        """Prepares a thread: see `ThreadWorkers`."""
        return RowThread(work, self)

    def give_steps(self, place: int, rows: Iterable[int], code: int) -> None:
        """Has a worker step some of its sub-environments: see `RowProcesses`."""
        given = self.arena.action(0, code)
        self.tell(place, {row: ("step", given[row].copy()) for row in rows})

    def tell(self, place: int, jobs: Mapping[int, Job]) -> None:
        """Gives a worker jobs: see `RowProcesses`."""
        worker = self.each[place]
        worker.inbox.put((worker.new_templates, jobs))
        worker.new_templates = []

    def answer(self, key: int, reply: Any) -> None:
        """Runs in a thread: answers a job."""
        self._answers.append((key, reply))
        self._finished.put(None)

    def wait(self, count: int, timeout_s: float) -> None:
        """Waits until there are so many answers: see `RowProcesses`."""
        with contextlib.suppress(queue.Empty):
            for _ in range(count):
                self._finished.get(True, timeout_s)
                self._unsignalled -= 1

    def take_answers(self, answers: dict[int, Any], at_work: dict[int, Any]) -> None:
        """Takes in what workers have answered since the last look: see `RowProcesses`."""
        while self._answers:
            key, reply = self._answers[0]
            at_work.pop(key, None)
            answers[key] = reply
            self._answers.popleft()
            self._unsignalled += 1
        with contextlib.suppress(queue.Empty):
            while self._unsignalled > 0:
                self._finished.get(False)
                self._unsignalled -= 1
