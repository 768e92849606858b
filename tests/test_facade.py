"""The one vector environment in front of every mode."""

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import (
    AlreadyPendingCallError,
    ClosedEnvironmentError,
    NoAsyncCallError,
    ResetNeeded,
)
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import (
    DictInfoToList,
    NormalizeObservation,
    RecordEpisodeStatistics,
)

from tests.compare import assert_same, assert_same_run
from tests.zoo import EchoEnv, SampleEnv
from vecselect import RequestError, VecselectError, auto_make_vec

ZEROS = np.zeros(3, np.int64)
NESTED = {
    "text and oneof": spaces.Tuple(
        (spaces.Text(6), spaces.OneOf((spaces.Discrete(3), spaces.MultiBinary(2))))
    ),
    "graph and sequence": spaces.Dict(
        {
            "g": spaces.Graph(spaces.Box(0, 1, (2,)), None),
            "s": spaces.Sequence(spaces.Discrete(9)),
        }
    ),
}


def echoes(count=3):
    return [functools.partial(EchoEnv, index) for index in range(count)]


@pytest.fixture
def envs():
    with auto_make_vec(echoes(), mode="sync") as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def either(request):
    with auto_make_vec(echoes(), mode=request.param) as made:
        yield made


def test_it_is_a_gymnasium_vector_environment(envs):
    assert isinstance(envs, VectorEnv)
    assert isinstance(envs, VectorWrapper)
    assert type(envs.unwrapped) is SyncVectorEnv
    assert envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is AutoresetMode.NEXT_STEP
    assert envs.spec is None


def test_its_repr_shows_the_mode():
    with auto_make_vec("Pendulum-v1", 2, mode="sync") as envs:
        assert "mode='sync'" in repr(envs)
        assert "Pendulum-v1" in repr(envs)


def test_what_it_has_not_is_said_to_be_where_it_is():
    with auto_make_vec("Pendulum-v1", 2, mode="sync") as envs:
        with pytest.raises(AttributeError, match=r"'envs'; envs.unwrapped has it .*'sync' only"):
            _ = envs.envs
        assert len(envs.unwrapped.envs) == 2
        with pytest.raises(AttributeError, match=r"'g'; .*envs.get_attr\('g'\)") as caught:
            _ = envs.g
        assert caught.value.name == "g"
        assert not hasattr(envs, "_g")
        assert envs.get_attr("g") == (10.0, 10.0)


def test_its_spec_makes_it_again():
    options = {"vector_kwargs": {"autoreset_mode": "SameStep"}, "g": 5.0}
    with auto_make_vec("Pendulum-v1", 2, mode="sync", **options) as envs:
        again = gym.make_vec(envs.spec)
        assert_same_run(again, envs, 3)
        assert again.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        again.close()
        with auto_make_vec(envs.spec, mode="sync") as ours:
            assert (ours.num_envs, ours.get_attr("g")) == (2, (5.0, 5.0))


def test_stats_count_steps_and_split_the_time(envs):
    assert envs.stats().vector_steps == envs.stats().env_steps == 0
    assert envs.stats().env_steps_per_s == 0.0
    envs.reset(seed=1)
    envs.step(ZEROS)
    assert envs.stats().outside_s == 0.0
    envs.step_async(ZEROS)
    envs.step_wait()
    with pytest.raises(ValueError, match="sub-environments need"):
        envs.step(ZEROS[:2])
    stats = envs.stats()
    assert (stats.vector_steps, stats.env_steps) == (2, 6)
    assert stats.inside_s > 0.0
    assert stats.outside_s > 0.0
    assert stats.env_steps_per_s == pytest.approx(6 / (stats.inside_s + stats.outside_s))


def test_the_context_manager_closes_and_closing_twice_does_nothing():
    with auto_make_vec(echoes(), mode="sync") as envs:
        assert not envs.closed
    assert envs.closed
    envs.close()
    with pytest.raises(KeyError), auto_make_vec(echoes(), mode="sync") as envs:
        raise KeyError
    assert envs.closed


USES = {
    "step": lambda envs: envs.step(ZEROS),
    "reset": lambda envs: envs.reset(),
    "call": lambda envs: envs.call("double", 1),
    "get_attr": lambda envs: envs.get_attr("label"),
    "set_attr": lambda envs: envs.set_attr("label", "x"),
    "render": lambda envs: envs.render(),
    "step_async": lambda envs: envs.step_async(ZEROS),
    "step_wait": lambda envs: envs.step_wait(),
    "reset_async": lambda envs: envs.reset_async(),
    "reset_wait": lambda envs: envs.reset_wait(),
    "call_async": lambda envs: envs.call_async("double", 1),
    "call_wait": lambda envs: envs.call_wait(),
}


@pytest.mark.parametrize(
    ("id", "mode"),
    [
        (EchoEnv, "sync"),
        (EchoEnv, "async"),
        (EchoEnv, "pool:1"),
        ("CartPole-v1", "native"),
    ],
)
def test_use_after_close_is_an_error_in_every_mode(id, mode):
    envs = auto_make_vec(id, 3, mode=mode)
    envs.reset(seed=1)
    envs.close()
    envs.close()
    assert envs.closed
    for use in USES.values():
        with pytest.raises(ClosedEnvironmentError, match="was used after close"):
            use(envs)


