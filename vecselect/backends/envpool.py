"""`envpool`: EnvPool's own implementation of the environment, in C++ and threads.

Gymnasium's id, keyword arguments, spaces and time limit; another implementation and other random
numbers. What EnvPool does otherwise than Gymnasium's vector environments is put right here: seeds
of a reset, dtypes, and masks of infos.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vecselect.arguments import seed_of_each
from vecselect.backends import base
from vecselect.backends.native import NativeVectorEnv
from vecselect.errors import ModeUnavailable, VecselectError
from vecselect.machine import read_machine
from vecselect.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecselect.machine import Machine
    from vecselect.request import Request

COPIED = ("gymnasium.", "gymnasium_robotics.")
"""Packages whose environments EnvPool has under the same id."""

NO_LIMIT = 2**31 - 1
"""What EnvPool takes as the length of an episode that nothing cuts off."""

OWN_INFOS = frozenset({"env_id", "players", "elapsed_step"})
"""Infos that no environment of Gymnasium has: they serve EnvPool's asynchronous calls."""

NUMBERS = (bool, int, float)
"""Types of the arguments that both have by the same name and with the same meaning."""

SETTINGS = frozenset({"disable_env_checker", "max_episode_steps", "order_enforce", "render_mode"})
"""Arguments of `gymnasium.make` that no environment gets."""


