"""Whole programs that are ended from outside, many at once; see `tests.benchmarks.soak`."""

from __future__ import annotations

import collections
import concurrent.futures
import signal
import time

import numpy as np

from tests.faults import programs
from tests.faults.case import Program

AT_ONCE = 2
CONTEXTS = ("forkserver", "spawn", "fork")


def interrupts(number, seed):
    """Programs ended by Ctrl-C at random moments: hangs, noise and what they leave."""
    random = np.random.default_rng(seed)
    cells = [
        (mode, context, ending)
        for mode in ("pool:2", "async")
        for context in CONTEXTS
        for ending in ("step", "use and close")
    ]
    jobs = [(*cells[i % len(cells)], float(random.uniform(0.0, 0.4))) for i in range(number)]

    def one(job):
        mode, context, ending, after_s = job
        run = Program(programs.run, mode=f"{mode} {context}", ending=ending)
        try:
            run.wait_for("ready")
        except AssertionError:
            return job, 0.0, run.finish()
        time.sleep(after_s)
        start_s = time.monotonic()
        run.send(signal.SIGINT, group=True)
        outcome = run.finish()
        return job, time.monotonic() - start_s, outcome

    def judge(job, took_s, outcome):
        if outcome.hung:
            return "hangs"
        if outcome.processes or outcome.shared or outcome.files:
            return "leftovers"
        if outcome.stderr.count("Traceback") != 1:
            return "not one traceback"
        return "late (over 2 s)" if took_s > 2.0 else "fine"

    return _judged(jobs, one, judge)


def kills(number):
    """Programs that are killed while a worker is stuck."""
    jobs = [
        (mode, context, stuck)
        for mode in ("pool:2", "async")
        for context in CONTEXTS
        for stuck in (1, 3)
        for _ in range(-(-number // 2))
    ]

    def one(job):
        mode, context, stuck = job
        run = Program(programs.run, mode=f"{mode} {context}", stuck=stuck)
        run.wait_for("ready")
        run.send(signal.SIGKILL)
        return job, 0.0, run.finish()

    def judge(job, took_s, outcome):
        if outcome.hung:
            return "hangs"
        if outcome.processes:
            return "processes left"
        # The fork server's own folder stays.
        if outcome.shared or any("/pymp-" not in path for path in outcome.files):
            return "names or files left"
        return "noise" if outcome.stderr else "fine"

    return _judged(jobs, one, judge)


def _judged(jobs, one, judge):
    counts, shown, slowest_s = collections.Counter(), [], 0.0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as executor:
        for job, took_s, outcome in executor.map(one, jobs):
            verdict = judge(job, took_s, outcome)
            counts[job[0], verdict] += 1
            slowest_s = max(slowest_s, took_s)
            if verdict != "fine":
                about = outcome.processes + outcome.shared + outcome.files
                shown.append(f"{job}: {verdict} {about}\n{outcome.stderr[-1500:]}")
    for (mode, verdict), count in sorted(counts.items()):
        print(f"{mode:<8} {verdict:<22} {count}")
    print(f"slowest end {slowest_s:.2f} s")
    for text in shown[:6]:
        print(f"- {text}")
    return bool(shown)
