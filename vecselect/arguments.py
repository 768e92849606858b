"""Checks of what a user passes to `step` and `reset`, made before anything is sent anywhere.

A batch of actions that is found wrong half-way leaves some sub-environments a step ahead of the
others; so the whole batch is looked at first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces

ActionCheck = Callable[[Any], Any]
"""Raises if a batch of actions cannot be what the space describes; else returns it, arrays of other
libraries, such as torch's, as NumPy's."""


def action_check(space: Space[Any], single: Space[Any], num_envs: int) -> ActionCheck:
    """A check of action batches, made once so that each step pays a microsecond for it.

    Raises `ValueError` for a wrong length or shape, `TypeError` for a dtype or structure that
    cannot become the space's. Bounds are not checked.
    """
    return _check("actions", space, single, num_envs)


def _check(name: str, space: Space[Any], single: Space[Any], num_envs: int) -> ActionCheck:
    if isinstance(space, spaces.Dict) and isinstance(single, spaces.Dict):
        return _dict_check(name, space, single, num_envs)
    if isinstance(space, spaces.Tuple) and isinstance(single, spaces.Tuple):
        return _tuple_check(name, space, single, num_envs)
    if isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        assert space.dtype is not None
        return _array_check(name, tuple(space.shape), np.dtype(space.dtype), num_envs)
    # Text, Graph, Sequence, OneOf and custom spaces are batched as one element each.
    return functools.partial(_need_length, name, num_envs)


def _array_check(name: str, shape: tuple[int, ...], dtype: np.dtype, num_envs: int) -> ActionCheck:
    fitting = {dtype}  # dtypes seen to fit

    def check(given: Any) -> Any:
        if type(given) is np.ndarray and given.dtype is dtype and given.shape == shape:
            return given  # the usual batch
        actions = given
        if type(actions) is not np.ndarray:
            actions = np.asarray(_need_length(name, num_envs, actions))
        if actions.shape != shape:
            raise ValueError(
                f"{name} has shape {actions.shape}; {num_envs} sub-environments need {shape}. "
                "Nothing was stepped."
            )
        if actions.dtype not in fitting:
            if not np.can_cast(actions.dtype, dtype, casting="same_kind"):
                raise TypeError(
                    f"{name} has dtype {actions.dtype}, which does not fit the action space's "
                    f"{dtype}; convert it with actions.astype({str(dtype)!r}). Nothing was stepped."
                )
            fitting.add(actions.dtype)
        # Gymnasium's loop gives the elements of a list as they are.
        return given if isinstance(given, (list, tuple)) else actions

    return check


def _dict_check(name: str, space: spaces.Dict, single: spaces.Dict, num_envs: int) -> ActionCheck:
    checks = {
        key: _check(f"{name}[{key!r}]", part, single.spaces[key], num_envs)
        for key, part in space.spaces.items()
    }

    def check(actions: Any) -> Any:
        if not isinstance(actions, Mapping) or actions.keys() != checks.keys():
            found = sorted(actions) if isinstance(actions, Mapping) else type(actions).__name__
            raise TypeError(
                f"{name} is {found}; a mapping with the keys {sorted(checks)} is needed. Nothing "
                "was stepped."
            )
        return {key: part(actions[key]) for key, part in checks.items()}

    return check


def _tuple_check(
    name: str, space: spaces.Tuple[Any], single: spaces.Tuple[Any], num_envs: int
) -> ActionCheck:
    checks = [
        _check(f"{name}[{i}]", part, one, num_envs)
        for i, (part, one) in enumerate(zip(space.spaces, single.spaces, strict=True))
    ]

    def check(actions: Any) -> Any:
        if not isinstance(actions, (tuple, list)) or len(actions) != len(checks):
            raise TypeError(
                f"{name} is a {type(actions).__name__}; a tuple of {len(checks)} batches, one for "
                "each part of the action space, is needed. Nothing was stepped."
            )
        return tuple(part(batch) for part, batch in zip(checks, actions, strict=True))

    return check


def _need_length(name: str, num_envs: int, actions: Any) -> Any:
    try:
        length = len(actions)
    except TypeError:
        raise TypeError(
            f"{name} is {actions!r}; a batch of {num_envs} actions is needed. Nothing was stepped."
        ) from None
    if length != num_envs:
        raise ValueError(
            f"{name} holds {length} actions; {num_envs} sub-environments need {num_envs}. Nothing "
            "was stepped."
        )
    return actions


def read_seeds(seed: Any, num_envs: int) -> int | list[int | None] | None:
    """The seed of a reset, checked, as Gymnasium's classes take it: None, an int, or a list."""
    if seed is None:
        return None
    if isinstance(seed, (Sequence, np.ndarray)) and not isinstance(seed, str):
        if len(seed) != num_envs:
            raise ValueError(
                f"seed holds {len(seed)} seeds; {num_envs} sub-environments need one each."
            )
        return [None if one is None else _read_seed(one) for one in seed]
    return _read_seed(seed)


