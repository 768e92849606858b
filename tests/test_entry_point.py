"""`gymnasium.make_vec` makes environments by vecselect where one line registers it."""

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests.zoo import EchoEnv
from vecselect import AutoVectorEnv, ModeUnavailable, RequestError, auto_make_vec, recommend
from vecselect.testing.contract import assert_same_run

MODE = "vector_entry_point"


@pytest.fixture
def register():
    """Registers an id for the time of a test."""
    added = []

    def add(id, *args, **kwargs):
        gym.register(id, *args, **kwargs)
        added.append(id)

    yield add
    for id in added:
        del gym.registry[id]


@pytest.mark.parametrize("given", [{}, {"vectorization_mode": MODE}])
def test_another_id_for_an_environment(register, given):
    register(
        "Fast/Pendulum-v1",
        vector_entry_point="vecselect:auto_make_vec",
        kwargs={"id": "Pendulum-v1", "mode": "pool:1"},
    )
    envs = gym.make_vec("Fast/Pendulum-v1", 3, g=5.0, **given)
    assert isinstance(envs, AutoVectorEnv)
    assert envs.mode == "pool:1"
    assert envs.num_envs == 3
    oracle = SyncVectorEnv([functools.partial(gym.make, "Pendulum-v1", g=5.0)] * 3)
    assert_same_run(envs, oracle, 10)
    again = gym.make_vec(envs.spec)
    assert (again.mode, again.num_envs, again.get_attr("g")) == ("pool:1", 3, (5.0,) * 3)
    again.close()
    envs.close()


def test_an_environments_own_id(register):
    make = functools.partial(auto_make_vec, "Echo-v0", mode="sync")
    register("Echo-v0", EchoEnv, max_episode_steps=2, vector_entry_point=make)
    envs = gym.make_vec("Echo-v0", 2, vectorization_mode=MODE)
    envs.reset(seed=1)
    envs.step(np.zeros(2, np.int64))
    assert envs.step(np.zeros(2, np.int64))[3].all()
    envs.close()
    single = gym.make("Echo-v0")
    assert isinstance(single.unwrapped, EchoEnv)
    single.close()


@pytest.mark.parametrize(
    "entry_point",
    ["vecselect:auto_make_vec", auto_make_vec, functools.partial(auto_make_vec, "Echo-v0")],
)
def test_vecselect_is_no_implementation_to_choose(register, entry_point):
    register("Echo-v0", EchoEnv, vector_entry_point=entry_point)
    plan = recommend("Echo-v0", 2, effort="rule", allow=("native",))
    told = {one.mode: one.skipped for one in plan.candidates}["native"]
    assert told.startswith("the vector_entry_point of Echo-v0 is vecselect's own auto_make_vec")
    with pytest.raises(ModeUnavailable, match="vecselect's own auto_make_vec"):
        auto_make_vec("Echo-v0", 2, "native")


def test_a_function_that_asks_for_the_same_again_does_not_go_round_for_ever(register):
    def round_and_round(num_envs, **kwargs):
        return auto_make_vec("Echo-v0", num_envs, effort="rule", **kwargs)

    register("Echo-v0", EchoEnv, vector_entry_point=round_and_round)
    with pytest.raises(
        RequestError, match="that vector_entry_point again, without end. Pin a mode"
    ):
        auto_make_vec("Echo-v0", 2, "native")
    with auto_make_vec("Echo-v0", 2, effort="race", budget_s=1, learner=len) as envs:
        assert envs.mode != "native"
