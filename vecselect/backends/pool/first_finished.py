"""`FirstFinishedVectorEnv`: each sub-environment steps independently of the others.

A loop in the manner of EnvPool gets the results of those `batch_size` sub-environments that have
finished first, and sends actions to these, while all others go on:

    envs.async_reset(seed=1)
    while True:
        observations, rewards, terminated, truncated, infos = envs.recv()
        envs.send(policy(observations), infos["env_id"])
"""

from __future__ import annotations

import contextlib
import copy as copying
import functools
import itertools
import math
import multiprocessing
import time
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from vecselect.arguments import action_check, read_reset
from vecselect.backends.base import need_no_ended_episode
from vecselect.backends.pool.arena import assembled, leaves
from vecselect.backends.pool.commands import LaneCalls
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.infos import InfoTable
from vecselect.backends.pool.link import WATCH_PERIOD_S
from vecselect.backends.pool.workers import StillPending
from vecselect.errors import TOO_LATE_ADVICE, StepTimeout, WorkerDied
from vecselect.process.interrupts import DeferredInterrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.commands import StepResult
    from vecselect.backends.pool.rows import Job, RowProcesses, RowThreads
    from vecselect.backends.pool.settings import Settings
    from vecselect.backends.pool.workers import Arguments, Worker

    Given = tuple[Job, Worker, float]
    """A job, the worker that it was given to, and when, in seconds; of a step the job may be
    `arena` and the code of its action's dtype: see `Arena.action`."""


