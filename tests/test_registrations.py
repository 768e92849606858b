"""Ids that were registered in the calling process are known in its workers."""

import functools
import threading

import gymnasium as gym
import pytest

from tests.zoo import EchoEnv
from vecselect import auto_make_vec, recommend, registrations
from vecselect.request import EnvFactory

MODES = ["sync", "pool:1", "pool:1 spawn", "async", "thread:1"]


@pytest.fixture(params=["by name", "class", "local class"])
def id(request):
    """An id that is registered in this process only."""

    class Local(EchoEnv):
        pass

    entry_points = {"by name": "tests.zoo:EchoEnv", "class": EchoEnv, "local class": Local}
    gym.register("Here-v0", entry_points[request.param], max_episode_steps=3)
    yield "Here-v0"
    del gym.registry["Here-v0"]


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def test_a_callable_makes_it_by_its_id_in_every_mode(id, mode):
    name, _, context = mode.partition(" ")
    options = {"context": context} if context else {}
    with auto_make_vec(lambda: gym.make(id), 2, name, vector_kwargs=options) as envs:
        envs.reset(seed=1)
        for _ in range(3):
            result = envs.step(envs.action_space.sample())
        assert result[3].any() or result[2].any()


def test_it_is_measured_too(id):
    assert recommend(lambda: gym.make(id), 2, effort="rule").evidence.profile is not None


def test_what_is_registered_nowhere_stays_an_error():
    with pytest.raises(gym.error.NameNotFound, match="Nowhere"):
        auto_make_vec(lambda: gym.make("Nowhere-v0"), 2, "pool:1")


def test_many_factories_carry_it_once(id):
    one, two = EnvFactory(EchoEnv), EnvFactory(functools.partial(EchoEnv, 1))
    assert one.__reduce__()[1][2] is two.__reduce__()[1][2]
    assert id in registrations.pack()


def test_what_cannot_be_sent_is_left_behind(id):
    lock = threading.Lock()
    gym.register("Locked-v0", lambda: lock and EchoEnv())
    try:
        assert id in registrations.pack()
        assert "Locked-v0" not in registrations.pack()
        with auto_make_vec(lambda: gym.make(id), 2, "pool:1") as envs:
            envs.reset()
    finally:
        del gym.registry["Locked-v0"]


def test_what_is_registered_anew_is_sent_anew(id):
    before = registrations.pack()[id]
    gym.registry[id] = gym.envs.registration.EnvSpec(id, "tests.zoo:BufferEnv")
    assert registrations.pack()[id] != before


def test_what_cannot_be_loaded_is_passed_over(id):
    packed = dict(registrations.pack())
    packed["Broken-v0"] = b"no pickle"
    del gym.registry[id]
    assert registrations.add_unknown(packed)
    assert id in gym.registry
    assert "Broken-v0" not in gym.registry
    assert not registrations.add_unknown(packed)


@pytest.mark.parametrize("mode", ["pool:1", "pool:1 spawn", "async"])
def test_a_spec_that_was_changed_in_place_is_changed_in_workers(monkeypatch, mode):
    mode, _, context = mode.partition(" ")
    options = {"context": context} if context else {}
    auto_make_vec(
        "CartPole-v1", 2, mode, vector_kwargs=options
    ).close()  # workers know it as it was
    monkeypatch.setattr(gym.registry["Pendulum-v1"], "max_episode_steps", 3)
    with auto_make_vec(lambda: gym.make("Pendulum-v1"), 2, mode, vector_kwargs=options) as envs:
        envs.reset(seed=1)
        for _ in range(3):
            result = envs.step(envs.action_space.sample())
    assert result[3].all()


def test_what_a_worker_has_registered_since_is_kept(monkeypatch, id):
    packed = dict(registrations.pack())
    registrations.adopt(packed)
    monkeypatch.setattr(gym.registry[id], "max_episode_steps", 99)
    registrations.adopt(dict(packed))
    assert gym.registry[id].max_episode_steps == 99
