"""`sync`: Gymnasium's loop in the calling process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymnasium.vector import SyncVectorEnv

from vecselect.backends import base
from vecselect.backends.in_process import InProcess

if TYPE_CHECKING:
    from vecselect.modes import Mode
    from vecselect.request import Request


class Sync(base.Backend):
    """Runs the sub-environments one after another in the calling process."""

    def build(self, request: Request, mode: Mode) -> InProcess:
        """Builds Gymnasium's `SyncVectorEnv`, with the calls that it lacks.

        Raises:
            RequestError: If two factories return the same instance.
        """
        env = SyncVectorEnv(request.env_fns, **base.options_for(request, self.takes))
        try:
            base.check_distinct(env.envs)
        except BaseException:
            env.close()
            raise
        base.set_spec(env, request, "sync")
        return InProcess(env)
