"""Plans for the loop as it will be, learner included, and finds the plan again the next time."""

import numpy as np

from vecselect import Report, auto_make_vec, recommend

WEIGHTS = np.random.default_rng(0).standard_normal((3, 256)), np.ones((256, 1)) / 256


def policy(observations):
    """A small network in numpy: what this loop does between two steps."""
    return np.tanh(observations @ WEIGHTS[0]) @ WEIGHTS[1]


def main() -> None:
    plan = recommend("Pendulum-v1", 8, learner=policy)
    print(Report(plan))
    print(f"{plan.collection_share:.0%} of the loop is collection: no mode can save more than that")

    with auto_make_vec("Pendulum-v1", 8, learner=policy) as envs:
        print("recalled:", envs.plan.recalled)
        observations, _ = envs.reset(seed=1)
        for _ in range(500):
            observations, *_ = envs.step(policy(observations).astype(np.float32))
        stats = envs.stats()
        print(f"{stats.env_steps_per_s:,.0f} env steps/s; planned {8 / plan.chosen.loop_s:,.0f}")


if __name__ == "__main__":
    main()
