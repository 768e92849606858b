"""Races that are run: what is recorded, what differs, what fails, here and in a process apart."""

import functools
import gc
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tests.processes import children, wait_until_gone
from tests.racers import (
    NUM_ENVS,
    ClosingEnv,
    FickleEnv,
    HomeEnv,
    StuckEnv,
    WaitEnv,
    in_a_worker,
    left_out,
    race,
    the_modes,
)
from tests.zoo import EchoEnv, GlobalEnv, InfoEnv
from vecselect import ProfileError, Report, recommend
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


ONE_OF_EACH = ["sync", "pool:0", "pool:1", "pool:2", "async", "thread:1"]
DISABLED = {"autoreset_mode": AutoresetMode.DISABLED}


@pytest.mark.parametrize(
    ("makes", "options"),
    [
        pytest.param([functools.partial(InfoEnv, i) for i in range(3)], {}, id="infos that differ"),
        pytest.param([functools.partial(EchoEnv, i) for i in range(3)], DISABLED, id="DISABLED"),
    ],
)
def test_all_modes_return_the_same(makes, options):
    record = race(makes, ONE_OF_EACH, vector_kwargs=options, max_rounds=1)
    assert (record.difference, left_out(record)) == (None, {})
    assert record.compared_steps >= 1
    assert the_modes(record) == ONE_OF_EACH


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
    ("how", "most"),
    [
        ({"max_rounds": 2}, 2),
        ({"max_rounds": 10**6, "budget_s": -5}, 1),
        ({"max_rounds": 10**6, "budget_s": 1.5}, 10**5),
    ],
)
def test_rounds_end_with_their_number_or_the_time(how, most):
    start_s = time.perf_counter()
    modes = ["pool:0", "pool:1"]
    record = race(WaitEnv, modes, block_s=1e-4, **how)
    assert 1 <= record.rounds <= most
    assert the_modes(record) == modes
    assert time.perf_counter() - start_s < 20


# Different results


@pytest.mark.parametrize(
    ("make", "differs", "place"),
    [
        (GlobalEnv, "pool:0", "step 1[0]"),
        (StuckEnv, "pool:1", "step 1[1]"),
    ],
)
def test_the_first_difference_is_named_though_it_be_small(make, differs, place):
    record = race([make] * 2, ["sync", "pool:0", "pool:1"])
    assert the_modes(record) == ["sync", "pool:0", "pool:1"]
    assert record.difference.startswith(f"{differs}, {place}")
    assert record.difference.endswith(" in sync")


@pytest.mark.full
def test_where_the_environment_differs_from_itself_the_times_decide(processes_end):
    plan = recommend(FickleEnv, 2, effort="race", budget_s=3.0, use_store=False)
    assert plan.evidence.race.difference is None
    assert left_out(plan.evidence.race) == {}
    assert plan.mode != "sync"
    assert "not-repeatable" in [note.code for note in plan.notes]
    assert "to the bit" not in str(Report(plan))


def test_what_another_implementation_returns_is_not_compared():
    record = race("CartPole-v1", ["sync", "native"])
    assert record.difference is None
    assert record.of("native").loop_s.mid > 0


# Candidates that fail


@pytest.mark.filterwarnings("ignore:.*Received the following error from Worker:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Raising the last exception back to the main:UserWarning")
@pytest.mark.parametrize("phase", ["construct", "reset", "step"])
@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_one_that_fails_is_out_and_the_race_goes_on(mode, phase):
    record = race(functools.partial(HomeEnv, phase), ["sync", mode, "pool:0"])
    assert list(left_out(record)) == [mode]
    if (mode, phase) != ("async", "construct"):  # of which the caller sees a broken pipe
        assert "OSError: the licence allows one process" in left_out(record)[mode]
    assert the_modes(record) == ["sync", "pool:0"]
    assert record.difference is None


class OneAwayEnv(EchoEnv):
    """Of several the second cannot be built in a worker."""

    def __init__(self, index):
        super().__init__(index)
        if index == 1 and in_a_worker():
            raise OSError("the licence allows one process")


def test_async_of_which_one_cannot_be_built_leaves_no_process():
    before = children()
    gc.disable()
    try:
        record = race([functools.partial(OneAwayEnv, i) for i in range(3)], ["sync", "async"])
        assert list(left_out(record)) == ["async"]
        wait_until_gone(before, limit_s=3)
    finally:
        gc.enable()
        gc.collect()
        wait_until_gone(before)


def test_where_the_first_fails_the_next_ones_race():
    class AwayEnv(EchoEnv):
        def step(self, action):
            if not in_a_worker():
                raise OSError("not in the main process")
            return super().step(action)

    record = race([AwayEnv] * 2, ["sync", "async"])
    assert list(left_out(record)) == ["sync"]
    assert the_modes(record) == ["async"]


class Broken(EchoEnv):
    def step(self, action):
        raise LookupError("no such joint")


def cannot_be_built():
    raise LookupError("no such joint")


