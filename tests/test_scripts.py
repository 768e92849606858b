"""Used as people use it: scripts without a guard, `python -c`, standard input, lambdas."""

import subprocess
import sys

import pytest

SCRIPT = """
import gymnasium as gym
import numpy as np
from vecselect import auto_make_vec

print("started")
OFFSET = 10.0


class Here(gym.Env):
    observation_space = gym.spaces.Box(-100, 100, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([OFFSET]), {}

    def step(self, action):
        return np.array([OFFSET + action]), 1.0, False, False, {}


gym.register("Here-v0", entry_point="__main__:Here")
gym.register("Lambda-v0", entry_point=lambda: Here())
local = 3
for id in (Here, lambda: Here(), [lambda i=i: Here() for i in range(2)], "Here-v0", "Lambda-v0"):
    num_envs = None if isinstance(id, list) else 2
    for mode in MODES:
        envs = auto_make_vec(id, num_envs, mode, **OPTIONS)
        envs.reset(seed=1)
        print(envs.step(np.array([0, 1]))[0].ravel().tolist())
        envs.close()
print("finished")
"""


def script(modes, **options):
    return SCRIPT.replace("MODES", repr(modes)).replace("OPTIONS", repr(options))


def check(done, expected):
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "started" and lines[-1] == "finished"
    assert lines.count("started") == 1
    assert lines[1:-1] == ["[10.0, 11.0]"] * expected


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_a_script_needs_no_guard(tmp_path, context):
    path = tmp_path / "script.py"
    path.write_text(script(["async"], vector_kwargs={"context": context}))
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=100, check=False
    )
    check(done, 5)


def test_measuring_needs_no_guard(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(script(["auto"], budget_s=0.05))
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=100, check=False
    )
    check(done, 5)


def test_a_command_line_program_works():
    done = subprocess.run(
        [sys.executable, "-c", script(["async", "sync"])],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    check(done, 10)


def test_a_program_on_standard_input_works():
    done = subprocess.run(
        [sys.executable, "-"],
        input=script(["async"]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    check(done, 5)
