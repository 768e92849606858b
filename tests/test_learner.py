"""What runs between two vector steps of a race: what the user gives, and what was observed."""

import math
import time

import numpy as np
import pytest

from tests.fake_torch import a_learner
from vecselect.errors import ProfileError, RequestError
from vecselect.measure.learner import TRIES, Learner, check_learner

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


def test_what_was_given_wins_over_what_was_observed(torch):
    assert a_learner(0.001, observed_s=0.5).seconds == 0.001
    assert a_learner(lambda: None, observed_s=0.5).kind == "callable"


# What is refused


@pytest.mark.parametrize("given", [None, 0, 1, 0.5, len, lambda: None, WithCall()])
def test_callables_seconds_and_nothing_are_accepted(given):
    check_learner(given)


@pytest.mark.parametrize(
    "given",
    ["0.1", -1, -1e-9, math.inf, math.nan, True, False, 1j, [], {}, (0.1,), np.ones(1), object()],
    ids=repr,
)
def test_everything_else_is_refused_with_advice(given):
    with pytest.raises(RequestError, match="learner is .*; give a callable.*0.001"):
        check_learner(given)


def test_a_torch_module_s_class_is_no_reason_to_refuse_it():
    class Policy:
        def __call__(self, x):
            return x

    check_learner(Policy())


# What was observed


def test_what_was_observed_is_burnt_where_torch_is_not_loaded(no_torch):
    learner = a_learner(observed_s=0.005)
    assert (learner.kind, learner.seconds) == ("observed", 0.005)
    before_s = time.thread_time()
    learner.run(np.ones((3, 2)))
    assert 0.005 <= time.thread_time() - before_s < 0.5


def test_what_was_observed_is_the_stand_in_and_busy_work_where_torch_is_loaded(torch):
    learner = a_learner(observed_s=0.03)
    assert (learner.kind, learner.seconds) == ("observed", 0.03)
    torch.pass_s = 0.005
    for _ in range(2 * TRIES):
        start_s = time.perf_counter()
        learner.run(np.ones((3, 2)))
        assert 0.03 <= time.perf_counter() - start_s < 0.5
    assert len(torch.inputs) == 2 * TRIES * 2


def test_a_stand_in_that_takes_longer_than_what_was_observed_is_given_up(torch):
    torch.pass_s = 0.02
    learner = a_learner(observed_s=0.03)
    for _ in range(2 * TRIES):
        learner.run(np.ones((3, 2)))
    assert len(torch.inputs) == TRIES * 2
    before_s = time.thread_time()
    learner.run(np.ones((3, 2)))
    assert time.thread_time() - before_s < 2 * torch.pass_s


def test_a_gap_of_nothing_was_observed_too(no_torch):
    learner = a_learner(observed_s=0.0)
    assert (learner.kind, learner.seconds) == ("observed", 0.0)
    learner.run(None)


def test_a_learner_is_a_plain_value():
    learner = Learner("none")
    assert (learner.kind, learner.run, learner.seconds) == ("none", None, None)
