"""The one vector environment in front of every mode."""

import dataclasses
import functools
import gc
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import (
    AutoresetMode,
    SyncVectorEnv,
    VectorWrapper,
    async_vector_env,
)
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from tests import plans
from tests.zoo import SPACES, SampleEnv
from vecselect import (
    AutoVectorEnv,
    VecselectError,
    VecselectWarning,
    auto_make_vec,
    learner_threads,
)
from vecselect.backends.sync import InProcess
from vecselect.learner_threads import TRIED_UPDATES
from vecselect.planning.cache import PlanCache
from vecselect.run_stats import MIN_STEPS, WARM_UP_STEPS
from vecselect.selection.evidence import ObservedRun
from vecselect.testing.contract import BEGIN, JOINED, WAIT, ZEROS, echoes


@pytest.fixture
def envs():
    with auto_make_vec(echoes(3), mode="sync") as made:
        yield made


def test_it_is_a_gymnasium_vector_environment():
    with pytest.raises(KeyError), auto_make_vec(echoes(3), mode="sync") as envs:
        assert isinstance(envs, VectorWrapper)
        assert type(envs.unwrapped) is SyncVectorEnv
        assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is AutoresetMode.NEXT_STEP
        assert (envs.num_envs, envs.spec, envs.closed) == (3, None, False)
        raise KeyError
    assert envs.closed


def test_what_it_has_not_is_said_to_be_where_it_is():
    with auto_make_vec("Pendulum-v1", 2, mode="sync") as envs:
        assert "mode='sync'" in repr(envs) and "Pendulum-v1" in repr(envs)
        with pytest.raises(AttributeError, match=r"'envs'; envs.unwrapped has it .*'sync' only"):
            _ = envs.envs
        assert len(envs.unwrapped.envs) == 2
        with pytest.raises(AttributeError, match=r"'g'; .*envs.get_attr\('g'\)") as caught:
            _ = envs.g
        assert caught.value.name == "g"
        assert not hasattr(envs, "_g")
        assert envs.get_attr("g") == (10.0, 10.0)


def test_native_says_what_it_lacks_and_is_closed_like_the_others():
    envs = auto_make_vec("CartPole-v1", 3, mode="native")
    envs.reset(seed=1)
    calls = [*JOINED[2:5], BEGIN["call"]]
    for call in calls:
        with pytest.raises(VecselectError, match="Mode 'native' has no .*CartPoleVectorEnv"):
            call(envs)
    for reset in (envs.reset, envs.reset_async):
        with pytest.raises(VecselectError, match="cannot reset by mask"):
            reset(options={"reset_mask": np.array([True, False, False])})
    envs.close()
    envs.close()
    for use in (*JOINED, *BEGIN.values(), *WAIT.values()):
        with pytest.raises(ClosedEnvironmentError, match="was used after close"):
            use(envs)


def test_async_with_a_worker_of_the_user_s_calls_all_or_none():
    options = {"worker": async_vector_env._async_worker}
    with auto_make_vec(echoes(3), mode="async", vector_kwargs=options) as envs:
        envs.reset(seed=1)
        assert envs.call("double", 1) == (2, 3, 4)
        for call in (envs.call, envs.call_async, envs.set_attr):
            with pytest.raises(VecselectError, match="cannot call only some of its sub"):
                call("label", "x", indices=[1])


def test_its_spec_makes_it_again():
    options = {"vector_kwargs": {"autoreset_mode": "SameStep"}, "g": 5.0}
    with auto_make_vec("Pendulum-v1", 2, mode="sync", **options) as envs:
        again = gym.make_vec(envs.spec)
        assert again.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        again.close()
        with auto_make_vec(envs.spec, mode="sync") as ours:
            assert (ours.num_envs, ours.get_attr("g")) == (2, (5.0, 5.0))
            assert ours.autoreset_mode is AutoresetMode.SAME_STEP


