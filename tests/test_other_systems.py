"""The contract where Python lacks what only Linux has: see `systems/lacking.py`."""

import os
from pathlib import Path

import pytest

from tests.processes import run_program

ROOT = Path(__file__).parent.parent
SYSTEMS = ("macos", "windows")
CONTRACT = ("Sync", "Async", "Pool", "Thread")  # the classes of test_contract.py

SCRIPT = """
import gymnasium as gym
from vecselect import auto_make_vec

class Named(gym.Wrapper):
    name = "of the script"

make = lambda: Named(gym.make("CartPole-v1"))
for mode in ("pool:1", "async", "thread:1", "auto"):
    with auto_make_vec(make, 2, mode, use_store=False) as envs:
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())
        print(mode, *envs.get_attr("name"), sep=", ")
"""


def run(system, *arguments, limit_s=60):
    folders = [str(ROOT / "tests" / "systems" / system), str(ROOT)]
    variables = {"PYTHONPATH": os.pathsep.join(folders)}
    done = run_program(*arguments, limit_s=limit_s, variables=variables, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def contract(system, tests, *classes):
    places = [f"tests/test_contract.py::Test{name}" for name in classes]
    options = ["-p", "no:cacheprovider", "-m", "", "-k", tests]
    run(system, "-m", "pytest", *options, *places, limit_s=600)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_differs_most_holds(system):
    contract(system, "mask_reach or split_calls", "Async", "Pool", "Thread")


@pytest.mark.full
@pytest.mark.parametrize("name", CONTRACT)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_contract_holds(system, name):
    # Of the stock environments one in Python and one in C: what they run on is the same for all.
    contract(system, "not stock_environments or CartPole or HalfCheetah", name)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_script_needs_no_guard(system, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run(system, script)
    modes = ("pool:1", "async", "thread:1", "auto")
    assert done.stdout.splitlines() == [f"{mode}, of the script, of the script" for mode in modes]
    assert done.stderr == ""
