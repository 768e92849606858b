"""Mode `ray` returns what `SyncVectorEnv` returns: the contract of all modes, in fewer actors."""

import gc
from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests import zoo
from tests.ray_support import QUIET
from vecselect import RequestError, auto_make_vec
from vecselect.testing.contract import (
    VectorEnvContract,
    assert_same,
    assert_same_run,
    echoes,
    masked_reset,
    samples,
)

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.full, *(pytest.mark.filterwarnings(text) for text in QUIET)]


class Sync(VectorEnvContract):
    mode = "ray:2"


class Beside(VectorEnvContract):
    """An actor, and a worker process beside it."""

    mode = "ray:1"
    vector_kwargs = {"lane_mode": "pool:1", "num_cpus": 1}


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()  # what was there before is left alone
    ray.shutdown()
    gc.collect()


@pytest.mark.parametrize("lanes", [Sync, Beside])
@pytest.mark.parametrize(
    "name",
    [
        "test_options_and_a_mask_reach_the_sub_environments",
        "test_call_get_attr_and_set_attr_reach_every_sub_environment",
        "test_some_sub_environments_are_reached_in_the_order_of_the_indices",
        "test_some_are_set_or_none_of_them",
        "test_split_calls_do_what_the_joined_ones_do",
    ],
)
def test_calls(lanes, name):
    getattr(lanes(), name)()


@pytest.mark.parametrize(
    "name",
    [
        "test_returned_arrays_never_change_later",
        "test_different_bounds_batch_under_observation_mode_different",
        "test_wrappers_of_single_environments_are_applied",
        "test_the_spec_makes_the_same_environments_again",
    ],
)
def test_results(name):
    getattr(Sync(), name)()


@pytest.mark.parametrize("id", ["FrozenLake-v1", "HalfCheetah-v5"])
def test_stock_environments(id):
    Sync().test_stock_environments_equal_the_loop_in_every_autoreset_mode(id)


@pytest.mark.parametrize("lanes", [Sync, Beside])
@pytest.mark.parametrize("autoreset_mode", AutoresetMode)
def test_infos_in_every_autoreset_mode(autoreset_mode, lanes):
    envs, oracle = lanes().pair(echoes(5, zoo.InfoEnv), autoreset_mode=autoreset_mode)
    with envs:
        reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
        assert_same_run(envs, oracle, 40, reset=reset)


SPACES = {
    "everything": spaces.Dict({name.replace(" ", "_"): zoo.SPACES[name] for name in zoo.SPACES}),
    **{name: zoo.SPACES[name] for name in ("text", "graph", "tuple", "discrete")},
}


@pytest.mark.parametrize(
    ("lanes", "copy", "name"),
    [*((Sync, True, name) for name in SPACES), (Sync, False, "everything")]
    + [(Beside, copy, "everything") for copy in (True, False)],
)
def test_observations_of_any_space(lanes, copy, name):
    envs, oracle = lanes().pair(samples(SPACES[name]), copy=copy)
    with envs:
        assert envs.observation_space == oracle.observation_space
        assert_same_run(envs, oracle, 12)


@pytest.mark.parametrize("name", zoo.ACTION_SPACES)
def test_actions_of_any_space(name):
    lanes = Beside() if name in ("box", "dict") else Sync()
    lanes.test_each_sub_environment_gets_its_action_as_the_loop_gives_it(name)


def test_environments_without_a_module_are_sent():
    class Local(gym.Env):
        observation_space = spaces.Box(0, 1, (2,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.random(2, dtype=np.float32), {"me": Fraction(1, 3)}

        def step(self, action):
            return self.np_random.random(2, dtype=np.float32), 1.0, False, False, {}

    with auto_make_vec(Local, 2, mode="ray:2") as envs:
        assert_same_run(envs, SyncVectorEnv([Local] * 2), 4)


def test_spaces_that_do_not_go_together_name_the_sub_environment():
    fns = samples(zoo.SPACES["discrete"], 2) + samples(zoo.SPACES["text"], 1)
    with pytest.raises(RuntimeError, match="Sub-environment 2 has the observation space Text"):
        auto_make_vec(fns, mode="ray:2")


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("ray:2", {"num_workers": 0}, "num_workers is 0"),
        ("ray:2", {"lane_mode": "async"}, "lane_mode is 'async'"),
        ("ray:2", {"num_workers": 3}, "num_workers=3 ask for different numbers"),
        ("ray:2", {"address": "10.0.0.1:99"}, "connected to the Ray at"),
        ("ray:2", {"context": "fork"}, "it takes no vector_kwargs context"),
        ("ray:2:sleep", {}, "ray"),
        ("pool:1", {"num_workers": 2}, "it takes no vector_kwargs num_workers"),
    ],
)
def test_what_cannot_be_is_refused(mode, options, words):
    with pytest.raises(RequestError, match=words):
        auto_make_vec("CartPole-v1", 4, mode=mode, vector_kwargs=options)


def test_buffers_have_actors_that_share_the_cpus():
    """In lockstep, and one by one, with the same bits as the loop."""
    with auto_make_vec(echoes(4), mode="ray:2", buffers=2) as envs:
        oracle = SyncVectorEnv(echoes(4))
        assert_same_run(envs, oracle, 6)
        free = ray.available_resources()["CPU"]
        assert free == ray.cluster_resources()["CPU"] - 2
        first, second = envs.buffers
        envs.reset(seed=3)
        expected = (oracle.reset(seed=3), oracle.step(np.array([1, 2, 3, 4])))[1]
        second.step_async(np.array([3, 4]))
        first.step_async(np.array([1, 2]))
        for half in (first, second):
            result = half.step_wait()
            for ours, theirs in zip(result[:4], expected[:4], strict=True):
                assert_same(ours, theirs[half.rows])
