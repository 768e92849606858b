"""Workers that are processes: starting them, talking to them, replacing and ending them."""

from __future__ import annotations

import contextlib
import itertools
import sys
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.arena import LENT_SLOTS
from vecselect.backends.pool.host import SERVE, Host, Hosts
from vecselect.backends.pool.loans import Loans
from vecselect.backends.pool.restarts import ReplaceableWorkers
from vecselect.backends.pool.worker import (
    ANSWERED,
    ENDED,
    FAILED,
    FIRST_NUMBER,
    GIVEN,
    REQUEST,
    RESET,
    SILENT,
    SLOT_SHIFT,
    STATUS,
)
from vecselect.backends.pool.workers import (
    CLOSE_LIMIT_S,
    PENDING,
    Raised,
    Worker,
)
from vecselect.backends.worker_pipe import WorkerPipe
from vecselect.errors import WorkerDied, built_too_late
from vecselect.process import children, contexts, pickling
from vecselect.process.remote_errors import Failed, raised_there

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.lane import LaneSpec, Sample, Work
    from vecselect.backends.pool.link import Signal
    from vecselect.backends.pool.workers import Settings


_numbers = itertools.count(FIRST_NUMBER, FIRST_NUMBER)
"""Of the commands of this process, shifted past the status, request and slot bits: no worker is
ever given the same number twice."""


