"""What is returned is right or an error: nothing stale, cast, broadcast or mixed up."""

from __future__ import annotations

import functools
import itertools
import random

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.faults.case import MODES, PROCESSES, Program, case
from tests.faults.faulty import (
    COUNT,
    ZEROS,
    Returns,
    actions,
    assert_step,
    make,
    text_of,
)
from vecselect import auto_make_vec
from vecselect.testing.contract import assert_same, assert_same_run


def second_step(envs, part, bad, row):
    """The result of a step in which a row, or every one, returns something else than it should."""
    envs.call("give", part, bad, row)
    envs.reset(seed=1)
    envs.step(ZEROS)
    return envs.step(ZEROS)


def assert_refused(envs, part, bad, row):
    with pytest.raises((ValueError, TypeError, OverflowError)) as caught:
        second_step(envs, part, bad, row)
    observations, _ = envs.reset(seed=1)
    assert not np.any(observations)
    observations, rewards, *_ = envs.step(ZEROS)
    assert (observations == 1).all() and (rewards == 1).all()
    return text_of(caught.value)


F32 = np.float32
MISFITS = {
    np.float32: [
        np.zeros(1, F32),
        F32(5.0),
        None,
        np.zeros((1, 3), F32),
        np.zeros((3, 1), F32),
        np.zeros(4, F32),
        np.zeros(0, F32),
        np.zeros(3, complex),
        np.array(["a", "b", "c"]),
    ],
    np.int64: [np.array([1.9, 2.0, 3.0]), np.full(3, np.nan)],
    np.uint8: [np.array([300, -1, 256]), [300, 1, 2]],
}
"""Observations of a wrong shape or kind, by the dtype of a space of shape (3,)."""

TRANSPORTS = [*MODES, "async pipes"]


@case(modes=TRANSPORTS)
def test_observations_that_do_not_fit_are_errors(mode):
    for dtype, bads in MISFITS.items():
        with make(mode, Returns, space=spaces.Box(0, 10, (3,), dtype)) as envs:
            for row, bad in itertools.product((0, 3), bads):
                text = assert_refused(envs, "observation", bad, row)
                if mode != "sync" and np.shape(bad) != (3,):
                    assert f"Sub-environment {row} returned an obs" in text, (bad, text)


ACCEPTED = [
    ("reward", np.float32(7.0), 1, 7.0),
    ("reward", np.array(7.0), 1, 7.0),
    ("reward", np.int64(7), 1, 7.0),
    ("terminated", np.array([False]), 2, False),
    ("terminated", np.bool_(True), 2, True),
    ("truncated", np.array([False]), 3, False),
    ("truncated", 0, 3, False),
]
# Gymnasium's loop leaves it to NumPy, which refuses it from 2.4 on.
NOT_IN_SYNC = [("reward", np.array([7.0]), 1, 7.0)]
REFUSED = [
    ("reward", np.array([1.0, 2.0])),
    ("reward", np.zeros(0)),
    ("terminated", np.array([True, False])),
    ("one value more than there are", None),
]


@case(modes=MODES)
def test_rewards_and_flags_have_one_shape(mode):
    accepted = ACCEPTED + NOT_IN_SYNC * (mode != "sync")
    with make(mode, Returns) as envs:
        for row, (part, good, place, value) in itertools.product((0, 3), accepted):
            result = second_step(envs, part, good, row)
            found = [(one.shape, one.dtype) for one in result[1:4]]
            assert found == [((COUNT,), kind) for kind in (np.float64, np.bool_, np.bool_)]
            assert result[place][row] == value, (part, good, result)
        for row, (part, bad) in itertools.product((0, 3), REFUSED):
            assert_refused(envs, part, bad, row)


@case(modes=MODES)
def test_a_space_that_only_its_author_knows(mode):
    env_fns = [functools.partial(zoo.SampleEnv, zoo.CustomSpace(), None, 3 + i) for i in range(3)]
    with auto_make_vec(env_fns, mode=mode) as envs:
        assert_same_run(envs, SyncVectorEnv(env_fns), 5)


INFOS = (
    lambda i: {"x": 1 if i % 2 else 2.7},
    lambda i: {"x": True if i % 2 else 5},
    lambda i: {"x": np.zeros(2 + i % 2)},
    lambda i: {"x": 2**70 + i},
    lambda i: {"y": {"a": 1} if i % 2 else 5},
    lambda i: {"y": 5 if i % 2 else {"a": 1}},
    lambda i: {"x": 1, "_x": 2},
    lambda i: {"x": None if i % 2 else "text"},
    lambda i: {"x": np.int8(1) if i % 2 else 300},
    lambda i: {1: i, ("a", 2): i},
    lambda i: {"blob": bytes(3_000_000)},
    lambda i: {},
)


