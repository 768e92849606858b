"""PPO with two buffers: one half of the batch steps while the networks look at the other.

Needs torch. The algorithm is that of `ppo_cleanrl_style.py`; what differs is the rollout. It pays
where the learner waits, as for a GPU, or has cores of its own: `envs.plan.overlap` says beforehand.
"""

import itertools
import time

import numpy as np
import torch
from ppo_cleanrl_style import ENV_ID, LEARNING_RATE, NUM_STEPS, SEED, Agent, advantages_of, update

from vecselect import auto_make_vec

NUM_ENVS = 8
NUM_UPDATES = 60


class Rollout:
    """The transitions of one half, time first."""

    def __init__(self, half, observation):
        self.half, self.observation = half, torch.as_tensor(observation)
        shape = (NUM_STEPS, half.num_envs)
        self.observations = torch.zeros(shape + half.single_observation_space.shape)
        self.actions = torch.zeros(shape, dtype=torch.int64)
        zeros = (torch.zeros(shape) for _ in range(6))
        self.log_probs, self.rewards, self.values, self.terminated, self.ended, self.real = zeros
        self.over = torch.zeros(half.num_envs)  # who ended in the step before: reset in the next
        self.scores, self.returns = np.zeros(half.num_envs), []

    @torch.no_grad()
    def act(self, agent, step):
        """Begins a step with what the policy says."""
        self.observations[step], self.real[step] = self.observation, 1 - self.over
        policy = agent.policy(self.observation)
        self.actions[step] = policy.sample()
        self.log_probs[step] = policy.log_prob(self.actions[step])
        self.values[step] = agent.value(self.observation)
        self.half.step_async(self.actions[step].numpy())

    def see(self, step):
        """Waits for the step, and keeps what came of it."""
        observation, rewards, terminations, truncations, _ = self.half.step_wait()
        self.observation, self.rewards[step] = (
            torch.as_tensor(observation),
            torch.as_tensor(rewards),
        )
        self.terminated[step] = torch.as_tensor(terminations)
        ended = terminations | truncations
        self.over = torch.as_tensor(ended).float()
        self.ended[step] = torch.maximum(self.over, 1 - self.real[step])
        self.scores += rewards
        self.returns += self.scores[ended].tolist()
        self.scores[ended] = 0.0

    @torch.no_grad()
    def batch(self, agent):
        last_value = agent.value(self.observation)
        advantages = advantages_of(
            self.rewards, self.values, self.terminated, self.ended, last_value
        )
        kept = self.real.bool()
        parts = (self.observations, self.actions, self.log_probs)
        return [part[kept] for part in (*parts, advantages, advantages + self.values)]


def main():
    random = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    envs = auto_make_vec(ENV_ID, NUM_ENVS, buffers=2, learner_threads="auto")
    print(f"{NUM_ENVS} of {ENV_ID} in mode {envs.mode}, two buffers")
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    observations, _ = envs.reset(seed=SEED)
    rollouts = [Rollout(half, observations[half.rows]) for half in envs.buffers]
    start_s = time.perf_counter()
    for number in range(1, NUM_UPDATES + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - (number - 1) / NUM_UPDATES)
        with envs.collecting():
            for rollout in rollouts:
                rollout.act(agent, 0)
            for step in range(1, NUM_STEPS):
                for rollout in rollouts:  # while this one is looked at, the other one steps
                    rollout.see(step - 1)
                    rollout.act(agent, step)
            for rollout in rollouts:
                rollout.see(NUM_STEPS - 1)
        batches = zip(*(rollout.batch(agent) for rollout in rollouts), strict=True)
        update(agent, optimizer, [torch.cat(parts) for parts in batches], random)
        if number == 1 or number % 10 == 0:
            rate = number * NUM_STEPS * NUM_ENVS / (time.perf_counter() - start_s)
            returns = itertools.chain(*(rollout.returns[-10:] for rollout in rollouts))
            print(f"update {number}: mean return {np.mean(list(returns)):.0f}, ", end="")
            print(f"{rate:.0f} env steps/s")
    envs.close()


if __name__ == "__main__":
    main()
