"""A lane in an actor, as the caller sees it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from vecselect import processes
from vecselect.backends.pool.workers import (
    CLOSE_LIMIT_S,
    PENDING,
    Raised,
    Worker,
    closed_meanwhile,
)
from vecselect.backends.ray import cluster
from vecselect.backends.ray.actor import LaneSample, Place, machine_id
from vecselect.errors import StepTimeout, WorkerDied, WorkerError
from vecselect.failures import Failed, RemoteTraceback, raised_there
from vecselect.interrupts import DeferredInterrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.infos import InfoTable
    from vecselect.backends.pool.lane import LaneSpec
    from vecselect.backends.ray.actor import Task

PULSE_S = 1.0
"""How often a lane that has answered is asked whether it lives, while another one is waited for."""

LOOK_S = 0.05
"""How long one lane is waited for before it is seen what has become of the others."""

KILLED_LIMIT_S = 0.5
"""How long a killed actor may take to go before, on the caller's own machine, its process is killed
by the system: Ray leaves a stopped one five seconds."""


class RayHandle(Worker):
    """An actor as the caller sees it."""

    def __init__(self, task: Task, actor: Any) -> None:
        """Takes charge of an actor that was created, and of one lease of Ray's."""
        super().__init__(task.index, task.rows)
        self.actor = actor
        self.place: Place | None = None
        self.placed: Any = actor.place.remote()
        self._sample: LaneSample | None = None
        self._arena: Arena | None = None
        self._infos: InfoTable | None = None
        self._ray = cluster.ray()
        self._ref: Any = None
        self._answer: Any = PENDING
        self._death: WorkerDied | None = None
        self._pulse: Any = None
        self._felt_s = 0.0
        self._buffer = 0
        self._mask: list[bool] | None = None
        self._leased = True
        self.closing_error: BaseException | None = None

    def use(self, arena: Arena, infos: InfoTable) -> None:
        """Says where what comes back is to be put."""
        self._arena, self._infos = arena, infos

    def find_place(self) -> None:
        """Finds out where the actor runs; waits until it does.

        Raises:
            RayError: If it has died before, as it does where its node has.
        """
        self.place = self._ray.get(self.placed)

    def build(self, task: Task) -> None:
        """Begins to build the sub-environments; `built` waits until they are."""
        self.outstanding = True
        self._ref = self.actor.build.remote(processes.dumps(task))

    def built(self, timeout_s: float | None = None) -> LaneSample:
        """Waits until its sub-environments are built.

        Raises:
            StepTimeout: If they are not within the time limit.
            WorkerDied: If the actor has died instead.
            Exception: What a factory raised.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        answer = self._awaited(None if until_s is None else lambda: until_s - time.monotonic())
        if answer is PENDING:
            raise StepTimeout(
                f"{self.name()} has not built its sub-environments within start_timeout_s."
            )
        self.outstanding = False
        found = processes.loads(answer)
        if isinstance(found, Failed):
            raise self._raised(found)
        self._sample = found
        return found  # type: ignore[no-any-return]

    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Nothing is to be done: the actor's lane has an arena of its own."""

    def lane_made(self) -> tuple[str, list[gym.Space]]:
        """The observation spaces; whether they go together is seen by who has all the samples."""
        assert self._sample is not None
        return "", list(self._sample.observation_spaces)

    def step(self, buffer: int) -> None:
        """Begins a step with the actions in the arena."""
        arena = self._arena
        assert arena is not None
        codes = arena.action_dtypes.tolist()
        part = slice(self.rows.start, self.rows.stop)
        leaves = [arena.action(index, code)[part] for index, code in enumerate(codes)]
        self.request(self.packed("step_parts", (leaves,)), buffer)

    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the new templates; `request` sends it."""
        # A batch of actions consists of what every process can import; arguments may not.
        dumps = processes.dumps_importable if name in ("step", "step_parts") else processes.dumps
        return dumps((self.new_templates, name, args)), args[2] if name == "reset" else None

    def request(self, data: Any, buffer: int = 0) -> None:
        """Begins what `packed` made."""
        self._need_alive()
        with DeferredInterrupts():
            message, self._mask = data
            self._buffer = buffer
            self._answer = PENDING
            self._ref = self.actor.do.remote(message)
            self.outstanding = True
            self.new_templates = []

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun; see `Worker`."""
        answer = self._awaited(deadline_s, look_around)
        if answer is PENDING:
            return PENDING
        self._answer, self._ref, self.outstanding = PENDING, None, False
        if isinstance(answer, tuple):
            return self._taken_in(*answer)
        reply = processes.loads(answer)
        return Raised(self._raised(reply)) if isinstance(reply, Failed) else reply

    def _awaited(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """What was answered, `PENDING` where the time ran out; raises where the actor has died."""
        while not self._look(LOOK_S if deadline_s is None else min(LOOK_S, max(deadline_s(), 0.0))):
            if look_around is not None:
                look_around()
            if deadline_s is not None and deadline_s() <= 0:
                return PENDING
        self._need_alive()
        return self._answer

    def _look(self, timeout_s: float = 0.0) -> bool:
        """Whether there is an answer, or never will be, within a time."""
        if self._answer is PENDING and self._death is None:
            self._answer = self._got(self._ref, timeout_s)
        return self._answer is not PENDING or self._death is not None

    def _got(self, ref: Any, timeout_s: float) -> Any:
        """What came, `PENDING` if nothing did; notes a death."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref, timeout=timeout_s)
        except errors.GetTimeoutError:
            return PENDING
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            self._death = WorkerDied(f"{self.name()} has died: {_cause(error)}")
            return PENDING

    def _taken_in(
        self,
        observations: list[np.ndarray],
        rewards: bytes,
        terminated: bytes,
        truncated: bytes,
        info_ids: bytes,
        columns: dict[int, np.ndarray],
        rest: bytes | None,
    ) -> Any:
        """Puts a batch into the arena; returns what that cannot hold."""
        arena, infos, part = self._arena, self._infos, slice(self.rows.start, self.rows.stop)
        assert arena is not None and infos is not None
        targets = arena.observations[self._buffer].values()
        mask = self._mask
        for target, values in zip(targets, observations, strict=True):
            if mask is None or all(mask):
                target[part] = values
            else:  # an actor in the place of one that died does not know the others
                target[part][mask] = values[mask]
        if mask is None:
            arena.rewards[part] = np.frombuffer(rewards)
            arena.terminated[part] = np.frombuffer(terminated, np.bool_)
            arena.truncated[part] = np.frombuffer(truncated, np.bool_)
        infos.put(part, info_ids, columns)
        return None if rest is None else processes.loads(rest)

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        if not self.outstanding or not self._look() or not isinstance(self._answer, bytes):
            return False
        return isinstance(processes.loads(self._answer), Failed)

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Takes in, and lets go of, what an interrupted command still owes; see `Worker`."""
        if self._awaited(deadline_s) is PENDING:
            return PENDING
        self._answer, self._ref, self.outstanding = PENDING, None, False
        return None

    def death(self) -> WorkerDied | None:
        """How it died; None if it lives."""
        if self.outstanding:
            self._look()
        elif self._death is None:
            self._feel_pulse()
        return None if self._death is None else WorkerDied(str(self._death))

    def _feel_pulse(self) -> None:
        """Asks a lane that has nothing to do whether it lives."""
        if self._pulse is None:
            if time.monotonic() - self._felt_s > PULSE_S:
                self._felt_s = time.monotonic()
                self._pulse = self.actor.beat.remote()
        elif self._got(self._pulse, 0.0) is not PENDING:
            self._pulse = None

    def _need_alive(self) -> None:
        if self.ended:
            raise closed_meanwhile()
        if self._death is not None:
            raise WorkerDied(str(self._death))

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(Exception):  # it is gone, or Ray is
            self._ray.kill(self.actor, no_restart=True)

    def name(self) -> str:
        """The lane, its node and what it runs, as the beginning of a sentence."""
        where = "no node yet" if self.place is None else f"node {self.place.node}"
        pid = "" if self.place is None else f", pid {self.place.pid}"
        return f"Lane {self.index} ({where}{pid}), {self.runs()}"

    def _raised(self, failed: Failed) -> BaseException:
        """What a sub-environment raised; where a note says already which one, nothing is added."""
        if failed.phase:
            return raised_there(failed)
        error = failed.error.rebuilt()
        if isinstance(error, RemoteTraceback):
            replacement = WorkerError(
                f"{self.name()} raised {failed.error.kind}: {failed.error.message}"
            )
            replacement.__cause__ = error
            return replacement
        return error

    def ask_to_end(self) -> Any:
        """Tells the actor to close its sub-environments; what that will be answered with."""
        self.ended = True
        if self._death is not None:
            return None
        with contextlib.suppress(Exception):
            return self.actor.close.remote()
        return None

    def give_lease_back(self) -> None:
        """Lets go of Ray; once."""
        if self._leased:
            self._leased = False
            cluster.give_lease_back()

    def end_process(self) -> None:
        """Sees to it that a killed actor of this machine goes."""
        if self.place is None or self.place.machine != machine_id():
            return
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.place.pid)
            if process.create_time() == self.place.started_s:
                try:
                    process.wait(KILLED_LIMIT_S)
                except psutil.TimeoutExpired:
                    process.kill()


