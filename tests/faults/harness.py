"""Runs one case of the fault suite in a process of its own, with a deadline and a census.

A case is a function, named `module:function`. Its process and all that it starts carry a mark in
their environment, so that what it leaves behind is found wherever it has been reparented to.

    @case(modes=POOLS)
    def test_something(mode):
        '''Check 0.'''
        ...  # runs in the process of its own

The tests of a session run two at a time: while one is looked at, the next are already under way.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import functools
import gc
import importlib
import inspect
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from pathlib import Path

import psutil
import pytest

MARK = "VECSELECT_FAULT_CASE"
ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0
LEAVE_S = 2.0
"""How long after its end a case's processes, names and files may take to go."""

LONGEST_S = float(os.environ.get("VECSELECT_FAULT_LONGEST_S", "inf"))
"""For a quick look at many that hang: no deadline is later than this."""

AT_ONCE = int(os.environ.get("VECSELECT_FAULT_AT_ONCE", "2"))
PRELOADED = ["gymnasium", "tests.faults.envs"]

MODES = ["sync", "async", "pool:0", "pool:2"]
PROCESSES = ["async", "pool:2"]


@dataclasses.dataclass
class Outcome:
    """How a case ended and what it left behind."""

    target: str
    hung: bool
    wall_s: float
    returncode: int | None
    stdout: str
    stderr: str
    result: dict | None
    processes: list[str]
    shared: list[str]
    files: list[str]

    def problems(self, *, returncode=0, noise=0, result=True, files=True):
        """What is not as it should be, one sentence each.

        Args:
            returncode: What the process should end with.
            noise: Lines that it may print.
            result: Whether the case's function must have come to its end.
            files: Whether temporary files count.
        """
        if self.hung:
            yield f"hung: {self.target} was still running after {self.wall_s:.0f} s\n{self.stderr}"
            return
        found = self.result or {}
        if found.get("error"):
            yield found["error"]
        elif result and self.result is None:
            yield f"ended early, with {self.returncode}: {self.stderr[-2000:]}"
        if returncode is not None and self.returncode != returncode:
            yield f"ended with {self.returncode} instead of {returncode}"
        for name in ("descriptors", "children"):
            if found.get(name) and not found.get("error"):
                yield f"{name} left open inside: {found[name]}"
        if self.processes:
            yield f"processes left: {self.processes}"
        if self.shared:
            yield f"names in /dev/shm left: {self.shared}"
        if files and self.files:
            yield f"temporary files left: {self.files}"
        printed = [*self.stdout.splitlines(), *self.stderr.splitlines()]
        if noise is not None and len(printed) > noise:
            yield "printed:\n" + "\n".join(printed[:60])

    def check(self, **expected):
        """Fails unless all is as it should be."""
        __tracebackhide__ = True
        if problems := list(self.problems(**expected)):
            pytest.fail("\n".join(problems), pytrace=False)
        return self


