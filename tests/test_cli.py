"""The command line: what goes to which stream, the exit codes, files, and terminals."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import gymnasium as gym
import psutil
import pytest

from tests.plans import BY_MODEL
from tests.processes import run_program
from tests.sweeps import EMPTY, INTERRUPTED, SWEEP
from vecselect import Plan, Report, Sweep, SweepReport, __version__, available_modes
from vecselect.cli import main
from vecselect.modes import allowable

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
CONSOLE_SCRIPT = (
    "import os, sys; sys.path[:] = [p for p in sys.path if p not in ('', os.getcwd())]; "
    "from vecselect.cli import entry_point; entry_point()"
)
"""What the console script runs does not begin with the current folder in its path."""

RECOMMEND = ("recommend", "Pendulum-v1", "-n", "2")
ELSEWHERE = os.pathsep.join(sys.path[1:])


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
def made(monkeypatch):
    """What `recommend` and `sweep` were called with, instead of measuring, and what they answer."""
    answers = {"recommend": BY_MODEL, "sweep": SWEEP, "calls": []}

    def answering(name):
        def answer(*arguments, **options):
            answers["calls"].append((arguments, options))
            if isinstance(answers[name], BaseException):
                raise answers[name]
            return answers[name]

        return answer

    for name in ("recommend", "sweep"):
        monkeypatch.setattr(f"vecselect.make.{name}", answering(name))
    return answers


def run_isolated(words, *, path=None, code=("-m", "vecselect"), **options):
    """A command in a process of its own."""
    variables = {} if path is None else {"PYTHONPATH": str(path)}
    return run_program(*code, *words, variables=variables, **options)


def need_one_line(capsys, words, code, message):
    """Runs a command that fails with one line on stderr and nothing on stdout."""
    assert main([str(word) for word in words]) == code
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith("vecselect: ")
    assert message in output.err


def interrupt(partial=None):
    stop = KeyboardInterrupt()
    if partial is not None:
        stop.sweep = partial
    return stop


# What is printed


def test_json_is_one_document_on_stdout_and_nothing_else(capfd):
    assert main([*RECOMMEND, "--json", "--env-kwarg", "g=1.62"]) == 0
    output = capfd.readouterr()
    plan = Plan.from_json(output.out)
    assert (plan.env, plan.num_envs, output.err) == ("Pendulum-v1", 2, "")
    assert plan.evidence.profile.steps >= 1
    words = ["CartPole-v1", "-n", "1,2", "--modes", "sync,pool:0", "--budget", "3", "--json"]
    assert main(["sweep", *words]) == 0
    output = capfd.readouterr()
    found = Sweep.from_json(output.out)
    assert (found.num_envs, found.modes, output.err) == ((1, 2), ("sync", "pool:0"), "")
    assert found.of("sync", 1).env_steps_per_s is not None


def test_without_json_it_prints_the_report(made, capsys):
    for words, text in (
        (RECOMMEND, Report(BY_MODEL)),
        ((*RECOMMEND, "--details"), Report(BY_MODEL).details),
        (("sweep", "CartPole-v1"), SweepReport(SWEEP)),
    ):
        assert main(list(words)) == 0
        output = capsys.readouterr()
        assert (output.out, output.err) == (f"{text}\n", "")


def test_the_doctor_shows_the_machine_and_every_mode(capsys):
    assert main(["doctor"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for word in ("usable cores", "memory", "start methods", "system"):
        assert f"\n{word} " in f"\n{output.out}"
    for mode in available_modes():
        assert f"\nmode {mode} " in output.out
    assert main(["doctor", "--json"]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["machine"]["cores"] > 0
    assert (document["modes"], output.err) == (available_modes(), "")


def test_help_and_version_end_with_0(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vecselect {__version__}\n"
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(word in output for word in ("recommend", "sweep", "doctor", "plans", "explain"))
    main(["recommend", "--help"])
    text = capsys.readouterr().out
    assert all(mode in text[text.index("--allow") :] for mode in allowable())


# What arrives

ANY = {
    "effort": "measure",
    "budget_s": None,
    "learner": None,
    "learner_threads": None,
    "allow": [],
    "use_store": True,
    "fresh": False,
    "env_kwargs": {},
}
SWEPT = {"modes": None, "budget_s": None, "learner": None, "env_kwargs": {}}
KWARGS = {"g": 9.81, "hardcore": True, "name": "a=b", "shape": (2, 3), "text": "7", "path": "/x"}
WORDS = [
    *(f"--env-kwarg={one}" for one in ("g=9.81", "hardcore=True", "name=a=b", "shape=(2, 3)")),
    *("--env-kwarg=text='7'", "--env-kwarg=path=/x", "--learner-ms", "2", "--budget", "0.5"),
]
LOOP = {"budget_s": 0.5, "learner": 0.002, "env_kwargs": KWARGS}


@pytest.mark.parametrize(
    ("words", "number", "options"),
    [
        (["recommend", "Some-v0", "-n8"], 8, ANY),
        (
            ["recommend", "Some-v0", "-n8", "--learner-threads=auto", "--effort=race", *WORDS],
            8,
            ANY | LOOP | {"learner_threads": "auto", "effort": "race"},
        ),
        (["recommend", "Some-v0", "-n8", "--fresh"], 8, ANY | {"fresh": True}),
        (
            ["compare", "Some-v0", "-n8", "--learner-threads=1", "--allow=native"],
            8,
            ANY | {"effort": "race", "use_store": False, "learner_threads": 1, "allow": ["native"]},
        ),
        (["sweep", "Some-v0"], (1, 2, 4, 8, 16, 32, 64), SWEPT),
        (
            ["sweep", "Some-v0", "-n", "8,1", "--modes", "sync, pool:1", *WORDS],
            (8, 1),
            SWEPT | LOOP | {"modes": ("sync", "pool:1")},
        ),
    ],
)
def test_the_words_of_the_command_arrive_as_values(words, number, options, made):
    assert main(words) == 0
    ((arguments, given),) = made["calls"]
    assert given.pop("progress")
    assert (arguments, given) == (("Some-v0", number), options)


# Mistakes and failures


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*RECOMMEND, "--effort", "exhaustive"), "exhaustive"),
        (("recommend", "Pendulom-v1", "-n", "2"), "Did you mean: `Pendulum`"),
        (("recommend", "nosuchmodule:Env-v0", "-n", "2"), "nosuchmodule"),
        (("recommend", "Pendulum-v1", "-n", "0"), "num_envs is 0"),
        (("sweep", "CartPole-v1", "--modes", "synk"), "Did you mean 'sync'"),
        (("sweep", "CartPole-v1", "--modes", ","), "modes is empty"),
        (("sweep", "CartPole-v1", "--budget", "0"), "budget_s is 0.0"),
    ],
)
def test_what_cannot_be_ends_with_2_and_one_line(words, message, capsys):
    need_one_line(capsys, words, 2, message)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["recomend", "Pendulum-v1", "-n", "2"],
        ["recommend", "Pendulum-v1"],
        [*RECOMMEND, "--budget", "long"],
        [*RECOMMEND, "--learner-threads", "few"],
        [*RECOMMEND, "--env-kwarg", "g"],
        [*RECOMMEND, "--env-kwarg", "not a name=3"],
        [*RECOMMEND, "--fresh", "--no-store"],
        ["sweep", "CartPole-v1", "-n", "1,two"],
        ["plans", "forget"],
        ["plans", "list", "abc"],
    ],
)
def test_a_mistake_in_the_command_ends_with_2_and_the_usage(words, capsys):
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: vecselect")


def test_an_environment_that_fails_ends_with_1_and_one_line(noisy, capsys):
    words = ("recommend", noisy, "-n", "2", "--env-kwarg")
    message = "The environment raised LookupError in step()"
    need_one_line(capsys, [*words, "phase=step"], 1, message)
    message = "The environment raised TypeError while it was built"
    need_one_line(capsys, [*words, "fase=step"], 1, message)


def test_an_interrupt_ends_with_130_and_prints_what_there_is(made, capsys):
    made["recommend"] = made["sweep"] = interrupt()
    for words in (RECOMMEND, ("sweep", "CartPole-v1")):
        need_one_line(capsys, words, 130, "vecselect: interrupted\n")
    for partial, words, said in (
        (INTERRUPTED, [], f"{SweepReport(INTERRUPTED)}\n"),
        (INTERRUPTED, ["--json"], f"{INTERRUPTED.to_json()}\n"),
        (EMPTY, [], f"{SweepReport(EMPTY)}\n"),
    ):
        made["sweep"] = interrupt(partial)
        assert main(["sweep", "CartPole-v1", *words]) == 130
        output = capsys.readouterr()
        assert output.out == said
        assert output.err == "vecselect: interrupted; this is what was measured until then\n"


# Files


def test_files_are_written_beside_what_is_printed(made, tmp_path, capsys):
    files = [f"-o{tmp_path / name}" for name in ("a.html", "b.md", "c.json")]
    assert main([*RECOMMEND, *files, "--json"]) == 0
    texts = [(tmp_path / name).read_text() for name in ("c.json", "a.html", "b.md")]
    assert Plan.from_json(capsys.readouterr().out) == Plan.from_json(texts[0]) == BY_MODEL
    assert all(f"{BY_MODEL.env} x 8" in text for text in texts[1:])
    assert main(["sweep", "CartPole-v1", f"-o{tmp_path / 'd.json'}"]) == 0
    assert Sweep.from_json((tmp_path / "d.json").read_text()) == SWEEP
    assert capsys.readouterr().out == f"{SweepReport(SWEEP)}\n"


@pytest.mark.parametrize(
    ("command", "name", "message"),
    [
        ("recommend", "report.pdf", "ends in .*json"),
        ("compare", "none/report.json", "cannot be written to .*there is no folder"),
        ("sweep", "sweep.pdf", "ends in .*png"),
        ("sweep", "sweep.svg", r"vecselect\[plot\]"),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_anything_is_measured(
    command, name, message, made, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = [command, "Pendulum-v1", "-n", "2", "-o", str(tmp_path / "good.json")]
    assert main([*words, "-o", str(tmp_path / name)]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert re.search(message, output.err)
    assert made["calls"] == list(tmp_path.iterdir()) == []


# A process of its own


@pytest.mark.parametrize(
    "code",
    [pytest.param(("-m", "vecselect"), marks=pytest.mark.full), ("-c", CONSOLE_SCRIPT)],
)
def test_modules_of_the_current_folder_are_found_and_hide_none_of_pythons(code, noisy, tmp_path):
    if code[0] == "-c":
        (tmp_path / "random.py").write_text("raise ImportError('not the one that was meant')")
    words = ["recommend", noisy, "-n2", "--no-store", "--effort=rule", "--json"]
    done = run_isolated(words, path=ELSEWHERE, cwd=tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["env"] == "Noisy-v0"  # whatever the environment prints


def test_the_package_runs_as_a_module_without_a_warning():
    done = run_isolated(["doctor", "--json"], code=("-W", "error", "-m", "vecselect"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "machine" in json.loads(done.stdout)


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]])
def test_a_reader_that_leaves_early_causes_no_traceback(words):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run_isolated(words, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# A real terminal

LIMIT_S = 100.0


@contextlib.contextmanager
def on_a_terminal(*words, **variables):
    """A command of vecselect with a terminal of its own, and the file to read what it shows."""
    ours, theirs = pty.openpty()
    environment = {key: os.environ[key] for key in os.environ if key != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "90", **variables}
    with subprocess.Popen(
        [sys.executable, "-m", "vecselect", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    ) as command:
        os.close(theirs)
        try:
            yield command, ours
        finally:
            command.kill()
            os.close(ours)


def shown(file, until=None):
    """What a terminal shows, up to its end or to a text."""
    text, limit_s = b"", time.monotonic() + LIMIT_S
    with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
        while time.monotonic() < limit_s and (until is None or until not in text):
            text += os.read(file, 4096)
    return text.decode()


def need_stopped_by_ctrl_c(words, until):
    """Interrupts a command once it shows a text; returns all that it has shown."""
    with on_a_terminal(*words) as (command, file):
        text = shown(file, until)
        started = psutil.Process(command.pid).children(recursive=True)
        os.killpg(command.pid, signal.SIGINT)
        text += shown(file)
        assert command.wait(LIMIT_S) == 130
    assert started
    assert "Traceback" not in text
    assert not psutil.wait_procs(started, timeout=20.0)[1]
    return text.rstrip()


def test_a_terminal_shows_progress_and_then_the_report_in_colour():
    with on_a_terminal("recommend", "FrozenLake-v1", "-n4", "--no-store") as (command, file):
        text = shown(file)
        assert command.wait(LIMIT_S) == 0
    progress, _, report = text.rpartition("\x1b[2K")
    assert "measuring one environment's step ..." in progress
    assert "\n" not in progress  # one line, written over and over
    assert "FrozenLake-v1 x 4" in report
    assert "\x1b[1;32m" in report


def test_ctrl_c_while_modules_are_loaded_is_one_line_too(monkeypatch, capsys):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("vecselect.cli._run", stop)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "vecselect: interrupted\n"


@pytest.mark.full
def test_ctrl_c_ends_a_command_with_what_there_is_and_leaves_no_process():
    words = ("compare", "FrozenLake-v1", "-n", "4", "--budget", "60")
    assert need_stopped_by_ctrl_c(words, b"building").endswith("vecselect: interrupted")
    words = ("sweep", "CartPole-v1", "--budget", "30", "-n", "1,2,64", "--modes", "sync,pool:1")
    text = need_stopped_by_ctrl_c(words, b"round 1:")
    assert " s left: " in text
    assert "It was interrupted: this is not the whole sweep." in text
    assert text.endswith("interrupted; this is what was measured until then")
