"""Exact comparison of what two vector environments return."""

from __future__ import annotations

import copy

import numpy as np

from vecselect.measure.trial import first_difference


def assert_same(actual, expected, path="result", ordered=True):
    """Fails unless the two are equal in structure, type, dtype, shape and every bit.

    `ordered=False` lets the keys of dicts stand in another order.
    """
    if not ordered:
        actual, expected = _sorted(actual), _sorted(expected)
    difference = first_difference(actual, expected, path)
    assert difference is None, difference


def _sorted(value):
    """The value with the keys of its dicts in alphabetical order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    if type(value) in (list, tuple):
        return type(value)(map(_sorted, value))
    if isinstance(value, np.ndarray) and value.dtype == object:
        array = np.empty_like(value)
        for index in np.ndindex(value.shape):
            array[index] = _sorted(value[index])
        return array
    return value


def assert_same_run(envs, oracle, steps, seed=7, reset=None, ordered=True):
    """Fails unless two vector environments return the same for the same seeds and actions.

    Args:
        envs: The one under test.
        oracle: What it is compared with.
        steps: Vector steps.
        seed: Of the first reset; the actions follow from it.
        reset: Called with the flags of a step to get a reset's arguments, or None for no reset.
        ordered: Whether the keys of infos must stand in the same order.
    """
    space = copy.deepcopy(oracle.action_space)
    space.seed(3)
    assert_same(envs.reset(seed=seed), oracle.reset(seed=seed), "reset")
    for step in range(steps):
        actions = space.sample()
        actual, expected = envs.step(copy.deepcopy(actions)), oracle.step(actions)
        assert_same(actual, expected, f"step {step}", ordered)
        arguments = reset(step, expected[2] | expected[3]) if reset else None
        if arguments is not None:
            options = arguments.get("options")
            assert_same(
                envs.reset(**{**arguments, "options": copy.deepcopy(options)}),
                oracle.reset(**{**arguments, "options": copy.deepcopy(options)}),
                f"reset after step {step}",
                ordered,
            )
