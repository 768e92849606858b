"""RLlib makes its environments by vecselect, through `vector_entry_point`, and trains on them."""

from __future__ import annotations

import gymnasium as gym
import pytest

rllib = pytest.importorskip("ray.rllib", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore", "default::vecselect.VecselectWarning")


@pytest.fixture
def cluster():
    import ray

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


def test_ppo_learns(cluster, fast_cartpole):
    from ray.rllib.algorithms.ppo import PPOConfig

    config = PPOConfig().environment(fast_cartpole)
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
