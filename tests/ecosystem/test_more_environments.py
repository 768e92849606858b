"""Environments of other packages: every mode equals `SyncVectorEnv`, and a mode can be chosen."""

from __future__ import annotations

import functools
import importlib
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


def assert_same_as_the_loop(make, mode, steps=25, given=None, **kwargs):
    for autoreset_mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        options = {"autoreset_mode": autoreset_mode}
        oracle = SyncVectorEnv([make] * 3, **options)
        count = () if given is None else (3,)
        source = [make] * 3 if given is None else given
        with auto_make_vec(source, *count, mode=mode, vector_kwargs=options, **kwargs) as envs:
            assert_same_run(envs, oracle, steps, ordered=mode != "async")
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
    env = gym.make("BreakoutNoFrameskip-v4", max_episode_steps=60)
    return gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(env), 4)


def test_atari_as_agents_take_it(mode):
    gym.register_envs(pytest.importorskip("ale_py", exc_type=ImportError))
    pytest.importorskip("cv2", exc_type=ImportError)
    assert_same_as_the_loop(atari, mode)


def grid_image():
    from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper

    env = gym.make("MiniGrid-Empty-5x5-v0", max_episode_steps=9)
    return ImgObsWrapper(RGBImgPartialObsWrapper(env))


def test_minigrid_as_images(mode):
    pytest.importorskip("minigrid", exc_type=ImportError)
    assert_same_as_the_loop(grid_image, mode)


def stacked():
    import supersuit

    env = supersuit.frame_skip_v0(gym.make("CartPole-v1", max_episode_steps=12), 2)
    return supersuit.frame_stack_v1(env, 3)


def test_supersuits_wrappers(mode):
    pytest.importorskip("supersuit", exc_type=ImportError)
    assert_same_as_the_loop(stacked, mode)


class OnePlayer(gym.Env):
    """One player's view of PettingZoo's rock, paper, scissors; the other plays at random."""

    def __init__(self):
        self.game = importlib.import_module("pettingzoo.classic").rps_v2.parallel_env(max_cycles=9)
        self.me, self.other = self.game.possible_agents
        self.observation_space = self.game.observation_space(self.me)
        self.action_space = self.game.action_space(self.me)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observations, infos = self.game.reset(seed=seed)
        return observations[self.me], infos[self.me]

    def step(self, action):
        actions = {self.me: action, self.other: int(self.np_random.integers(3))}
        return tuple(part[self.me] for part in self.game.step(actions))


def test_pettingzoo_for_one_player(mode):
    pytest.importorskip("pettingzoo", exc_type=ImportError)
    assert_same_as_the_loop(OnePlayer, mode)
