"""Trains a linear policy on CartPole with numpy alone, by the cross-entropy method.

Each sub-environment of the batch plays one candidate policy; the best ones make the next batch.
"""

import numpy as np

from vecselect import auto_make_vec

POLICIES = 24
ELITE = 6
GENERATIONS = 8
STEPS = 500


def play(envs, weights, seed):
    """The length of each policy's episode; `weights` has shape (policies, 4)."""
    observations, _ = envs.reset(seed=seed)
    lengths = np.zeros(len(weights))
    running = np.ones(len(weights), bool)
    for _ in range(STEPS):
        actions = ((observations * weights).sum(axis=1) > 0).astype(np.int64)
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        lengths += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    return lengths


def main() -> None:
    random = np.random.default_rng(0)
    mean, spread = np.zeros(4), np.ones(4)
    with auto_make_vec("CartPole-v1", POLICIES) as envs:
        print(f"running in mode {envs.mode}")
        for generation in range(GENERATIONS):
            weights = mean + spread * random.standard_normal((POLICIES, 4))
            lengths = play(envs, weights, seed=1000 * generation)
            elite = weights[np.argsort(lengths)[-ELITE:]]
            mean, spread = elite.mean(axis=0), elite.std(axis=0) + 0.05
            print(f"generation {generation}: mean return {lengths.mean():.0f}")
        final = play(envs, np.tile(mean, (POLICIES, 1)), seed=10**6).mean()
        print(f"final policy: mean return {final:.0f} of {STEPS}")


if __name__ == "__main__":
    main()
