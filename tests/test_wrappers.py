"""Gymnasium's vector wrappers give around ours what they give around `SyncVectorEnv`.

Every mode returns what that returns, bit for bit (`test_contract.py`), and the wrappers see but
`AutoVectorEnv`: so one mode shows it.
"""

from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

from tests import zoo
from vecselect import auto_make_vec
from vecselect.testing.contract import assert_same

PENDULUM = functools.partial(gym.make, "Pendulum-v1", max_episode_steps=12)
CARTPOLE = functools.partial(gym.make, "CartPole-v1", max_episode_steps=12)
DRAWN = functools.partial(CARTPOLE, render_mode="rgb_array")
PAIR = functools.partial(zoo.SampleEnv, zoo.SPACES["dict"])
FRAME = functools.partial(zoo.SampleEnv, spaces.Box(0, 255, (8, 8, 3), np.uint8))


def halved(observation):
    return observation / 2


STACKS = {
    "RecordEpisodeStatistics": (CARTPOLE, [wrappers.RecordEpisodeStatistics]),
    "DictInfoToList": (zoo.InfoEnv, [wrappers.DictInfoToList]),
    "FlattenObservation": (PAIR, [wrappers.FlattenObservation]),
    "FilterObservation": (PAIR, [lambda envs: wrappers.FilterObservation(envs, ["count"])]),
    "GrayscaleObservation": (FRAME, [wrappers.GrayscaleObservation]),
    "ReshapeObservation": (FRAME, [lambda envs: wrappers.ReshapeObservation(envs, (64, 3))]),
    "rescaled": (
        PENDULUM,
        [
            lambda envs: wrappers.RescaleAction(envs, *np.float32([-0.5, 0.5])),
            lambda envs: wrappers.RescaleObservation(envs, np.float32(0), np.float32(1)),
            lambda envs: wrappers.TransformReward(envs, halved),
        ],
    ),
    "all that a CleanRL script has": (
        PENDULUM,
        [
            wrappers.RecordEpisodeStatistics,
            wrappers.ClipAction,
            wrappers.NormalizeObservation,
            lambda envs: wrappers.TransformObservation(envs, lambda seen: np.clip(seen, -10, 10)),
            wrappers.NormalizeReward,
            lambda envs: wrappers.ClipReward(envs, -10, 10),
        ],
    ),
}


def stacks(make, chain, **options):
    """The wrappers around ours, and around the oracle."""
    made = [
        auto_make_vec(make, 3, "pool:1", vector_kwargs=options),
        SyncVectorEnv([make] * 3, **options),
    ]
    for wrapper in chain:
        made = [wrapper(envs) for envs in made]
    return made


def timeless(result):
    """A step's result without the seconds that an episode took."""
    infos = result[-1]
    if isinstance(infos, dict) and "episode" in infos:
        episode = {key: value for key, value in infos["episode"].items() if key not in ("t", "_t")}
        result = (*result[:-1], {**infos, "episode": episode})
    return result


def assert_same_run(envs, oracle):
    assert envs.observation_space == oracle.observation_space
    assert envs.action_space == oracle.action_space
    space = oracle.action_space
    space.seed(3)
    assert_same(envs.reset(seed=7), oracle.reset(seed=7), "reset")
    ended = 0
    for step in range(30):
        actions = space.sample()
        actual, expected = envs.step(np.copy(actions)), oracle.step(actions)
        assert_same(timeless(actual), timeless(expected), f"step {step}")
        ended += int((expected[2] | expected[3]).sum())
    assert ended
    for each in (envs, oracle):
        each.close()
        each.close()
        assert each.closed


@pytest.mark.parametrize("name", STACKS)
def test_results_are_the_same(name):
    assert_same_run(*stacks(*STACKS[name]))


def test_results_are_the_same_where_the_step_that_ends_an_episode_resets():
    chain = [wrappers.RecordEpisodeStatistics, wrappers.NormalizeReward]
    assert_same_run(*stacks(PENDULUM, chain, autoreset_mode=AutoresetMode.SAME_STEP))


def test_videos_are_recorded(tmp_path):
    pytest.importorskip("moviepy", exc_type=ImportError)

    def record(envs):
        folder = str(tmp_path / type(envs).__name__)
        return wrappers.RecordVideo(envs, folder, episode_trigger=lambda episode: episode == 0)

    envs, oracle = stacks(DRAWN, [record])
    assert_same_run(envs, oracle)
    ours, theirs = (
        sorted(path.name for path in tmp_path.joinpath(each.video_folder).iterdir())
        for each in (envs, oracle)
    )
    assert ours == theirs != []


def test_frames_are_shown():
    pytest.importorskip("cv2", exc_type=ImportError)
    envs, oracle = stacks(DRAWN, [wrappers.HumanRendering])
    assert envs.render_mode == "human"
    assert_same_run(envs, oracle)
