"""Gymnasium's vector wrappers give around every mode what they give around `SyncVectorEnv`."""

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

MODES = ["sync", "pool:0", "pool:1", "async", "thread:1"]
PENDULUM = functools.partial(gym.make, "Pendulum-v1", max_episode_steps=12)
CARTPOLE = functools.partial(gym.make, "CartPole-v1", max_episode_steps=12)
PAIR = functools.partial(zoo.SampleEnv, zoo.SPACES["dict"])
FRAME = functools.partial(zoo.SampleEnv, spaces.Box(0, 255, (8, 8, 3), np.uint8))


def halved(observation):
    return observation / 2


STACKS = {
    "RecordEpisodeStatistics": (CARTPOLE, [wrappers.RecordEpisodeStatistics]),
    "NormalizeObservation": (PENDULUM, [wrappers.NormalizeObservation]),
    "NormalizeReward": (PENDULUM, [wrappers.NormalizeReward]),
    "DictInfoToList": (zoo.InfoEnv, [wrappers.DictInfoToList]),
    "ClipReward": (PENDULUM, [lambda envs: wrappers.ClipReward(envs, -1, 0)]),
    "TransformReward": (PENDULUM, [lambda envs: wrappers.TransformReward(envs, halved)]),
    "TransformObservation": (PENDULUM, [lambda envs: wrappers.TransformObservation(envs, halved)]),
    "FlattenObservation": (PAIR, [wrappers.FlattenObservation]),
    "FilterObservation": (PAIR, [lambda envs: wrappers.FilterObservation(envs, ["count"])]),
    "GrayscaleObservation": (FRAME, [wrappers.GrayscaleObservation]),
    "ReshapeObservation": (FRAME, [lambda envs: wrappers.ReshapeObservation(envs, (64, 3))]),
    "RescaleObservation": (
        PENDULUM,
        [lambda envs: wrappers.RescaleObservation(envs, np.float32(0), np.float32(1))],
    ),
    "DtypeObservation": (FRAME, [lambda envs: wrappers.DtypeObservation(envs, np.int32)]),
    "ClipAction": (PENDULUM, [wrappers.ClipAction]),
    "RescaleAction": (
        PENDULUM,
        [lambda envs: wrappers.RescaleAction(envs, *np.float32([-0.5, 0.5]))],
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


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture(params=[mode for mode in MODES if not mode.startswith("thread")])
def drawing_mode(request):
    """One that takes environments which draw."""
    return request.param


def stacks(make, chain, mode, **options):
    """The wrappers around the mode under test, and around the oracle."""
    made = [
        auto_make_vec(make, 3, mode, vector_kwargs=options),
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


def assert_same_run(envs, oracle, steps=30, ordered=True):
    assert envs.observation_space == oracle.observation_space
    assert envs.action_space == oracle.action_space
    space = oracle.action_space
    space.seed(3)
    assert_same(envs.reset(seed=7), oracle.reset(seed=7), "reset")
    ended = 0
    for step in range(steps):
        actions = space.sample()
        actual, expected = envs.step(np.copy(actions)), oracle.step(actions)
        assert_same(timeless(actual), timeless(expected), f"step {step}", ordered)
        ended += int((expected[2] | expected[3]).sum())
    assert ended
    for each in (envs, oracle):
        each.close()
        each.close()
        assert each.closed


@pytest.mark.parametrize("name", STACKS)
def test_results_are_the_same(name, mode):
    assert_same_run(*stacks(*STACKS[name], mode))


@pytest.mark.parametrize("name", ["RecordEpisodeStatistics", "NormalizeReward", "ClipReward"])
def test_results_are_the_same_where_the_step_that_ends_an_episode_resets(name, mode):
    made = stacks(*STACKS[name], mode, autoreset_mode=AutoresetMode.SAME_STEP)
    assert_same_run(*made, ordered=mode != "async")


def test_videos_are_recorded(drawing_mode, tmp_path):
    pytest.importorskip("moviepy", exc_type=ImportError)
    make = functools.partial(CARTPOLE, render_mode="rgb_array")

    def record(envs):
        folder = str(tmp_path / type(envs).__name__)
        return wrappers.RecordVideo(envs, folder, episode_trigger=lambda episode: episode == 0)

    envs, oracle = stacks(make, [record], drawing_mode)
    folders = [each.video_folder for each in (envs, oracle)]
    assert_same_run(envs, oracle)
    names = [
        sorted(path.name for path in tmp_path.joinpath(folder).iterdir()) for folder in folders
    ]
    assert names[0] == names[1]
    assert names[0]


def test_frames_are_shown(drawing_mode):
    pytest.importorskip("cv2", exc_type=ImportError)
    make = functools.partial(CARTPOLE, render_mode="rgb_array")
    envs, oracle = stacks(make, [wrappers.HumanRendering], drawing_mode)
    assert envs.render_mode == "human"
    assert_same_run(envs, oracle)