def end_all(handles: Sequence[RayHandle], limit_s: float = CLOSE_LIMIT_S) -> None:
    """Ends actors: asks them to close, and kills them then or after the time limit.

    Args:
        handles: The actors; those that were ended before are left out.
        limit_s: Seconds that they may take to close, all together; 0 does not ask.
    """
    mine = [handle for handle in handles if not handle.ended]
    try:
        if limit_s > 0 and mine and cluster.ray().is_initialized():
            _close(mine, limit_s)
    finally:
        for handle in mine:
            handle.ended = True
            handle.kill()
        for handle in mine:
            handle.end_process()
            handle.give_lease_back()


def _close(handles: Sequence[RayHandle], limit_s: float) -> None:
    """Has the actors close their sub-environments, as far as they do within the time limit."""
    ray = cluster.ray()
    until_s = time.monotonic() + limit_s
    asked = [(handle.ask_to_end(), handle) for handle in handles]
    for ref, handle in asked:
        if ref is None:
            continue
        with contextlib.suppress(ray.exceptions.RayError):
            answer = ray.get(ref, timeout=max(until_s - time.monotonic(), 0.0))
            if answer is not None:
                handle.closing_error = raised_there(processes.loads(answer))


def _cause(error: Exception) -> str:
    """What Ray says of a death, in one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    skipped = ("class_name", "actor_id", "pid:", "namespace", "ip:", "name:")
    said = [line for line in lines if not line.startswith(skipped)]
    text = " ".join(said).partition(" Some common causes")[0] or type(error).__name__
    text = text if len(text) <= 400 else f"{text[:400]}..."
    return text if text.endswith((".", "...")) else f"{text}."
