"""A key recalls: it is the same in each run of a program, and another one for another choice."""

import argparse
import dataclasses
import enum
import functools
import json
import pathlib
import sys
import types

import gymnasium as gym
import numpy as np

from tests.plans import MACHINE
from tests.processes import output_of
from tests.zoo import EchoEnv
from vecselect.planning.plan_key import machine_fields, plan_key, script_name
from vecselect.request import PlanningOptions, read_request

ASKED = ("learner", "learner_threads", "allow")


def key(*arguments, machine=MACHINE, **options):
    asked = {name: options.pop(name) for name in ASKED if name in options}
    request = read_request(*arguments, **options)
    return plan_key(request, machine, PlanningOptions(**asked))


BASE = key("CartPole-v1", 2)


OTHER = [
    {"num_envs": 3},
    {"env_kwargs": {"sutton_barto_reward": True}},
    {"wrappers": [gym.wrappers.FlattenObservation]},
    {"vector_kwargs": {"autoreset_mode": "SameStep"}},
    {"vector_kwargs": {"step_timeout_s": 5.0}},
    {"buffers": 2},
    {"learner": 1e-3},
    {"learner": print},
    {"learner_threads": "auto"},
    {"allow": ("native",)},
    {"native": print},
    {"machine": dataclasses.replace(MACHINE, cores=MACHINE.cores + 1)},
    {"machine": dataclasses.replace(MACHINE, cpu="another")},
]


def test_what_usually_changes_the_choice_changes_the_key(monkeypatch, torch):
    keys = [BASE, *(key("CartPole-v1", **{"num_envs": 2, **options}) for options in OTHER)]
    torch.set_num_threads(torch.get_num_threads() + 1)
    keys.append(key("CartPole-v1", 2))
    monkeypatch.setattr(gym, "__version__", "99")
    keys.append(key("CartPole-v1", 2))
    assert len({one.digest for one in keys}) == len(keys)


def test_what_only_passes_by_does_not():
    busy = dataclasses.replace(
        MACHINE, load_1min=99.0, memory_available_bytes=1, cores=MACHINE.cores + 0.01
    )
    assert key("CartPole-v1", 2, machine=busy) == BASE
    assert machine_fields(busy) == BASE.fields["machine"]
    assert key("CartPole-v1", 2, learner=1.0e-3) == key("CartPole-v1", 2, learner=1.1e-3)
    functions = [lambda observations, size=size: None for size in (1, 2)]
    assert len({key("CartPole-v1", 2, learner=one).digest for one in functions}) == 1
    assert key("CartPole-v1", 2, learner=print) != key("CartPole-v1", 2, learner=functions[0])
    assert key("CartPole-v1", 2, learner=0.0) == BASE
    assert (len(BASE.digest), BASE.fields["num_envs"], BASE.fields["env"]) == (16, 2, "CartPole-v1")


def test_an_id_registered_anew_for_another_class_is_another_key(monkeypatch):
    for module in ("one", "another"):
        spec = gym.envs.registration.EnvSpec("Mine-v0", entry_point=f"{module}:Env")
        monkeypatch.setitem(gym.registry, "Mine-v0", spec)
        assert key("Mine-v0", 2).fields["made_by"] == {f"{module}:Env": 2}


# What a script builds its environments with


def make_env(env_id, idx, capture_video, run_name, gamma=0.99):
    """As CleanRL's scripts have it."""

    def thunk():
        if capture_video and idx == 0:
            env = gym.make(env_id, render_mode="rgb_array")
            env = gym.wrappers.RecordVideo(env, f"videos/{run_name}")
        else:
            env = gym.make(env_id)
        return gym.wrappers.NormalizeReward(env, gamma=gamma)

    return thunk


def thunks(env_id="CartPole-v1", count=4, run_name="CartPole-v1__ppo__1__1700000000", **rest):
    return [make_env(env_id, index, False, run_name, **rest) for index in range(count)]


