"""`ray`: lanes in Ray actors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.backends import base
from vecselect.backends.pool.link import EAGER_TRIES
from vecselect.backends.pool.workers import Settings
from vecselect.backends.ray import cluster
from vecselect.errors import RequestError
from vecselect.machine import read_machine
from vecselect.modes import Mode
from vecselect.request import FAILURE_OPTIONS, RAY_OPTIONS

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.request import Request


class Ray(base.Backend):
    """Runs the sub-environments in lanes, each a Ray actor."""

    takes = base.LOOP_OPTIONS | FAILURE_OPTIONS | RAY_OPTIONS

    def missing(self, machine: Machine) -> str | None:
        """Says so where Ray is not installed."""
        return cluster.why_not_installed()

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says what cannot be sent to an actor."""
        reason = super().why_not(request, mode, machine)
        lanes = request.vector_kwargs.get("num_workers")
        reason = reason or Mode("ray", lanes).why_not(request.num_envs)
        return reason or request.why_not_sent

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds a `RayVectorEnv`.

        Args:
            request: What was asked for.
            mode: With the number of actors; by default the option `num_workers`, or as many as the
                cluster has room for.

        Raises:
            RequestError: If the number of lanes is said twice, and differently.
        """
        from vecselect.backends.ray.starter import Needs
        from vecselect.backends.ray.vector_env import Cluster, RayVectorEnv

        options = request.vector_kwargs
        workers = mode.workers
        base.need_work_for(mode, request)
        lanes = options.get("num_workers", workers)
        if workers is not None and lanes != workers:
            raise RequestError(
                f"Mode 'ray:{workers}' and vector_kwargs num_workers={lanes} say two numbers of "
                "lanes; give one of them."
            )
        beside = int(options.get("lane_mode", "sync").partition(":")[2] or 0)
        settings = Settings.of(request, 0, caller_steps=False, tries=EAGER_TRIES)
        asked = Cluster(
            address=options.get("address"),
            lanes=lanes,
            needs=Needs(options.get("num_cpus", 1 + beside), options.get("resources", {})),
            lane_workers=beside,
            cores=max(int(read_machine().cores), 1),
        )
        env = RayVectorEnv(request.env_fns, settings, asked)
        base.set_spec(env, request, None)
        return env