class ProcessWorker(Worker):
    """A worker process as the caller sees it.

    Commands are numbered. What counts is that the worker has written the command into the word
    ANSWERED of its control block, and that the signal for it was taken: so a signal that was lost
    to Ctrl-C is not waited for, and one that is left over does no harm.

    Attributes:
        host: The process, which may have lanes of other buffers too.
        control: Its control block, once it has a lane.
        go: Given to it when there is a command.
        done: Given by it when a command is done.
        tries: Tries to take a signal before sleeping.
    """

    def __init__(self, work: Work, host: Host, tries: int) -> None:
        """Takes over a lane of a process; `built` waits until it has built its slice.

        Args:
            work: What the process was started with, or has been sent.
            host: The process.
            tries: Tries to take a signal before sleeping.
        """
        super().__init__(work)
        self.host = host
        port = host.ports[work.buffer or 0]
        self._pid = host.process.pid
        self.pipe: WorkerPipe = WorkerPipe(port.pipe, host, self.name)
        self.go: Signal = host.go
        self.done: Signal = port.done
        self.tries: int = tries
        self.control: Any = None
        self._arena: Arena | None = None
        self._word = 0
        self._signalled = False
        self._has_built = False
        self._answered_before: list[int] = []

    def built(self, timeout_s: float | None = None) -> Sample | None:
        """Waits until the worker has built its sub-environments: see `Worker`."""
        # The process is watched beside the pipe: a child of an environment may hold that open.
        sentinel = self.host.process.sentinel
        if not connection.wait([self.pipe.connection, sentinel], timeout_s):
            raise built_too_late(self.name(), timeout_s)
        sample: Sample | None = self._told()
        self._has_built = True
        self.host.forget_names()
        return sample

    def _told(self) -> Any:
        """Receives how building or making the lane went; raises what the worker raised."""
        with self.message():
            if self.host.exitcode is not None and not self.pipe.connection.poll():
                raise EOFError  # though a child of an environment holds the other end open
            data = self.pipe.connection.recv_bytes()
        value = pickling.loads(data)
        if isinstance(value, Failed):
            raise raised_there(value)
        return value

    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Has it make a lane of its sub-environments."""
        with self.message():
            self.pipe.connection.send_bytes(pickling.dumps(spec))
        self._arena = arena
        self.control = arena.control[self.index].data
        self.host.controls.append(self.control)

    def lane_made(self) -> tuple[str, list[gym.Space[Any]]]:
        """Waits for the end of `make_lane`: see `Worker`."""
        return self._told()  # type: ignore[no-any-return]

    def step(self, slot: int) -> None:
        """Begins a step with the actions in the arena."""
        if self.new_templates:
            self.request(self.packed("step", (None,)), slot)
        else:
            self._give(next(_numbers) | slot << SLOT_SHIFT)

    def _give(self, word: int) -> None:
        self.has_been_given(word)
        self.go.give()

    def has_been_given(self, word: int) -> None:
        """Notes a command that it was given, or was about to be given."""
        self._word, self._signalled = word, False
        self.control[GIVEN] = word
        self.outstanding = True

    def has_signalled(self) -> None:
        """Notes that its signal was taken."""
        self._signalled = True

    def packed(self, name: str, args: tuple[Any, ...]) -> bytes:
        """A request to call a method of the lane, with the new templates; `request` sends it.

        Returns:
            The message; an empty one for a reset that is in the arena.
        """
        own = False  # whether all of it can be imported by the worker
        if name == "reset":
            seeds, options, mask = args
            own = options is None
            if own and not self.new_templates and self._put_reset(seeds, mask):
                return b""
        elif name == "call":
            own = not args[1] and not args[2]
        elif name == "step":
            own = args[0] is None
        dumps = pickling.dumps_importable if own else pickling.dumps
        return dumps((self.new_templates, name, args))

    def _put_reset(self, seeds: Sequence[int | None], mask: Sequence[bool]) -> bool:
        """Stores the arguments of a reset in the arena; False where a seed is too large for it."""
        assert self._arena is not None
        part = slice(self.rows.start, self.rows.stop)
        try:
            self._arena.reset_seeds[part] = [-1 if seed is None else seed for seed in seeds]
        except OverflowError:
            return False
        self._arena.reset_mask[part] = mask
        return True

    def request(self, data: bytes, slot: int = 0) -> None:
        """Begins what was packed before, so that nothing can fail half-way through the workers."""
        self.check()
        if not data:
            self._give(next(_numbers) | slot << SLOT_SHIFT | RESET)
            return
        with self.message():
            self._give(next(_numbers) | slot << SLOT_SHIFT | REQUEST)
            self.pipe.connection.send_bytes(data)
            self.new_templates = []

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun: see `Worker`."""
        if deadline_s is not None:
            self._answered_before = self._answered()
        # Ctrl-C may come between taking a signal and noting that, so the answer is looked at too.
        while not self._has_answered() or not self._signalled:
            if not self.done.take(self.tries, look_around or self.check, deadline_s):
                return PENDING
            self._signalled = True
        if self.control[ANSWERED] & STATUS != SILENT:
            reply = pickling.loads(self._received())
            return Raised(raised_there(reply)) if isinstance(reply, Failed) else reply
        self.outstanding = self._signalled = False
        return None

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        return bool(self.outstanding and self.control[ANSWERED] == self._word + FAILED)

    def has_served_others(self) -> bool:
        """Whether a lane of another buffer has kept it busy: see `Worker`."""
        return self._answered() != self._answered_before

    def _answered(self) -> list[int]:
        """The last answer of each lane of its process."""
        return [control[ANSWERED] for control in self.host.controls]

    def _has_answered(self) -> bool:
        return bool(self.control[ANSWERED] & ~STATUS == self._word)

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Collects the answer to a command that was interrupted: see `Worker`."""
        self.check()
        if self._has_answered():
            self._signalled = True
        else:  # perhaps before the worker was told; told twice, it does it once
            self.go.give()
        return self.collect(deadline_s)

    def _received(self) -> bytes:
        """The message that ends a command; it is read whole, and noted as read, or not at all."""
        with self.message():
            message = self.pipe.connection.recv_bytes()
            self.outstanding = self._signalled = False
        return message

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Within it a message is sent or received: see `WorkerPipe`."""
        try:
            with self.pipe.message():
                yield
        except WorkerDied:
            self.check()  # it may have been told to end
            raise

    def death(self) -> WorkerDied | None:
        """How its process ended; None if it runs."""
        death, lost = self.pipe.death(), self.host.lost
        if death is None or lost is None or self.lost is lost:
            return death
        return WorkerDied(f"{self.name()} was ended with its process. {lost}")

    def name(self) -> str:
        """The worker and what it runs, as the beginning of a sentence."""
        return f"Worker {self.index} (pid {self._pid}), {self.runs()}"

    def ask_to_end(self) -> None:
        """Tells the worker to close its sub-environments and end."""
        self.ended = True
        if self.control is None:  # it has no lane yet, and waits for a message
            with contextlib.suppress(OSError):
                self.pipe.connection.send_bytes(pickling.dumps(None))
        else:
            self.control[ENDED] = 1
            for _ in range(2):  # one may belong to a command that was about to be given
                self.go.give()
        if self._has_built:  # else it has still to open the semaphores
            self.host.forget_names()
        self.pipe.close_unless_in_use()  # else it is closed when the process has ended


