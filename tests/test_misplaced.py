"""What is given to the environment but meant for the vector environment is pointed out."""

import gymnasium as gym
import pytest

from tests.zoo import EchoEnv
from vecselect import RequestError, auto_make_vec, recommend, sweep

QUICK = {"effort": "rule", "budget_s": 0.05}


class OwnNames(EchoEnv):
    """Takes arguments whose names are options of the vector environment too."""

    def __init__(self, step_timeout_s=None, copy=None, mode=None):
        super().__init__()
        self.taken = (step_timeout_s, copy, mode)


@pytest.fixture
def own_names():
    gym.register("OwnNames-v0", entry_point=OwnNames)
    yield "OwnNames-v0"
    gym.registry.pop("OwnNames-v0")


def test_an_environment_may_have_such_names_of_its_own(own_names):
    given = {"step_timeout_s": 1, "mode": "b"}
    with auto_make_vec(own_names, 2, mode="sync", env_kwargs=given, copy="a") as envs:
        assert envs.get_attr("taken") == ((1, "a", "b"),) * 2
        assert envs.mode == "sync"
    assert recommend(own_names, 2, env_kwargs={"mode": "pool"}, **QUICK).env == own_names


MEANT = [
    ({"lerner": 3}, "Did you mean learner?"),
    ({"use_stores": False}, "Did you mean use_store?"),
    (
        {"step_timeout_s": 3},
        "step_timeout_s is an option of the vector environment: "
        "vector_kwargs={'step_timeout_s': ...}.",
    ),
    ({"shared_memry": True}, "Did you mean vector_kwargs={'shared_memory': ...}?"),
]


@pytest.mark.parametrize(("given", "told"), MEANT)
@pytest.mark.parametrize("asked", [QUICK, {"mode": "sync"}, {"mode": "pool:1"}])
def test_a_name_that_the_environment_does_not_know_is_told_what_it_may_mean(asked, given, told):
    with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
        auto_make_vec("Pendulum-v1", 2, **asked, **given)
    assert str(caught.value).count(told) == 1


@pytest.mark.parametrize(
    ("function", "given", "told"),
    [
        *((function, *one) for one in MEANT for function in (auto_make_vec, recommend, sweep)),
        (recommend, {"mode": "pool"}, "Only auto_make_vec pins a mode"),
        (sweep, {"vectorization_mode": "sync"}, "a sweep has modes="),
    ],
)
def test_with_a_callable_nothing_need_be_built_to_know_it(nothing_starts, function, given, told):
    with pytest.raises(RequestError) as caught:
        function(EchoEnv, 2, **given)
    assert told in str(caught.value)


def test_a_name_like_none_of_ours_and_what_the_environment_does_are_its_own_affair():
    def make():
        return EchoEnv(lerner=3)

    for id, given in (("Pendulum-v1", {"gravity": 9.0}), (make, {})):
        with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
            auto_make_vec(id, 2, mode="sync", **given)
        assert "mean" not in str(caught.value)


def test_a_keyword_argument_given_twice_is_an_error():
    for function in (auto_make_vec, recommend):
        with pytest.raises(RequestError, match="g is given in env_kwargs and as a keyword"):
            function("Pendulum-v1", 2, g=1.0, env_kwargs={"g": 2.0})