def test_the_first_reset_has_no_mask(envs):
    for reset in (envs.reset, envs.reset_async):
        with pytest.raises(ResetNeeded, match="first reset has a reset_mask"):
            reset(options={"reset_mask": [True, False, False]})
    envs.reset()
    envs.reset(options={"reset_mask": [True, False, False]})


@pytest.mark.parametrize("mode", ["sync", "async", "pool:1", "thread:1"])
def test_the_first_reset_may_have_a_mask_of_all(mode):
    with auto_make_vec(echoes(), mode=mode) as envs:
        options = {"reset_mask": np.ones(3, bool)}
        result = envs.reset(seed=5, options=options)
        assert_same(result, SyncVectorEnv(echoes()).reset(seed=5, options=dict(options)))
        envs.step(ZEROS)


def test_a_mask_that_the_mode_cannot_heed_is_an_error():
    with auto_make_vec("CartPole-v1", 2, mode="native") as envs:
        envs.reset(seed=1)
        with pytest.raises(VecselectError, match="cannot reset by mask"):
            envs.reset(options={"reset_mask": np.array([True, False])})


def test_a_partial_reset_keeps_the_statistics_of_the_others(envs):
    recorded = RecordEpisodeStatistics(envs)
    recorded.reset(seed=1)
    for _ in range(2):
        recorded.step(ZEROS)
    recorded.reset(options={"reset_mask": np.array([True, False, False])})
    assert recorded.episode_lengths.tolist() == [0, 2, 2]


def test_split_calls_work_and_are_refused_out_of_order(either):
    either.reset(seed=1)
    calls = {name: USES[f"{name}_async"] for name in ("step", "reset", "call")}
    for name, begin in calls.items():
        for other in calls:
            with pytest.raises(NoAsyncCallError):
                USES[f"{other}_wait"](either)
        begin(either)
        for use in ("step", "reset", "call", "get_attr", "set_attr", "render"):
            with pytest.raises(AlreadyPendingCallError):
                USES[use](either)
        for other in calls:
            with pytest.raises(AlreadyPendingCallError):
                USES[f"{other}_async"](either)
        for other in set(calls) - {name}:
            with pytest.raises(NoAsyncCallError):
                USES[f"{other}_wait"](either)
        USES[f"{name}_wait"](either)
    either.step(ZEROS)


def test_a_failed_wait_leaves_nothing_pending(envs):
    envs.reset(seed=1)
    envs.call_async("no_such_method")
    with pytest.raises(AttributeError):
        envs.call_wait()
    envs.step(ZEROS)


def test_actions_changed_while_a_step_is_pending_do_not_change_the_step(envs):
    envs.reset(seed=1)
    actions = np.array([1, 2, 3])
    envs.step_async(actions)
    actions[:] = 0
    assert envs.step_wait()[0][:, 4].tolist() == [1.0, 2.0, 3.0]


def test_native_has_no_sub_environments_to_call():
    with auto_make_vec("CartPole-v1", 3, mode="native") as envs:
        envs.reset(seed=1)
        for name in ("call", "get_attr", "set_attr", "call_async"):
            with pytest.raises(VecselectError, match="Mode 'native' has no .*CartPoleVectorEnv"):
                USES[name](envs)


def test_gymnasiums_vector_wrappers_go_on_top():
    make = functools.partial(gym.make, "CartPole-v1", max_episode_steps=3)
    ours, oracle = auto_make_vec(make, 2, mode="sync"), SyncVectorEnv([make] * 2)
    stacks = []
    for inner in (ours, oracle):
        stack = NormalizeObservation(RecordEpisodeStatistics(inner))
        # Before 1.2 DictInfoToList fails on the statistics, whatever it is put on.
        stacks.append(stack if gym.__version__ < "1.2" else DictInfoToList(stack))
        stacks[-1].reset(seed=1)
    for _ in range(4):
        actual, expected = (stack.step(np.ones(2, np.int64)) for stack in stacks)
        assert_same(actual[:4], expected[:4])
        if isinstance(actual[4], list):
            assert [set(info) for info in actual[4]] == [set(info) for info in expected[4]]
    for stack in stacks:
        stack.close()
    assert ours.closed


@pytest.mark.parametrize("name", NESTED)
def test_observations_that_shared_memory_cannot_hold_arrive_fresh(name):
    make = functools.partial(SampleEnv, NESTED[name])
    with auto_make_vec(make, 2, mode="async") as envs:
        oracle = SyncVectorEnv([make] * 2)
        assert_same_run(envs, oracle, 5)


def test_shared_memory_that_would_freeze_observations_is_an_error():
    make = functools.partial(SampleEnv, NESTED["text and oneof"])
    with pytest.raises(RequestError, match="same Text observation for ever"):
        auto_make_vec(make, 2, mode="async", vector_kwargs={"shared_memory": True})


class NoInfoEnv(EchoEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options=options)[0], None


def test_closing_does_not_wait_for_a_call_that_failed_while_it_was_collected():
    envs = auto_make_vec(NoInfoEnv, 2, mode="async")
    with pytest.raises(AttributeError):
        envs.reset()
    envs.close()
    assert envs.closed
