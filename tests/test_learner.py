"""What runs between two vector steps: what the user gives, its cost, and its threads."""

import hashlib
import math
import threading
import time

import numpy as np
import pytest

from tests.fake_torch import ACTIONS, FakeLibraries, a_learner
from vecselect.errors import ProfileError, RequestError
from vecselect.measure import learner as module
from vecselect.measure.clock import OtherThreads
from vecselect.measure.learner import FIRST_CALL_S, measure_learner
from vecselect.options import check_learner
from vecselect.selection.evidence import LearnerCost

# Callables


class WithCall:
    def __init__(self):
        self.seen = []

    def __call__(self, observations):
        self.seen.append(observations)


def test_a_callable_gets_the_batch_of_observations():
    seen, batch = [], np.ones((3, 2))
    learner = a_learner(seen.append)
    learner.run(batch)
    assert learner.kind == "callable"
    assert learner.seconds is None
    assert seen[0] is batch


def test_a_callable_that_takes_nothing_gets_nothing():
    calls = []

    def learn():
        calls.append("called")

    a_learner(learn).run(np.ones(3))
    assert calls == ["called"]


@pytest.mark.parametrize("name", ["default", "keyword", "variadic", "object"])
def test_whatever_can_take_observations_gets_them(name):
    seen = []
    callables = {
        "default": lambda observations=None: seen.append(observations),
        "keyword": lambda observations, *, rate=0.1: seen.append(observations),
        "variadic": lambda *args: seen.extend(args),
        "object": WithCall(),
    }
    learn = callables[name]
    a_learner(learn).run("batch")
    assert (learn.seen if name == "object" else seen) == ["batch"]


def test_a_builtin_without_a_signature_gets_the_observations():
    a_learner(dict).run({"x": 1})


@pytest.mark.parametrize("takes", [True, False])
def test_a_failing_callable_is_a_profile_error_that_names_the_learner(takes):
    def with_observations(observations):
        raise LookupError("no such layer")

    def without():
        raise LookupError("no such layer")

    with pytest.raises(
        ProfileError, match="The learner raised LookupError.*no such layer"
    ) as caught:
        a_learner(with_observations if takes else without).run(np.ones(3))
    assert type(caught.value.__cause__) is LookupError


def test_a_type_error_inside_of_a_callable_does_not_make_it_run_twice():
    calls = []

    def learn(observations):
        calls.append(observations)
        raise TypeError("inside")

    with pytest.raises(ProfileError, match="inside"):
        a_learner(learn).run(1)
    assert len(calls) == 1


def test_a_callable_of_two_arguments_fails_with_advice():
    with pytest.raises(ProfileError, match="called with the batch of observations"):
        a_learner(lambda observations, rewards: None).run(np.ones(3))


def test_ctrl_c_passes_through():
    def learn():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        a_learner(learn).run(None)


# Seconds


@pytest.mark.parametrize("seconds", [0.0005, 0.01])
def test_seconds_burn_at_least_that_much_cpu_time(seconds):
    learner = a_learner(seconds)
    assert (learner.kind, learner.seconds) == ("seconds", seconds)
    before_s = time.thread_time()
    learner.run(None)
    assert seconds <= time.thread_time() - before_s < seconds + 0.5


def test_sleeping_would_not_do(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it slept"))
    a_learner(0.001).run(None)


@pytest.mark.parametrize("given", [0, 0.0])
def test_no_seconds_are_no_learner(given, torch):
    learner = a_learner(given)
    assert (learner.kind, learner.run, learner.seconds) == ("none", None, None)


def test_numpy_s_numbers_are_numbers():
    check_learner(np.float32(0.5))
    learner = a_learner(np.float64(0.001))
    assert learner.seconds == 0.001
    assert type(learner.seconds) is float


# What is refused


@pytest.mark.parametrize("given", [None, 0, 1, 0.5, len, lambda: None, WithCall()])
def test_callables_seconds_and_nothing_are_accepted(given):
    check_learner(given)


@pytest.mark.parametrize(
    "given",
    ["0.1", -1, -1e-9, math.inf, math.nan, True, False, 1j, [], {}, (0.1,), np.ones(1), object()],
    ids=lambda given: type(given).__name__,
)
def test_everything_else_is_refused_with_advice(given):
    with pytest.raises(RequestError, match="learner is .*; give a callable.*0.001"):
        check_learner(given)


def test_a_torch_module_s_class_is_no_reason_to_refuse_it():
    class Policy:
        def __call__(self, x):
            return x

    check_learner(Policy())


# What it costs


class World:
    """A made-up clock, a learner on it, and other threads that spin for a while after a call."""

    def __init__(self, torch=None, calls_s=(1e-4,), spin_s=7e-3):
        self.now_s = 0.0
        self.torch = torch
        self.calls_s = calls_s
        self.spin_s = spin_s
        self.calls = 0
        self.ended_s = -1.0
        self.threads = []

    def perf_counter(self):
        self.now_s += 1e-6
        return self.now_s

    def learn(self, observations):
        self.now_s += self.calls_s[min(self.calls, len(self.calls_s) - 1)]
        self.calls += 1
        self.ended_s = self.now_s
        self.threads.append(self.torch.threads if self.torch else None)

    def burnt_s(self):
        spinning = (self.torch.threads if self.torch else 1) - 1
        return spinning * min(self.now_s - self.ended_s, self.spin_s)


@pytest.fixture
def world(monkeypatch, torch):
    made = World(torch)

    class Others:
        def __init__(self):
            self.start_s = made.burnt_s()

        def seconds(self):
            return made.burnt_s() - self.start_s

    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "OtherThreads", Others)
    return made


