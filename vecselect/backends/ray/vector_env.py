"""`RayVectorEnv`: lanes in Ray actors as Gymnasium's vector environment."""

from __future__ import annotations

import atexit
import dataclasses
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gymnasium.vector.utils import batch_differing_spaces, batch_space

from vecselect import processes
from vecselect.backends.pool.arena import Layout, leaves
from vecselect.backends.pool.construction import Built
from vecselect.backends.pool.lane import LaneSpec, mismatch
from vecselect.backends.pool.vector_env import PoolVectorEnv
from vecselect.backends.ray import cluster
from vecselect.backends.ray.actor import Task
from vecselect.backends.ray.handle import RayHandle
from vecselect.backends.ray.starter import Needs, RayWorkers, remaining_s
from vecselect.modes import slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.workers import Settings
    from vecselect.backends.ray.actor import LaneSample


@dataclass(frozen=True)
class Cluster:
    """What is asked of a cluster.

    Attributes:
        address: Where it is; by default one is started on this machine, if there is none.
        lanes: How many actors; by default as many as there is room for.
        needs: What each of them asks for.
        lane_workers: Processes beside the actor that step a part of its lane.
        cores: CPUs that a Ray started here offers at least.
    """

    address: str | None
    lanes: int | None
    needs: Needs
    lane_workers: int
    cores: int


class RayVectorEnv(PoolVectorEnv):
    """Steps the sub-environments in lanes, each a Ray actor, on whichever machines Ray has.

    It gives what the pool gives, but the calling process steps none of them. A command to a lane is
    one call of its actor, and its batch comes back as arrays.
    """

    _kind = RayWorkers

    def __init__(
        self, env_fns: Sequence[Callable[[], gym.Env]], settings: Settings, asked: Cluster
    ) -> None:
        """Connects to a Ray or starts one, creates the actors and builds the sub-environments.

        Args:
            env_fns: One factory per sub-environment.
            settings: How they are to run.
            asked: On what.

        Raises:
            ModeUnavailable: If there is no cluster, or no room in it.
            RuntimeError: If the spaces of the sub-environments do not go together.
            Exception: What a factory raised.
        """
        self.closed = True  # until there is something to close
        most = len(env_fns) if asked.lanes is None else min(asked.lanes, len(env_fns))
        wanted = asked.lanes and most * asked.needs.num_cpus
        cluster.connect(asked.address, max(asked.cores, wanted or 0))
        workers = RayWorkers(settings)
        workers.needs = asked.needs
        try:
            lanes = most if asked.lanes is not None else min(most, _room(asked.needs))
            built = _construct(env_fns, settings, asked, lanes, workers)
        except BaseException:
            workers.end(0.0)
            raise
        finally:
            cluster.give_lease_back()  # each handle has one of its own
        self._set_up(built, len(env_fns), settings)
        workers.infos = self._lane.infos
        for handle in workers.each:
            assert isinstance(handle, RayHandle)
            handle.use(self._arena, self._lane.infos)
        # Ray ends its actors at exit too, without asking them to close anything; what is registered
        # later runs earlier.
        atexit.register(self._finalizer)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every sub-environment and ends every actor.

        Args:
            timeout: Seconds the actors may take to close their sub-environments; 4 by default.
            terminate: Whether to end them without waiting.
        """
        atexit.unregister(self._finalizer)
        handles = list(self._workers.each)
        super().close_extras(timeout, terminate)
        for handle in handles:
            assert isinstance(handle, RayHandle)
            if handle.closing_error is not None:
                raise handle.closing_error


def _room(needs: Needs) -> int:
    """The number of actors that a cluster has room for, at least 1."""
    free = cluster.ray().available_resources()
    wanted = {"CPU": needs.num_cpus, **needs.resources}
    counts = [int(free.get(name, 0) / each) for name, each in wanted.items() if each > 0]
    return max(min(counts, default=1), 1)


def _construct(
    env_fns: Sequence[Callable[[], gym.Env]],
    settings: Settings,
    asked: Cluster,
    lanes: int,
    workers: RayWorkers,
) -> Built:
    """Creates the actors and builds the sub-environments."""
    start_s = time.monotonic()
    # The actor keeps no deadline; the calling process does. So it may step a part of its lane.
    inner = dataclasses.replace(
        settings, start_timeout_s=None, step_timeout_s=None, copy=True, caller_steps=True
    )
    tasks = []
    _, *others = slices(len(env_fns), lanes, caller_steps=False)
    for index, rows in enumerate(others):
        beside = max(min(asked.lane_workers, len(rows) - 1), 0)
        tasks.append(
            Task(
                index=index,
                env_fns=tuple(env_fns[rows.start : rows.stop]),
                settings=dataclasses.replace(inner, workers=beside, first_row=rows.start),
                global_seed=processes.child_seed(index),
            )
        )
    handles: list[RayHandle] = workers.each  # type: ignore[assignment]
    workers.launch(tasks, handles)
    samples = [handle.built(remaining_s(settings.start_timeout_s, start_s)) for handle in handles]
    first = samples[0]
    single, batched = _agreed(samples, handles, settings)
    action_leaves = tuple(leaves(first.action_space))
    layout = Layout(
        num_envs=len(env_fns),
        workers=0,
        observations=tuple(leaf for leaf in leaves(single) if leaf.dtype is not None),
        actions=action_leaves if all(leaf.dtype is not None for leaf in action_leaves) else None,
        buffers=1 if settings.copy else 2,
    )
    spec = LaneSpec(
        layout, settings.autoreset_mode, single, first.action_space, settings.same_spaces
    )
    workers.make_arena(spec)
    return Built([], workers, spec, first, batched)


def _agreed(
    samples: Sequence[LaneSample], handles: Sequence[RayHandle], settings: Settings
) -> tuple[gym.Space, gym.Space]:
    """The spaces of one observation and of a batch, where those of all lanes go together."""
    first, mode = samples[0], settings.observation_mode
    for sample, handle in zip(samples[1:], handles[1:], strict=True):
        their = SimpleNamespace(
            observation_space=sample.observation_space, action_space=sample.action_space
        )
        fitting = (first.observation_space, first.action_space, settings.same_spaces)
        if problem := mismatch(their, handle.rows[0], *fitting):  # type: ignore[arg-type]
            raise RuntimeError(problem)
    if isinstance(mode, tuple):
        return mode[1], mode[0]
    single = first.observation_space
    if mode == "different":
        return single, batch_differing_spaces(
            [s for one in samples for s in one.observation_spaces]
        )
    return single, batch_space(single, handles[-1].rows.stop)
