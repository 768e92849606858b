"""Interleaved timing of vector environments, by the engine that races use."""

from __future__ import annotations

import math

import numpy as np

from vecselect.measure.trial import Trials


def rates(builders, rounds=7, block_s=0.06):
    """Env steps/s of each, block by block, by name; what cannot be built or stepped is left out.

    All make the same number of vector steps in a block, with the same actions: so many that the
    fastest takes `block_s`.
    """
    with Trials(None, block_s, longest=math.inf, drops_different=False) as trials:
        for name, build in builders.items():
            trials.add(name, build, compared=False)
        trials.set_blocks()
        trials.rounds(
            list(trials.running),
            lambda number: list(trials.running) if number < rounds else (),
        )
        for name, why in trials.out.items():
            print(f"  {name} is left out: {why}"[:160])
        return {
            name: [trial.envs.num_envs / loop_s for loop_s in trial.loops_s]
            for name, trial in trials.running.items()
        }


def median_rates(builders, rounds=7, block_s=0.06):
    """Median env steps/s of each, by name."""
    found = rates(builders, rounds, block_s)
    return {name: float(np.median(values)) for name, values in found.items()}
