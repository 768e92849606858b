"""Two values have one identity where another process of the same program would say so too."""

import collections
import dataclasses
import enum
import functools
import json
import operator
import os
import subprocess
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from vecselect.store.key import canonical, identify

MODULE = """
import gymnasium as gym

SCALE = 2.0

class Made(gym.Env):
    def __init__(self, size=3):
        self.size = size

def make(size=3):
    return Made(size)
"""
SCRIPT = """
import dataclasses, enum, functools, json
import gymnasium as gym
import made_here
from vecselect.store.key import canonical, identify, key_of, plan_key_fields
from vecselect.machine import read_machine
from vecselect.request import read_request

GRAVITY = 9.81
NAMES = {"left", "right", "up", "down", "jump", "duck"}

class Colour(enum.Enum):
    RED = "red"

@dataclasses.dataclass(frozen=True)
class Settings:
    size: int = 4
    names: list = dataclasses.field(default_factory=list)

    def area(self):
        return self.size * self.size

class Scaled(gym.Wrapper):
    factor = 0.5

    def __init__(self, env, shift=0.0):
        super().__init__(env)
        self.shift = shift

    @property
    def total(self):
        return self.factor + self.shift

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward * self.factor + GRAVITY, *rest

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def closure(g):
    return lambda: gym.make("Pendulum-v1", g=g) if "left" in {"left", "right", "up"} else None

def fields(*arguments, **options):
    return plan_key_fields(read_request(*arguments, **options), machine, learner=None, allow=())

machine = read_machine()
gym.register("Made-v0", entry_point="made_here:Made", max_episode_steps=7)
values = {
    "id": fields("Made-v0", 2),
    "kwargs": fields("Made-v0", 2, env_kwargs={"size": 5}),
    "wrapped": fields("Made-v0", 2, wrappers=[functools.partial(Scaled, shift=1.0)]),
    "callables": fields([closure(1.0), closure(2.0)]),
    "partial": functools.partial(made_here.make, size=3),
    "lambda": lambda: made_here.make(size=4),
    "closure": closure(1.62),
    "global": lambda: gym.make("Pendulum-v1", g=GRAVITY),
    "set": NAMES,
    "module class": made_here.Made,
    "script class": Scaled,
    "dataclass": Settings(5),
    "enum": Colour.RED,
    "recursive": even,
    "spec": gym.spec("CartPole-v1"),
}
print(json.dumps({name: canonical(identify(value)) for name, value in values.items()}))
"""


@pytest.fixture
def identities(tmp_path):
    """Runs the script, changed as told, and returns what it found."""

    def run(*change, hash_seed="0"):
        module, script = MODULE, SCRIPT
        if change:
            assert (MODULE + SCRIPT).count(change[0]) >= 1
            module, script = module.replace(*change), script.replace(*change)
        (tmp_path / "made_here.py").write_text(module)
        (tmp_path / "script.py").write_text(script)
        done = subprocess.run(
            [sys.executable, tmp_path / "script.py"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_another_process_finds_the_same_and_every_value_is_told_apart(identities):
    first, second = identities(hash_seed="1"), identities(hash_seed="2")
    assert first == second
    assert len(set(first.values())) == len(first)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("closure(1.62)", "closure(1.63)", {"closure"}),
        ("make(size=4)", "make(size=5)", {"lambda"}),
        ("make, size=3", "make, size=2", {"partial"}),
        ('{"size": 5}', '{"size": 6}', {"kwargs"}),
        ("shift=1.0", "shift=2.0", {"wrapped"}),
        ("max_episode_steps=7", "max_episode_steps=8", {"id", "kwargs", "wrapped"}),
        ("[closure(1.0), ", "[closure(3.0), ", {"callables"}),
        ("return n == 0 or", "return n == 2 or", {"recursive"}),
        ("return n != 0 and", "return n != 2 and", {"recursive"}),
        ("self.factor + self.shift", "self.factor - self.shift", {"wrapped", "script class"}),
        ("factor = 0.5", "factor = 0.6", {"wrapped", "script class"}),
        ("GRAVITY = 9.81", "GRAVITY = 1.62", {"global", "wrapped", "script class"}),
        ("size * self.size", "size + self.size", {"dataclass"}),
        (
            "SCALE = 2.0",  # the module's file is all that is looked at: any change counts
            "SCALE = 3.0",
            {"id", "kwargs", "wrapped", "partial", "lambda", "module class"},
        ),
        ("\nGRAVITY = ", "\n\n# moved down\n\nGRAVITY = ", set()),
    ],
)
def test_a_change_is_seen_where_it_matters_and_nowhere_else(identities, old, new, changed):
    before, after = identities(), identities(old, new)
    assert {name for name in before if before[name] != after[name]} == changed


def same(first, second):
    return canonical(identify(first)) == canonical(identify(second))


class Size(enum.IntEnum):
    SMALL = 1


@dataclasses.dataclass
class Settings:
    size: int = 1
    shape: tuple = (1,)


