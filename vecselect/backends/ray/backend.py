"""`ray`: lanes in Ray actors."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import math
from typing import TYPE_CHECKING

from vecselect.backends import base
from vecselect.backends.buffered import build_in_buffers
from vecselect.backends.pool.link import EAGER_TRIES
from vecselect.backends.pool.settings import Settings
from vecselect.backends.pool.vector_env import PoolVectorEnv
from vecselect.backends.ray import cluster
from vecselect.backends.ray.workers import RayWorkers
from vecselect.machine import read_machine
from vecselect.request import FAILURE_OPTIONS, RAY_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    import gymnasium as gym
    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request


class Ray(base.Backend):
    """Runs the sub-environments in lanes, each a Ray actor."""

    takes: Set[str] = base.LOOP_OPTIONS | FAILURE_OPTIONS | RAY_OPTIONS
    buffers = True

    def missing(self, machine: Machine) -> str | None:
        """Says so where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            return "Ray is not installed; pip install 'vecselect[ray]'"
        return None

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says what cannot be sent to an actor."""
        return super().why_not(request, mode, machine) or request.why_not_sent

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds a `RayVectorEnv`, or one for each buffer, whose actors share the CPUs.

        Where the mode names no number of actors, they are as many as the cluster has room for.
        """
        options = request.vector_kwargs
        base.need_work_for(mode, request)
        beside = int(options.get("lane_mode", "sync").partition(":")[2] or 0)
        needs = {"CPU": options.get("num_cpus", 1 + beside), **options.get("resources", {})}
        cores = max(int(read_machine().cores), 1)
        most = mode.workers or request.num_envs // request.buffers
        wanted = max(cores, most * needs["CPU"]) if mode.workers else cores
        with cluster.connected(options.get("address"), wanted):
            count = mode.workers or min(most, cluster.room(needs))
            # An actor works only while those of other buffers wait. Ray takes fractions below 1
            # and whole numbers above.
            shares = {name: number / request.buffers for name, number in needs.items()}
            shares = {name: s if s <= 1 else math.ceil(s) for name, s in shares.items()}

            def built(part: Request, number: int) -> RayVectorEnv:
                settings = Settings.of(
                    part, count, caller_steps=False, tries=EAGER_TRIES, caller_tries=EAGER_TRIES
                )
                env = RayVectorEnv(part.env_fns, settings, shares, beside)
                base.set_spec(env, part, None)
                return env

            return build_in_buffers(request, built)


class RayVectorEnv(PoolVectorEnv):
    """Steps the sub-environments in lanes, each a Ray actor, on whichever machines Ray has.

    It gives what the pool gives, but the calling process steps none of them. A command to a lane is
    one call of its actor, and its batch comes back as arrays.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        settings: Settings,
        needs: Mapping[str, float],
        beside: int,
    ) -> None:
        """Creates the actors, with up to `beside` worker processes each, and builds in them."""
        kind = functools.partial(RayWorkers, needs=needs, beside=beside)
        super().__init__(env_fns, settings, kind)
        # Ray ends its actors at exit too, without asking them to close anything; what is registered
        # later runs earlier.
        atexit.register(self._finalizer)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every sub-environment and ends every actor, which have 4 s by default."""
        atexit.unregister(self._finalizer)
        super().close_extras(timeout, terminate)
