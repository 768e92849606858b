"""`vecselect sweep`: what goes to which stream, files, and Ctrl-C."""

import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.sweeps import EMPTY, INTERRUPTED, SWEEP
from vecselect import Sweep
from vecselect.cli import main

WORDS = [sys.executable, "-m", "vecselect", "sweep", "CartPole-v1", "--budget", "30"]


@pytest.fixture(autouse=True)
def no_colour(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def asked(monkeypatch):
    """What `sweep` was called with, instead of measuring; it answers with what is put there."""
    calls = {"answer": SWEEP}

    def sweep(*arguments, **options):
        calls.update(arguments=arguments, options=options)
        if isinstance(calls["answer"], BaseException):
            raise calls["answer"]
        return calls["answer"]

    monkeypatch.setattr("vecselect.make.sweep", sweep)
    return calls


def interrupt(partial=None):
    stop = KeyboardInterrupt()
    if partial is not None:
        stop.sweep = partial
    return stop


def test_json_is_one_document_on_stdout_and_nothing_else(capfd):
    words = ["CartPole-v1", "-n", "1,2", "--modes", "sync,pool:0", "--budget", "3", "--json"]
    assert main(["sweep", *words]) == 0
    output = capfd.readouterr()
    found = Sweep.from_json(output.out)
    assert (found.num_envs, found.modes) == ((1, 2), ("sync", "pool:0"))
    assert found.of("sync", 1).env_steps_per_s is not None
    assert output.err == ""


def test_without_json_it_prints_the_table(asked, capsys):
    assert main(["sweep", "CartPole-v1"]) == 0
    output = capsys.readouterr()
    assert output.out == str(SWEEP) + "\n"
    assert output.err == ""


def test_the_words_of_the_command_arrive_as_values(asked):
    words = ["-n", "8,1", "--modes", "sync, pool:1", "--budget", "7", "--learner-ms", "2"]
    assert main(["sweep", "Some-v0", *words, "--env-kwarg", "g=9.81"]) == 0
    assert asked["arguments"] == ("Some-v0", (8, 1))
    options = asked["options"]
    assert options["modes"] == ("sync", "pool:1")
    assert (options["budget_s"], options["learner"]) == (7.0, 0.002)
    assert options["env_kwargs"] == {"g": 9.81}


def test_the_numbers_and_modes_have_their_defaults(asked):
    main(["sweep", "Some-v0"])
    assert asked["arguments"] == ("Some-v0", (1, 2, 4, 8, 16, 32, 64))
    assert asked["options"]["modes"] is None
    assert asked["options"]["budget_s"] is None


@pytest.mark.parametrize("json_too", [False, True])
def test_an_interrupt_prints_what_there_is_and_ends_with_130(asked, capsys, json_too):
    asked["answer"] = interrupt(INTERRUPTED)
    assert main(["sweep", "CartPole-v1", *(["--json"] if json_too else [])]) == 130
    output = capsys.readouterr()
    if json_too:
        assert json.loads(output.out)["whole"] is False
    else:
        assert output.out == str(INTERRUPTED) + "\n"
    assert output.err == "vecselect: interrupted; this is what was measured until then\n"


def test_an_interrupt_before_anything_was_measured_says_that(asked, capsys):
    asked["answer"] = interrupt(EMPTY)
    assert main(["sweep", "CartPole-v1"]) == 130
    assert "nothing was measured yet" in capsys.readouterr().out
    asked["answer"] = interrupt()
    assert main(["sweep", "CartPole-v1"]) == 130
    assert capsys.readouterr().err == "vecselect: interrupted\n"


def test_it_is_written_to_a_file_too(asked, tmp_path, capsys):
    assert main(["sweep", "CartPole-v1", "-o", str(tmp_path / "a.json")]) == 0
    assert Sweep.from_json((tmp_path / "a.json").read_text()) == SWEEP
    assert capsys.readouterr().out == str(SWEEP) + "\n"


def test_it_is_written_to_several_files(asked, tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    assert main(["sweep", "CartPole-v1", *(f"-o{file}" for file in files)]) == 0
    assert [Sweep.from_json(file.read_text()) for file in files] == [SWEEP, SWEEP]


def test_a_wrong_name_of_a_file_is_told_before_anything_is_measured(asked, capsys):
    assert main(["sweep", "CartPole-v1", "-o", "a.pdf"]) == 2
    assert "ends in .json" in capsys.readouterr().err
    assert "arguments" not in asked


@pytest.mark.parametrize("name", ["a.svg", "a.png"])
def test_without_matplotlib_a_plot_is_refused_before_anything_is_measured(
    asked, tmp_path, capsys, monkeypatch, name
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["sweep", "CartPole-v1", "-o", str(tmp_path / name)]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert "vecselect[plot]" in output.err
    assert "arguments" not in asked
    assert main(["sweep", "CartPole-v1", "-o", str(tmp_path / "a.json")]) == 0


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    asked, tmp_path, capsys
):
    assert main(["sweep", "CartPole-v1", "-o", str(tmp_path / "none" / "a.json")]) == 2
    assert "The sweep cannot be written to" in capsys.readouterr().err
    assert "arguments" not in asked


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="no vecselect[plot]")
def test_a_plot_is_written(asked, tmp_path):
    assert main(["sweep", "CartPole-v1", "-o", str(tmp_path / "a.svg")]) == 0
    assert "</svg>" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "0"], "num_envs holds 0"),
        (["--modes", "synk"], "Did you mean 'sync'"),
        (["--modes", "sync,foo"], "There is no mode 'foo'; choose one of 'sync', "),
        (["--modes", ","], "modes is empty"),
        (["--budget", "0"], "budget_s is 0.0"),
    ],
)
def test_what_cannot_be_ends_with_2_and_one_line(words, message, capsys):
    assert main(["sweep", "CartPole-v1", *words]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert message in output.err


def test_a_mistake_in_the_numbers_ends_with_2_and_the_usage(capsys):
    assert main(["sweep", "CartPole-v1", "-n", "1,two"]) == 2
    assert "no list of whole numbers" in capsys.readouterr().err


@pytest.mark.full
def test_ctrl_c_on_a_terminal_prints_what_there_is_and_leaves_no_process():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = subprocess.Popen(
        [*WORDS, "-n", "1,2,64", "--modes", "sync,pool:1"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    shown, started = b"", {}
    deadline_s = time.monotonic() + 100
    with command:
        # The second number has begun: the first one is known.
        while b"2 x sync" not in shown and time.monotonic() < deadline_s:
            shown += os.read(ours, 4096)
            for child in psutil.Process(command.pid).children(recursive=True):
                started[child.pid] = child
        command.send_signal(signal.SIGINT)
        written = command.communicate(timeout=100)[0]
    shown += os.read(ours, 4096)
    os.close(ours)
    assert command.returncode == 130
    assert "It was interrupted: this is not the whole sweep." in written
    assert "\x1b" not in written
    assert b" s left" in shown
    assert b"interrupted; this is what was measured until then" in shown
    assert started
    assert not psutil.wait_procs([one for one in started.values() if _lives(one)], timeout=20)[1]


def _lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
