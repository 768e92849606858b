"""Trains CartPole by skrl's PPO.

Only the line that makes the vector environment is another; `wrap_env` takes what it returns as it
takes Gymnasium's own. Needs `pip install skrl torch`.
"""

import numpy as np
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from skrl import logger
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model

from vecselect import auto_make_vec


def main(seed=1):
    logger.setLevel("WARNING")
    set_seed(seed)
    torch.set_num_threads(1)  # small networks gain nothing by more, and workers need the cores
    envs = auto_make_vec("CartPole-v1", 16)
    print(f"CartPole runs in mode {envs.mode}")
    statistics = RecordEpisodeStatistics(envs)
    env = wrap_env(statistics, verbose=False)

    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    layers = {"name": "net", "input": "OBSERVATIONS", "layers": [64, 64], "activations": "tanh"}
    agent = PPO(
        models={
            "policy": categorical_model(network=[layers], output="ACTIONS", **spaces),
            "value": deterministic_model(network=[layers], output="ONE", **spaces),
        },
        memory=RandomMemory(memory_size=64, num_envs=env.num_envs),
        cfg=PPO_CFG(
            rollouts=64,
            learning_epochs=8,
            mini_batches=4,
            discount_factor=0.98,
            learning_rate=1e-3,
            entropy_loss_scale=0.01,
            value_loss_scale=0.5,
            value_clip=0,
            time_limit_bootstrap=True,
            experiment={"write_interval": 0, "checkpoint_interval": 0},
        ),
        **spaces,
    )

    quiet = {"headless": True, "disable_progressbar": True, "stochastic_evaluation": True}
    training = SequentialTrainer(env=env, agents=agent, cfg={"timesteps": 2500, **quiet})
    evaluation = SequentialTrainer(env=env, agents=agent, cfg={"timesteps": 600, **quiet})
    for when in ("before", "after"):
        if when == "after":
            training.train()
        statistics.return_queue.clear()
        evaluation.eval()
        print(f"PPO {when} training: mean return {np.mean(statistics.return_queue):.0f}")
    env.close()


if __name__ == "__main__":
    main()