@pytest.mark.parametrize("modes", [["sync"], ["sync", "pool:0", "pool:1"]])
def test_where_all_fail_it_is_a_profile_error_or_what_building_raised(modes):
    message = "Every mode failed.*LookupError.*no such joint"
    with pytest.raises(ProfileError, match=message) as caught:
        race(Broken, modes)
    assert isinstance(caught.value.__cause__, LookupError)
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


def test_ctrl_c_while_the_candidates_are_built_leaves_no_process():
    before = children()

    def progress(text):
        if text == "building pool:0 x 2":
            assert children() - before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(EchoEnv, ["pool:1", "async", "pool:0"], progress=progress)
    assert children() <= before


@pytest.mark.parametrize("fails", [False, True])
def test_every_environment_is_closed_and_global_generators_are_left_as_they_were(tmp_path, fails):
    def learn():
        random.random()
        np.random.random()
        if fails:
            raise LookupError("no such layer")

    python, numpy = random.getstate(), np.random.get_state()
    for make in (functools.partial(ClosingEnv, tmp_path), GlobalEnv):
        try:
            race(make, ["sync", "pool:0"], learner=learn)
        except ProfileError:
            assert fails
    assert len(list(tmp_path.iterdir())) >= (1 if fails else 2)
    assert random.getstate() == python
    for one, other in zip(np.random.get_state(), numpy, strict=True):
        assert np.array_equal(one, other)


# In a process of its own: what environments do there harms nobody here


class Odd(EchoEnv):
    """Behaves while it is profiled; from the third instance on in a process it does not."""

    made = 0
    pid = 0
    how = ""

    def __init__(self):
        super().__init__()
        cls = type(self)
        if cls.pid != os.getpid():
            cls.pid, cls.made = os.getpid(), 0
        cls.made += 1
        self.odd = cls.made >= 3

    def step(self, action):
        if self.odd:
            if self.how == "exit":
                os._exit(5)
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.how == "hang":
                time.sleep(3600)
            if self.how == "raise":
                raise LookupError("the third one")
            if self.how == "print":
                sys.stdout.write("from the environment\n")
        return super().step(action)


def odd(how):
    return type("Odd", (Odd,), {"how": how})


def isolated(env_fn, num_envs=4, **how):
    return race(env_fn, ["sync", "pool:0"], num_envs=num_envs, isolated=True, **how)


def test_a_race_in_a_process_of_its_own_is_a_race_and_tells_how_far_it_is(processes_end):
    told = []
    record = isolated(EchoEnv, progress=told.append)
    assert the_modes(record) == ["sync", "pool:0"]
    assert record.compared_steps >= 1
    assert record.difference is None
    assert told[0] == "building sync x 4"
    assert any(text.startswith("round 1") for text in told)


@pytest.mark.parametrize(("how", "words"), [("exit", "exited with code 5"), ("die", "SIGSEGV")])
def test_a_crash_ends_the_race_and_nothing_else(how, words, processes_end):
    with pytest.raises(IsolatedLost, match=words):
        isolated(odd(how))


@pytest.mark.full
def test_a_race_that_hangs_is_ended(monkeypatch, processes_end):
    monkeypatch.setattr("vecselect.process.isolated.STALL_LIMIT_S", 1.0)
    start_s = time.monotonic()
    with pytest.raises(IsolatedLost, match="it was still running 1 s after its time was up"):
        isolated(odd("hang"), budget_s=0.5)
    assert time.monotonic() - start_s < 20


def test_what_the_environment_raises_in_all_modes_is_its_own_error(processes_end):
    with pytest.raises(ProfileError, match="LookupError: the third one") as caught:
        isolated(odd("raise"))
    assert isinstance(caught.value.__cause__, LookupError)


def test_what_building_raises_in_all_modes_is_raised_here_as_it_is(processes_end):
    with pytest.raises(LookupError, match="^no such joint") as caught:
        isolated(cannot_be_built)
    assert "in cannot_be_built" in str(caught.value.__cause__)


def test_what_the_environment_prints_does_not_get_into_the_output(capfd, processes_end):
    isolated(odd("print"))
    assert capfd.readouterr().out == ""


def test_the_plan_says_that_the_race_was_lost_and_the_prediction_stands(processes_end):
    plan = recommend(odd("exit"), 4, effort="race", budget_s=6.0, use_store=False)
    assert plan.decided_by == "model"
    assert any("The race failed: its process exited" in note.text for note in plan.notes)


def test_the_caller_s_process_is_not_touched(processes_end):
    class Touching(EchoEnv):
        touched = []

        def __init__(self):
            super().__init__()
            self.touched.append(os.getpid())
            np.random.random()

    before = np.random.get_state()[1].tolist()
    plan = recommend(Touching, 3, effort="race", budget_s=6.0, use_store=False)
    assert plan.decided_by == "race"
    assert Touching.touched == []
    assert np.random.get_state()[1].tolist() == before
