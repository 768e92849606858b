"""Runs a case in a process of its own, with a deadline, and counts what it leaves behind.

    @case(modes=PROCESSES)
    def test_something(mode):
        '''What this is about.'''
        ...  # runs in the process of its own

Counted are processes, descriptors, names in shared memory, temporary files and printed lines. A
case leads a session, whose processes are found wherever they have been reparented to.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import importlib
import inspect
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing import process, resource_tracker, util
from pathlib import Path

import numpy
import psutil
import pytest

from tests.marks import only_full
from tests.processes import left_of, running, until
from vecselect import auto_make_vec
from vecselect.process import forkserver

ROOT = Path(__file__).parents[2]
PRELOADED = ("gymnasium", "tests.faults.faulty")
"""What the fork server of a case loads, so that its workers start in milliseconds."""

MODES = ["sync", "async", "pool:0", "pool:2", "thread:2"]
PROCESSES = ["async", "pool:2"]

DEADLINE_S = 30.0
"""When a case that has not ended is killed, and counts as hung."""

LEAVE_S = 5.0
"""How long after the end of a case its processes, names and files may take to go."""


def case(*, modes=None, full=False, deadline_s=DEADLINE_S, **expected):
    """Runs a test in a process of its own.

    Args:
        modes: For each of which it runs, as the argument `mode`. Others than `PROCESSES` are
            marked `full`.
        full: Whether it is marked `full` in every mode.
        deadline_s: Seconds after which it counts as hung.
        **expected: What `Program.problems` is to allow.
    """

    def decorate(body):
        @functools.wraps(body)
        def test(**arguments):
            __tracebackhide__ = True
            run = Program(body, deadline_s=deadline_s, zygote=zygote(), **arguments)
            run.finish().check(**expected)

        if modes is not None:
            params = [mode if mode in PROCESSES else only_full(mode)[0] for mode in modes]
            test = pytest.mark.parametrize("mode", params)(test)
        return pytest.mark.full(test) if full else test

    return decorate


# What a case's process and those that it starts leave behind.


def name_own():
    """Makes multiprocessing put this process's number into the names of its semaphores."""
    process.current_process()._config["semprefix"] = f"/mp-{os.getpid()}"


def names_in_shared_memory(pid):
    """The names that a process made: they carry its number (see `name_own`)."""
    if not os.path.isdir("/dev/shm"):
        return set()
    return {name for name in os.listdir("/dev/shm") if f"-{pid}-" in name}


def in_session(session):
    """The other processes of a session that are no zombies; none of ours leaves it."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(one.pid) == session and one.pid != os.getpid() and running(one.pid):
                found.append(one)
    return found


def describe(one):
    with contextlib.suppress(psutil.Error):
        return f"{one.pid} ({one.status()}): {' '.join(one.cmdline())[:160]}"
    return str(one.pid)


def descriptors():
    """The open descriptors of this process, with what they lead to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    # multiprocessing keeps the memory of its shared arrays for the next ones.
    return {name: link for name, link in found.items() if "/pym-" not in link}


def helpers():
    """The processes that are kept for as long as the interpreter lives."""
    return {forkserver.ensure_running(), resource_tracker._resource_tracker._pid}


