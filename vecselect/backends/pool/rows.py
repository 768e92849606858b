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
from functools import partial
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.lane import Lane, LaneFailure, raised_here
from vecselect.backends.pool.link import Signal
from vecselect.backends.pool.process import ProcessWorker, ProcessWorkers
from vecselect.backends.pool.threads import ThreadWorker, ThreadWorkers
from vecselect.backends.pool.worker import ENDED, failed_there, packed_reply, serve
from vecselect.backends.pool.workers import CLOSE_LIMIT_S, Raised
from vecselect.process import pickling
from vecselect.process.remote_errors import Failed, raised_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from threading import Event

    import numpy as np

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.lane import LaneSpec, Work
    from vecselect.backends.pool.link import Port
    from vecselect.backends.pool.workers import Settings, Worker

    Message = tuple[str, Any]
    """A job that the arena cannot hold: its name, and what it takes. See `RowLanes.jobs`."""

MESSAGE = (1 << 63) - 1
"""In the queue: a job that stands in the pipe."""

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
        self._key = spec.layout.num_envs + work.index
        self._infos, self._objects = whole.infos, whole.objects
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

    def step(self, row: int, action: Any) -> Any:
        """Steps a sub-environment; returns what the arena cannot hold, or None."""
        lane = self._lanes[row]
        lane.step((action,), 0)
        return self._rest(lane, row) if self._infos.rest or self._objects else None

    def reset(self, row: int, seed: int | None, options: dict[str, Any] | None) -> Any:
        """Resets a sub-environment; returns what the arena cannot hold, or None."""
        lane = self._lanes[row]
        lane.reset([seed], options, [True], 0)
        return self._rest(lane, row) if self._infos.rest or self._objects else None

    def _rest(self, lane: Lane, row: int) -> Any:
        rest, self._infos.rest = self._infos.rest, {}
        return rest, {path: values[row] for path, values in lane.objects.items()}

    def jobs(self, message: Message) -> Iterator[tuple[int, Callable[[], Any]]]:
        """What a message asks for: the key of each answer, and what gives it."""
        name, arguments = message
        if name == "learn":
            self._infos.add(arguments)
        elif name == "step":
            for row, action in arguments.items():
                yield row, partial(self.step, row, action)
        elif name == "reset":
            seeds, options = arguments
            for row, seed in seeds.items():
                yield row, partial(self.reset, row, seed, options)
        else:
            yield self._key, partial(getattr(self.whole, name), *arguments)


# ---- processes


def answer_rows(
    rows: RowLanes,
    arena: Arena,
    index: int,
    tries: int,
    go: Signal,
    done: Signal,
    finished: Signal,
    pipe: Connection,
    orphaned: Event,
) -> None:
    """Does the jobs of a worker process until it is told to end.

    Args:
        rows: Its sub-environments.
        arena: What all lanes share.
        index: Of the worker.
        tries: Tries to take a signal before sleeping.
        go: Given by the parent for every job.
        done: Only a memory fence; nobody waits for it.
        finished: Given for every answer; one signal shared by all workers.
        pipe: To the parent.
        orphaned: Set when the parent has ended.
    """
    inbox, outbox = Ring(arena.inboxes[index]), Ring(arena.outboxes[index])
    control = arena.control[index].data
    actions: dict[int, np.ndarray] = {}

    def answer(key: int, work: Callable[..., Any], *args: Any) -> None:
        try:
            reply = work(*args)
        except LaneFailure as failure:
            reply = failed_there(failure)
        packed = None
        if reply is not None:
            packed = packed_reply(rows.whole, reply)
            key |= 1 << HIGH
        outbox.place(key)
        # A fence, for processors that reorder writes: a semaphore that nobody else has, given and
        # taken. What the arena holds is seen before the number.
        done.release()
        done.acquire(False)
        outbox.publish()
        finished.release()
        if packed is not None:
            pipe.send_bytes(packed)  # after the signal: a full pipe waits for the parent to read

    acquire, step = go.acquire, rows.step
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
            for key, work in rows.jobs(pickling.loads(pipe.recv_bytes())):
                answer(key, work)
            continue
        row, code = job & LOW, job >> HIGH
        given = actions.get(code)
        if given is None:
            given = actions[code] = arena.action_rows(code)
        answer(row, step, row, given[row].copy())


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
        rows, index, tries = RowLanes(task, lane, spec, arena), task.index, task.tries
        answer_rows(rows, arena, index, tries, go, port.done, finished, port.pipe, orphaned)

    serve(work, go, ports, take_jobs)


