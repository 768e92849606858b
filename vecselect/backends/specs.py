"""Whether a sub-environment in a worker is what the caller would have built.

A worker gets the registered specs, environment variables and the like, but a class or module
that the caller has patched is unpatched there. Where that shows in an environment's spec it is an
error.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from vecselect.factory import EnvFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Facts = Mapping[str, str]

COMPARED = (
    "id",
    "entry_point",
    "max_episode_steps",
    "kwargs",
    "order_enforce",
    "reward_threshold",
    "nondeterministic",
)
"""The fields of a spec that are compared."""

FURTHER_BUILDS = 8
DRAWS_LIMIT_S = 2.0
"""How many further environments a factory builds, and in what time, to see whether it draws."""


def facts_of(env: gym.Env) -> Facts | None:
    """What an environment's spec says, as text that is the same in every process; None without one.

    Args:
        env: Any. Of wrapped ones it is that of what `gymnasium.make` has put around the innermost
            one, which alone has the limit and the checks that its caller has asked for.
    """
    while isinstance(env, gym.Wrapper) and not isinstance(env, (TimeLimit, OrderEnforcing)):
        env = env.env
    spec = getattr(env, "spec", None)
    if not isinstance(spec, EnvSpec):
        return None
    return {name: _text(getattr(spec, name, None)) for name in COMPARED}


def same_factory(one: Callable[[], Any], other: Callable[[], Any]) -> bool:
    """Whether two factories are one and the same, so that they build the same environments."""
    if isinstance(one, EnvFactory) and isinstance(other, EnvFactory):
        return one.make is other.make and one.wrappers is other.wrappers
    return one is other


def difference(row: int, theirs: Facts | None, ours: Facts | None) -> str:
    """A sentence if a worker's sub-environment is not what the caller built, else an empty string.

    Args:
        row: Its index.
        theirs: The facts of the worker's.
        ours: Those of the caller's, which the same factory has built.
    """
    if theirs is None or ours is None:
        return ""
    names = [name for name in COMPARED if theirs[name] != ours[name]]
    if not names:
        return ""
    shown = [", ".join(f"{name}={facts[name]}" for name in names) for facts in (theirs, ours)]
    return (
        f"Sub-environment {row} has {shown[0]} in a worker process, but the same callable builds "
        f"one with {shown[1]} in this process. What was changed here by assigning to a class or "
        "module cannot be sent to workers: make the change inside the callable that builds the "
        'environment, or pin mode="sync".'
    )


def draws(make: Callable[[], gym.Env], built: Iterable[Facts | None]) -> bool:
    """Whether a factory builds different environments at different times, as if at random.

    Args:
        make: The factory. It builds further ones, which are closed again.
        built: The facts of what it has built in this process.
    """
    first, *others = built
    until_s = time.monotonic() + DRAWS_LIMIT_S
    for _ in range(FURTHER_BUILDS):
        if any(facts != first for facts in others) or time.monotonic() > until_s:
            break
        env = make()
        others.append(facts_of(env))
        env.close()
    return any(facts != first for facts in others)


def _text(value: Any) -> str:
    """A value as text; of what has no text of its own, only its name or its class."""
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(value[key])}" for key in value) + "}"
    if isinstance(value, np.generic) and value.dtype != object:
        return repr(value.item())
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest = hashlib.sha256(value.tobytes()).hexdigest()[:8]
        return f"<array of shape {value.shape} and dtype {value.dtype}, {digest}>"
    # Not the qualified name: a class that was sent by value has lost it.
    named = value if hasattr(value, "__name__") else type(value)
    return f"<{named.__module__}.{named.__name__}>"
