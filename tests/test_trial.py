"""Vector environments timed in turns: their order, their blocks, and whether they are the same."""

import collections
import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.records import relaxed
from vecselect import ProfileError
from vecselect.measure.learner import Learner
from vecselect.measure.trial import (
    COMPARED_STEPS,
    Trials,
    first_difference,
    order_of_round,
    repeats_itself,
)

# The order of a round


def test_nobody_runs_first_or_right_after_another_more_often_than_the_others():
    orders = [order_of_round(list("abcd"), number) for number in range(40)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert all(back == there[::-1] for there, back in zip(orders[::2], orders[1::2], strict=True))
    assert len({tuple(order) for order in orders[::2]}) > 5
    pairs = [pair for order in orders for pair in itertools.pairwise(order)]
    for one, other in itertools.combinations("abcd", 2):
        assert pairs.count((one, other)) == pairs.count((other, one)) > 0
    assert {order[0] for order in orders} == set("abcd")


# Trials, of vector environments that cost nothing


class Fake(gym.vector.VectorEnv):
    """Counts its steps in the observations; from a step on, it is another or raises."""

    num_envs = 2
    metadata = {}
    action_space = spaces.MultiDiscrete([2, 2])

    def __init__(self, differs_at=None, raises_at=None):
        self.differs_at, self.raises_at = differs_at, raises_at
        self.steps, self.closed = 0, False

    def reset(self, *, seed=None, options=None):
        return np.zeros(2), {}

    def step(self, actions):
        self.steps += 1
        if self.raises_at is not None and self.steps >= self.raises_at:
            raise OSError("the cable\nwas pulled")
        other = self.differs_at is not None and self.steps >= self.differs_at
        return np.full(2, self.steps + other), np.zeros(2), *np.zeros((2, 2), bool), {}

    def close(self, **how):
        self.closed = True
        raise OSError("it does not want to close")


A, B, C = ("sync", 2), ("pool:0", 2), ("pool:1", 2)


def add_all(some, made, learner=None):
    for which, envs in made.items():
        some.add(which, lambda envs=envs: envs, learner)


def test_all_run_one_block_a_round_and_are_closed_in_the_end():
    made = {A: Fake(), B: Fake()}
    with Trials(1e-4) as some:
        add_all(some, made)
        some.set_blocks()
        for number in range(3):
            some.round([A, B], number)
        for trial in some.running.values():
            assert len(trial.blocks) == len(trial.loops_s) == 3
            assert {block.vector_steps for block in trial.blocks} == {trial.vector_steps}
        assert some.compared_steps == COMPARED_STEPS
    assert all(envs.closed for envs in made.values())


def test_the_learner_runs_between_steps_and_its_failure_passes_through():
    seen = []

    def learn(observations):
        seen.append(observations)
        if len(seen) > 20:
            raise ProfileError("the learner")

    envs = Fake()
    with pytest.raises(ProfileError, match="the learner"), Trials(1e-4) as some:
        add_all(some, {A: envs}, Learner("callable", learn))
        block = some.running[A].block(3)
        assert 0 < block.learner_s < block.total_s
        some.running[A].block(99)
    assert envs.closed


@pytest.mark.parametrize("raises_at", [1, COMPARED_STEPS + 1, COMPARED_STEPS + 60])
def test_one_that_raises_is_closed_and_the_others_go_on(raises_at):
    made = {A: Fake(), B: Fake(raises_at=raises_at)}
    with Trials(1e-4) as some:
        add_all(some, made)
        some.set_blocks()
        for number in range(100):  # beside other programs, blocks have few steps
            some.round(list(some.running), number)
            if B not in some.running:
                break
        assert list(some.running) == [A]
    assert some.why_out(A) is None
    assert some.why_out(B) == "it raised OSError: the cable was pulled"
    assert isinstance(some.errors[B], OSError)
    assert some.built == [A, B]
    assert made[B].closed


def test_one_that_cannot_be_built_is_out():
    def broken():
        raise LookupError("no such joint")

    with Trials(1e-4) as some:
        some.add(A, broken, None)
        assert (some.running, some.built) == ({}, [])
        assert some.why_out(A) == "it raised LookupError: no such joint"


@pytest.mark.parametrize(
    ("differ", "difference"),
    [
        pytest.param({B: 2, C: 1}, "pool:0, step 2[0]: the values differ in sync", id="the first"),
        pytest.param({("native", 2): 1}, None, id="another implementation"),
        pytest.param({("sync", 4): 1}, None, id="another number"),
    ],
)
def test_the_first_difference_is_noted(differ, difference):
    with Trials(1e-4) as some:
        some.add(A, Fake, None)
        for which, step in differ.items():
            some.add(which, lambda step=step: Fake(step), None)
        assert some.difference == difference
        assert list(some.running) == [A, *differ]


def test_where_the_first_does_not_repeat_itself_nothing_is_compared():
    numbers = itertools.count(1)
    with Trials(1e-4) as some:
        for which in (A, B):
            some.add(which, lambda: Fake(next(numbers)), None)
        assert (some.difference, some.errors, some.compared_steps) == (None, {}, 0)
        assert not some.repeats
    assert repeats_itself(lambda: Fake(2))
    assert repeats_itself(lambda: Fake(raises_at=1))  # which tells nothing


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [
        pytest.param({A: 2e-3, B: 1e-3}, [20, 20], id="as many as the fastest takes"),
        pytest.param({A: 2.0, B: 1.0}, [2, 2], id="two at least"),
        pytest.param({A: 0.04, B: 0.0039, C: 0.001}, [2, 20, 20], id="no longer than 4 times"),
        pytest.param({A: 1e6, B: 1.0}, [1, 2], id="one at least, however far behind"),
        pytest.param({A: 1e-3, ("native", 2): 1e-4}, [20, 20], id="by the user's environments"),
        pytest.param({("sync", 4): 1e-2, A: 1e-3}, [2, 20], id="with as many sub-environments"),
    ],
)
def test_the_length_of_blocks(step_s, steps):
    with Trials(0.02) as some:
        add_all(some, {which: Fake() for which in step_s})
        for which, found_s in step_s.items():
            some.running[which].step_s = found_s
        some.set_blocks()
        assert [some.running[which].vector_steps for which in step_s] == steps


