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
import functools
import inspect
import itertools
import json
import os
import threading
import time

import pytest

from tests.faults.runner import DEADLINE_S, Program
from tests.faults.zygote import Zygote
from tests.marks import only_full

AT_ONCE = int(os.environ.get("VECSELECT_FAULT_AT_ONCE", "2"))

MODES = ["sync", "async", "pool:0", "pool:2", "thread:2"]
PROCESSES = ["async", "pool:2"]
QUICK = PROCESSES
"""The modes that plain `pytest` runs the cases in."""


class _Ahead:
    """Runs the cases of a session in their order, two at a time."""

    def __init__(self):
        self.wanted = {}
        self.futures = {}
        self.executor = None
        self.zygotes = []
        self.mine = threading.local()

    def want(self, key, run):
        self.wanted[key] = run

    def outcome(self, key, run):
        if key not in self.wanted:
            return run()
        if self.executor is None:
            self.executor = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
            self.futures = {k: self.executor.submit(r) for k, r in self.wanted.items()}
        return self.futures[key].result()

    def zygote(self):
        """That of this thread, which runs one case at a time."""
        if not hasattr(self.mine, "zygote"):
            self.mine.zygote = Zygote()
            self.zygotes.append(self.mine.zygote)
        return self.mine.zygote

    def stop(self):
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)
        for zygote in self.zygotes:
            zygote.stop()


ahead = _Ahead()


def case(*, modes=None, full=False, deadline_s=DEADLINE_S, fold=False, **expected):
    """Has a test run in a process of its own.

    Args:
        modes: For each of which it runs, as the argument `mode`. Other modes than `QUICK` are
            marked `full`.
        full: Whether it is marked `full` in every mode.
        deadline_s: Seconds after which it counts as hung.
        fold: Whether all that it is parametrized by is gone through in that one process.
        **expected: What `Outcome.problems` is to allow.
    """

    def decorate(body):
        if fold:
            body = _folded(body)
        target = f"{body.__module__}:{body.__name__}"

        def run(arguments):
            program = Program(target, deadline_s=deadline_s, zygote=ahead.zygote(), **arguments)
            return program.finish()

        @functools.wraps(body)
        def test(**arguments):
            __tracebackhide__ = True
            ahead.outcome(_key(target, arguments), lambda: run(arguments)).check(**expected)

        test.body = body
        test.want = lambda arguments: ahead.want(_key(target, arguments), lambda: run(arguments))
        if modes is not None:
            rest = [mode for mode in modes if mode not in QUICK]
            quick = [mode for mode in modes if mode in QUICK]
            test = pytest.mark.parametrize("mode", quick + only_full(*rest))(test)
        return pytest.mark.full(test) if full else test

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