def test_thunks_with_another_time_stamp_seed_or_rate_recall():
    base = key(thunks())
    assert key(thunks(run_name="CartPole-v1__ppo__2__1800000000")) == base
    assert key(thunks(gamma=0.9)) == base
    assert base.fields["made_by"] == {"tests.test_plan_key:make_env.<locals>.thunk(CartPole-v1)": 4}


def closing_over(value):
    return lambda: value()


def test_thunks_of_other_ids_numbers_and_functions_are_told_apart():
    keys = [
        key(thunks()),
        key(thunks("Acrobot-v1")),
        key(thunks(count=3)),
        key(thunks("CartPole-v1", 2) + thunks("Acrobot-v1", 2)),
        key([lambda: gym.make("CartPole-v1")] * 4),
        *(key(closing_over(cls), 4) for cls in (EchoEnv, gym.Env)),
    ]
    assert len({one.digest for one in keys}) == len(keys)


args = argparse.Namespace(env_id="CartPole-v1", seed=3)


def build(env_id="Acrobot-v1"):
    return gym.make(env_id)


class Maker:
    def __init__(self, env_id):
        self.env_id = env_id

    def __call__(self):
        return gym.make(self.env_id)

    def build(self):
        return gym.make(self.env_id)


def test_ids_are_found_wherever_a_callable_has_them(monkeypatch):
    def ids(maker):
        ((name, count),) = key(maker, 2).fields["made_by"].items()
        assert count == 2
        return name.partition("(")[2].removesuffix(")").split(", ")

    spec = gym.envs.registration.EnvSpec("Unversioned", entry_point="a:b")
    monkeypatch.setitem(gym.registry, "Unversioned", spec)
    assert ids(lambda: gym.make("CartPole-v1")) == ["CartPole-v1"]
    assert ids(lambda: [gym.make("CartPole-v1") for _ in "a"][0]) == ["CartPole-v1"]
    assert ids(lambda: gym.make("Unversioned")) == ["Unversioned"]
    assert ids(lambda: gym.make("some_module:Unseen-v0")) == ["some_module:Unseen-v0"]
    assert ids(lambda: gym.make(args.env_id)) == ["CartPole-v1"]
    assert ids(functools.partial(gym.make, "CartPole-v1", g=1)) == ["CartPole-v1"]
    assert ids(functools.partial(build, env_id="CartPole-v1")) == ["Acrobot-v1", "CartPole-v1"]
    assert ids(lambda: build()) == ["Acrobot-v1"]
    assert ids(Maker("CartPole-v1")) == ["CartPole-v1"]
    assert ids(Maker("CartPole-v1").build) == ["CartPole-v1"]
    assert ids(EchoEnv) == [""]
    monkeypatch.setattr(args, "env_id", "Acrobot-v1")
    assert ids(lambda: gym.make(args.env_id)) == ["Acrobot-v1"]


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __call__(self):
        return EchoEnv()


def unassigned():
    def thunk():
        return later

    if not thunk:
        later = 1
    return thunk


def test_a_callable_that_cannot_be_looked_into_counts_by_its_name():
    for made in (Hostile(), unassigned(), functools.partial(print)):
        assert key("CartPole-v1", 2, wrappers=[made]) == key("CartPole-v1", 2, wrappers=[made])


# Arguments of environments


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Settings:
    size: int = 4
    names: tuple = ()


def loop():
    value = []
    value.append(value)
    return value


