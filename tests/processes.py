"""Programs that tests run, and what has become of processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


def run_program(*words, limit_s=100.0, variables=None, **options):
    """Runs Python with these words; returns how it ended, with what it wrote as text.

    Args:
        *words: Options, and a script.
        limit_s: Seconds after which it is killed, and the test fails.
        variables: Environment variables beside those of this process; of PYTHONPATH this takes the
            place of the repository.
        **options: Of `subprocess.run`.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})},
        timeout=limit_s,
        text=True,
        check=False,
        **{**streams, **options},
    )


def output_of(*words, **options):
    """What a program writes to stdout; it must end with 0 and write nothing to stderr."""
    done = run_program(*words, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def running(pid):
    """Whether a process has not ended; one that only waits to be reaped has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition, limit_s):
    """Waits up to `limit_s` for a condition; returns its last value."""
    end_s = time.monotonic() + limit_s
    while not (value := condition()) and time.monotonic() < end_s:
        time.sleep(0.01)
    return value


def left_of(some, limit_s):
    """Waits up to `limit_s` until a function returns nothing; returns what it returned last."""
    end_s = time.monotonic() + limit_s
    while (left := some()) and time.monotonic() < end_s:
        time.sleep(0.01)
    return left


def gone(pid, limit_s=5.0):
    """Whether a process ends in time."""
    return until(lambda: not running(pid), limit_s)


def wait_until_gone(before, limit_s=10.0):
    """Fails unless all child processes but those of `before` end within a while."""
    assert until(lambda: children() <= before, limit_s), children() - before
