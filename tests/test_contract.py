"""One contract for every mode that runs the user's environments: what `SyncVectorEnv` does.

A new mode joins by being listed in `MODES`. Plain `pytest` runs all of it in these, and in the
`VARIANTS` what is marked `smoke`.
"""

from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests import zoo
from tests.compare import assert_same, assert_same_run
from tests.marks import only_full
from vecselect import VecselectError, auto_make_vec

GYMNASIUM = tuple(map(int, gym.__version__.split(".")[:2]))
MODES = ["async", "pool:2", "thread:2"]
VARIANTS = ["sync", "pool:0", "pool:1", "pool:3", "pool:2 spawn", "thread:0", "thread:1"]
VARIANTS += ["pool:2 deadline", "thread:3 deadline"]
smoke = pytest.mark.parametrize("mode", MODES + VARIANTS)
UNORDERED = ["async"]
"""Gymnasium's AsyncVectorEnv puts `final_info` before the keys of the new episode in SAME_STEP."""

WRONG_IN_GYMNASIUM = (
    [("async", "Humanoid-v5", AutoresetMode.SAME_STEP)] if GYMNASIUM < (1, 2) else []
)
"""There AsyncVectorEnv sends a `final_info` whose arrays the reset has overwritten."""

STOCK = [
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "FrozenLake-v1",
    "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3",
    "Blackjack-v1",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "HalfCheetah-v5",
    "Humanoid-v5",
]


@pytest.fixture(params=MODES + only_full(*VARIANTS))
def mode(request):
    return request.param


def make(id, num_envs, mode, options=None, **kwargs):
    """The mode under test, with as many workers as there is work for.

    A second word is a deadline, or names the start method of its processes.
    """
    name, _, word = mode.partition(" ")
    deadline = word == "deadline"
    more = {"step_timeout_s": 60.0} if deadline else {"context": word} if word else {}
    options = {**(options or {}), **more}
    kind, _, workers = name.partition(":")
    if workers:
        most = (num_envs or len(id)) - (not deadline and kind != "ray")
        name = f"{kind}:{min(int(workers), most)}"
    return auto_make_vec(id, num_envs, mode=name, vector_kwargs=options, **kwargs)


def pair(env_fns, mode, **options):
    """The mode under test and the oracle over the same callables."""
    return make(env_fns, None, mode, options), SyncVectorEnv(env_fns, **options)


def echoes(count, kind=zoo.EchoEnv):
    return [functools.partial(kind, index) for index in range(count)]


def samples(space, count=3, action_space=None):
    return [functools.partial(zoo.SampleEnv, space, action_space, 3 + i) for i in range(count)]


def masked_reset(step, done):
    """Resets in DISABLED: the sub-environments that are done, by a mask."""
    return {"options": {"reset_mask": done}} if done.any() else None


@pytest.mark.parametrize("id", STOCK)
def test_stock_environments_equal_the_loop_in_every_autoreset_mode(id, mode):
    for autoreset_mode in AutoresetMode:
        if (mode, id, autoreset_mode) in WRONG_IN_GYMNASIUM:
            continue
        options = {"autoreset_mode": autoreset_mode}
        kwargs = {"max_episode_steps": 12}
        with make(id, 3, mode, options, **kwargs) as envs:
            oracle = SyncVectorEnv([functools.partial(gym.make, id, **kwargs)] * 3, **options)
            assert envs.metadata == oracle.metadata
            assert envs.single_observation_space == oracle.single_observation_space
            assert envs.observation_space == oracle.observation_space
            assert envs.action_space == oracle.action_space
            reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
            assert_same_run(envs, oracle, 30, reset=reset, ordered=mode not in UNORDERED)
            assert envs.get_attr("np_random_seed") == oracle.get_attr("np_random_seed")
            states = [
                [generator.bit_generator.state for generator in vector.get_attr("np_random")]
                for vector in (envs, oracle)
            ]
            assert states[0] == states[1]
            oracle.close()


@pytest.mark.parametrize("autoreset_mode", AutoresetMode)
@pytest.mark.parametrize("kind", [zoo.EchoEnv, zoo.InfoEnv])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_observations_rewards_and_infos_belong_together(kind, count, autoreset_mode, mode):
    envs, oracle = pair(echoes(count, kind), mode, autoreset_mode=autoreset_mode)
    with envs:
        reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
        assert_same_run(envs, oracle, 40, reset=reset, ordered=mode not in UNORDERED)


