"""Interleaved timing of vector environments, the one way in which modes are compared here."""

from __future__ import annotations

import copy
import itertools
import random
import time

import numpy as np

ACTIONS_DRAWN = 64


class Racer:
    """One built vector environment with its actions drawn."""

    def __init__(self, name, envs, seed=1, learner=None):
        self.name = name
        self.envs = envs
        self.learner = learner
        space = copy.deepcopy(envs.action_space)
        space.seed(seed)
        self.actions = itertools.cycle([space.sample() for _ in range(ACTIONS_DRAWN)])
        envs.reset(seed=seed)
        self.rates = []

    def block(self, vector_steps):
        """Seconds of so many vector steps."""
        step, actions, learner = self.envs.step, self.actions, self.learner
        start = time.perf_counter()
        if learner is None:
            for _ in range(vector_steps):
                step(next(actions))
        else:
            for _ in range(vector_steps):
                learner(step(next(actions))[0])
        return time.perf_counter() - start


def race(racers, rounds=7, block_s=0.12, warm_up_steps=20):
    """Times every racer once a round, in changing order, blocks of the same number of steps.

    Returns the median env steps per second by name. Fixed work per block: each racer runs the same
    actions, so the same episodes, as the others.
    """
    fastest = min(r.block(warm_up_steps) for r in racers)
    vector_steps = max(4, int(block_s * warm_up_steps / fastest / 2))
    order = list(racers)
    for _ in range(rounds):
        random.shuffle(order)
        for racer in order:
            racer.block(2)
            seconds = racer.block(vector_steps)
            racer.rates.append(vector_steps * racer.envs.num_envs / seconds)
    return {racer.name: float(np.median(racer.rates)) for racer in racers}