class RowProcess(ProcessWorker):
    """A worker process whose sub-environments step independently of each other."""

    def make_queues(self, arena: Arena) -> None:
        """Makes the caller's ends of its queues, which are empty."""
        inbox, outbox = arena.inboxes[self.index], arena.outboxes[self.index]
        inbox[:] = outbox[:] = 0
        self._inbox, self._outbox = Ring(inbox), Ring(outbox)

    def put(self, job: int) -> None:
        """Gives it a job in the arena."""
        self._inbox.place(job)
        self._inbox.publish()
        self.go.release()

    def tell(self, message: Message) -> None:
        """Gives it a job in the pipe."""
        self.check()
        data = pickling.dumps(message)
        with self.message():
            self.put(MESSAGE)
            self.pipe.connection.send_bytes(data)

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
                answers[word & LOW] = self.pipe.connection.recv_bytes()
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
        for worker in self.each:
            worker.make_queues(self.arena)

    def give_steps(self, place: int, rows: Iterable[int], code: int) -> None:
        """Has a worker step some of its sub-environments, with the actions in the arena.

        Args:
            place: Of the worker.
            rows: Which.
            code: Of the dtype of the actions.
        """
        put, high = self.each[place].put, code << HIGH
        for row in rows:
            put(row | high)

    def tell(self, place: int, message: Message) -> None:
        """Has a worker do what a message says: see `RowLanes.jobs`."""
        if message[0] == "reset":
            self._seeds.update(
                (row, seed) for row, seed in message[1][0].items() if seed is not None
            )
        self.each[place].tell(message)

    def wait(self, count: int, timeout_s: float) -> None:
        """Waits until there are so many answers, or perhaps are; or the time has run out."""
        finished, tries = self._finished, self.each[0].tries
        for _ in range(count):
            if not (finished.spun(tries) or finished.acquire(True, timeout_s)):
                return
            self._unsignalled -= 1

    def take_answers(self, answers: dict[int, Any], at_work: dict[int, Any]) -> None:
        """Takes in what workers have answered since the last look.

        Args:
            answers: Gets each by row, or by the key of a worker: what the sub-environment has left
                beside the arena, or what a method returned; as bytes for `unpacked`.
            at_work: Loses the same keys.
        """
        for worker in self.each:
            self._unsignalled += worker.take_answers(answers, at_work)
        while self._unsignalled > 0 and self._finished.acquire(False):
            self._unsignalled -= 1

    def unpacked(self, answer: Any) -> Any:
        """An answer as its worker gave it; a `Raised` where a sub-environment raised."""
        if answer is None:
            return None
        reply = pickling.loads(answer)
        return Raised(raised_there(reply)) if isinstance(reply, Failed) else reply

    def replace(self, place: int, death: Exception) -> None:
        """Replaces a worker that has died; where none are replaced, raises, now and ever after."""
        self._replace(place, death)

    def successor(self, worker: Worker, death: Exception) -> Worker:
        """Starts a process in place of one that has died: see `ReplaceableWorkers`."""
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
        self.inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
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
        while not self.ended and (message := self.inbox.get()) is not None:
            for key, work in self._rows.jobs(message):
                if self.ended:
                    return
                try:
                    reply = work()
                except LaneFailure as failure:
                    reply = Raised(raised_here(failure))
                except BaseException as error:  # it would end the program in its own thread
                    reply = Raised(error)
                self._workers.answer(key, reply)


class RowThreads(ThreadWorkers):
    """Worker threads whose sub-environments step independently of each other."""

    each: list[Any]

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._answers: collections.deque[tuple[int, Any]] = collections.deque()
        self._finished: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._unsignalled = 0

    def start(self, work: Work) -> Worker:
        """Prepares a thread: see `ThreadWorkers`."""
        return RowThread(work, self)

    def give_steps(self, place: int, rows: Iterable[int], code: int) -> None:
        """Has a worker step some of its sub-environments: see `RowProcesses`."""
        given = self.arena.action_rows(code)
        self.tell(place, ("step", {row: given[row].copy() for row in rows}))

    def tell(self, place: int, message: Message) -> None:
        """Has a worker do what a message says: see `RowLanes.jobs`."""
        self.each[place].inbox.put(message)

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

    def unpacked(self, answer: Any) -> Any:
        """An answer as its worker gave it."""
        return answer
