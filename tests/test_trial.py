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
    steps_of_blocks,
)

LONGEST = 4.0

# The order of a round


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("number", range(12))
def test_everyone_runs_once_a_round(count, number):
    modes = [f"pool:{k}" for k in range(count)]
    assert sorted(order_of_round(modes, number)) == modes


@pytest.mark.parametrize("number", range(0, 12, 2))
@pytest.mark.parametrize("modes", ["ab", "abc", "abcdef"])
def test_every_second_round_runs_backwards(number, modes):
    assert order_of_round(modes, number + 1) == order_of_round(modes, number)[::-1]


def test_nobody_runs_right_after_another_more_often_than_before_it():
    pairs = [
        pair for number in range(40) for pair in itertools.pairwise(order_of_round("abcd", number))
    ]
    for one, other in itertools.combinations("abcd", 2):
        assert pairs.count((one, other)) == pairs.count((other, one)) > 0


def test_pairs_of_rounds_differ_in_their_order():
    orders = {tuple(order_of_round("abcd", number)) for number in range(0, 40, 2)}
    assert len(orders) > 5


def test_who_runs_first_changes():
    first = [order_of_round("abcd", number)[0] for number in range(40)]
    assert set(first) == set("abcd")


def test_the_order_is_the_same_each_time_it_is_asked_for():
    assert [order_of_round("abcd", n) for n in range(9)] == [
        order_of_round("abcd", n) for n in range(9)
    ]


def test_the_given_order_is_left_as_it_was():
    modes = ["a", "b", "c"]
    for number in range(6):
        order_of_round(modes, number)
    assert modes == ["a", "b", "c"]


# The length of blocks


def block_steps(times_s, block_s):
    return steps_of_blocks(times_s, min(times_s.values()), block_s, LONGEST)


def test_blocks_are_as_long_as_the_fastest_takes_for_the_time():
    assert block_steps({"sync": 0.002, "pool:1": 0.001}, 0.025) == {"sync": 25, "pool:1": 25}


def test_blocks_are_of_two_vector_steps_at_least():
    assert block_steps({"sync": 2.0, "pool:1": 1.0}, 0.025) == {"sync": 2, "pool:1": 2}


def test_one_far_behind_has_blocks_no_longer_in_time_than_the_slowest_of_the_others():
    steps = block_steps({"sync": 0.04, "pool:0": 0.0039, "pool:1": 0.001}, 0.02)
    assert steps == {"sync": 2, "pool:0": 20, "pool:1": 20}


@pytest.mark.parametrize("times", [LONGEST * 1.01, 10.0, 1e6])
def test_one_far_behind_makes_a_vector_step_at_least(times):
    steps = block_steps({"sync": times, "pool:1": 1.0}, 0.025)
    assert 1 <= steps["sync"] < steps["pool:1"] == 2


def test_the_unit_of_time_does_not_matter_to_the_length_of_blocks():
    plain = block_steps({"sync": 300.0, "thread:7": 30.0, "thread:63": 7.0}, 25.0)
    scaled = block_steps({"sync": 0.3, "thread:7": 0.03, "thread:63": 0.007}, 0.025)
    assert plain == scaled


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


def trials(learner=None, *, drops_different=True):
    return Trials(learner, 1e-4, longest=LONGEST, drops_different=drops_different)


def run_rounds(some, count):
    """Runs so many rounds of all that can, and returns who ran in each."""
    ran = []

    def after(number):
        ran.append(list(some.running))
        return list(some.running) if number < count else ()

    some.rounds(list(some.running), after)
    return ran


def test_all_run_one_block_a_round_and_are_closed_in_the_end():
    made = [Fake(), Fake()]
    with trials() as some:
        for name, envs in zip("ab", made, strict=True):
            some.add(name, lambda envs=envs: envs)
        some.set_blocks()
        run_rounds(some, 3)
        for trial in some.running.values():
            assert len(trial.blocks) == len(trial.loops_s) == 3
            assert {block.vector_steps for block in trial.blocks} == {trial.vector_steps}
            assert trial.again().blocks == []
        assert some.compared_steps == COMPARED_STEPS
        assert some.round_s("ab") > some.round_s("a") > 0
    assert all(envs.closed for envs in made)


def test_the_learner_runs_between_steps_and_its_failure_passes_through():
    seen = []

    def learn(observations):
        seen.append(observations)
        if len(seen) > 20:
            raise ProfileError("the learner")

    envs = Fake()
    with (
        pytest.raises(ProfileError, match="the learner"),
        trials(Learner("callable", learn)) as some,
    ):
        some.add("a", lambda: envs)
        block = some.running["a"].block(3)
        assert 0 < block.learner_s < block.total_s
        some.running["a"].block(99)
    assert envs.closed


