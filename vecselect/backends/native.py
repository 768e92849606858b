"""`native`: a vector environment that the environment's authors registered themselves."""

from __future__ import annotations

import copy
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from vecselect.backends.base import Backend
from vecselect.backends.sync import InProcess
from vecselect.errors import RequestError, VecselectError

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request

_being_built: ContextVar[tuple[str, ...]] = ContextVar("_being_built", default=())


class Native(Backend):
    """Runs the user's `native` factory, or else the spec's `vector_entry_point`.

    It is another implementation of the environment: other random numbers, other dtypes, often no
    `call` and one autoreset mode. So it is pinned or allowed, and never chosen by itself.
    """

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says why there is none, or what of the request it would have to drop."""
        if request.native is None and (why := _no_entry_point(request)) is not None:
            return why
        if request.wrappers or (request.spec is not None and request.spec.additional_wrappers):
            return "it takes no wrappers, which go around single environments"
        if request.vector_kwargs:
            return "it takes no vector_kwargs, only keyword arguments of the environment"
        return None

    def build(self, request: Request, mode: Mode) -> NativeVectorEnv:
        """Calls the factory, or builds it the way `gymnasium.make_vec` does."""
        if request.native is not None:
            env = request.native(request.num_envs, **request.env_kwargs)
            _check_made(env, request)
            return NativeVectorEnv(env)
        assert request.spec is not None, "build is called only where why_not gave None"
        before = _being_built.set((*_being_built.get(), request.spec.id))
        try:
            env = gym.make_vec(
                copy.deepcopy(request.spec),
                num_envs=request.num_envs,
                vectorization_mode="vector_entry_point",
                **request.env_kwargs,
            )
        finally:
            _being_built.reset(before)
        return NativeVectorEnv(env)


def _no_entry_point(request: Request) -> str | None:
    """One sentence if no vectorized implementation is registered, else None.

    Raises `RequestError` if that would have vecselect choose, and so ask for itself, for ever.
    """
    if request.spec is None:
        return (
            "a callable has no vector_entry_point; only a registered id can have one. "
            "native=factory gives one"
        )
    if request.spec.vector_entry_point is None:
        return f"{request.label} has no vector_entry_point"
    if _is_ours(request.spec.vector_entry_point):
        return (
            f"the vector_entry_point of {request.label} is vecselect's own auto_make_vec, which "
            "would call itself"
        )
    chooses = request.pin is None or request.pin.mode.kind == "native"
    if chooses and request.spec.id in _being_built.get():
        raise RequestError(
            f"The vector_entry_point of {request.label} calls vecselect, which would call that "
            'vector_entry_point again, without end. Pin a mode inside it, such as mode="pool", '
            "or register vecselect.auto_make_vec itself as the vector_entry_point."
        )
    return None


def _check_made(env: Any, request: Request) -> None:
    """Raises `RequestError` for what a factory must not return."""
    what = f"The native factory of {request.label}"
    if not isinstance(env, VectorEnv):
        raise RequestError(
            f"{what} returned a {type(env).__name__}; it must return a gymnasium.vector.VectorEnv."
        )
    try:
        found = env.num_envs
        _ = env.observation_space, env.single_observation_space
        _ = env.action_space, env.single_action_space
        autoreset_mode = env.metadata["autoreset_mode"]
    except (AttributeError, KeyError) as error:
        raise RequestError(
            f"{what} returned a {type(env).__name__} without {error}: a VectorEnv has num_envs, "
            "observation_space, action_space, single_observation_space and single_action_space, "
            'and says how it resets by metadata["autoreset_mode"].'
        ) from error
    if not isinstance(autoreset_mode, AutoresetMode):
        raise RequestError(
            f'{what} says metadata["autoreset_mode"] is {autoreset_mode!r}; it must be a '
            "gymnasium.vector.AutoresetMode."
        )
    if found != request.num_envs:
        raise RequestError(
            f"{what} was called with num_envs={request.num_envs} and made {found} sub-environments."
        )


class NativeVectorEnv(InProcess):
    """A vector environment that holds no environments of the user's, with the calls that it lacks.

    Most hold no separate sub-environments: then calls of these raise `VecselectError`, as does a
    reset by mask, which some ignore.
    """

    def __init__(self, env: VectorEnv, mode: str = "native") -> None:
        super().__init__(env)
        self._mode = mode

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all of it."""
        self._check_mask(options)
        return super().reset(seed=seed, options=options)

    def reset_async(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Keeps the arguments for `reset_wait`."""
        self._check_mask(options)
        super().reset_async(seed=seed, options=options)

    def _need(self, call: str, *, some: bool = False) -> None:
        """Raises `VecselectError` where it has no such call, or has it for all of them only."""
        kind = type(self.env).__name__
        if not hasattr(self.env, call):
            raise VecselectError(
                f"Mode {self._mode!r} has no {call}: {kind} holds no separate sub-environments. "
                'Pin one that does, such as mode="sync".'
            )
        if some and not isinstance(self.env, SyncVectorEnv):
            raise VecselectError(
                f"Mode {self._mode!r} cannot reach some of its sub-environments: {kind} has a "
                f"{call} for all of them only. Leave indices out, or pin a mode that can, such as "
                'mode="sync".'
            )
        super()._need(call, some=some)

    def _check_mask(self, options: dict[str, Any] | None) -> None:
        if options is not None and "reset_mask" in options:
            raise VecselectError(
                f"Mode {self._mode!r} cannot reset by mask: some such environments ignore "
                "reset_mask and reset everything (CartPole's does). Pin another mode, or call "
                "envs.unwrapped.reset if you know that this one heeds it."
            )


def _is_ours(entry_point: Any) -> bool:
    """Whether it is `auto_make_vec`, by name or with some arguments given."""
    while isinstance(entry_point, functools.partial):
        entry_point = entry_point.func
    if isinstance(entry_point, str):
        return entry_point in ("vecselect:auto_make_vec", "vecselect.make:auto_make_vec")
    name = (getattr(entry_point, "__module__", ""), getattr(entry_point, "__name__", ""))
    return name == ("vecselect.make", "auto_make_vec")
