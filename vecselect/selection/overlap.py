"""What it would bring to step some sub-environments while the learner works on others.

In lockstep a loop takes the vector step and then the learner. With two buffers it takes the longest
of these:

    half a batch's step and half a batch's learning, one after the other
    the learner of both halves, and what the calling process does for their steps
    the steps of both halves, where the same workers make them
    all computing of both, divided by the cores
    the vector step alone, and the learner alone: it cannot hide more than the shorter of the two

A learner that waits, as for a GPU, leaves the cores to the environments; one that computes takes
them away, and where the two together are more than the cores each waits for the other. First
finished has no vector step whose end is that of the slowest: all workers go on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from vecselect.modes import KINDS, Mode
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.evidence import Evidence, LearnerCost, ObservedRun
from vecselect.selection.model import (
    CONTENTION_S,
    CONTENTION_SHARE,
    SPINNING,
    cpu_step_s,
    predict,
)

ROW_S = 5e-6
"""What a sub-environment takes longer that steps by itself: its job, and its answer."""

MOST_LONGER = 4.0
"""Steps in a run are taken to be so many times as long as the model says, or as short, at most."""

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


def overlap(
    evidence: Evidence, mode: Mode, lockstep_s: float, learner: LearnerCost
) -> Overlap | None:
    """Predicts a loop that overlaps steps and learning.

    Args:
        evidence: With a profile, a hand-off and the loops.
        mode: The mode chosen.
        lockstep_s: Seconds from one vector step to the next in it.
        learner: What happens between them.

    Returns:
        None where there is nothing to divide, or no mode that could.
    """
    count, profile = evidence.num_envs, evidence.profile
    assert profile is not None
    if mode in candidate_modes(evidence):
        # Steps that take longer in a run than the model says do so in halves too.
        longer = (lockstep_s - learner.seconds) / predict(mode, evidence, learner).parts.total_s
        profile = profile.scaled(min(max(longer, 1 / MOST_LONGER), MOST_LONGER))
    free = dataclasses.replace(evidence, profile=profile, caller_steps=False, runs=())
    modes = _modes(free)
    if count < 2 or not modes:
        return None
    half = with_num_envs(free, count // 2)
    workers = max(mode.workers or 1 for mode in modes)
    batches = 1.0 / BATCH_SHARE
    learner_s = batches * learner.part_s(BATCH_SHARE)
    row_s = profile.mean_step_with_resets_s + ROW_S
    return Overlap(
        lockstep_s=lockstep_s,
        buffers_s=max(
            min(_buffers_s(mode, half, learner) for mode in _modes(half)),
            _computing_s(free, learner, 2 * learner.part_s(0.5), workers),
            learner.seconds,
            lockstep_s - learner.seconds,
        ),
        first_finished_s=max(
            count * row_s / min(workers, count * (1.0 - BATCH_SHARE)),
            count * row_s / workers + learner_s / batches,
            learner_s + count * ROW_S,
            _computing_s(free, learner, learner_s, workers),
        ),
    )


def _buffers_s(mode: Mode, half: Evidence, learner: LearnerCost) -> float:
    """Seconds of a step of two halves in one mode, if there are cores enough."""
    step, half_s = predict(mode, half, learner).parts, learner.part_s(0.5)
    # What the calling process does for a vector step is done while it does nothing else.
    caller_s = step.hand_off_s + step.overhead_s
    workers_s = 2 * step.total_s if KINDS[mode.kind].processes else 0.0  # threads are of one half
    return max(step.total_s + half_s, 2 * (half_s + caller_s), workers_s)


def with_num_envs(evidence: Evidence, num_envs: int) -> Evidence:
    """The same evidence with another number of sub-environments."""
    loops = evidence.loops
    assert loops is not None
    factor = num_envs / evidence.num_envs
    fixed_s = min(loops.pool_fixed_s, loops.pool_s)
    loops = dataclasses.replace(
        loops,
        sync_s=loops.sync_s * factor,
        pool_s=fixed_s + (loops.pool_s - fixed_s) * factor,
        pool_fixed_s=fixed_s,
    )
    return dataclasses.replace(evidence, num_envs=num_envs, loops=loops, runs=())


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
        "observed",
        seen.outside_s,
        seen.threads,
        spinning_cores=seen.other_cores,
        spin_s=seen.inside_s,
        cores=learner_cores,
        half_share=evidence.learners[0].half_share,
    )
    lockstep_s = seen.inside_s + seen.outside_s
    found = overlap(evidence, Mode.parse(seen.mode), lockstep_s, learner)
    return None if found is None else found.buffers


def _modes(evidence: Evidence) -> list[Mode]:
    """The candidates that have workers and can step a part of the batch."""
    return [
        mode for mode in candidate_modes(evidence) if KINDS[mode.kind].one_by_one and mode.workers
    ]


def _computing_s(evidence: Evidence, learner: LearnerCost, learner_s: float, workers: int) -> float:
    """Seconds that the cores need for the environments and `learner_s` of the learner."""
    steps_s = evidence.num_envs * cpu_step_s(evidence)
    # Its other threads spin on after it.
    learner_s = learner_s * learner.cores + learner.spin_s * learner.spinning_cores
    seconds = (steps_s + learner_s) / evidence.cores
    busy = learner.cores + learner.spinning_cores
    if busy > SPINNING and workers + busy > evidence.cores:
        seconds = seconds * (1.0 + CONTENTION_SHARE) + 2 * CONTENTION_S
    return seconds
