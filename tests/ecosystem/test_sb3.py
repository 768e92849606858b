"""For Stable-Baselines3 every mode is what `DummyVecEnv` over the same environments is."""

from __future__ import annotations

import copy
import csv
import functools
import json
import os
import signal

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests import zoo
from vecselect.testing.contract import actors, assert_same

pytest.importorskip("stable_baselines3", exc_type=ImportError)

import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common import env_util as sb3_env_util
from stable_baselines3.common import vec_env as sb3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from vecselect import auto_make_vec
from vecselect.errors import ModeUnavailable, RequestError, VecselectWarning
from vecselect.sb3 import CollectingCallback, Sb3VecEnv, make_vec_env

MODES = ["sync", "pool:0", "pool:1", "async", "thread:1"]


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def pair(env_fns, mode, wrap=lambda envs: envs):
    """The mode under test and the oracle over the same callables."""
    made = make_vec_env(env_fns, mode=mode)
    ours = made.venv if isinstance(made, sb3.VecMonitor) else made
    return wrap(ours), wrap(sb3.DummyVecEnv(env_fns))


def comparable(infos):
    """Infos without what differs from run to run."""
    found = []
    for info in infos:
        info = dict(info)
        if "TimeLimit.truncated" in info:
            info["TimeLimit.truncated"] = bool(info["TimeLimit.truncated"])
        if "episode" in info:
            info["episode"] = {key: info["episode"][key] for key in ("r", "l")}
        found.append(info)
    return found


def as_dict(observations):
    """A batch of a dict space as a plain dict: `DummyVecEnv` returns an `OrderedDict`."""
    return dict(observations) if isinstance(observations, dict) else observations


def assert_same_run(ours, oracle, steps=30):
    """Fails unless the two return the same for the same seeds and actions."""
    space = oracle.action_space
    space.seed(3)
    for envs in (ours, oracle):
        envs.seed(5)
    assert_same(ours.reset(), as_dict(oracle.reset()), "reset")
    assert_same(ours.reset_infos, oracle.reset_infos, "reset_infos")
    ended = 0
    for step in range(steps):
        actions = np.array([space.sample() for _ in range(oracle.num_envs)])
        actual, expected = ours.step(actions.copy()), oracle.step(actions)
        assert_same(actual[:3], (as_dict(expected[0]), *expected[1:3]), f"step {step}")
        here = (comparable(actual[3]), comparable(expected[3]))
        assert_same(*here, f"infos of step {step}")
        assert_same(ours.reset_infos, oracle.reset_infos, "reset_infos")
        ended += int(expected[2].sum())
    assert ended
    assert_same(ours.reset(), as_dict(oracle.reset()), "reset without seeds")
    ours.close()
    oracle.close()


class MixedInfoEnv(zoo.EchoEnv):
    """Its infos cannot be batched without a loss, or at all."""

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        kinds = [
            {"score": 1, "legal": np.arange(self.index + 1)},
            {"score": 1.5, "nested": {"deep": [self.steps, {"a": (1, "x")}]}},
            {},
            {"score": np.float32(2.5), "_private": "x", "final_info": 3, "none": None},
        ]
        return observation, reward, terminated, truncated, kinds[self.steps % 4]


def monitored(index):
    return Monitor(gym.make("CartPole-v1", max_episode_steps=9 + index))


def several(kind, *arguments, count=3):
    return [functools.partial(kind, *arguments)] * count