class ProcessWorkers(ReplaceableWorkers):
    """Workers that are processes, over a block of memory that they share with the caller.

    Attributes:
        hosts: The processes, of which those of other buffers are workers too.
    """

    _worker: type[ProcessWorker] = ProcessWorker
    _serve = SERVE
    _more: tuple[Any, ...] = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.hosts: Hosts = settings.hosts or Hosts()
        self._memory = self.hosts.memories[settings.buffer or 0]
        self.lends: bool = self._memory.lends and sys.implementation.name == "cpython"
        self._context = contexts.get_context(settings.context)
        self._is_ready = False  # whether the next step can take the shorter way
        # What that takes of each worker, and of which ones.
        self._stepped: list[Worker] = []
        self._doors: list[tuple[Any, Callable[[], None]]] = []
        self._answers: list[tuple[Any, Callable[[bool], bool], Callable[[int], bool], int]] = []
        self._step = 0  # the command of a step that `begin_step` has begun; 0 when it is over

    def start_one(self, work: Work) -> Worker:
        """Starts a process, or has the one that is there for another buffer build one more lane."""
        host = self.hosts.get(work.index)
        if host is not None:
            worker = self._worker(work, host, self.settings.caller_tries)
            with worker.message():
                host.send(work)
            return worker
        host = self.hosts.start(
            self._context,
            work,
            index=work.index,
            daemon=self.settings.daemon,
            threads=self.settings.threads,
            serve=self._serve,
            more=self._more,
        )
        return self._worker(work, host, self.settings.caller_tries)

    def begin(self) -> None:
        """Makes sure that a command can be given: see `Workers`."""
        self._is_ready = False
        if self._step:
            self._go_on_by_collecting(0, taken=False)
        super().begin()

    def add_template(self, template: Template) -> None:
        """Has every worker be told of a new info template: see `Workers`."""
        self._is_ready = False
        super().add_template(template)

    def begin_step(self, slot: int) -> None:
        """Begins a step as `step` does, with less work: see `Workers`."""
        if not self._is_ready:
            super().begin_step(slot)
            return
        self._is_ready = False  # until it is over, however it may be broken off
        self._slot = slot
        self._step = word = next(_numbers) | slot << SLOT_SHIFT
        for control, release in self._doors:
            control[GIVEN] = word
            release()

    def end_step(self) -> bool:
        """Ends what `begin_step` began, if nothing unusual has come of it: see `Workers`."""
        word = self._step
        if not word:
            return super().end_step()
        for place, (control, acquire, spun, tries) in enumerate(self._answers):
            taken = acquire(False) or spun(tries)
            if not taken or control[ANSWERED] != word:
                self._go_on_by_collecting(place, taken)
                return False
        self._step = 0
        self._is_ready = True
        return True

    def collect(self, own: Callable[[], Any] | None, timeout_s: float | None = None) -> Any:
        """Collects what was begun: see `Workers`."""
        if self._step:
            self._go_on_by_collecting(0, taken=False)
        replies = super().collect(own, timeout_s)
        if replies is not PENDING:
            self._make_ready()
        return replies

    def _make_ready(self) -> None:
        """Has the next step take the shorter way, unless there is more to do in it."""
        if self._stepped != self.each:
            workers: list[Any] = self.each
            self._doors = [(one.control, one.go.release) for one in workers]
            self._answers = [
                (one.control, one.done.acquire, one.done.spun, one.tries) for one in workers
            ]
            self._stepped = [*workers]
        self._is_ready = self._limit_s is None and not any(
            worker.new_templates for worker in self.each
        )

    def _go_on_by_collecting(self, place: int, taken: bool) -> None:
        """Has `collect` end what `begin_step` began.

        Args:
            place: Of the first worker whose reply is not in.
            taken: Whether its signal was taken.
        """
        self._asked, self._failure = None, None
        self._replies = [None] * (place + 1)  # the caller's own first
        unanswered: list[Any] = self.each[place:]
        for worker in unanswered:
            worker.has_been_given(self._step)
        if taken:
            unanswered[0].has_signalled()
        self._step = 0

    def make_arena(self, spec: LaneSpec) -> None:
        """Makes the arena in the memory that the workers have been sent."""
        super().make_arena(spec)
        if spec.layout.slots == LENT_SLOTS:
            with contextlib.suppress(OSError):  # where memory is promised only if it is there
                block = self._memory.mapped_privately(spec.layout.size_bytes())
                self.loans: Loans | None = Loans(spec.layout, block)
        if not self.settings.restart:
            self._memory.forget_descriptor()

    def _mapped(self, size_bytes: int) -> mmap.mmap:
        self._memory.resize(size_bytes)
        return self._memory.mapped(size_bytes)

    def successor(self, worker: Worker, death: Exception) -> Worker:
        """Starts a process in place of one that has died: see `ReplaceableWorkers`."""
        self.arena.control[worker.index] = 0
        return super().successor(worker, death)

    def end(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends all workers within the time limit, and closes the memory's descriptor."""
        try:
            super().end(limit_s)
        finally:
            self._memory.forget_descriptor()

    def end_some(self, workers: Sequence[Any], limit_s: float) -> None:
        """Ends the processes of workers: asks, and after the time limit terminates and kills."""
        workers = [worker for worker in workers if not worker.ended]
        try:
            for worker in workers:
                worker.host.lost = worker.host.lost or worker.lost
                worker.ask_to_end()
        finally:  # however the asking ends: nobody would end them later
            hosts: list[Any] = [worker.host for worker in workers]
            try:
                children.end_all(hosts, limit_s)
            finally:
                for host in hosts:
                    host.close()
