"""A process that has loaded what the cases need, and forks each of them off.

Loading it takes longer than most cases do. A case ends as a program does: its process goes on from
here to the end of the interpreter. Whoever wants a process that has loaded nothing starts a
`runner.Program` without a zygote, as the cases do where it matters how a program begins or ends.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from multiprocessing import resource_tracker, util
from pathlib import Path

ROOT = Path(__file__).parents[2]
THREADS = "OPENBLAS_NUM_THREADS"


class Zygote:
    """The tests' side of it: runs one case after the other."""

    def __init__(self):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            # A process that forks may have no threads; the cases get their variables back.
            env={**os.environ, THREADS: "1"},
            text=True,
            start_new_session=True,
        )

    def start(self, words, out, err, environment):
        """Starts a case.

        Args:
            words: What `inside.run` takes.
            out: Path of a file for what it prints.
            err: The same for its errors.
            environment: Its environment variables.
        """
        request = {"words": words, "out": out, "err": err, "environment": environment}
        print(json.dumps(request), file=self.popen.stdin, flush=True)
        return Forked(self.popen.stdout)

    def stop(self):
        self.popen.communicate()


class Forked:
    """A case's process, with what `subprocess.Popen` has for it."""

    def __init__(self, answers):
        self.pid = int(answers.readline())
        self.returncode = None
        self._reader = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self._reader.start()

    def _read(self, answers):
        self.returncode = os.waitstatus_to_exitcode(int(answers.readline()))

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        self._reader.join(timeout)
        if self.returncode is None:
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
    """Makes this process one of its own."""
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
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(random.getrandbits(32))


HELPERS = ("import sys; sys.path[:] = ", "from multiprocessing.resource_tracker")


def _fork_helpers(case, spawn, path, args, passfds):
    """Forks multiprocessing's own helpers off: they need load nothing then.

    Args:
        case: The case's process. Those that it starts may have threads by then, and start programs.
        spawn: What starts a program.
        path: Of the program.
        args: Its arguments.
        passfds: The descriptors that it gets.
    """
    code = args[-1]
    if os.getpid() != case or not code.startswith(HELPERS):
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


if __name__ == "__main__":
    from tests.faults import inside

    for name in sorted(Path(__file__).parent.glob("test_*.py")):
        __import__(f"tests.faults.{name.stem}")
    if request := _serve():
        _become(request)
        inside.run(*request["words"])