STOCK = ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "HalfCheetah-v5"]
INFOS = [zoo.EchoEnv, zoo.InfoEnv, MixedInfoEnv]
RUNS = {
    **{id: several(functools.partial(gym.make, id, max_episode_steps=12)) for id in STOCK},
    **{kind.__name__: [functools.partial(kind, n) for n in range(5)] for kind in INFOS},
    **{
        f"observations: {name}": several(zoo.SampleEnv, zoo.SPACES[name])
        for name in ("dict", "discrete", "multidiscrete", "multibinary")
    },
    **{
        f"actions: {name}": actors(zoo.ACTION_SPACES[name])
        for name in ("box", "multidiscrete", "multibinary", "discrete from 5")
    },
    "a monitor in each": [functools.partial(monitored, index) for index in range(3)],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_equals_that_of_dummy_vec_env(name, mode):
    ours, oracle = pair(RUNS[name], mode)
    assert type(ours) is Sb3VecEnv
    assert_same_run(ours, oracle, 40)


def test_without_one_episodes_are_monitored_around_all_of_them(mode):
    ours = make_vec_env("CartPole-v1", 3, mode=mode, max_episode_steps=9)
    oracle = sb3.VecMonitor(
        sb3.DummyVecEnv([functools.partial(gym.make, "CartPole-v1", max_episode_steps=9)] * 3)
    )
    assert ours.envs.mode == mode
    assert_same_run(ours, oracle)


def wrapped(envs):
    envs = sb3.VecNormalize(sb3.VecFrameStack(sb3.VecMonitor(envs), 3), clip_reward=2.0)
    return sb3.VecCheckNan(envs, raise_exception=True)


def test_its_wrappers_give_the_same_around_every_mode(mode):
    make = functools.partial(gym.make, "Pendulum-v1", max_episode_steps=12)
    assert_same_run(*pair([make] * 3, mode, wrapped))


def test_options_reach_the_environments_once(mode):
    makers = [functools.partial(zoo.EchoEnv, index) for index in range(3)]
    ours, oracle = pair(makers, mode)
    for options in ({"a": 1}, [{"a": 1}, {}, {"b": 2, "c": 3}], [{}, {}, {}]):
        for envs in (ours, oracle):
            envs.seed(3)
            envs.set_options(options)
        for _ in range(2):
            assert_same(ours.reset(), oracle.reset())
            assert_same(ours.reset_infos, oracle.reset_infos)
    ours.close()


def test_methods_and_attributes_of_some_environments(mode):
    makers = [functools.partial(zoo.EchoEnv, index) for index in range(4)]
    ours, oracle = pair(makers, mode)
    for indices in (None, 2, [3, 0], -1, [1, -2]):
        for envs in (ours, oracle):
            envs.set_attr("label", [f"set for {indices}"], indices=indices)
        assert ours.get_attr("label") == oracle.get_attr("label")
        actual = ours.env_method("double", 4, plus=1, indices=indices)
        assert actual == oracle.env_method("double", 4, plus=1, indices=indices)
        assert ours.get_attr("index", indices) == oracle.get_attr("index", indices)
    assert ours.has_attr("label")
    assert not ours.has_attr("no_such_thing")
    with pytest.raises(AttributeError, match="no_such_thing"):
        ours.get_attr("no_such_thing", 1)
    with pytest.raises(IndexError):
        ours.env_method("double", 1, indices=4)
    ours.close()


class Outer(Monitor):
    """A wrapper derived from one that is asked for."""


def test_wrappers_are_found_by_class_and_by_what_it_derives_from(mode):
    makers = [lambda: Outer(zoo.EchoEnv()), lambda: gym.wrappers.TimeLimit(zoo.EchoEnv(), 5)]
    ours, oracle = pair(makers, mode)
    for kind in (Outer, Monitor, gym.wrappers.TimeLimit, gym.wrappers.ClipReward, gym.Wrapper):
        assert ours.env_is_wrapped(kind) == oracle.env_is_wrapped(kind)
    assert ours.env_is_wrapped(Monitor, [1]) == [False]
    ours.close()


@pytest.mark.parametrize("mode", MODES[:-1])  # threads refuse frames
def test_frames_are_tiled(mode):
    make = functools.partial(gym.make, "CartPole-v1", render_mode="rgb_array")
    ours, oracle = pair([make] * 3, mode)
    for envs in (ours, oracle):
        envs.seed(1)
        envs.reset()
    assert ours.render_mode == "rgb_array"
    assert ours.metadata == oracle.metadata
    assert_same(ours.render(), oracle.render())
    ours.close()


def test_without_frames_it_says_so(mode):
    envs = make_vec_env(zoo.EchoEnv, 2, mode=mode)
    assert envs.render_mode is None
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert envs.get_images() == [None, None]
    envs.close()
    envs.close()


def test_a_model_is_evaluated_saved_and_loaded_the_same(mode, tmp_path):
    makers = [functools.partial(monitored, index) for index in range(2)]
    found = []
    for envs in pair(makers, mode):
        model = PPO("MlpPolicy", envs, n_steps=16, batch_size=16, n_epochs=1, seed=3, device="cpu")
        model.learn(64).save(tmp_path / "model")
        loaded = PPO.load(tmp_path / "model", env=envs, device="cpu").learn(32)
        envs.seed(4)
        found.append(evaluate_policy(loaded, envs, 6, return_episode_rewards=True))
        envs.close()
    assert found[0] == found[1]


class MortalEnv(zoo.EchoEnv):
    def step(self, action):
        if action == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def test_a_worker_that_died_is_told_of_in_the_infos():
    options = {"on_worker_death": "restart"}
    makers = [functools.partial(MortalEnv, index) for index in range(2)]
    envs = make_vec_env(makers, mode="pool:1", vector_kwargs=options)
    envs.reset()
    with pytest.warns(VecselectWarning, match="SIGKILL"):
        observations, _, dones, infos = envs.step(np.array([1, 9]))
    assert dones.tolist() == [False, True]
    assert infos[1]["worker_restarted"]
    assert infos[1]["TimeLimit.truncated"]
    assert_same(infos[1]["terminal_observation"], observations[1])
    assert "worker_restarted" not in envs.step(np.array([1, 1]))[3][1]
    envs.close()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vec_env_cls": sb3.SubprocVecEnv}, RequestError, 'mode="pool" in processes'),
        ({"vec_env_kwargs": {"start_method": "spawn"}}, RequestError, "Leave them out"),
        ({"num_envs": 2}, RequestError, "num_envs is called n_envs here"),
        (
            {"vector_kwargs": {"autoreset_mode": "NextStep"}},
            RequestError,
            "cannot have autoreset_mode",
        ),
        ({"vector_kwargs": {"copy": False}}, RequestError, "cannot have copy=False"),
        ({"mode": "native"}, ModeUnavailable, "native"),
    ],
)
def test_what_it_cannot_use_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_vec_env("CartPole-v1", effort="rule", **options)


