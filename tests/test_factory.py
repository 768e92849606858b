"""What a factory takes to its workers: ids that are registered here, and warnings shown here."""

import copy
import functools
import threading
import warnings

import gymnasium as gym
import pytest

from tests.processes import run_program
from tests.zoo import EchoEnv
from vecselect import auto_make_vec, recommend
from vecselect.factory import EnvFactory, add_unknown_specs, adopt_specs, registered_specs


@pytest.fixture(params=["by name", "class", "local class"])
def id(request):
    """An id that is registered in this process only."""

    class Local(EchoEnv):
        pass

    entry_points = {"by name": "tests.zoo:EchoEnv", "class": EchoEnv, "local class": Local}
    gym.register("Here-v0", entry_points[request.param], max_episode_steps=3)
    yield "Here-v0"
    del gym.registry["Here-v0"]


@pytest.mark.parametrize("mode", ["pool:1", "pool:1 spawn", "async"])
def test_a_callable_makes_it_by_its_id_in_every_mode(id, mode):
    name, _, context = mode.partition(" ")
    options = {"context": context} if context else {}
    with auto_make_vec(lambda: gym.make(id), 2, name, vector_kwargs=options) as envs:
        envs.reset(seed=1)
        for _ in range(3):
            result = envs.step(envs.action_space.sample())
        assert result[3].any() or result[2].any()


def test_planning_knows_it_too_and_what_is_registered_nowhere_stays_an_error(id):
    assert recommend(lambda: gym.make(id), 2, effort="rule").evidence.profile is not None
    with pytest.raises(gym.error.NameNotFound, match="Nowhere"):
        auto_make_vec(lambda: gym.make("Nowhere-v0"), 2, "pool:1")


def test_many_factories_carry_it_once_and_anew_where_it_has_changed(id):
    one, two = EnvFactory(EchoEnv), EnvFactory(functools.partial(EchoEnv, 1))
    assert one.__reduce__()[1][2] is two.__reduce__()[1][2]
    before = registered_specs()[id]
    gym.registry[id] = gym.envs.registration.EnvSpec(id, "tests.zoo:BufferEnv")
    assert registered_specs()[id] != before


def test_what_cannot_be_sent_or_loaded_is_left_out(id, monkeypatch):
    lock = threading.Lock()
    with monkeypatch.context() as patched:
        locked = gym.envs.registration.EnvSpec("Locked-v0", lambda: lock and EchoEnv())
        patched.setitem(gym.registry, "Locked-v0", locked)
        assert id in registered_specs()
        assert "Locked-v0" not in registered_specs()
        with auto_make_vec(lambda: gym.make(id), 2, "pool:1") as envs:
            envs.reset()
    packed = dict(registered_specs())
    packed["Broken-v0"] = b"no pickle"
    del gym.registry[id]
    assert add_unknown_specs(packed)
    assert id in gym.registry
    assert "Broken-v0" not in gym.registry
    assert not add_unknown_specs(packed)


def test_a_spec_that_was_changed_in_place_is_changed_in_workers(monkeypatch):
    auto_make_vec("CartPole-v1", 2, "pool:1").close()  # workers know it as it was
    monkeypatch.setattr(gym.registry["Pendulum-v1"], "max_episode_steps", 3)
    with auto_make_vec(lambda: gym.make("Pendulum-v1"), 2, "pool:1") as envs:
        envs.reset(seed=1)
        for _ in range(3):
            result = envs.step(envs.action_space.sample())
    assert result[3].all()


def test_what_a_worker_has_registered_since_is_kept(monkeypatch, id):
    packed = dict(registered_specs())
    adopt_specs(packed)
    monkeypatch.setattr(gym.registry[id], "max_episode_steps", 99)
    adopt_specs(dict(packed))
    assert gym.registry[id].max_episode_steps == 99


# Warnings

SCRIPT = """
import sys, warnings
import gymnasium as gym
from tests.zoo import EchoEnv
from vecselect import auto_make_vec, recommend

class Warns(EchoEnv):
    def __init__(self, index):
        super().__init__(index)
        warnings.warn("built")
        if index == 5:
            warnings.warn("the last one")

    def reset(self, **options):
        warnings.warn("reset")
        return super().reset(**options)

env_fns = [lambda index=index: Warns(index) for index in range(6)]
if sys.argv[1] == "auto":
    recommend(env_fns, learner=0.001, effort="race", budget_s=2, use_store=False)
else:
    auto_make_vec(env_fns, mode=sys.argv[1]).close()
"""


@pytest.mark.parametrize(
    ("mode", "new"),
    [
        ("pool:2", "the last one"),
        pytest.param("async", "the last one", marks=pytest.mark.full),
        ("thread:2", "the last one"),
        ("auto", "reset"),
    ],
)
def test_what_building_warns_of_is_said_once_and_what_is_new_is_said_too(mode, new, tmp_path):
    script = tmp_path / "warns.py"
    script.write_text(SCRIPT)
    done = run_program(script, mode, variables={"VECSELECT_CACHE_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("UserWarning: built") == 1
    assert done.stderr.count(f"UserWarning: {new}") == 1


def test_in_the_process_it_comes_from_a_factory_changes_nothing():
    before = warnings.showwarning
    copy.deepcopy(EnvFactory(EchoEnv))().close()
    assert warnings.showwarning is before
