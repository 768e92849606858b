"""Workers that are processes: starting them, talking to them, and ending them.

A process is started once for all buffers of a batch, and has a lane for each: a `Host` is what the
buffers share of it, a `ProcessWorker` is what one of them has of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.arena import LENT_SLOTS, Loans
from vecselect.backends.pool.link import Memory, Port, Signal, new_memory
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
from vecselect.backends.pool.workers import CLOSE_LIMIT_S, PENDING, STEP, Worker, Workers
from vecselect.backends.worker_pipe import WorkerPipe
from vecselect.errors import WorkerDied, built_too_late
from vecselect.process import children, contexts, pickling
from vecselect.process.forkserver import THREAD_VARIABLES
from vecselect.process.remote_errors import Failed, raised_there

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.context import BaseContext

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.settings import LaneSpec, Sample, Settings, Work

SERVE = "vecselect.backends.pool.worker:serve"
"""What a worker process runs, by name: it is imported there, once variables are set."""

_numbers = itertools.count(FIRST_NUMBER, FIRST_NUMBER)
"""Of the commands of this process, shifted past the status, request and slot bits: no worker is
ever given the same number twice."""


class Host:
    """A worker process, which has a lane for each buffer.

    It stands for its process, of which it knows the exit code after that was closed too.

    Attributes:
        process: The process; `terminate` and `kill` are its own.
        go: Given by the caller when there is something to do, for whichever lane.
        ports: The caller's ends, one for each buffer.
        lost: Why it was ended, where one of its lanes was to be replaced.
        is_closed: Whether the process has ended and was closed.
    """

    def __init__(
        self,
        context: BaseContext,
        memories: Sequence[Memory],
        task: Any,
        *,
        index: int,
        daemon: bool,
        threads: int,
        serve: str = SERVE,
        more: tuple[Any, ...] = (),
    ) -> None:
        """Starts the process, which takes up its task by itself.

        Args:
            context: Of multiprocessing.
            memories: The block of memory of each buffer.
            task: What it begins with: see `worker.serve`.
            index: Of the worker.
            daemon: Whether it is a daemon, which may not start processes itself.
            threads: Threads that its numerical libraries may start, where the user has not told
                them.
            serve: What it runs, by name: `worker.serve`, or what takes more arguments.
            more: These arguments.

        Raises:
            StartError: If the system refuses that.
        """
        self.go: Signal = Signal(context)
        self.ports: list[Port] = []
        self.lost: Exception | None = None
        self._exitcode: int | None = None
        self.is_closed: bool = False
        theirs: list[Port] = []
        variables = {key: str(threads) for key in THREAD_VARIABLES if key not in os.environ}
        try:
            for memory in memories:
                done, ends = Signal(context), context.Pipe()
                for side, pipe in zip((self.ports, theirs), ends, strict=True):
                    side.append(Port(memory, done, pipe))
            self.process = context.Process(  # type: ignore[attr-defined]
                target=contexts.run_with_variables,
                args=(variables, serve, pickling.dumps(task), self.go, theirs, *more),
                name=f"vecselect-pool-{index}",
                daemon=daemon,
            )
            self.process.start()
            self.terminate: Callable[[], None] = self.process.terminate
            self.kill: Callable[[], None] = self.process.kill
        except BaseException:
            self.hang_up()
            raise
        finally:
            for port in theirs:
                port.pipe.close()

    @property
    def exitcode(self) -> int | None:
        """The exit code of the process; None if it runs."""
        if self._exitcode is None and not self.is_closed:
            self._exitcode = self.process.exitcode
        return self._exitcode

    def join(self, timeout_s: float) -> None:
        """Waits for the end of the process."""
        if not self.is_closed:
            self.process.join(timeout_s)

    def hang_up(self) -> None:
        """Closes what led to it; twice does nothing."""
        self.forget_names()
        for port in self.ports:
            port.pipe.close()

    def close(self) -> None:
        """Closes what led to it, and the process too once that has ended; twice does nothing."""
        self.hang_up()
        if self.exitcode is not None and not self.is_closed:
            self.is_closed = True
            self.process.close()

    def send(self, work: Work) -> None:
        """Has it build the lane of one more buffer."""
        self.ports[work.buffer or 0].pipe.send_bytes(pickling.dumps(work))
        self.go.give()

    def forget_names(self) -> None:
        """Removes the names of the semaphores, which the worker has opened or will never need."""
        for signal in (self.go, *(port.done for port in self.ports)):
            signal.forget_name()


class Hosts:
    """The worker processes that all buffers of a batch share.

    Attributes:
        memories: The block of memory that each buffer shares with them.
        running: The process of each worker that was started.
    """

    def __init__(self, buffers: int = 1, first: Host | None = None) -> None:
        """Has none but the first worker's, where one was started to profile."""
        ports = [] if first is None else first.ports
        self.memories: list[Memory] = [port.memory for port in ports]
        self.memories += [new_memory() for _ in range(buffers - len(ports))]
        self.running: dict[int, Host] = {} if first is None else {0: first}


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
        seen: The last command whose end has been seen.
        signalled: Whether the signal for the command that is under way was taken.
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
        self.seen = 0
        self.signalled: bool = False
        self._arena: Arena | None = None
        self._has_built = False

    @property
    def outstanding(self) -> bool:
        """Whether a command was given whose end has not been seen."""
        return bool(self.control[GIVEN] != self.seen)

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

    def lane_made(self) -> tuple[str, list[gym.Space[Any]]]:
        """Waits for the end of `make_lane`: see `Worker`."""
        return self._told()  # type: ignore[no-any-return]

    def packed(self, name: str, args: tuple[Any, ...]) -> tuple[int, bytes]:
        """A request to call a method of the lane, with the new templates; `request` sends it.

        Returns:
            What kind of command it is, and the message; an empty one where all is in the arena.
        """
        own = False  # whether all of it can be imported by the worker
        if name == "step":
            own = args[0] is None
            if own and not self.new_templates:
                return 0, b""
        elif name == "reset":
            seeds, options, mask = args
            own = options is None
            if own and not self.new_templates and self._put_reset(seeds, mask):
                return RESET, b""
        elif name == "call":
            own = not args[1] and not args[2]
        dumps = pickling.dumps_importable if own else pickling.dumps
        return REQUEST, dumps((self.new_templates, name, args))

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

    def request(self, data: tuple[int, bytes], slot: int = 0) -> None:
        """Begins what was packed before, so that nothing can fail half-way through the workers."""
        self.check()
        kind, message = data
        word = next(_numbers) | slot << SLOT_SHIFT | kind
        if not message:
            self._give(word)
            return
        with self.message():
            self._give(word)
            self.pipe.connection.send_bytes(message)
            self.new_templates = []

    def _give(self, word: int) -> None:
        self.signalled = False
        self.control[GIVEN] = word
        self.go.give()

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun: see `Worker`."""
        # Ctrl-C may come between taking a signal and noting that, so the answer is looked at too.
        while not self._has_answered() or not self.signalled:
            if not self.done.take(self.tries, look_around or self.check, deadline_s):
                return PENDING
            self.signalled = True
        if self.control[ANSWERED] & STATUS == SILENT:
            self._note_end()
            return None
        # The message that ends a command is read whole, and noted as read, or not at all.
        with self.message():
            message = self.pipe.connection.recv_bytes()
            self._note_end()
        reply = pickling.loads(message)
        return raised_there(reply) if isinstance(reply, Failed) else reply

    def _note_end(self) -> None:
        self.seen, self.signalled = self.control[GIVEN], False

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        return self.outstanding and bool(self.control[ANSWERED] == self.control[GIVEN] + FAILED)

    def _has_answered(self) -> bool:
        return bool(self.control[ANSWERED] & ~STATUS == self.control[GIVEN])

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Collects the answer to a command that was interrupted: see `Worker`."""
        self.check()
        if self._has_answered():
            self.signalled = True
        else:  # perhaps before the worker was told; told twice, it does it once
            self.go.give()
        return self.collect(deadline_s)

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


