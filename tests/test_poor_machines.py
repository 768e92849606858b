"""Systems that lack something: modes that need it are left out with a sentence, `sync` runs."""

import _multiprocessing
import dataclasses
import errno
import gc
import multiprocessing
import multiprocessing.sharedctypes
import multiprocessing.synchronize
import os
import re
import signal
import textwrap
import types
import warnings

import psutil
import pytest
from gymnasium.vector import SyncVectorEnv

import vecselect
from tests.processes import children, run_program, until
from tests.zoo import EchoEnv
from vecselect import (
    ModeUnavailable,
    RequestError,
    VecselectWarning,
    auto_make_vec,
    available_modes,
    build,
    machine,
    recommend,
)
from vecselect.backends.pool import link
from vecselect.backends.pool.backend import Pool
from vecselect.plan import Candidate
from vecselect.testing.contract import assert_same_run

QUICK = {"budget_s": 0.3}
MIB = 1 << 20


def refused(number):
    def refuse(*arguments, **named):
        raise OSError(number, os.strerror(number))

    return refuse


OTHER_PACKAGES = {"ray", "envpool"}
"""Modes that lack a package where it is not installed, and are no candidates unless allowed."""


def no_semaphores(monkeypatch, number):
    """As where /dev/shm takes no files."""
    monkeypatch.setattr(_multiprocessing, "SemLock", refused(number))
    monkeypatch.setattr(multiprocessing.sharedctypes, "RawArray", refused(number))


def no_memory_files(monkeypatch, number):
    monkeypatch.setattr(os, "memfd_create", refused(number), raising=False)


@pytest.mark.parametrize(
    ("take", "number"),
    [
        pytest.param(no_semaphores, errno.ENOSPC, id="full /dev/shm"),
        pytest.param(no_semaphores, errno.ENOSYS, id="no semaphores"),
        pytest.param(no_memory_files, errno.EPERM, id="memfd_create refused"),
    ],
)
def test_a_mode_is_left_out_where_the_system_refuses_what_it_needs(
    take, number, monkeypatch, cache
):
    take(monkeypatch, number)
    for mode, why in available_modes().items():
        if why is not None and mode not in OTHER_PACKAGES:
            assert os.strerror(number) in why
            with pytest.raises(ModeUnavailable, match=re.escape(why)):
                auto_make_vec([EchoEnv] * 2, mode=mode)
        elif mode == "pool":  # memory without a name is a file where the system gives no other
            with auto_make_vec([EchoEnv] * 4, mode="pool:1") as envs:
                assert_same_run(envs, SyncVectorEnv([EchoEnv] * 4), steps=10)
    assert available_modes()["sync"] is None
    with auto_make_vec("CartPole-v1", 2, **QUICK) as envs:
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())
    assert envs.plan.chosen.skipped is None
    lacking = {mode for mode, why in available_modes().items() if why}
    skipped = {one.mode for one in envs.plan.candidates if one.skipped}
    assert lacking - OTHER_PACKAGES <= skipped
    monkeypatch.undo()
    monkeypatch.setenv("VECSELECT_CACHE_DIR", str(cache.folder))
    plan = recommend("CartPole-v1", 2, **QUICK)  # what was refused is there again
    assert not (lacking - OTHER_PACKAGES and plan.recalled)
    assert {"pool:0", "async"} <= {one.mode for one in plan.candidates if not one.skipped}


def test_a_full_disk_is_an_error_before_anything_is_written(monkeypatch):
    no_memory_files(monkeypatch, errno.EPERM)
    monkeypatch.setattr(os, "posix_fallocate", refused(errno.ENOSPC), raising=False)
    with pytest.raises(ModeUnavailable, match="No space left"):
        auto_make_vec([EchoEnv] * 4, mode="pool:1")


def unlicensed():
    raise OSError("no licence")


@pytest.fixture
def pool_chosen(monkeypatch):
    """What is planned is a pool of one worker, on whatever machine."""
    prepare = build.prepare

    def chosen(request, options, *, builds):
        plan, first = prepare(request, options, builds=builds)
        both = (Candidate("sync"), Candidate("pool:1"))
        return dataclasses.replace(plan, mode="pool:1", candidates=both), first

    monkeypatch.setattr(build, "prepare", chosen)


def test_sync_runs_where_what_was_chosen_cannot_be_built(pool_chosen, monkeypatch):
    with pytest.raises(OSError, match="no licence"):  # the environment's fault, not the mode's
        auto_make_vec([EchoEnv, unlicensed], effort="rule", **QUICK)
    monkeypatch.setattr(Pool, "build", refused(errno.EAGAIN))
    with pytest.warns(VecselectWarning, match="pool:1 was chosen, but it failed .*temporarily"):
        envs = auto_make_vec("CartPole-v1", 2, effort="rule", **QUICK)
    with envs:
        envs.reset(seed=1)
        assert (envs.mode, envs.plan.decided_by) == ("sync", "elimination")
        assert "pool:1 was chosen, but it failed" in str(envs.report)


PROGRAM = """
    import vecselect

    assert vecselect.available_modes()["sync"] is None
    for options in {"budget_s": 0.3}, {"mode": "sync"}:
        with vecselect.auto_make_vec("CartPole-v1", 2, **options) as envs:
            envs.reset(seed=1)
            envs.step(envs.action_space.sample())
            print(envs.mode)
    print(envs.report)
"""

