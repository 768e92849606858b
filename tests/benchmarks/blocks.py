"""Interleaved timing of vector environments of any kind."""

from __future__ import annotations

import math

import numpy as np

from vecselect.measure.trial import Trial, order_of_round

LEAD_IN_STEPS = 20


def rates(builders, rounds=7, block_s=0.06):
    """Env steps/s of each, block by block, by name; what cannot be built or stepped is left out.

    All make the same number of vector steps in a block, with the same actions: so many that the
    fastest takes `block_s`.
    """
    trials, errors = {}, {}
    try:
        for name, build in builders.items():
            try:
                trials[name] = Trial(build())
                trials[name].reset()
                trials[name].warm_up(block_s)
            except Exception as error:
                errors[name] = error
        fastest_s = min(trial.step_s for name, trial in trials.items() if name not in errors)
        steps = max(math.ceil(block_s / fastest_s), 2)
        for number in range(rounds):
            for name in order_of_round([name for name in trials if name not in errors], number):
                try:
                    trials[name].blocks.append(trials[name].block(steps, min(steps, LEAD_IN_STEPS)))
                except Exception as error:
                    errors[name] = error
        for name, error in errors.items():
            print(f"  {name} is left out: it raised {type(error).__name__}: {error}"[:160])
        return {
            name: [trial.envs.num_envs / loop_s for loop_s in trial.loops_s]
            for name, trial in trials.items()
            if name not in errors
        }
    finally:
        for trial in trials.values():
            trial.close()


def median_rates(builders, rounds=7, block_s=0.06):
    """Median env steps/s of each, by name."""
    found = rates(builders, rounds, block_s)
    return {name: float(np.median(values)) for name, values in found.items()}
