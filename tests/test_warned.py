"""A warning of an environment is shown by the caller, and not again by each worker."""

import copy
import subprocess
import sys
import warnings

import pytest

from tests.zoo import EchoEnv
from vecselect.request import EnvFactory

SCRIPT = """
import sys, warnings
import gymnasium as gym
from tests.zoo import EchoEnv
from vecselect import auto_make_vec, recommend

class Warns(EchoEnv):
    def __init__(self, index):
        super().__init__(index)
        warnings.warn("built")
        if index == 5:
            warnings.warn("the last one")

    def reset(self, **options):
        warnings.warn("reset")
        return super().reset(**options)

env_fns = [lambda index=index: Warns(index) for index in range(6)]
if sys.argv[1] == "auto":
    recommend(env_fns, learner=0.001, effort="race", budget_s=2, use_store=False)
else:
    auto_make_vec(env_fns, mode=sys.argv[1]).close()
"""


@pytest.mark.parametrize("mode", ["pool:2", "async", "thread:2"])
def test_what_building_warns_of_is_said_once_and_what_is_new_is_said_too(mode, tmp_path):
    text = shown(mode, tmp_path)
    assert text.count("UserWarning: built") == 1
    assert text.count("UserWarning: the last one") == 1


def test_planning_says_it_once(tmp_path):
    text = shown("auto", tmp_path)
    assert text.count("UserWarning: built") == 1
    assert text.count("UserWarning: reset") == 1


def shown(mode, folder):
    """What a program that makes such a vector environment shows."""
    script = folder / "warns.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, mode],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "VECSELECT_CACHE_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_in_the_process_it_comes_from_a_factory_changes_nothing():
    before = warnings.showwarning
    copy.deepcopy(EnvFactory(EchoEnv))().close()
    assert warnings.showwarning is before
