"""Races that are run: what is recorded, what differs, what fails, here and in a process apart."""

import functools
import os
import random
import signal
import sys
import time

import numpy as np
import pytest

from tests.processes import children
from tests.racers import (
    NUM_ENVS,
    ClosingEnv,
    HomeEnv,
    WaitEnv,
    left_out,
    race,
    the_modes,
)
from tests.zoo import EchoEnv, GlobalEnv
from vecselect import ProfileError, recommend
from vecselect.measure.trial import COMPARED_STEPS
from vecselect.process.isolated import IsolatedLost

pytestmark = pytest.mark.usefixtures("no_process_is_left")


# The record


def test_a_race_records_the_blocks_of_all():
    told = []
    record = race(EchoEnv, progress=told.append)
    assert told[:3] == [
        *("building sync x 2", "building pool:1 x 2", "round 1: sync x 2, pool:1 x 2")
    ]
    assert the_modes(record) == ["sync", "pool:1"]
    assert (record.difference, left_out(record)) == (None, {})
    assert 1 <= record.compared_steps <= COMPARED_STEPS
    assert 1 <= record.rounds <= 3
    assert 0 < record.seconds < 60
    for entrant in record.entrants:
        assert 1 <= len(entrant.blocks_s) <= record.rounds
        assert min(entrant.blocks_s) > 0
        assert entrant.loop_s.low < entrant.loop_s.mid < entrant.loop_s.high
        assert entrant.learner_s == 0.0
        assert entrant.vector_steps >= 1
        assert entrant.memory_bytes > 1e6
    assert max(len(entrant.blocks_s) for entrant in record.entrants) == record.rounds


def test_the_faster_is_measured_faster():
    record = race(WaitEnv, ["sync", "pool:1", "pool:3"], num_envs=4, block_s=0.01, max_rounds=6)
    gain = record.speedup("pool:3")
    assert 2 < gain.mid < 8
    assert gain.low < gain.mid < gain.high
    assert record.of("pool:3").loop_s.mid < record.of("sync").loop_s.mid / 2


def test_the_learner_runs_between_steps_and_counts():
    batches = []
    record = race(EchoEnv, learner=batches.append)
    assert len(batches) > record.entrants[0].vector_steps
    assert all(batch.shape == (NUM_ENVS, 5) for batch in batches)
    slow = race(EchoEnv, learner=0.002)
    for entrant in slow.entrants:
        # Its share of the loop is taken from sums, the loop from ratios to the leader's.
        assert 0.1 * 0.002 <= entrant.learner_s < entrant.loop_s.mid


@pytest.mark.parametrize(
    ("limit", "most"), [({"max_rounds": 2}, 2), ({"budget_s": -5}, 1), ({"budget_s": 1.5}, 10**5)]
)
def test_no_more_rounds_or_time_than_allowed(limit, most):
    start_s = time.perf_counter()
    record = race(WaitEnv, ["pool:0", "pool:1"], block_s=1e-4, **{"max_rounds": 10**6, **limit})
    assert 1 <= record.rounds <= most
    assert the_modes(record) == ["pool:0", "pool:1"]
    assert time.perf_counter() - start_s < 20


def test_what_another_implementation_returns_is_not_compared():
    record = race("CartPole-v1", ["sync", "native"])
    assert record.difference is None
    assert record.of("native").loop_s.mid > 0


# Candidates that fail


@pytest.mark.filterwarnings("ignore:.*Received the following error from Worker:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Raising the last exception back to the main:UserWarning")
@pytest.mark.parametrize(
    ("mode", "phase"),
    [("pool:1", "construct"), ("pool:1", "step"), ("async", "construct"), ("async", "reset")],
)
def test_one_that_fails_is_out_and_the_race_goes_on(mode, phase):
    record = race(functools.partial(HomeEnv, phase), ["sync", mode, "pool:0"])
    assert list(left_out(record)) == [mode]
    if (mode, phase) != ("async", "construct"):  # of which the caller sees a broken pipe
        assert "OSError: the licence allows one process" in left_out(record)[mode]
    assert the_modes(record) == ["sync", "pool:0"]
    assert record.difference is None


class Broken(EchoEnv):
    def step(self, action):
        raise LookupError("no such joint")


def cannot_be_built():
    raise LookupError("no such joint")


