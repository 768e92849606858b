"""The workers of a vector environment as the calling process sees them, of whatever kind.

A kind is a subclass of `Worker` and one of `Workers`, or of `restarts.ReplaceableWorkers` where a
worker that died can be replaced: processes in `process`, threads in `threads`.

A command is given to every worker (`step`, `ask`) and then collected from all of them (`collect`).
If it is interrupted, by Ctrl-C or by a failure in one lane, the other workers still answer it:
`begin` takes these answers in before the next command, and drops them.
"""

from __future__ import annotations

import mmap
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium.error import ClosedEnvironmentError

from vecselect.backends.pool.arena import Arena
from vecselect.backends.pool.lane import LaneFailure, raised_here
from vecselect.errors import TOO_LATE_ADVICE, StepTimeout, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym
    from gymnasium.vector import AutoresetMode

    from vecselect.backends.pool.host import Hosts
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.lane import LaneSpec, Sample, Work
    from vecselect.backends.pool.loans import Loans
    from vecselect.request import Request

    Arguments = Callable[[range], tuple[Any, ...] | None]
    """Gives a method's arguments for a lane's rows; None for a lane that is not to be called."""

CLOSE_LIMIT_S = 4.0
"""How long workers may take to end, all together, before they are ended, or left behind."""

PENDING = object()
"""What `collect` returns where the time ran out."""


@dataclass(frozen=True)
class Raised:
    """What `Worker.collect` returns where a sub-environment raised.

    Attributes:
        error: What it raised, with a note of which one it was.
    """

    error: BaseException


@dataclass(frozen=True)
class Settings:
    """How a pool is to run.

    Attributes:
        workers: Lanes besides the caller's.
        copy: Whether results are the caller's to keep. Without it, observations are views of shared
            memory: they hold until the second next step or reset begins.
        observation_mode: As in `SyncVectorEnv`.
        autoreset_mode: What happens to a sub-environment whose episode ended.
        step_timeout_s: Seconds that workers may take for a step, a reset or a call.
        start_timeout_s: Seconds that they may take to start and to build their sub-environments.
        threads: Threads that the numerical libraries of a worker process may start.
        tries: Tries of a worker process to take a signal before sleeping.
        caller_tries: The same of the calling process.
        context: Start method of worker processes; the safest one by default.
        daemon: Whether worker processes are daemons, which may not start processes themselves.
        restart: Whether a worker that died is replaced.
        processes: Worker processes that are started, in all buffers together; a warning is given
            where they will hardly fit into memory.
        memory_available_bytes: What they may take.
        caller_steps: Whether the calling process steps a slice of its own.
        buffer: The number of this buffer; None where there is only one.
        hosts: The worker processes that are shared with the other buffers, or of which the first
            was started to profile.
        queues: Whether each sub-environment steps independently: see `rows`.
    """

    workers: int
    copy: bool
    observation_mode: str | tuple[gym.Space[Any], gym.Space[Any]]
    autoreset_mode: AutoresetMode
    step_timeout_s: float | None = None
    start_timeout_s: float | None = None
    threads: int = 1
    tries: int = 0
    caller_tries: int = 0
    context: str | None = None
    daemon: bool = False
    restart: bool = False
    processes: int = 0
    memory_available_bytes: int = 0
    caller_steps: bool = True
    buffer: int | None = None
    hosts: Hosts | None = None
    queues: bool = False

    @classmethod
    def of(cls, request: Request, workers: int, **more: Any) -> Settings:
        """What a request says of it, and what its backend adds."""
        options = request.vector_kwargs
        return cls(
            workers=workers,
            copy=options.get("copy", True),
            observation_mode=options.get("observation_mode", "same"),
            autoreset_mode=request.autoreset_mode,
            step_timeout_s=options.get("step_timeout_s"),
            start_timeout_s=options.get("start_timeout_s"),
            restart=options.get("on_worker_death") == "restart",
            **more,
        )

    @property
    def same_spaces(self) -> bool:
        """Whether the observation spaces must be equal, or only alike in dtype and shape."""
        return self.observation_mode == "same"


