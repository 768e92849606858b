"""Races in a process of their own: what environments do there harms nobody here."""

import os
import signal
import sys
import time

import numpy as np
import psutil
import pytest

from tests.zoo import EchoEnv
from vecselect import ProfileError, recommend
from vecselect.planning import apart
from vecselect.planning.rounds import Terms
from vecselect.request import read_request


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


def race(env_fn, num_envs=4, limit_s=5.0, **options):
    request = read_request(env_fn, num_envs)
    terms = Terms(block_s=0.005, max_rounds=5, deadline_s=time.perf_counter() + limit_s)
    return apart.race_apart(request, ["sync", "pool:0"], None, terms, **options)


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture
def nothing_left():
    race(EchoEnv)  # the fork server and the resource tracker stay
    before = children()
    yield
    until_s = time.monotonic() + 10
    while children() - before and time.monotonic() < until_s:
        time.sleep(0.05)
    assert children() <= before


def test_a_race_apart_is_a_race(nothing_left):
    record = race(EchoEnv)
    assert [entrant.mode for entrant in record.entrants] == ["sync", "pool:0"]
    assert record.compared_steps >= 1
    assert record.difference is None


@pytest.mark.parametrize(("how", "words"), [("exit", "exited with code 5"), ("die", "SIGSEGV")])
def test_a_crash_ends_the_race_and_nothing_else(how, words, nothing_left):
    with pytest.raises(apart.RaceLost, match=words):
        race(odd(how))


@pytest.mark.full
def test_a_race_that_hangs_is_ended(monkeypatch, nothing_left):
    monkeypatch.setattr(apart, "STALL_LIMIT_S", 1.0)
    start_s = time.monotonic()
    with pytest.raises(apart.RaceLost, match="did not end within 1 s of its time"):
        race(odd("hang"), limit_s=0.5)
    assert time.monotonic() - start_s < 20


def test_what_the_environment_raises_in_all_modes_is_its_own_error(nothing_left):
    with pytest.raises(ProfileError, match="LookupError: the third one") as caught:
        race(odd("raise"))
    assert isinstance(caught.value.__cause__, LookupError)


def test_what_building_raises_in_all_modes_is_raised_here_as_it_is(nothing_left):
    def broken():
        raise LookupError("no such joint")

    with pytest.raises(LookupError, match="^no such joint") as caught:
        race(broken)
    assert "in broken" in str(caught.value.__cause__)


def test_what_the_environment_prints_does_not_get_into_the_output(capfd, nothing_left):
    race(odd("print"))
    assert capfd.readouterr().out == ""


def test_progress_comes_through():
    said = []
    request = read_request(EchoEnv, 2)
    deadline_s = time.perf_counter() + 5
    terms = Terms(0.005, 5, deadline_s, progress=said.append)
    apart.race_apart(request, ["sync", "pool:0"], 1e-5, terms)
    assert said[0] == "building sync"
    assert any(text.startswith("round 1") for text in said)


def test_the_plan_says_that_the_race_was_lost_and_the_prediction_stands():
    plan = recommend(odd("exit"), 4, effort="race", budget_s=6.0, use_store=False)
    assert plan.decided_by == "model"
    assert any("The race came to nothing: its process exited" in note.text for note in plan.notes)


def test_the_caller_s_process_is_not_touched():
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
