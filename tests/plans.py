"""Plans written by hand, one for each way in which something is decided."""

import dataclasses

from vecselect import Plan
from vecselect.machine import read_machine
from vecselect.measure.ipc import IpcProfile
from vecselect.measure.step import StepProfile
from vecselect.plan import Candidate, Note
from vecselect.selection.evidence import Evidence, HandOff, LearnerCost, LoopCosts, ObservedRun
from vecselect.selection.model import Parts
from vecselect.selection.race import Interval, Timed, TimingResult
from vecselect.selection.rule import RuleVerdict

MACHINE = dataclasses.replace(
    read_machine(),
    cores=1.5,
    cores_logical=2,
    cores_affinity=2,
    cores_quota=1.5,
    cores_bound="quota",
    memory_bytes=8 << 30,
    memory_available_bytes=4 << 30,
    shm_available_bytes=1 << 26,
    load_1min=0.25,
    start_methods=("forkserver", "spawn"),
    cpu="a processor",
    system="Linux 6.1",
    python="3.11.7",
)
PROFILE = StepProfile(
    steps=4321,
    step_time_s=2.351e-3,
    step_time_median_s=2.2e-3,
    step_time_p99_s=4.7e-3,
    off_cpu_fraction=0.25,
    cores_used=1.0,
    reset_time_s=7.89e-3,
    reset_share=0.016,
    episode_steps=200.0,
    observation_bytes=28_200,
    memory_bytes=45_600_000,
    plain_steps_per_s=417.0,
    step_spread_s=0.4e-3,
    slowest_step_s=4.8e-3,
)
IPC = IpcProfile(rounds=200, observation_bytes=28_300, observation_s=6.54e-5)
RULE = RuleVerdict(
    mode="async",
    reason="One step takes longer than the rule's threshold.",
    threshold_s=1e-3,
    step_time_s=2.384e-3,
    sync_s=19.1e-3,
    async_s=13.2e-3,
    break_even_s=1.87e-4,
)


def exactly(seconds):
    """A quantity without uncertainty."""
    return Interval(seconds, seconds, seconds)


SPACES = {"observation_space": "Box(0, 1, (3,), float32)", "action_space": "Discrete(2)"}
NATIVE_LEFT_OUT = Candidate("native", skipped="Walker-v0 has no vector_entry_point")
NOTHING_MEASURED = Evidence(machine=MACHINE, num_envs=8, autoreset_mode="NextStep")
BY_RULE = Plan(
    mode="async",
    learner_threads=None,
    reason=RULE.reason,
    decided_by="rule",
    effort="rule",
    pinned_by=None,
    env="Walker-v0",
    evidence=dataclasses.replace(
        NOTHING_MEASURED,
        kinds=("sync", "async"),
        profile=PROFILE,
        construct_s=0.021,
        ipc=IPC,
        rule=RULE,
        **SPACES,
    ),
    candidates=(
        Candidate("sync", predicted=exactly(19.1e-3)),
        Candidate("async", predicted=exactly(13.2e-3)),
        NATIVE_LEFT_OUT,
    ),
    break_even_s={"async": 1.87e-4},
    notes=(Note("resets", "Resets take 16 % of the time."),),
    provisional=None,
    planning_s=0.8,
    created="2025-01-01T00:00:00+00:00",
    versions={"python": "3.11.7"},
)
BY_MODEL = dataclasses.replace(
    BY_RULE,
    mode="pool:1",
    reason="Predicted 1.7-2.1 times the throughput of sync. The ~1 ms rule says async: it does not "
    "count cores, nor the learner.",
    decided_by="model",
    effort="measure",
    evidence=dataclasses.replace(
        BY_RULE.evidence,
        kinds=("sync", "pool", "async"),
        ipc=None,
        hand_off=HandOff(spun_s=3.1e-6, woken_s=5.5e-5, measured=True),
        loops=LoopCosts(1.4e-5, 9e-6, 4e-6),
    ),
    candidates=(
        Candidate(
            "sync",
            predicted=Interval(19.1e-3, 18.9e-3, 19.4e-3),
            parts=Parts(18.0e-3, 0.0, 0.0, 1.1e-3),
        ),
        Candidate(
            "pool:1",
            predicted=Interval(10.2e-3, 9.1e-3, 11.4e-3),
            parts=Parts(9.0e-3, 0.7e-3, 0.003e-3, 0.497e-3),
        ),
        Candidate(
            "async",
            predicted=Interval(13.2e-3, 11.8e-3, 14.6e-3),
            parts=Parts(9.0e-3, 1.2e-3, 3.0e-3, 0.0),
        ),
        NATIVE_LEFT_OUT,
    ),
    break_even_s={"pool": 2.5e-6, "async": None},
    key="0123456789abcdef",
)
RACE = TimingResult(
    entrants=(
        Timed("sync", 8, Interval(20.1e-3, 19.9e-3, 20.4e-3), 1e-3, (20.1e-3, 20.3e-3), 12),
        Timed("pool:1", 8, Interval(11.2e-3, 11.1e-3, 11.4e-3), 1.1e-3, (11.2e-3, 11.3e-3), 12),
        Timed("async", 8, skipped="it raised OSError in the race: no more processes"),
    ),
    rounds=2,
    compared_steps=5,
    difference=None,
    seconds=0.61,
)
RACED = dataclasses.replace(
    BY_MODEL,
    reason="Raced: 1.79 times the throughput of sync (95 %: 1.75-1.84).",
    decided_by="race",
    effort="race",
    evidence=dataclasses.replace(
        BY_MODEL.evidence, race=RACE, learners=(LearnerCost("callable", 1.1e-3),)
    ),
    candidates=tuple(
        dataclasses.replace(
            one,
            measured=RACE.of(one.mode).loop_s if RACE.of(one.mode) else None,
            skipped=RACE.entrants[2].skipped if one.mode == "async" else one.skipped,
        )
        for one in BY_MODEL.candidates
    ),
)
THREADS = (
    LearnerCost("stand-in", 0.2e-3, threads=2, spinning_cores=0.95, spin_s=3.5e-3),
    LearnerCost("stand-in", 0.25e-3, threads=1),
)


