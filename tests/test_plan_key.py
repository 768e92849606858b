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
import pytest

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


def cartpoles(**options):
    return key("CartPole-v1", **{"num_envs": 2, **options})


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


def learner(size):
    return lambda observations, size=size: None


def closing_over(value):
    return lambda: value()


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


BUSY = dataclasses.replace(
    MACHINE, load_1min=99.0, memory_available_bytes=1, cores=MACHINE.cores + 0.01
)
SAME = [
    [BASE, cartpoles(machine=BUSY), cartpoles(learner=0.0)],
    [cartpoles(learner=seconds) for seconds in (1.0e-3, 1.1e-3)],
    [cartpoles(learner=learner(size)) for size in (1, 2)],
    [key(thunks(run_name=f"CartPole-v1__ppo__{seed}", gamma=seed)) for seed in (0.9, 0.99)],
    *([cartpoles(wrappers=[made]) for _ in "ab"] for made in (Hostile(), unassigned())),
]


def test_what_only_passes_by_is_no_other_key():
    for keys in SAME:
        assert len({one.digest for one in keys}) == 1
    assert machine_fields(BUSY) == BASE.fields["machine"]
    assert (len(BASE.digest), BASE.fields["num_envs"], BASE.fields["env"]) == (16, 2, "CartPole-v1")


def test_what_usually_changes_the_choice_is_another_key(monkeypatch, torch):
    more_cores = dataclasses.replace(MACHINE, cores=MACHINE.cores + 1)
    keys = [
        BASE,
        cartpoles(num_envs=3),
        cartpoles(env_kwargs={"sutton_barto_reward": True}),
        cartpoles(wrappers=[gym.wrappers.FlattenObservation]),
        cartpoles(vector_kwargs={"autoreset_mode": "SameStep"}),
        cartpoles(vector_kwargs={"step_timeout_s": 5.0}),
        cartpoles(buffers=2),
        cartpoles(learner=1e-3),
        cartpoles(learner=print),
        cartpoles(learner=learner(1)),
        cartpoles(learner_threads="auto"),
        cartpoles(allow=("native",)),
        cartpoles(native=print),
        cartpoles(machine=more_cores),
        cartpoles(machine=dataclasses.replace(MACHINE, cpu="another")),
        key(thunks()),
        key(thunks("Acrobot-v1")),
        key(thunks(count=3)),
        key(thunks("CartPole-v1", 2) + thunks("Acrobot-v1", 2)),
        key([lambda: gym.make("CartPole-v1")] * 4),
        *(key(closing_over(cls), 4) for cls in (EchoEnv, gym.Env)),
    ]
    torch.set_num_threads(torch.get_num_threads() + 1)
    keys.append(cartpoles())
    monkeypatch.setattr(gym, "__version__", "99")
    keys.append(cartpoles())
    for module in ("one", "another"):
        spec = gym.envs.registration.EnvSpec("CartPole-v1", entry_point=f"{module}:Env")
        monkeypatch.setitem(gym.registry, "CartPole-v1", spec)
        keys.append(cartpoles())
    assert len({one.digest for one in keys}) == len(keys)


# What a script builds its environments with

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


@pytest.mark.parametrize(
    ("maker", "ids"),
    [
        (lambda: gym.make("CartPole-v1"), "CartPole-v1"),
        (lambda: [gym.make("CartPole-v1") for _ in "a"][0], "CartPole-v1"),
        (lambda: gym.make("Unversioned"), "Unversioned"),
        (lambda: gym.make("some_module:Unseen-v0"), "some_module:Unseen-v0"),
        (lambda: gym.make(args.env_id), "CartPole-v1"),
        (functools.partial(gym.make, "CartPole-v1", g=1), "CartPole-v1"),
        (functools.partial(build, env_id="CartPole-v1"), "Acrobot-v1, CartPole-v1"),
        (lambda: build(), "Acrobot-v1"),
        (Maker("CartPole-v1"), "CartPole-v1"),
        (Maker("CartPole-v1").build, "CartPole-v1"),
        (make_env("CartPole-v1", 0, False, "run"), "CartPole-v1"),
        (EchoEnv, ""),
    ],
)
def test_ids_are_found_wherever_a_callable_has_them(monkeypatch, maker, ids):
    spec = gym.envs.registration.EnvSpec("Unversioned", entry_point="a:b")
    monkeypatch.setitem(gym.registry, "Unversioned", spec)
    ((name, count),) = key(maker, 2).fields["made_by"].items()
    assert count == 2
    assert name.partition("(")[2].removesuffix(")") == ids


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


def test_arguments_are_told_by_what_they_hold_and_none_in_clear():
    for name, values in VALUES.items():
        digests = [cartpoles(env_kwargs={"x": value}).digest for value in values]
        assert len(set(digests)) == len(values), name
        assert [cartpoles(env_kwargs={"x": value}).digest for value in values] == digests, name
    assert len({cartpoles(env_kwargs={"x": object()}).digest for _ in range(3)}) == 1
    secret = "sk-0123456789"
    kept = [
        cartpoles(env_kwargs={"token": secret, "more": {"token": secret}}).fields,
        cartpoles(vector_kwargs={"address": f"ray://{secret}@host:1"}).fields,
        cartpoles(wrappers=[functools.partial(gym.Wrapper, token=secret)]).fields,
        key([functools.partial(build, token=secret)] * 2).fields,
    ]
    assert secret not in json.dumps(kept)


# Other processes, and names of scripts

SCRIPT = """
import json, time
import gymnasium as gym
from vecselect.machine import read_machine
from vecselect.planning.plan_key import plan_key, script_name
from vecselect.request import PlanningOptions, read_request

class Scaled(gym.Wrapper):
    pass

def make_env(env_id, seed, run_name):
    def thunk():
        return gym.make(env_id)
    return thunk

arguments = {"names": {"left", "right", "up", "down"}, "other": object(), "f": Scaled}
requests = [
    read_request("CartPole-v1", 2, env_kwargs=arguments),
    read_request([make_env("CartPole-v1", i, f"run {time.time()}") for i in range(2)]),
    read_request(lambda: gym.make("CartPole-v1"), 2, wrappers=[Scaled, lambda env: env]),
    read_request("CartPole-v1", 2),
]
keys = [plan_key(one, read_machine(), PlanningOptions()).digest for one in requests]
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
    assert run(tmp_path / "none.py", cwd=tmp_path)[0].startswith("interactive ")


def test_a_notebook_has_a_name_of_its_own(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    names = []
    for notebook in ("notebook", "another"):
        monkeypatch.setenv("JPY_SESSION_NAME", f"/home/somebody/{notebook}.ipynb")
        names.append(script_name())
    assert len(set(names)) == 2
    assert all(name.startswith("notebook ") and "somebody" not in name for name in names)