@case(modes=MODES, deadline_s=60.0)
def test_strange_infos_never_make_it_unusable(mode):
    """What Gymnasium's loop can batch is batched; the rest is an error and no more."""
    oracle = SyncVectorEnv([functools.partial(Returns, index) for index in range(COUNT)])
    with make(mode, Returns) as envs:
        for number, info in enumerate(INFOS):
            for vector in (envs, oracle):
                vector.set_attr("given", [{"info": info(row)} for row in range(COUNT)])
                vector.reset(seed=1)
                vector.step(ZEROS)
            try:
                expected = oracle.step(ZEROS)
            except Exception as error:
                with pytest.raises(type(error)):
                    envs.step(ZEROS)
            else:
                assert_same(envs.step(ZEROS), expected, f"kind {number}")
            assert_same(envs.reset(seed=5), oracle.reset(seed=5))


@case(modes=["pool:0", "pool:2"])
def test_the_final_observation_is_the_terminal_one(mode):
    """In sync and async the environment's own fault (see README, Limits)."""
    env_fns = [zoo.BufferEnv] * COUNT
    options = {"autoreset_mode": "SameStep"}
    with auto_make_vec(env_fns, mode=mode, vector_kwargs=options) as envs:
        envs.reset()
        for _ in range(3):
            result = envs.step(ZEROS)
        assert [final.tolist() for final in result[4]["final_obs"]] == [[3, 3]] * COUNT
        assert result[4]["final_info"]["steps"].tolist() == [3] * COUNT
        assert not result[0].any()


@case(modes=TRANSPORTS)
def test_resets_after_the_end_of_an_episode(mode):
    """One takes the place of the autoreset that is due; without autoreset it is needed."""
    for autoreset_mode, masked in (("NextStep", False), ("NextStep", True), ("Disabled", True)):
        with make(mode, options={"autoreset_mode": autoreset_mode}) as envs:
            envs.reset(seed=1)
            for step in (1, 2, 3):
                batch = actions(base=step)
                result = envs.step(batch)
                assert_step(result, batch, step)
            ended = result[2] | result[3]
            assert ended.tolist() == [True, False, False, False]
            if autoreset_mode == "Disabled":
                said = "ended" if mode.startswith("pool") else None
                with pytest.raises(AssertionError, match=said):
                    envs.step(actions())
            envs.reset(seed=5, options={"reset_mask": ended} if masked else None)
            batch = actions(base=7)
            assert_step(envs.step(batch), batch, [1, 4, 4, 4] if masked else 1)


@case(modes=MODES)
def test_options_and_statistics_survive_masked_resets(mode):
    with make(mode, options={"autoreset_mode": "NextStep"}) as bare:
        envs = gym.wrappers.vector.RecordEpisodeStatistics(bare)
        with pytest.raises(Exception, match="reset"):
            bare.reset(options={"reset_mask": [True, False, False, False]})
        envs.reset(seed=1)
        mask = np.array([True, False, False, False])
        lengths = {}
        for step in range(6):
            if step == 2:
                for _ in range(2):
                    # A dict of its own: the wrapper itself takes the mask out of it.
                    observations, _ = envs.reset(options={"reset_mask": mask})
                    assert observations[:, 3].tolist() == [0, 2, 2, 2]
            infos = envs.step(actions(base=step))[4]
            for row in np.flatnonzero(infos.get("_episode", ZEROS)):
                lengths.setdefault(int(row), int(infos["episode"]["l"][row]))
        assert lengths == {0: 3, 1: 4, 2: 5, 3: 6}


def draw_globally(mode, seed):
    np.random.seed(seed)
    random.seed(seed)
    with make(mode, zoo.GlobalEnv) as envs:
        envs.reset(seed=1)
        return [envs.step(ZEROS)[0][:, :2].tolist() for _ in range(2)]


@case(modes=PROCESSES, full=True)
def test_global_generators_differ_and_repeat(mode):
    programs = [Program(draw_globally, mode=mode, seed=seed) for seed in (1, 1, 2)]
    one, again, other = [program.finish().check().result["value"] for program in programs]
    assert one == again != other
    for column in (0, 1):
        drawn = [row[column] for batch in one for row in batch]
        assert len(set(drawn)) == len(drawn)
