"""What runs between two vector steps: what the user gives, its cost, and its threads."""

import hashlib
import math
import sys
import threading
import time
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.fake_torch import ACTIONS, NUM_ENVS, FakeLibrary, a_learner
from vecselect.errors import ProfileError, RequestError
from vecselect.learner_threads import loaded_torch, torch_threads
from vecselect.measure import learner as module
from vecselect.measure.clock import OtherThreads
from vecselect.measure.learner import FIRST_CALL_S, HIDDEN_UNITS, MAX_FEATURES, measure_learner
from vecselect.request import check_learner
from vecselect.selection.evidence import LearnerCost

# Callables


class WithCall:
    def __init__(self):
        self.seen = []

    def __call__(self, observations):
        self.seen.append(observations)


def test_a_callable_gets_the_batch_of_observations_where_it_can_take_it():
    seen, batch, with_call = [], np.ones((3, 2)), WithCall()
    for learn in (
        seen.append,
        lambda observations=None: seen.append(observations),
        lambda observations, *, rate=0.1: seen.append(observations),
        lambda *args: seen.extend(args),
        with_call,
    ):
        learner = a_learner(learn)
        assert (learner.source, learner.seconds) == ("callable", None)
        learner.run(batch)
    assert len(seen) == 4 and all(one is batch for one in (*seen, *with_call.seen))
    a_learner(dict).run({"x": 1})  # a builtin without a signature
    a_learner(lambda: seen.append("nothing")).run(batch)
    assert seen[-1] == "nothing"


@pytest.mark.parametrize("takes", [True, False])
def test_a_failing_callable_is_a_profile_error_that_names_the_learner(takes):
    calls = []

    def with_observations(observations):
        calls.append(observations)
        raise TypeError("no such layer")

    def without():
        calls.append(None)
        raise TypeError("no such layer")

    with pytest.raises(ProfileError, match="The learner raised TypeError.*no such layer") as caught:
        a_learner(with_observations if takes else without).run(np.ones(3))
    assert type(caught.value.__cause__) is TypeError
    assert len(calls) == 1  # an error inside of it does not make it run again


def test_a_callable_of_two_arguments_fails_with_advice_and_ctrl_c_passes_through():
    with pytest.raises(ProfileError, match="called with the batch of observations"):
        a_learner(lambda observations, rewards: None).run(np.ones(3))

    def learn():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        a_learner(learn).run(None)


# Seconds


def test_seconds_burn_at_least_that_much_cpu_time(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it slept"))
    for seconds in (0.0005, 0.01, np.float64(0.001)):
        learner = a_learner(seconds)
        assert (learner.source, learner.seconds) == ("seconds", seconds)
        assert type(learner.seconds) is float
        before_s = time.thread_time()
        learner.run(None)
        assert seconds <= time.thread_time() - before_s < seconds + 0.5


def test_no_seconds_are_no_learner(torch):
    for given in (0, 0.0):
        learner = a_learner(given)
        assert (learner.source, learner.run, learner.seconds) == ("none", None, None)


def test_callables_seconds_and_nothing_are_accepted_and_all_else_refused_with_advice():
    for given in (None, 0, 1, 0.5, np.float32(0.5), len, lambda: None, WithCall()):
        check_learner(given)
    others = (True, False, 1j, [], {}, (0.1,), np.ones(1), object())
    for given in ("0.1", -1, -1e-9, math.inf, math.nan, *others):
        with pytest.raises(RequestError, match="learner is .*; give a callable.*0.001"):
            check_learner(given)


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

    def process_time(self):
        return self.now_s / 2  # half of the time it waits

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
    assert (as_set.source, as_set.threads, one.source) == ("callable", 4, "callable")
    assert as_set.seconds == pytest.approx(1e-4, rel=0.05)
    assert as_set.spinning_cores == pytest.approx(3.0, rel=0.05)
    assert as_set.spin_s == pytest.approx(7e-3, rel=0.05)
    assert (one.threads, one.spinning_cores, one.spin_s) == (1, 0.0, 0.0)
    assert set(world.threads) == {1, 4}
    assert world.torch.threads_set == [1, 4]
    assert world.now_s < 0.05


def test_what_spins_for_longer_than_it_is_looked_at_is_taken_to_stop_then(world):
    world.spin_s = 1.0
    (cost,) = measured(world.learn)
    assert cost.spin_s == pytest.approx(module.LONGEST_SPIN_S, rel=0.05)


@pytest.mark.parametrize(
    ("calls_s", "seconds", "calls"),
    [
        pytest.param((0.1, 1e-3), 1e-3, None, id="a first call that loads and builds"),
        pytest.param((8e-3, 8e-3, 1e-4), 1e-4, None, id="threads that share a core at first"),
        pytest.param((0.03,), 0.03, 4, id="slow"),
        pytest.param((2 * FIRST_CALL_S,), 2 * FIRST_CALL_S, 1, id="very slow"),
    ],
)
def test_the_calls_that_count(world, calls_s, seconds, calls):
    world.calls_s = calls_s
    (cost,) = measured(world.learn)
    assert cost.seconds == pytest.approx(seconds, rel=0.05)
    assert calls in (None, world.calls)


def test_what_needs_no_measuring_is_believed(torch, monkeypatch):
    assert measured(0.25, one_thread=True) == (LearnerCost("seconds", 0.25, threads=4),)
    assert measured(0, one_thread=True) == (LearnerCost("none", 0.0, threads=4),)
    assert torch.threads_set == []
    as_set, one = measured(None, one_thread=True)  # torch is loaded: a stand-in
    assert [as_set.source, one.source] == ["stand-in", "stand-in"]
    assert (as_set.threads, one.threads) == (4, 1)
    assert min(as_set.seconds, one.seconds) > 0.0
    monkeypatch.delitem(sys.modules, "torch")
    assert measured(None, one_thread=True) == (LearnerCost("none"),)


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
    assert (cost.source, cost.threads) == ("callable", None)


def test_a_numerical_library_without_torch_is_measured_with_one_thread_too(no_torch, libraries):
    seen = []
    costs = measured(lambda: seen.append(FakeLibrary.threads), one_thread=True)
    assert [cost.threads for cost in costs] == [None, 1]
    assert set(seen) == {1, 8}
    assert FakeLibrary.threads == 8


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


# What stands in for it where torch is loaded and no learner is given


def test_without_torch_there_is_no_stand_in_and_it_is_never_imported(no_torch, monkeypatch):
    assert loaded_torch() is torch_threads() is None
    assert a_learner().source == "none"
    assert "torch" not in sys.modules
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))  # only called so
    assert loaded_torch() is None
    assert a_learner().source == "none"


