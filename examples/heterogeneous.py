"""Three Pendulums on three planets: one callable per sub-environment."""

import gymnasium as gym
import numpy as np

from vecselect import auto_make_vec

GRAVITIES = {"Moon": 1.62, "Earth": 9.81, "Jupiter": 24.79}


def main() -> None:
    env_fns = [lambda g=g: gym.make("Pendulum-v1", g=g) for g in GRAVITIES.values()]
    with auto_make_vec(env_fns) as envs:
        observations, _ = envs.reset(seed=[1, 1, 1])
        print(f"{envs.mode}: observations of shape {observations.shape}")
        returns = np.zeros(len(env_fns))
        for _ in range(200):
            _, rewards, *_ = envs.step(np.zeros((3, 1), np.float32))
            returns += rewards
        for planet, g, total in zip(GRAVITIES, envs.get_attr("g"), returns, strict=True):
            print(f"{planet:>8}: g = {g:5.2f}, return without torque {total:8.1f}")


if __name__ == "__main__":
    main()
