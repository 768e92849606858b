"""The contract where Python lacks what only Linux has: see `systems/lacking.py`."""

import faulthandler
import os
from pathlib import Path

import pytest

from tests.processes import run_program

ROOT = Path(__file__).parent.parent
SYSTEMS = ("macos", "windows")
CONTRACT = ("Sync", "Async", "Pool", "Thread")  # the classes of test_contract.py

SCRIPT = """
import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv
from vecselect import auto_make_vec
from vecselect.testing.contract import assert_same, assert_same_run

class Named(gym.Wrapper):
    name = "of the script"

def now_and_then(step, ended):
    mask = {"reset_mask": np.arange(2) == step % 2}
    return {"seed": step, "options": mask} if step % 3 == 1 else None

make = lambda: Named(gym.make("CartPole-v1"))
for mode in ("pool:1", "async", "thread:1", "auto"):
    with auto_make_vec(make, 2, mode, use_store=False) as envs:
        oracle = SyncVectorEnv([make] * 2)
        assert_same_run(envs, oracle, 12, reset=now_and_then)
        envs.step_async([0, 1])
        assert_same(envs.step_wait(), oracle.step([0, 1]))
        print(mode, *envs.get_attr("name"), sep=", ")
"""


def run(system, *arguments, limit_s=60):
    folders = [str(ROOT / "tests" / "systems" / system), str(ROOT)]
    variables = {"PYTHONPATH": os.pathsep.join(folders)}
    done = run_program(*arguments, limit_s=limit_s, variables=variables, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.full
@pytest.mark.parametrize("name", CONTRACT)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_contract_holds(system, name):
    # A whole contract of new interpreters takes minutes on a busy machine: `limit_s` ends it.
    faulthandler.cancel_dump_traceback_later()
    # Of the stock environments one in Python and one in C: what they run on is the same for all.
    tests = "not stock_environments or CartPole or HalfCheetah"
    options = ["-p", "no:cacheprovider", "-m", "", "-k", tests]
    run(system, "-m", "pytest", *options, f"tests/test_contract.py::Test{name}", limit_s=600)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_script_needs_no_guard_and_gets_what_the_loop_gives(system, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run(system, script)
    modes = ("pool:1", "async", "thread:1", "auto")
    assert done.stdout.splitlines() == [f"{mode}, of the script, of the script" for mode in modes]
    assert done.stderr == ""
