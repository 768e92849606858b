"""What it would bring to step some sub-environments while the learner works on others.

In lockstep a loop takes the vector step and then the learner. With two buffers it takes the longest
of three:

    half a batch's step and half a batch's learning, one after the other
    the learner of the whole batch
    all computing of both, divided by the cores

A learner that waits, as for a GPU, leaves the cores to the environments; one that computes takes
them away, and where the two together are more than the cores each waits for the other. First
finished has no vector step whose end is that of the slowest: all workers go on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.modes import KINDS
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.curves import with_num_envs
from vecselect.selection.evidence import Evidence, LearnerCost, ObservedRun
from vecselect.selection.model import (
    CONTENTION_S,
    CONTENTION_SHARE,
    SPINNING,
    cpu_step_s,
    mean_step_s,
    predict,
)

if TYPE_CHECKING:
    from vecselect.modes import Mode

ROW_S = 5e-6
"""What a sub-environment takes longer that steps by itself: its job, and its answer."""

BATCH_SHARE = 0.25
"""The share of all sub-environments that `recv` is assumed to wait for."""


@dataclass(frozen=True)
class Overlap:
    """Seconds in which every sub-environment makes a step and the learner sees it.

    Attributes:
        lockstep_s: In the mode chosen, one after the other.
        buffers_s: With two buffers.
        first_finished_s: Where `recv` gives those that have finished first, a quarter of all.
    """

    lockstep_s: float
    buffers_s: float
    first_finished_s: float

    @property
    def buffers(self) -> float:
        """Throughput with two buffers over that in lockstep."""
        return self.lockstep_s / self.buffers_s

    @property
    def first_finished(self) -> float:
        """Throughput of first finished over that in lockstep."""
        return self.lockstep_s / self.first_finished_s


def overlap(evidence: Evidence, lockstep_s: float, learner: LearnerCost) -> Overlap | None:
    """Predicts a loop that overlaps steps and learning.

    Args:
        evidence: With a profile, a hand-off and the loops.
        lockstep_s: Seconds from one vector step to the next in the mode chosen.
        learner: What happens between them.

    Returns:
        None where there is nothing to divide, or no mode that could.
    """
    count = evidence.num_envs
    free = dataclasses.replace(evidence, caller_steps=False, runs=())
    modes = _modes(free)
    if count < 2 or not modes:
        return None
    half = with_num_envs(free, count // 2)
    steps = [predict(mode, half, learner).parts for mode in _modes(half)]
    half_step = min(steps, key=lambda parts: parts.total_s)
    # What the calling process does for a vector step is done while it does nothing else.
    caller_s = half_step.hand_off_s + half_step.overhead_s
    workers = max(mode.workers or 1 for mode in modes)
    computing_s = _computing_s(free, learner, workers)
    row_s = mean_step_s(free) + ROW_S
    return Overlap(
        lockstep_s=lockstep_s,
        buffers_s=max(
            half_step.total_s + learner.seconds / 2, learner.seconds + 2 * caller_s, computing_s
        ),
        first_finished_s=max(
            count * row_s / min(workers, count * (1.0 - BATCH_SHARE)),
            count * row_s / workers + learner.seconds * BATCH_SHARE,
            learner.seconds + count * ROW_S,
            computing_s,
        ),
    )


def overlap_in_run(evidence: Evidence, seen: ObservedRun, learner_cores: float) -> float | None:
    """Predicts the throughput of two buffers over that of a run that steps the whole batch.

    Args:
        evidence: What the plan of the run was made from.
        seen: The mode of the run, and its seconds inside and outside of `step`.
        learner_cores: Cores that were kept busy outside of `step`.

    Returns:
        None where the evidence does not tell, as after a pin, or nothing can be divided.
    """
    if evidence.profile is None or evidence.hand_off is None or evidence.loops is None:
        return None
    learner = LearnerCost(
        "observed", seen.outside_s, seen.threads, seen.other_cores, seen.inside_s, learner_cores
    )
    found = overlap(evidence, seen.inside_s + seen.outside_s, learner)
    return None if found is None else found.buffers


def _modes(evidence: Evidence) -> list[Mode]:
    """The candidates that have workers and can step a part of the batch."""
    return [
        mode for mode in candidate_modes(evidence) if KINDS[mode.kind].one_by_one and mode.workers
    ]


def _computing_s(evidence: Evidence, learner: LearnerCost, workers: int) -> float:
    """Seconds that the cores need for the computing of environments and learner."""
    steps_s = evidence.num_envs * cpu_step_s(evidence)
    # Its other threads spin on after it.
    learner_s = learner.seconds * learner.cores + learner.spin_s * learner.spinning_cores
    seconds = (steps_s + learner_s) / evidence.cores
    busy = learner.cores + learner.spinning_cores
    if busy > SPINNING and workers + busy > evidence.cores:
        seconds = seconds * (1.0 + CONTENTION_SHARE) + 2 * CONTENTION_S
    return seconds
