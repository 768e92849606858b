"""Plans written by hand, one for each way in which something is decided."""

import dataclasses

from vecselect import Plan
from vecselect.machine import read_machine
from vecselect.measure.ipc import IpcProfile
from vecselect.measure.step import StepProfile
from vecselect.plan import Candidate, Note
from vecselect.selection.compare import Interval
from vecselect.selection.costs import Calibration, LoopCosts
from vecselect.selection.estimate import Estimate, Forecast, Parts
from vecselect.selection.race import Entrant, RaceRecord
from vecselect.selection.rule import RuleVerdict

MACHINE = dataclasses.replace(
    read_machine(), cores=1.5, cores_quota=1.5, load_1min=0.25, shm_available_bytes=1 << 26
)
PROFILE = StepProfile(
    steps=4321,
    step_time_s=2.351e-3,
    step_time_median_s=2.2e-3,
    step_time_p95_s=3.1e-3,
    step_time_p99_s=4.7e-3,
    first_step_s=0.111,
    wait_share=0.25,
    cores_used=1.0,
    reset_time_s=7.89e-3,
    first_reset_s=0.2,
    resets=21,
    reset_share=0.016,
    episode_steps=200.0,
    episode_steps_sd=0.0,
    observation_bytes=28_200,
    action_bytes=8,
    memory_bytes=45_600_000,
    plain_steps_per_s=417.0,
    step_times_s=(2.2e-3, 2.5e-3, 1 / 3e3),
    reset_times_s=(7.89e-3,),
)
IPC = IpcProfile(
    start_method="forkserver",
    rounds=200,
    observation_bytes=28_300,
    tiny_s=4.1e-5,
    observation_s=6.54e-5,
    observation_p10_s=6e-5,
    observation_p90_s=7e-5,
    large_bytes=262_144,
    large_s=2e-4,
    per_message_s=4.1e-5,
    per_byte_s=6e-10,
)
RULE = RuleVerdict(
    mode="async",
    reason="One step takes longer than the rule's line.",
    threshold_s=1e-3,
    step_time_s=2.384e-3,
    near_line=False,
    sync_s=19.1e-3,
    async_s=13.2e-3,
    break_even_s=1.87e-4,
)
CALIBRATION = Calibration(
    effective_cores=1.45,
    hand_off_s=3.1e-6,
    worker_s=1e-6,
    wake_s=3.4e-5,
    async_message_s=6.5e-5,
    async_fixed_s=5e-5,
    seconds=0.9,
)


def exactly(seconds):
    """A quantity without uncertainty."""
    return Interval(seconds, seconds, seconds)


BY_RULE = Plan(
    mode="async",
    reason=RULE.reason,
    decided_by="rule",
    effort="rule",
    pinned_by=None,
    env="Walker-v0",
    num_envs=8,
    autoreset_mode="NextStep",
    observation_space="Box(0, 1, (3,), float32)",
    action_space="Discrete(2)",
    candidates=(
        Candidate("sync", exactly(19.1e-3)),
        Candidate("async", exactly(13.2e-3)),
        Candidate("native", skipped="Walker-v0 has no vector_entry_point"),
    ),
    machine=MACHINE,
    profile=PROFILE,
    ipc=IPC,
    rule=RULE,
    calibration=None,
    loops=None,
    estimate=None,
    ray=None,
    race=None,
    learner="none",
    learner_s=0.0,
    notes=(Note("resets", "Resets take 16 % of the time."),),
    planning_s=0.8,
    created="2025-01-01T00:00:00+00:00",
    versions={"python": "3.11.7"},
)
ESTIMATE = Estimate(
    mode="pool:1",
    forecasts=(
        Forecast(
            "sync",
            Interval(19.1e-3, 18.9e-3, 19.4e-3),
            Parts(18.0e-3, 0.0, 0.0, 0.6e-3, 0.4e-3, 0.1e-3),
        ),
        Forecast(
            "pool:1",
            Interval(10.2e-3, 9.1e-3, 11.4e-3),
            Parts(9.0e-3, 0.7e-3, 0.003e-3, 0.3e-3, 0.197e-3, 0.0),
        ),
        Forecast(
            "async",
            Interval(13.2e-3, 11.8e-3, 14.6e-3),
            Parts(9.0e-3, 1.2e-3, 3.0e-3, 0.0, 0.0, 0.0),
        ),
    ),
    close=("pool:1",),
    break_even_s={"pool": 2.5e-6, "async": None},
    learner_s=0.0,
)
ESTIMATED = dataclasses.replace(
    BY_RULE,
    mode="pool:1",
    reason="Predicted 1.7-2.1 times the throughput of sync. The ~1 ms rule says async.",
    decided_by="estimate",
    effort="measure",
    candidates=(
        *(Candidate(one.mode, one.vector_step_s) for one in ESTIMATE.forecasts),
        Candidate("native", skipped="Walker-v0 has no vector_entry_point"),
    ),
    calibration=CALIBRATION,
    loops=LoopCosts(1.4e-5, 9e-6, 4e-6),
    estimate=ESTIMATE,
    key="0123456789abcdef",
)
RACE = RaceRecord(
    chosen="pool:1",
    leader="pool:1",
    entrants=(
        Entrant("sync", Interval(20.1e-3, 19.9e-3, 20.4e-3), 1e-3, (20.1e-3, 20.3e-3)),
        Entrant("pool:1", Interval(11.2e-3, 11.1e-3, 11.4e-3), 1.1e-3, (11.2e-3, 11.3e-3)),
    ),
    out={"async": "it raised OSError in the race: no more processes"},
    num_envs=8,
    vector_steps=12,
    rounds=5,
    expected_loss=0.001,
    p_best=0.97,
    speedup=Interval(1.79, 1.75, 1.84),
    one_thread_speedup=None,
    cores_used=1.0,
    compared_steps=5,
    difference=None,
    seconds=0.61,
)
RACED = dataclasses.replace(
    ESTIMATED,
    reason="Measured again after the race: 1.79 times the throughput of sync.",
    decided_by="race",
    candidates=tuple(
        dataclasses.replace(one, measured=RACE.of(one.mode).loop_s if RACE.of(one.mode) else None)
        for one in ESTIMATED.candidates
    ),
    race=RACE,
    learner="callable",
    learner_s=1.1e-3,
)
PINNED = dataclasses.replace(
    BY_RULE,
    mode="sync",
    reason="It was pinned, so nothing was measured.",
    decided_by="pin",
    effort="measure",
    pinned_by="VECSELECT_MODE=sync",
    observation_space=None,
    action_space=None,
    candidates=(Candidate("sync"), Candidate("async", skipped="this process is a daemon")),
    profile=None,
    ipc=None,
    rule=None,
    notes=(),
)
ELIMINATED = dataclasses.replace(
    PINNED,
    decided_by="elimination",
    pinned_by=None,
    reason="It is the only mode that can run here: " + "the environment cannot be pickled " * 6,
)
