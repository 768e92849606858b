"""Starting processes: what workers find, who ends them, and what is said when they cannot start."""

import functools
import importlib
import os
import signal
import subprocess
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.envs.registration import EnvSpec

from tests import zoo
from tests.marks import only_full
from tests.processes import gone, output_of
from vecselect import auto_make_vec
from vecselect.errors import StartError
from vecselect.process import children, contexts, forkserver

LIMIT_S = 60.0
MODES = ["pool:1", "pool:1 spawn", "async"]


def make(id, mode, num_envs=2):
    mode, _, context = mode.partition(" ")
    options = {"context": context} if context else {}
    return auto_make_vec(id, num_envs, mode, vector_kwargs=options)


def run(path, code, **options):
    """What a script without a guard prints; it must print nothing to stderr."""
    path.write_text(code)
    return output_of(path, **options).splitlines()


def started(path, code, *arguments, **options):
    """A program that goes on while the test does."""
    path.write_text(code)
    return subprocess.Popen(
        [sys.executable, path, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


USES_MAIN = """
import gymnasium as gym
from vecselect import auto_make_vec

class Outer(gym.Wrapper):
    def __init__(self):
        super().__init__(gym.make("CartPole-v1"))
        self.text = open(__file__).read(9)
        with auto_make_vec("CartPole-v1", 1, "async") as inner:
            inner.reset(seed=1)

for mode in ("async", "pool:1"):
    with auto_make_vec(Outer, 2, mode) as envs:
        envs.reset(seed=1)
        print(envs.get_attr("text") == ("\\nimport g",) * 2)
"""


def test_environments_see_their_script_and_may_make_vector_environments(tmp_path):
    assert run(tmp_path / "script.py", USES_MAIN) == ["True", "True"]


FORKS = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from vecselect import auto_make_vec

def use(mode):
    with auto_make_vec("CartPole-v1", 2, mode, budget_s=0.1, use_store=False) as envs:
        envs.reset(seed=1)
        envs.step([0, 1])
        return "used"

for mode in ("pool:1", "async"):
    use(mode)
with ProcessPoolExecutor(1, mp_context=get_context("fork")) as executor:
    print(*executor.map(use, ["pool:1", "async", "auto"]))

for mode in ("pool:1", "async"):
    envs = auto_make_vec("CartPole-v1", 2, mode, vector_kwargs={"daemon": True})
    envs.reset(seed=1)
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    envs.step([0, 1])
    envs.close()
"""


def test_forked_children_start_workers_of_their_own_and_end_nobody_elses(tmp_path):
    assert run(tmp_path / "script.py", FORKS) == ["used used used", "7", "7"]


def test_neither_the_working_folder_nor_a_long_temporary_one_is_a_hindrance(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    (folder / "random.py").write_text("raise ImportError('not the random you want')\n")
    code = FORKS.split("with ProcessPool")[0] + "print(os.getcwd())\n"
    variables = {"TMPDIR": str(folder)}
    assert run(tmp_path / "script.py", code, cwd=folder, variables=variables) == [str(folder)]


WORLD = """
import os
from tests.zoo import EchoEnv

LEVEL = os.environ.get("VECSELECT_LEVEL")

class World(EchoEnv):
    def state(self):
        umask = os.umask(0)
        os.umask(umask)
        gone = os.environ.get("VECSELECT_GONE")
        return os.getpid(), (LEVEL, gone, os.getcwd(), umask, os.sched_getaffinity(0))
"""


@pytest.fixture
def cores():
    """The usable cores, which are restored after the test, as the umask is."""
    umask, cores = os.umask(0o22), os.sched_getaffinity(0)
    yield cores
    os.umask(umask)
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_is_like_its_caller_before_anything_is_imported(
    monkeypatch, tmp_path, cores, mode
):
    monkeypatch.setenv("VECSELECT_GONE", "1")
    make("CartPole-v1", mode).close()  # what starts workers is running now
    monkeypatch.setenv("VECSELECT_LEVEL", "7")
    monkeypatch.delenv("VECSELECT_GONE")
    monkeypatch.chdir(tmp_path)
    os.umask(0o77)
    os.sched_setaffinity(0, {min(cores)})
    (tmp_path / "its_world.py").write_text(WORLD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "its_world", raising=False)
    with make(importlib.import_module("its_world").World, mode) as envs:
        states = dict(envs.call("state"))
    assert len(states) == 2 and set(states) != {os.getpid()}
    for state in states.values():
        assert state == ("7", None, str(tmp_path), 0o77, {min(cores)})


def pendulum():
    return gym.make("Pendulum-v1", g=getattr(zoo, "GRAVITY", 3.0))


def limited():
    asked = getattr(zoo, "ASKED", {"max_episode_steps": 100})
    return gym.wrappers.RecordEpisodeStatistics(gym.make("Pendulum-v1", **asked))


@pytest.mark.parametrize("mode", MODES)
def test_what_a_patched_module_changes_is_an_error_that_names_both(monkeypatch, mode):
    monkeypatch.setattr(zoo, "GRAVITY", 5.0, raising=False)
    with pytest.raises(RuntimeError, match=r"'g': 3\.0.*in a worker.*'g': 5\.0.*in this process"):
        make(pendulum, mode, 3)
    monkeypatch.setattr(zoo, "ASKED", {"max_episode_steps": 7}, raising=False)
    with pytest.raises(RuntimeError, match=r"max_episode_steps=100 in a worker.*=7 in this"):
        make(limited, mode, 3)
    monkeypatch.setattr(zoo, "ASKED", {"disable_env_checker": True, "max_episode_steps": -1})
    with pytest.raises(RuntimeError, match=r"max_episode_steps=100.* in a worker.*=None"):
        make(limited, mode, 3)
    monkeypatch.setattr(zoo.EchoEnv, "action_space", gym.spaces.Discrete(77))
    with pytest.raises(RuntimeError, match="action space"):
        make(zoo.EchoEnv, mode)


@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_factories_that_draw_and_factories_that_differ_are_no_errors(mode):
    draw = lambda: gym.make("Pendulum-v1", g=np.random.uniform(1, 9))  # noqa: E731
    make(draw, mode).close()
    each = [functools.partial(gym.make, "Pendulum-v1", g=float(g)) for g in range(3)]
    make(each, mode, None).close()


ORPHANS = """
import os, time
from vecselect import auto_make_vec

kept = []
for mode in ("pool:1", "async", "pool:1 spawn", "pool:1 fork"):
    mode, _, context = mode.partition(" ")
    kept.append(auto_make_vec(
        "CartPole-v1", 2, mode, vector_kwargs={"context": context} if context else None
    ))
sibling = os.fork()
if sibling:
    print(sibling, flush=True)
time.sleep(600)
"""


def running_children(pid):
    found = psutil.Process(pid).children(recursive=True)
    return {one.pid: " ".join(one.cmdline()) for one in found}


@pytest.mark.parametrize("stopped", [False, *only_full(True)])
def test_workers_end_with_their_parent_whoever_else_lives_or_is_stopped(tmp_path, stopped):
    program = started(tmp_path / "script.py", ORPHANS)
    sibling = None
    try:
        sibling = int(program.stdout.readline())
        others = running_children(program.pid)
        del others[sibling]
        servers = [pid for pid, line in others.items() if "vecselect.process.forkserver" in line]
        forked = [one for server in servers for one in running_children(server)]
        assert len(forked) >= 3
        if stopped:
            for pid in forked:
                os.kill(pid, signal.SIGSTOP)
        program.kill()
        program.wait(LIMIT_S)
        tracker = [pid for pid, line in others.items() if "resource_tracker" in line]
        left = [pid for pid in others if pid not in tracker and not gone(pid, 5.0)]
        assert not left, [others[pid] for pid in left]
        os.kill(sibling, 0)
    finally:
        if sibling is not None:
            os.kill(sibling, signal.SIGKILL)
        program.kill()
        _, err = program.communicate(timeout=LIMIT_S)
    assert err == ""


def test_a_number_that_a_stranger_has_now_is_not_killed():
    child = contexts.get_context().Process(target=os.setpgid, args=(0, 0))
    child.start()
    child.join(LIMIT_S)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        child._popen.pid = stranger.pid  # as if the system had given the number again
        children.end_all([child], 0.0)
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(LIMIT_S)


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
from vecselect import auto_make_vec
from vecselect.process import forkserver

def build():
    auto_make_vec("CartPole-v1", 4, sys.argv[1], vector_kwargs={"context": sys.argv[2]}).close()

build()  # imports all: Ctrl-C while a dataclass is being made has Python itself end by SIGINT
try:
    print("ready", flush=True)
    for _ in range(20):
        forkserver.forget_server()
        build()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("wait_s", [0.15, *only_full(0.02, 0.4)])
@pytest.mark.parametrize("context", ["forkserver", *only_full("spawn")])
@pytest.mark.parametrize("mode", ["pool:3", "async"])
def test_ctrl_c_while_building_is_the_programs_own_affair(tmp_path, mode, context, wait_s):
    program = started(tmp_path / "script.py", INTERRUPTED, mode, context, start_new_session=True)
    try:
        program.stdout.readline()
        time.sleep(wait_s)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=LIMIT_S)
    finally:
        program.kill()
    assert (program.returncode, out, err) == (0, "interrupted\n", "")


NO_FORK = """
import errno, os
def refused():
    raise BlockingIOError(errno.EAGAIN, "no")
os.fork = refused
"""


@pytest.fixture
def no_server():
    """Has the test start the fork server anew, and those that follow too."""
    forkserver.forget_server()
    yield
    forkserver.forget_server()


def refused(*_):
    raise BlockingIOError(11, "Resource temporarily unavailable")


@pytest.mark.parametrize(
    ("name", "instead", "message"),
    [
        ("util.spawnv_passfds", refused, "no more processes may be started here"),
        ("PRELOADED", ("no_fork",), "no more processes may be started here"),
        ("preparation", lambda _: {"sys_path": []}, "the fork server, .* has ended with code 1"),
    ],
)
def test_a_server_that_cannot_start_or_fork_is_named(
    monkeypatch, tmp_path, no_server, capfd, name, instead, message
):
    auto_make_vec("CartPole-v1", 2, "sync").close()
    (tmp_path / "no_fork.py").write_text(NO_FORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(f"vecselect.process.forkserver.{name}", instead)
    for mode in ("pool:1", "async"):
        with pytest.raises(StartError, match=message):
            auto_make_vec("CartPole-v1", 2, mode)
    assert ("ModuleNotFoundError" in capfd.readouterr().err) == (name == "preparation")


def test_full_shared_memory_is_named(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("_multiprocessing.SemLock", full)
    context = contexts.get_context()
    for make in (lambda: context.Semaphore(0), lambda: context.Array("d", 3), context.Queue):
        with pytest.raises(StartError, match="/dev/shm, or the folder for .* files, is full"):
            make()


@pytest.mark.full
def test_a_fork_server_that_was_killed_is_replaced_and_one_that_was_forgotten_ends(no_server):
    auto_make_vec("CartPole-v1", 2, "pool:1").close()
    pid = forkserver.ensure_running()
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    envs = auto_make_vec("CartPole-v1", 2, "pool:1")
    second = forkserver.ensure_running()
    assert second != pid
    forkserver.forget_server()
    envs.reset(seed=1)  # its workers do not end for that
    assert not gone(second, 0.1)
    envs.close()
    assert gone(second)


# What the fork server imports, so that workers need not


MODULE = """
import os, threading, time, warnings
LEVEL = os.environ.get("VECSELECT_LEVEL", "none")
print(LEVEL)
warnings.warn(LEVEL)
"""
THREAD = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"


@pytest.fixture
def importing_server(monkeypatch, no_server):
    """Has the server import modules, and preload few."""
    monkeypatch.setattr(forkserver, "_imports", True)
    monkeypatch.setattr(forkserver, "PRELOADED", ("gymnasium",))


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
    importing_server, tmp_path, monkeypatch, capfd, folder, text, changes, levels
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


def test_a_second_pool_finds_what_the_first_has_loaded(importing_server):
    auto_make_vec("LunarLander-v3", 2, "pool:1").close()
    assert forkserver.running_server().modules >= {"gymnasium.envs.box2d.lunar_lander"}
    server = forkserver.running_server()
    auto_make_vec("LunarLander-v3", 2, "pool:1").close()
    assert forkserver.running_server() is server
