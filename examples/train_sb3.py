"""Trains Stable-Baselines3's PPO on CartPole and its SAC on Pendulum.

Only the line that makes the vector environment is another. Needs `pip install 'vecselect[sb3]'`.
"""

import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy

from vecselect.sb3 import make_vec_env


def train(name, model, steps):
    envs = model.get_env()
    for when in ("before", "after"):
        if when == "after":
            model.learn(steps)
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=16, deterministic=False)
        print(f"{name} {when} training: mean return {mean:.0f}")
    envs.close()


def main():
    torch.set_num_threads(1)  # small networks gain nothing by more, and workers need the cores

    envs = make_vec_env("CartPole-v1", 8)
    print(f"CartPole runs in mode {envs.envs.mode}")
    ppo = PPO(
        "MlpPolicy",
        envs,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        n_steps=32,
        batch_size=256,
        n_epochs=15,
        gae_lambda=0.8,
        gamma=0.98,
        seed=0,
        device="cpu",
    )
    train("PPO", ppo, 30_000)

    envs = make_vec_env("Pendulum-v1", 4)
    print(f"Pendulum runs in mode {envs.envs.mode}")
    sac = SAC(
        "MlpPolicy",
        envs,
        learning_rate=2e-3,
        learning_starts=400,
        gradient_steps=3,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    )
    train("SAC", sac, 6_000)


if __name__ == "__main__":
    main()
