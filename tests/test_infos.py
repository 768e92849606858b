"""Infos of every kind: the pool batches them as `SyncVectorEnv` does."""

from __future__ import annotations

import copy
import functools
import sys
import threading

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests import zoo
from tests.test_pool_properties import SETTINGS, both, fitting
from vecselect import auto_make_vec
from vecselect.backends.pool.infos import MAX_TEMPLATES

ARRAYS = st.builds(
    lambda shape, dtype, value: np.full(shape, value, dtype),
    st.sampled_from([(), (1,), (2,), (3,), (4,), (5,), (2, 2)]),
    st.sampled_from([np.float64, np.float32, np.uint8, np.bool_, ">f8", "U3", object]),
    st.integers(0, 9),
)
SMALL = st.integers(-9, 9)
FLOATS = st.floats(-9, 9)
KINDS_OF_VALUES = [
    st.booleans().map(np.bool_),
    st.booleans(),
    SMALL,
    st.integers(-(2**70), 2**70),
    FLOATS,
    FLOATS.map(np.float64),
    SMALL.map(np.int8),
    SMALL.map(lambda value: np.timedelta64(value, "s")),
    st.text(max_size=3),
    st.none(),
    st.none() | SMALL,
    st.lists(SMALL, max_size=2),
    FLOATS.map(lambda value: np.full((2, 2), value)),
    ARRAYS,
    SMALL | FLOATS,
    SMALL | FLOATS | st.booleans().map(np.bool_) | st.text(max_size=3) | ARRAYS,
    st.fixed_dictionaries({"x": FLOATS, "hit": st.booleans().map(np.bool_)}),
    st.fixed_dictionaries({"x": FLOATS}, optional={"y": SMALL, "deep": st.just({"z": "abc"})}),
    st.just({}),
    SMALL | st.just({"x": 1}),
]
"""What one key of an environment's infos may have in every step."""


def scripts_of(kinds, optional):
    """Infos whose keys have values of the same kind in every step, and keys that come and go."""
    return st.lists(st.fixed_dictionaries(kinds, optional=optional), min_size=4, max_size=14)


SCRIPTS = st.builds(
    scripts_of,
    *(
        st.dictionaries(st.sampled_from(keys), st.sampled_from(KINDS_OF_VALUES), max_size=3)
        for keys in (["a", "b", "c"], ["late", "_a", "final_info", "final_obs"])
    ),
).flatmap(lambda script: script)


class ScriptedEnv(zoo.EchoEnv):
    """Returns the infos of a script, each sub-environment from a place of its own."""

    def __init__(self, index, script, first=None):
        super().__init__(index)
        self.script = script
        self.calls = index if first is None else first

    def next_info(self):
        self.calls += 1
        return copy.deepcopy(self.script[self.calls % len(self.script)])

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed, options=options)
        return observation, self.next_info()

    def step(self, action):
        return (*super().step(action)[:4], self.next_info())


def assert_equals_the_loop(mode, autoreset_mode, script, count, apart, steps=16):
    """Steps the pool and the loop until both raise.

    Args:
        mode: Of the pool.
        autoreset_mode: Of both.
        script: The infos that each sub-environment returns, in turn.
        count: The number of sub-environments.
        apart: Whether each begins at another place of the script.
        steps: Vector steps.
    """
    env_fns = [
        functools.partial(ScriptedEnv, index, script, index if apart else 0)
        for index in range(count)
    ]
    oracle = SyncVectorEnv(env_fns, autoreset_mode=autoreset_mode)
    options = {"autoreset_mode": autoreset_mode}
    with auto_make_vec(env_fns, mode=fitting(mode, count), vector_kwargs=options) as envs:
        going = both(envs, oracle, "reset", seed=3)
        for step in range(steps):
            going = going and both(envs, oracle, "step", actions=np.full(count, step % 10))
            ended = oracle._terminations | oracle._truncations
            if going and autoreset_mode is AutoresetMode.DISABLED and ended.any():
                going = both(envs, oracle, "reset", options={"reset_mask": ended})
    return going


