"""Every example runs unattended and says what its docstring promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "quickstart.py": "mode",
    "pin_a_mode.py": "never another mode instead",
    "custom_env.py": "between two steps (seconds)",
    "heterogeneous.py": "observations of shape (3, 3)",
    "plan_with_a_learner.py": "recalled: True",
    "sweep.py": "returns diminish from",
    "training_loop.py": "final policy: mean return",
    "waiting_env.py": "thread:15:",
}


def test_every_example_is_listed():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_the_example_runs(name):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert done.stderr == ""
    assert len((EXAMPLES / name).read_text().splitlines()) < 60


def test_the_training_example_learns():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "training_loop.py"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    returns = [float(found) for found in re.findall(r"mean return (\d+)", done.stdout)]
    assert returns[-1] > 2 * returns[0]