NO_PROC = """
    import builtins, functools, os, psutil
    psutil.PROCFS_PATH = "/nowhere"

    def hidden(call):
        def without(file=".", *arguments, **named):
            if isinstance(file, str) and file.startswith("/proc"):
                raise FileNotFoundError(2, "No such file or directory", file)
            return call(file, *arguments, **named)
        return functools.partial(without)  # no method where a class of Python 3.10 has it

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


@pytest.mark.parametrize("lacking", [NO_PROC, NO_PSUTIL], ids=["proc", "psutil"])
def test_a_program_runs_without(lacking, tmp_path):
    # Python runs this file first in the program and in every process that it starts.
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(lacking))
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    paths = os.pathsep.join([str(tmp_path), os.path.dirname(os.path.dirname(vecselect.__file__))])
    done = run_program(program, limit_s=120, variables={"PYTHONPATH": paths}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mode, pinned, *_ = done.stdout.split()
    assert mode in ("sync", "pool:0", "pool:1", "thread:1", "async") and pinned == "sync"


def test_the_name_of_a_signal_goes_when_it_is_no_longer_needed():
    one = link.Signal(multiprocessing.get_context("spawn"))
    name = one._named._semlock.name
    one.forget_name()
    with pytest.raises(FileNotFoundError):
        _multiprocessing.SemLock._rebuild(0, 1, 1, name)
    one.give()
    one.wait(0)


def test_who_shares_a_core_with_another_program_sleeps_instead_of_spinning(monkeypatch):
    one = link.Signal(multiprocessing.get_context("spawn"))
    now_s, meanwhile = [0.0], [lambda: None, one.give]

    def given_up():  # called a third time, it fails
        now_s[0] += 0.012  # four other programs, a time slice each
        meanwhile.pop(0)()

    monkeypatch.setattr(link, "_yield", given_up)
    monkeypatch.setattr(link.time, "perf_counter", lambda: now_s[0])
    assert not one.spun(link.DEFAULT_TRIES)  # so it is slept on
    assert one.spun(link.DEFAULT_TRIES)
    assert not one.spun(link.DEFAULT_TRIES)
    assert not meanwhile


def test_a_killed_worker_is_told_with_the_memory_of_its_group(monkeypatch):
    monkeypatch.setattr("vecselect.machine._memory_limits", lambda root: (2 * 10**9, 10**8))
    assert "(0.1 of 2.0 GB are free now" in machine.memory_picture(-signal.SIGKILL)
    monkeypatch.delattr(signal, "SIGKILL")
    assert machine.memory_picture(-9) == machine.memory_picture(0) == ""


@pytest.fixture
def descriptors():
    """Sets how many files this process may have open, as most systems do."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda count: resource.setrlimit(resource.RLIMIT_NOFILE, (count, limits[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_planning_for_two_starts_few_processes_however_many_cores_there_are(
    monkeypatch, descriptors
):
    descriptors(1024)
    cores = 384
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    most = 0

    def look(text):
        nonlocal most
        most = max(most, len(children()))

    started = len(children())
    plan = recommend("CartPole-v1", 2, use_store=False, progress=look, **QUICK)
    assert plan.evidence.machine.cores == cores
    assert plan.mode in ("sync", "pool:0", "pool:1")
    assert most - started <= 16


def test_too_few_descriptors_are_an_error_before_anything_is_started(descriptors):
    makers = [EchoEnv] * 40
    with auto_make_vec(makers, mode="pool:1") as envs:  # what starts workers runs from here on
        envs.reset(seed=1)
    before, open_before = children(), len(os.listdir("/proc/self/fd"))
    descriptors(limit := open_before + 40)
    for mode, workers in (("pool:39", 39), ("async", 40)):
        with pytest.raises(RequestError, match="file descriptors") as caught:
            auto_make_vec(makers, mode=mode)
        message = str(caught.value)
        del caught  # whose traceback holds what was opened until then
        gc.collect()
        assert re.match(rf"{workers} processes take about \d+ file descriptors", message)
        assert f"may have {limit}" in message
        assert int(re.search(r"ulimit -n (\d+)", message)[1]) > limit
        assert children() == before
        assert until(lambda: len(os.listdir("/proc/self/fd")) <= open_before, 10.0)
    for mode in ("pool:1", "sync"):
        with auto_make_vec(makers, mode=mode) as envs:
            envs.reset(seed=1)


@pytest.mark.parametrize(
    ("mode", "free_bytes", "workers"),
    [
        ("pool:2", 20 * MIB, 2),
        ("async", 20 * MIB, 4),
        ("pool:2", 16 << 30, 0),
        ("async", 16 << 30, 0),
        ("pool:0", 0, 0),
    ],
)
def test_workers_that_hardly_fit_into_memory_are_one_warning(
    monkeypatch, mode, free_bytes, workers
):
    memory = types.SimpleNamespace(total=64 << 30, available=free_bytes)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        auto_make_vec([EchoEnv] * 4, mode=mode).close()
    assert len(caught) == bool(workers)
    for one in caught:
        assert re.fullmatch(
            rf"{workers} worker processes may be more than fit into memory: it would take about "
            r"\d\.\d GB, and 80% of the memory available is 0\.0 GB\. Use fewer, as in "
            r"mode='pool:1'\.",
            str(one.message),
        )