def measured(given, one_thread=False, observations=None):
    batch = np.ones((3, 2)) if observations is None else observations
    return measure_learner(given, 3, ACTIONS, batch, one_thread=one_thread)


def test_time_and_spin_are_measured_with_the_threads_as_set_and_with_one(world):
    as_set, one = measured(world.learn, one_thread=True)
    assert (as_set.kind, as_set.threads, one.kind) == ("callable", 4, "callable")
    assert as_set.seconds == pytest.approx(1e-4, rel=0.05)
    assert as_set.spinning_cores == pytest.approx(3.0, rel=0.05)
    assert as_set.spin_s == pytest.approx(7e-3, rel=0.05)
    assert (one.threads, one.spinning_cores, one.spin_s) == (1, 0.0, 0.0)
    assert set(world.threads) == {1, 4}
    assert world.torch.threads_set == [1, 4]
    assert world.now_s < 0.04


def test_what_spins_for_longer_than_it_is_looked_at_is_taken_to_stop_then(world):
    world.spin_s = 1.0
    (cost,) = measured(world.learn)
    assert cost.spin_s == pytest.approx(module.LONGEST_SPIN_S, rel=0.05)


def test_a_first_call_that_loads_and_builds_does_not_count(world):
    world.calls_s = (0.1, 1e-3)
    (cost,) = measured(world.learn)
    assert cost.seconds == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(("call_s", "calls"), [(0.03, 2), (2 * FIRST_CALL_S, 1)])
def test_a_slow_learner_runs_twice_and_a_very_slow_one_once(world, call_s, calls):
    world.calls_s = (call_s,)
    (cost,) = measured(world.learn)
    assert cost.seconds == pytest.approx(call_s, rel=0.05)
    assert world.calls == calls


def test_seconds_are_believed_and_nothing_runs(torch):
    assert measured(0.25, one_thread=True) == (LearnerCost("seconds", 0.25, threads=4),)
    assert measured(0, one_thread=True) == (LearnerCost("none", 0.0, threads=4),)
    assert torch.threads_set == []


def test_without_torch_and_without_a_learner_there_is_none(no_torch):
    assert measured(None, one_thread=True) == (LearnerCost("none"),)


def test_where_torch_is_loaded_the_stand_in_is_measured(torch):
    as_set, one = measured(None, one_thread=True)
    assert [as_set.kind, one.kind] == ["stand-in", "stand-in"]
    assert (as_set.threads, one.threads) == (4, 1)
    assert min(as_set.seconds, one.seconds) > 0.0


def test_a_learner_that_raises_while_it_is_measured_is_a_profile_error(torch):
    def learn(observations):
        raise LookupError("no such layer")

    with pytest.raises(ProfileError, match="The learner raised LookupError"):
        measured(learn, one_thread=True)
    assert torch.threads == 4


def test_measuring_gives_it_the_batch_and_leaves_random_numbers_alone(no_torch):
    batch, seen = np.ones((3, 2)), []
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)

    def learn(observations):
        seen.append(observations)
        np.random.random()

    (cost,) = measured(learn, observations=batch)
    assert np.random.random() == expected
    assert len(seen) >= 2
    assert all(one is batch for one in seen)
    assert (cost.kind, cost.threads) == ("callable", None)


def test_a_numerical_library_without_torch_is_measured_with_one_thread_too(no_torch, libraries):
    seen = []
    costs = measured(lambda: seen.append(FakeLibraries.threads), one_thread=True)
    assert [cost.threads for cost in costs] == [None, 1]
    assert set(seen) == {1, 8}
    assert FakeLibraries.threads == 8


# CPU time of other threads


def test_cpu_time_of_other_threads_is_counted_and_that_of_this_one_is_not():
    begin, end, burnt_s = threading.Event(), threading.Event(), []

    def burn():
        begin.wait()
        while time.thread_time() < 0.1:
            hashlib.sha256(bytes(1 << 16))
        burnt_s.append(time.thread_time())
        end.wait()

    thread = threading.Thread(target=burn)
    thread.start()
    others = OtherThreads()
    begin.set()
    while not burnt_s:
        time.sleep(0.005)
    counted_s = others.seconds()
    until_s = time.thread_time() + 0.2
    while time.thread_time() < until_s:
        pass
    assert counted_s > 0.08
    assert others.seconds() - counted_s < 0.1
    end.set()
    thread.join()


def test_where_single_threads_have_no_clock_the_process_tells(monkeypatch):
    monkeypatch.setattr("os.listdir", lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
    others = OtherThreads()
    assert others.count == 0
    assert others.seconds() >= 0.0
