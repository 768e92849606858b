"""Building a pool: the caller's sub-environments here, the others in workers, and the arena."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gymnasium.vector.utils import batch_differing_spaces, batch_space

from vecselect.backends.base import check_distinct, warn_of_memory
from vecselect.backends.pool.arena import Layout
from vecselect.backends.pool.layout import leaves
from vecselect.backends.pool.server import Terms, Work, sample_of
from vecselect.backends.specs import facts_of, same_factory
from vecselect.failures import annotate
from vecselect.machine import WORKER_BYTES, resident_bytes
from vecselect.modes import slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym
    from gymnasium.vector import AutoresetMode

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.handle import Handle
    from vecselect.backends.pool.memory import Memory
    from vecselect.backends.pool.process import ProcessHandle
    from vecselect.backends.pool.server import Sample
    from vecselect.backends.pool.starter import Starter


class StartedWorker(Protocol):
    """A worker process that was started before there was a pool.

    Attributes:
        memory: The block that it shares with the caller; the pool's own.
    """

    memory: Memory

    def become(self, work: Work) -> ProcessHandle:
        """Has it build its slice, as a worker that was started with it does."""


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
        tries: Tries to take a signal of a worker process before sleeping.
        context: Start method of worker processes; the safest one by default.
        daemon: Whether worker processes are daemons, which may not start processes themselves.
        restart: Whether a worker process that died is replaced.
        memory_available_bytes: What worker processes may take before a warning is given.
        first_row: Index of the first sub-environment, where the pool is a part of something larger.
        caller_steps: Whether the calling process steps a slice of its own.
        restart_seeds: Where that part takes the place of one that died: seeds to begin anew with.
        first_worker: A process that is to be the first worker, where one was started to profile.
    """

    workers: int
    copy: bool
    observation_mode: str | tuple[gym.Space, gym.Space]
    autoreset_mode: AutoresetMode
    step_timeout_s: float | None = None
    start_timeout_s: float | None = None
    threads: int = 1
    tries: int = 0
    context: str | None = None
    daemon: bool = False
    restart: bool = False
    memory_available_bytes: int | None = None
    first_row: int = 0
    caller_steps: bool = True
    restart_seeds: tuple[int | None, ...] | None = None
    first_worker: StartedWorker | None = None

    @property
    def same_spaces(self) -> bool:
        """Whether the observation spaces must be equal, or only alike in dtype and shape."""
        return self.observation_mode == "same"


@dataclass(frozen=True)
class Parts:
    """What a pool is made of.

    Attributes:
        envs: The sub-environments of the caller's lane, none where it does not step.
        handles: The workers.
        arena: What they share.
        starter: What started the workers, and starts others in place of those that die.
        first: What the first sub-environment says of itself.
        single_observation_space: Of one sub-environment, as it is batched.
        observation_space: Of the batch.
    """

    envs: list[gym.Env]
    handles: list[Handle]
    arena: Arena
    starter: Starter
    first: Sample
    single_observation_space: gym.Space
    observation_space: gym.Space


def construct(
    env_fns: Sequence[Callable[[], gym.Env]], settings: Settings, kind: type[Starter]
) -> Parts:
    """Builds every sub-environment and the arena; leaves nothing behind if that fails.

    Args:
        env_fns: One factory per sub-environment.
        settings: How they are to run.
        kind: What makes the workers.

    Raises:
        RuntimeError: If the spaces of the sub-environments do not go together.
        RequestError: If two factories return the same instance.
        Exception: What a factory raised.
    """
    envs: list[gym.Env] = []
    handles: list[Handle] = []
    try:
        return _construct(envs, handles, env_fns, settings, kind)
    except BaseException:
        kind.end_all(handles)
        for env in envs:
            env.close()
        raise


