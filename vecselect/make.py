"""`auto_make_vec` and `recommend`: validate, plan, build, wrap."""

from __future__ import annotations

import math
import numbers
import sys
from typing import TYPE_CHECKING, Any

from vecselect.backends.registry import BACKENDS, find
from vecselect.errors import RequestError, unknown
from vecselect.machine import read_machine
from vecselect.measure.step import DEFAULT_BUDGET_S
from vecselect.pins import AUTO, read_pin
from vecselect.planning import EFFORTS, make_plan
from vecselect.request import EnvFn, read_request
from vecselect.vector_env import AutoVectorEnv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import gymnasium as gym
    from gymnasium.envs.registration import EnvSpec

    from vecselect.plan import Plan
    from vecselect.request import Pin, Request


def auto_make_vec(
    id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    num_envs: int | None = None,
    mode: str = AUTO,
    *,
    effort: str = "rule",
    budget_s: float | None = None,
    verbose: bool = False,
    wrappers: Sequence[Callable[[gym.Env], gym.Env]] | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    vectorization_mode: Any = None,
    **kwargs: Any,
) -> AutoVectorEnv:
    """Makes a vector environment that runs in the mode that serves best here.

    One sub-environment is built and stepped in a process of its own, the cost of a hand-off to
    another process is measured, and the ~1 ms rule applied: above that per step, `async`; below,
    `sync`. What was measured and why is `envs.plan`; `print(envs.report)` shows it. For the same
    seeds the trajectories are those of Gymnasium's `SyncVectorEnv`, whatever was measured.

    Args:
        id: An id (`"module:Env-v0"` too), a spec, a callable that builds one sub-environment, or an
            iterable of such callables.
        num_envs: The number of sub-environments, at least 1; for an iterable of callables it is
            their number and may be left out.
        mode: A mode to pin (see `available_modes()`), or `"auto"`. Weaker pins are
            `with pinned(mode):` and the environment variable `VECSELECT_MODE`. A pin is that mode
            or an error, and nothing is measured.
        effort: How much measuring is allowed; `"rule"` is the one there is.
        budget_s: Seconds that stepping the environment for measurement may take, 1.5 by default.
        verbose: Whether to print the report to stderr, once.
        wrappers: Applied to each sub-environment, in order, as in `gymnasium.make_vec`.
        vector_kwargs: Options of the vector environment as Gymnasium's classes take them:
            `autoreset_mode`, `copy`, `observation_mode`, and for processes `context`, `daemon`,
            `max_concurrency`, `shared_memory`, `worker`.
        env_kwargs: Keyword arguments of the environment whose names are taken by a parameter here.
        vectorization_mode: A pin in the words of `gymnasium.make_vec`.
        **kwargs: Further keyword arguments of the environment.

    Returns:
        The vector environment; close it when done, or use it as a context manager.

    Raises:
        RequestError: If something asked for cannot be.
        ModeUnavailable: If the pinned mode cannot serve the request.
        ProfileError: If the environment raises, dies or hangs while it is measured.
        gymnasium.error.Error: If the id is not registered.
    """
    plan, request = _planned(
        id,
        num_envs,
        read_pin(mode, vectorization_mode),
        effort,
        budget_s,
        wrappers=wrappers,
        vector_kwargs=vector_kwargs,
        env_kwargs=_merged(env_kwargs, kwargs),
    )
    backend, parameters = find(plan.mode)
    envs = AutoVectorEnv(backend.build(request, **parameters), plan)
    if verbose:
        envs.report.print(sys.stderr)
    return envs


def recommend(
    id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    num_envs: int | None = None,
    *,
    effort: str = "rule",
    budget_s: float | None = None,
    wrappers: Sequence[Callable[[gym.Env], gym.Env]] | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Plan:
    """Decides as `auto_make_vec` would without a pin, and builds nothing that stays.

    Args:
        id: See `auto_make_vec`, as for all that follow.
        num_envs: The number of sub-environments.
        effort: How much measuring is allowed.
        budget_s: Seconds that stepping the environment for measurement may take.
        wrappers: Applied to each sub-environment, in order.
        vector_kwargs: Options of the vector environment.
        env_kwargs: Keyword arguments of the environment whose names are taken by a parameter here.
        **kwargs: Further keyword arguments of the environment.

    Returns:
        The plan; `print(plan.report)` shows it.

    Raises:
        RequestError: If something asked for cannot be.
        ProfileError: If the environment raises, dies or hangs while it is measured.
        gymnasium.error.Error: If the id is not registered.
    """
    plan, _ = _planned(
        id,
        num_envs,
        None,
        effort,
        budget_s,
        wrappers=wrappers,
        vector_kwargs=vector_kwargs,
        env_kwargs=_merged(env_kwargs, kwargs),
    )
    return plan


def available_modes() -> dict[str, str | None]:
    """Every mode with None, or with a sentence saying why it cannot run on this machine."""
    machine = read_machine()
    return {mode: backend.missing(machine) for mode, backend in BACKENDS.items()}


def _planned(
    id: Any,
    num_envs: int | None,
    pin: Pin | None,
    effort: str,
    budget_s: float | None,
    **asked: Any,
) -> tuple[Plan, Request]:
    if effort not in EFFORTS:
        raise RequestError(unknown("effort", effort, EFFORTS))
    if budget_s is not None and not (
        isinstance(budget_s, numbers.Real)
        and not isinstance(budget_s, bool)
        and 0 < budget_s < math.inf
    ):
        raise RequestError(f"budget_s is {budget_s!r}; it must be a number of seconds above 0.")
    request = read_request(id, num_envs, pin=pin, **asked)
    return make_plan(request, budget_s=budget_s or DEFAULT_BUDGET_S), request


def _merged(env_kwargs: Mapping[str, Any] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The environment's keyword arguments from both places."""
    given = dict(env_kwargs or {})
    if twice := sorted(given.keys() & kwargs.keys()):
        raise RequestError(
            f"{', '.join(twice)} is given in env_kwargs and as a keyword argument; give it once."
        )
    return {**given, **kwargs}
