"""Faults for as long as one likes: what is reported, how soon, and what is left behind.

    python -m tests.benchmarks.soak --minutes 30       random faults in a pool of 4 workers
    python -m tests.benchmarks.soak --interrupts 200   programs that are ended by Ctrl-C
    python -m tests.benchmarks.soak --kills 20         programs that are killed, per start method

Ends with 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings

import numpy as np
import psutil
from gymnasium.vector import SyncVectorEnv

from tests.benchmarks.soak_programs import interrupts, kills
from tests.faults import case
from tests.faults.faulty import CODES, ECHO, FaultyEnv
from vecselect import auto_make_vec
from vecselect.errors import StepTimeout, VecselectWarning, WorkerDied
from vecselect.process import forkserver
from vecselect.testing.contract import assert_same

COUNT = 10
WORKERS = 4
STEP_TIMEOUT_S = 0.4
REPORTED_S = 1.0
CLOSED_S = 5.0
HANG_S = 20.0
ERRORS = ("runtime", "key", "two", "keyword", "local", "unpicklable", "unicode", "os")


class Hang(BaseException):
    """Something has not returned for far too long."""


class Soak:
    """One run: a vector environment under fire beside one that is left in peace."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.counts = collections.Counter()
        self.latest_s = collections.defaultdict(float)
        self.failures = []
        self.steps = 0
        self.resets = 0
        self.pools = 0
        self.envs = self.oracle = None
        self.restarts = False

    def open(self):
        """Makes a pool; every second one replaces workers that die."""
        self.restarts = self.pools % 2 == 1
        options = {"step_timeout_s": STEP_TIMEOUT_S}
        if self.restarts:
            options["on_worker_death"] = "restart"
        env_fns = [functools.partial(FaultyEnv, index) for index in range(COUNT)]
        self.envs = auto_make_vec(env_fns, mode=f"pool:{WORKERS}", vector_kwargs=options)
        self.oracle = SyncVectorEnv(env_fns)
        self.pools += 1
        self.start_over()

    def close(self):
        envs, self.envs = self.envs, None
        start_s = time.monotonic()
        envs.close()
        self.note("close", time.monotonic() - start_s, CLOSED_S)
        self.oracle.close()

    def start_over(self):
        """Brings both to the same state, whatever it was before."""
        seed = int(self.random.integers(1000))
        for vector in (self.envs, self.oracle):
            vector.set_attr("episode", 0)
        assert_same(self.envs.reset(seed=seed), self.oracle.reset(seed=seed), "reset")
        self.resets += 1

    def draw(self):
        return self.random.integers(0, ECHO, COUNT)

    def work(self, steps):
        """Steps both; everything must be the same to the last bit."""
        for _ in range(steps):
            actions = self.draw()
            assert_same(self.envs.step(actions), self.oracle.step(actions), "step")
            self.steps += 1

    def note(self, what, took_s, limit_s):
        self.latest_s[what] = max(self.latest_s[what], took_s)
        if took_s > limit_s:
            self.counts["late"] += 1
            self.failures.append(f"{what} took {took_s:.2f} s")

    def expect(self, what, kinds, use, limit_s=REPORTED_S):
        """Does what must fail, in time."""
        start_s = time.monotonic()
        try:
            use()
        except kinds:
            self.note(what, time.monotonic() - start_s, limit_s)
        else:
            self.counts["not reported"] += 1
            self.failures.append(f"{what} was not reported")

    def victim(self):
        """A row that runs in a worker, and its process."""
        pids = self.envs.call("pid")
        row = int(self.random.choice([i for i, pid in enumerate(pids) if pid != os.getpid()]))
        return row, pids[row]

    # The faults. Each leaves both vector environments in the same state.

    def kill(self):
        row, pid = self.victim()
        actions = self.draw()
        if self.random.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
        else:
            deeds = ("sigkill", "segfault", "exit", "sys_exit")
            actions[row] = CODES[str(self.random.choice(deeds))]
        if self.restarts:
            start_s = time.monotonic()
            self.replaced(actions)
            self.note("kill, replaced", time.monotonic() - start_s, CLOSED_S)
        else:
            self.expect("kill", (WorkerDied, SystemExit), lambda: self.envs.step(actions))
            self.close()
            self.open()

    def replaced(self, actions):
        try:
            result = self.envs.step(actions)
        except WorkerDied:  # too many in a short time
            self.counts["gave up replacing"] += 1
            self.close()
            self.open()
            return
        restarted = result[4].get("worker_restarted", np.zeros(COUNT, bool))
        if not restarted.any():
            self.failures.append("a replaced worker was not told of")
            self.counts["not reported"] += 1
        assert (result[3] | ~restarted).all() and not result[1][restarted].any(), result
        peace = ~restarted
        assert (result[0][peace, 4][result[0][peace, 3] > 0] < ECHO).all(), result
        self.start_over()

    def stop(self):
        row, pid = self.victim()
        os.kill(pid, signal.SIGSTOP)
        if self.restarts:  # who does not answer in time is replaced too
            start_s = time.monotonic()
            self.replaced(self.draw())
            self.note("stop, replaced", time.monotonic() - start_s, 2 * CLOSED_S)
            return
        limit_s = STEP_TIMEOUT_S + REPORTED_S
        self.expect("stop", StepTimeout, lambda: self.envs.step(self.draw()), limit_s)
        if self.random.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            with contextlib.suppress(WorkerDied):
                self.start_over()
                return
        self.close()
        self.open()

    def fail(self):
        actions = self.draw()
        rows = self.random.choice(COUNT, self.random.integers(1, 4), replace=False)
        actions[rows] = [CODES[str(self.random.choice(ERRORS))] for _ in rows]
        self.expect("raise", Exception, lambda: self.envs.step(actions))
        self.start_over()

    def bad_action(self):
        zeros = np.zeros(COUNT, np.int64)
        choices = [zeros[1:], np.zeros(COUNT + 1, np.int64), zeros[:, None], zeros / 2, None, "a"]
        bad = choices[self.random.integers(len(choices))]
        self.expect("bad action", (ValueError, TypeError), lambda: self.envs.step(bad))

    def timeout(self):
        row, _ = self.victim()
        actions = self.draw()
        actions[row] = CODES["nap"]
        self.envs.step_async(actions)
        wait_s = float(self.random.uniform(0.0, 0.05))
        self.expect(
            "timeout", multiprocessing.TimeoutError, lambda: self.envs.step_wait(timeout=wait_s)
        )
        assert_same(self.envs.step_wait(), self.oracle.step(actions), "late step")

    def interrupt(self):
        after_s = float(self.random.uniform(0.0, 0.01))
        timer = threading.Timer(after_s, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            timer.start()
            until_s = time.monotonic() + REPORTED_S
            while time.monotonic() < until_s:
                self.envs.step(self.draw())
                if self.random.random() < 0.2:
                    self.envs.reset(seed=1)
            self.counts["not reported"] += 1
        except KeyboardInterrupt:
            pass
        self.start_over()

    def set_attr(self):
        before = self.envs.get_attr("token")
        values = list(range(COUNT))
        values[self.victim()[0]] = threading.Lock()
        self.expect("set_attr", TypeError, lambda: self.envs.set_attr("token", values))
        assert self.envs.get_attr("token") == before

    def run(self, minutes):
        faults = {
            "kill": self.kill,
            "stop and timeout": self.stop,
            "raise": self.fail,
            "bad action": self.bad_action,
            "timeout": self.timeout,
            "interrupt": self.interrupt,
            "set_attr fails": self.set_attr,
        }
        signal.signal(signal.SIGALRM, _hang)
        warnings.simplefilter("ignore", VecselectWarning)  # each replacement is one
        self.open()
        until_s = time.monotonic() + 60 * minutes
        while time.monotonic() < until_s:
            name = str(self.random.choice(list(faults)))
            try:
                signal.setitimer(signal.ITIMER_REAL, HANG_S)
                self.work(int(self.random.integers(5, 100)))
                self.start_over()  # an action of one that awaits its reset is passed over
                self.counts[name] += 1
                faults[name]()
                self.work(int(self.random.integers(1, 20)))
            except (Exception, Hang, KeyboardInterrupt) as error:
                signal.setitimer(signal.ITIMER_REAL, 0)
                kind = "hangs" if isinstance(error, Hang) else "data mismatches"
                if not isinstance(error, (Hang, AssertionError)):
                    kind = "unexpected errors"
                self.counts[kind] += 1
                self.counts[f"{kind} after {name}"] += 1
                self.failures.append(f"after {name}:\n{traceback.format_exc()[-1500:]}")
                self.renew()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        self.close()
        return faults

    def renew(self):
        """After a failure of ours: away with what there is."""
        envs, self.envs = self.envs, None
        with contextlib.suppress(Exception):
            if envs is not None:
                envs.close(terminate=True)
        self.open()


def _hang(*_):
    raise Hang


def soak(minutes, seed):
    before = {one.pid for one in case.in_session(os.getsid(0))}
    forkserver.PRELOADED += case.PRELOADED
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    forkserver.ensure_running()
    descriptors = psutil.Process().num_fds()
    run = Soak(seed)
    faults = run.run(minutes)
    del run.envs
    gc.collect()
    time.sleep(1.0)
    before |= case.helpers()
    others = case.in_session(os.getsid(0))
    left = [case.describe(one) for one in others if one.pid not in before]
    new = case.names_in_shared_memory(os.getpid())
    more = psutil.Process().num_fds() - descriptors
    injected = sum(run.counts[name] for name in faults)
    print(f"{run.steps} vector steps compared, {run.resets} resets, {run.pools} pools")
    print(f"faults injected      {injected}")
    for name in faults:
        print(f"  {name:<18} {run.counts[name]}")
    print("slowest report, s    " + ", ".join(f"{k} {v:.2f}" for k, v in run.latest_s.items()))
    for name in ("late", "not reported", "data mismatches", "unexpected errors", "hangs"):
        print(f"{name:<20} {run.counts[name]}")
    for name in sorted(name for name in run.counts if " after " in name):
        print(f"  {name}: {run.counts[name]}")
    print(f"gave up replacing    {run.counts['gave up replacing']}")
    print(f"leftovers            {len(left)} processes, {len(new)} names, {more} descriptors")
    for failure in [*run.failures[:10], *left[:10]]:
        print(f"- {failure}")
    return bool(run.failures or left or new or more > 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--interrupts", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    # A shell has its background jobs ignore Ctrl-C, and this one sends it to itself.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bad = False
    if asked.minutes:
        bad |= soak(asked.minutes, asked.seed)
    if asked.interrupts:
        bad |= interrupts(asked.interrupts, asked.seed)
    if asked.kills:
        bad |= kills(asked.kills)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
