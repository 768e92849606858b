"""`native`: a vector environment that the environment's authors registered themselves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import gymnasium as gym

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.request import Request


class Native:
    """Runs the spec's `vector_entry_point`.

    It is another implementation of the environment: other random numbers, other dtypes, often no
    `call` and one autoreset mode. So it is a pin, and never chosen by itself.
    """

    name = "native"

    def missing(self, machine: Machine) -> str | None:
        """Never: it depends on the environment alone."""
        return None

    def why_not(self, request: Request, machine: Machine) -> str | None:
        """Says why there is none, or what of the request it would have to drop."""
        if request.spec is None:
            return "a callable has no vector_entry_point; only a registered id can have one"
        if request.spec.vector_entry_point is None:
            return f"{request.label} has no vector_entry_point"
        if request.wrappers or request.spec.additional_wrappers:
            return "wrappers of single environments cannot be put around it"
        if request.vector_kwargs:
            return "it takes no vector_kwargs, only keyword arguments of the environment"
        return None

    def build(self, request: Request) -> VectorEnv:
        """Builds it the way `gymnasium.make_vec` does."""
        assert request.spec is not None, "why_not was not asked"
        env: VectorEnv = gym.make_vec(
            copy.deepcopy(request.spec),
            num_envs=request.num_envs,
            vectorization_mode="vector_entry_point",
            **request.env_kwargs,
        )
        return env
