"""Starting processes where forks, working folders, scripts and limits stand in the way."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.faulty import gone
from tests.marks import only_full
from vecselect import auto_make_vec, fork_client, processes
from vecselect.errors import StartError

LIMIT_S = 60.0


def run(path, code, **options):
    """What a script without a guard prints; it must print nothing to stderr."""
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        **options,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


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


def test_the_working_folder_hides_no_module_of_the_library(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "random.py").write_text("raise ImportError('not the random you want')\n")
    code = FORKS.split("with ProcessPool")[0] + "print(os.getcwd())\n"
    assert run(tmp_path / "script.py", code, cwd=folder) == [str(folder)]


def test_a_long_folder_for_temporary_files_is_no_hindrance(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    code = FORKS.split("with ProcessPool")[0]
    run(tmp_path / "script.py", code, env={**os.environ, "TMPDIR": str(folder)})


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


def children(pid):
    import psutil

    found = psutil.Process(pid).children(recursive=True)
    return {one.pid: " ".join(one.cmdline()) for one in found}


@pytest.mark.parametrize("stopped", [False, *only_full(True)])
def test_workers_end_with_their_parent_whoever_else_lives_or_is_stopped(tmp_path, stopped):
    path = tmp_path / "script.py"
    path.write_text(ORPHANS)
    program = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True)
    sibling = None
    try:
        sibling = int(program.stdout.readline())
        others = children(program.pid)
        del others[sibling]
        servers = [pid for pid, line in others.items() if "vecselect.forkserver" in line]
        forked = [one for server in servers for one in children(server)]
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
        program.communicate(timeout=LIMIT_S)


def test_a_number_that_a_stranger_has_now_is_not_killed():
    child = processes.get_context().Process(target=os.setpgid, args=(0, 0))
    child.start()
    child.join(LIMIT_S)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        child._popen.pid = stranger.pid  # as if the system had given the number again
        processes.end_all([child], 0.0)
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(LIMIT_S)


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
from vecselect import auto_make_vec, fork_client

def build():
    auto_make_vec("CartPole-v1", 4, sys.argv[1], vector_kwargs={"context": sys.argv[2]}).close()

build()  # imports all: Ctrl-C while a dataclass is being made has Python itself end by SIGINT
try:
    print("ready", flush=True)
    for _ in range(200):
        fork_client.forget_server()
        build()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("context", ["forkserver", *only_full("spawn")])
@pytest.mark.parametrize("mode", ["pool:3", "async"])
def test_ctrl_c_while_building_is_the_programs_own_affair(tmp_path, mode, context):
    path = tmp_path / "script.py"
    path.write_text(INTERRUPTED)
    for wait_s in (0.02, 0.15, 0.4):
        program = subprocess.Popen(
            [sys.executable, path, mode, context],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
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

REFUSED = """
from vecselect import auto_make_vec, fork_client
from vecselect.errors import StartError
fork_client.PRELOADED += ("no_fork",)
for mode in ("pool:1", "async"):
    try:
        auto_make_vec("CartPole-v1", 2, mode)
    except StartError as error:
        print(error)
"""


@pytest.mark.full
def test_a_limit_on_processes_is_named(tmp_path):
    (tmp_path / "no_fork.py").write_text(NO_FORK)
    lines = run(tmp_path / "script.py", REFUSED)
    assert len(lines) == 2
    assert all("no more processes may be started here" in line for line in lines)


@pytest.fixture
def no_server():
    """Has the test start the fork server anew, and those that follow too."""
    fork_client.forget_server()
    yield
    fork_client.forget_server()


@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_a_fork_server_that_cannot_be_started_is_named(monkeypatch, no_server, mode):
    def refused(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    auto_make_vec("CartPole-v1", 2, "sync").close()
    monkeypatch.setattr(fork_client.util, "spawnv_passfds", refused)
    with pytest.raises(StartError, match="no more processes may be started here"):
        auto_make_vec("CartPole-v1", 2, mode)


@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_a_fork_server_that_ends_at_once_is_named(monkeypatch, no_server, capfd, mode):
    monkeypatch.setattr(fork_client, "preparation", lambda name: {"sys_path": []})
    with pytest.raises(StartError, match="the fork server, which starts them, has ended"):
        auto_make_vec("CartPole-v1", 2, mode)
    assert "ModuleNotFoundError" in capfd.readouterr().err


def test_full_shared_memory_is_named(monkeypatch):
    def refused(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("_multiprocessing.SemLock", refused)
    context = processes.get_context()
    for make in (lambda: context.Semaphore(0), lambda: context.Array("d", 3), context.Queue):
        with pytest.raises(
            StartError, match="/dev/shm, or the folder for temporary files, is full"
        ):
            make()


@pytest.mark.full
def test_a_fork_server_that_was_killed_is_replaced(no_server):
    auto_make_vec("CartPole-v1", 2, "pool:1").close()
    pid = fork_client.ensure_server()
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    auto_make_vec("CartPole-v1", 2, "pool:1").close()
    assert fork_client.ensure_server() != pid