def _construct(
    envs: list[gym.Env],
    handles: list[Handle],
    env_fns: Sequence[Callable[[], gym.Env]],
    settings: Settings,
    kind: type[Starter],
) -> Parts:
    """Does so; what it builds and starts is in the two lists, however far it gets."""
    count, start = len(env_fns), settings.first_row
    own, *others = slices(count, settings.workers, settings.caller_steps)
    before_bytes = resident_bytes()
    for row in own[:1]:  # before the workers are started: it may raise, or be found too large
        envs.append(_built(env_fns[row], start + row))  # noqa: PERF401 (noted at once)
    after_bytes = resident_bytes()
    if before_bytes is not None and after_bytes is not None:
        _warn_of_memory(after_bytes - before_bytes, settings)
    starter = kind(settings)
    works = [
        Work(
            index=index,
            env_fns=tuple(env_fns[rows.start : rows.stop]),
            first_row=start + rows.start,
            tries=settings.tries,
            restart_seeds=settings.restart_seeds and settings.restart_seeds[rows.start : rows.stop],
        )
        for index, rows in enumerate(others)
    ]
    for work in works:
        handles.append(starter.start(work))  # noqa: PERF401 (what is started is noted at once)
    # While worker processes build theirs, the caller builds the rest of its own.
    for row in own[1:]:
        envs.append(_built(env_fns[row], start + row))  # noqa: PERF401 (here too)
    check_distinct(envs, start)
    for handle in handles:
        handle.built(settings.start_timeout_s)
    first = sample_of(envs[0]) if envs else handles[0].sample()
    terms, batched = _terms(first, count, settings)
    if envs:
        terms = _with_facts(terms, env_fns, envs[0], start)
    starter.agree(terms)
    for handle in handles:
        handle.settle(terms, starter.arena)
    spaces = _agreed(envs, handles, terms, start)
    if not settings.restart:
        starter.need_no_more()
    check_distinct([*envs, *(env for handle in handles for env in handle.envs)], start)
    if settings.observation_mode == "different":
        batched = batch_differing_spaces(spaces)
    return Parts(envs, handles, starter.arena, starter, first, terms.observation_space, batched)


def _terms(first: Sample, count: int, settings: Settings) -> tuple[Terms, gym.Space]:
    """What all lanes have in common, and the space of a batch, as far as one environment tells."""
    mode = settings.observation_mode
    if isinstance(mode, tuple):
        batched, single = mode
    else:
        single = first.observation_space
        batched = batch_space(single, count)
    actions = tuple(leaves(first.action_space))
    layout = Layout(
        num_envs=settings.first_row + count,  # of the rows before ours nothing is ever touched
        workers=settings.workers,
        observations=tuple(leaf for leaf in leaves(single) if leaf.dtype is not None),
        actions=actions if all(leaf.dtype is not None for leaf in actions) else None,
        buffers=1 if settings.copy else 2,
    )
    terms = Terms(
        layout=layout,
        autoreset_mode=settings.autoreset_mode,
        observation_space=single,
        action_space=first.action_space,
        same_spaces=settings.same_spaces,
    )
    return terms, batched


def _with_facts(
    terms: Terms, env_fns: Sequence[Callable[[], gym.Env]], first: gym.Env, first_row: int
) -> Terms:
    """Adds what the workers' environments must have in common with the caller's first."""
    alike = [row for row, make in enumerate(env_fns) if same_factory(make, env_fns[0])]
    return dataclasses.replace(
        terms, facts=facts_of(first), alike=frozenset(first_row + row for row in alike)
    )


def _built(make: Callable[[], gym.Env], row: int) -> gym.Env:
    """A sub-environment of the caller's lane."""
    try:
        return make()
    except Exception as error:
        annotate(error, row, "construct")
        raise


def _warn_of_memory(grown_bytes: int, settings: Settings) -> None:
    """Says so before workers are started that will hardly fit into memory."""
    if settings.memory_available_bytes is not None:
        each_bytes = WORKER_BYTES + max(grown_bytes, 0)
        warn_of_memory(settings.workers, each_bytes, settings.memory_available_bytes)


def _agreed(
    envs: list[gym.Env], handles: list[Handle], terms: Terms, first_row: int
) -> list[gym.Space]:
    """Sees whether all spaces go together.

    Returns:
        The observation spaces; of the workers' environments only where they may differ.
    """
    problems = [terms.mismatch(env, row) for row, env in enumerate(envs, first_row)]
    spaces = [env.observation_space for env in envs]
    for handle in handles:
        trouble, theirs = handle.greeting()
        problems.append(trouble)
        spaces += theirs
    if problem := next(filter(None, problems), None):
        raise RuntimeError(problem)
    return spaces
