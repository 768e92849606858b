"""Mode `ray` returns what `SyncVectorEnv` returns: the contract of all modes, in fewer actors."""

import functools
import gc

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


class OneActor(VectorEnvContract):
    mode = "ray:1"


class TwoActors(VectorEnvContract):
    mode = "ray:2"


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()  # what was there before is left alone
    ray.shutdown()
    gc.collect()


@pytest.mark.parametrize("id", ["FrozenLake-v1", "HalfCheetah-v5"])
def test_stock_environments(id):
    TwoActors().test_stock_environments_equal_the_loop_in_every_autoreset_mode(id)


@pytest.mark.parametrize("lane_mode", ["sync", "pool:1"])
@pytest.mark.parametrize("autoreset_mode", AutoresetMode)
def test_infos_in_every_autoreset_mode(autoreset_mode, lane_mode):
    options = {"autoreset_mode": autoreset_mode}
    fns = echoes(5, zoo.InfoEnv)
    reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
    with auto_make_vec(
        fns, mode="ray:2", vector_kwargs={**options, "lane_mode": lane_mode, "num_cpus": 1}
    ) as envs:
        assert_same_run(envs, SyncVectorEnv(fns, **options), 40, reset=reset)


EVERYTHING = spaces.Dict({name.replace(" ", "_"): zoo.SPACES[name] for name in zoo.SPACES})


@pytest.mark.parametrize("name", ["everything", "text", "graph", "tuple", "discrete"])
def test_observations_of_any_space(name):
    space = EVERYTHING if name == "everything" else zoo.SPACES[name]
    fns = samples(space)
    with auto_make_vec(fns, mode="ray:2") as envs:
        oracle = SyncVectorEnv(fns)
        assert envs.observation_space == oracle.observation_space
        assert_same_run(envs, oracle, 12)


@pytest.mark.parametrize("lane_mode", ["sync", "pool:1"])
def test_any_space_in_a_lane_of_a_pool(lane_mode):
    fns = samples(EVERYTHING, 4)
    with auto_make_vec(
        fns, mode="ray:1", vector_kwargs={"lane_mode": lane_mode, "copy": False}
    ) as envs:
        assert_same_run(envs, SyncVectorEnv(fns, copy=False), 6)


@pytest.mark.parametrize("name", zoo.ACTION_SPACES)
def test_actions_of_any_space(name):
    fns = [functools.partial(zoo.ActionEnv, zoo.ACTION_SPACES[name])] * 3
    lane_mode = "pool:1" if name in ("box", "dict") else "sync"
    with auto_make_vec(fns, mode="ray:1", vector_kwargs={"lane_mode": lane_mode}) as envs:
        assert_same_run(envs, SyncVectorEnv(fns), 8)


@pytest.mark.parametrize("lane_mode", ["sync", "pool:1"])
def test_seeds_masks_options_calls_and_halves_in_one_vector_environment(lane_mode):
    fns = echoes(4)
    with auto_make_vec(fns, mode="ray:2", vector_kwargs={"lane_mode": lane_mode}) as envs:
        oracle = SyncVectorEnv(fns)
        for seed in (None, 5, [3, None, 9, 2]):
            assert_same(envs.reset(seed=seed), oracle.reset(seed=seed))
        mask = np.array([True, False, False, True])

        def now_and_then(step, done):
            options = {"reset_mask": mask, "deep": 1}
            return {"seed": step, "options": options} if step % 3 == 1 else None

        assert_same_run(envs, oracle, 12, reset=now_and_then)
        for vector in (envs, oracle):
            vector.reset(seed=1)
        assert envs.call("double", 4, plus=1) == oracle.call("double", 4, plus=1) == (9, 10, 11, 12)
        envs.set_attr("label", ["a", "b", "c", "d"])
        assert envs.get_attr("label") == ("a", "b", "c", "d")
        assert envs.call("double", 4, indices=[2]) == (10,)
        envs.set_attr("label", ["x"], indices=[3])
        assert envs.get_attr("label") == ("a", "b", "c", "x")
        assert_same(envs.render(), oracle.render())
        envs.reset_async(seed=4)
        assert_same(envs.reset_wait(), oracle.reset(seed=4))
        for step in range(8):
            actions = np.array([step % 10, 1, 2, 3])
            envs.step_async(actions)
            assert_same(envs.step_wait(), oracle.step(actions))
        with pytest.raises(ValueError, match=r"call\('reset'\)"):
            envs.call("reset")
        assert envs.call("double", 1) == oracle.call("double", 1)


def test_arrays_are_the_caller_s_to_keep():
    OneActor().test_returned_arrays_never_change_later()


def test_different_bounds():
    TwoActors().test_different_bounds_batch_under_observation_mode_different()


def test_wrappers_and_the_spec():
    OneActor().test_wrappers_of_single_environments_are_applied()
    OneActor().test_the_spec_makes_the_same_environments_again()


def test_environments_without_a_module_are_sent():
    class Local(gym.Env):
        observation_space = spaces.Box(0, 1, (2,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.random(2, dtype=np.float32), {"me": Fraction(1, 3)}

        def step(self, action):
            return self.np_random.random(2, dtype=np.float32), 1.0, False, False, {}

    from fractions import Fraction

    with auto_make_vec(Local, 2, mode="ray:2") as envs:
        assert_same_run(envs, SyncVectorEnv([Local] * 2), 4)


class Stubborn(zoo.EchoEnv):
    def close(self):
        raise KeyError(f"no end for {self.index}")


@pytest.mark.parametrize("lane_mode", ["sync", "pool:1"])
def test_what_close_raises_is_written_to_stderr(capfd, lane_mode):
    envs = auto_make_vec(
        echoes(2, Stubborn), mode="ray:1", vector_kwargs={"lane_mode": lane_mode, "num_cpus": 1}
    )
    envs.close()
    row = 1 if lane_mode == "sync" else 0  # of the actor's own the last; others write to Ray's logs
    assert (
        f"sub-environment {row} raised KeyError in close(): 'no end for {row}'"
        in capfd.readouterr().err
    )


def test_spaces_that_do_not_go_together_name_the_sub_environment():
    fns = samples(zoo.SPACES["discrete"], 2) + samples(zoo.SPACES["text"], 1)
    with pytest.raises(RuntimeError, match="Sub-environment 2 has the observation space Text"):
        auto_make_vec(fns, mode="ray:2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_workers": 0}, "num_workers is 0"),
        ({"lane_mode": "async"}, "lane_mode is 'async'"),
        ({"num_workers": 3}, "'ray:2' and vector_kwargs num_workers=3 ask for different numbers"),
        ({"address": "10.0.0.1:99"}, "connected to the Ray at"),
        ({"context": "fork"}, "it takes no vector_kwargs context"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(RequestError, match=words):
        auto_make_vec("CartPole-v1", 4, mode="ray:2", vector_kwargs=options)


@pytest.mark.parametrize("mode", ["ray:0", "ray:2:sleep", "ray:x"])
def test_names_that_cannot_be_are_refused(mode):
    with pytest.raises(RequestError, match="ray"):
        auto_make_vec("CartPole-v1", 4, mode=mode)


def test_its_options_are_refused_by_other_modes():
    with pytest.raises(RequestError, match="it takes no vector_kwargs num_workers"):
        auto_make_vec("CartPole-v1", 4, mode="pool:1", vector_kwargs={"num_workers": 2})


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
