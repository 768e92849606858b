"""Building a pool: the caller's sub-environments here, the others in workers, and the arena."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium.vector.utils import batch_differing_spaces, batch_space

from vecselect.backends.base import check_distinct, warn_of_memory
from vecselect.backends.pool.arena import LEND_BYTES, LENT_SLOTS, Layout, leaves
from vecselect.backends.pool.settings import LaneSpec, Sample, Work, sample_of
from vecselect.backends.specs import facts_of, same_factory
from vecselect.machine import WORKER_BYTES, read_machine, resident_bytes
from vecselect.modes import slices
from vecselect.process.remote_errors import annotate

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.settings import Settings
    from vecselect.backends.pool.workers import Workers


@dataclass(frozen=True)
class Built:
    """What a vector environment in lanes is made of.

    Attributes:
        envs: The sub-environments of the caller's lane, none where it does not step.
        workers: The others, with the arena.
        spec: What all lanes have in common.
        first: What the first sub-environment says of itself.
        observation_space: Of the batch.
    """

    envs: list[gym.Env]
    workers: Workers
    spec: LaneSpec
    first: Sample
    observation_space: gym.Space[Any]


def construct(
    env_fns: Sequence[Callable[[], gym.Env]],
    settings: Settings,
    kind: Callable[[Settings], Workers],
    undo: contextlib.ExitStack,
) -> Built:
    """Builds every sub-environment and the arena.

    Args:
        env_fns: One factory per sub-environment.
        settings: How they are to run.
        kind: Makes the workers.
        undo: Ends and closes all of it, unless whoever gives this takes that over.

    Raises:
        RuntimeError: If the spaces of the sub-environments do not go together.
        RequestError: If two factories return the same instance.
        Exception: What a factory raised.
    """
    envs: list[gym.Env] = []
    undo.callback(_close, envs)
    workers = kind(settings)
    undo.callback(workers.end)
    whole = Work(0, tuple(env_fns), 0, settings.tries, buffer=settings.buffer)
    first = build(envs, workers, whole, settings)
    spec = _spec(first, len(env_fns), settings, workers.lends)
    spaces = make_lanes(envs, workers, whole, spec)
    if isinstance(settings.observation_mode, tuple):
        batched = settings.observation_mode[0]
    elif settings.observation_mode == "different":
        batched = batch_differing_spaces(spaces)
    else:
        batched = batch_space(spec.observation_space, len(env_fns))
    return Built(envs, workers, spec, first, batched)


def build(envs: list[gym.Env], workers: Workers, whole: Work, settings: Settings) -> Sample:
    """Builds the sub-environments of a slice that is itself divided: some here, some in workers.

    Args:
        envs: Those of the calling process are added here, as soon as each is built.
        workers: Has none yet; those that step the others are started.
        whole: The slice, be it of a vector environment or of a worker that has workers of its own.
        settings: How they are to run.

    Returns:
        A sample of the first of them.

    Raises:
        RequestError: If two factories return the same instance.
        Exception: What a factory raised.
    """
    start = whole.first_row
    own, *others = slices(len(whole.env_fns), settings.workers, settings.caller_steps)
    before_bytes = resident_bytes()
    for row in own[:1]:  # before the workers are started: it may raise, or be found too large
        envs.append(_built(whole.env_fns[row], start + row))  # noqa: PERF401 (noted at once)
    after_bytes = resident_bytes()
    if settings.processes and before_bytes is not None and after_bytes is not None:
        each_bytes = WORKER_BYTES + max(after_bytes - before_bytes, 0)
        warn_of_memory(settings.processes, each_bytes, read_machine().memory_available_bytes)
    for index, rows in enumerate(others):
        work = dataclasses.replace(whole.part(rows), index=index, global_seed=0)
        work = dataclasses.replace(work, gives_sample=not own and index == 0)
        workers.each.append(workers.start(work))
    # While worker processes build theirs, the caller builds the rest of its own.
    for row in own[1:]:
        envs.append(_built(whole.env_fns[row], start + row))  # noqa: PERF401 (here too)
    check_distinct(envs, start)
    samples = [worker.built(settings.start_timeout_s) for worker in workers.each]
    first = sample_of(envs[0]) if envs else samples[0]
    assert first is not None
    return first


def make_lanes(
    envs: list[gym.Env], workers: Workers, whole: Work, spec: LaneSpec
) -> list[gym.Space[Any]]:
    """Makes the arena, and has the workers make their lanes.

    Args:
        envs: The sub-environments of the calling process.
        workers: Those that have built the others.
        whole: The slice that all of them make up.
        spec: What all lanes have in common.

    Returns:
        The observation spaces of all sub-environments, where they may differ.

    Raises:
        RuntimeError: If the spaces of the sub-environments do not go together.
        RequestError: If two factories return the same instance.
    """
    start = whole.first_row
    if envs:  # what the workers' environments must have in common with the caller's first
        same = (same_factory(make, whole.env_fns[0]) for make in whole.env_fns)
        alike = frozenset(row for row, is_same in enumerate(same, start) if is_same)
        spec = dataclasses.replace(spec, facts=facts_of(envs[0]), alike=alike)
    workers.make_arena(spec)
    for worker in workers.each:
        worker.make_lane(spec, workers.arena)
    problems = [spec.mismatch(env, row) for row, env in enumerate(envs, start)]
    spaces = [] if spec.same_spaces else [env.observation_space for env in envs]
    for worker in workers.each:
        problem, theirs = worker.lane_made()
        problems.append(problem)
        spaces += theirs
    if problem := next(filter(None, problems), ""):
        raise RuntimeError(problem)
    check_distinct([*envs, *(env for worker in workers.each for env in worker.envs)], start)
    return spaces


def _spec(first: Sample, count: int, settings: Settings, lends: bool) -> LaneSpec:
    """What all lanes have in common, as far as one environment tells."""
    mode = settings.observation_mode
    single = mode[1] if isinstance(mode, tuple) else first.observation_space
    actions = tuple(leaves(first.action_space))
    layout = Layout(
        num_envs=count,
        workers=settings.workers,
        observations=tuple(leaf for leaf in leaves(single) if leaf.dtype is not None),
        actions=actions if all(leaf.dtype is not None for leaf in actions) else None,
        slots=_slots(single, count, settings, lends and not settings.queues),
        queues=settings.queues,
    )
    return LaneSpec(
        layout=layout,
        autoreset_mode=settings.autoreset_mode,
        observation_space=single,
        action_space=first.action_space,
        same_spaces=settings.same_spaces,
    )


def _slots(space: gym.Space[Any], count: int, settings: Settings, lends: bool) -> int:
    """The number of sets of observations."""
    if not settings.copy:
        return 2
    dtypes = [(leaf.dtype, leaf.shape) for leaf in leaves(space)]
    size = sum(dtype.itemsize * math.prod(shape) for dtype, shape in dtypes if dtype is not None)
    return LENT_SLOTS if lends and count * size >= LEND_BYTES else 1


def _close(envs: Iterable[gym.Env]) -> None:
    for env in envs:
        env.close()


def _built(make: Callable[[], gym.Env], row: int) -> gym.Env:
    """A sub-environment of the caller's lane."""
    try:
        return make()
    except Exception as error:
        annotate(error, row, "its constructor")
        raise
