"""Workers see the program as it is when they are started, however it was before."""

import functools
import importlib
import os

import gymnasium as gym
import numpy as np
import pytest

from tests import zoo
from vecselect import auto_make_vec

MODES = ["pool:1", "pool:1 spawn", "async"]


def make(id, mode, num_envs=2):
    mode, _, context = mode.partition(" ")
    options = {"context": context} if context else {}
    return auto_make_vec(id, num_envs, mode, vector_kwargs=options)


class World(zoo.EchoEnv):
    def state(self):
        umask = os.umask(0)
        os.umask(umask)
        level, gone = os.environ.get("VECSELECT_LEVEL"), os.environ.get("VECSELECT_GONE")
        return os.getpid(), (level, gone, os.getcwd(), umask, os.sched_getaffinity(0))


@pytest.fixture
def umask():
    before = os.umask(0o22)
    yield
    os.umask(before)


@pytest.fixture
def affinity():
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("mode", MODES)
def test_variables_folder_umask_and_cores_are_the_callers(
    monkeypatch, tmp_path, umask, affinity, mode
):
    monkeypatch.setenv("VECSELECT_GONE", "1")
    make("CartPole-v1", mode).close()  # what starts workers is running now
    monkeypatch.setenv("VECSELECT_LEVEL", "7")
    monkeypatch.delenv("VECSELECT_GONE")
    monkeypatch.chdir(tmp_path)
    os.umask(0o77)
    os.sched_setaffinity(0, {min(affinity)})
    with make(World, mode) as envs:
        states = dict(envs.call("state"))
    assert len(states) == 2 and set(states) != {os.getpid()}
    for state in states.values():
        assert state == ("7", None, str(tmp_path), 0o77, {min(affinity)})


def test_variables_are_set_before_anything_is_imported(monkeypatch, tmp_path):
    make("CartPole-v1", "pool:1").close()
    (tmp_path / "reads_level.py").write_text(
        "import os\nfrom tests.zoo import EchoEnv\nLEVEL = os.environ['VECSELECT_LEVEL']\n"
        "class Env(EchoEnv):\n    def level(self):\n        return LEVEL\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VECSELECT_LEVEL", "7")
    with make(importlib.import_module("reads_level").Env, "pool:1") as envs:
        assert envs.call("level") == ("7", "7")


def pendulum():
    return gym.make("Pendulum-v1", g=getattr(zoo, "GRAVITY", 3.0))


@pytest.mark.parametrize("mode", MODES)
def test_a_spec_that_a_patched_module_changes_is_an_error_that_names_both(monkeypatch, mode):
    monkeypatch.setattr(zoo, "GRAVITY", 5.0, raising=False)
    with pytest.raises(RuntimeError, match=r"'g': 3\.0.*in a worker.*'g': 5\.0.*in this process"):
        make(pendulum, mode, 3)


@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_a_space_that_a_patched_class_changes_is_an_error_that_names_both(monkeypatch, mode):
    monkeypatch.setattr(zoo.EchoEnv, "action_space", gym.spaces.Discrete(77))
    with pytest.raises(RuntimeError, match="action space"):
        make(zoo.EchoEnv, mode)


@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_factories_that_draw_and_factories_that_differ_are_no_errors(mode):
    draw = lambda: gym.make("Pendulum-v1", g=np.random.uniform(1, 9))  # noqa: E731
    make(draw, mode).close()
    each = [functools.partial(gym.make, "Pendulum-v1", g=float(g)) for g in range(3)]
    make(each, mode, None).close()
