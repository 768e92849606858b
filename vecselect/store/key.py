"""What makes two requests the same one, in this process and in any later one.

A plan may be used again only for the same environment on the same machine with the same software.
So what determines an environment is turned into plain data that is equal wherever the same program
runs. Where that cannot be proved (an open file, a lock, a live object), it is refused: a plan that
is made anew costs a second, one that belongs to another environment costs the whole run.
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, Any

from vecselect.plan import SCHEMA
from vecselect.request import EnvFactory
from vecselect.store.identity import Unstable, Walk, canonical, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vecselect.machine import Machine
    from vecselect.request import Request

__all__ = [
    "Unstable",
    "canonical",
    "digest",
    "identify",
    "key_of",
    "machine_fields",
    "plan_key_fields",
]

ALGORITHM = 3
"""Number of the way plans are decided; it grows when older plans should not be used any more."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "KMP_BLOCKTIME",
)
"""Environment variables that decide how many threads compete for the cores, and how they wait."""


def identify(value: Any) -> Any:
    """Turns a value that determines an environment into plain data.

    The data are equal in every process in which the value is made by the same code of the same
    contents. Functions and classes are told by their code: by the file of their module where they
    can be imported, and by what they are made of where they cannot (`__main__`, notebooks,
    closures).

    Args:
        value: A number, text, array, container, path, enum, function, class, spec, space or
            dataclass, or a nesting of those.

    Returns:
        Lists, dicts, numbers, strings and None.

    Raises:
        Unstable: If there is no such data for it, or looking into it fails. Nothing else.
    """
    try:
        return Walk().whole(value)
    except Unstable:
        raise
    except RecursionError:
        raise Unstable("it is nested too deeply") from None
    except Exception as error:
        raise Unstable(f"looking into it raised {type(error).__name__}") from error


def plan_key_fields(
    request: Request, machine: Machine, *, learner: Any, allow: Sequence[str]
) -> dict[str, Any]:
    """Everything that decides whether a stored plan serves a request, as a person can read it.

    What environments are built with may be secret, and files are shown around: of that only hashes
    are kept.

    Args:
        request: What was asked for. The modules of its entry points are imported.
        machine: The machine it is to run on.
        learner: What stands for the learner, as plain data.
        allow: Modes that may be chosen only since the user allowed them.

    Returns:
        Plain data; `key_of` makes the key of it.

    Raises:
        Unstable: If a part has no stable identity; a sentence that says which.
    """
    makers = [fn.make if isinstance(fn, EnvFactory) else fn for fn in request.env_fns]
    if all(maker is makers[0] for maker in makers):
        del makers[1:]
    from_spec = request.spec is not None
    return {
        "env": {
            "label": request.label,
            "spec": _hash("The environment's spec", request.spec),
            "env_kwargs": {
                name: _hash("The environment's keyword arguments", {name: value})
                for name, value in request.env_kwargs.items()
            },
            # What an id builds is told by its spec and the arguments.
            "env_fns": None if from_spec else _hash("The environment's callable", makers),
            "wrappers": _hash("The list of wrappers", list(request.wrappers)),
        },
        "num_envs": request.num_envs,
        "vector_kwargs": {
            name: value
            if value is None or isinstance(value, (bool, int, float))
            else _hash("What vector_kwargs holds", {name: value})
            for name, value in request.vector_kwargs.items()
        },
        "allow": sorted(allow),
        "learner": learner,
        "machine": machine_fields(machine),
        "software": {
            **_versions(),
            "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        },
        "schema": SCHEMA,
        "algorithm": ALGORITHM,
    }


def machine_fields(machine: Machine) -> dict[str, Any]:
    """What of the machine must be the same for a plan to be used again.

    Memory counts by its power of two and cores by tenths: both differ a little from one start of a
    container to the next. The load and the memory that is free now do not count.
    """
    return {
        "cpu": machine.cpu,
        "cores": round(machine.cores, 1),
        "cores_logical": machine.cores_logical,
        "memory_log2": round(math.log2(max(machine.memory_bytes, 1))),
        "system": machine.system,
        "python": machine.python,
    }


def key_of(fields: Mapping[str, Any]) -> str:
    """The key of a plan: 16 hexadecimal digits.

    Args:
        fields: What `plan_key_fields` gave, or what was read back from JSON.
    """
    return digest(fields)[:16]


def _hash(what: str, value: Any) -> str | None:
    """The hash of a part; None of nothing."""
    try:
        return digest(identify(value))[:16] if value else None
    except Unstable as error:
        raise Unstable(
            f"{what} cannot be recognised in another process: {error.reason}."
        ) from error


@functools.cache
def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("vecselect", "gymnasium", "numpy")}