def test_a_vector_environment_that_there_is_already_can_be_used(mode):
    makers = several(monitored, 9)
    envs = auto_make_vec(makers, mode=mode, vector_kwargs={"autoreset_mode": "SameStep"})
    ours, oracle = Sb3VecEnv(envs), sb3.DummyVecEnv(makers)
    assert ours.env_is_wrapped(Monitor) == [True] * 3
    assert ours.env_is_wrapped(gym.wrappers.ClipReward) == [False] * 3
    for one in (ours, oracle):
        one.seed(5)
    assert_same(ours.reset(), oracle.reset())
    for step in range(45):
        actions = np.full(3, step % 2)
        actual, expected = ours.step(actions), oracle.step(actions)
        assert_same(actual[:3], expected[:3])
        for here, there in zip(comparable(actual[3]), comparable(expected[3]), strict=True):
            assert here.keys() == there.keys()
            assert here.get("episode", {}) == pytest.approx(there.get("episode", {}), rel=1e-6)
    ours.set_options([{"a": 1}, {}, {}])
    with pytest.raises(RequestError, match="different options"):
        ours.reset()
    ours.close()


class Stepping(zoo.EchoEnv):
    """Draws from its own action space."""

    def __init__(self, index=0):
        super().__init__(index)
        self.action_space = spaces.Discrete(1000)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(0)
        return observation, float(self.action_space.sample()), terminated, truncated, info


class Halved(gym.RewardWrapper):
    def __init__(self, env, by=2):
        super().__init__(env)
        self.by = by

    def reward(self, reward):
        return reward / self.by


