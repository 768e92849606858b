"""`envpool`: what EnvPool does otherwise is put right, and what it has not is refused."""

import copy
import functools

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.zoo import EchoEnv
from vecselect import ModeUnavailable, VecselectError, auto_make_vec, available_modes, recommend
from vecselect.machine import read_machine
from vecselect.testing.contract import BEGIN, JOINED, WAIT, assert_same

pytest.importorskip("envpool", reason="there is no wheel of it for every Python")

ALL_CORES = f"envpool:{max(int(read_machine().cores + 0.5), 1)}"
MASK = np.array([True, False, True])
IDS = ("CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "LunarLander-v3", "HalfCheetah-v5")


def made(id, num_envs=3, **kwargs):
    return auto_make_vec(id, num_envs, mode="envpool", **kwargs)


def played(envs, seed=3, steps=60):
    """What a reset and some steps with actions that depend on nothing else return."""
    found = [envs.reset(seed=seed)]
    space = envs.action_space
    space.seed(1)
    return found + [envs.step(space.sample()) for _ in range(steps)]


@pytest.mark.parametrize("id", IDS)
def test_spaces_dtypes_and_masks_are_those_of_the_loop(id):
    oracle = SyncVectorEnv([functools.partial(gym.make, id)] * 3)
    with made(id) as envs:
        assert envs.observation_space == oracle.observation_space
        assert envs.single_observation_space == oracle.single_observation_space
        assert envs.action_space == oracle.action_space
        assert envs.autoreset_mode is AutoresetMode.NEXT_STEP
        assert envs.spec.id == id
        for ours, loop in zip(played(envs), played(oracle), strict=True):
            for one, other in zip(ours[:-1], loop[:-1], strict=True):
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
            keys = {key for key in ours[-1] if not key.startswith("_")}
            assert {f"_{key}" for key in keys} | keys == ours[-1].keys()
            assert all(ours[-1][f"_{key}"].dtype == bool for key in keys)
    oracle.close()


@pytest.mark.parametrize("id", ["Pendulum-v1", "HalfCheetah-v5"])
def test_it_is_the_environment_of_gymnasium(id):
    """From the same state the same actions lead to the same rewards, to EnvPool's precision."""
    with made(id, 8) as envs, auto_make_vec(id, 8, mode="sync") as loop:
        means = [np.mean([step[1] for step in played(one, steps=400)[1:]]) for one in (envs, loop)]
    assert means[0] == pytest.approx(means[1], rel=0.3)


def test_seeds_lead_to_the_same_trajectories_whatever_was_done_before():
    with made("CartPole-v1") as envs:
        first = played(envs, seed=5)
        assert_same(played(envs, seed=5), first)
        assert_same(played(envs, seed=[5, 6, 7]), first)
        assert not np.array_equal(played(envs, seed=6)[0][0], first[0][0])
        # A reset without a seed goes on, as Gymnasium's does.
        assert not np.array_equal(envs.reset()[0], first[0][0])
        assert not np.array_equal(envs.reset(seed=[None, 6, 7])[0][0], first[0][0][0])
        assert_same(envs.reset(seed=2**40)[0], envs.reset(seed=2**40)[0])
    with made("CartPole-v1", 1) as alone:  # one thread, one environment, the third one's seed
        for single, batch in zip(played(alone, seed=7, steps=0), first, strict=False):
            assert np.array_equal(single[0][0], batch[0][2])
    with made("CartPole-v1") as one, made("CartPole-v1") as other:
        assert not np.array_equal(one.reset()[0], other.reset()[0])


def test_episodes_end_when_gymnasium_ends_them_and_begin_a_step_later():
    with made("Pendulum-v1", max_episode_steps=5) as envs:
        steps = played(envs, steps=12)[1:]
    ended = [step[3].all() for step in steps]
    assert ended == [number in (4, 10) for number in range(12)]
    assert not any(step[2].any() for step in steps)
    assert (steps[5][1] == 0).all()  # the reset's own step, its action discarded
    with made("CliffWalking-v1", 1) as envs:  # nothing cuts an episode off
        assert not any(step[3].any() for step in played(envs, steps=2000)[1:])


def test_a_split_step_is_that_of_a_joined_one_and_its_arrays_are_the_caller_s():
    with made("HalfCheetah-v5") as envs, made("HalfCheetah-v5") as other:
        kept, copies = [], []
        for one in (envs, other):
            one.reset(seed=1)
        for step in range(8):
            actions = np.full((3, 6), step / 8, np.float32)
            envs.step_async(actions)
            expected = other.step(actions)
            actions[:] = 9.0
            kept.append(envs.step_wait())
            copies.append(copy.deepcopy(kept[-1]))
            assert_same(kept[-1], expected)
        assert_same(kept, copies)
        envs.step_async(actions)  # it may be left pending


def test_what_it_has_not_and_what_comes_out_of_order_is_an_error():
    with made("CartPole-v1") as envs:
        with pytest.raises(gym.error.ResetNeeded):
            envs.step(np.zeros(3, np.int64))
        envs.reset(seed=1)
        for options, says in (({"low": 0.1}, "options .*low"), ({"reset_mask": MASK}, "by mask")):
            with pytest.raises(VecselectError, match=says):
                envs.reset(options=options)
        for call in (*JOINED[2:5], BEGIN["call"]):
            with pytest.raises(VecselectError, match="Mode 'envpool' has no"):
                call(envs)
        envs.step_async(np.zeros(3, np.int64))
        with pytest.raises(gym.error.AlreadyPendingCallError):
            envs.step(np.zeros(3, np.int64))
        envs.step_wait()
        with pytest.raises(gym.error.NoAsyncCallError):
            envs.step_wait()
        for actions in ([0, 2, 0], [0, -1, 0]):
            with pytest.raises(ValueError, match="each must be from 0 to 1. Nothing was stepped"):
                envs.step(actions)
    for use in (*JOINED, *BEGIN.values(), *WAIT.values()):
        with pytest.raises(gym.error.ClosedEnvironmentError):
            use(envs)


def test_it_has_the_threads_that_are_asked_for_or_one_for_each_core():
    with made("CartPole-v1", 64) as envs:
        assert envs.mode == ALL_CORES
    with made("CartPole-v1", 1) as envs:
        assert envs.mode == "envpool:1"
    with auto_make_vec("Pendulum-v1", 3, mode="envpool:3") as three, made("Pendulum-v1", 3) as envs:
        assert_same(played(three), played(envs))
    with pytest.raises(ModeUnavailable, match="4 threads, and 3 sub-environments"):
        auto_make_vec("CartPole-v1", 3, mode="envpool:4")
    process = psutil.Process()
    before = process.num_threads()
    envs = made("CartPole-v1", 8)
    for seed in range(5):
        envs.reset(seed=seed)
    assert before < process.num_threads() <= before + 8
    envs.close()
    assert process.num_threads() <= before


def other_code():
    spec = copy.deepcopy(gym.spec("CartPole-v1"))
    spec.entry_point = EchoEnv
    return spec


REFUSED = [
    (EchoEnv, {}, "a callable has no id"),
    ("CartPole-v1", {"wrappers": [gym.wrappers.TimeAwareObservation]}, "it takes no wrappers"),
    ("CartPole-v1", {"vector_kwargs": {"autoreset_mode": "SameStep"}}, "NEXT_STEP only, not SAME"),
    ("CartPole-v1", {"vector_kwargs": {"observation_mode": "different"}}, "same observation"),
    ("CartPole-v1", {"vector_kwargs": {"step_timeout_s": 1.0}}, "cannot enforce step_timeout_s"),
    ("CartPole-v1", {"render_mode": "rgb_array"}, "leave render_mode out"),
    ("Pendulum-v1", {"g": 5.0}, "EnvPool's Pendulum-v1 takes no g=5.0"),
    ("FrozenLake-v1", {"map_name": "8x8"}, "takes no map_name='8x8'"),
    ("Ant-v5", {"xml_file": "mine.xml"}, "takes no xml_file='mine.xml'"),
    ("Blackjack-v1", {}, r"the observations of EnvPool's Blackjack-v1 are a Box.* not a Tuple"),
    ("GymV21Environment-v0", {}, "EnvPool has no GymV21Environment-v0"),
    (other_code(), {}, "EnvPool's CartPole-v1 is that of Gymnasium, and"),
]


@pytest.mark.parametrize(("id", "options", "says"), REFUSED)
def test_what_it_cannot_run_is_refused(id, options, says):
    with pytest.raises(ModeUnavailable, match=f"(?s){says}"):
        made(id, **options)


def test_numbers_that_both_know_reach_the_environment():
    with made("HalfCheetah-v5", 2, ctrl_cost_weight=0.0) as envs:
        envs.reset(seed=1)
        infos = envs.step(np.ones((2, 6), np.float32))[4]
    assert (infos["reward_ctrl"] == 0.0).all()
    with made("HalfCheetah-v5", 2, exclude_current_positions_from_observation=True) as envs:
        assert envs.reset(seed=1)[0].shape == (2, 17)


def test_what_is_not_installed_is_said_with_how_to_install_it(monkeypatch):
    assert available_modes()["envpool"] is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'vecselect[envpool]'" in available_modes()["envpool"]
    with pytest.raises(ModeUnavailable, match="pip install"):
        made("CartPole-v1")


def test_where_it_is_allowed_it_is_timed_and_behaves_as_gymnasium_s():
    plan = recommend("CartPole-v1", 16, allow=("envpool",), use_store=False, budget_s=20.0)
    costs = plan.evidence.implementations
    assert [cost.mode for cost in costs] == list(dict.fromkeys(["envpool:1", ALL_CORES]))
    assert all(plan.candidate(cost.mode).predicted is not None for cost in costs)
    assert all(cost.behaviour is not None for cost in costs)
    assert not [note for note in plan.notes if note.code.startswith("implementation")]
    unasked = recommend("CartPole-v1", 16, use_store=False, budget_s=20.0)
    assert unasked.candidate("envpool") is None
    refused = recommend("Pendulum-v1", 2, g=5.0, allow=("envpool",), use_store=False, budget_s=20.0)
    assert "takes no g=5.0" in refused.candidate("envpool").skipped
