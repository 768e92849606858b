"""Inside a daemon of multiprocessing, which may not start processes, what starts none runs."""

import multiprocessing

import gymnasium as gym
import pytest
from gymnasium.vector import SyncVectorEnv

from tests.compare import assert_same_run
from vecselect import (
    ModeUnavailable,
    RequestError,
    auto_make_vec,
    available_modes,
    processes,
    sweep,
)

NUM_ENVS = 4
IDS = ["CartPole-v1", "HalfCheetah-v5"]

pytestmark = pytest.mark.usefixtures("no_process_is_left")


def daemon(function, *arguments):
    """What a function returns, or raises, in a daemon."""
    context = processes.get_context()
    here, there = context.Pipe()
    child = context.Process(target=answer, args=(there, function, arguments), daemon=True)
    child.start()
    there.close()
    try:
        result, error = here.recv()
    finally:
        here.close()
        child.join()
        child.close()
    if error is not None:
        raise error
    return result


def answer(connection, function, arguments):
    try:
        connection.send((function(*arguments), None))
    except Exception as error:
        connection.send((None, error))


def run(id, mode, effort="measure", vector_kwargs=None):
    """Compares the whole run with Gymnasium's, and says what was decided."""
    assert multiprocessing.current_process().daemon
    with auto_make_vec(
        id, NUM_ENVS, mode, effort=effort, use_store=False, vector_kwargs=vector_kwargs
    ) as envs:
        assert_same_run(envs, SyncVectorEnv([lambda: gym.make(id)] * NUM_ENVS), steps=25)
        plan = envs.plan
        skipped = {row.mode: row.skipped for row in plan.candidates if row.skipped}
        return envs.mode, plan.decided_by, plan.reason, skipped


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize(
    ("pin", "mode"),
    [
        ("pool:0", "pool:0"),
        ("thread", "thread:3"),
        ("thread:1", "thread:1"),
        ("sync", "sync"),
    ],
)
def test_a_pin_of_what_starts_no_process_runs(id, pin, mode):
    assert daemon(run, id, pin)[:2] == (mode, "pin")


@pytest.mark.parametrize("pin", ["pool:1", "pool:3", "async"])
def test_a_pin_of_what_starts_processes_is_refused_and_says_why(pin):
    with pytest.raises(ModeUnavailable, match="daemon of multiprocessing") as caught:
        daemon(run, "CartPole-v1", pin)
    assert ("pool:0 starts none" in str(caught.value)) == pin.startswith("pool")


def test_a_pool_that_comes_to_one_lane_runs_as_that():
    assert daemon(number_of_one) == "pool:0"


def number_of_one():
    with auto_make_vec("CartPole-v1", 1, "pool") as envs:
        envs.reset(seed=1)
        return envs.mode


@pytest.mark.parametrize("effort", ["rule", "measure", "race"])
@pytest.mark.parametrize("id", IDS)
def test_without_a_pin_something_runs_and_the_plan_says_why(id, effort):
    mode, decided_by, reason, skipped = daemon(run, id, "auto", effort)
    assert (mode, decided_by) == ("sync", "elimination")
    assert "this process is a daemon of multiprocessing" in reason
    assert skipped["pool"].endswith("pool:0 starts none")
    assert "daemon" in skipped["async"]


def test_options_of_processes_do_not_stand_in_the_way():
    options = {"on_worker_death": "restart", "context": "spawn"}
    assert daemon(run, "CartPole-v1", "auto", "measure", options)[0] == "sync"
    assert daemon(run, "CartPole-v1", "pool:0", "measure", options)[0] == "pool:0"


def test_a_deadline_is_kept_by_threads_or_not_promised():
    deadline = {"step_timeout_s": 60.0}
    mode, decided_by, _, skipped = daemon(run, "CartPole-v1", "auto", "measure", deadline)
    assert (mode, decided_by) == ("thread:4", "elimination")
    assert "cannot keep step_timeout_s" in skipped["sync"]
    with pytest.raises(ModeUnavailable, match="where nothing could keep the deadline"):
        daemon(run, "CartPole-v1", "pool:0", "measure", deadline)
    restart = {**deadline, "on_worker_death": "restart"}
    with pytest.raises(RequestError, match="sync: it cannot keep step_timeout_s"):
        daemon(run, "CartPole-v1", "auto", "measure", restart)


def test_the_pool_is_among_the_modes():
    modes = daemon(available_modes)
    assert modes["pool"] is modes["thread"] is modes["sync"] is None
    assert "daemon" in modes["async"]


@pytest.mark.full
def test_a_sweep_times_what_starts_no_process():
    measured, skipped = daemon(swept)
    assert measured == {"sync", "pool:0", "thread:1"}
    assert set(skipped) == {"pool:1", "async"}
    assert all("daemon of multiprocessing" in reason for reason in skipped.values())


def swept():
    modes = ["sync", "pool:0", "pool:1", "thread:1", "async"]
    points = sweep("CartPole-v1", [2], modes=modes, budget_s=1.0).points
    measured = {point.mode for point in points if point.env_steps_per_s is not None}
    return measured, {point.mode: point.skipped for point in points if point.skipped}
