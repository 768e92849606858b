"""Actions, seeds and options are looked at before anything is sent to a sub-environment."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from tests.zoo import CustomSpace
from vecselect.arguments import action_check, read_options, read_seeds
from vecselect.testing.contract import assert_same

ZEROS = np.zeros(3, np.int64)


SPACES = {
    "discrete": spaces.Discrete(4, start=-1),
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "image": spaces.Box(0, 255, (4, 4), np.uint8),
    "multidiscrete": spaces.MultiDiscrete([3, 4]),
    "multibinary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float32)}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Tuple((spaces.MultiDiscrete([2, 2]),)))),
    "text": spaces.Text(4),
    "sequence": spaces.Sequence(spaces.Discrete(4)),
    "graph": spaces.Graph(spaces.Box(0, 1, (2,)), None),
    "oneof": spaces.OneOf((spaces.Discrete(3), spaces.Text(2))),
    "dict of text": spaces.Dict({"say": spaces.Text(4)}),
    "custom": CustomSpace(),
}


def check_of(single, num_envs=3):
    return action_check(batch_space(single, num_envs), single, num_envs)


@pytest.mark.parametrize("name", SPACES)
def test_what_the_batched_space_draws_is_accepted(name):
    space, check = batch_space(SPACES[name], 3), check_of(SPACES[name])
    for seed in range(3):
        space.seed(seed)
        check(space.sample())


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("num_envs", [2, 4])
def test_a_batch_for_another_number_of_environments_is_refused(name, num_envs):
    with pytest.raises(ValueError, match="3 sub-environments need.*Nothing was stepped"):
        check_of(SPACES[name])(batch_space(SPACES[name], num_envs).sample())


ACCEPTED = [
    ("discrete", [0, 1, 2]),
    ("discrete", np.array([0, 1, 2], np.int8)),
    ("discrete", [99, -99, 0]),
    ("box", [[0.0, 1.0]] * 3),
    ("box", np.zeros((3, 2))),
    ("box", np.zeros((3, 2), np.int64)),
    ("multibinary", np.zeros((3, 3), bool)),
    ("dict", {"b": np.zeros((3, 2)), "a": [0, 1, 2]}),
    ("tuple", [ZEROS, [[[0, 0]] * 3]]),
    ("text", ["a", "b", "c"]),
]


@pytest.mark.parametrize(("name", "actions"), ACCEPTED)
def test_what_becomes_the_space_without_loss_of_kind_is_accepted(name, actions):
    check_of(SPACES[name])(actions)


REFUSED = [
    ("discrete", np.zeros(3), TypeError, "actions has dtype float64, which does not fit .*int64"),
    ("discrete", ["a", "b", "c"], TypeError, "actions has dtype <U1"),
    ("discrete", np.zeros((3, 1), np.int64), ValueError, r"shape \(3, 1\); .* need \(3,\)"),
    ("discrete", np.int64(1), TypeError, "a batch of 3 actions is needed"),
    ("discrete", np.array(1), ValueError, r"actions has shape \(\)"),
    ("box", np.zeros(3, np.float32), ValueError, r"shape \(3,\); .* need \(3, 2\)"),
    ("box", np.zeros((3, 2), np.complex64), TypeError, "dtype complex64.*float32"),
    ("image", np.zeros((3, 4, 4), np.float32), TypeError, "dtype float32.*uint8"),
    ("dict", {"a": ZEROS}, TypeError, r"actions is \['a'\]; .* keys \['a', 'b'\]"),
    ("dict", [{"a": 0, "b": [0, 0]}] * 3, TypeError, "actions is list"),
    ("dict", {"a": ZEROS, "b": ZEROS}, ValueError, r"actions\['b'\] has shape \(3,\)"),
    ("tuple", ZEROS, TypeError, "actions is a ndarray; a tuple of 2 batches"),
    ("tuple", (ZEROS,), TypeError, "a tuple of 2 batches"),
    ("tuple", (ZEROS, (ZEROS,)), ValueError, r"actions\[1\]\[0\] has shape"),
    ("text", 5, TypeError, "actions is 5; a batch of 3 actions"),
    ("dict of text", {"say": ("a", "b")}, ValueError, r"actions\['say'\] holds 2 actions"),
    ("custom", None, TypeError, "a batch of 3 actions is needed"),
]


@pytest.mark.parametrize(("name", "actions", "kind", "message"), REFUSED)
def test_what_cannot_become_the_space_is_refused_by_its_place(name, actions, kind, message):
    with pytest.raises(kind, match=f"{message}.*Nothing was stepped"):
        check_of(SPACES[name])(actions)


def test_a_dtype_that_fitted_once_does_not_let_another_in():
    check = check_of(SPACES["discrete"])
    check(np.zeros(3, np.int32))
    with pytest.raises(TypeError, match="float32"):
        check(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("seed", "read"),
    [
        (None, None),
        (4, 4),
        (np.int64(4), 4),
        ([1, None, np.uint8(3)], [1, None, 3]),
        (np.array([1, 2, 3]), [1, 2, 3]),
        (range(3), [0, 1, 2]),
    ],
)
def test_seeds_become_plain_ints(seed, read):
    assert_same(read_seeds(seed, 3), read)


BAD_SEEDS = [-1, 1.5, "5", "567", True, np.bool_(True), [1, 2], [1, 2, -3], [1, 2, "3"], [[1]] * 3]


@pytest.mark.parametrize("seed", BAD_SEEDS)
def test_a_bad_seed_is_an_error(seed):
    with pytest.raises((ValueError, TypeError), match="seed"):
        read_seeds(seed, 3)


def test_options_are_copied_and_the_mask_becomes_an_array():
    assert read_options(None, 2) is None
    given = {"reset_mask": [True, False], "level": 3}
    assert_same(read_options(given, 2), {"reset_mask": np.array([True, False]), "level": 3})
    assert given == {"reset_mask": [True, False], "level": 3}
    with pytest.raises(TypeError, match="options is 'a'; give a dict"):
        read_options("a", 2)


@pytest.mark.parametrize(
    ("mask", "kind", "message"),
    [
        ([1, 0], TypeError, "dtype int64; give an array of bool"),
        ([True], ValueError, r"shape \(1,\); give one of shape \(2,\)"),
        (True, ValueError, r"shape \(\); give one of shape \(2,\)"),
        ([False, False], ValueError, "nothing to reset"),
        (None, TypeError, "dtype object"),
    ],
)
def test_a_bad_mask_is_an_error(mask, kind, message):
    with pytest.raises(kind, match=message):
        read_options({"reset_mask": mask}, 2)
