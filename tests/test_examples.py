"""Every example runs unattended and says what its docstring promises."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.marks import only_full
from tests.processes import output_of, run_program

EXAMPLES = Path(__file__).parents[1] / "examples"
README = EXAMPLES.parent / "README.md"
SAYS = {
    "quickstart.py": "mode",
    "pin_a_mode.py": "never another mode instead",
    "custom_env.py": "distances:",
    "batched_env.py": "=> native",
    "heterogeneous.py": "observations of shape (3, 3)",
    "plan_with_a_learner.py": "recalled: True",
    "sweep.py": "recommended:",
    "training_loop.py": "final policy: mean return",
    "waiting_env.py": "thread:15:",
    "first_finished.py": "first finished over lockstep:",
    "ppo_cleanrl_style.py": "env steps/s",
    "ppo_two_buffers.py": "env steps/s",
    "train_rllib.py": "PPO after training",
    "train_sb3.py": "SAC after training",
    "train_skrl.py": "PPO after training",
    "train_torchrl.py": "PPO after training",
}
NEEDS = {
    "ppo_cleanrl_style.py": ["torch"],
    "ppo_two_buffers.py": ["torch"],
    "train_rllib.py": ["ray", "torch", "ormsgpack", "tree"],
    "train_sb3.py": ["stable_baselines3"],
    "train_skrl.py": ["skrl"],
    "train_torchrl.py": ["torchrl"],
}
PACKAGES = ["train_rllib.py", "train_skrl.py", "train_torchrl.py"]
ALONE = ["ppo_cleanrl_style.py", "ppo_two_buffers.py"]
QUICK = sorted(
    SAYS.keys()
    - {*PACKAGES, *ALONE, "quickstart.py", "train_sb3.py", "training_loop.py", "first_finished.py"}
)
IGNORED = {"train_torchrl.py": "ignore:Creating:DeprecationWarning"}
"""TorchRL's collectors warn, as they are imported, of classes of their own."""


def run(name):
    """What an example prints; it warns of nothing but of a machine that has become slower."""
    for package in NEEDS.get(name, []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    ignored = ["ignore:For 30 s vector steps", IGNORED.get(name)]
    options = [part for one in ["error", *ignored] if one for part in ("-W", one)]
    text = output_of(*options, EXAMPLES / name, limit_s=110)
    assert SAYS[name] in text
    return text


def returns(text):
    """The mean returns that a training program prints."""
    return [float(found) for found in re.findall(r"mean return (-?\d+)", text)]


@pytest.mark.full
def test_the_code_of_readme_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) == 2
    program = tmp_path / "readme.py"
    stubs = "import numpy as np\npolicy, learn = lambda batch: np.zeros((8, 6)), lambda: None\n"
    program.write_text(stubs + "".join(blocks).replace("range(100)", "range(2)"))
    done = run_program("-W", "error", program, limit_s=110)  # MuJoCo writes to stderr
    assert done.returncode == 0, done.stderr
    assert "pin it: mode=" in done.stdout


def test_every_example_is_listed():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(SAYS)


@pytest.mark.parametrize("name", ["quickstart.py", *only_full(*QUICK)])
def test_the_example_runs(name):
    run(name)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "times"),
    [("training_loop.py", 2), *((name, 5) for name in ALONE), *((name, 4) for name in PACKAGES)],
)
def test_what_an_example_trains_learns(name, times):
    found = returns(run(name))
    assert found[-1] > times * found[0]


@pytest.mark.full
def test_first_finished_does_not_wait_for_the_slowest():
    text = run("first_finished.py")
    assert float(text.split()[-1]) > 1.5


@pytest.mark.full
def test_stable_baselines3_learns():
    ppo_before, ppo_after, sac_before, sac_after = returns(run("train_sb3.py"))
    assert ppo_after > 4 * ppo_before
    assert sac_after > sac_before / 3
