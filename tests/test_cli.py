"""The command line: what goes to which stream, and the exit codes."""

import json
import os
import subprocess
import sys

import gymnasium as gym
import pytest

from tests.plans import BY_MODEL, RACED
from vecselect import Plan, __version__, available_modes
from vecselect.cli import main
from vecselect.options import ALLOWABLE

MODULE = """
import gymnasium as gym
import numpy as np


class Noisy(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, phase="none"):
        print("noise of the environment", flush=True)
        self.phase = phase

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.phase == "step":
            raise LookupError("no asset")
        return np.zeros(1, np.float32), 0.0, False, False, {}


gym.register("Noisy-v0", entry_point=Noisy)
"""


@pytest.fixture(autouse=True)
def no_colour(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def noisy(tmp_path, monkeypatch):
    """The id of an environment that prints, and that fails on demand."""
    (tmp_path / "noisy_environment.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "noisy_environment:Noisy-v0"
    gym.registry.pop("Noisy-v0", None)
    sys.modules.pop("noisy_environment", None)


@pytest.fixture
def asked(monkeypatch):
    """What `recommend` was called with, instead of measuring."""
    calls = []

    def recommend(*arguments, **options):
        calls.append((arguments, options))
        raise KeyboardInterrupt

    monkeypatch.setattr("vecselect.make.recommend", recommend)
    return calls


def recommendation(*words, env="Pendulum-v1", num_envs="2"):
    return main(["recommend", env, "-n", num_envs, *words])


def test_json_is_one_document_on_stdout_and_nothing_else(capfd):
    assert recommendation("--json", "--env-kwarg", "g=1.62") == 0
    output = capfd.readouterr()
    plan = Plan.from_json(output.out)
    assert (plan.env, plan.num_envs) == ("Pendulum-v1", 2)
    assert plan.evidence.profile.steps >= 1
    assert output.err == ""


def test_without_json_it_prints_the_report(capfd):
    assert recommendation() == 0
    output = capfd.readouterr()
    assert output.out.startswith("vecselect: Pendulum-v1 x 2")
    assert "pin it:" in output.out
    assert "\x1b" not in output.out
    assert output.err == ""


def test_the_details_are_printed_where_they_are_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("vecselect.make.recommend", lambda *words, **options: BY_MODEL)
    assert recommendation("--details") == 0
    assert capsys.readouterr().out == f"{BY_MODEL.report.details}\n"
    assert recommendation() == 0
    assert capsys.readouterr().out == f"{BY_MODEL.report}\n"


def test_compare_races_and_ends_in_one_sentence(asked, monkeypatch, capsys):
    words = ["compare", "Walker-v0", "-n", "8"]
    main([*words, "--budget", "3", "--learner-threads", "1"])
    ((_, options),) = asked
    assert (options["effort"], options["budget_s"]) == ("race", 3.0)
    assert (options["use_store"], options["learner_threads"]) == (False, 1)
    monkeypatch.setattr("vecselect.make.recommend", lambda *words, **options: RACED)
    capsys.readouterr()
    assert main(words) == 0
    sentence = "pool:1 ran 1.79 (1.78-1.82) times as fast as sync."
    assert capsys.readouterr().out == f"{RACED.report}\n\n{sentence}\n"
    assert main([*words, "--json"]) == 0
    assert Plan.from_json(capsys.readouterr().out) == RACED


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "1"], "--budget is for a race, and --effort is measure"),
        (["--effort", "race", "--budget", "0"], "budget_s is 0.0"),
        (["--effort", "exhaustive"], "exhaustive"),
        (["--learner-threads", "0"], "learner_threads is 0"),
    ],
)
def test_what_contradicts_itself_ends_with_2_and_one_line(words, message, capsys):
    assert recommendation(*words) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert message in output.err


def test_what_the_environment_prints_does_not_spoil_the_document(noisy, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vecselect", "recommend", noisy, "-n2", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert json.loads(done.stdout)["env"] == "Noisy-v0"


def test_the_words_of_the_command_arrive_as_values(asked):
    kwargs = ["g=9.81", "hardcore=True", "name=a=b", "shape=(2, 3)", "text='7'", "path=/tmp/x"]
    words = [word for kwarg in kwargs for word in ("--env-kwarg", kwarg)]
    words += ["--learner-ms", "2", "--learner-threads", "auto"]
    main(["recommend", "Some-v0", "-n", "8", "--effort", "race", "--budget", "0.5", *words])
    ((arguments, options),) = asked
    assert arguments == ("Some-v0", 8)
    assert (options["effort"], options["budget_s"]) == ("race", 0.5)
    assert (options["learner"], options["learner_threads"]) == (0.002, "auto")
    assert options["env_kwargs"] == {
        "g": 9.81,
        "hardcore": True,
        "name": "a=b",
        "shape": (2, 3),
        "text": "7",
        "path": "/tmp/x",
    }


def test_an_interrupt_ends_with_130_and_one_line(asked, capsys):
    assert recommendation() == 130
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "vecselect: interrupted\n")


