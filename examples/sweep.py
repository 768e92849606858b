"""How many sub-environments are worth it, and in which mode?

`vecselect sweep CartPole-v1` asks the same from a shell.
"""

from vecselect import SweepReport, sweep


def main() -> None:
    found = sweep("CartPole-v1", (1, 4, 16), modes=("sync", "pool:1"), budget_s=5)
    print(SweepReport(found))
    best = found.recommended
    assert best is not None
    print(f"\nrecommended: {best.mode} with {best.num_envs} sub-environments")
    # With `pip install vecselect[plot]` the same as a plot: SweepReport(found).save("sweep.svg")


if __name__ == "__main__":
    main()