class Program:
    """A case's process, under way."""

    def __init__(self, target, *, deadline_s=DEADLINE_S, inside=True, **arguments):
        """Starts it.

        Args:
            target: `module:function`, or the path of a script, or `-c` code after `-c `.
            deadline_s: When it is killed, and counts as hung.
            inside: Whether the census inside of the process is taken.
            **arguments: Of the function.
        """
        self.target = target
        self.deadline_s = min(deadline_s, LONGEST_S)
        self.mark = uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="vecselect-case-"))
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        marks = [*filter(None, [os.environ.get(MARK)]), self.mark]
        environment = {
            **os.environ,
            MARK: "/".join(marks),
            "TMPDIR": str(self.temporary),
            "VECSELECT_CACHE_DIR": str(self.folder / "store"),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "",
        }
        environment.pop("VECSELECT_MODE", None)
        if target.startswith("-c "):
            command = [sys.executable, "-c", target[3:]]
        elif target.endswith(".py"):
            command = [sys.executable, target]
        else:
            words = [target, json.dumps(arguments), str(self.folder), str(int(inside))]
            command = [sys.executable, "-m", "tests.faults.harness", *words]
        self.shared = names_in_shared_memory()
        with open(self.folder / "out", "w") as out, open(self.folder / "err", "w") as err:
            self.start_s = time.monotonic()
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
        self.pid = self.popen.pid

    @property
    def stdout(self):
        return (self.folder / "out").read_text(errors="replace")

    @property
    def stderr(self):
        return (self.folder / "err").read_text(errors="replace")

    def wait_for(self, text):
        """Waits until it has printed a text; returns what it has printed."""
        while text not in self.stdout:
            if self.popen.poll() is not None or self._left_s() <= 0:
                raise AssertionError(f"{text!r} was not printed: {self.stdout}{self.stderr}")
            time.sleep(0.005)
        return self.stdout

    def send(self, number, group=False):
        """Sends a signal to it, or to its group and those of its workers, as a terminal does."""
        if not group:
            if self.popen.poll() is None:
                os.kill(self.pid, number)
            return
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def alive(self):
        """Every process that carries the mark and is no zombie."""
        return marked(self.mark)

    def finish(self, leave_s=LEAVE_S):
        """Waits for the end, kills what is left, and tells how it went."""
        hung = False
        try:
            self.popen.wait(max(self._left_s(), 0.0))
        except subprocess.TimeoutExpired:
            hung = True
            self._show_where()
        wall_s = time.monotonic() - self.start_s
        left = [] if hung else self._left(leave_s)
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait()
        shared = [] if hung else sorted(self._names())
        path = self.folder / "result.json"
        outcome = Outcome(
            target=self.target,
            hung=hung,
            wall_s=wall_s,
            returncode=self.popen.returncode,
            stdout=self.stdout,
            stderr=self.stderr,
            result=json.loads(path.read_text()) if path.exists() else None,
            processes=left,
            shared=shared,
            files=sorted(map(str, self.temporary.rglob("*"))),
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        return outcome

    def _left_s(self):
        return self.start_s + self.deadline_s - time.monotonic()

    def _left(self, leave_s):
        """Processes that have not gone in time."""
        until_s = time.monotonic() + leave_s
        while (left := self.alive()) and time.monotonic() < until_s:
            time.sleep(0.02)
        return [describe(process) for process in left]

    def _names(self):
        """Names that it left: they carry the number of the process that made them."""
        until_s = time.monotonic() + LEAVE_S
        while new := names_in_shared_memory() - self.shared:
            mine = {name for name in new if f"-{self.pid}-" in name}
            if not mine or time.monotonic() > until_s:
                return mine
            time.sleep(0.05)
        return set()

    def _show_where(self):
        """Has the process write its tracebacks, for the report."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.5)


def names_in_shared_memory():
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def marked(mark):
    """Every process whose environment carries the mark; a zombie has none."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if mark in process.environ().get(MARK, "").split("/"):
                found.append(process)
    return found


def describe(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())[:160]}"
    return str(process.pid)


# The tests' side.


class _Ahead:
    """Runs the cases of a session in their order, two at a time."""

    def __init__(self):
        self.wanted = {}
        self.futures = {}
        self.executor = None

    def want(self, key, run):
        self.wanted[key] = run

    def outcome(self, key, run):
        if key not in self.wanted:
            return run()
        if self.executor is None:
            self.executor = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
            self.futures = {k: self.executor.submit(r) for k, r in self.wanted.items()}
        return self.futures[key].result()

    def stop(self):
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)


ahead = _Ahead()


