"""Machines that lack something: modes that need it are left out with a sentence, `sync` runs."""

import _multiprocessing
import dataclasses
import errno
import multiprocessing.sharedctypes
import os
import re
import subprocess
import sys
import textwrap

import pytest

import vecselect
from tests.racers import children
from tests.zoo import EchoEnv
from vecselect import (
    ModeUnavailable,
    VecselectWarning,
    auto_make_vec,
    available_modes,
    recommend,
)
from vecselect.backends.pool.backend import Pool
from vecselect.plan import Candidate
from vecselect.planning import build

QUICK = {"budget_s": 0.3}


def refused(number):
    def refuse(*arguments, **named):
        raise OSError(number, os.strerror(number))

    return refuse


def no_semaphores(monkeypatch, number):
    """As where /dev/shm takes no files."""
    monkeypatch.setattr(_multiprocessing, "SemLock", refused(number))
    monkeypatch.setattr(multiprocessing.sharedctypes, "RawArray", refused(number))


def no_memory_files(monkeypatch, number):
    monkeypatch.setattr(os, "memfd_create", refused(number), raising=False)


@pytest.mark.parametrize(
    ("take", "number"),
    [
        pytest.param(no_semaphores, errno.EROFS, id="read-only /dev/shm"),
        pytest.param(no_semaphores, errno.ENOSPC, id="full /dev/shm"),
        pytest.param(no_semaphores, errno.ENOSYS, id="no semaphores"),
        pytest.param(no_memory_files, errno.ENOSYS, id="no memfd_create"),
        pytest.param(no_memory_files, errno.EPERM, id="memfd_create refused"),
    ],
)
def test_a_mode_is_left_out_where_the_system_refuses_what_it_needs(take, number, monkeypatch):
    take(monkeypatch, number)
    for mode, why in available_modes().items():
        if why is not None and mode != "ray":
            assert os.strerror(number) in why
            with pytest.raises(ModeUnavailable, match=re.escape(why)):
                auto_make_vec([EchoEnv] * 2, mode=mode)
        elif mode == "pool":
            with auto_make_vec([EchoEnv] * 2, mode="pool:1") as envs:
                envs.reset(seed=1)
    assert available_modes()["sync"] is None
    with auto_make_vec("CartPole-v1", 2, **QUICK) as envs:
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())
    assert envs.plan.chosen.skipped is None
    lacking = {mode for mode, why in available_modes().items() if why and mode != "ray"}
    skipped = {one.mode for one in envs.plan.candidates if one.skipped}
    assert lacking <= skipped


@pytest.fixture
def pool_chosen(monkeypatch):
    """What is planned is a pool of one worker, on whatever machine."""
    prepare = build.prepare

    def chosen(request, options, *, builds):
        prepared = prepare(request, options, builds=builds)
        both = (Candidate("sync"), Candidate("pool:1"))
        plan = dataclasses.replace(prepared.plan, mode="pool:1", candidates=both)
        return dataclasses.replace(prepared, plan=plan)

    monkeypatch.setattr(build, "prepare", chosen)


def test_sync_runs_where_what_was_chosen_cannot_be_built(pool_chosen, monkeypatch):
    monkeypatch.setattr(Pool, "build", refused(errno.EAGAIN))
    with pytest.warns(VecselectWarning, match="pool:1 was chosen, but it failed .*temporarily"):
        envs = auto_make_vec("CartPole-v1", 2, effort="rule", **QUICK)
    with envs:
        envs.reset(seed=1)
        assert (envs.mode, envs.plan.decided_by) == ("sync", "elimination")
        assert "pool:1 was chosen, but it failed" in str(envs.report)


def test_what_an_environment_raises_is_not_taken_for_the_mode_s_fault(pool_chosen):
    with pytest.raises(OSError, match="no licence"):
        auto_make_vec([EchoEnv, unlicensed], effort="rule", **QUICK)


def unlicensed():
    raise OSError("no licence")


def test_a_plan_made_while_something_was_refused_is_not_used_when_it_is_there_again(monkeypatch):
    with monkeypatch.context() as poor:
        no_semaphores(poor, errno.ENOSPC)
        plan = recommend("CartPole-v1", 2, **QUICK)
        assert plan.decided_by == "elimination"
    assert {one.mode for one in plan.candidates if one.skipped} >= {"pool", "async"}
    plan = recommend("CartPole-v1", 2, **QUICK)
    assert not plan.recalled
    assert {"pool:0", "async"} <= {one.mode for one in plan.candidates if not one.skipped}
    assert plan.evidence.hand_off.measured


PROGRAM = """
    import warnings

    import vecselect

    assert vecselect.available_modes()["sync"] is None
    with vecselect.auto_make_vec("CartPole-v1", 2, budget_s=0.3) as envs:
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())
        print(envs.mode)
    with vecselect.auto_make_vec("CartPole-v1", 2, mode="sync") as envs:
        envs.reset(seed=1)
        print(envs.report)
"""

NO_PROC = """
    import builtins, os, psutil
    psutil.PROCFS_PATH = "/nowhere"

    def hidden(call):
        def without(file=".", *arguments, **named):
            if isinstance(file, str) and file.startswith("/proc"):
                raise FileNotFoundError(2, "No such file or directory", file)
            return call(file, *arguments, **named)
        return without

    for name in ("listdir", "readlink", "open"):
        setattr(os, name, hidden(getattr(os, name)))
    builtins.open = hidden(builtins.open)
"""

NO_PSUTIL = """
    import psutil

    def raises(*arguments, **named):
        raise RuntimeError("psutil knows nothing of this system")

    for name in ("Process", "virtual_memory", "cpu_count", "pid_exists"):
        setattr(psutil, name, raises)
"""


@pytest.mark.parametrize(
    "lacking",
    [
        pytest.param(NO_PROC, id="proc"),
        pytest.param(NO_PSUTIL, id="psutil"),
    ],
)
def test_a_program_runs_without(lacking, tmp_path):
    # Python runs this file first in the program and in every process that it starts.
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(lacking))
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    paths = os.pathsep.join([str(tmp_path), os.path.dirname(os.path.dirname(vecselect.__file__))])
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in ("sync", "pool:0", "pool:1", "thread:1", "async")


@pytest.fixture
def usual_descriptors():
    """The limit that most systems set."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, limits[1]), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("cores", [64, 384])
def test_planning_for_two_starts_few_processes_however_many_cores_there_are(
    cores, monkeypatch, usual_descriptors
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    most = 0

    def look(text):
        nonlocal most
        most = max(most, len(children()))

    started = len(children())
    make_built = vecselect.backends.pool.backend.PoolVectorEnv.__init__

    def counted(self, *arguments, **named):
        make_built(self, *arguments, **named)
        look("built")

    monkeypatch.setattr(vecselect.backends.pool.backend.PoolVectorEnv, "__init__", counted)
    plan = vecselect.recommend("CartPole-v1", 2, use_store=False, progress=look, **QUICK)
    assert plan.evidence.machine.cores == cores
    assert plan.mode in ("sync", "pool:0", "pool:1")
    assert most - started <= 16
