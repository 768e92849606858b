"""Points and sweeps written by hand."""

import dataclasses

from tests.plans import MACHINE
from vecselect import Sweep
from vecselect.plan import Note
from vecselect.selection.race import Interval, Timed


def point(mode, num_envs, per_s, **fields):
    """A point with a throughput of 5 % uncertainty."""
    if per_s is not None:
        loop_s = num_envs / per_s
        fields.setdefault("loop_s", Interval(loop_s, loop_s / 1.05, loop_s / 0.95))
        fields.setdefault("blocks_s", (loop_s,))
        fields.setdefault("memory_bytes", 30_000_000 + 1_000_000 * num_envs)
    return Timed(mode, num_envs, **fields)


def points(curves):
    """Points of throughputs by mode and number."""
    return tuple(
        point(mode, number, per_s)
        for mode, curve in curves.items()
        for number, per_s in curve.items()
    )


CURVES = {
    "sync": {1: 50e3, 2: 88e3, 4: 101e3, 8: 103e3},
    "pool:1": {2: 70e3, 4: 160e3, 8: 220e3},
    "async": {1: 4e3, 2: 8e3},
    "native": {1: 20e3, 2: 40e3, 4: 80e3, 8: 3000e3},
}
LEFT_OUT = (
    point("async", 4, None, skipped="building and timing it takes about 3 s, too much"),
    point("async", 8, None, skipped="building and timing it takes about 6 s, too much"),
)

SWEEP = Sweep(
    env="CartPole-v1",
    by_id=True,
    num_envs=(1, 2, 4, 8),
    modes=("sync", "pool:1", "async", "native"),
    named_modes=(),
    points=(*points(CURVES), *LEFT_OUT),
    recommendation="Take 8 sub-environments in mode pool:1: 220,000 env steps/s, which is the "
    "most; it takes 38 MB.",
    whole=True,
    learner="none",
    machine=MACHINE,
    memory_kind="proportional set size",
    notes=(Note("machine-busy", "9 processes compete for 2 cores."),),
    seconds=22.1,
    created="2026-11-21T11:00:00+00:00",
    versions={"python": "3.11.7"},
)
INTERRUPTED = dataclasses.replace(
    SWEEP,
    whole=False,
    modes=("sync",),
    points=(point("sync", 1, 50e3),),
    recommendation="It was interrupted: this is not the whole sweep. Take 1.",
)
EMPTY = dataclasses.replace(
    SWEEP, whole=False, modes=(), points=(), recommendation="Nothing was measured."
)