def case(*, modes=None, deadline_s=DEADLINE_S, fold=False, **expected):
    """Has a test run in a process of its own.

    Args:
        modes: For each of which it runs, as the argument `mode`.
        deadline_s: Seconds after which it counts as hung.
        fold: Whether all that it is parametrized by is gone through in that one process.
        **expected: What `Outcome.problems` is to allow.
    """

    def decorate(body):
        if fold:
            body = _folded(body)
        target = f"{body.__module__}:{body.__name__}"

        def run(arguments):
            return Program(target, deadline_s=deadline_s, **arguments).finish()

        @functools.wraps(body)
        def test(**arguments):
            __tracebackhide__ = True
            ahead.outcome(_key(target, arguments), lambda: run(arguments)).check(**expected)

        test.body = body
        test.want = lambda arguments: ahead.want(_key(target, arguments), lambda: run(arguments))
        if modes is not None:
            test = pytest.mark.parametrize("mode", modes)(test)
        return test

    return decorate


def _folded(body):
    """A body that goes through its parameters itself."""
    marks = [mark for mark in body.pytestmark if mark.name == "parametrize"]
    spaces = []
    for mark in marks:
        names = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
        rows = [row if len(names) > 1 else (row,) for row in mark.args[1]]
        spaces.append([dict(zip(names, row, strict=True)) for row in rows])

    def every(**arguments):
        for parts in itertools.product(*spaces):
            these = {name: value for part in parts for name, value in part.items()}
            try:
                body(**arguments, **these)
            except (Exception, pytest.fail.Exception) as error:
                raise AssertionError(f"with {these}") from error

    every.__name__, every.__module__, every.__doc__ = body.__name__, body.__module__, body.__doc__
    signature = inspect.signature(body)
    folded = {name for space in spaces for name in space[0]}
    kept = [one for name, one in signature.parameters.items() if name not in folded]
    every.__signature__ = signature.replace(parameters=kept)
    return every


def _key(target, arguments):
    return target, json.dumps(arguments, sort_keys=True)


# The case's side.


def within(limit_s):
    """A context that fails if what is done in it takes longer."""
    return _Within(limit_s)


class _Within:
    def __init__(self, limit_s):
        self.limit_s = limit_s

    def __enter__(self):
        self.start_s = time.monotonic()
        return self

    def __exit__(self, kind, error, trace):
        took_s = time.monotonic() - self.start_s
        if error is None:
            assert took_s < self.limit_s, f"took {took_s:.2f} s, not {self.limit_s} s"


def say(text):
    print(text, flush=True)


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    # multiprocessing keeps the memory of its shared arrays for the next ones.
    return {name: link for name, link in found.items() if "/pym-" not in link}


def _helpers():
    """The processes that multiprocessing keeps for as long as the interpreter lives."""
    from multiprocessing import forkserver, resource_tracker

    return {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}


def _others(mark):
    ours = {os.getpid(), *_helpers()}
    return [describe(one) for one in marked(mark) if one.pid not in ours]


def _main(target, arguments, folder, inside):
    """Runs a case: the first thing in its process."""
    import multiprocessing
    from multiprocessing import forkserver, resource_tracker

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    multiprocessing.set_forkserver_preload(PRELOADED)
    # multiprocessing's own semaphores get this process's number into their names, as ours have it.
    multiprocessing.current_process()._config["semprefix"] = f"/mp-{os.getpid()}"
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    function = getattr(function, "body", function)
    mark = os.environ[MARK].rpartition("/")[2]
    if int(inside):
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    before = _descriptors()
    result = {"error": None}
    try:
        result["value"] = function(**json.loads(arguments))
    except (Exception, pytest.fail.Exception):
        result["error"] = traceback.format_exc()
    if int(inside):
        gc.collect()
        until_s = time.monotonic() + 1.0
        while (left := _others(mark)) and time.monotonic() < until_s:
            time.sleep(0.02)
        after = _descriptors()
        result["children"] = left
        result["descriptors"] = sorted(after[one] for one in after.keys() - before.keys())
        zombies = [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
        result["children"] += [f"zombie {one.pid}" for one in zombies]
    Path(folder, "result.json").write_text(json.dumps(result, default=str))


if __name__ == "__main__":
    _main(*sys.argv[1:])
