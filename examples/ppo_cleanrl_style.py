"""Trains CartPole by PPO in one file, in the manner of CleanRL, on Gymnasium 1.x; needs torch.

What Gymnasium 1.x changed for such scripts: an episode that ended is reset by the *next* step,
whose transition is none of the game and is left out of the losses; `RecordEpisodeStatistics`
reports ended episodes in `infos["episode"]`, by a mask.
"""

import time

import numpy as np
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn
from torch.distributions import Categorical

from vecselect import auto_make_vec

ENV_ID = "CartPole-v1"
SEED = 1
NUM_ENVS = 8
NUM_STEPS = 128  # vector steps between two updates
NUM_UPDATES = 60
EPOCHS = 4
MINIBATCHES = 4
LEARNING_RATE = 2.5e-3
GAMMA, GAE_LAMBDA = 0.98, 0.95
CLIP, ENTROPY, VALUE, MAX_GRAD_NORM = 0.2, 0.01, 0.5, 0.5


def layer(inputs, outputs, gain=2**0.5):
    made = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(made.weight, gain)
    nn.init.zeros_(made.bias)
    return made


class Agent(nn.Module):
    """A network for the policy and one for the value of observations."""

    def __init__(self, envs):
        super().__init__()
        size = int(np.prod(envs.single_observation_space.shape))
        actions = envs.single_action_space.n
        self.critic = nn.Sequential(
            layer(size, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0)
        )
        self.actor = nn.Sequential(
            layer(size, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, actions, 0.01)
        )

    def value(self, observations):
        return self.critic(observations).squeeze(-1)

    def policy(self, observations):
        return Categorical(logits=self.actor(observations))


def advantages_of(rewards, values, terminated, ended, last_value):
    """Generalized advantage estimates, time first; no advantage runs over an episode's end."""
    advantages = torch.zeros_like(rewards)
    following, advantage = last_value, torch.zeros_like(last_value)
    for step in reversed(range(len(rewards))):
        # After a truncation the value of the last observation stands in for what was cut off.
        delta = rewards[step] + GAMMA * following * (1 - terminated[step]) - values[step]
        advantage = delta + GAMMA * GAE_LAMBDA * (1 - ended[step]) * advantage
        advantages[step], following = advantage, values[step]
    return advantages


def update(agent, optimizer, batch, random):
    """Some epochs of PPO's clipped losses over a batch of transitions."""
    observations, actions, log_probs, advantages, returns = batch
    for _ in range(EPOCHS):
        order = torch.as_tensor(random.permutation(len(observations)))
        for rows in order.chunk(MINIBATCHES):
            policy = agent.policy(observations[rows])
            ratio = (policy.log_prob(actions[rows]) - log_probs[rows]).exp()
            some = advantages[rows]
            some = (some - some.mean()) / (some.std() + 1e-8)
            clipped = torch.max(-some * ratio, -some * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            missed = 0.5 * (agent.value(observations[rows]) - returns[rows]).pow(2).mean()
            loss = clipped - ENTROPY * policy.entropy().mean() + VALUE * missed
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRAD_NORM)
            optimizer.step()


def main():
    random = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    vector_env = auto_make_vec(ENV_ID, NUM_ENVS, learner_threads="auto")
    print(f"{NUM_ENVS} of {ENV_ID} in mode {vector_env.mode}")
    envs = RecordEpisodeStatistics(vector_env)
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)

    shape = (NUM_STEPS, NUM_ENVS)
    observations = torch.zeros(shape + envs.single_observation_space.shape)
    actions = torch.zeros(shape, dtype=torch.int64)
    log_probs, rewards, values, terminated, ended, real = (torch.zeros(shape) for _ in range(6))

    start_s, returns = time.perf_counter(), []
    observation = torch.as_tensor(envs.reset(seed=SEED)[0])
    over = torch.zeros(NUM_ENVS)  # who ended in the step before, and so is reset in the next one
    for number in range(1, NUM_UPDATES + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - (number - 1) / NUM_UPDATES)
        with vector_env.collecting():  # the learner leaves the cores that workers need
            for step in range(NUM_STEPS):
                observations[step], real[step] = observation, 1 - over
                with torch.no_grad():
                    policy = agent.policy(observation)
                    actions[step] = policy.sample()
                    log_probs[step] = policy.log_prob(actions[step])
                    values[step] = agent.value(observation)
                result = envs.step(actions[step].numpy())
                observation, reward, terminations, truncations, infos = result
                observation, rewards[step] = torch.as_tensor(observation), torch.as_tensor(reward)
                terminated[step] = torch.as_tensor(terminations)
                over = torch.as_tensor(terminations | truncations).float()
                # The step that resets carries no advantage from the new episode into the old one.
                ended[step] = torch.maximum(over, 1 - real[step])
                if "episode" in infos:
                    returns += infos["episode"]["r"][infos["_episode"]].tolist()

        with torch.no_grad():
            last_value = agent.value(observation)
        advantages = advantages_of(rewards, values, terminated, ended, last_value)
        kept = real.bool()
        parts = (observations, actions, log_probs, advantages, advantages + values)
        update(agent, optimizer, [part[kept] for part in parts], random)
        if number == 1 or number % 10 == 0:
            rate = number * NUM_STEPS * NUM_ENVS / (time.perf_counter() - start_s)
            recent = np.mean(returns[-20:])
            print(f"update {number}: mean return {recent:.0f}, {rate:.0f} env steps/s")
    envs.close()


if __name__ == "__main__":
    main()