# The same to the last bit


NAN = float("nan")


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x

    def __repr__(self):
        return f"Point({self.x})"


class Undecided:
    """Answers a comparison with something that has no truth value."""

    def __eq__(self, other):
        return np.array([True, False])

    def __ne__(self, other):
        return np.array([True, False])


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


SAME = [
    *(None, True, 3, 0.1, NAN, "text", b"bytes", [], {}, {1, 2}, Point(3)),
    *(np.float32(0.1), np.float32("nan"), np.int8(-1), np.array(5.0), np.zeros((0, 3))),
    *(np.arange(6.0).reshape(2, 3), np.array([1.0, NAN, np.inf, -0.0]), np.arange(10)[::2]),
    *(np.array(["a", "bcd"]), np.array([True, False]), objects(1, "a", None, NAN, [1, 2])),
    *(objects({"x": np.arange(3)}, np.arange(2)), {"a": 1, "_a": np.array([True])}),
    (1, (2.0, [3, {"x": NAN}])),
]


@pytest.mark.parametrize("value", SAME, ids=repr)
def test_a_value_is_the_same_as_its_copy_alone_and_inside_of_a_result(value):
    for one in (value, (np.zeros(2), {"info": [value]})):
        assert first_difference(one, copy.deepcopy(one)) is None


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (1, 2, "r: 1 is not 2"),
        (1.0, np.nextafter(1.0, 2), "r: float is not float64"),
        (1.0, float(np.nextafter(1.0, 2)), "r: 1.0 is not 1.00"),
        (NAN, 1.0, "r: nan is not 1.0"),
        ("a", "b", "r: 'a' is not 'b'"),
        (None, 0, "r: NoneType is not int"),
        (1, True, "r: int is not bool"),
        ((1,), [1], "r: tuple is not list"),
        ((1, 2), (1,), "r: 2 elements are not 1"),
        ((1, (2, 3)), (1, (2, 4)), "r[1][1]: 3 is not 4"),
        ({"a": [0, 1]}, {"a": [0, 2]}, "r['a'][1]: 1 is not 2"),
        ({"a": 1}, {"b": 1}, "r: the keys ['a'] are not ['b']"),
        ({}, collections.OrderedDict(), "r: dict is not OrderedDict"),
        (np.zeros(2), np.zeros((2, 1)), "r: float64(2,) is not float64(2, 1)"),
        (np.zeros(2), np.zeros(2, np.float32), "r: float64(2,) is not float32(2,)"),
        (np.zeros(2), np.array([0, 1e-300]), "r: the values differ"),
        (np.array([0.0]), np.array([-0.0]), "r: the values differ"),
        (np.zeros(1, object), np.zeros(1), "r: object(1,) is not float64(1,)"),
        (objects(1), objects(1.0), "r[0]: int is not float"),
        (objects({"x": np.arange(2)}), objects({"x": np.ones(2, int)}), "r[0]['x']: the values"),
        (Point(1), Point(2), "r: Point(1) is not Point(2)"),
    ],
)
def test_the_first_difference_is_told_with_its_place(one, other, said):
    assert first_difference(one, other, "r").startswith(said)
    assert first_difference(other, one, "r") is not None


def test_objects_that_cannot_be_compared_or_know_only_themselves_are_different():
    assert "Undecided" in first_difference([Undecided()], [Undecided()])
    assert first_difference(object(), object()) is not None
    one = object()
    assert first_difference(one, one) is None


def test_the_first_of_several_differences_is_told_and_long_values_are_shortened():
    assert first_difference((0, 1, 2), (0, 3, 4)) == "result[1]: 1 is not 3"
    said = first_difference("a" * 5000, "b" * 5000)
    assert len(said) < 120 and "..." in said


arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.uint8, np.int64, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), arrays)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


def canonical(value):
    """The value as text, types and every bit included."""
    if isinstance(value, dict):
        return repr([(key, canonical(item)) for key, item in value.items()])
    if isinstance(value, np.ndarray):
        return repr((value.dtype, value.shape, value.tobytes()))
    if isinstance(value, (list, tuple)):
        return repr((type(value), [canonical(item) for item in value]))
    return repr((type(value), value))


@relaxed
@given(values, values)
def test_any_two_values_are_the_same_where_all_their_bits_are(one, other):
    before = canonical(one), canonical(other)
    assert first_difference(one, copy.deepcopy(one)) is None
    assert (first_difference(one, other) is None) == (before[0] == before[1])
    assert (canonical(one), canonical(other)) == before