class EnvPool(base.Backend):
    """Runs EnvPool's implementation of a registered id, where it has one with the same spaces.

    Its bits are not those of `sync`, so it is pinned or allowed, and never chosen by itself.
    """

    def missing(self, machine: Machine) -> str | None:
        """Says so where EnvPool is not installed."""
        if importlib.util.find_spec("envpool") is None:
            return "EnvPool is not installed: pip install 'vecselect[envpool]'"
        return None

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says what EnvPool has not, or would have to drop."""
        if request.spec is None:
            return "EnvPool has implementations of its own, by id; a callable has no id"
        if (why := super().why_not(request, mode, machine)) is not None:
            return why
        if request.wrappers or request.spec.additional_wrappers:
            return "it takes no wrappers, which go around single environments"
        if request.autoreset_mode is not AutoresetMode.NEXT_STEP:
            return f"EnvPool has autoreset_mode NEXT_STEP only, not {request.autoreset_mode.name}"
        if request.vector_kwargs.get("observation_mode", "same") != "same":
            return "all environments of EnvPool have the same observation space"
        return None

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """With a thread for each usable core, where no number was named."""
        if mode.workers is not None:
            return mode
        return Mode("envpool", max(min(int(machine.cores + 0.5), request.num_envs), 1))

    def build(self, request: Request, mode: Mode) -> NativeVectorEnv:
        """Builds an `EnvPoolVectorEnv` with so many threads, by default one for each usable core.

        Raises `ModeUnavailable` if EnvPool has no such environment. That is found out only here,
        since importing EnvPool takes a second, which a start that recalls another mode need not
        spend.
        """
        base.need_work_for(mode, request)
        threads = mode.workers or self.exact(request, mode, read_machine()).workers or 1
        env = EnvPoolVectorEnv(request, threads)
        base.set_spec(env, request, None)
        return _Split(env, "envpool")


class _Split(NativeVectorEnv):
    """An `EnvPoolVectorEnv` whose threads step between `step_async` and `step_wait`."""

    def step_async(self, actions: Any) -> None:
        """Has the threads begin a step."""
        self._need_idle("step_async")
        self.env.send(actions)
        self._begin("step", self.env.receive)


def _envpool() -> Any:
    return importlib.import_module("envpool")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Gymnasium's warnings about the bounds of EnvPool's spaces, which are not used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _checked(request: Request) -> tuple[dict[str, Any], gym.Space[Any], gym.Space[Any]]:
    """What EnvPool is to run: its arguments with the time limit, and Gymnasium's single spaces.

    One sub-environment of Gymnasium is built to know that.
    """
    spec = request.spec
    assert spec is not None, "a callable was refused"
    id, envpool = spec.id, _envpool()

    def unavailable(why: str) -> ModeUnavailable:
        return ModeUnavailable(f"Mode 'envpool' cannot run {request.label}: {why}.")

    if id not in envpool.list_all_envs():
        raise unavailable(f"EnvPool has no {id}")
    if not str(spec.entry_point).startswith(COPIED):
        raise unavailable(
            f"EnvPool's {id} is that of Gymnasium, and here {spec.entry_point} is registered by "
            "this id"
        )
    if request.env_kwargs.get("render_mode") is not None:
        raise unavailable("EnvPool does not render as Gymnasium does; leave render_mode out")
    with _quiet():
        known = envpool.make_spec(id, num_envs=1).config._asdict()
        implied = {} if id not in gym.registry else gym.registry[id].kwargs
        kwargs = {
            name: value
            for name, value in request.env_kwargs.items()
            if name not in SETTINGS and (name in known or implied.get(name) != value)
        }
        for name, value in kwargs.items():
            if not (isinstance(value, NUMBERS) and isinstance(known.get(name), NUMBERS)):
                raise unavailable(f"EnvPool's {id} takes no {name}={value!r}")
        theirs = envpool.make_spec(id, num_envs=1, **kwargs)
        their_spaces = theirs.gymnasium_observation_space, theirs.gymnasium_action_space
    with contextlib.closing(request.env_fns[0]()) as env:
        observation_space: Any = env.observation_space
        action_space: Any = env.action_space
        limit = None if env.spec is None else env.spec.max_episode_steps
    own_spaces = observation_space, action_space
    for what, own, other in zip(("observations", "actions"), own_spaces, their_spaces, strict=True):
        if not _alike(own, other, dtype=what == "observations"):
            raise unavailable(f"the {what} of EnvPool's {id} are a {other}, not a {own}")
    kwargs["max_episode_steps"] = limit if limit is not None and limit > 0 else NO_LIMIT
    return kwargs, observation_space, action_space


def _alike(own: gym.Space[Any], other: Any, *, dtype: bool) -> bool:
    """Whether numbers of one space can stand for those of the other.

    EnvPool gives some observations no bounds, and counts in other dtypes: what is returned has the
    dtype of Gymnasium's space, and may go beyond bounds no more and no less than Gymnasium's.
    Actions are converted, and need not be of the same `dtype`.
    """
    if isinstance(own, spaces.Discrete) and isinstance(other, spaces.Discrete):
        return bool(own.n == other.n and own.start == other.start == 0)
    if not (isinstance(own, spaces.Box) and isinstance(other, spaces.Box)):
        return False
    if own.shape != other.shape or own.dtype.kind != other.dtype.kind:
        return False
    if dtype:
        return bool(own.dtype == other.dtype)
    return bool(np.allclose(own.low, other.low) and np.allclose(own.high, other.high))


class EnvPoolVectorEnv(VectorEnv):
    """EnvPool's vector environment with the manners of Gymnasium's.

    - A reset with seeds builds it anew, since EnvPool seeds only what it builds. The same seeds
      lead to the same trajectories, whatever the number of threads.
    - Rewards are float64, observations of the space's dtype; infos have masks.
    - A step that ends an episode and reaches its time limit is `truncated` only.
    """

    def __init__(self, request: Request, threads: int) -> None:
        """Describes it; the first reset builds it."""
        assert request.spec is not None, "a callable was refused"
        self._id = request.spec.id
        self._kwargs, observation_space, action_space = _checked(request)
        self.num_envs: int = request.num_envs
        self.metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode: str | None = None
        self.single_observation_space: gym.Space[Any] = observation_space
        self.single_action_space: gym.Space[Any] = action_space
        self.observation_space: gym.Space[Any] = batch_space(observation_space, self.num_envs)
        self.action_space: gym.Space[Any] = batch_space(action_space, self.num_envs)
        self._threads = threads
        self._all = np.ones(self.num_envs, bool)
        self._pool: Any = None
        self._dtype = self.observation_space.dtype
        self._most: int | None = None
        if isinstance(action_space, spaces.Discrete):
            self._most = int(action_space.n)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets every sub-environment; raises `VecselectError` if there are options."""
        if options:
            raise VecselectError(
                "Mode 'envpool' cannot hand options to its environments "
                f"({', '.join(map(str, options))}). Leave them out, or pin a mode that can, such "
                'as mode="pool".'
            )
        seeds = seed_of_each(seed, self.num_envs)
        if self._pool is None or any(one is not None for one in seeds):
            drawn = np.random.SeedSequence().generate_state(self.num_envs)
            given = [draw if one is None else one for draw, one in zip(drawn, seeds, strict=True)]
            self._pool = None  # its threads end before there are new ones
            with _quiet():
                self._pool = _envpool().make_gymnasium(
                    self._id,
                    num_envs=self.num_envs,
                    num_threads=self._threads,
                    seed=[int(one) % 2**31 for one in given],
                    **self._kwargs,
                )
                _ = self._pool.observation_space  # made at the first use, which warns
        observations, infos = self._pool.reset()
        return observations.astype(self._dtype, copy=False), self._masked(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every sub-environment; arguments and errors as in `send`."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Any) -> None:
        """Begins a step, for which `receive` waits.

        Raises `ResetNeeded` before the first reset, and `ValueError` if an action is not one of the
        discrete ones, which EnvPool does not check.
        """
        if self._pool is None:
            raise ResetNeeded("Call reset before step.")
        actions = np.asarray(actions)
        # As numbers without a sign negative ones are too large, in one look at all of them.
        if self._most is not None and np.maximum.reduce(actions.astype(np.uint64)) >= self._most:
            raise ValueError(
                f"actions are {actions}; each must be from 0 to {self._most - 1}. Nothing was "
                "stepped."
            )
        self._pool.send(actions)

    def receive(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """What the step returns that `send` began."""
        observations, rewards, terminated, truncated, infos = self._pool.recv()
        return (
            observations.astype(self._dtype, copy=False),
            rewards.astype(np.float64),
            terminated,
            truncated,
            self._masked(infos),
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Ends EnvPool's threads."""
        self._pool = None

    def _masked(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Infos as Gymnasium's vector environments give them: each key has a mask beside it."""
        found: dict[str, Any] = {}
        for key, value in infos.items():
            if key not in OWN_INFOS:
                found[key] = self._masked(value) if isinstance(value, dict) else value
                found[f"_{key}"] = self._all.copy()
        return found
