"""The caller's side of a worker that is a process."""

from __future__ import annotations

import contextlib
import threading
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.backends.pool.handle import (
    CLOSE_LIMIT_S,
    PENDING,
    Raised,
    closed_meanwhile,
    which_runs,
)
from vecselect.backends.pool.server import BUFFER, COMMAND, DONE, GIVEN, STATUS
from vecselect.backends.pool.worker import END, FAILED, REQUEST, SAMPLE, SILENT, STEP
from vecselect.errors import StepTimeout, WorkerDied
from vecselect.failures import Failed, raised_there
from vecselect.interrupts import Unbroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.handle import Greeting
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.launch import Launched
    from vecselect.backends.pool.server import Sample, Terms, Work


class ProcessHandle:
    """A worker process as the caller sees it; a `Handle`."""

    envs: Sequence[gym.Env] = ()

    def __init__(self, work: Work, launched: Launched) -> None:
        """Takes over a worker that was started; `built` waits until it has built its slice.

        Args:
            work: What it was started with, or has been sent.
            launched: The process, and what leads to it.
        """
        self.index = work.index
        self.rows = work.rows
        self.outstanding = False
        self.ended = False
        self._number = 0
        self._signalled = False
        self._greeted = False
        self.news: list[Template] = []
        self._control: Any = None
        self._tries = work.tries
        self._launched = launched
        self._go, self._done = launched.go, launched.done
        self._talking = threading.Lock()  # held by whoever is in the midst of a message
        self._message_broken = False
        self.pipe = launched.pipe
        self.process = launched.process
        self._pid = self.process.pid

    def built(self, timeout_s: float | None = None) -> None:
        """Waits until the worker has built its sub-environments."""
        # The process is watched beside the pipe: a child of an environment may hold that open.
        said = connection.wait([self.pipe, self.process.sentinel], timeout_s)
        if not said:
            raise StepTimeout(
                f"{self.name()} has not built its sub-environments within start_timeout_s="
                f"{timeout_s:g}."
            )
        with self._death_named():
            if not self.pipe.poll():
                raise EOFError
        self._told()
        self._greeted = True
        self.forget_names()

    def _told(self) -> Any:
        """What the worker says of building and settling."""
        with self._death_named():
            said = processes.loads(self.pipe.recv_bytes())
        if isinstance(said, Failed):
            raise raised_there(said)
        return said

    def _say(self, value: Any) -> None:
        """Says what a worker that has no lane yet waits for."""
        with self._death_named():
            self.pipe.send_bytes(processes.dumps(value))

    def sample(self) -> Sample:
        """What the first of its sub-environments says of itself."""
        self._say(SAMPLE)
        return self._told()  # type: ignore[no-any-return]

    def settle(self, terms: Terms, arena: Arena) -> None:
        """Has it make a lane of its sub-environments."""
        self._say(terms)
        self._control = arena.control[self.index].data

    def greeting(self) -> Greeting:
        """What the worker, which has a lane, says of its spaces."""
        return self._told()  # type: ignore[no-any-return]

    def forget_names(self) -> None:
        """Removes the names of the signals, which the worker has opened or will never need."""
        self._launched.forget_names()

    def step(self, buffer: int) -> None:
        """Begins a step with the actions in the arena."""
        if self.news:
            self.request(self.packed("step", (None,)), buffer)
        else:
            self._give(STEP, buffer)

    def _give(self, command: int, buffer: int) -> None:
        self._number = (self._number + 1) % 256
        control = self._control
        control[BUFFER] = buffer
        control[COMMAND] = command
        control[GIVEN] = self._number  # last: a worker that finds it finds all that belongs to it
        self.outstanding = True
        self._go.give()

    def packed(self, name: str, args: tuple[Any, ...]) -> bytes:
        """A request to call a method of the lane, with the news; `request` sends it."""
        return processes.dumps((self.news, name, args))

    def request(self, data: bytes, buffer: int = 0) -> None:
        """Begins what was packed before, so that nothing can fail half-way through the workers."""
        self.check()
        with self._death_named(), self._talking, Unbroken(self._break_off):
            self._give(REQUEST, buffer)
            self.pipe.send_bytes(data)
            self.news = []

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun; see `Handle`."""
        # Taking a signal and noting that it was taken are two things, and Ctrl-C may come between
        # them. So what counts is the number: a signal that was lost is not waited for, and one that
        # is left over from an interrupted command is passed over.
        while self._control[DONE] != self._number or not self._signalled:
            if not self._done.take(self._tries, look_around or self.check, deadline_s):
                return PENDING
            self._signalled = True
        if self._control[STATUS] != SILENT:
            reply = processes.loads(self._received())
            return Raised(raised_there(reply)) if isinstance(reply, Failed) else reply
        self.outstanding = self._signalled = False
        return None

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        control = self._control
        done = self.outstanding and control[DONE] == self._number
        return bool(done and control[STATUS] == FAILED)

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Takes in, and lets go of, what an interrupted command still owes; see `Handle`."""
        self.check()
        if self._control[DONE] == self._number:
            self._signalled = True
        else:  # interrupted, perhaps before the worker was told; told twice, it does it once
            self._go.give()
        return self.collect(deadline_s)

    def _received(self) -> bytes:
        """The message that ends a command; it is read whole, and noted as read, or not at all."""
        if self._message_broken:
            self.check()
        with self._death_named(), self._talking, Unbroken(self._break_off):
            message = self.pipe.recv_bytes()
            self.outstanding = self._signalled = False
        return message

    def _break_off(self) -> None:
        """Ends a worker that would take the next message for the rest of this one."""
        self._message_broken = True
        if not self.ended:
            self.process.kill()

    @contextlib.contextmanager
    def _death_named(self) -> Iterator[None]:
        """Turns a broken pipe into the error that says how the worker ended."""
        try:
            yield
        except (EOFError, ConnectionError):
            self.process.join(processes.END_GRACE_S)
            self.check()
            raise

    def read_info(self, info: bytes) -> Any:
        """An info that it replied with."""
        return processes.loads(info)

    def has_died(self) -> bool:
        """Whether its process has ended."""
        return self._message_broken or self.process.exitcode is not None

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()

    def check(self) -> None:
        """Raises if the worker's process has ended, or was told to."""
        if self.ended:
            raise closed_meanwhile()
        if self._message_broken:
            raise WorkerDied(
                f"{self.name()} was ended: an exception, as a signal's handler raises it, had "
                "broken off a message to or from it."
            )
        code = self.process.exitcode
        if code is not None:
            raise WorkerDied(
                f"{self.name()} {processes.how_it_ended(code)}.{processes.memory_picture(code)}"
            )

    def name(self) -> str:
        """The worker and what it runs, as the beginning of a sentence."""
        return f"Worker {self.index} (pid {self._pid}), {which_runs(self.rows)}"

    def ask_to_end(self) -> None:
        """Tells the worker to close its sub-environments and end."""
        self.ended = True
        if self._control is None:  # it has no lane yet, and looks into the pipe alone
            with contextlib.suppress(OSError):
                self.pipe.send_bytes(processes.dumps(None))
        else:
            self._control[COMMAND] = END
            self._go.give()
        if self._greeted:  # else it has them still to open
            self.forget_names()
        if self._talking.acquire(blocking=False):  # else `let_go` closes it
            self._talking.release()
            self.pipe.close()

    def let_go(self) -> None:
        """Lets go of what led to a worker that has ended."""
        self.forget_names()
        self.pipe.close()


def end_all(handles: Sequence[ProcessHandle], limit_s: float = CLOSE_LIMIT_S) -> None:
    """Ends workers: asks, and after the time limit terminates and kills. Twice does nothing."""
    handles = [handle for handle in handles if not handle.ended]
    try:
        for handle in handles:
            handle.ask_to_end()
    finally:  # however the asking ends: nobody would end them later
        try:
            processes.end_all([handle.process for handle in handles], limit_s)
        finally:
            for handle in handles:
                handle.ended = True
                handle.let_go()