def box(*shape, dtype=np.float32):
    return spaces.Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)


NESTED = {
    "position": box(3),
    "image": box(4, 4, 2, dtype=np.uint8),
    "count": spaces.Discrete(7),
    "deep": spaces.Tuple((spaces.MultiBinary(2), spaces.Text(5))),
}


@pytest.mark.parametrize(
    ("space", "features"),
    [
        (box(5, dtype=np.float64), 5),
        (box(2, 3), 6),
        (spaces.Discrete(7), 1),
        (box(96, 96, 3, dtype=np.uint8), MAX_FEATURES),
        (spaces.Dict(NESTED), 3 + 32 + 1 + 2),
        (spaces.Text(8), 1),
        (spaces.Graph(box(2), spaces.Discrete(3)), 1),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_stand_in_gets_one_row_of_features_per_sub_environment(torch, space, features):
    batched = gym.vector.utils.batch_space(space, NUM_ENVS)
    batched.seed(0)
    a_learner().run(batched.sample())
    given, again = torch.inputs
    assert given is again
    assert (given.shape, given.dtype) == ((NUM_ENVS, features), np.float32)
    assert torch.layers[0] == (features, HIDDEN_UNITS)


def test_the_features_are_the_observations_themselves_which_are_left_alone(torch):
    read_only = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
    read_only.flags.writeable = False
    learner = a_learner()
    learner.run({"a": read_only, "b": np.array([7.5, 8.5, 9.5])})
    assert torch.inputs[0].tolist() == [[1, 2, 7.5], [3, 4, 8.5], [5, 6, 9.5]]
    learner.run((np.empty(NUM_ENVS, object), read_only))  # objects are passed over
    assert torch.inputs[-1].tolist() == read_only.tolist()
    assert (torch.built, len(torch.inputs)) == (2, 4)  # the networks are built once


@pytest.mark.parametrize(
    ("action_space", "outputs"),
    [
        (spaces.Discrete(4), 4),
        (spaces.Discrete(1, start=5), 1),
        (box(6), 6),
        (spaces.MultiDiscrete([3, 4]), 2),
        (spaces.Dict({"a": spaces.Discrete(2)}), 1),
    ],
    ids=str,
)
def test_a_network_has_as_many_outputs_as_an_action_has_numbers(torch, action_space, outputs):
    a_learner(action_space=action_space).run(np.ones((NUM_ENVS, 2)))
    hidden = [(2, HIDDEN_UNITS), (HIDDEN_UNITS, HIDDEN_UNITS)]
    assert torch.layers == [*hidden, (HIDDEN_UNITS, outputs), *hidden, (HIDDEN_UNITS, 1)]
    discrete = isinstance(action_space, spaces.Discrete)
    assert torch.drawn_from == ["Categorical" if discrete else "Normal"]