Pair = collections.namedtuple("Pair", "left right")
ALIKE = [
    None, False, True, 0, 1, 2**70, 1.0, -0.0, 0.0, float("nan"), float("inf"), 1j, "1", "", b"1",
    [], [1], (), (1,), {1}, frozenset({1}), {1: 1}, {"1": 1}, {"a": 1}, ["a", 1], range(1), ...,
    Size.SMALL, Settings(), Settings(2), Settings, Pair(1, 2), Path("1"), np.float64(1),
    np.float32(1), np.int64(1), np.bool_(True), np.array(1.0), np.array([1.0]), np.array([[1.0]]),
    np.array([1.0], np.float32), np.array([None]), np.array(["1"]), np.dtype("f8"), np.dtype("f4"),
    np.dtype([("a", "f8")]), np.dtype([("b", "f8")]), np.zeros(1, [("a", "f8")]), np.float64, len,
    max, np.sin, np.mean, np.random.default_rng, operator.itemgetter(1), operator.itemgetter(2),
    [].append, sys, os, gym.Env,
    gym.make, functools.partial(max, 1), functools.partial(max, 2), functools.partial(max, key=1),
    gym.spaces.Discrete(2), gym.spaces.Discrete(2, start=1), gym.spaces.MultiBinary(2),
    gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(0, 2, (2,)), gym.spaces.Box(0, 1, (2,), np.float64),
    gym.spaces.Dict(a=gym.spaces.Discrete(2)), gym.spaces.Tuple([gym.spaces.Discrete(2)]),
    gym.spaces.Sequence(gym.spaces.Discrete(2)), gym.spaces.Text(3), gym.spaces.Text(4),
    gym.spaces.Graph(gym.spaces.Discrete(2), None), EnvSpec("A-v0"), EnvSpec("B-v0"),
    slice(1), collections.OrderedDict(b=1), collections.defaultdict(list, a=1), list(range(99)),
]  # fmt: skip


def test_values_that_differ_in_kind_or_content_differ():
    found = [canonical(identify(value)) for value in ALIKE]
    twice = [ALIKE[i] for i, text in enumerate(found) if text in found[:i]]
    assert twice == []


@pytest.mark.parametrize("value", ALIKE, ids=lambda value: type(value).__name__)
def test_it_is_plain_data_that_survives_json(value):
    found = identify(value)
    assert canonical(json.loads(json.dumps(found))) == canonical(found)


def test_the_order_of_dicts_and_sets_and_of_memory_does_not_count():
    assert same({"a": 1, "b": (2,)}, {"b": (2,), "a": 1})
    assert same({1: "a", (2, 3): "b"}, {(2, 3): "b", 1: "a"})
    grid = np.arange(12.0).reshape(3, 4)
    assert same(grid.T, np.ascontiguousarray(grid.T))
    assert not same(grid, grid.T)
    assert not same(grid, grid + np.eye(3, 4))


def test_a_space_is_the_same_after_it_was_used():
    box = gym.spaces.Dict(a=gym.spaces.Box(-1, 1, (3,)), b=gym.spaces.Discrete(4))
    before = identify(box)
    box.seed(3)
    box.sample()
    assert identify(box) == before


def test_a_function_is_the_same_after_it_ran_hot():
    def count(n):
        return sum(i * 2 for i in range(n)) + len(str(n))

    before = identify(count)
    for _ in range(5000):
        count(2)
    assert identify(count) == before


def test_functions_made_alike_are_one_and_their_closures_count():
    def closure(value):
        return lambda: value

    assert same(closure(1), closure(1))
    assert not same(closure(1), closure(2))
    assert not same(closure(1), closure(1.0))
    assert not same(lambda x=1: x, lambda x=2: x)
    assert not same(lambda *, x=1: x, lambda *, x=2: x)
    assert not same(lambda: [0 for _ in "ab"], lambda: [1 for _ in "ab"])


def test_a_decorated_function_is_not_taken_for_the_one_it_wraps():
    def loud(function, factor):
        @functools.wraps(function)
        def wrapper(*arguments):
            return factor * function(*arguments)

        return wrapper

    assert not same(loud(gym.make, 2), gym.make)
    assert not same(loud(gym.make, 2), loud(gym.make, 3))


def test_a_class_made_in_a_function_is_told_by_what_it_is_made_of():
    def made(size):
        class Made(gym.Env):
            def __init__(self):
                super().__init__()
                self.size = size

        return Made

    assert same(made(1), made(1))
    assert not same(made(1), made(2))


def test_bound_methods_count_with_what_they_are_bound_to():
    assert same(Settings(1).__repr__, Settings(1).__repr__)
    assert not same(Settings(1).__repr__, Settings(2).__repr__)


def test_what_contains_itself_comes_to_an_end():
    ring, other = [1], [2]
    ring.append(ring)
    other.append(other)
    assert same(ring, ring)
    assert not same(ring, other)


def from_main(name, source="def f(): return G"):
    space = {"__name__": name, "G": 1}
    exec(source, space)
    return space["f"]


def test_main_is_the_same_module_in_a_spawned_worker():
    assert same(from_main("__main__"), from_main("__mp_main__"))
    assert not same(from_main("__main__"), from_main("other"))


def test_a_name_that_is_an_attribute_is_not_taken_for_the_global():
    function = from_main("__main__", "G = open('/dev/null')\ndef f(x): return x.G")
    identify(function)
    function.__globals__["G"].close()


def test_an_edited_module_is_noticed(tmp_path, monkeypatch):
    file = tmp_path / "edited_here.py"
    file.write_text("class A: pass\ndef f(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import edited_here

    before = identify(edited_here.A), identify(edited_here.f), identify(edited_here)
    file.write_text("class A: pass\ndef f(): pass\nB = 1\n")
    after = identify(edited_here.A), identify(edited_here.f), identify(edited_here)
    sys.modules.pop("edited_here")
    assert not any(old == new for old, new in zip(before, after, strict=True))


def test_a_module_without_a_file_is_told_by_the_globals_it_uses():
    def made(value):
        module = types.ModuleType("made_up")
        exec("def f(): return VALUE", vars(module))
        module.VALUE = value
        return module.f

    assert same(made(1), made(1))
    assert not same(made(1), made(2))