class FirstFinishedVectorEnv(LaneCalls):
    """Steps each sub-environment as soon as it has its action, in a worker.

    Each one's trajectory is that of a loop. All calls of a vector environment are there too, for
    when nothing is at work: `step` then is a `send` to all and a wait for all.

    Attributes:
        batch_size: The results that `recv` gives at once.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        settings: Settings,
        batch_size: int,
        kind: type[RowProcesses] | type[RowThreads],
    ) -> None:
        """Builds the sub-environments in workers.

        Args:
            env_fns: One factory per sub-environment.
            settings: How the workers are to run, with queues.
            batch_size: The results that `recv` gives at once.
            kind: What the workers are.

        Raises: What `construct` does.
        """
        self.closed: bool = (
            True  # until there is something to close: older Gymnasiums close in __del__
        )
        super().__init__()
        with contextlib.ExitStack() as undo:
            built = construct(env_fns, settings, kind, undo)
            self._describe(built)
            self.batch_size = batch_size
            self._leaves = tuple(leaves(self.single_observation_space))
            self._objects = {
                leaf.path: [None] * self.num_envs for leaf in self._leaves if leaf.dtype is None
            }
            self._workers: Any = built.workers
            self._arena = built.workers.arena
            self._infos = InfoTable(self._arena)
            self._limit_s = settings.step_timeout_s
            self._refuses_ended = settings.autoreset_mode is AutoresetMode.DISABLED
            each = built.workers.each
            self._place_of = [place for place, worker in enumerate(each) for _ in worker.rows]
            self._place_of += range(len(each))  # by the keys of workers
            # What belongs to batches of so many rows.
            self._batch = functools.cache(functools.partial(_Batch, self.single_action_space))
            # By row, or by key of a worker as a whole, what was given and has not answered: told
            # again to the one that replaces the worker.
            self._at_work: dict[int, Given] = {}
            self._answers: dict[int, Any] = {}  # what has answered and was not handed out
            self._was_reset = False
            self.closed = False
            self._finalizer = Finalize(self, built.workers.end, exitpriority=10)
            undo.pop_all()

    # ---- the calls of EnvPool

    def async_reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Has sub-environments reset: see `FirstFinishedAutoVectorEnv`."""
        self._need_no_call("async_reset")
        jobs = self._resets(seed, options)
        if len(jobs) == self.num_envs:
            self._drain()
        self._need_free(jobs)
        self._give_resets(jobs)

    def send(self, actions: Any, env_id: Any) -> None:
        """Has sub-environments step.

        Raises:
            ResetNeeded: Before the first `async_reset` or `reset`.
        """
        self._need_no_call("send")
        if not self._was_reset:
            raise ResetNeeded("Nothing was reset yet; call async_reset() and recv() first.")
        rows = self._read_ids(env_id)
        self._need_free(rows)
        self._give_steps(rows, actions)

    def recv(self, timeout: float | None = None) -> StepResult:
        """The results of the `batch_size` sub-environments that have finished first."""
        self._need_no_call("recv")
        count = self.batch_size
        found = len(self._answers) + len(self._at_work)
        if found < count:  # or Ctrl-C came between taking an answer in and noting it
            self._workers.take_answers(self._answers, self._at_work)
            found = len(self._answers) + len(self._at_work)
        if found < count:
            raise NoAsyncCallError(
                f"recv() needs batch_size={count} results, but only {found} sub-environments are "
                "at work or have finished; send actions to more, or call async_reset().",
                "recv",
            )
        try:
            self._await(lambda: count - len(self._answers), timeout)
        except StillPending:
            raise multiprocessing.TimeoutError(
                f"recv timed out after {timeout} s, when {len(self._answers)} of {count} had "
                "finished. Nothing is lost: call it again."
            ) from None
        rows = sorted(itertools.islice(self._answers, count))
        rests = self._take_in(rows)
        for row in rows:
            del self._answers[row]
        *result, infos = self._results(rows, rests)
        infos["env_id"] = np.array(rows, np.int32)
        return *result, infos

    def _need_no_call(self, kind: str) -> None:
        """Makes sure that no other call is under way: see `LaneCalls`."""
        super().need_idle(kind)
        self._need_usable()

    def _read_ids(self, env_id: Any) -> list[int]:
        try:
            ids = np.asarray(env_id)
            rows: list[int] = ids.tolist() if ids.dtype.kind in "iu" and ids.ndim == 1 else []
        except (TypeError, ValueError):
            rows = []
        wrong = len(set(rows)) < len(rows) or not all(0 <= row < self.num_envs for row in rows)
        if wrong or not rows:
            raise ValueError(
                f"env_id is {env_id!r}; give the numbers of sub-environments, each once, from 0 to "
                f'{self.num_envs - 1}, such as the infos["env_id"] of recv(). Nothing was sent.'
            )
        return rows

    def _need_free(self, rows: Iterable[int]) -> None:
        busy = [row for row in rows if row in self._at_work or row in self._answers]
        if busy:
            raise AlreadyPendingCallError(
                f"Sub-environments {busy} are at work, or their results were not received; recv() "
                "gives them. Nothing was sent.",
                "send",
            )

    # ---- the calls of a vector environment, when nothing is at work

    def _begin_step(self, actions: Any) -> None:
        self._begin("step")
        self._give_steps(self._every, actions)

    def _begin_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        """Begins a reset; what is at work finishes first, and what it returns is dropped."""
        self._begin("reset")
        jobs = self._resets(seed, options)
        self._drain()
        others = [row for row in self._every if row not in jobs]
        self._arena.info_ids[others] = 0  # what they had in their infos is no news
        self._give_resets(jobs)

    def _end_reset(self, timeout_s: float | None) -> tuple[Any, dict[str, Any]]:
        observations, _, _, _, infos = self._end_step(timeout_s)
        return observations, infos

    def _end_step(self, timeout_s: float | None) -> StepResult:
        """Waits for all that is at work, and gives the results of all rows."""
        self._await(lambda: len(self._at_work), timeout_s)
        try:
            rests = self._take_in(self._answers)
        finally:
            self._answers.clear()
        return self._results(self._every, rests)

    @property
    def _every(self) -> range:
        return range(self.num_envs)

    def _ask(self, name: str, arguments: Arguments) -> None:
        """Has lanes call a method of theirs, for which there are arguments: see `LaneCalls`."""
        self._begin("call")
        for place, worker in enumerate(self._workers.each):
            args = arguments(worker.rows)
            if args is not None:
                self._give({self.num_envs + place: (name, args)})

    def _collected(self, timeout_s: float | None) -> list[Any]:
        """What the lanes that were asked replied; raises what any of them raised."""
        self._await(lambda: len(self._at_work), timeout_s)
        replies = [*self._answers.values()]
        self._answers.clear()
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    def need_idle(self, kind: str) -> None:
        """Makes sure that a call can be made: see `LaneCalls`; all but a reset need all rows idle.

        Raises:
            AlreadyPendingCallError: If another call is not over, or sub-environments are at work.
        """
        super().need_idle(kind)
        count = len(self._at_work) + len(self._answers)
        if count and kind != "reset":
            raise AlreadyPendingCallError(
                f"Calling `{kind}` while {count} sub-environments are at work, or their results "
                "were not received; receive them all, or reset.",
                "send",
            )

    # ---- jobs and answers

    def _resets(self, seed: Any, options: dict[str, Any] | None) -> dict[int, Job]:
        """A reset of each sub-environment, or of those in the mask."""
        seeds, options, mask = read_reset(seed, options, self.num_envs)
        return {row: ("reset", (seeds[row], options)) for row in mask.nonzero()[0].tolist()}

    def _give_resets(self, jobs: Mapping[int, Job]) -> None:
        rows = [*jobs]
        self._arena.terminated[rows] = self._arena.truncated[rows] = False
        self._arena.rewards[rows] = 0.0
        self._was_reset = True
        self._give(jobs)

    def _give_steps(self, rows: Sequence[int], actions: Any) -> None:
        batch = self._batch(len(rows))
        actions = batch.check(actions)
        index, arena = np.array(rows, np.intp), self._arena
        if self._refuses_ended:
            ended = np.zeros(self.num_envs, np.bool_)
            ended[index] = arena.terminated[index] | arena.truncated[index]
            need_no_ended_episode(ended)
        code = arena.put_some_actions(actions, index) if isinstance(actions, np.ndarray) else None
        if code is not None:
            self._give(dict.fromkeys(rows, ("arena", code)))
        else:
            each = iterate(batch.space, copying.deepcopy(actions))  # threads get them as they are
            self._give({row: ("step", action) for row, action in zip(rows, each, strict=True)})

    def _give(self, jobs: Mapping[int, Job]) -> None:
        """Gives workers jobs, all of one kind, by row or by the key of a worker."""
        self._workers.begin()  # raises if one has died
        by_place: dict[int, dict[int, Job]] = {}
        for key, job in jobs.items():
            by_place.setdefault(self._place_of[key], {})[key] = job
        self._tell(by_place)

    def _tell(self, by_place: Mapping[int, Mapping[int, Job]]) -> None:
        """Gives workers jobs, by their place; those that have died are replaced."""
        with DeferredInterrupts():  # else a job could be noted, and waited for, but never given
            deaths = [(place, self._tell_one(place, jobs)) for place, jobs in by_place.items()]
        for place, death in deaths:
            if death is not None:
                self._renew(place, death)

    def _tell_one(self, place: int, jobs: Mapping[int, Job]) -> WorkerDied | None:
        """Gives a worker jobs; returns how it has died, if it has."""
        workers, now_s = self._workers, time.monotonic()
        worker = workers.each[place]
        self._at_work.update({key: (job, worker, now_s) for key, job in jobs.items()})
        kind, argument = next(iter(jobs.values()))
        try:
            if kind == "arena":
                workers.give_steps(place, jobs, argument)
            else:
                workers.tell(place, jobs)
        except WorkerDied as death:
            return death
        except Exception:
            if kind != "arena":  # it cannot be sent: nobody is at work on it
                for key in jobs:
                    self._at_work.pop(key, None)
            raise
        return None

    def _renew(self, place: int, death: Exception) -> None:
        """Has another worker go on in place of one that has died, if the settings say so.

        Raises:
            WorkerDied: If they do not, or if it is not known whether a call had happened.
        """
        self._workers.take_answers(self._answers, self._at_work)  # what it had done before counts
        self._workers.replace(place, death)
        self._tell_again()

    def _tell_again(self) -> None:
        """Gives new workers what those before them have left undone."""
        for key in [*self._at_work]:
            place, given = self._place_of[key], self._at_work.get(key)
            if given is None or given[1] is self._workers.each[place]:
                continue
            if key >= self.num_envs:
                del self._at_work[key]
                raise WorkerDied(
                    f"{given[1].name()} was replaced; whether the call had taken effect is not "
                    "known, so call it again."
                )
            self._tell({place: {key: given[0]}})

    def _await(self, missing: Callable[[], int], timeout_s: float | None) -> None:
        """Takes answers in until none are missing.

        Raises:
            StillPending: If the time ran out.
            StepTimeout: If a sub-environment takes longer than any may.
        """
        workers, answers, at_work = self._workers, self._answers, self._at_work
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        look_s = math.inf
        while True:
            workers.take_answers(answers, at_work)
            count = missing()
            if count <= 0:
                return
            now_s = time.monotonic()
            look_s = min(look_s, now_s + WATCH_PERIOD_S / 2)
            if until_s is not None and now_s >= until_s:
                raise StillPending
            if now_s >= look_s:
                self._look_around(now_s)
                look_s = now_s + WATCH_PERIOD_S / 2
            left_s = WATCH_PERIOD_S if until_s is None else min(WATCH_PERIOD_S, until_s - now_s)
            if self._limit_s is not None:
                left_s = min(left_s, self._limit_s / 4)
            workers.wait(count, left_s)

    def _look_around(self, now_s: float) -> None:
        """Sees whether all workers live and keep their deadline; replaces or raises."""
        self._workers.begin()  # goes on with what was interrupted
        self._tell_again()
        for place, worker in enumerate(self._workers.each):
            try:
                worker.check()
            except WorkerDied as death:
                self._renew(place, death)
        if self._limit_s is None:
            return
        for key, (job, worker, since_s) in [*self._at_work.items()]:
            if now_s - since_s > self._limit_s:
                late = f"{worker.name()} has not answered within step_timeout_s={self._limit_s:g}."
                if not self._workers.settings.restart:
                    self._at_work[key] = job, worker, now_s  # who waits on has as long again
                    raise StepTimeout(f"{late} {TOO_LATE_ADVICE}")
                self._renew(self._place_of[key], StepTimeout(late))
                return

    def _drain(self) -> None:
        """Waits for what is at work, and drops what it returns."""
        self._await(lambda: len(self._at_work), None)
        self._answers.clear()

    def _take_in(self, rows: Iterable[int]) -> dict[int, Any]:
        """What rows have left of infos beside the arena; objects are put where they belong.

        Raises:
            Exception: What the first of them raised, which has no other result; the others keep
                theirs.
        """
        rests: dict[int, Any] = {}
        for row in rows:
            reply = self._answers[row]
            if reply is None:
                continue
            if isinstance(reply, BaseException):
                del self._answers[row]
                raise reply
            rest, objects = reply
            rests.update(rest)
            for path, value in objects.items():
                self._objects[path][row] = value
        return rests

    def _results(self, rows: Sequence[int], rests: dict[int, Any]) -> StepResult:
        """The results of rows, and what `_take_in` has given of their infos."""
        batch, arena = self._batch(len(rows)), self._arena
        index = np.array(rows, np.intp)
        infos: dict[str, Any] = {}
        if arena.info_ids[index].any():
            for position, row in enumerate(rows):
                for info in self._infos.of_row(row, rests):
                    infos = batch.add_info(infos, info, position)
        if rests:
            for template in self._infos.learn(rests):
                self._workers.add_template(template)
        parts: list[Any] = []
        for leaf in self._leaves:
            if leaf.dtype is not None:
                parts.append(arena.observations[0][leaf.path][index])
            else:
                parts.append(copying.deepcopy(tuple(self._objects[leaf.path][row] for row in rows)))
        return (
            assembled(self.single_observation_space, iter(parts)),
            arena.rewards[index],
            arena.terminated[index],
            arena.truncated[index],
            infos,
        )


class _Batch(VectorEnv):
    """What batches of some number of rows need; as a `VectorEnv` it merges their infos."""

    def __init__(self, single: gym.Space[Any], count: int) -> None:
        self.num_envs = count
        self.space = batch_space(single, count)
        self.check = action_check(self.space, single, count)
        self.add_info = self._add_info
