"""`sync`: Gymnasium's loop in the calling process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymnasium.vector import SyncVectorEnv

from vecselect.backends import base
from vecselect.backends.buffered import build_in_buffers
from vecselect.backends.in_process import InProcess
from vecselect.backends.pool.workers import Settings
from vecselect.backends.thread import ThreadVectorEnv

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.modes import Mode
    from vecselect.request import Request


class Sync(base.Backend):
    """Runs the sub-environments one after another in the calling process."""

    buffers = True

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds Gymnasium's `SyncVectorEnv`, with the calls that it lacks.

        Buffers are the pool's loop without workers: each steps when it is waited for.

        Raises:
            RequestError: If two factories return the same instance.
        """
        if request.buffers > 1:
            return build_in_buffers(
                request, lambda part, _: ThreadVectorEnv(part.env_fns, Settings.of(part, 0))
            )
        env = SyncVectorEnv(request.env_fns, **base.options_for(request, self.takes))
        try:
            base.check_distinct(env.envs)
        except BaseException:
            env.close()
            raise
        base.set_spec(env, request, "sync")
        return InProcess(env)
