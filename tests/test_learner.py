"""What runs between two vector steps of a race."""

import contextlib
import math
import sys
import time
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from vecselect.errors import ProfileError, RequestError
from vecselect.measure.learner import (
    HIDDEN_UNITS,
    MAX_FEATURES,
    Learner,
    check_learner,
    loaded_torch,
    one_thread,
    read_learner,
    torch_threads,
)

NUM_ENVS = 3
ACTIONS = spaces.Discrete(4)


class FakeTorch(types.ModuleType):
    """As much of torch as the stand-in uses; notes what it was given."""

    def __init__(self, threads=4):
        super().__init__("torch")
        self.threads = threads
        self.threads_set = []
        self.layers = []
        self.inputs = []
        self.built = 0
        self.grad = True
        self.pass_s = 0.0
        outer = self

        class Linear:
            def __init__(self, inputs, outputs):
                outer.layers.append((inputs, outputs))

        class Tanh:
            pass

        class Sequential:
            def __init__(self, *layers):
                outer.built += 1

            def __call__(self, features):
                assert not outer.grad
                outer.inputs.append(features)
                end_s = time.thread_time() + outer.pass_s
                while time.thread_time() < end_s:
                    pass

        self.nn = types.SimpleNamespace(Linear=Linear, Tanh=Tanh, Sequential=Sequential)

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads
        self.threads_set.append(threads)

    @contextlib.contextmanager
    def no_grad(self):
        self.grad = False
        try:
            yield
        finally:
            self.grad = True

    @staticmethod
    def from_numpy(array):
        assert array.flags.writeable  # torch warns about others
        return array


@pytest.fixture
def torch(monkeypatch):
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def a_learner(given=None, observed_s=None, num_envs=NUM_ENVS, action_space=ACTIONS):
    return read_learner(given, num_envs, action_space, observed_s)


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


def test_what_was_observed_is_a_forward_pass_and_busy_work_where_torch_is_loaded(torch):
    learner = a_learner(observed_s=0.02)
    assert (learner.kind, learner.seconds) == ("observed", 0.02)
    torch.pass_s = 0.01
    for _ in range(2):
        start_s = time.perf_counter()
        learner.run(np.ones((3, 2)))
        assert 0.02 <= time.perf_counter() - start_s < 0.5
    assert len(torch.inputs) == 2


def test_a_forward_pass_longer_than_what_was_observed_is_not_prolonged(torch):
    torch.pass_s = 0.05
    learner = a_learner(observed_s=0.049)
    before_s = time.thread_time()
    learner.run(np.ones((3, 2)))
    assert 0.05 <= time.thread_time() - before_s < 0.09
    assert len(torch.inputs) == 1


def test_a_gap_of_nothing_was_observed_too(no_torch):
    learner = a_learner(observed_s=0.0)
    assert (learner.kind, learner.seconds) == ("observed", 0.0)
    learner.run(None)


# The stand-in


def test_without_torch_there_is_no_stand_in(no_torch):
    assert loaded_torch() is None
    assert torch_threads() is None
    learner = a_learner()
    assert (learner.kind, learner.run, learner.seconds) == ("none", None, None)


def test_torch_is_never_imported_for_it(no_torch):
    a_learner()
    assert "torch" not in sys.modules


def test_a_module_that_only_is_called_torch_is_not_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert loaded_torch() is None
    assert a_learner().kind == "none"


def batch_of(space, num_envs=NUM_ENVS):
    batched = gym.vector.utils.batch_space(space, num_envs)
    batched.seed(0)
    return batched.sample()