@pytest.mark.parametrize("raises_at", [1, COMPARED_STEPS + 1, COMPARED_STEPS + 60])
def test_one_that_raises_is_closed_and_the_others_go_on(raises_at):
    bad = Fake(raises_at=raises_at)
    with trials() as some:
        some.add("good", Fake)
        some.add("bad", lambda: bad)
        some.set_blocks()
        assert run_rounds(some, 3)[-1] == ["good"]
    assert some.out == {"bad": "it raised OSError: the cable was pulled"}
    assert isinstance(some.errors["bad"], OSError)
    assert some.built == ["good", "bad"]
    assert bad.closed


def test_one_that_cannot_be_built_is_out():
    def broken():
        raise LookupError("no such joint")

    with trials() as some:
        some.add("bad", broken)
        assert (some.running, some.built) == ({}, [])
        assert some.out == {"bad": "it raised LookupError: no such joint"}


@pytest.mark.parametrize("drops", [True, False])
def test_one_that_differs_is_dropped_or_only_noted(drops):
    with trials(drops_different=drops) as some:
        for name, envs in {"a": Fake(), "b": Fake(), "c": Fake(2), "d": Fake(1)}.items():
            some.add(name, lambda envs=envs: Fake(envs.differs_at))
        assert some.difference == "c, step 2[0]: the values differ in a"
        assert list(some.running) == (["a", "b"] if drops else ["a", "b", "c", "d"])
        assert set(some.out) == ({"c", "d"} if drops else set())


def test_one_that_is_not_compared_may_differ():
    with trials() as some:
        some.add("other", lambda: Fake(1), compared=False)
        assert some.compared_steps == 0
        some.add("a", Fake)
        some.add("b", Fake)
        assert (some.difference, some.out) == (None, {})


def test_where_the_first_does_not_repeat_itself_nothing_is_compared():
    numbers = itertools.count(1)
    with trials() as some:
        for name in "ab":
            some.add(name, lambda: Fake(next(numbers)))
        assert (some.difference, some.out, some.compared_steps) == (None, {}, 0)
        assert not some.repeats


def test_who_repeats_itself():
    numbers = itertools.count(1)
    assert repeats_itself(lambda: Fake(2))
    assert not repeats_itself(lambda: Fake(next(numbers)))
    assert repeats_itself(lambda: Fake(raises_at=1))  # which tells nothing


# The same to the last bit


NAN = float("nan")


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x

    def __repr__(self):
        return f"Point({self.x})"


class Touchy:
    """Raises on every comparison."""

    def __eq__(self, other):
        raise RuntimeError("do not compare me")

    def __ne__(self, other):
        raise RuntimeError("do not compare me")


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
    pytest.param(None, id="None"),
    pytest.param(True, id="bool"),
    pytest.param(3, id="int"),
    pytest.param(0.1, id="float"),
    pytest.param(NAN, id="NaN"),
    pytest.param("text", id="text"),
    pytest.param(b"bytes", id="bytes"),
    pytest.param(np.float32(0.1), id="numpy float"),
    pytest.param(np.float32("nan"), id="numpy NaN"),
    pytest.param(np.int8(-1), id="numpy int"),
    pytest.param(np.arange(6.0).reshape(2, 3), id="array"),
    pytest.param(np.array([1.0, NAN, np.inf, -0.0]), id="array with NaN"),
    pytest.param(np.array(5.0), id="array without dimensions"),
    pytest.param(np.zeros((0, 3)), id="empty array"),
    pytest.param(np.array(["a", "bcd"]), id="array of text"),
    pytest.param(np.array([True, False]), id="array of bool"),
    pytest.param(np.arange(10)[::2], id="array with gaps"),
    pytest.param(objects(1, "a", None, NAN, [1, 2]), id="array of objects"),
    pytest.param(objects({"x": np.arange(3)}, np.arange(2)), id="arrays in an array of objects"),
    pytest.param({}, id="empty dict"),
    pytest.param({"a": 1, "_a": np.array([True])}, id="dict"),
    pytest.param((1, (2.0, [3, {"x": NAN}])), id="nested"),
    pytest.param([], id="empty list"),
    pytest.param(Point(3), id="object with __eq__"),
    pytest.param({1, 2}, id="set"),
]


@pytest.mark.parametrize("value", SAME)
def test_a_value_is_the_same_as_its_copy(value):
    assert first_difference(value, copy.deepcopy(value)) is None