@pytest.mark.parametrize("name", zoo.SPACES)
def test_observations_of_any_space_equal_the_loop(name, mode):
    envs, oracle = pair(samples(zoo.SPACES[name]), mode)
    with envs:
        assert envs.observation_space == oracle.observation_space
        assert_same_run(envs, oracle, 12)


@pytest.mark.parametrize("name", zoo.ACTION_SPACES)
def test_each_sub_environment_gets_its_action_as_the_loop_gives_it(name, mode):
    space = zoo.ACTION_SPACES[name]
    envs, oracle = pair([functools.partial(zoo.ActionEnv, space)] * 3, mode)
    with envs:
        assert envs.action_space == oracle.action_space
        assert_same_run(envs, oracle, 8)


@pytest.mark.parametrize("seed", [None, 5, [3, None, 9], np.array([4, 5, 6]), np.int64(2)])
def test_seeds_reach_the_sub_environments_as_in_the_loop(seed, mode):
    envs, oracle = pair(echoes(3), mode)
    plain = seed.tolist() if isinstance(seed, (np.ndarray, np.integer)) else seed
    with envs:
        assert_same(envs.reset(seed=seed), oracle.reset(seed=plain))


@smoke
def test_a_masked_reset_starts_only_the_masked_episodes(mode):
    envs, oracle = pair(echoes(4), mode)
    mask = np.array([True, False, False, True])

    def now_and_then(step, done):
        return {"seed": step, "options": {"reset_mask": mask, "deep": 1}} if step % 3 == 1 else None

    with envs:
        assert_same_run(envs, oracle, 12, reset=now_and_then)


def test_options_reach_the_sub_environments(mode):
    envs, oracle = pair(echoes(3), mode)
    with envs:
        assert_same(envs.reset(options={"b": 1, "a": 2}), oracle.reset(options={"b": 1, "a": 2}))


@smoke
def test_call_get_attr_and_set_attr_reach_every_sub_environment(mode):
    envs, oracle = pair(echoes(3), mode)
    with envs:
        for vector in (envs, oracle):
            vector.reset(seed=1)
        assert envs.call("double", 4, plus=1) == oracle.call("double", 4, plus=1) == (9, 10, 11)
        assert envs.get_attr("label") == ("echo 0", "echo 1", "echo 2")
        envs.set_attr("label", ["a", "b", "c"])
        assert envs.get_attr("label") == ("a", "b", "c")
        envs.set_attr("label", "same")
        assert envs.get_attr("label") == ("same",) * 3
        assert_same(envs.render(), oracle.render())


def test_some_sub_environments_are_reached_in_the_order_of_the_indices(mode):
    with make(echoes(5), None, mode) as envs:
        envs.reset(seed=1)
        assert envs.call("double", 4, indices=[3, 0, 4], plus=1) == (12, 9, 13)
        assert envs.call("double", 4, indices=2) == (10,)
        assert envs.call("double", 4, indices=np.array([1])) == (9,)
        assert envs.call("double", 4, indices=[]) == ()
        assert envs.get_attr("label", indices=(4, 1)) == ("echo 4", "echo 1")
        envs.set_attr("label", ["d", "b"], indices=[3, 1])
        assert envs.get_attr("label") == ("echo 0", "b", "echo 2", "d", "echo 4")
        envs.set_attr("label", "same", indices=np.int64(4))
        assert envs.get_attr("label", indices=[4, 0]) == ("same", "echo 0")
        envs.call_async("double", 1, indices=[4, 2])
        assert envs.call_wait() == (6, 4)
        envs.call_async("double", 1)
        assert envs.call_wait() == envs.call("double", 1) == (2, 3, 4, 5, 6)
        assert_same(envs.step(np.ones(5, np.int64))[1], 1000.0 * np.arange(5) + 10.1)


@pytest.mark.parametrize(
    ("indices", "error", "says"),
    [
        (5, IndexError, "holds 5"),
        ([0, -1], IndexError, "holds -1"),
        ([1, 3, 1], ValueError, "twice"),
        ("all", TypeError, "neither an int"),
        ([0.0], TypeError, "neither an int"),
        (True, TypeError, "flatnonzero"),
        (np.array([True, False, False, False, False]), TypeError, "flatnonzero"),
    ],
)
def test_wrong_indices_are_an_error_before_anything_is_called(indices, error, says, mode):
    with make(echoes(5), None, mode) as envs:
        envs.reset(seed=1)
        for call in (
            lambda: envs.set_attr("label", "changed", indices=indices),
            lambda: envs.call("double", 1, indices=indices),
            lambda: envs.call_async("double", 1, indices=indices),
            lambda: envs.get_attr("label", indices=indices),
        ):
            with pytest.raises(error, match=says):
                call()
        assert envs.get_attr("label") == tuple(f"echo {index}" for index in range(5))