def seed_of_each(seed: Any, num_envs: int) -> list[int | None]:
    """The seed of each sub-environment, which gets `seed + i` of a single one; as `read_seeds`."""
    seeds = read_seeds(seed, num_envs)
    if isinstance(seeds, list):
        return seeds
    return [None if seeds is None else seeds + index for index in range(num_envs)]


def _read_seed(seed: Any) -> int:
    if (whole := _whole("A seed", seed)) < 0:
        raise ValueError(f"A seed is {seed}; seeds are whole numbers of at least 0, or None.")
    return whole


def _whole(what: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} is {value!r}, which is no whole number.")
    return int(value)


def read_indices(indices: Any, num_envs: int) -> list[int] | None:
    """Which sub-environments are meant, in the order given; None for all.

    A mask, a number twice, or one of no sub-environment is an error. So are negative numbers: they
    are more often the result of a mistake than meant to count from the end.
    """
    if indices is None:
        return None
    try:
        listed = [indices] if isinstance(indices, (int, np.integer)) else list(indices)
        found = [_whole("An index", index) for index in listed]
    except TypeError:
        raise TypeError(
            f"indices={indices!r} is neither an int, nor a sequence of ints, nor None for all "
            "sub-environments. For a bool mask pass numpy.flatnonzero(mask)."
        ) from None
    for index in found:
        if not 0 <= index < num_envs:
            raise IndexError(
                f"indices holds {index}, but the sub-environments are numbered from 0 to "
                f"{num_envs - 1}; nothing was called."
            )
    if len(set(found)) < len(found):
        raise ValueError(f"indices={indices!r} names a sub-environment twice; name each once.")
    return found


def one_each(values: Any, count: int) -> Sequence[Any]:
    """So many values: those of a list or tuple, if it has this length, or one value for all."""
    if not isinstance(values, (list, tuple)):
        return [values] * count
    if (given := len(values)) != count:
        raise ValueError(
            f"values holds {given} values; {count} are needed, one for each sub-environment."
        )
    return values


def read_options(options: Mapping[str, Any] | None, num_envs: int) -> dict[str, Any] | None:
    """A copy of a reset's options, `reset_mask` checked, as a bool array of shape `(num_envs,)`.

    A copy, because Gymnasium's classes take `reset_mask` out of the dict they get, and a wrapper
    that looks for it afterwards believes that everything was reset.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise TypeError(
            f"options is {options!r}; give a dict, such as {{'reset_mask': terminated}}, or None. "
            "Nothing was reset."
        )
    copied = dict(options)
    if "reset_mask" in copied:
        mask = np.asarray(copied["reset_mask"])
        if mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] has dtype {mask.dtype}; give an array of bool.")
        if mask.shape != (num_envs,):
            raise ValueError(
                f"options['reset_mask'] has shape {mask.shape}; give one of shape ({num_envs},), "
                "with a bool for each sub-environment."
            )
        if not mask.any():
            raise ValueError(
                "options['reset_mask'] is False everywhere, so there is nothing to reset; set "
                "True for the sub-environments to reset."
            )
        copied["reset_mask"] = mask
    return copied


def read_reset(
    seed: Any, options: Mapping[str, Any] | None, num_envs: int
) -> tuple[list[int | None], dict[str, Any] | None, np.ndarray]:
    """A reset's arguments, checked as by `read_seeds` and `read_options`.

    Returns the seed of each sub-environment, the options without `reset_mask`, and that mask, which
    is True everywhere where none was given.
    """
    seeds = seed_of_each(seed, num_envs)
    given = read_options(options, num_envs)
    every = np.ones(num_envs, np.bool_)
    return seeds, given, every if given is None else given.pop("reset_mask", every)
