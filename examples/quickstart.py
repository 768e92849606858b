"""Lets vecselect choose how to run eight Pendulums, and prints why."""

from vecselect import auto_make_vec


def main() -> None:
    with auto_make_vec("Pendulum-v1", 8) as envs:
        print(envs.report)
        observations, _ = envs.reset(seed=1)
        for _ in range(200):
            observations, rewards, terminated, truncated, infos = envs.step(
                envs.action_space.sample()
            )
        print(f"observations of shape {observations.shape}, mean reward {rewards.mean():.2f}")
        print(f"{envs.stats().env_steps_per_s:,.0f} env steps/s, sampling of actions included")


if __name__ == "__main__":
    main()
