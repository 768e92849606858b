"""What a pool, its workers and its lanes are told: plain values, the same in every process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium.spaces.utils import is_space_dtype_shape_equiv

if TYPE_CHECKING:
    from collections.abc import Callable

    import gymnasium as gym
    from gymnasium.vector import AutoresetMode

    from vecselect.backends.pool.arena import Layout
    from vecselect.backends.specs import Facts
    from vecselect.request import Request


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
        caller_steps: Whether the calling process steps a slice of its own.
        buffer: The number of this buffer; None where there is only one.
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
    caller_steps: bool = True
    buffer: int | None = None
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


@dataclass(frozen=True)
class Work:
    """What a worker is started with.

    Attributes:
        index: Of the worker.
        env_fns: The factories of its lane.
        first_row: Index of the lane's first sub-environment.
        tries: Tries to take a signal before sleeping.
        gives_sample: Whether it is to send a `Sample` when its sub-environments are built.
        global_seed: Of the process's global random generators.
        restart_seeds: Where it replaces a worker that died: seeds to begin its episodes anew with.
        buffer: The number of the buffer that the lane belongs to; None where there is only one.
    """

    index: int
    env_fns: tuple[Callable[[], gym.Env], ...]
    first_row: int
    tries: int
    gives_sample: bool = False
    global_seed: int = 0
    restart_seeds: tuple[int | None, ...] | None = None
    buffer: int | None = None

    @property
    def rows(self) -> range:
        """Indices of the lane's sub-environments."""
        return range(self.first_row, self.first_row + len(self.env_fns))

    def part(self, rows: range) -> Work:
        """The same for a part of the lane, by its places in the lane."""
        part, seeds = slice(rows.start, rows.stop), self.restart_seeds
        return dataclasses.replace(
            self,
            env_fns=self.env_fns[part],
            first_row=self.first_row + rows.start,
            restart_seeds=None if seeds is None else seeds[part],
        )


@dataclass(frozen=True)
class Sample:
    """What one sub-environment says of itself.

    Attributes:
        observation_space: Its space of observations.
        action_space: Its space of actions.
        metadata: Its metadata.
        render_mode: How it renders.
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    metadata: dict[str, Any]
    render_mode: str | None


def sample_of(env: gym.Env) -> Sample:
    """What a sub-environment says of itself."""
    return Sample(env.observation_space, env.action_space, dict(env.metadata), env.render_mode)


@dataclass(frozen=True)
class LaneSpec:
    """What all lanes have in common; known once a first sub-environment is built.

    Attributes:
        layout: Of the arena.
        autoreset_mode: What happens to a sub-environment whose episode ended.
        observation_space: Of one sub-environment, as it is batched.
        action_space: Of one sub-environment.
        same_spaces: Whether the observation spaces must be equal, or only alike in dtype and shape.
        facts: Of the spec of the caller's first sub-environment; None where nothing is compared.
        alike: Indices of the sub-environments that the same factory builds.
    """

    layout: Layout
    autoreset_mode: AutoresetMode
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    same_spaces: bool
    facts: Facts | None = None
    alike: frozenset[int] = frozenset()

    def mismatch(self, env: gym.Env, row: int) -> str:
        """A sentence if an environment's spaces do not fit the batch's, else an empty string."""
        return mismatch(env, row, self.observation_space, self.action_space, self.same_spaces)


def mismatch(
    env: gym.Env, row: int, observations: gym.Space[Any], actions: gym.Space[Any], same: bool
) -> str:
    """A sentence if an environment's spaces do not fit the batch's, else an empty string."""
    ours = env.observation_space
    fits = ours == observations if same else is_space_dtype_shape_equiv(ours, observations)
    if not fits:
        problem = (
            f"Sub-environment {row} has the observation space {ours}, which does not fit "
            f"{observations}."
        )
        advice = " If that is meant, use vector_kwargs={'observation_mode': 'different'}."
        return problem + advice if same else problem
    if env.action_space != actions:
        return f"Sub-environment {row} has the action space {env.action_space}, not {actions}."
    return ""