def test_values_for_some_sub_environments_are_as_many_as_the_indices(mode):
    with make(echoes(4), None, mode) as envs:
        with pytest.raises(ValueError, match="3 values; 2 are needed"):
            envs.set_attr("label", ["a", "b", "c"], indices=[0, 1])
        assert envs.get_attr("label", [0, 1]) == ("echo 0", "echo 1")


def test_some_are_set_or_none_of_them(mode):
    if mode == "async":  # as with all of them: those before the one that refuses are set
        pytest.skip("Gymnasium's AsyncVectorEnv has no way back")
    env_fns = [functools.partial(zoo.PickyEnv, index) for index in range(4)]
    with make(env_fns, None, mode) as envs:
        with pytest.raises(ValueError, match="refused"):
            envs.set_attr("limit", [1, 2, -1], indices=[3, 0, 2])
        assert envs.get_attr("limit") == (10, 10, 10, 10)
        envs.set_attr("limit", [1, 2], indices=[3, 0])
        assert envs.get_attr("limit") == (2, 10, 10, 1)


@smoke
def test_split_calls_do_what_the_joined_ones_do(mode):
    envs, oracle = pair(echoes(3), mode)
    with envs:
        envs.reset_async(seed=4)
        assert_same(envs.reset_wait(), oracle.reset(seed=4))
        for step in range(8):
            actions = np.array([step % 10, 1, 2])
            envs.step_async(actions)
            assert_same(envs.step_wait(), oracle.step(actions))
        envs.call_async("double", 3)
        assert envs.call_wait() == oracle.call("double", 3)


def test_returned_arrays_never_change_later(mode):
    envs, _ = pair(echoes(3), mode)
    with envs:
        results = [envs.reset(seed=1)[0]]
        copies = [results[0].copy()]
        for step in range(6):
            result = envs.step(np.full(3, step))
            results += result[:4]
            copies += [part.copy() for part in result[:4]]
        for kept, copied in zip(results, copies, strict=True):
            assert_same(kept, copied)


def test_different_bounds_batch_under_observation_mode_different(mode):
    def make(high):
        return lambda: zoo.SampleEnv(spaces.Box(-high, high, (2,), np.float32))

    envs, oracle = pair([make(1), make(2), make(3)], mode, observation_mode="different")
    with envs:
        assert envs.observation_space == oracle.observation_space
        assert_same_run(envs, oracle, 6)


def test_copy_false_gives_the_same_numbers(mode):
    envs, oracle = pair(echoes(3), mode, copy=False)
    with envs:
        assert_same_run(envs, oracle, 12)


def test_wrappers_of_single_environments_are_applied(mode):
    wrappers = [gym.wrappers.TimeAwareObservation]
    oracle = SyncVectorEnv([lambda: wrappers[0](gym.make("Pendulum-v1"))] * 2)
    with make("Pendulum-v1", 2, mode, wrappers=wrappers) as envs:
        assert_same_run(envs, oracle, 5)


def test_the_spec_makes_the_same_environments_again(mode):
    with make("Pendulum-v1", 2, mode, g=5.0) as envs:
        assert envs.spec.kwargs["g"] == 5.0
        again = gym.make_vec(envs.spec)
        assert again.num_envs == 2
        assert again.get_attr("g") == (5.0, 5.0)
        again.close()


def test_native_has_the_shapes_of_its_environment():
    with auto_make_vec("CartPole-v1", 4, mode="native") as envs:
        observations, _ = envs.reset(seed=1)
        assert envs.observation_space.contains(observations)
        observations, rewards, terminated, truncated, infos = envs.step(np.zeros(4, np.int64))
        assert envs.observation_space.contains(observations)
        assert rewards.shape == terminated.shape == truncated.shape == (4,)
        assert isinstance(infos, dict)


def test_native_refuses_calls_of_some_sub_environments():
    with (
        auto_make_vec("CartPole-v1", 4, mode="native") as envs,
        pytest.raises(VecselectError, match="native"),
    ):
        envs.get_attr("length", indices=[1])
