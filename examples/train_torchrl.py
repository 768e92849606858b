"""Trains CartPole by TorchRL's PPO.

Only the line that makes the vector environment is another. `GymWrapper` resets ended episodes
itself, so it wants a vector environment that does not. Needs `pip install torchrl`.
"""

from statistics import mean

import torch
from gymnasium.vector import AutoresetMode
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Categorical
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper, InitTracker, RewardSum, TransformedEnv
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from vecselect import auto_make_vec

FRAMES, BATCH, MINIBATCH, EPOCHS = 24_000, 1600, 200, 10


def main(seed=1):
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # small networks gain nothing by more, and workers need the cores
    envs = auto_make_vec("CartPole-v1", 8, vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED})
    print(f"CartPole runs in mode {envs.mode}")
    env = GymWrapper(envs, categorical_action_encoding=True)
    env = TransformedEnv(env).append_transform(InitTracker()).append_transform(RewardSum())
    env.set_seed(seed)

    net = {"num_cells": [64, 64], "activation_class": nn.Tanh}
    policy = TensorDictModule(MLP(4, 2, **net), in_keys=["observation"], out_keys=["logits"])
    options = {"distribution_class": Categorical, "return_log_prob": True}
    actor = ProbabilisticActor(policy, in_keys=["logits"], **options)
    critic = ValueOperator(MLP(4, 1, **net), in_keys=["observation"])
    advantage = GAE(gamma=0.98, lmbda=0.95, value_network=critic, average_gae=True)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, critic_coeff=0.5)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)

    collector = Collector(env, actor, frames_per_batch=BATCH, total_frames=FRAMES)
    returns = []
    for batch in collector:
        returns += batch["next", "episode_reward"][batch["next", "done"]].tolist()
        advantage(batch)
        for _ in range(EPOCHS):
            for rows in torch.randperm(BATCH).split(MINIBATCH):
                losses = loss(batch.reshape(-1)[rows])
                total = sum(losses[f"loss_{part}"] for part in ("objective", "critic", "entropy"))
                total.backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
    print(f"PPO before training: mean return {mean(returns[:20]):.0f}")  # from the first batch
    print(f"PPO after training: mean return {mean(returns[-20:]):.0f}")
    collector.shutdown()


if __name__ == "__main__":
    main()
