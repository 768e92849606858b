"""`native`: a vector environment that the environment's authors registered themselves."""

from __future__ import annotations

import copy
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from vecselect.errors import RequestError

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request

_being_built: ContextVar[tuple[str, ...]] = ContextVar("_being_built", default=())


class Native:
    """Runs the spec's `vector_entry_point`.

    It is another implementation of the environment: other random numbers, other dtypes, often no
    `call` and one autoreset mode. So it is a pin, and never chosen by itself.
    """

    name = "native"

    def missing(self, machine: Machine) -> str | None:
        """Never: it depends on the environment alone."""
        return None

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says why there is none, or what of the request it would have to drop."""
        if request.spec is None:
            return "a callable has no vector_entry_point; only a registered id can have one"
        if request.spec.vector_entry_point is None:
            return f"{request.label} has no vector_entry_point"
        if _is_ours(request.spec.vector_entry_point):
            return f"the vector_entry_point of {request.label} is vecselect's own auto_make_vec"
        chooses = request.pin is None or request.pin.mode.kind == self.name
        if chooses and request.spec.id in _being_built.get():
            raise RequestError(
                f"The vector_entry_point of {request.label} has vecselect choose how to run "
                f"{request.label}, which again asks that vector_entry_point. Pin a mode in it, "
                'such as mode="pool", or register vecselect.auto_make_vec itself there.'
            )
        if request.wrappers or request.spec.additional_wrappers:
            return "wrappers of single environments cannot be put around it"
        if request.vector_kwargs:
            return "it takes no vector_kwargs, only keyword arguments of the environment"
        return None

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """The mode itself: it has no number of workers."""
        return mode

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds it the way `gymnasium.make_vec` does."""
        assert request.spec is not None, "why_not was not asked"
        before = _being_built.set((*_being_built.get(), request.spec.id))
        try:
            env: VectorEnv = gym.make_vec(
                copy.deepcopy(request.spec),
                num_envs=request.num_envs,
                vectorization_mode="vector_entry_point",
                **request.env_kwargs,
            )
        finally:
            _being_built.reset(before)
        return env


def _is_ours(entry_point: Any) -> bool:
    """Whether it is `auto_make_vec`, by name or with some arguments given."""
    while isinstance(entry_point, functools.partial):
        entry_point = entry_point.func
    if isinstance(entry_point, str):
        return entry_point in ("vecselect:auto_make_vec", "vecselect.make:auto_make_vec")
    name = (getattr(entry_point, "__module__", ""), getattr(entry_point, "__name__", ""))
    return name == ("vecselect.make", "auto_make_vec")
