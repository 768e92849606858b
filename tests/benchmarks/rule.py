"""What the ~1 ms rule says, and what `sync` and `async` then really do, in one interleaved run.

Run from the repository's root: python -m tests.benchmarks.rule
"""

from __future__ import annotations

from gymnasium.utils.performance import benchmark_step

from tests import zoo
from tests.benchmarks.blocks import median_rates
from vecselect import Report, auto_make_vec, recommend

CASES = [
    ("Pendulum-v1", 8),
    ("CartPole-v1", 8),
    ("HalfCheetah-v5", 8),
    ("CarRacing-v3", 4),
    (zoo.BusyEnv, 4),
]


def main() -> None:
    rows = []
    for id, num_envs in CASES:
        plan = recommend(id, num_envs)
        print(Report(plan), "\n")
        env = auto_make_vec(id, 1, mode="sync").unwrapped.envs[0]
        plain = benchmark_step(env, target_duration=2, seed=1)
        env.close()
        rates = median_rates(
            {
                mode: lambda id=id, n=num_envs, mode=mode: auto_make_vec(id, n, mode=mode).unwrapped
                for mode in ("sync", "async")
            }
        )
        rows.append((plan, rates, plain))
    print(f"{'environment':>18} {'rule':>6} {'right':>6} " + f"{'sync':>18} {'async':>18}", end="")
    print(f" {'benchmark_step':>18}   (measured / predicted)")
    for plan, rates, plain in rows:
        best = max(rates, key=rates.get)
        predicted = {c.mode: c.vector_step_s for c in plan.candidates}
        cells = [f"{rates[m]:8.0f} / {plan.num_envs / predicted[m]:<8.0f}" for m in rates]
        cells.append(f"{plain:8.0f} / {plan.profile.plain_steps_per_s:<8.0f}")
        right = "yes" if best == plan.mode else f"{rates[best] / rates[plan.mode]:.2f}x"
        print(f"{plan.env + ' x ' + str(plan.num_envs):>18} {plan.mode:>6} {right:>6}", *cells)


if __name__ == "__main__":
    main()
