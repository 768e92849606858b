"""TorchRL, skrl, RLlib and tensors: they take an `AutoVectorEnv` as they take a `SyncVectorEnv`."""

from __future__ import annotations

import functools

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vecselect import auto_make_vec
from vecselect.testing.contract import assert_same

torch = pytest.importorskip("torch", exc_type=ImportError)

MODES = ["sync", "pool:0", "pool:1", "async", "thread:1"]
PENDULUM = functools.partial(gym.make, "Pendulum-v1", max_episode_steps=12)
CARTPOLE = functools.partial(gym.make, "CartPole-v1", max_episode_steps=12)


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def pair(make, mode, **options):
    """The mode under test and the oracle over the same callables."""
    envs = auto_make_vec(make, 3, mode, vector_kwargs=options)
    return envs, SyncVectorEnv([make] * 3, **options)


def test_tensors_come_out_the_same(mode):
    pytest.importorskip("array_api_compat", exc_type=ImportError)
    from gymnasium.wrappers.vector import NumpyToTorch

    envs, oracle = map(NumpyToTorch, pair(PENDULUM, mode))
    for each in (envs, oracle):
        each.reset(seed=1)
    for _ in range(15):
        actions = torch.zeros(3, 1)
        for actual, expected in zip(envs.step(actions)[:4], oracle.step(actions)[:4], strict=True):
            assert actual.dtype == expected.dtype
            assert torch.equal(actual, expected)
    envs.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("autoreset_mode", [AutoresetMode.DISABLED, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("make", [PENDULUM, CARTPOLE])
def test_torchrl_rolls_out_the_same(make, autoreset_mode, mode):
    pytest.importorskip("torchrl", exc_type=ImportError)
    from torchrl.envs import GymWrapper

    rollouts = []
    for envs in pair(make, mode, autoreset_mode=autoreset_mode):
        wrapped = GymWrapper(envs)
        assert wrapped.batch_size == (3,)
        wrapped.set_seed(5)
        torch.manual_seed(2)
        rollouts.append(wrapped.rollout(40, break_when_any_done=False))
        wrapped.close()
    actual, expected = rollouts
    assert actual.shape == (3, 40)
    assert expected["next", "done"].any()
    keys = set(expected.keys(True, True))
    assert set(actual.keys(True, True)) == keys
    for key in keys:
        assert torch.equal(actual[key], expected[key]), key


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_torchrl_collects_batches(mode):
    pytest.importorskip("torchrl", exc_type=ImportError)
    from torchrl import collectors
    from torchrl.envs import GymWrapper

    envs, _ = pair(CARTPOLE, mode, autoreset_mode=AutoresetMode.DISABLED)
    kind = getattr(collectors, "SyncDataCollector", None) or collectors.Collector  # until 0.11
    collector = kind(GymWrapper(envs), frames_per_batch=60, total_frames=180)
    batches = list(collector)
    assert [batch.numel() for batch in batches] == [60] * 3
    collector.shutdown()


@pytest.mark.parametrize("make", [PENDULUM, CARTPOLE])
def test_skrl_wraps_and_steps_the_same(make, mode):
    pytest.importorskip("skrl", exc_type=ImportError)
    from skrl import config
    from skrl.envs.wrappers.torch import wrap_env

    config.torch.key = 4
    found = []
    options = {} if mode.startswith("thread") else {"render_mode": "rgb_array"}  # which it refuses
    for envs in pair(functools.partial(make, **options), mode):
        wrapped = wrap_env(envs, verbose=False)
        assert type(wrapped).__name__ == "GymnasiumWrapper"
        assert wrapped.num_envs == 3
        envs.action_space.seed(1)
        results = [wrapped.reset()[0]]
        for _ in range(20):
            actions = torch.as_tensor(envs.action_space.sample()).view(3, -1)
            results += wrapped.step(actions)[:4]
        if options:
            assert_same(len(wrapped.render()), 3)
        found.append([result.numpy(force=True) for result in results])
        wrapped.close()
    assert_same(*found)


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray", exc_type=ImportError)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    yield
    ray.shutdown()


@pytest.fixture
def fast_cartpole():
    gym.register(
        "Fast/CartPole-v1",
        vector_entry_point="vecselect:auto_make_vec",
        kwargs={"id": "CartPole-v1", "mode": "pool:1"},
    )
    yield "Fast/CartPole-v1"
    del gym.registry["Fast/CartPole-v1"]


@pytest.mark.filterwarnings("ignore", "default::vecselect.VecselectWarning")
def test_rllib_learns(cluster, fast_cartpole):
    """It makes its environments by vecselect, through `vector_entry_point`."""
    ppo = pytest.importorskip("ray.rllib.algorithms.ppo", exc_type=ImportError)
    config = ppo.PPOConfig().environment(fast_cartpole)
    config.env_runners(
        num_env_runners=0, num_envs_per_env_runner=4, gym_env_vectorize_mode="vector_entry_point"
    )
    config.training(train_batch_size_per_learner=1000, minibatch_size=250, num_epochs=6, lr=1e-3)
    config.learners(num_learners=0).debugging(seed=1)
    algorithm = config.build_algo()
    try:
        envs = algorithm.env_runner.env
        assert isinstance(envs, gym.wrappers.vector.DictInfoToList)
        assert envs.env.mode == "pool:1"
        assert envs.num_envs == 4
        found = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(8)]
    finally:
        algorithm.stop()
    assert found[-1] > 2 * found[0]