class Program:
    """The process of a case, or of a program that a case looks at.

    After `finish` it says how it went: `hung`, `returncode`, `stdout`, `stderr`, `result` (None if
    its function did not come to its end), and what is left: `processes`, `shared`, `files`.
    """

    def __init__(self, function, *, deadline_s=DEADLINE_S, zygote=None, **arguments):
        """Starts it.

        Args:
            function: What it does; one of a module.
            deadline_s: Seconds after which it is killed, and counts as hung.
            zygote: A process to fork it off, which has loaded everything. Descriptors and processes
                are then counted before it ends, too.
            **arguments: Of the function.
        """
        self.target = f"{function.__module__}:{function.__name__}"
        self.folder = Path(tempfile.mkdtemp(prefix="vecselect-case-"))
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        environment = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "VECSELECT_CACHE_DIR": str(self.folder / "cache"),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "",
        }
        environment.pop("VECSELECT_MODE", None)
        words = [self.target, json.dumps(arguments), str(self.folder), str(int(bool(zygote)))]
        self.start_s = time.monotonic()
        self.end_s = self.start_s + deadline_s
        with open(self.folder / "out", "w") as out, open(self.folder / "err", "w") as err:
            if zygote is not None:
                self.popen = zygote.start(words, out.name, err.name, environment)
            else:
                self.popen = subprocess.Popen(
                    [sys.executable, "-m", __name__, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=ROOT,
                    env=environment,
                    start_new_session=True,
                )
        self.pid = self.popen.pid

    def printed(self, name):
        """What it has written to `out` or `err`."""
        return (self.folder / name).read_text(errors="replace")

    def wait_for(self, text):
        """Waits until it has printed a text."""
        left_s = self.end_s - time.monotonic()
        until(lambda: text in self.printed("out") or self.popen.poll() is not None, left_s)
        shown = self.printed("out") + self.printed("err")
        assert text in self.printed("out"), f"{text!r} was not printed: {shown}"

    def send(self, number, group=False):
        """Sends a signal to it, or to all of its processes, as a terminal does."""
        if not group and self.popen.poll() is None:
            os.kill(self.pid, number)
        for one in self.alive() if group else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)

    def alive(self):
        """Every process of it that is no zombie."""
        return in_session(self.pid)

    def finish(self, leave_s=LEAVE_S):
        """Waits for the end, kills what is left, and notes how it went."""
        self.hung = False
        try:
            self.popen.wait(max(self.end_s - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.hung, leave_s = True, 0.0
            self._print_tracebacks()
        self.wall_s = time.monotonic() - self.start_s
        left = left_of(self.alive, leave_s)
        self.processes = [describe(one) for one in left]
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.returncode = self.popen.wait()
        self.shared = sorted(left_of(lambda: names_in_shared_memory(self.pid), leave_s))
        self.files = sorted(map(str, self.temporary.rglob("*")))
        self.stdout, self.stderr = self.printed("out"), self.printed("err")
        path = self.folder / "result.json"
        self.result = json.loads(path.read_text()) if path.exists() else None
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def _print_tracebacks(self):
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.5)

    def check(self, **expected):
        """Fails unless it has ended as it should; `expected` is that of `problems`."""
        __tracebackhide__ = True
        if problems := list(self.problems(**expected)):
            pytest.fail("\n".join(problems), pytrace=False)
        return self

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
        left = {"processes": self.processes, "names in /dev/shm": self.shared}
        if files:
            left["temporary files"] = self.files
        if not found.get("error"):
            left |= {f"{kind} inside": found.get(kind) for kind in ("descriptors", "children")}
        yield from (f"left: {kind}: {them}" for kind, them in left.items() if them)
        printed = [*self.stdout.splitlines(), *self.stderr.splitlines()]
        if noise is not None and len(printed) > noise:
            yield "printed:\n" + "\n".join(printed[:60])


def run(target, arguments, folder, inside):
    """Runs a case's function, the first thing in its process, and writes the result to a folder.

    Args:
        target: `module:function`.
        arguments: Of the function, as JSON.
        folder: The folder.
        inside: "1" if descriptors and processes are counted before the process ends.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    forkserver.PRELOADED += PRELOADED
    name_own()
    module, _, name = target.partition(":")
    function = inspect.unwrap(getattr(importlib.import_module(module), name))
    if int(inside):
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    before = descriptors()
    result = {"error": None}
    try:
        result["value"] = function(**json.loads(arguments))
    except (Exception, pytest.fail.Exception):
        result["error"] = traceback.format_exc()
    if int(inside):
        gc.collect()
        kept = helpers()

        def others():
            return [describe(one) for one in in_session(os.getsid(0)) if one.pid not in kept]

        left = left_of(others, 1.0)
        # Threads may be closing what a process that has just ended shared with this one.
        result["descriptors"] = left_of(
            lambda: [link for name, link in descriptors().items() if name not in before], 1.0
        )
        zombies = [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
        result["children"] = left + [f"zombie {one.pid}" for one in zombies]
    Path(folder, "result.json").write_text(json.dumps(result, default=str))


# The zygote: a process that has loaded what the cases need, and forks each of them off. Loading it
# takes longer than most cases do. A case ends as a program does: its process goes on from the fork
# to the end of the interpreter. Where it matters how a program begins or ends, cases start a
# `Program` without a zygote.


@functools.cache
def zygote():
    """The zygote of this process; it ends with the process's end of its input."""
    return Zygote()


class Zygote:
    """The tests' side of it: starts one case after the other."""

    def __init__(self):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=ROOT,
            # A process that forks may have no threads; the cases get their variables back.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def start(self, words, out, err, environment):
        """Starts a case: `run(*words)` with these files for what it prints."""
        request = {"words": words, "out": out, "err": err, "environment": environment}
        self.popen.stdin.write(json.dumps(request).encode() + b"\n")
        return Forked(self.popen.stdout)


class Forked:
    """A case's process, with what `subprocess.Popen` has for it."""

    def __init__(self, answers):
        self.pid, self.returncode, self.answers = int(answers.readline()), None, answers

    def poll(self, timeout=0.0):
        if self.returncode is None and select.select([self.answers], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self.answers.readline()))
        return self.returncode

    def wait(self, timeout=None):
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired("a case", timeout)
        return self.returncode


def _serve():
    """Forks a case off for each line of stdin; returns the request in the case's process."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return json.loads(line)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
    return None


def _become(request):
    """Makes a forked process one of its own: session, files, environment, generators."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    files = [os.open(request[name], os.O_WRONLY | os.O_TRUNC) for name in ("out", "err")]
    for number, descriptor in enumerate([nothing, *files]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    util.spawnv_passfds = functools.partial(_fork_helpers, os.getpid(), util.spawnv_passfds)
    numpy.random.seed(random.getrandbits(32))


HELPERS = ("import sys; sys.path[:] = ", "from multiprocessing.resource_tracker")


def _fork_helpers(owner, spawn, path, args, passfds):
    """Stands in for `spawnv_passfds`: forks the helpers off, which then need load nothing.

    Only in the case's own process: others, which may have threads, start programs by `spawn`.
    """
    code = args[-1]
    if os.getpid() != owner or not code.startswith(HELPERS):
        return spawn(path, args, passfds)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            edges = [2, *sorted(map(int, passfds)), os.sysconf("SC_OPEN_MAX")]
            for last, following in itertools.pairwise(edges):
                os.closerange(last + 1, following)
            # What this process is just starting in them, and the locks that it holds meanwhile.
            resource_tracker._resource_tracker.__init__()
            exec(code, {})
        os._exit(0)
    return pid


def main(words):
    if words:
        run(*words)
        return
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"tests.faults.{path.stem}")
    auto_make_vec("CartPole-v1", 1, mode="sync").close()  # what the first one loads and looks up
    gc.collect()
    gc.freeze()  # what a case collects is its own: the rest takes longer than most cases do
    if request := _serve():
        _become(request)
        run(*request["words"])


if __name__ == "__main__":
    main(sys.argv[1:])
