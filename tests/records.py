"""Evidence made up by hand: of steps, of what modes cost, of a machine; what follows from it."""

import numpy as np
from hypothesis import HealthCheck, settings

from vecselect.machine import Machine
from vecselect.measure.step import StepProfile
from vecselect.modes import Mode
from vecselect.selection.evidence import Evidence, HandOff, LearnerCost, LoopCosts
from vecselect.selection.model import choose, predict

# However busy the machine is.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

US, MS = 1e-6, 1e-3
KINDS = ("sync", "pool", "async")
LOOPS = LoopCosts(sync_s=20 * US, pool_s=12 * US, pool_fixed_s=4 * US)
FREE_LOOPS = LoopCosts(sync_s=0.0, pool_s=0.0, pool_fixed_s=0.0)
HAND_OFF = HandOff(spun_s=3 * US, woken_s=60 * US)
TORCH = (LearnerCost("stand-in", 100 * US, 2, 1.0, 6.9 * MS), LearnerCost("stand-in", 90 * US, 1))
"""Torch with 2 threads, of which the other one spins, and with 1."""


def a_profile(steps_s, resets_s=(), *, off_cpu=0.0, episode=None, **other):
    """A record of these step times; all else follows from it or is given."""
    steps = np.array([steps_s] * 200 if isinstance(steps_s, float) else steps_s)
    resets = np.array(resets_s, float)
    mean_s = float(steps.mean())
    reset_time_s = float(resets.mean()) if len(resets) else mean_s
    per_step_s = reset_time_s / episode if episode else 0.0
    values = {
        "steps": len(steps),
        "step_time_s": mean_s,
        "step_time_median_s": float(np.median(steps)),
        "step_time_p99_s": float(np.quantile(steps, 0.99)),
        "off_cpu_fraction": off_cpu,
        "cores_used": 1.0,
        "reset_time_s": reset_time_s,
        "reset_share": per_step_s / (mean_s + per_step_s),
        "episode_steps": episode,
        "observation_bytes": 100,
        "memory_bytes": 1_000_000,
        "plain_steps_per_s": 1 / mean_s,
        "step_spread_s": float(steps.std()),
        "slowest_step_s": float(steps.max()),
    }
    return StepProfile(**{**values, **other})


def a_machine(cores=4.0, **other):
    values = {
        "cores": cores,
        "cores_logical": 64,
        "cores_affinity": 64,
        "cores_quota": cores,
        "memory_bytes": 1 << 37,
        "memory_available_bytes": 1 << 36,
        "shm_available_bytes": 1 << 32,
        "load_1min": 0.1,
        "start_methods": ("spawn",),
        "cpu": "a processor",
        "system": "Linux",
        "python": "3.11",
    }
    return Machine(**{**values, **other})


def evidence(steps, num_envs=8, cores=4.0, **other):
    """Evidence of a profile, or of steps of so many seconds."""
    values = {
        "machine": a_machine(cores) if isinstance(cores, (int, float)) else cores,
        "num_envs": num_envs,
        "autoreset_mode": "NextStep",
        "kinds": KINDS,
        "profile": a_profile(steps) if isinstance(steps, float) else steps,
        "construct_s": 0.01,
        "hand_off": HAND_OFF,
        "loops": LOOPS,
        "learners": (LearnerCost(),),
    }
    return Evidence(**{**values, **other})


def learner(seconds):
    """A learner of so many seconds, in the form that evidence has it."""
    return (LearnerCost("seconds", seconds),)


def step_s(mode, *arguments, **other):
    """What a vector step is predicted to take."""
    return predict(Mode.parse(mode), evidence(*arguments, **other)).parts.total_s


def chosen(*arguments, **other):
    """The mode that is chosen."""
    return choose(evidence(*arguments, **other)).best.mode


def tails(median_s, factor, share, count=1000):
    """Step times of which a share, evenly spread, takes `factor` times as long."""
    every = round(1 / share)
    return [median_s * (factor if i % every == 0 else 1.0) for i in range(count)]
