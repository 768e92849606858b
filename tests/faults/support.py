"""What the cases make, do and look for."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time

import numpy as np
import psutil

from tests.faults.envs import CODES, Fault
from vecselect import auto_make_vec, errors

StepTimeout = getattr(errors, "StepTimeout", multiprocessing.TimeoutError)

REPORTED_S = 1.0
"""A failure is reported within this."""

CLOSED_S = 5.0
"""Closing takes no longer than this, whatever state it finds."""

COUNT = 4
CALLERS = {"async": [], "pool:2": [0]}
"""The rows that run in the calling process."""

LANES = {"async": [[0], [1], [2], [3]], "pool:2": [[1], [2, 3]]}
"""The rows of each worker."""


def make(mode, kind=Fault, count=COUNT, options=None, **arguments):
    env_fns = [functools.partial(kind, index, **arguments) for index in range(count)]
    return auto_make_vec(env_fns, mode=mode, vector_kwargs=options)


def actions(deeds=None, base=1):
    """A batch that is echoed, but for the rows that have a deed."""
    batch = (np.arange(COUNT) + base) % 10
    for row, deed in (deeds or {}).items():
        batch[row] = CODES[deed]
    return batch


def pids(envs):
    return envs.call("pid")


def gone(pid, limit_s=2.0):
    """Whether a process ends in time; one that only waits to be reaped has ended."""
    until_s = time.monotonic() + limit_s
    while running(pid):
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def workers_of(envs):
    """The processes other than this one that run sub-environments."""
    return set(pids(envs)) - {os.getpid()}


def assert_reset(result, seed, rows=range(COUNT)):
    observations, infos = result
    for row in rows:
        expected = [row, seed + row, observations[row, 2], 0, -1]
        assert observations[row].tolist() == expected, f"reset: {observations}"
        assert infos["index"][row] == row, infos


def assert_step(result, batch, steps, rows=range(COUNT)):
    """Everything in the result belongs to this batch of actions, and to this step."""
    observations, rewards, terminated, truncated, infos = result
    for row in rows:
        action, step = int(batch[row]), steps[row] if np.ndim(steps) else steps
        found = f"row {row} of {result}"
        assert observations[row, [0, 3, 4]].tolist() == [row, step, action], found
        assert rewards[row] == 1000 * row + 10 * step + action / 10, found
        assert (infos["index"][row], infos["step"][row]) == (row, step), found
        assert infos["action"][row] == action, found
        assert bool(terminated[row] | truncated[row]) == (step >= 3 + row % 4), found


def assert_usable(envs, seed=11):
    """A reset brings everything back, and nothing stale is seen."""
    assert_reset(envs.reset(seed=seed), seed)
    for step in (1, 2):
        batch = actions(base=step + seed)
        assert_step(envs.step(batch), batch, step)


def text_of(error):
    """All that an exception says: its text, its notes and its causes'."""
    parts = []
    while error is not None:
        try:
            parts.append(f"{type(error).__name__}: {error}")
        except Exception as failure:
            parts.append(f"{type(error).__name__}: {failure}")
        parts += getattr(error, "__notes__", [])
        error = error.__cause__
    return "\n".join(parts)


def close_in_time(envs, **options):
    """Closes; fails if it takes too long or raises."""
    start_s = time.monotonic()
    envs.close(**options)
    took_s = time.monotonic() - start_s
    assert took_s < CLOSED_S, f"close took {took_s:.1f} s"
    assert envs.closed
    envs.close()


def folder():
    """A folder for notes that is no leftover."""
    path = os.path.join(os.path.dirname(os.environ["TMPDIR"]), "notes")
    os.makedirs(path, exist_ok=True)
    return path
