"""What runs between two vector steps where torch is loaded and no learner is given."""

import sys
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.fake_torch import NUM_ENVS, a_learner
from vecselect.learner_threads import loaded_torch, torch_threads
from vecselect.measure.learner import HIDDEN_UNITS, MAX_FEATURES


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
    given, again = torch.inputs
    assert given is again
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


def test_the_networks_are_built_once(torch):
    learner = a_learner()
    for _ in range(5):
        learner.run(np.ones((NUM_ENVS, 4)))
    assert torch.built == 2
    assert len(torch.inputs) == 2 * 5


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
def test_a_network_has_as_many_outputs_as_an_action_has_numbers(torch, action_space, outputs):
    a_learner(action_space=action_space).run(np.ones((NUM_ENVS, 2)))
    hidden = [(2, HIDDEN_UNITS), (HIDDEN_UNITS, HIDDEN_UNITS)]
    assert torch.layers == [*hidden, (HIDDEN_UNITS, outputs), *hidden, (HIDDEN_UNITS, 1)]
    discrete = isinstance(action_space, spaces.Discrete)
    assert torch.drawn_from == ["Categorical" if discrete else "Normal"]


def test_the_stand_in_leaves_torch_s_threads_alone(torch):
    a_learner().run(np.ones((NUM_ENVS, 2)))
    assert torch.threads_set == []


def test_the_stand_in_leaves_the_batch_alone(torch):
    batch = np.ones((NUM_ENVS, 2))
    batch.flags.writeable = False
    a_learner().run(batch)
    assert torch.inputs[0] is not batch
