"""What planning has begun for the vector environment that is built after it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import gymnasium as gym

    from vecselect.plan import Plan
    from vecselect.planning.first_worker import FirstWorker
    from vecselect.request import Request


class Prebuilt:
    """The factory of a sub-environment of which one was built already: the first call returns it.

    In another process it is the factory alone.
    """

    def __init__(self, make: Callable[[], gym.Env]) -> None:
        """Builds one."""
        self._make = make
        self._env: gym.Env | None = make()

    def __call__(self) -> gym.Env:
        """The one that was built, then new ones."""
        env, self._env = self._env, None
        return self._make() if env is None else env

    def __reduce__(self) -> tuple[Any, ...]:
        """The factory alone."""
        return _same, (self._make,)

    def close(self) -> None:
        """Closes the one that was built, if nobody has taken it."""
        env, self._env = self._env, None
        if env is not None:
            with contextlib.suppress(Exception):  # its failure would hide why it is not used
                env.close()


def _same(make: Callable[[], gym.Env]) -> Callable[[], gym.Env]:
    return make


@dataclass(frozen=True)
class Prepared:
    """A plan, and what was begun for it.

    Attributes:
        plan: The plan.
        request: What was asked for; its first sub-environment may be built already.
        first_worker: The process that has profiled, where the plan is a pool of which it can be the
            first worker.
    """

    plan: Plan
    request: Request
    first_worker: FirstWorker | None = None

    def discard(self) -> None:
        """Ends what was begun."""
        if self.first_worker is not None:
            self.first_worker.end()
        self.close_unused()

    def close_unused(self) -> None:
        """Closes the sub-environment that was built early, if no mode has taken it."""
        for env_fn in self.request.env_fns[:1]:
            if isinstance(env_fn, Prebuilt):
                env_fn.close()