VALUES = {
    "number": [1, 2, 1.5, float("nan"), True, "1", None],
    "bytes": [b"a", b"b"],
    "sequence": [[1, 2], [2, 1]],
    "set": [{"left", "right", "up"}, {"left", "right"}],
    "mapping": [{"a": 1, "b": [2]}, {"a": 1}, types.MappingProxyType({"b": 1})],
    "array": [np.arange(4), np.arange(4.0), np.arange(4).reshape(2, 2), np.arange(5)],
    "enum": [Colour.RED, Colour.BLUE],
    "path": [pathlib.Path("a"), pathlib.Path("b")],
    "space": [gym.spaces.Discrete(2), gym.spaces.Discrete(3)],
    "data": [Settings(), Settings(5), Settings(names=("a",))],
    "code": [EchoEnv, gym.make, functools.partial(gym.make, "CartPole-v1")],
    "no form": [object()],
    "hostile": [Hostile()],
    "loop": [loop()],
    "keys of several types": [{1: 2, "a": 3}],
    "surrogate": ["\ud800"],
}


def test_arguments_are_told_by_what_they_hold():
    def digest(value):
        return key("CartPole-v1", 2, env_kwargs={"x": value}).digest

    for name, values in VALUES.items():
        digests = [digest(value) for value in values]
        assert len(set(digests)) == len(values), name
        assert [digest(value) for value in values] == digests, name
    assert len({digest(object()) for _ in range(3)}) == 1


def test_no_argument_is_told_in_clear():
    secret = "sk-0123456789"
    makers = [functools.partial(build, token=secret)] * 2
    text = json.dumps(
        [
            key("CartPole-v1", 2, env_kwargs={"token": secret, "more": {"token": secret}}).fields,
            key(makers, wrappers=[functools.partial(gym.Wrapper, token=secret)]).fields,
            key("CartPole-v1", 2, vector_kwargs={"address": f"ray://{secret}@host:1"}).fields,
        ]
    )
    assert secret not in text


# Other processes, and names of scripts

SCRIPT = """
import functools, json, time
import gymnasium as gym
from vecselect.machine import read_machine
from vecselect.request import PlanningOptions
from vecselect.planning.plan_key import plan_key, script_name
from vecselect.request import read_request

NAMES = {"left", "right", "up", "down", "jump", "duck"}

class Scaled(gym.Wrapper):
    pass

def make_env(env_id, seed, run_name):
    def thunk():
        return gym.make(env_id)
    return thunk

requests = [
    read_request("CartPole-v1", 2, env_kwargs={"names": NAMES, "other": object(), "f": Scaled}),
    read_request([make_env("CartPole-v1", i, f"run {time.time()}") for i in range(2)]),
    read_request(lambda: gym.make("CartPole-v1"), 2, wrappers=[Scaled, lambda env: env]),
    read_request("CartPole-v1", 2),
]
machine = read_machine()
keys = [
    plan_key(one, machine, PlanningOptions()).digest for one in requests
]
print(json.dumps([script_name(), keys]))
"""


def run(path, hash_seed="0", cwd=None):
    words = [path] if path.exists() else ["-c", SCRIPT]
    name, keys = json.loads(output_of(*words, variables={"PYTHONHASHSEED": hash_seed}, cwd=cwd))
    assert len(set(keys)) == 4
    return name, keys


def test_a_script_recalls_in_its_next_run_and_another_script_does_not(tmp_path):
    for name in ("train.py", "other.py"):
        (tmp_path / name).write_text(SCRIPT)
    name, keys = run(tmp_path / "train.py", "1")
    assert name.startswith("train.py ")
    assert run(tmp_path / "train.py", "2", tmp_path) == (name, keys)
    another, other_keys = run(tmp_path / "other.py", "1")
    assert another.startswith("other.py ")
    # An id is the same wherever it is asked for; functions and classes of two scripts are not.
    same = [one == other for one, other in zip(keys, other_keys, strict=True)]
    assert same == [False, False, False, True]


def test_a_script_without_a_file_has_a_name_too(monkeypatch, tmp_path):
    name, _ = run(tmp_path / "none.py", cwd=tmp_path)
    assert name.startswith("interactive ")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/somebody/notebook.ipynb")
    notebook = script_name()
    assert notebook.startswith("notebook ")
    assert "somebody" not in notebook
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/somebody/another.ipynb")
    assert script_name() != notebook
