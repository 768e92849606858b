"""What the fork server imports, so that workers need not."""

import importlib
import sys
import threading

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from vecselect import auto_make_vec
from vecselect.process import children, contexts, forkserver

MODULE = """
import os, threading, time, warnings
LEVEL = os.environ.get("VECSELECT_LEVEL", "none")
print(LEVEL)
warnings.warn(LEVEL)
"""
THREAD = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Each test starts a server, and so do those that follow."""
    monkeypatch.setattr(forkserver, "_imports", True)
    monkeypatch.setattr(forkserver, "PRELOADED", ("gymnasium",))
    forkserver.forget_server()
    yield
    forkserver.forget_server()


def report(pipe):
    module = sys.modules.get("its_envs")
    pipe.send((module and module.LEVEL, threading.active_count()))


def level_in_worker():
    """What a worker finds in the module; None if it would import that itself."""
    here, there = contexts.get_context().Pipe()
    child = contexts.get_context().Process(target=report, args=(there,))
    child.start()
    there.close()
    level, threads = here.recv()
    children.end_all([child])
    assert threads == 1
    return level


@pytest.mark.parametrize(
    ("folder", "text", "changes", "levels"),
    [
        pytest.param("site-packages", "", False, ["none"] * 3, id="installed"),
        pytest.param("mine", "", False, [None] * 3, id="the user's own"),
        pytest.param("site-packages", THREAD, False, [None] * 3, id="with a thread"),
        pytest.param("site-packages", "", True, ["0", None, None], id="other each time"),
    ],
)
def test_workers_find_what_they_would_import(
    tmp_path, monkeypatch, capfd, folder, text, changes, levels
):
    file = tmp_path / folder / "its_envs.py"
    file.parent.mkdir()
    file.write_text(MODULE + text)
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.setitem(gym.registry, "Its-v0", EnvSpec("Its-v0", "its_envs:Env"))
    monkeypatch.delitem(sys.modules, "its_envs", raising=False)
    with pytest.warns(UserWarning, match="none"):
        importlib.import_module("its_envs")
    found = []
    for index in range(len(levels)):
        if changes:
            monkeypatch.setenv("VECSELECT_LEVEL", str(index))
        found.append(level_in_worker())
    assert found == levels
    assert capfd.readouterr() == ("none\n", "")  # the caller's own


def test_a_second_pool_finds_what_the_first_has_loaded():
    auto_make_vec("LunarLander-v3", 2, "pool:1").close()
    assert forkserver.running_server().modules >= {"gymnasium.envs.box2d.lunar_lander"}
    server = forkserver.running_server()
    auto_make_vec("LunarLander-v3", 2, "pool:1").close()
    assert forkserver.running_server() is server
