"""Environments of other packages: every mode equals `SyncVectorEnv`, and a mode can be chosen."""

from __future__ import annotations

import functools
import warnings

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vecselect import auto_make_vec, recommend
from vecselect.testing.contract import assert_same_run

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
MODES = ["sync", "pool:0", "pool:1", "async", "thread:1"]
IDS = {
    "ALE/Pong-v5": "ale_py",
    "ALE/Breakout-v5": "ale_py",
    "BreakoutNoFrameskip-v4": "ale_py",
    "MiniGrid-DoorKey-6x6-v0": "minigrid",
    "BabyAI-GoToLocal-v0": "minigrid",
    "PointMaze_UMaze-v3": "gymnasium_robotics",
    "AdroitHandDoor-v1": "gymnasium_robotics",
}


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture(params=IDS)
def id(request):
    """An id that its package has registered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gym.register_envs(pytest.importorskip(IDS[request.param], exc_type=ImportError))
    return request.param


def assert_same_as_the_loop(make, mode, given=None, **kwargs):
    for autoreset_mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        options = {"autoreset_mode": autoreset_mode}
        oracle = SyncVectorEnv([make] * 3, **options)
        with auto_make_vec(given or make, 3, mode, vector_kwargs=options, **kwargs) as envs:
            assert_same_run(envs, oracle, 25)
        oracle.close()


def test_every_mode_equals_the_loop(id, mode):
    kwargs = {"max_episode_steps": 9}
    make = functools.partial(gym.make, id, **kwargs)
    assert_same_as_the_loop(make, mode, given=id, **kwargs)


def test_a_mode_is_recommended(id):
    plan = recommend(id, 4)
    assert plan.mode.partition(":")[0] in ("sync", "pool", "async", "thread")
    assert plan.profile is not None
    told = {one.mode.partition(":")[0] for one in plan.candidates if one.skipped is None}
    assert {"sync", "pool", "async"} <= told


def test_ales_own_vector_environment_can_be_pinned():
    gym.register_envs(pytest.importorskip("ale_py", exc_type=ImportError))
    with auto_make_vec("ALE/Pong-v5", 2, "native") as envs:
        observations, _ = envs.reset(seed=1)
        assert observations.shape == envs.observation_space.shape
        assert envs.step(envs.action_space.sample())[1].shape == (2,)


def atari():
    """Preprocessed and stacked, as agents take it."""
    gym.register_envs(pytest.importorskip("ale_py", exc_type=ImportError))
    pytest.importorskip("cv2", exc_type=ImportError)
    env = gym.make("BreakoutNoFrameskip-v4", max_episode_steps=60)
    return gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(env), 4)


def grid_image():
    wrappers = pytest.importorskip("minigrid.wrappers", exc_type=ImportError)
    env = gym.make("MiniGrid-Empty-5x5-v0", max_episode_steps=9)
    return wrappers.ImgObsWrapper(wrappers.RGBImgPartialObsWrapper(env))


@pytest.mark.parametrize("make", [atari, grid_image])
def test_images_as_agents_take_them(make, mode):
    make().close()  # skips where it is not installed
    assert_same_as_the_loop(make, mode)
