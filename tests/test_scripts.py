"""Used as people use it: scripts without a guard, `python -c`, standard input, lambdas."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.marks import only_full
from tests.processes import output_of

FULL = pytest.mark.full

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


def check(text, expected):
    lines = text.splitlines()
    assert lines[0] == "started" and lines[-1] == "finished"
    assert lines.count("started") == 1
    assert lines[1:-1] == ["[10.0, 11.0]"] * expected


@pytest.mark.parametrize(
    ("modes", "options", "expected"),
    [
        (["async", "pool:1"], {"vector_kwargs": {"context": "forkserver"}}, 10),
        pytest.param(["async", "pool:1"], {"vector_kwargs": {"context": "spawn"}}, 10, marks=FULL),
        pytest.param(["auto"], {"budget_s": 0.05}, 5, marks=FULL),
    ],
)
def test_a_script_needs_no_guard(tmp_path, modes, options, expected):
    path = tmp_path / "script.py"
    path.write_text(script(modes, **options))
    check(output_of(path), expected)


CELL = f"exec(compile({script(['pool:1'])!r}, '<cell>', 'exec'))"
ODD = {
    "standard input": (["-"], script(["async", "pool:1"]), 10),
    "command line": (["-c", script(["async", "sync", "pool:1"])], None, 15),
    # As in a notebook: code runs line by line in a `__main__` that has no file.
    "interactive": (
        ["-c", f"import code; code.InteractiveConsole(globals()).runsource({CELL!r})"],
        None,
        5,
    ),
}


@pytest.mark.parametrize("how", ["standard input", *only_full("command line", "interactive")])
def test_a_program_needs_no_file(how):
    words, text, expected = ODD[how]
    check(output_of(*words, input=text), expected)


THREADS = """
import threading, numpy as np
from vecselect import auto_make_vec

lock = threading.Lock()
def hold():
    with lock:
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
envs = auto_make_vec("CartPole-v1", 4, mode="pool:1")
envs.reset(seed=1)
for _ in range(20):
    envs.step(np.zeros(4, int))
print("finished")
"""


@pytest.mark.full
def test_threads_of_the_program_do_not_reach_the_workers():
    assert output_of("-c", THREADS) == "finished\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell of POSIX")
def test_a_program_whose_output_is_closed_is_measured_too(tmp_path):
    code = """
import pathlib
from vecselect import auto_make_vec

with auto_make_vec("CartPole-v1", 2, use_store=False) as envs:
    envs.reset(seed=1)
    pathlib.Path("mode").write_text(envs.mode)
"""
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "mode").read_text()