@pytest.mark.parametrize("modes", [["sync"], ["sync", "pool:1"]])
def test_where_all_fail_it_is_a_profile_error_or_what_building_raised(modes):
    with pytest.raises(ProfileError, match="Every mode failed.*LookupError.*no such joint"):
        race(Broken, modes)
    with pytest.raises(LookupError, match="^'?no such joint'?$"):
        race(cannot_be_built, modes)


# The end, whatever happens


@pytest.mark.parametrize("phase", ["building", "round 1"])
@pytest.mark.parametrize(
    ("raised", "seen_as", "message"),
    [
        (LookupError("no such layer"), ProfileError, "learner raised LookupError.*no such layer"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
    ids=["an error", "Ctrl-C"],
)
def test_a_failing_learner_and_ctrl_c_leave_no_process(phase, raised, seen_as, message):
    before, told = children(), []

    def learn(observations):
        assert children() - before
        if told[-1].startswith(phase):
            raise raised

    with pytest.raises(seen_as, match=message):
        race(EchoEnv, ["pool:1", "async", "sync"], learner=learn, progress=told.append)
    assert children() <= before


def test_every_environment_is_closed_and_global_generators_are_left_as_they_were(tmp_path):
    def learn():
        random.random()
        np.random.random()

    before = random.getstate(), np.random.get_state()[1].tolist()
    race(functools.partial(ClosingEnv, tmp_path), ["sync", "pool:0"], learner=learn)
    assert len(list(tmp_path.iterdir())) >= 2
    race(GlobalEnv, ["sync", "pool:0"], learner=learn)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


# In a process of its own: what environments do there harms nobody here


class Odd(EchoEnv):
    """Behaves while it is profiled; from the third instance on in a process it does a deed."""

    made, pid = 0, 0

    def __init__(self):
        super().__init__()
        cls = type(self)
        if cls.pid != os.getpid():
            cls.pid, cls.made = os.getpid(), 0
        cls.made += 1
        self.odd = cls.made >= 3

    def step(self, action):
        if self.odd:
            self.deed()
        return super().step(action)


def odd(deed):
    return type("Odd", (Odd,), {"deed": staticmethod(deed)})


def end():
    os._exit(5)


def isolated(env_fn, num_envs=4, **how):
    return race(env_fn, ["sync", "pool:0"], num_envs=num_envs, isolated=True, **how)


def test_a_race_in_a_process_of_its_own_is_a_race_and_harms_nothing_here(processes_end, capfd):
    class Touching(EchoEnv):
        touched = []

        def __init__(self):
            super().__init__()
            self.touched.append(os.getpid())
            np.random.random()
            sys.stdout.write("from the environment\n")

    told, before = [], np.random.get_state()[1].tolist()
    record = isolated(Touching, progress=told.append)
    assert the_modes(record) == ["sync", "pool:0"]
    assert record.compared_steps >= 1
    assert record.difference is None
    assert told[0] == "building sync x 4"
    assert any(text.startswith("round 1") for text in told)
    assert Touching.touched == []
    assert np.random.get_state()[1].tolist() == before
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (end, "its process exited with code 5"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
        pytest.param(
            lambda: time.sleep(3600), "still running 1 s after its time", marks=pytest.mark.full
        ),
    ],
)
def test_a_crash_or_a_hang_ends_the_race_and_nothing_else(deed, words, processes_end, monkeypatch):
    if "running" in words:
        monkeypatch.setattr("vecselect.process.isolated.STALL_LIMIT_S", 1.0)
    with pytest.raises(IsolatedLost, match=words):
        isolated(odd(deed), budget_s=0.5)


def test_what_is_raised_in_all_modes_is_raised_here_with_its_cause(processes_end):
    with pytest.raises(ProfileError, match="ZeroDivisionError: division") as caught:
        isolated(odd(lambda: 1 / 0))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(LookupError, match="^no such joint") as caught:
        isolated(cannot_be_built)
    assert "in cannot_be_built" in str(caught.value.__cause__)


def test_the_plan_says_that_the_race_was_lost_and_the_prediction_stands(processes_end):
    plan = recommend(odd(end), 4, effort="race", budget_s=6.0, use_store=False)
    assert plan.decided_by == "model"
    assert any("The race failed: its process exited" in note.text for note in plan.notes)
