"""The three places a mode can be pinned in, the strongest first; a pin measures nothing."""

import os

from vecselect import ModeUnavailable, auto_make_vec, pinned


def main() -> None:
    with auto_make_vec("Pendulum-v1", 2, mode="async") as envs:
        print("argument:   ", envs.mode)

    with pinned("sync"), auto_make_vec("Pendulum-v1", 2) as envs:
        print("pinned():   ", envs.mode, "because of", envs.plan.pinned_by)

    os.environ["VECSELECT_MODE"] = "sync"
    with auto_make_vec("Pendulum-v1", 2) as envs:
        print("environment:", envs.mode, "because of", envs.plan.pinned_by)

    try:
        auto_make_vec("Pendulum-v1", 2, mode="native")
    except ModeUnavailable as error:
        print("never another mode instead:", error)


if __name__ == "__main__":
    main()