class Worker(ABC):
    """One worker. It has one command at a time.

    Attributes:
        index: Of the worker.
        rows: Indices of its sub-environments.
        buffer: The number of the buffer that they belong to; None where there is only one.
        outstanding: Whether a command was given whose end has not been seen.
        ended: Whether it was told to end.
        new_templates: Info templates to send with the next command.
        lost: Why it is to be replaced, where that was interrupted.
        envs: Its sub-environments, where they live in the calling process.
    """

    def __init__(self, work: Work) -> None:
        self.index: int = work.index
        self.rows: range = work.rows
        self.buffer: int | None = work.buffer
        self.outstanding: bool = False
        self.ended: bool = False
        self.new_templates: list[Template] = []
        self.lost: Exception | None = None
        self.envs: Sequence[gym.Env] = ()

    @abstractmethod
    def built(self, timeout_s: float | None = None) -> Sample | None:
        """Waits until the worker has built its sub-environments.

        Returns:
            A sample of the first of them, where its `Work` asks for that.

        Raises:
            StepTimeout: If it does not within the time limit.
            WorkerDied: If it ends instead.
            Exception: What a factory raised.
        """

    @abstractmethod
    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Has it make a lane of its sub-environments; from then on it takes commands."""

    @abstractmethod
    def lane_made(self) -> tuple[str, list[gym.Space[Any]]]:
        """Waits for the end of `make_lane`.

        Returns:
            What is wrong with its spaces, if anything, and these spaces where they may differ.
        """

    @abstractmethod
    def step(self, slot: int) -> None:
        """Begins a step with the actions in the arena; observations go into that slot."""

    @abstractmethod
    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the new templates; `request` sends it."""

    @abstractmethod
    def request(self, data: Any, slot: int = 0) -> None:
        """Begins what `packed` made."""

    @abstractmethod
    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun.

        Args:
            deadline_s: Gives the seconds that are left; waits as long as it takes by default.
            look_around: Called now and then while waiting long; raises to end the waiting. By
                default it is `check`.

        Returns:
            The worker's reply, None if all is in the arena, a `Raised`, or `PENDING` if the time
            ran out.

        Raises:
            WorkerDied: If it has died.
        """

    @abstractmethod
    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Collects the answer to a command that was interrupted, perhaps before it was given.

        Returns:
            `PENDING` if the time ran out before.
        """

    @abstractmethod
    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""

    @abstractmethod
    def name(self) -> str:
        """The worker and what it runs, as the beginning of a sentence."""

    def death(self) -> WorkerDied | None:
        """How it died; None, as always for what does not die alone, if it lives."""
        return None

    def has_served_others(self) -> bool:
        """Whether a lane of another buffer has kept it busy since the last `collect` began."""
        return False

    def check(self) -> None:
        """Raises WorkerDied if it has died, ClosedEnvironmentError if it was told to end."""
        if self.ended:
            raise closed_meanwhile()
        death = self.death()
        if death is not None:
            raise death

    def runs(self) -> str:
        """What it runs, in words that follow its name: `which runs sub-environments 0-3,`."""
        first, last = self.rows[0], self.rows[-1]
        ran = f" {first}" if first == last else f"s {first}-{last}"
        where = "" if self.buffer is None else f" of buffer {self.buffer}"
        return f"which runs sub-environment{ran}{where},"