@pytest.mark.parametrize("value", SAME)
def test_a_value_is_the_same_inside_of_a_result(value):
    one = (np.zeros(2), {"info": [value]})
    assert first_difference(one, copy.deepcopy(one)) is None


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        pytest.param(1, 2, "r: 1 is not 2", id="int"),
        pytest.param(1.0, 2.0, "r: 1.0 is not 2.0", id="float"),
        pytest.param(1.0, np.nextafter(1.0, 2), "r: float is not float64", id="last bit and type"),
        pytest.param(1.0, float(np.nextafter(1.0, 2)), "r: 1.0 is not 1.00", id="last bit"),
        pytest.param(NAN, 1.0, "r: nan is not 1.0", id="NaN and a number"),
        pytest.param(1.0, NAN, "r: 1.0 is not nan", id="a number and NaN"),
        pytest.param("a", "b", "r: 'a' is not 'b'", id="text"),
        pytest.param(None, 0, "r: NoneType is not int", id="None"),
        pytest.param(1, True, "r: int is not bool", id="int and bool"),
        pytest.param(1, 1.0, "r: int is not float", id="int and float"),
        pytest.param(1.0, np.float64(1.0), "r: float is not float64", id="float and numpy's"),
        pytest.param(np.float32(1), np.float64(1), "r: float32 is not float64", id="numpy's own"),
        pytest.param((1,), [1], "r: tuple is not list", id="tuple and list"),
        pytest.param([1], np.array([1]), "r: list is not ndarray", id="list and array"),
        pytest.param((1, 2), (1,), "r: 2 elements are not 1", id="length of tuples"),
        pytest.param([], [None], "r: 0 elements are not 1", id="length of lists"),
        pytest.param((1, (2, 3)), (1, (2, 4)), "r[1][1]: 3 is not 4", id="nested tuple"),
        pytest.param({"a": 1}, {"a": 2}, "r['a']: 1 is not 2", id="value in a dict"),
        pytest.param({"a": [0, 1]}, {"a": [0, 2]}, "r['a'][1]: 1 is not 2", id="list in a dict"),
        pytest.param({"a": 1}, {"b": 1}, "r: the keys ['a'] are not ['b']", id="key"),
        pytest.param({"a": 1}, {}, "r: the keys ['a'] are not []", id="missing key"),
        pytest.param(
            {"a": 1, "b": 2},
            {"b": 2, "a": 1},
            "r: the keys ['a', 'b'] are not ['b', 'a']",
            id="order of keys",
        ),
        pytest.param(
            {}, collections.OrderedDict(), "r: dict is not OrderedDict", id="kind of dict"
        ),
        pytest.param(np.zeros(2), np.zeros(3), "r: float64(2,) is not float64(3,)", id="shape"),
        pytest.param(
            np.zeros(2), np.zeros((2, 1)), "r: float64(2,) is not float64(2, 1)", id="dimensions"
        ),
        pytest.param(
            np.zeros(2), np.zeros(2, np.float32), "r: float64(2,) is not float32(2,)", id="dtype"
        ),
        pytest.param(np.zeros(2), np.array([0, 1e-300]), "r: the values differ", id="array"),
        pytest.param(np.array([0.0]), np.array([-0.0]), "r: the values differ", id="zero's sign"),
        pytest.param(np.array(["a"]), np.array(["b"]), "r: the values differ", id="text array"),
        pytest.param(
            np.zeros(1, object), np.zeros(1), "r: object(1,) is not float64(1,)", id="object dtype"
        ),
        pytest.param(objects(1, 2), objects(1, 3), "r[1]: 2 is not 3", id="object array"),
        pytest.param(objects(1), objects(1.0), "r[0]: int is not float", id="type of an object"),
        pytest.param(
            objects({"x": np.arange(2)}),
            objects({"x": np.arange(2) + 1}),
            "r[0]['x']: the values differ",
            id="array in an object array",
        ),
        pytest.param(Point(1), Point(2), "r: Point(1) is not Point(2)", id="object"),
    ],
)
def test_the_first_difference_is_told_with_its_place(one, other, said):
    assert first_difference(one, other, "r").startswith(said)
    assert first_difference(other, one, "r") is not None


def test_the_first_of_several_differences_is_told():
    assert first_difference((0, 1, 2), (0, 3, 4)) == "result[1]: 1 is not 3"


def test_an_object_that_cannot_be_compared_is_different_not_an_error():
    assert "Touchy" in first_difference({"x": Touchy()}, {"x": Touchy()})
    assert "Undecided" in first_difference([Undecided()], [Undecided()])


def test_an_object_that_knows_only_itself_is_different_from_its_like():
    assert first_difference(object(), object()) is not None
    one = object()
    assert first_difference(one, one) is None


def test_long_values_are_shortened():
    said = first_difference("a" * 5000, "b" * 5000)
    assert len(said) < 120
    assert "..." in said


def test_nothing_is_changed_by_comparing():
    one = {"a": np.arange(3), "b": [objects(1, [2])]}
    kept = copy.deepcopy(one)
    first_difference(one, {"a": np.arange(3), "b": [objects(1, [3])]})
    assert first_difference(one, kept) is None


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


@relaxed
@given(values)
def test_any_value_is_the_same_as_its_copy(value):
    assert first_difference(value, copy.deepcopy(value)) is None
