"""Random spaces, actions and resets: the pool equals `SyncVectorEnv` in all of them."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import zoo
from vecselect import auto_make_vec
from vecselect.testing.contract import assert_same

SETTINGS = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MODES = st.sampled_from(["pool:0", "pool:1", "pool:2"])


def fitting(mode, count):
    """The mode, with no more workers than there is work for."""
    return f"pool:{min(int(mode[-1]), count - 1)}"


SHAPES = st.sampled_from([(), (1,), (3,), (2, 2)])

LEAVES = st.one_of(
    st.builds(
        lambda shape, dtype: spaces.Box(0, 100, shape, dtype),
        SHAPES,
        st.sampled_from([np.float32, np.float64, np.uint8, np.int16]),
    ),
    st.builds(spaces.Discrete, st.integers(1, 9), start=st.integers(-5, 5)),
    st.builds(spaces.MultiBinary, st.sampled_from([1, 4, (2, 2)])),
    st.builds(spaces.MultiDiscrete, st.sampled_from([[2], [3, 4], [[2, 3], [4, 5]]])),
    st.builds(spaces.Text, st.integers(1, 6)),
    st.builds(lambda part: spaces.Sequence(part), st.just(spaces.Discrete(4))),
)
SPACES = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.dictionaries(st.sampled_from("abc"), parts, min_size=1, max_size=3).map(spaces.Dict),
        st.lists(parts, min_size=1, max_size=3).map(lambda part: spaces.Tuple(tuple(part))),
    ),
    max_leaves=4,
)


def both(envs, oracle, name, **arguments):
    """The same call on both: equal results, or an error on both. False after an error."""
    with np.errstate(all="ignore"):
        try:
            expected = getattr(oracle, name)(**copy.deepcopy(arguments))
        except Exception:
            try:
                getattr(envs, name)(**arguments)
            except Exception:
                return False
            raise AssertionError(f"only the loop refuses {name}({arguments})") from None
        assert_same(getattr(envs, name)(**arguments), expected)
    return True


@pytest.mark.full
@SETTINGS
@given(mode=MODES, observations=SPACES, actions=SPACES, count=st.integers(1, 5))
def test_any_spaces_equal_the_loop(mode, observations, actions, count):
    env_fns = [functools.partial(zoo.SampleEnv, observations, actions, 2 + i) for i in range(count)]
    oracle = SyncVectorEnv(env_fns)
    with auto_make_vec(env_fns, mode=fitting(mode, len(env_fns))) as envs:
        assert envs.observation_space == oracle.observation_space
        assert envs.action_space == oracle.action_space
        oracle.action_space.seed(1)
        assert both(envs, oracle, "reset", seed=3)
        for _ in range(6):
            assert both(envs, oracle, "step", actions=oracle.action_space.sample())


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 9)),
        st.tuples(st.just("reset"), st.none() | st.integers(0, 99)),
        st.tuples(st.just("masked"), st.integers(1, 31)),
        st.tuples(st.just("too few"), st.integers(0, 9)),
        st.tuples(st.just("split"), st.integers(0, 9)),
        st.tuples(st.just("attribute"), st.text(max_size=3)),
    ),
    max_size=25,
)


@settings(SETTINGS, max_examples=20)
@given(mode=MODES, operations=OPERATIONS)
def test_any_order_of_calls_equals_the_loop(mode, operations):
    env_fns = [functools.partial(zoo.InfoEnv, index) for index in range(5)]
    oracle = SyncVectorEnv(env_fns)
    with auto_make_vec(env_fns, mode=fitting(mode, len(env_fns))) as envs:
        assert both(envs, oracle, "reset", seed=0)
        for name, value in operations:
            if name == "step":
                actions = (np.arange(5) + value) % 10
                assert both(envs, oracle, "step", actions=actions)
            elif name == "reset":
                assert both(envs, oracle, "reset", seed=value)
            elif name == "masked":
                mask = np.array([bool(value >> i & 1) for i in range(5)])
                assert both(envs, oracle, "reset", seed=value, options={"reset_mask": mask})
            elif name == "too few":
                try:
                    envs.step(np.full(4, value))
                except ValueError:
                    continue
                raise AssertionError("a batch that is too short was taken")
            elif name == "split":
                actions = np.full(5, value)
                envs.step_async(actions)
                actions = actions.copy()
                assert_same(envs.step_wait(), oracle.step(actions))
            else:
                for vector in (envs, oracle):
                    vector.set_attr("label", value)
                assert envs.get_attr("label") == oracle.get_attr("label")
