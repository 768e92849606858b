"""A plan cache that is damaged, full, foreign or contended costs a warning at most."""

from __future__ import annotations

import json
import os
import signal
import warnings
from pathlib import Path

import pytest

from tests.faults import programs
from tests.faults.case import Program, case
from tests.processes import until
from vecselect import VecselectError, auto_make_vec, recommend
from vecselect.errors import VecselectWarning


@case()
@pytest.mark.parametrize("cache", ["below a file", "a dead link", "without a home"])
def test_a_cache_that_cannot_be_is_done_without(cache):
    base = Path(os.environ["TMPDIR"]).parent
    (base / "file").write_text("here")
    (base / "link").symlink_to("/proc/nowhere")
    places = {"below a file": base / "file" / "store", "a dead link": base / "link"}
    if cache in places:
        os.environ["VECSELECT_CACHE_DIR"] = str(places[cache])
    else:
        for name in ("VECSELECT_CACHE_DIR", "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        os.environ["HOME"] = "/proc/nowhere"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VecselectWarning)
        with auto_make_vec("CartPole-v1", 2, budget_s=0.1) as envs:
            envs.reset(seed=1)
            envs.step(envs.action_space.sample())


@case(deadline_s=60.0, full=True)
def test_programs_that_plan_at_once_do_not_disturb_each_other():
    shared = str(Path(os.environ["TMPDIR"]).parent / "shared")
    os.environ["VECSELECT_CACHE_DIR"] = shared
    runs = [Program(programs.plan, cache=shared, count=2, budget_s=0.3) for _ in range(3)]
    for run in runs:
        run.finish().check(noise=3)
    assert recommend("CartPole-v1", 2, budget_s=0.3).recalled
    assert not [path for path in Path(shared).rglob("*") if path.suffix == ".tmp"]


@case(deadline_s=60.0, full=True)
def test_a_killed_program_leaves_a_cache_that_can_be_read():
    """Killed around the moment at which the plan is written."""
    shared = Path(os.environ["TMPDIR"]).parent / "shared"
    os.environ["VECSELECT_CACHE_DIR"] = str(shared)
    for _ in range(4):
        run = Program(programs.plan, cache=str(shared), count=2, budget_s=0.05)
        run.wait_for("ready")
        until(lambda run=run: list(shared.rglob("*")) or run.popen.poll() is not None, 10.0)
        run.send(signal.SIGKILL)
        run.finish().check(returncode=None, result=False, noise=None, files=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                recommend("CartPole-v1", 2, budget_s=0.05)
            except VecselectError as error:
                raise AssertionError("the cache was left unreadable") from error
        for path in shared.rglob("*.json"):
            json.loads(path.read_text())
            path.unlink()
