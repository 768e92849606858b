"""Trains CartPole by RLlib's PPO.

RLlib makes its vector environments itself, from an id. So vecselect is named where the id is
registered, and RLlib is told to look there. Needs `pip install 'ray[rllib]' torch`.
"""

import logging

import gymnasium as gym
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig

UPDATES = 8


def main(seed=1):
    torch.set_num_threads(1)  # small networks gain nothing by more, and workers need the cores
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")

    gym.register(
        "Fast/CartPole-v1",
        vector_entry_point="vecselect:auto_make_vec",
        kwargs={"id": "CartPole-v1"},
    )
    config = (
        PPOConfig()
        .environment("Fast/CartPole-v1")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=8,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .training(
            train_batch_size_per_learner=2000,
            minibatch_size=250,
            num_epochs=10,
            lr=1e-3,
            gamma=0.98,
            vf_loss_coeff=0.5,
        )
        .reporting(metrics_num_episodes_for_smoothing=20)
        .debugging(seed=seed)
    )
    algorithm = config.build_algo()
    print(f"CartPole runs in mode {algorithm.env_runner.env.env.mode}")
    returns = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(UPDATES)]
    print(f"PPO before training: mean return {returns[0]:.0f}")  # the first update's
    print(f"PPO after training: mean return {returns[-1]:.0f}")
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
