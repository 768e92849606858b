"""Exact comparison of what two vector environments return."""

from __future__ import annotations

import copy

import numpy as np


def assert_same(actual, expected, path="result", ordered=True):
    """Fails unless the two are equal in structure, type, dtype, shape and every bit.

    `ordered=False` lets the keys of dicts stand in another order.
    """
    if isinstance(expected, dict):
        assert isinstance(actual, dict), path
        order = list if ordered else set
        assert order(actual) == order(expected), f"{path}: {list(actual)} != {list(expected)}"
        for key in expected:
            assert_same(actual[key], expected[key], f"{path}[{key!r}]", ordered)
    elif isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray), f"{path}: {type(actual)}"
        assert actual.dtype == expected.dtype, f"{path}: {actual.dtype} != {expected.dtype}"
        assert actual.shape == expected.shape, f"{path}: {actual.shape} != {expected.shape}"
        if expected.dtype == object:
            for i, (one, other) in enumerate(zip(actual.flat, expected.flat, strict=True)):
                assert_same(one, other, f"{path}[{i}]", ordered)
        else:
            assert actual.tobytes() == expected.tobytes(), f"{path}: {actual} != {expected}"
    elif isinstance(expected, (tuple, list)):
        assert type(actual) is type(expected), f"{path}: {type(actual)} != {type(expected)}"
        assert len(actual) == len(expected), path
        for i, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same(one, other, f"{path}[{i}]", ordered)
    else:
        assert type(actual) is type(expected), f"{path}: {type(actual)} != {type(expected)}"
        assert actual == expected or (actual != actual and expected != expected), path


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
