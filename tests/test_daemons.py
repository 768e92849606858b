"""Inside a daemon of multiprocessing, which may not start processes, what starts none runs."""

import functools
import multiprocessing
import traceback

import gymnasium as gym
import pytest
from gymnasium.vector import SyncVectorEnv

from vecselect import ModeUnavailable, RequestError, auto_make_vec, available_modes, sweep
from vecselect.process.contexts import get_context
from vecselect.testing.contract import assert_same_run

IDS = ["CartPole-v1", "HalfCheetah-v5"]

pytestmark = pytest.mark.usefixtures("no_process_is_left")


def in_daemon(body):
    """Has a test run in a daemon."""

    @functools.wraps(body)
    def test(**arguments):
        here, there = get_context().Pipe()
        child = get_context().Process(
            target=call, args=(there, body.__name__, arguments), daemon=True
        )
        child.start()
        there.close()
        try:
            error = here.recv()
        finally:
            here.close()
            child.join()
            child.close()
        if error:
            pytest.fail(error, pytrace=False)

    return test


def call(pipe, name, arguments):
    assert multiprocessing.current_process().daemon
    try:
        globals()[name].__wrapped__(**arguments)
    except (Exception, pytest.fail.Exception):
        pipe.send(traceback.format_exc())
    else:
        pipe.send(None)


def planned(id, mode="auto", **options):
    """The plan for a vector environment whose whole run is compared with Gymnasium's."""
    with auto_make_vec(id, 4, mode, use_store=False, **options) as envs:
        assert_same_run(envs, SyncVectorEnv([lambda: gym.make(id)] * 4), steps=25)
        assert envs.mode == envs.plan.mode
        return envs.plan


@pytest.mark.parametrize("id", IDS)
@in_daemon
def test_a_pin_of_what_starts_no_process_runs(id):
    pins = {"pool:0": "pool:0", "thread": "thread:3", "thread:1": "thread:1", "sync": "sync"}
    for pin, mode in pins.items():
        plan = planned(id, pin)
        assert (plan.mode, plan.decided_by) == (mode, "pin")
    with auto_make_vec(id, 1, "pool") as envs:  # which comes to one lane
        envs.reset(seed=1)
        assert envs.mode == "pool:0"


@in_daemon
def test_a_pin_of_what_starts_processes_is_refused_and_says_why():
    for pin in ("pool:1", "pool:3", "async"):
        with pytest.raises(ModeUnavailable, match="daemon of multiprocessing") as caught:
            auto_make_vec("CartPole-v1", 4, pin)
        assert ("pool:0 starts none" in str(caught.value)) == pin.startswith("pool")
    modes = available_modes()
    assert modes["pool"] is modes["thread"] is modes["sync"] is None
    assert "daemon" in modes["async"]


@pytest.mark.parametrize("id", IDS)
@in_daemon
def test_without_a_pin_something_runs_and_the_plan_says_why(id):
    for effort in ("rule", "measure", "race"):
        plan = planned(id, effort=effort)
        skipped = {row.mode: row.skipped for row in plan.candidates if row.skipped}
        assert (plan.mode, plan.decided_by) == ("sync", "elimination")
        assert "this process is a daemon of multiprocessing" in plan.reason
        assert skipped["pool"].endswith("pool:0 starts none")
        assert "daemon" in skipped["async"]


@in_daemon
def test_options_of_processes_do_not_stand_in_the_way():
    options = {"on_worker_death": "restart", "context": "spawn"}
    assert planned("CartPole-v1", vector_kwargs=options).mode == "sync"
    assert planned("CartPole-v1", "pool:0", vector_kwargs=options).mode == "pool:0"


@in_daemon
def test_a_deadline_is_kept_by_threads_or_not_promised():
    deadline = {"step_timeout_s": 60.0}
    plan = planned("CartPole-v1", vector_kwargs=deadline)
    skipped = {row.mode: row.skipped for row in plan.candidates if row.skipped}
    assert (plan.mode, plan.decided_by) == ("thread:4", "elimination")
    assert "cannot enforce step_timeout_s" in skipped["sync"]
    with pytest.raises(ModeUnavailable, match="which must be free"):
        planned("CartPole-v1", "pool:0", vector_kwargs=deadline)
    with pytest.raises(RequestError, match="sync: it cannot enforce step_timeout_s"):
        planned("CartPole-v1", vector_kwargs={**deadline, "on_worker_death": "restart"})


@pytest.mark.full
@in_daemon
def test_a_sweep_times_what_starts_no_process():
    modes = ["sync", "pool:0", "pool:1", "thread:1", "async"]
    points = sweep("CartPole-v1", [2], modes=modes, budget_s=1.0).points
    measured = {point.mode for point in points if point.env_steps_per_s is not None}
    skipped = {point.mode: point.skipped for point in points if point.skipped}
    assert measured == {"sync", "pool:0", "thread:1"}
    assert set(skipped) == {"pool:1", "async"}
    assert all("daemon of multiprocessing" in reason for reason in skipped.values())
