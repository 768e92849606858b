"""The command line on a real terminal: progress that goes away, colour, Ctrl-C."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time

import psutil
import pytest

from vecselect.cli import main

LIMIT_S = 100.0
WORDS = ["recommend", "FrozenLake-v1", "-n", "4", "--no-store"]


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
    with on_a_terminal(*WORDS) as (command, file):
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