def test_stats_count_steps_and_split_the_time(envs):
    assert envs.stats().vector_steps == envs.stats().env_steps == 0
    assert envs.stats().env_steps_per_s == 0.0
    envs.reset(seed=1)
    envs.step(ZEROS)
    assert envs.stats().outside_s == 0.0
    envs.step_async(ZEROS)
    envs.step_wait()
    with pytest.raises(ValueError, match="sub-environments need"):
        envs.step(ZEROS[:2])
    stats = envs.stats()
    assert (stats.vector_steps, stats.env_steps) == (2, 6)
    assert min(stats.inside_s, stats.outside_s) > 0.0
    assert stats.env_steps_per_s == pytest.approx(6 / (stats.inside_s + stats.outside_s))


def test_a_partial_reset_comes_after_a_whole_one_and_leaves_the_others_alone(envs):
    for reset in (envs.reset, envs.reset_async):
        with pytest.raises(ResetNeeded, match="first reset has a reset_mask"):
            reset(options={"reset_mask": [True, False, False]})
    recorded = RecordEpisodeStatistics(envs)
    recorded.reset(seed=1)
    for _ in range(2):
        recorded.step(ZEROS)
    recorded.reset(options={"reset_mask": np.array([True, False, False])})
    assert recorded.episode_lengths.tolist() == [0, 2, 2]


def test_observations_that_shared_memory_cannot_hold_go_through_pipes_whatever_was_asked_for():
    make = functools.partial(SampleEnv, SPACES["text and oneof"])
    options = {"shared_memory": True}
    with auto_make_vec(make, 2, mode="async", vector_kwargs=options) as envs:
        assert not envs.unwrapped.shared_memory
        assert envs.observation_space.contains(envs.reset(seed=1)[0])


# Collecting, observing, retuning


def run_after(plan, rebuild=None):
    """Three environments that run in the calling process, after a plan."""
    return AutoVectorEnv(InProcess(SyncVectorEnv(echoes(3))), plan, rebuild)


@pytest.fixture
def seen(monkeypatch):
    """What runs have shown."""
    found = []
    monkeypatch.setattr(PlanCache, "observe", lambda *arguments: found.append(arguments[-1]))
    return found


def refuse(*arguments):
    raise OSError("no space left")


def steps(envs, count):
    for _ in range(count):
        envs.step(ZEROS)


def test_collecting_gives_the_learner_the_threads_of_the_plan(torch):
    envs = run_after(dataclasses.replace(plans.BY_MODEL, learner_threads=1))
    with envs.collecting():
        assert torch.threads == 1
        with envs.collecting():
            assert torch.threads == 1
        assert torch.threads == 1
    assert torch.threads == 4
    with pytest.raises(LookupError), envs.collecting():
        raise LookupError
    assert torch.threads == 4
    with envs.collecting():
        envs.close()
        assert torch.threads == 4
    torch.threads_set.clear()
    with run_after(plans.BY_MODEL) as envs, envs.collecting():  # it asks for nothing
        assert torch.threads_set == []


@pytest.mark.parametrize(("one_s", "stay"), [(0.2, 1), (0.3, 4)])
def test_an_update_has_the_threads_of_the_rollout_where_it_is_as_fast_with_them(
    torch, monkeypatch, one_s, stay
):
    clock = [0.0]
    monkeypatch.setattr(
        learner_threads, "time", types.SimpleNamespace(perf_counter=lambda: clock[0])
    )
    plan = dataclasses.replace(plans.BY_MODEL, learner_threads=1, threads_free=True)
    envs, updated_with = run_after(plan), []
    for number in range(2 * TRIED_UPDATES + 2):
        with envs.collecting():
            assert torch.threads == 1
            clock[0] += 5.0
        updated_with.append(torch.threads)
        # The first update of all builds what later ones find there.
        clock[0] += (one_s if torch.threads == 1 else 0.2) + 9.0 * (number == 0)
    assert updated_with == [4, 1] * TRIED_UPDATES + [stay] * 2
    envs.close()
    assert torch.threads == 4


