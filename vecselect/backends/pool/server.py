"""What a worker does, be it a process or a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector.utils import batch_space, iterate

from vecselect.backends.pool.infos import InfoTable, Template
from vecselect.backends.pool.lane import Lane
from vecselect.backends.pool.layout import assembled
from vecselect.backends.specs import difference, draws, facts_of
from vecselect.failures import report_closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import gymnasium as gym
    import numpy as np
    from gymnasium.vector import AutoresetMode

    from vecselect.backends.pool.arena import Arena, Layout
    from vecselect.backends.specs import Facts

COMMAND, STATUS, BUFFER, GIVEN, DONE = range(5)
"""Bytes of a worker's control block; the last two are the numbers of the commands given and done
last."""


@dataclass(frozen=True)
class Work:
    """What a worker is started with.

    Attributes:
        index: Of the worker.
        env_fns: The factories of its lane.
        first_row: Index of the lane's first sub-environment.
        tries: Tries to take a signal before sleeping.
        global_seed: Of the process's global random generators.
        restart_seeds: Where it replaces a worker that died: seeds to begin its episodes anew with.
    """

    index: int
    env_fns: tuple[Callable[[], gym.Env], ...]
    first_row: int
    tries: int
    global_seed: int = 0
    restart_seeds: tuple[int | None, ...] | None = None

    @property
    def rows(self) -> range:
        """Indices of the lane's sub-environments."""
        return range(self.first_row, self.first_row + len(self.env_fns))


@dataclass(frozen=True)
class Sample:
    """What one sub-environment says of itself.

    Attributes:
        observation_space: Its space of observations.
        action_space: Its space of actions.
        metadata: What it says of itself.
        render_mode: How it renders.
    """

    observation_space: gym.Space
    action_space: gym.Space
    metadata: dict[str, Any]
    render_mode: str | None


def sample_of(env: gym.Env) -> Sample:
    """What a sub-environment says of itself."""
    return Sample(env.observation_space, env.action_space, dict(env.metadata), env.render_mode)


@dataclass(frozen=True)
class Terms:
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
    observation_space: gym.Space
    action_space: gym.Space
    same_spaces: bool
    facts: Facts | None = None
    alike: frozenset[int] = frozenset()

    def mismatch(self, env: gym.Env, row: int) -> str:
        """A sentence if an environment's spaces do not fit, else an empty string."""
        return mismatch(env, row, self.observation_space, self.action_space, self.same_spaces)


def mismatch(
    env: gym.Env, row: int, observations: gym.Space, actions: gym.Space, same: bool
) -> str:
    """A sentence if an environment's spaces do not fit the batch's, else an empty string."""
    fits = (
        env.observation_space == observations
        if same
        else is_space_dtype_shape_equiv(env.observation_space, observations)
    )
    if not fits:
        advice = (
            " If that is meant, use vector_kwargs={'observation_mode': 'different'}."
            if same
            else ""
        )
        return (
            f"Sub-environment {row} has the observation space {env.observation_space}, which does "
            f"not fit {observations}.{advice}"
        )
    if env.action_space != actions:
        return f"Sub-environment {row} has the action space {env.action_space}, not {actions}."
    return ""


def close_all(envs: Sequence[gym.Env], first_row: int) -> None:
    """Closes sub-environments that never got into a lane; says which of them raised in it."""
    for row, env in enumerate(envs, first_row):
        try:
            env.close()
        except Exception as error:
            report_closing(row, error)


class Server:
    """The worker's side of the conversation: a lane, and what it is asked for."""

    def __init__(
        self,
        task: Work,
        terms: Terms,
        envs: list[gym.Env],
        arena: Arena,
        keep: Callable[[dict[str, Any]], Any],
        keep_final: Callable[[dict[str, Any]], Any],
    ) -> None:
        """Makes the lane of a worker; arguments as in `Lane`."""
        self.task = task
        self.terms = terms
        self.arena = arena
        self.control: Any = arena.control[task.index].data
        self.infos = InfoTable(arena)
        self.lane = Lane(
            envs,
            task.first_row,
            terms.observation_space,
            terms.autoreset_mode,
            arena,
            self.infos,
            keep,
            keep_final,
            task.restart_seeds,
            caught=BaseException,
        )
        self.slice = slice(task.rows.start, task.rows.stop)
        self.batched_actions = batch_space(terms.action_space, len(envs))
        self.action_codes: Any = arena.action_dtypes.data
        self.action_parts: dict[tuple[int, int], np.ndarray] = {}

    def greeting(self) -> tuple[str, list[gym.Space]]:
        """What is wrong with the spaces, if anything, and the observation spaces if they differ."""
        for row, env in zip(self.lane.rows, self.lane.envs, strict=True):
            if problem := self.terms.mismatch(env, row):
                return problem, []
        if problem := self._unlike_the_callers():
            return problem, []
        if self.terms.same_spaces:
            return "", []
        return "", [env.observation_space for env in self.lane.envs]

    def _unlike_the_callers(self) -> str:
        """A sentence if a sub-environment's spec is not what it is in the caller's process."""
        rows = self.terms.alike.intersection(self.lane.rows)
        envs = {row: self.lane.envs[row - self.task.first_row] for row in sorted(rows)}
        built = {row: facts_of(env) for row, env in envs.items()}
        for row, facts in built.items():
            if problem := difference(row, facts, self.terms.facts):
                make = self.task.env_fns[row - self.task.first_row]
                return "" if draws(make, built.values()) else problem
        return ""

    def step(self) -> Any:
        """Steps with the actions in the arena."""
        lane = self.lane
        lane.step(self.actions(), self.control[BUFFER])
        return self.beside_the_arena() if lane.loose or lane.objects else None

    def request(self, templates: list[Template], name: str, args: tuple[Any, ...]) -> Any:
        """Learns templates, then does what is asked for."""
        self.infos.add(templates)
        if name == "step":
            self.lane.step(self.actions() if args[0] is None else args[0], self.control[BUFFER])
            return self.beside_the_arena()
        if name == "reset":
            seeds, options, mask = args
            self.lane.reset(seeds, options, mask, self.control[BUFFER])
            return self.beside_the_arena()
        return getattr(self.lane, name)(*args)

    def actions(self) -> Iterable[Any]:
        """The lane's actions, copied out of the arena: an environment may keep its own."""
        if self.arena.plain_actions:
            return self.action_part(0, self.action_codes[0])
        codes = enumerate(self.action_codes)
        parts = [self.action_part(index, code) for index, code in codes]
        return iterate(self.batched_actions, assembled(self.terms.action_space, iter(parts)))

    def action_part(self, index: int, code: int) -> np.ndarray:
        """The lane's part of an action leaf."""
        part = self.action_parts.get((index, code))
        if part is None:
            part = self.action_parts[index, code] = self.arena.action(index, code)[self.slice]
        copied: np.ndarray = part.copy()
        return copied

    def beside_the_arena(self) -> Any:
        """What the last step or reset left that the arena cannot hold; None if nothing."""
        lane = self.lane
        if not lane.loose and not lane.objects:
            return None
        return lane.loose, {path: values[self.slice] for path, values in lane.objects.items()}