SCRIPTED = {
    "bools that come and go": [{"hit": np.bool_(True), "x": 0.5}, {"x": 1.5}, {}],
    "a text that comes and goes": [{"text": "a", "x": 0.5}, {"x": 1.5}, {"text": "b"}],
    "numbers that come late": [{}, {}, {"x": 0.5}, {"x": 1.5, "y": 1}, {"y": 2, "x": 0.25}],
    "kinds that change": [
        {"x": value} for value in (1, 0.5, True, np.float32(1.5), np.bool_(True), np.float64(0.1))
    ],
    "numbers that are cut off": [{"x": value} for value in (1, 0.75, -2.5, True, 2**40, 1e9)],
    "numbers that are too large": [{"x": value} for value in (1, 0.5, 1e300, 2, 2**62, 0.25)],
    "no numbers": [{"x": value, "y": 0.5} for value in (1, 0.5, float("nan"), 2)],
    "kinds that become objects": [{"x": value} for value in ("a", None, 1, 0.5, [1], np.zeros(2))],
    "nested dicts that vary": [
        {"n": {"x": 0.5}},
        {"n": {"y": 1}},
        {"n": {}},
        {"n": {"z": {"x": "a"}}},
        {"n": {"w": None}},
    ],
    "keys that are others' masks": [{"a": 0.5}, {"_a": 1.5}, {"n": {"a": 0.5, "_a": 2}}],
    "final observations of its own": [{"final_obs": {"x": 1}}, {"final_obs": 3}, {"x": 0.5}],
    "final infos of its own": [{"final_info": {"x": 1}}, {"final_info": {"x": 0.5}}],
    "keys that are no texts": [{1: 0.5}, {True: 1.5}, {None: 2.5, "x": 1}],
    "arrays that grow": [
        {"y": 0.5, "x": np.arange(float(size))} for size in (1, 2, 3, 4, 300, 5, 0, 700, 2000, 6)
    ],
    "arrays of many shapes and dtypes": [
        {"x": np.full(shape, 1, dtype)}
        for dtype in ("float64", ">f8", "U3", "object")
        for shape in ((), (1,), (2,), (3,), (4,), (5,), (2, 2))
    ],
    "arrays without room": [{"x": np.full((40, 40), i), "y": float(i)} for i in range(3)],
}


@pytest.mark.parametrize("script", SCRIPTED.values(), ids=SCRIPTED)
@pytest.mark.parametrize("mode", ["pool:0", "pool:1"])
def test_infos_equal_the_loop(mode, script):
    for autoreset_mode in AutoresetMode if mode == "pool:0" else [AutoresetMode.SAME_STEP]:
        assert_equals_the_loop(mode, autoreset_mode, script, 4, apart=True)
    assert assert_equals_the_loop(mode, AutoresetMode.NEXT_STEP, script, 2, apart=False)


class SharingEnv(zoo.EchoEnv):
    """All of them return the same dict, with the same arrays, each with values of its own."""

    info = {"x": 0.5, "array": np.zeros(2), "n": {"array": np.zeros(2)}, "text and more": "a"}

    def step(self, action):
        result = super().step(action)[:4]
        self.info["x"] = self.steps + self.index / 10
        self.info["array"][:] = self.info["n"]["array"][:] = self.steps + self.index / 10
        self.info["text and more"] = np.full(self.steps, self.index)
        return (*result, self.info)


def test_infos_that_share_their_memory_equal_the_loop():
    env_fns = [functools.partial(SharingEnv, 4 * index) for index in range(3)]
    oracle = SyncVectorEnv(env_fns)
    with auto_make_vec(env_fns, mode="pool:0") as envs:
        assert both(envs, oracle, "reset", seed=3)
        for _ in range(12):
            assert both(envs, oracle, "step", actions=np.zeros(3, np.int64))


class LockEnv(zoo.EchoEnv):
    def step(self, action):
        info = {"lock": threading.Lock()} if self.index == 2 else {"x": 0.5}
        return (*super().step(action)[:4], info)


def test_an_info_that_cannot_be_sent_is_an_error_that_names_its_row():
    with auto_make_vec([functools.partial(LockEnv, i) for i in range(4)], mode="pool:1") as envs:
        for _ in range(2):
            envs.reset()
            with pytest.raises(TypeError, match="pickle") as caught:
                envs.step(np.zeros(4, np.int64))
            if sys.version_info >= (3, 11):
                assert "sub-environment 2" in caught.value.__notes__[0]


def test_infos_equal_the_loop_when_there_are_more_shapes_than_templates():
    script = [{f"key {i}": 0.5} for i in range(MAX_TEMPLATES + 5)]
    assert assert_equals_the_loop(
        "pool:0", AutoresetMode.NEXT_STEP, script, 2, apart=False, steps=2 * len(script)
    )


@settings(SETTINGS, max_examples=60, phases=[Phase.generate])
@given(
    mode=st.sampled_from(["pool:0", "pool:0", "pool:0", "pool:2"]),
    autoreset_mode=st.sampled_from(AutoresetMode),
    script=SCRIPTS,
    count=st.integers(1, 5),
    apart=st.booleans(),
)
def test_infos_of_any_columns_equal_the_loop(mode, autoreset_mode, script, count, apart):
    assert_equals_the_loop(mode, autoreset_mode, script, count, apart)