class ProcessWorkers(Workers):
    """Workers that are processes, over a block of memory that they share with the caller.

    Attributes:
        hosts: The processes, of which those of other buffers are workers too.
    """

    each: list[Any]
    _worker: type[ProcessWorker] = ProcessWorker
    _serve = SERVE
    _more: tuple[Any, ...] = ()

    def __init__(self, settings: Settings, hosts: Hosts | None = None) -> None:
        """Has none yet.

        Args:
            settings: How the pool is to run.
            hosts: The processes that are shared with the other buffers, or of which the first was
                started to profile.
        """
        super().__init__(settings)
        self.hosts: Hosts = hosts or Hosts()
        self._memory = self.hosts.memories[settings.buffer or 0]
        self.lends: bool = self._memory.lends and sys.implementation.name == "cpython"
        self._context = contexts.get_context(settings.context)
        # Whether every worker has answered and knows all templates: a step then takes no more than
        # a word and a signal for each.
        self._is_ready = False
        if self._limit_s is not None:  # a worker first does what other buffers have asked it for
            self._limit_s *= len(self.hosts.memories)

    def start_one(self, work: Work) -> Worker:
        """Starts a process, or has the one that is there for another buffer build one more lane."""
        host = self.hosts.running.get(work.index)
        if host is not None and host.exitcode is None:
            worker = self._worker(work, host, self.settings.caller_tries)
            with worker.message():
                host.send(work)
            return worker
        self.hosts.running[work.index] = host = Host(
            self._context,
            self.hosts.memories,
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
        super().begin()

    def add_template(self, template: Template) -> None:
        """Has every worker be told of a new info template: see `Workers`."""
        self._is_ready = False
        super().add_template(template)

    def begin_step(self, slot: int) -> None:
        """Has every worker step with the actions in the arena: see `Workers`."""
        if not self._is_ready:
            super().begin_step(slot)
            return
        self._is_ready = False  # until it is over, however it may be broken off
        self._asked, self._slot = STEP, slot
        word = next(_numbers) | slot << SLOT_SHIFT
        for worker in self.each:
            worker.control[GIVEN] = word
            worker.go.release()

    def end_step(self) -> bool:
        """Ends a step if every worker has answered and nothing is in a pipe: see `Workers`."""
        for place, worker in enumerate(self.each):
            done = worker.done
            taken = done.acquire(False) or done.spun(worker.tries)
            word = worker.control[GIVEN]
            if not taken or worker.control[ANSWERED] != word:
                worker.signalled = taken
                self._replies = [None] * (place + 1)  # the caller's own first
                return False
            worker.seen = word
        self._is_ready = True
        return True

    def collect(self, own: Callable[[], Any] | None, timeout_s: float | None = None) -> list[Any]:
        """Collects what was begun: see `Workers`."""
        replies = super().collect(own, timeout_s)
        self._is_ready = not any(worker.new_templates for worker in self.each)
        return replies

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
        """Starts a process in place of one that has died: see `Workers`."""
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
            hosts: list[Any] = [worker.host for worker in workers if not worker.host.is_closed]
            try:
                children.end_all(hosts, limit_s)
            finally:
                for host in hosts:
                    host.close()
