"""The workers of a vector environment as the calling process sees them, of whatever kind.

A kind is a subclass of `Worker` and one of `Workers`: processes in `processes`, threads in
`threads`, Ray's actors in `ray.workers`.

A command is given to every worker (`ask`) and then collected from all of them (`collect`). If it is
interrupted, by Ctrl-C or by a failure in one lane, the other workers still answer it: `begin` takes
these answers in before the next command, and drops them. A worker that has died, or takes too long,
is replaced where the settings say so.
"""

from __future__ import annotations

import collections
import dataclasses
import mmap
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import ClosedEnvironmentError

from vecselect.backends.pool.arena import Arena
from vecselect.backends.pool.lane import LaneFailure, raised_here
from vecselect.errors import TOO_LATE_ADVICE, StepTimeout, WorkerDied, warn
from vecselect.process import generators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Loans
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.settings import LaneSpec, Sample, Settings, Work

    Arguments = Callable[[range], tuple[Any, ...] | None]
    """Gives a method's arguments for a lane's rows; None for a lane that is not to be called."""

CLOSE_LIMIT_S = 4.0
"""How long workers may take to end, all together, before they are ended, or left behind."""

RESTARTS = 3
RESTART_WINDOW_S = 60.0
"""A worker is replaced this many times within this long; one that dies more often is broken."""

PENDING = object()
"""What a worker's `collect` returns where the time ran out."""


class StillPending(Exception):
    """The time that the user gave `step_wait` and the like has run out."""