def with_threads(plan, learner_threads):
    """A plan beside torch at 2 threads: with 1 the pool is faster than sync, with 2 slower."""
    slower = {"sync": 1.0, "pool:1": 2.0, "async": 1.6}
    candidates = tuple(
        dataclasses.replace(
            one,
            threads=learner.threads,
            predicted=exactly(
                one.predicted.mid * (slower[one.mode] if learner.threads == 2 else 1)
            ),
        )
        for learner in THREADS
        for one in BY_MODEL.candidates
        if one.predicted
    )
    return dataclasses.replace(
        plan,
        mode="pool:1" if learner_threads == 1 else "sync",
        learner_threads=learner_threads,
        evidence=dataclasses.replace(plan.evidence, learners=THREADS),
        candidates=(*candidates, NATIVE_LEFT_OUT),
    )


ONE_THREAD = with_threads(BY_MODEL, 1)
THREADS_AS_SET = dataclasses.replace(
    with_threads(BY_MODEL, None),
    reason="No other candidate is predicted to be faster.",
    notes=(Note("learner-threads", "With 1 thread pool:1 is 1.9 times as fast.", loud=True),),
)
OBSERVED = dataclasses.replace(
    BY_MODEL,
    reason="Measured in earlier runs; about 1.9 times the throughput of sync.",
    decided_by="observed",
    evidence=dataclasses.replace(
        BY_MODEL.evidence,
        learners=(LearnerCost("observed", 1.2e-3),),
        runs=(ObservedRun("pool:1", None, 12_345, 9.7e-3, 1.2e-3),),
    ),
    candidates=tuple(
        dataclasses.replace(one, predicted=None, measured=exactly(10.9e-3))
        if one.mode == "pool:1"
        else one
        for one in BY_MODEL.candidates
    ),
    recalled=True,
)
PINNED = dataclasses.replace(
    BY_RULE,
    mode="sync",
    reason="VECSELECT_MODE=sync pins it; nothing was measured.",
    decided_by="pin",
    effort="measure",
    pinned_by="VECSELECT_MODE=sync",
    evidence=NOTHING_MEASURED,
    candidates=(Candidate("sync"),),
    break_even_s={},
    notes=(),
)
ELIMINATED = dataclasses.replace(
    PINNED,
    decided_by="elimination",
    pinned_by=None,
    candidates=(Candidate("sync"), Candidate("async", skipped="this process is a daemon")),
    reason="It is the only mode that can run here: " + "the environment cannot be pickled " * 9,
)
ALL = {
    "rule": BY_RULE,
    "model": BY_MODEL,
    "threads": ONE_THREAD,
    "as-set": THREADS_AS_SET,
    "race": RACED,
    "observed": OBSERVED,
    "pin": PINNED,
    "elimination": ELIMINATED,
}
"""By a word: a plan for each way of deciding."""
