"""`sync`: Gymnasium's loop in the calling process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymnasium.vector import SyncVectorEnv

from vecselect.backends import base

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request


class Sync:
    """Runs the sub-environments one after another in the calling process."""

    name = "sync"

    def missing(self, machine: Machine) -> str | None:
        """Never: a loop runs everywhere."""
        return None

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says which option has no meaning in a loop."""
        return base.no_single_environment(request) or base.refused_options(
            request, base.LOOP_OPTIONS
        )

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """The mode itself: it has no number of workers."""
        return mode

    def build(self, request: Request, mode: Mode) -> SyncVectorEnv:
        """Builds Gymnasium's `SyncVectorEnv`.

        Raises:
            RequestError: If two factories return the same instance.
        """
        env = SyncVectorEnv(request.env_fns, **base.options_for(request, base.LOOP_OPTIONS))
        try:
            base.check_distinct(env.envs)
        except BaseException:
            env.close()
            raise
        base.set_spec(env, request, "sync")
        return env
