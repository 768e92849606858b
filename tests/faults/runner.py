"""Starts a case's process, waits for its end, and tells how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tests.faults.census import MARK, describe, marked, names_in_shared_memory
from tests.faults.zygote import ROOT

DEADLINE_S = 30.0
LEAVE_S = 2.0
"""How long after its end a case's processes, names and files may take to go."""

LONGEST_S = float(os.environ.get("VECSELECT_FAULT_LONGEST_S", "inf"))
"""For a quick look at many that hang: no deadline is later than this."""


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

    def __init__(self, target, *, deadline_s=DEADLINE_S, inside=True, zygote=None, **arguments):
        """Starts it.

        Args:
            target: `module:function`, or the path of a script, or `-c` code after `-c `.
            deadline_s: When it is killed, and counts as hung.
            inside: Whether the census inside of the process is taken.
            zygote: What it is forked off, where it need not load everything anew.
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
            command = [sys.executable, "-m", "tests.faults.inside", *words]
        with open(self.folder / "out", "w") as out, open(self.folder / "err", "w") as err:
            self.start_s = time.monotonic()
            if zygote is not None:
                self.popen = zygote.start(words, out.name, err.name, environment)
            else:
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
        """Every process of it that is no zombie."""
        return marked(self.mark, session=self.pid)

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
        while (left := names_in_shared_memory(self.pid)) and time.monotonic() < until_s:
            time.sleep(0.05)
        return left

    def _show_where(self):
        """Has the process write its tracebacks, for the report."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.5)