@pytest.mark.parametrize("split", [False, True])
def test_a_run_that_never_collects_is_told_at_its_own_line(torch, monkeypatch, split):
    monkeypatch.setattr("vecselect.run_stats.COLLECTING_STEPS", 10)
    with run_after(dataclasses.replace(plans.PINNED, learner_threads=1)) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match="envs.collecting") as caught:
            for _ in range(100):
                if split:
                    envs.step_async(ZEROS)
                    envs.step_wait()
                else:
                    envs.step(ZEROS)
        assert {one.filename for one in caught} == {__file__}


KEYED = dataclasses.replace(plans.PINNED, key="a key")


def test_closing_hands_over_what_the_run_has_shown(seen):
    envs = run_after(KEYED)
    envs.reset(seed=1)
    steps(envs, MIN_STEPS // 2)
    for _ in range(MIN_STEPS):
        envs.step_async(ZEROS)
        envs.step_wait()
    envs.close()
    envs.close()
    (one,) = seen
    assert (one.mode, one.vector_steps >= 32) == ("sync", True)
    assert min(one.inside_s, one.outside_s) > 0.0


def test_a_run_that_nobody_closes_is_handed_over_when_it_is_collected(seen, monkeypatch):
    envs = run_after(KEYED)
    envs.reset(seed=1)
    steps(envs, 2 * MIN_STEPS)
    del envs
    gc.collect()
    assert [one.mode for one in seen] == ["sync"]
    monkeypatch.setattr(PlanCache, "observe", refuse)
    envs = run_after(KEYED)
    envs.reset(seed=1)
    steps(envs, 2 * MIN_STEPS)
    with pytest.raises(OSError, match="no space left"):
        envs.close()
    assert envs.closed


SYNC_OBSERVED = dataclasses.replace(
    plans.BY_MODEL,
    mode="sync",
    evidence=dataclasses.replace(
        plans.BY_MODEL.evidence, runs=(ObservedRun("sync", None, 1000, 25e-3, 1e-3),)
    ),
)
"""A plan that runs in sync, which has shown itself slower than the pool is predicted to be."""


def test_retuning_rebuilds_in_the_mode_that_is_now_known_best(seen):
    asked = []

    def rebuild(plan):
        assert envs.env.closed
        asked.append(plan)
        return InProcess(SyncVectorEnv(echoes(3))), dataclasses.replace(plan, key="a key")

    envs = run_after(SYNC_OBSERVED, rebuild)
    envs.reset(seed=1)
    steps(envs, 3)
    assert envs.retune() is True
    (plan,) = asked
    assert plan.mode.startswith("pool:")
    assert plan.decided_by == "observed"
    assert plan.evidence.runs == SYNC_OBSERVED.evidence.runs
    assert envs.mode == plan.mode
    assert (envs.closed, envs.stats().vector_steps) == (False, 0)
    envs.reset(seed=1)
    steps(envs, 2 * MIN_STEPS)
    envs.close()
    assert [one.mode for one in seen] == [plan.mode]


def test_retuning_leaves_a_run_alone_whose_mode_is_the_best_already():
    for plan in (plans.BY_MODEL, plans.PINNED, dataclasses.replace(SYNC_OBSERVED, pinned_by="x")):
        with run_after(plan, lambda plan: pytest.fail("it was rebuilt")) as envs:
            envs.reset(seed=1)
            steps(envs, MIN_STEPS)
            assert envs.retune() is False
            steps(envs, 1)


def test_a_wrong_recall_is_planned_anew_by_retuning():
    asked = []

    def rebuild(plan):
        asked.append(plan)
        return InProcess(SyncVectorEnv(echoes(3))), plans.BY_MODEL

    recalled = dataclasses.replace(plans.BY_MODEL, recalled=True)  # counts on 10 ms
    with run_after(recalled, rebuild) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match="remembered plan"):
            steps(envs, WARM_UP_STEPS)
        assert envs.retune() is True
        assert asked == [None]


def test_a_failed_rebuild_leaves_it_closed_and_what_others_have_made_has_none():
    envs = run_after(SYNC_OBSERVED, refuse)
    envs.reset(seed=1)
    with pytest.raises(OSError, match="no space left"):
        envs.retune()
    assert envs.closed
    with run_after(plans.BY_MODEL) as envs, pytest.raises(VecselectError, match="auto_make_vec"):
        envs.retune()
