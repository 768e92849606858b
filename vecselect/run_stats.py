"""What a run shows of itself: seconds inside and outside `step`, and whether its plan holds."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from vecselect.errors import warn
from vecselect.learner_threads import torch_threads
from vecselect.measure.clock import ForeignLoad, OtherThreads
from vecselect.modes import Mode
from vecselect.planning import explain
from vecselect.planning.cache import PlanCache
from vecselect.planning.plan_key import script_name
from vecselect.selection.evidence import ObservedRun
from vecselect.selection.overlap import overlap_in_run

if TYPE_CHECKING:
    from vecselect.plan import Plan

LOOK_STEPS = 64
"""Vector steps between two looks at a run."""

LOOK_S = 1.0
"""Where vector steps are slow it is looked at after this time."""

WARM_UP_STEPS = 100
"""The first vector steps, which are not representative; they only verify a recalled plan."""

MIN_STEPS = 200
"""A run of fewer vector steps is not observed."""

WINDOWS_KEPT = 256
"""Spans between two looks that are kept, the latest ones."""

SAMPLE_STEPS = 256
"""In one of so many vector steps the CPU time of other threads is measured, which takes 10 us."""

STEPS_PER_THREAD = 16
"""In one of so many times the number of threads where there are many: each has a clock."""

WRONG_RECALL = 2.5
"""A recalled plan is wrong where vector steps are this many times as long, or as short."""

SLOW_SPAN_S = 10.0
SLOW_SPANS = 3
"""Spans of time in a row in which steps must be slower than planned before that is said."""

SLOWER = 1 / 0.7
"""A plan has become untrue where it brings 30 % less than it promised."""

OVERLAP_SAMPLES = 3
"""Times between two steps of which the CPU time is known, before anything is said of overlap."""

COLLECTING_STEPS = 2000
COLLECTING_S = 20.0
"""A loop that has not entered `collecting` by then, whichever comes first, does not do so."""

BUSY_CORES = 0.25
"""Other programs count where they keep more cores busy than this."""


@dataclass(frozen=True)
class Stats:
    """How the time of a run was spent so far.

    Attributes:
        vector_steps: Calls of `step` that returned.
        env_steps: The same times `num_envs`; steps that only reset a sub-environment count too.
        inside_s: Seconds inside `step`.
        outside_s: Seconds between the end of one `step` and the beginning of the next: the learner.
        env_steps_per_s: Env steps per second of both together; 0.0 before the first step.
        by_buffers: The throughput that two buffers would have over this, predicted from what the
            run has shown of its learner; None as long as that is not known.
    """

    vector_steps: int
    env_steps: int
    inside_s: float
    outside_s: float
    env_steps_per_s: float
    by_buffers: float | None = None

    @property
    def most_by_overlap(self) -> float:
        """How many times the throughput two buffers could bring at the most, over lockstep.

        The bound for a learner that waits, as for a GPU, and takes half the time for half a batch;
        one that computes takes the cores that the sub-environments need. `by_buffers` predicts with
        cores and learner as they are, and is never more.
        """
        longer_s = max(self.inside_s, self.outside_s)
        return (self.inside_s + self.outside_s) / longer_s if longer_s else 1.0


@dataclass(frozen=True)
class _Window:
    """The vector steps between two looks, and mean seconds of each inside and outside of it."""

    vector_steps: int
    inside_s: float
    outside_s: float


class _Record:
    """Measurements with one number of the learner's threads."""

    def __init__(self) -> None:
        self.windows: deque[_Window] = deque(maxlen=WINDOWS_KEPT)
        self.others_s = 0.0
        self.sampled_s = 0.0
        self.gaps = 0  # times between two steps of which the CPU time was measured
        self.gaps_s = 0.0
        self.gaps_cpu_s = 0.0

    @property
    def vector_steps(self) -> int:
        """How many it is over."""
        return sum(window.vector_steps for window in self.windows)

    def run(self, mode: str, threads: int | None, busy: bool) -> ObservedRun:
        """Means over the later half of the windows.

        A window that holds an update of the networks shows a much longer time outside. The first
        quartile is the time between two steps of a rollout, wherever one window in four has it.
        """
        later = list(self.windows)[len(self.windows) // 2 :]
        steps = sum(window.vector_steps for window in later)
        outside_s = [window.outside_s for window in later]
        return ObservedRun(
            mode=mode,
            threads=threads,
            vector_steps=steps,
            inside_s=sum(window.inside_s * window.vector_steps for window in later) / steps,
            outside_s=quantiles(outside_s, n=4)[0] if len(outside_s) > 3 else min(outside_s),
            other_cores=self.others_s / self.sampled_s if self.sampled_s else 0.0,
            busy=busy,
        )


class RunWatch:
    """Samples a run; `AutoVectorEnv` calls it at the steps that it names.

    Attributes:
        look_at: The vector step at whose end `look` wants to be called.
        attends: Whether `step_begins` wants to be called when the next step begins.
        wrong_recall: Whether the first steps have shown that a recalled plan is wrong.
    """

    def __init__(self, plan: Plan) -> None:
        """Begins to watch."""
        self._plan = plan
        chosen_s = plan.chosen.loop_s if plan.chosen else None
        self._planned_s = None if chosen_s is None else max(chosen_s - plan.learner_s, 0.0)
        self._verifies = plan.recalled and bool(self._planned_s)
        self.attends: bool = False
        self.look_at = 1 if self._verifies else 10
        self.wrong_recall: bool = False
        self._first_steps_s: list[float] = []
        self._begun_s = time.perf_counter()
        self._steps = self._inside_ns = self._outside_ns = 0
        self._others: OtherThreads | None = None
        self._gap_s = self._gap_cpu_s = 0.0
        self._overlap_said = any(note.code == "overlap" and note.loud for note in plan.notes)
        self._next_sample = WARM_UP_STEPS
        self._records: dict[int | None, _Record] = {}
        self._applied: int | None = None
        self._collects = plan.learner_threads is None
        self._span = self._begun_s, 0, 0  # its beginning; steps and nanoseconds inside by then
        self._slow_spans = 0
        self._load = ForeignLoad()
        self._owner = os.getpid()

    def collecting(self, threads: int | None) -> None:
        """Learns the learner's threads inside `AutoVectorEnv.collecting`; None at its end."""
        self._collects = True
        self._applied = threads

    def step_begins(self) -> None:
        """Begins to measure a single step; only where it `attends`."""
        record = self._record()
        record.gaps += 1
        record.gaps_s += time.perf_counter() - self._gap_s
        record.gaps_cpu_s += time.process_time() - self._gap_cpu_s
        self._others = OtherThreads()

    def look(self, vector_steps: int, inside_ns: int, outside_ns: int) -> None:
        """Takes in how the run stands at the end of a step: all numbers are those so far."""
        now_s, steps = time.perf_counter(), vector_steps - self._steps
        inside_s = (inside_ns - self._inside_ns) * 1e-9 / steps
        outside_s = (outside_ns - self._outside_ns) * 1e-9 / steps
        if self._others is not None:
            self._end_sample(vector_steps, inside_s, self._others)
        elif self._verifies:
            self._first_steps_s.append(inside_s)
        elif self._steps >= WARM_UP_STEPS:
            self._record().windows.append(_Window(steps, inside_s, outside_s))
        self._steps, self._inside_ns, self._outside_ns = vector_steps, inside_ns, outside_ns
        verified = self._verifies and vector_steps >= WARM_UP_STEPS
        self._verifies = self._verifies and not verified
        self._plan_next_look(vector_steps, inside_s + outside_s)
        if self._planned_s:
            if verified:
                self._verify_recall(self._planned_s)
            elif now_s >= self._span[0] + SLOW_SPAN_S:
                self._end_span(now_s, self._planned_s)
        if not self._collects:
            self._expect_collecting(vector_steps, now_s - self._begun_s)
        if not self._overlap_said:
            self._look_for_overlap()

    def runs(self) -> list[ObservedRun]:
        """The run so far, for each number of threads that enough steps were made with."""
        if self._steps < MIN_STEPS:
            return []
        busy = self._is_busy()
        return [
            record.run(self._plan.mode, threads, busy)
            for threads, record in self._records.items()
            if record.vector_steps >= MIN_STEPS - WARM_UP_STEPS
        ]

    def by_buffers(self) -> float | None:
        """The throughput of two buffers over that of this run: see `Stats`."""
        record = self._records.get(self._threads())
        if record is None or not record.gaps or record.vector_steps < MIN_STEPS - WARM_UP_STEPS:
            return None
        seen = record.run(self._plan.mode, self._threads(), busy=False)
        return overlap_in_run(self._plan.evidence, seen, record.gaps_cpu_s / record.gaps_s)

    def _look_for_overlap(self) -> None:
        """Warns once where buffers would make the run much faster, unless the plan has."""
        record = self._records.get(self._threads())
        if self._overlap_said or record is None or record.gaps < OVERLAP_SAMPLES:
            return
        self._overlap_said = True
        gain = self.by_buffers()
        if gain is not None and gain >= explain.LOUD and not self._is_busy():
            warn(
                f"buffers=2 is predicted to give {gain:.1f} times the throughput of this rollout "
                f"of {self._plan.env}, going by the time that its learner has taken: one half of "
                "the batch steps while the learner works on the other (envs.buffers)."
            )

    def finish(self) -> None:
        """Remembers what the run has shown, with its plan; only in the process that made it."""
        if self._plan.key is not None and os.getpid() == self._owner:
            for run in self.runs():
                PlanCache().observe(self._plan.key, script_name(), run)

    def _end_sample(self, vector_steps: int, inside_s: float, others: OtherThreads) -> None:
        """Adds what the other threads burnt during the single step that ends now."""
        record = self._record()
        record.others_s += others.seconds()
        record.sampled_s += inside_s
        self._others, self.attends = None, False
        self._next_sample = vector_steps + max(SAMPLE_STEPS, STEPS_PER_THREAD * others.count)

    def _plan_next_look(self, vector_steps: int, loop_s: float) -> None:
        steps = max(min(LOOK_STEPS, int(LOOK_S / max(loop_s, 1e-9))), 1)
        if vector_steps < WARM_UP_STEPS:
            steps = 1 if self._verifies else min(steps, WARM_UP_STEPS - vector_steps)
        if vector_steps >= self._next_sample:
            self._gap_s, self._gap_cpu_s = time.perf_counter(), time.process_time()
            self.attends, steps = True, 1
        self.look_at = vector_steps + steps

    def _record(self) -> _Record:
        return self._records.setdefault(self._threads(), _Record())

    def _threads(self) -> int | None:
        """The threads that the learner computes with now."""
        threads = torch_threads()
        return self._applied if threads is None else threads

    def _is_busy(self) -> bool:
        """Whether other programs hold cores that the mode has work for."""
        foreign, evidence = self._load.cores(), self._plan.evidence
        lanes = Mode.parse(self._plan.mode).lanes(evidence.num_envs, evidence.caller_steps)
        return foreign > BUSY_CORES and foreign + lanes > evidence.machine.cores

    def _verify_recall(self, planned_s: float) -> None:
        """Compares the first steps with what a recalled plan counts on, and warns if it is wrong.

        Beside other programs that hold cores longer steps tell nothing.
        """
        step_s = median(self._first_steps_s)
        longer = step_s > planned_s * WRONG_RECALL and not self._is_busy()
        if not longer and step_s * WRONG_RECALL >= planned_s:
            return
        self.wrong_recall, self._planned_s = True, None
        if self._plan.key is not None:
            PlanCache().forget(self._plan.key)
        warn(explain.wrong_recall(self._plan, planned_s, step_s))

    def _expect_collecting(self, vector_steps: int, run_s: float) -> None:
        """Warns once if the loop does not give the learner the threads that the plan counts on."""
        if vector_steps < COLLECTING_STEPS and run_s < COLLECTING_S:
            return
        self._collects = True
        threads = self._threads()
        if threads != self._plan.learner_threads:
            warn(explain.never_collecting(self._plan, threads))

    def _end_span(self, now_s: float, planned_s: float) -> None:
        """Warns once, when steps have been slower than planned in several spans in a row."""
        _, steps, inside_ns = self._span
        step_s = (self._inside_ns - inside_ns) * 1e-9 / (self._steps - steps)
        self._span = now_s, self._steps, self._inside_ns
        self._slow_spans = self._slow_spans + 1 if step_s > SLOWER * planned_s else 0
        if self._slow_spans == SLOW_SPANS:
            self._planned_s = None  # said once
            span_s = SLOW_SPANS * SLOW_SPAN_S
            warn(explain.slower_than_planned(self._plan, planned_s, step_s, span_s))
