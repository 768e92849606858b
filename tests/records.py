"""Records made up by hand: of steps, of what modes cost, of a machine; what follows from them."""

import numpy as np
from hypothesis import HealthCheck, settings
from vecselect.selection.costs import Calibration, LoopCosts
from vecselect.selection.estimate import estimate

from vecselect.machine import Machine
from vecselect.measure.step import StepProfile

# However busy the machine is.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

US, MS = 1e-6, 1e-3
MODES = ("sync", "pool:0", "pool:1", "pool:3", "pool:7", "async")
LOOPS = LoopCosts(sync_s=20 * US, pool_s=12 * US, pool_fixed_s=4 * US)
FREE_LOOPS = LoopCosts(sync_s=0.0, pool_s=0.0, pool_fixed_s=0.0)


def a_profile(steps_s, resets_s=(), *, wait_share=0.0, episode=None, episode_sd=0.0, **other):
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
        "step_time_p95_s": float(np.quantile(steps, 0.95)),
        "step_time_p99_s": float(np.quantile(steps, 0.99)),
        "first_step_s": mean_s,
        "wait_share": wait_share,
        "cores_used": 1.0,
        "reset_time_s": reset_time_s,
        "first_reset_s": reset_time_s,
        "resets": len(resets),
        "reset_share": per_step_s / (mean_s + per_step_s),
        "episode_steps": episode,
        "episode_steps_sd": None if episode is None else episode_sd,
        "observation_bytes": 100,
        "action_bytes": 8,
        "memory_bytes": 1_000_000,
        "plain_steps_per_s": 1 / mean_s,
        "step_times_s": tuple(steps.tolist()),
        "reset_times_s": tuple(resets.tolist()),
    }
    return StepProfile(**{**values, **other})


def a_calibration(cores=4.0, **other):
    values = {
        "hand_off_s": 5 * US,
        "worker_s": 1 * US,
        "wake_s": 60 * US,
        "async_message_s": 60 * US,
        "async_fixed_s": 30 * US,
    }
    return Calibration(effective_cores=cores, **{**values, **other})


def a_machine(cores=4.0, **other):
    values = {
        "cores": cores,
        "cores_logical": 64,
        "cores_affinity": 64,
        "cores_quota": cores,
        "memory_bytes": 1 << 34,
        "memory_available_bytes": 1 << 33,
        "shm_available_bytes": 1 << 30,
        "load_1min": 0.1,
        "start_methods": ("spawn",),
        "cpu": "a processor",
        "system": "Linux",
        "python": "3.11",
    }
    return Machine(**{**values, **other})


def said(profile, num_envs=8, cores=4.0, learner_s=0.0, modes=MODES, loops=LOOPS, **calibration):
    if isinstance(profile, float):
        profile = a_profile(profile)
    return estimate(modes, profile, a_calibration(cores, **calibration), loops, num_envs, learner_s)


def mid_s(found, mode):
    return found.of(mode).mid


def tails(median_s, factor, share, count=1000):
    """Step times of which a share, evenly spread, takes `factor` times as long."""
    every = round(1 / share)
    return [median_s * (factor if i % every == 0 else 1.0) for i in range(count)]
