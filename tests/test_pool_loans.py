"""Large batches of observations are lent: the caller cannot tell them from copies."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from vecselect import auto_make_vec
from vecselect.backends.pool.arena import LENT_SLOTS
from vecselect.backends.pool.link import Memory
from vecselect.testing.contract import assert_same

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has what it takes")

NUM_ENVS = 4


class Large(gym.Env):
    """Observations of 1.25 MB that tell the sub-environment and the step."""

    action_space = spaces.Discrete(2)

    def __init__(self, index, nested=False):
        image = spaces.Box(0, 255, (1000, 1250), np.uint8)
        self.index, self.steps, self.nested = index, 0, nested
        self.observation_space = (
            spaces.Dict({"image": image, "word": spaces.Text(9)}) if nested else image
        )

    def _observation(self):
        image = np.full((1000, 1250), 50 * self.index + self.steps, np.uint8)
        return {"image": image, "word": f"{self.steps}"} if self.nested else image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        return self._observation(), 0.0, self.steps % 7 == 0, False, {}


def pair(nested=False, **options):
    pool = pool_of(nested, **options)
    assert pool.unwrapped._loans is not None
    return pool, SyncVectorEnv(factories(nested), **options)


def factories(nested):
    return [functools.partial(Large, index, nested) for index in range(NUM_ENVS)]


def pool_of(nested, **options):
    return auto_make_vec(factories(nested), mode="pool:1", vector_kwargs=options)


ACTIONS = np.zeros(NUM_ENVS, np.int64)


@pytest.mark.parametrize("nested", [False, True])
def test_results_are_the_callers_whatever_it_keeps_and_changes(nested):
    pool, sync = pair(nested)
    with pool:
        kept = [(pool.reset(seed=1)[0], sync.reset(seed=1)[0])]
        for step in range(24):
            ours, theirs = pool.step(ACTIONS)[0], sync.step(ACTIONS)[0]
            assert_same(ours, theirs)
            for one in (ours, theirs):  # as who normalizes in place does
                image = one["image"] if nested else one
                image[1, ::2] += 9
                image[:, -1] = step
            kept.append((ours, theirs))
            if step % 8 < 5:  # for a while one result is kept, then more than there are slots
                del kept[:-1]
            for ours, theirs in kept:
                assert_same(ours, theirs)
            if step % 5 == 2:
                mask = {"reset_mask": np.arange(NUM_ENVS) % 3 == 0}
                ours = pool.reset(options={**mask})[0]
                theirs = sync.reset(options={**mask})[0]
                assert_same(ours, theirs)
    assert_same(*kept[-1])


def test_a_buffer_is_written_again_once_no_array_refers_to_it():
    pool, _ = pair()
    with pool:
        last, _ = pool.reset(seed=1)
        lent = []
        for _ in range(LENT_SLOTS + 2):
            last = pool.step(ACTIONS)[0]
            lent.append(pool.unwrapped._slot)
        assert set(lent) == {1, 2}
        part = last[3:, 5].reshape(-1)[::7]  # refers to the slot, not to the array
        before = part.copy()
        del last
        for _ in range(6):
            pool.step(ACTIONS)
        assert (part == before).all()
        every = [pool.step(ACTIONS)[0] for _ in range(5)]
        assert sum(one.base is None for one in every) == 3  # two were free, the rest are copies


def waits_and_looks(observations, go):
    """In a forked process: exits with 0 if the observations are those of the first step."""
    observations[0, 0, 0] = 99
    assert go.wait(60.0)
    os._exit(0 if (observations.max(axis=(1, 2)) == [99, 51, 101, 151]).all() else 1)


def test_a_forked_process_keeps_what_it_has():
    pool, _ = pair()
    with pool:
        pool.reset(seed=1)
        last = pool.step(ACTIONS)[0]
        context = multiprocessing.get_context("fork")
        go = context.Event()

        process = context.Process(target=waits_and_looks, args=(last, go))
        process.start()
        assert last[0, 0, 0] == 1
        last = None
        for step in range(2, 6):
            assert (
                pool.step(ACTIONS)[0][:, 0, 0] == [step, 50 + step, 100 + step, 150 + step]
            ).all()
        go.set()
        process.join(60.0)
        assert process.exitcode == 0


def test_without_a_second_mapping_results_are_copies(monkeypatch):
    def mapped_privately(memory, size_bytes):
        raise OSError("no memory")

    monkeypatch.setattr(Memory, "mapped_privately", mapped_privately)
    with pool_of(False) as envs:
        envs.reset(seed=1)
        every = [envs.step(ACTIONS)[0] for _ in range(LENT_SLOTS + 1)]
        assert [one[0, 0, 0] for one in every] == [1, 2, 3, 4, 5]
