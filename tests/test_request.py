"""What is asked for is checked, and what is misplaced is pointed out, before anything starts."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeAwareObservation

from tests.zoo import EchoEnv
from vecselect import Plan, RequestError, auto_make_vec, recommend, sweep
from vecselect.request import read_request


def pendulum():
    return gym.make("Pendulum-v1")


@pytest.fixture
def registry():
    """What a test registers is gone after it."""
    before = dict(gym.registry)
    yield gym.registry
    gym.registry.clear()
    gym.registry.update(before)


PENDULUM = ("Pendulum-v1", 2)
ARGUMENTS = [
    (("Pendulum-v1", 0), "num_envs is 0; .* at least 1"),
    (("Pendulum-v1", 2.5), "num_envs is 2.5; it must be a whole number"),
    (("Pendulum-v1", True), "num_envs is True; it must be a whole number"),
    (([pendulum] * 2, 3), "num_envs is 3, but the list holds 2 callables"),
    (([],), "list of callables is empty"),
    (([pendulum, 5],), "Element 1 of the list of callables is 5"),
    ((["Pendulum-v1"],), "Element 0 .* is 'Pendulum-v1'.*lambda: gym.make"),
    ((5, 2), "id is 5, which names no environment"),
    (("Pendulum-v1", 10**20), "num_envs is 10+; it must be 1,000,000 at the most"),
]
OPTIONS = [
    ({"vector_kwargs": {"share_memory": True}}, "no vector_kwargs key.*Did you mean 'shared_mem"),
    ({"vector_kwargs": {"autoreset_mode": "next_step"}}, "no autoreset_mode.*'NextStep'"),
    ({"vector_kwargs": {"observation_mode": "differ"}}, "observation_mode is 'differ'; it must be"),
    ({"vector_kwargs": {"context": "frok"}}, "no context 'frok'; choose one of"),
    ({"vector_kwargs": {"step_timeout_s": 0}}, "step_timeout_s is 0"),
    ({"vector_kwargs": {"on_worker_death": "ignore"}}, "no on_worker_death.* one of 'raise'"),
    ({"vector_kwargs": 5}, "vector_kwargs is 5"),
    ({"vector_kwargs": {5: 5}}, "vector_kwargs is {5: 5}; it must be a dict of keyword"),
    ({"vector_kwargs": {"context": np.zeros(2)}}, "no context array"),
    ({"vector_kwargs": {"observation_mode": np.zeros(2)}}, "observation_mode is array"),
    ({"vector_kwargs": {"worker": 5}}, "worker is 5; give a function"),
    ({"env_kwargs": 5}, "env_kwargs is 5; it must be a dict"),
    ({"env_kwargs": {5: 5}}, "env_kwargs is {5: 5}; it must be a dict"),
    ({"allow": 5}, "allow is 5; it must be a list of names"),
    ({"allow": [["native"]]}, "allow is .*; it must be a list of names"),
    ({"wrappers": 5}, "wrappers is 5; it must be a list"),
    ({"wrappers": ["TimeLimit"]}, r"wrappers is \['TimeLimit'\]; it must be a list"),
    ({"wrappers": TimeAwareObservation}, "wrappers is one wrap"),
    ({"budget_s": float("nan")}, "budget_s is nan"),
    ({"budget_s": float("inf")}, "budget_s is inf"),
    ({"learner": 1e300}, "learner is 1e\\+300; give a callable"),
    ({"budget_s": 10**400}, "budget_s is 10+; it must be"),
    ({"g": 1.0, "env_kwargs": {"g": 2.0}}, "g is given in env_kwargs and as a keyword"),
]
BAD = [
    *((arguments, {}, message) for arguments, message in ARGUMENTS),
    *((PENDULUM, options, message) for options, message in OPTIONS),
    ((pendulum, 2), {"env_kwargs": {"g": 5.0}}, r"A callable got .* 'g'.*lambda: gym.make.*g=5.0"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), BAD)
def test_what_cannot_be_is_one_paragraph_before_anything_starts(
    nothing_starts, arguments, options, message
):
    for function in (auto_make_vec, recommend):
        with pytest.raises(RequestError, match=message) as caught:
            function(*arguments, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("id", "kind", "message"),
    [
        ("Pendulom-v1", gym.error.NameNotFound, "Did you mean: `Pendulum`"),
        ("Pendulum-v9", gym.error.VersionNotFound, "provides versioned environments"),
        ("nosuchmodule:Env-v0", ModuleNotFoundError, "nosuchmodule"),
        ("not an id", gym.error.Error, "Malformed environment ID"),
    ],
)
def test_an_id_that_does_not_exist_keeps_gymnasiums_own_message(nothing_starts, id, kind, message):
    with pytest.raises(kind, match=message):
        auto_make_vec(id, 2)


def test_an_id_is_that_many_environments_and_one_by_default():
    for id in ("Pendulum-v1", gym.spec("Pendulum-v1"), pendulum):
        assert read_request(id).num_envs == 1
    request = read_request("Pendulum-v1", 3, env_kwargs={"g": 5.0})
    assert (request.label, request.num_envs) == ("Pendulum-v1", 3)
    env = request.env_fns[2]()
    assert env.unwrapped.g == 5.0
    assert env.spec.id == "Pendulum-v1"


def test_registered_keyword_arguments_hold_and_the_registry_is_left_alone():
    request = read_request("FrozenLake8x8-v1", 1, env_kwargs={"is_slippery": False})
    assert request.env_kwargs == {"map_name": "8x8", "is_slippery": False}
    assert gym.spec("FrozenLake8x8-v1").kwargs == {"map_name": "8x8"}
    assert request.env_fns[0]().observation_space.n == 64


def test_an_id_may_name_the_module_that_registers_it(registry, tmp_path, monkeypatch):
    (tmp_path / "registers_echo.py").write_text(
        "import gymnasium as gym\ngym.register('Echo-v0', entry_point='tests.zoo:EchoEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        request = read_request("registers_echo:Echo-v0", 2)
    finally:
        sys.modules.pop("registers_echo", None)
    assert isinstance(request.env_fns[1]().unwrapped, EchoEnv)


def test_a_spec_is_used_and_not_changed():
    spec = EnvSpec("Echo-v0", entry_point=EchoEnv, kwargs={"index": 4}, max_episode_steps=2)
    request = read_request(spec, 2)
    assert request.env_fns[0]().get_wrapper_attr("index") == 4
    assert spec.kwargs == {"index": 4}


def test_the_spec_of_a_vector_environment_gives_defaults():
    made = gym.make_vec("Pendulum-v1", 3, "sync", wrappers=[TimeAwareObservation], g=5.0)
    made.close()
    request = read_request(made.spec)
    assert request.num_envs == 3
    assert request.env_kwargs == {"g": 5.0}
    assert request.wrappers == (TimeAwareObservation,)
    assert read_request(made.spec, 5, wrappers=[]).num_envs == 5
    assert read_request(made.spec, 5, wrappers=[]).wrappers == ()
    assert read_request(made.spec, env_kwargs={"g": 1.0}).env_kwargs == {"g": 1.0}
    assert made.spec.kwargs["num_envs"] == 3


@pytest.mark.parametrize(
    ("id", "num_envs", "label"),
    [
        (EchoEnv, 2, "EchoEnv"),
        (pendulum, 2, "pendulum"),
        (lambda: EchoEnv(), 2, "a lambda"),
        ([EchoEnv, EchoEnv], None, "EchoEnv"),
        ([EchoEnv, pendulum], 2, "2 callables"),
        ((make for make in (EchoEnv, EchoEnv)), None, "EchoEnv"),
        ({"a": EchoEnv, "b": EchoEnv}.values(), None, "EchoEnv"),
        (EchoEnv, np.int64(2), "EchoEnv"),
    ],
)
def test_callables_are_counted_and_named(id, num_envs, label):
    request = read_request(id, num_envs)
    assert (request.num_envs, request.label, request.spec) == (2, label, None)
    assert type(request.num_envs) is int
    assert isinstance(request.env_fns[0](), gym.Env)


def test_an_entry_point_inside_the_script_is_resolved(registry, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "LocalEnv", EchoEnv, raising=False)
    gym.register("Local-v0", entry_point="__main__:LocalEnv")
    assert read_request("Local-v0", 1).spec.entry_point is EchoEnv
    assert gym.spec("Local-v0").entry_point == "__main__:LocalEnv"


def test_numbers_of_numpy_are_taken():
    given = {"learner_threads": np.int64(1), "learner": np.float32(1e-3), "budget_s": np.float32(1)}
    plan = recommend("Pendulum-v1", np.int64(2), wrappers=np.array([]), **given)
    assert Plan.from_json(plan.to_json()) == plan
    assert (plan.num_envs, plan.learner_threads) == (2, 1)


@pytest.mark.parametrize("key", ["autoreset_mode", "context", "worker"])
def test_none_is_the_default_of_an_option(key):
    request = read_request("Pendulum-v1", 2, vector_kwargs={key: None})
    assert request.autoreset_mode is AutoresetMode.NEXT_STEP


def test_options_are_read_without_changing_the_given_ones():
    given = {"autoreset_mode": "SameStep", "copy": False}
    request = read_request(EchoEnv, 1, vector_kwargs=given)
    assert request.autoreset_mode is AutoresetMode.SAME_STEP
    assert request.vector_kwargs == {"autoreset_mode": AutoresetMode.SAME_STEP, "copy": False}
    assert given == {"autoreset_mode": "SameStep", "copy": False}
    assert read_request(EchoEnv, 1).autoreset_mode is AutoresetMode.NEXT_STEP


# What is given to the environment and may have been meant for the vector environment

QUICK = {"effort": "rule", "budget_s": 0.05}
MEANT = [
    ({"lerner": 3}, "Did you mean learner?"),
    ({"step_timeout_s": 3}, "option of the vector environment: vector_kwargs={'step_timeout_s':"),
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


class OwnNames(EchoEnv):
    """Takes arguments whose names are options of the vector environment too."""

    def __init__(self, step_timeout_s=None, copy=None, mode=None):
        super().__init__()
        self.taken = (step_timeout_s, copy, mode)


def test_an_environment_may_have_such_names_of_its_own(registry):
    gym.register("OwnNames-v0", entry_point=OwnNames)
    given = {"step_timeout_s": 1, "mode": "b"}
    with auto_make_vec("OwnNames-v0", 2, mode="sync", env_kwargs=given, copy="a") as envs:
        assert envs.get_attr("taken") == ((1, "a", "b"),) * 2
    assert recommend("OwnNames-v0", 2, env_kwargs={"mode": "pool"}, **QUICK).mode


def test_a_name_like_none_of_ours_and_what_the_environment_does_are_its_own_affair():
    for id, given in (("Pendulum-v1", {"gravity": 9.0}), (lambda: EchoEnv(lerner=3), {})):
        with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
            auto_make_vec(id, 2, mode="sync", **given)
        assert "mean" not in str(caught.value)