def test_an_environment_that_fails_ends_with_1_and_one_line(noisy, capsys):
    assert recommendation("--env-kwarg", "phase=step", env=noisy) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("vecselect: The environment raised LookupError in step()")
    assert output.err.count("\n") == 1


def test_an_environment_that_cannot_be_built_is_one_line_on_stderr(noisy, capsys):
    assert recommendation("--env-kwarg", "fase=step", env=noisy) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("vecselect: The environment raised TypeError while it was built")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "Pendulom-v1"}, "Did you mean: `Pendulum`"),
        ({"env": "nosuchmodule:Env-v0"}, "nosuchmodule"),
        ({"env": ""}, "Malformed environment ID"),
        ({"num_envs": "0"}, "num_envs is 0"),
    ],
)
def test_what_cannot_be_ends_with_2_and_one_line(options, message, capsys):
    assert recommendation(**options) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("vecselect: ")
    assert message in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["recomend", "Pendulum-v1", "-n", "2"],
        ["recommend"],
        ["recommend", "Pendulum-v1"],
        ["recommend", "Pendulum-v1", "-n", "two"],
        ["recommend", "Pendulum-v1", "-n", "2", "--budget", "long"],
        ["recommend", "Pendulum-v1", "-n", "2", "--learner-threads", "few"],
        ["recommend", "Pendulum-v1", "-n", "2", "--env-kwarg", "g"],
        ["recommend", "Pendulum-v1", "-n", "2", "--env-kwarg", "not a name=3"],
        ["doctor", "--nonsense"],
    ],
)
def test_a_mistake_in_the_command_ends_with_2_and_the_usage(words, capsys):
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: vecselect")


CONSOLE_SCRIPT = (
    "import os, sys; sys.path[:] = [p for p in sys.path if p not in ('', os.getcwd())]; "
    "from vecselect.cli import entry_point; entry_point()"
)
"""What the console script runs does not begin with the current folder in its path."""


@pytest.mark.full
@pytest.mark.parametrize("words", [["-m", "vecselect"], ["-c", "{0}"]])
def test_modules_of_the_current_folder_are_found(words, noisy, tmp_path):
    done = subprocess.run(
        [sys.executable, *(word.format(CONSOLE_SCRIPT) for word in words)]
        + ["recommend", noisy, "-n2", "--no-store", "--effort=rule", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["env"] == "Noisy-v0"


def test_modules_of_the_current_folder_hide_none_of_pythons_own(tmp_path):
    (tmp_path / "random.py").write_text("raise ImportError('not the one that was meant')")
    done = subprocess.run(
        [sys.executable, "-c", CONSOLE_SCRIPT, "doctor"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vecselect {__version__}\n"


def test_fresh_arrives_and_does_not_go_with_no_store(asked, capsys):
    recommendation("--fresh")
    recommendation()
    assert [options["fresh"] for _, options in asked] == [True, False]
    assert recommendation("--fresh", "--no-store") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_the_help_of_allow_names_every_mode_that_may_be_allowed(capsys):
    main(["recommend", "--help"])
    text = capsys.readouterr().out
    assert all(mode in text[text.index("--allow") :] for mode in ALLOWABLE)


def test_help_ends_with_0_and_names_the_commands(capsys):
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert "recommend" in output
    assert "doctor" in output


def test_the_doctor_shows_the_machine_and_every_mode(capsys):
    assert main(["doctor"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for word in ("usable cores", "memory", "start methods", "python"):
        assert f"\n{word} " in f"\n{output.out}"
    for mode in available_modes():
        assert f"\nmode {mode} " in output.out


def test_the_doctor_as_json_is_one_document(capsys):
    assert main(["doctor", "--json"]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["machine"]["cores"] > 0
    assert document["modes"] == available_modes()
    assert output.err == ""


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "vecselect", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "machine" in json.loads(done.stdout)


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]])
def test_a_reader_that_leaves_early_causes_no_traceback(words):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vecselect", *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1
