"""What is asked for is checked before anything is started."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeAwareObservation

from tests.zoo import EchoEnv
from vecselect import RequestError, auto_make_vec, recommend
from vecselect.factory import EnvFactory
from vecselect.modes import Mode
from vecselect.request import Pin, read_request


def pendulum():
    return gym.make("Pendulum-v1")


@pytest.fixture
def nothing_starts(monkeypatch):
    def start(*arguments, **options):
        pytest.fail("a process was started for a request that cannot be")

    monkeypatch.setattr("vecselect.planning.planner.FirstWorker", start)
    monkeypatch.setattr("vecselect.planning.planner.measure_ipc", start)


@pytest.fixture
def registry():
    """What a test registers is gone after it."""
    before = dict(gym.registry)
    yield gym.registry
    gym.registry.clear()
    gym.registry.update(before)


BAD = {
    "num_envs 0": (("Pendulum-v1", 0), {}, "num_envs is 0; .* at least 1"),
    "num_envs -1": (("Pendulum-v1", -1), {}, "num_envs is -1; .* at least 1"),
    "num_envs 2.5": (("Pendulum-v1", 2.5), {}, "num_envs is 2.5; it must be a whole number"),
    "num_envs as text": (("Pendulum-v1", "8"), {}, "num_envs is '8'; it must be a whole number"),
    "num_envs True": (("Pendulum-v1", True), {}, "num_envs is True; it must be a whole number"),
    "another length": (([pendulum] * 2, 3), {}, "num_envs is 3, but the list holds 2 callables"),
    "empty list": (([],), {}, "list of callables is empty"),
    "no callable": (([pendulum, 5],), {}, "Element 1 of the list of callables is 5"),
    "a list of ids": (
        (["Pendulum-v1"],),
        {},
        "Element 0 of the list of callables is 'Pendulum-v1'",
    ),
    "an environment": (([EchoEnv()],), {}, "Element 0 .* Give a function that builds it"),
    "id 5": ((5, 2), {}, "id is 5, which names no environment"),
    "id None": ((None, 2), {}, "id is None, which names no environment"),
    "kwargs with a callable": ((pendulum, 2), {"g": 5.0}, r"\(g\) were given with a callable"),
    "env_kwargs with a callable": (
        (pendulum, 2),
        {"env_kwargs": {"g": 5.0}},
        r"\(g\) were given with a callable",
    ),
    "vector_kwargs key": (
        ("Pendulum-v1", 2),
        {"vector_kwargs": {"share_memory": True}},
        "no vector_kwargs key 'share_memory'.*Did you mean 'shared_memory'",
    ),
    "autoreset_mode": (
        ("Pendulum-v1", 2),
        {"vector_kwargs": {"autoreset_mode": "next_step"}},
        "no autoreset_mode 'next_step'; choose one of .*'NextStep'",
    ),
    "observation_mode": (
        ("Pendulum-v1", 2),
        {"vector_kwargs": {"observation_mode": "differ"}},
        "observation_mode is 'differ'; it must be",
    ),
    "observation_mode pair": (
        ("Pendulum-v1", 2),
        {"vector_kwargs": {"observation_mode": ("same", "different")}},
        "observation_mode is .*; it must be",
    ),
    "context": (
        ("Pendulum-v1", 2),
        {"vector_kwargs": {"context": "frok"}},
        r"no start method \(context\) 'frok'",
    ),
    "one wrapper": (("Pendulum-v1", 2), {"wrappers": TimeAwareObservation}, "wrappers is one wrap"),
    "vector_kwargs 5": (("Pendulum-v1", 2), {"vector_kwargs": 5}, "vector_kwargs is 5"),
    "effort": (("Pendulum-v1", 2), {"effort": "rul"}, "no effort 'rul'; choose one of 'rule'"),
    "effort None": (("Pendulum-v1", 2), {"effort": None}, "no effort None"),
    "budget_s 0": (("Pendulum-v1", 2), {"budget_s": 0}, "budget_s is 0; .* seconds above 0"),
    "budget_s nan": (("Pendulum-v1", 2), {"budget_s": float("nan")}, "budget_s is nan"),
    "budget_s inf": (("Pendulum-v1", 2), {"budget_s": float("inf")}, "budget_s is inf"),
    "budget_s as text": (("Pendulum-v1", 2), {"budget_s": "2"}, "budget_s is '2'"),
    "wrapper": (("Pendulum-v1", 2), {"wrappers": ["TimeLimit"]}, "wrappers holds 'TimeLimit'"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("function", [auto_make_vec, recommend])
def test_what_cannot_be_is_one_paragraph_before_anything_starts(nothing_starts, function, name):
    arguments, options, message = BAD[name]
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
    pin = Pin(Mode("sync"), "mode='sync'")
    request = read_request("Pendulum-v1", 3, env_kwargs={"g": 5.0}, pin=pin)
    assert (request.label, request.num_envs, request.pin) == ("Pendulum-v1", 3, pin)
    env = request.env_fns[2]()
    assert env.unwrapped.g == 5.0
    assert env.spec.id == "Pendulum-v1"


def test_wrappers_go_around_each_environment_in_order():
    class Outer(gym.Wrapper):
        pass

    request = read_request([EchoEnv] * 3, wrappers=[gym.Wrapper, Outer])
    assert request.env_fns == (EnvFactory(EchoEnv, (gym.Wrapper, Outer)),) * 3
    env = request.env_fns[0]()
    assert [type(env), type(env.env), type(env.env.env)] == [Outer, gym.Wrapper, EchoEnv]


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


def test_options_are_read_without_changing_the_given_ones():
    given = {"autoreset_mode": "SameStep", "copy": False}
    request = read_request(EchoEnv, 1, vector_kwargs=given)
    assert request.autoreset_mode is AutoresetMode.SAME_STEP
    assert request.vector_kwargs == {"autoreset_mode": AutoresetMode.SAME_STEP, "copy": False}
    assert given == {"autoreset_mode": "SameStep", "copy": False}
    assert read_request(EchoEnv, 1).autoreset_mode is AutoresetMode.NEXT_STEP