@pytest.mark.parametrize(
    ("space", "features"),
    [
        pytest.param(spaces.Box(-1, 1, (5,), np.float64), 5, id="box"),
        pytest.param(spaces.Box(-1, 1, (), np.float32), 1, id="box of one number"),
        pytest.param(spaces.Box(-1, 1, (2, 3), np.float32), 6, id="matrix"),
        pytest.param(spaces.Discrete(7), 1, id="discrete"),
        pytest.param(spaces.MultiBinary(4), 4, id="multibinary"),
        pytest.param(spaces.MultiDiscrete([3, 4]), 2, id="multidiscrete"),
        pytest.param(spaces.Box(0, 255, (10, 10, 3), np.uint8), 300, id="small image"),
        pytest.param(spaces.Box(0, 255, (96, 96, 3), np.uint8), MAX_FEATURES, id="image"),
        pytest.param(
            spaces.Dict(
                {
                    "position": spaces.Box(-1, 1, (3,), np.float32),
                    "image": spaces.Box(0, 255, (4, 4, 2), np.uint8),
                    "count": spaces.Discrete(7),
                    "deep": spaces.Dict({"x": spaces.MultiBinary(2)}),
                }
            ),
            3 + 32 + 1 + 2,
            id="dict",
        ),
        pytest.param(
            spaces.Dict(
                {
                    "left": spaces.Box(0, 255, (64, 64, 3), np.uint8),
                    "right": spaces.Box(0, 255, (64, 64, 3), np.uint8),
                }
            ),
            MAX_FEATURES,
            id="two images",
        ),
        pytest.param(
            spaces.Tuple((spaces.Discrete(5), spaces.Box(0, 1, (2,), np.float64))), 3, id="tuple"
        ),
        pytest.param(
            spaces.Dict({"say": spaces.Text(5), "x": spaces.Box(0, 1, (2,), np.float32)}),
            2,
            id="dict with text",
        ),
        pytest.param(spaces.Text(8), 1, id="text"),
        pytest.param(spaces.Sequence(spaces.Discrete(4)), 1, id="sequence"),
        pytest.param(spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)), 1, id="graph"),
    ],
)
def test_the_stand_in_gets_one_row_of_features_per_sub_environment(torch, space, features):
    learner = a_learner()
    assert (learner.kind, learner.seconds) == ("stand-in", None)
    learner.run(batch_of(space))
    (given,) = torch.inputs
    assert given.shape == (NUM_ENVS, features)
    assert given.dtype == np.float32
    assert torch.layers[0] == (features, HIDDEN_UNITS)


def test_the_features_are_the_observations_themselves(torch):
    batch = {"a": np.array([[1, 2], [3, 4], [5, 6]], np.uint8), "b": np.array([7.5, 8.5, 9.5])}
    a_learner().run(batch)
    assert torch.inputs[0].tolist() == [[1, 2, 7.5], [3, 4, 8.5], [5, 6, 9.5]]


def test_objects_in_a_batch_are_passed_over(torch):
    batch = np.empty(NUM_ENVS, object)
    a_learner().run((batch, np.ones((NUM_ENVS, 2))))
    assert torch.inputs[0].tolist() == [[1.0, 1.0]] * NUM_ENVS


def test_the_network_is_built_once(torch):
    learner = a_learner()
    for _ in range(5):
        learner.run(np.ones((NUM_ENVS, 4)))
    assert torch.built == 1
    assert len(torch.inputs) == 5


@pytest.mark.parametrize(
    ("action_space", "outputs"),
    [
        (spaces.Discrete(4), 4),
        (spaces.Discrete(1, start=5), 1),
        (spaces.Box(-1, 1, (6,)), 6),
        (spaces.Box(-1, 1, ()), 1),
        (spaces.MultiDiscrete([3, 4]), 2),
        (spaces.MultiBinary(3), 3),
        (spaces.Dict({"a": spaces.Discrete(2)}), 1),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))), 1),
        (spaces.Text(4), 1),
    ],
    ids=str,
)
def test_the_network_has_as_many_outputs_as_an_action_has_numbers(torch, action_space, outputs):
    a_learner(action_space=action_space).run(np.ones((NUM_ENVS, 2)))
    assert torch.layers == [
        (2, HIDDEN_UNITS),
        (HIDDEN_UNITS, HIDDEN_UNITS),
        (HIDDEN_UNITS, outputs),
    ]


def test_the_stand_in_leaves_torch_s_threads_alone(torch):
    a_learner().run(np.ones((NUM_ENVS, 2)))
    assert torch.threads_set == []


def test_the_stand_in_leaves_the_batch_alone(torch):
    batch = np.ones((NUM_ENVS, 2))
    batch.flags.writeable = False
    a_learner().run(batch)
    assert torch.inputs[0] is not batch


# torch's threads


def test_one_thread_is_set_and_then_put_back(torch):
    assert torch_threads() == 4
    with one_thread():
        assert torch_threads() == 1
    assert torch_threads() == 4
    assert torch.threads_set == [1, 4]


def test_one_thread_is_put_back_after_an_error(torch):
    with pytest.raises(LookupError), one_thread():
        raise LookupError
    assert torch_threads() == 4


def test_a_learner_is_a_plain_value():
    learner = Learner("none")
    assert (learner.kind, learner.run, learner.seconds) == ("none", None, None)