def test_its_own_make_vec_env_can_be_replaced_by_ours(mode, tmp_path):
    told = {"n_envs": 3, "seed": 4, "start_index": 2, "wrapper_class": Halved}
    told |= {"wrapper_kwargs": {"by": 4}, "env_kwargs": {"index": 1}}
    told |= {"monitor_kwargs": {"info_keywords": ("step",)}}
    ours = make_vec_env(Stepping, **told, monitor_dir=tmp_path / "ours", mode=mode)
    oracle = sb3_env_util.make_vec_env(Stepping, **told, monitor_dir=str(tmp_path / "theirs"))
    assert ours.plan.mode == mode
    assert f"=> {mode} " in str(ours.report)
    assert ours.env_is_wrapped(Monitor) == oracle.env_is_wrapped(Monitor) == [True] * 3
    drawn = [copy.deepcopy(envs.action_space).sample() for envs in (ours, oracle)]
    assert drawn[0] == drawn[1]
    assert_same(ours.reset(), oracle.reset())
    for _ in range(30):
        actual, expected = (envs.step(np.ones(3, np.int64)) for envs in (ours, oracle))
        assert_same(actual[:3], expected[:3])
        assert_same(comparable(actual[3]), comparable(expected[3]))
    ours.close()
    oracle.close()
    names = ["2.monitor.csv", "3.monitor.csv", "4.monitor.csv"]
    for who in ("ours", "theirs"):
        assert sorted(path.name for path in (tmp_path / who).iterdir()) == names
    for name in names:
        ours, theirs = (episodes(tmp_path / who / name) for who in ("ours", "theirs"))
        assert ours == theirs
        assert len(ours) > 3


def episodes(file):
    """What a monitor file holds of each episode, without the time."""
    head, *lines = file.read_text().splitlines()
    assert json.loads(head.removeprefix("#")).keys() == {"t_start", "env_id"}
    return [{**row, "t": None} for row in csv.DictReader(lines)]


def test_measuring_writes_no_monitor_files(tmp_path):
    envs = make_vec_env("CartPole-v1", 2, monitor_dir=tmp_path, effort="rule", budget_s=0.1)
    assert envs.plan.decided_by == "rule"
    envs.reset()
    envs.close()
    assert [episodes(tmp_path / f"{index}.monitor.csv") for index in range(2)] == [[], []]


class Threads(BaseCallback):
    """Notes torch's threads at each step, and at the end of each rollout; fails if told to."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.fails_at = fails_at
        self.stepping, self.between = set(), set()

    def _on_step(self):
        self.stepping.add(torch.get_num_threads())
        if self.num_timesteps == self.fails_at:
            raise LookupError
        return True

    def _on_rollout_end(self):
        self.between.add(torch.get_num_threads())


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_a_callback_gives_the_learner_one_thread_in_rollouts_only(algorithm, three_threads):
    envs = make_vec_env("CartPole-v1", 2, mode="sync", learner_threads=1)
    threads = Threads()
    if algorithm == "PPO":
        model = PPO("MlpPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    else:
        model = DQN("MlpPolicy", envs, learning_starts=4, train_freq=4, device="cpu")
    model.learn(32, callback=[CollectingCallback(), threads])
    assert threads.stepping == {1}
    assert threads.between == {3}
    assert torch.get_num_threads() == 3
    envs.close()


def test_training_that_fails_in_a_rollout_leaves_one_thread_until_closing(three_threads):
    envs = make_vec_env("CartPole-v1", 2, mode="sync", learner_threads=1)
    model = PPO("MlpPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    with pytest.raises(LookupError):
        model.learn(32, callback=[CollectingCallback(), Threads(fails_at=6)])
    assert torch.get_num_threads() == 1
    envs.close()
    assert torch.get_num_threads() == 3


def test_the_callback_refuses_other_vector_environments():
    envs = sb3.DummyVecEnv([lambda: gym.make("CartPole-v1")])
    with pytest.raises(RequestError, match="make_vec_env"):
        PPO("MlpPolicy", envs, device="cpu").learn(8, callback=CollectingCallback())
    envs.close()