class Worker(ABC):
    """One worker. It has one command at a time.

    Attributes:
        index: Of the worker.
        rows: Indices of its sub-environments.
        buffer: The number of the buffer that they belong to; None where there is only one.
        ended: Whether it was told to end.
        new_templates: Info templates to send with the next command.
        lost: Why it is to be replaced, where that was interrupted.
        envs: Its sub-environments, where they live in the calling process.
    """

    def __init__(self, work: Work) -> None:
        self.index: int = work.index
        self.rows: range = work.rows
        self.buffer: int | None = work.buffer
        self.ended: bool = False
        self.new_templates: list[Template] = []
        self.lost: Exception | None = None
        self.envs: Sequence[gym.Env] = ()

    @property
    @abstractmethod
    def outstanding(self) -> bool:
        """Whether a command was given whose end has not been seen."""

    def built(self, timeout_s: float | None = None) -> Sample | None:
        """Waits until the worker has built its sub-environments.

        Returns:
            A sample of the first of them, where its `Work` asks for that.

        Raises:
            StepTimeout: If it does not within the time limit.
            WorkerDied: If it ends instead.
            Exception: What a factory raised.
        """
        raise NotImplementedError

    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Has it make a lane of its sub-environments; from then on it takes commands."""
        raise NotImplementedError

    def lane_made(self) -> tuple[str, list[gym.Space[Any]]]:
        """Waits for the end of `make_lane`.

        Returns:
            What is wrong with its spaces, if anything, and these spaces where they may differ.
        """
        raise NotImplementedError

    @abstractmethod
    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the new templates; `request` sends it.

        Args:
            name: Of the method.
            args: Its arguments; of a `step` None where the actions are in the arena.
        """

    @abstractmethod
    def request(self, data: Any, slot: int = 0) -> None:
        """Begins what `packed` made; observations go into that slot."""

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
            The worker's reply, None if all is in the arena, what a sub-environment raised, with a
            note of which one it was, or `PENDING` if the time ran out.

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
        lends: Whether large batches in the arena can be lent: see `Loans`.
        loans: What of them is, where they are.
        templates: The info templates learned so far.
        restarts: How many workers were replaced.
        closed: Set when the workers are about to be ended, perhaps in the midst of a command.
    """

    arena: Arena
    lends: bool = False
    loans: Loans | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.each: list[Worker] = []
        self.templates: list[Template] = []
        self.restarts: int = 0
        self.closed: bool = False
        self._limit_s = settings.step_timeout_s
        self._slot = 0
        # The command that is begun: the method, and its arguments for some rows; what the lanes
        # have replied so far, the caller's first; and what was raised first.
        self._asked: tuple[str, Arguments] = STEP
        self._replies: list[Any] = []
        self._failure: BaseException | None = None
        self._dead: WorkerDied | None = None
        # What it takes to start a worker in the place of one that has died.
        self._works: dict[int, Work] = {}
        self._spec: LaneSpec | None = None
        self._seeds: dict[int, int] = {}
        self._deaths_s: dict[int, list[float]] = collections.defaultdict(list)

    # ---- starting and ending

    def start(self, work: Work) -> Worker:
        """Starts a worker, which builds its sub-environments by itself."""
        self._works.setdefault(work.index, work)
        if not work.global_seed:
            work = dataclasses.replace(work, global_seed=generators.child_seed(work.index))
        return self.start_one(work)

    def start_one(self, work: Work) -> Worker:
        """Starts a worker by what is all that it needs to know."""
        raise NotImplementedError

    @abstractmethod
    def end_some(self, workers: Sequence[Any], limit_s: float) -> None:
        """Ends workers within the time limit, whatever they are doing. Twice does nothing."""

    def make_arena(self, spec: LaneSpec) -> None:
        """Makes the arena, once it is known what all lanes have in common."""
        self._spec = spec
        self.arena = Arena(spec.layout, self._mapped(spec.layout.size_bytes()))

    def _mapped(self, size_bytes: int) -> mmap.mmap:
        """The memory of the arena."""
        return mmap.mmap(-1, size_bytes)

    def end(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends all workers within the time limit."""
        self.closed = True
        self.end_some(self.each, limit_s)

    # ---- commands

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
            if worker.lost is not None:
                self._replace(place, worker.lost)
            elif worker.outstanding:
                left_s = left_s or _countdown(self._limit_s)
                try:
                    if worker.drop(left_s) is PENDING:
                        self._replace_late(place)
                except WorkerDied as death:
                    self._replace(place, death)
        self._replies, self._failure = [], None

    def begin_step(self, slot: int) -> None:
        """Has every worker step with the actions in the arena; observations go into a slot.

        Raises what `begin` does.
        """
        self.begin()
        self.ask(*STEP, slot)

    def end_step(self) -> bool:
        """Ends a step, where it can; the caller's own part is done.

        Returns:
            Whether it is over and all of it is in the arena; else `collect(None)` ends it.
        """
        self._replies = [None]
        return False

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
        if name == "reset" and self.settings.restart:
            for worker, args in asked:
                given = zip(worker.rows, args[0] if args else (), strict=False)
                self._seeds.update((row, seed) for row, seed in given if seed is not None)
        packed = [None if args is None else worker.packed(name, args) for worker, args in asked]
        for place, data in enumerate(packed):
            if data is not None:
                try:
                    self.each[place].request(data, slot)
                except WorkerDied as death:
                    self._replace(place, death)
                    self._give(place)

    def _give(self, place: int) -> None:
        """Gives the command that is begun to a new worker; if that has died, to the one after."""
        name, arguments = self._asked
        while True:
            worker = self.each[place]
            args = arguments(worker.rows)
            try:
                if args is not None:
                    worker.request(worker.packed(name, args), self._slot)
                return
            except WorkerDied as death:
                self._replace(place, death)

    def collect(self, own: Callable[[], Any] | None, timeout_s: float | None = None) -> list[Any]:
        """Does the caller's own part, collects the workers', and raises what any of them raised.

        Every reply is in before anything is raised, so that a failure leaves nothing behind; but
        one that was raised while another worker takes long is not kept waiting for that.

        Args:
            own: The caller's own part; None where that is done, as after `end_step`.
            timeout_s: Seconds to wait for the workers, once the caller's own part is done.

        Returns:
            What each lane's method returned, the caller's first.

        Raises:
            StillPending: If `timeout_s` passed; called again, with nothing to do for the caller, it
                goes on.
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
                raise StillPending
            while reply is PENDING:  # the one that replaces it has as long
                self._refuse_to_repeat_calls(self._replace_late(place))
                self._give(place)
                reply = self._reply(place, _countdown(self._limit_s))
            if isinstance(reply, BaseException):
                self._failure = self._failure or reply
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
        raise self._failure or failed.collect()

    def _look_around(self) -> None:
        """While one worker is waited for: raises if any of them has failed or died."""
        for worker in self.each:
            if worker.has_failed():
                raise _FailedElsewhere(worker)
            worker.check()

    # ---- replacing

    def _replace(self, place: int, death: Exception) -> None:
        """Replaces a worker that has died; where none are replaced, raises, now and ever after."""
        if self.closed:
            raise closed_meanwhile()
        if not self.settings.restart:
            self._dead = WorkerDied(
                f"{death} Close the vector environment and make a new one, or have workers "
                'replaced: vector_kwargs={"on_worker_death": "restart"}.'
            )
            raise self._dead
        old = self.each[place]
        old.lost = death  # until it is replaced: this may be interrupted
        try:
            self.end_some([old], 0.0)
            self._note_death(old.index, death)
            new = self.successor(old, death)
        except Exception as error:
            self._dead = error if isinstance(error, WorkerDied) else WorkerDied(str(error))
            raise
        self.each[place] = new
        if self.closed:  # while it was being made: nobody else knows of it
            self.end_some([new], 0.0)
            raise closed_meanwhile()
        new.new_templates = [*self.templates]
        # The last thing: where warnings are errors, it raises.
        warn(
            f"{death} It was replaced: sub-environments {new.rows[0]}-{new.rows[-1]} begin anew "
            "and report their episodes as truncated. What set_attr and call had changed in them is "
            "lost: change it again."
        )

    def successor(self, worker: Worker, death: Exception) -> Worker:
        """Starts a worker in place of one that has died and was ended; waits until it has built.

        Raises:
            Exception: What a factory raised this time.
        """
        assert self._spec is not None
        new = self.start(
            dataclasses.replace(
                self._works[worker.index],
                gives_sample=False,
                restart_seeds=tuple(map(self._fresh_seed, worker.rows)),
                global_seed=generators.child_seed(worker.index + 1000 * self.restarts),
            )
        )
        try:
            new.built(self.settings.start_timeout_s)
            new.make_lane(self._spec, self.arena)
            new.lane_made()
        except BaseException:
            self.end_some([new], 0.0)
            raise
        return new

    def _fresh_seed(self, row: int) -> int | None:
        """A seed for the episode after a restart; none where none was given before."""
        if row not in self._seeds:
            return None
        entropy = [self._seeds[row], row, self.restarts]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _note_death(self, index: int, death: Exception) -> None:
        """Counts a death that is to be followed by a restart.

        Raises:
            WorkerDied: If that worker has died too often.
        """
        now_s = time.monotonic()
        recent = [at_s for at_s in self._deaths_s[index] if now_s - at_s <= RESTART_WINDOW_S]
        self._deaths_s[index] = deaths_s = [*recent, now_s]
        if len(deaths_s) > RESTARTS:
            raise WorkerDied(
                f"{death} This worker has now died {len(deaths_s)} times within "
                f"{RESTART_WINDOW_S:.0f} s, so it was not replaced again."
            ) from death
        self.restarts += 1

    def _replace_late(self, place: int) -> StepTimeout:
        """Replaces a worker that takes too long; where none are replaced, raises."""
        name = self.each[place].name()
        limit_s = self.settings.step_timeout_s
        late = StepTimeout(f"{name} has not answered within step_timeout_s={limit_s:g}.")
        if not self.settings.restart:
            raise StepTimeout(f"{late} {TOO_LATE_ADVICE}")
        self._replace(place, late)
        return late

    def _refuse_to_repeat_calls(self, death: Exception) -> None:
        """Raises where a call was under way: what it did before the death is not known."""
        if self._asked[0] not in ("step", "reset"):
            raise WorkerDied(
                f"{death} It was replaced; whether the call had taken effect is not known, so "
                "call it again."
            ) from death


class _FailedElsewhere(Exception):
    """Another worker than the one waited for has failed."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker


STEP: tuple[str, Arguments] = ("step", lambda rows: (None,))
"""The command to step with the actions in the arena."""


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
