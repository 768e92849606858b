"""Keyword arguments that were given to the environment but meant for the vector environment."""

from __future__ import annotations

import contextlib
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import EnvSpec

from vecselect.errors import RequestError
from vecselect.request import FAILURE_OPTIONS, VECTOR_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

OURS = FAILURE_OPTIONS | {"lane_mode", "num_workers"}
"""Options that neither Gymnasium nor, as far as is known, any environment has: not even tried."""

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def refuse_misplaced(kwargs: Mapping[str, Any], id: Any, parameters: Collection[str]) -> None:
    """Refuses keyword arguments of the environment that can only have been meant otherwise.

    Args:
        kwargs: Those given by name. What stands in `env_kwargs` is not asked about.
        id: What builds the environments; a callable takes no keyword arguments.
        parameters: The parameters of the function they were given to.

    Raises:
        RequestError: Saying where to put it.
    """
    for name, value in kwargs.items():
        if name in OURS:
            raise RequestError(
                f"{_place(name, value)}. For an environment that takes a {name} of its own: "
                f"env_kwargs={{{name!r}: {value!r}}}."
            )
        meant = None if isinstance(id, (str, EnvSpec)) else _meant(name, value, parameters)
        if meant is not None:
            raise RequestError(f"There is no parameter {name}. {meant}")


def refuse_mode(function: str, kwargs: Mapping[str, Any], instead: str) -> None:
    """Refuses a pin where nothing can be pinned.

    Args:
        function: What was called.
        kwargs: Its further keyword arguments.
        instead: A sentence on what to call.

    Raises:
        RequestError: If there is one.
    """
    for name in ("mode", "vectorization_mode"):
        if name in kwargs:
            raise RequestError(
                f"{function} has no {name}, but {name}={kwargs[name]!r} was given. {instead} For "
                f"an environment that takes a {name} of its own: env_kwargs={{{name!r}: ...}}."
            )


@contextlib.contextmanager
def hints(kwargs: Mapping[str, Any], parameters: Collection[str]) -> Iterator[None]:
    """Adds to a TypeError about an unknown keyword argument what was probably meant.

    Args:
        kwargs: Those given by name.
        parameters: The parameters of the function they were given to.
    """
    try:
        yield
    except TypeError as error:
        found = _UNEXPECTED.search(str(error))
        name = found.group(1) if found else ""
        if name in kwargs:
            meant = _meant(name, kwargs[name], parameters)
            if meant is not None:
                error.args = (f"{error}. {meant}",)
        raise


def _meant(name: str, value: Any, parameters: Collection[str]) -> str | None:
    """A question or a sentence on what a keyword argument was probably meant as."""
    if name in VECTOR_OPTIONS:
        return f"{_place(name, value)}."
    near = get_close_matches(name, [*sorted(parameters), *sorted(VECTOR_OPTIONS)], n=1, cutoff=0.75)
    if not near:
        return None
    if near[0] in VECTOR_OPTIONS:
        return f"Did you mean vector_kwargs={{{near[0]!r}: {value!r}}}?"
    return f"Did you mean {near[0]}?"


def _place(name: str, value: Any) -> str:
    return f"{name} is an option of the vector environment: vector_kwargs={{{name!r}: {value!r}}}"
