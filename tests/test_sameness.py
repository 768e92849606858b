"""Whether two results are the same to the last bit, and where they are not."""

import collections
import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.compare import assert_same
from vecselect.measure.sameness import first_difference

# However busy the machine is.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

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
    assert_same(one, kept)


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


@relaxed
@given(values, values)
def test_it_agrees_with_the_comparison_of_the_tests(one, other):
    try:
        assert_same(one, other)
    except AssertionError:
        assert first_difference(one, other) is not None
    else:
        # The tests' own comparison lets kinds of dicts differ, which do not occur here.
        assert first_difference(one, other) is None