class Workers(ABC):
    """The workers of one vector environment, and the arena that they share with the caller.

    Attributes:
        each: The workers in the order of their rows; one that is replaced is replaced in this list.
        arena: Made by `make_arena`.
        lends: Whether large batches in the arena can be lent: see `loans`.
        loans: What of them is, where they are.
        templates: The info templates learned so far.
        closed: Set when the workers are about to be ended, perhaps in the midst of a command.
    """

    arena: Arena
    lends: bool = False
    loans: Loans | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.each: list[Worker] = []
        self.templates: list[Template] = []
        self.closed: bool = False
        self._limit_s = settings.step_timeout_s
        self._slot = 0
        self._asked: tuple[str, Arguments] | None = None
        self._replies: list[Any] = []
        self._failure: BaseException | None = None
        self._dead: WorkerDied | None = None

    @abstractmethod
    def start(self, work: Work) -> Worker:
        """Starts a worker, which builds its sub-environments by itself."""

    @abstractmethod
    def end_some(self, workers: Sequence[Any], limit_s: float) -> None:
        """Ends workers within the time limit, whatever they are doing. Twice does nothing."""

    def make_arena(self, spec: LaneSpec) -> None:
        """Makes the arena, once it is known what all lanes have in common."""
        self.arena = Arena(spec.layout, self._mapped(spec.layout.size_bytes()))

    def _mapped(self, size_bytes: int) -> mmap.mmap:
        """The memory of the arena."""
        return mmap.mmap(-1, size_bytes)

    def end(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends all workers within the time limit."""
        self.closed = True
        self.end_some(self.each, limit_s)

    def add_template(self, template: Template) -> None:
        """Has every worker be told of a new info template with its next command."""
        self.templates.append(template)
        for worker in self.each:
            worker.new_templates.append(template)

    def begin(self) -> None:
        """Makes sure that a command can be given.

        Raises:
            WorkerDied: If a worker has died before.
            StepTimeout: If a worker still owes the answer to an earlier command.
        """
        if self._dead is not None:
            raise self._dead
        left_s = None
        for place, worker in enumerate(self.each):
            if worker.outstanding:
                left_s = left_s or _countdown(self._limit_s)
                self._take_in(place, left_s)
        self._asked, self._replies, self._failure = None, [], None

    def _take_in(self, place: int, left_s: Callable[[], float] | None) -> None:
        """Drops what a worker owes; replaces it where it is dead or too late."""
        worker = self.each[place]
        if worker.lost is not None:
            self._replace(place, worker.lost)
            return
        try:
            reply = worker.drop(left_s)
            while reply is PENDING and worker.has_served_others():
                reply = worker.collect(_countdown(self._limit_s))
            if reply is PENDING:
                self._replace_late(place)
        except WorkerDied as death:
            self._replace(place, death)

    def begin_step(self, slot: int) -> None:
        """Does what `begin` and `step` do, perhaps on a shorter way; raises what they raise."""
        self.begin()
        self.step(slot)

    def end_step(self) -> bool:
        """Ends what `begin_step` began, where it can; the caller's own part is done.

        Returns:
            Whether it is over and all of it is in the arena; else `collect(None)` ends it.
        """
        self._replies = [None]
        return False

    def step(self, slot: int) -> None:
        """Has every worker step with the actions in the arena; observations go into a slot."""
        self._slot = slot
        for place in range(len(self.each)):
            self._give(place)

    def ask(self, name: str, arguments: Arguments, slot: int = 0) -> None:
        """Gives every worker a method of its lane to call, all of them or none.

        Args:
            name: Of the method.
            arguments: Gives its arguments for a lane's rows; None for a lane that is not to be
                called, and whose reply then is None.
            slot: Where observations go.
        """
        self._asked, self._slot = (name, arguments), slot
        asked = [(worker, arguments(worker.rows)) for worker in self.each]
        packed = [None if args is None else worker.packed(name, args) for worker, args in asked]
        for place, data in enumerate(packed):
            if data is not None:
                try:
                    self.each[place].request(data, slot)
                except WorkerDied as death:
                    self._replace(place, death)
                    self._give(place)

    def _give(self, place: int) -> None:
        """Gives the command that is begun to one worker; if that has died, to the one after it."""
        while True:
            worker = self.each[place]
            try:
                if self._asked is None:
                    worker.step(self._slot)
                else:
                    name, arguments = self._asked
                    args = arguments(worker.rows)
                    if args is not None:
                        worker.request(worker.packed(name, args), self._slot)
                return
            except WorkerDied as death:
                self._replace(place, death)

    def collect(self, own: Callable[[], Any] | None, timeout_s: float | None = None) -> Any:
        """Does the caller's own part, collects the workers', and raises what any of them raised.

        Every reply is in before anything is raised, so that a failure leaves nothing behind; but
        one that was raised while another worker takes long is not kept waiting for that.

        Args:
            own: The caller's own part; None where that is done, as after `end_step` or `PENDING`.
            timeout_s: Seconds to wait for the workers, once the caller's own part is done.

        Returns:
            What each lane's method returned, the caller's first; `PENDING` if `timeout_s` passed.

        Raises:
            StepTimeout: If a worker takes longer than any may.
            WorkerDied: If a worker has died.
        """
        if own is not None:
            self._replies = []
            try:
                self._replies.append(own())
            except LaneFailure as failure:
                self._failure = raised_here(failure)
                self._replies.append(None)
        limit_s, gives_up = self._limit_s, False
        if timeout_s is not None and (limit_s is None or timeout_s < limit_s):
            limit_s, gives_up = timeout_s, True
        left_s = _countdown(limit_s)
        for place in range(len(self._replies) - 1, len(self.each)):
            reply = self._reply(place, left_s)
            if reply is PENDING and gives_up:
                return PENDING
            while reply is PENDING and self.each[place].has_served_others():
                reply = self._reply(place, _countdown(self._limit_s))
            while reply is PENDING:  # the one that replaces it has as long
                self._refuse_to_repeat_calls(self._replace_late(place))
                self._give(place)
                reply = self._reply(place, _countdown(self._limit_s))
            if isinstance(reply, Raised):
                self._failure = self._failure or reply.error
            self._replies.append(reply)
        if self._failure is not None:
            raise self._failure
        return self._replies

    def _reply(self, place: int, left_s: Callable[[], float] | None) -> Any:
        """What a worker answers; if it has died, what the one that replaces it answers."""
        worker = self.each[place]
        if not worker.outstanding:  # it was not asked
            return None
        try:
            return worker.collect(left_s, self._look_around)
        except _FailedElsewhere as elsewhere:
            failed = elsewhere.worker
        except WorkerDied as death:
            if worker.death() is None:  # it was noticed of another one
                dead = (i for i, one in enumerate(self.each) if one.death() is not None)
                died = next(dead, place)
            else:
                died = place
            self._replace(died, death)
            self._refuse_to_repeat_calls(death)
            if died >= place:  # else its answer is in already
                self._give(died)
            return self._reply(place, left_s)
        # Not in the handler, which would add what it handles to the traceback.
        raise self._failure or failed.collect().error

    def _look_around(self) -> None:
        """While one worker is waited for: raises if any of them has failed or died."""
        for worker in self.each:
            if worker.has_failed():
                raise _FailedElsewhere(worker)
            worker.check()

    def _replace(self, place: int, death: Exception) -> None:
        """Replaces a worker that has died; where none are replaced, raises, now and ever after."""
        if self.closed:
            raise closed_meanwhile()
        self._dead = WorkerDied(
            f"{death} Close the vector environment and make a new one, or have workers replaced: "
            'vector_kwargs={"on_worker_death": "restart"}.'
        )
        raise self._dead

    def _replace_late(self, place: int) -> StepTimeout:
        """Replaces a worker that takes too long; where none are replaced, raises."""
        raise StepTimeout(f"{self._too_late(place)} {TOO_LATE_ADVICE}")

    def _too_late(self, place: int) -> StepTimeout:
        name = self.each[place].name()
        return StepTimeout(f"{name} has not answered within step_timeout_s={self._limit_s:g}.")

    def _refuse_to_repeat_calls(self, death: Exception) -> None:
        """Raises where a call was under way: what it did before the death is not known."""
        if self._asked is not None and self._asked[0] not in ("step", "reset"):
            raise WorkerDied(
                f"{death} It was replaced; whether the call had taken effect is not known, so "
                "call it again."
            ) from death


class _FailedElsewhere(Exception):
    """Another worker than the one waited for has failed."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker


def nothing() -> None:
    """Does nothing."""


def closed_meanwhile() -> ClosedEnvironmentError:
    """What a call ends with whose vector environment is closed before it returns."""
    return ClosedEnvironmentError(
        "The vector environment was closed during this call, by another thread or by a signal's "
        "handler."
    )


def _countdown(timeout_s: float | None) -> Callable[[], float] | None:
    """Gives the seconds that are left of a time limit; None without one."""
    if timeout_s is None:
        return None
    until_s = time.monotonic() + timeout_s
    return lambda: until_s - time.monotonic()
