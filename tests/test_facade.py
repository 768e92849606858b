"""The one vector environment in front of every mode."""

import dataclasses
import functools
import gc

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import (
    AlreadyPendingCallError,
    ClosedEnvironmentError,
    NoAsyncCallError,
    ResetNeeded,
)
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import (
    DictInfoToList,
    NormalizeObservation,
    RecordEpisodeStatistics,
)

from tests import plans
from tests.compare import assert_same, assert_same_run
from tests.zoo import EchoEnv, SampleEnv
from vecselect import AutoVectorEnv, RequestError, VecselectError, VecselectWarning, auto_make_vec
from vecselect.run_stats import MIN_STEPS, WARM_UP_STEPS
from vecselect.selection.evidence import Observation

ZEROS = np.zeros(3, np.int64)
NESTED = {
    "text and oneof": spaces.Tuple(
        (spaces.Text(6), spaces.OneOf((spaces.Discrete(3), spaces.MultiBinary(2))))
    ),
    "graph and sequence": spaces.Dict(
        {
            "g": spaces.Graph(spaces.Box(0, 1, (2,)), None),
            "s": spaces.Sequence(spaces.Discrete(9)),
        }
    ),
}


def echoes(count=3):
    return [functools.partial(EchoEnv, index) for index in range(count)]


@pytest.fixture
def envs():
    with auto_make_vec(echoes(), mode="sync") as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def either(request):
    with auto_make_vec(echoes(), mode=request.param) as made:
        yield made


def test_it_is_a_gymnasium_vector_environment(envs):
    assert isinstance(envs, VectorEnv)
    assert isinstance(envs, VectorWrapper)
    assert type(envs.unwrapped) is SyncVectorEnv
    assert envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is AutoresetMode.NEXT_STEP
    assert envs.spec is None


def test_its_repr_shows_the_mode():
    with auto_make_vec("Pendulum-v1", 2, mode="sync") as envs:
        assert "mode='sync'" in repr(envs)
        assert "Pendulum-v1" in repr(envs)


def test_what_it_has_not_is_said_to_be_where_it_is():
    with auto_make_vec("Pendulum-v1", 2, mode="sync") as envs:
        with pytest.raises(AttributeError, match=r"'envs'; envs.unwrapped has it .*'sync' only"):
            _ = envs.envs
        assert len(envs.unwrapped.envs) == 2
        with pytest.raises(AttributeError, match=r"'g'; .*envs.get_attr\('g'\)") as caught:
            _ = envs.g
        assert caught.value.name == "g"
        assert not hasattr(envs, "_g")
        assert envs.get_attr("g") == (10.0, 10.0)


def test_its_spec_makes_it_again():
    options = {"vector_kwargs": {"autoreset_mode": "SameStep"}, "g": 5.0}
    with auto_make_vec("Pendulum-v1", 2, mode="sync", **options) as envs:
        again = gym.make_vec(envs.spec)
        assert_same_run(again, envs, 3)
        assert again.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        again.close()
        with auto_make_vec(envs.spec, mode="sync") as ours:
            assert (ours.num_envs, ours.get_attr("g")) == (2, (5.0, 5.0))


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
    assert stats.inside_s > 0.0
    assert stats.outside_s > 0.0
    assert stats.env_steps_per_s == pytest.approx(6 / (stats.inside_s + stats.outside_s))


def test_the_context_manager_closes_and_closing_twice_does_nothing():
    with auto_make_vec(echoes(), mode="sync") as envs:
        assert not envs.closed
    assert envs.closed
    envs.close()
    with pytest.raises(KeyError), auto_make_vec(echoes(), mode="sync") as envs:
        raise KeyError
    assert envs.closed


USES = {
    "step": lambda envs: envs.step(ZEROS),
    "reset": lambda envs: envs.reset(),
    "call": lambda envs: envs.call("double", 1),
    "get_attr": lambda envs: envs.get_attr("label"),
    "set_attr": lambda envs: envs.set_attr("label", "x"),
    "render": lambda envs: envs.render(),
    "step_async": lambda envs: envs.step_async(ZEROS),
    "step_wait": lambda envs: envs.step_wait(),
    "reset_async": lambda envs: envs.reset_async(),
    "reset_wait": lambda envs: envs.reset_wait(),
    "call_async": lambda envs: envs.call_async("double", 1),
    "call_wait": lambda envs: envs.call_wait(),
}


@pytest.mark.parametrize(
    ("id", "mode"),
    [
        (EchoEnv, "sync"),
        (EchoEnv, "async"),
        (EchoEnv, "pool:1"),
        ("CartPole-v1", "native"),
    ],
)
def test_use_after_close_is_an_error_in_every_mode(id, mode):
    envs = auto_make_vec(id, 3, mode=mode)
    envs.reset(seed=1)
    envs.close()
    envs.close()
    assert envs.closed
    for use in USES.values():
        with pytest.raises(ClosedEnvironmentError, match="was used after close"):
            use(envs)


def test_the_first_reset_has_no_mask(envs):
    for reset in (envs.reset, envs.reset_async):
        with pytest.raises(ResetNeeded, match="first reset has a reset_mask"):
            reset(options={"reset_mask": [True, False, False]})
    envs.reset()
    envs.reset(options={"reset_mask": [True, False, False]})


@pytest.mark.parametrize("mode", ["sync", "async", "pool:1", "thread:1"])
def test_the_first_reset_may_have_a_mask_of_all(mode):
    with auto_make_vec(echoes(), mode=mode) as envs:
        options = {"reset_mask": np.ones(3, bool)}
        result = envs.reset(seed=5, options=options)
        assert_same(result, SyncVectorEnv(echoes()).reset(seed=5, options=dict(options)))
        envs.step(ZEROS)


def test_a_mask_that_the_mode_cannot_heed_is_an_error():
    with auto_make_vec("CartPole-v1", 2, mode="native") as envs:
        envs.reset(seed=1)
        with pytest.raises(VecselectError, match="cannot reset by mask"):
            envs.reset(options={"reset_mask": np.array([True, False])})


def test_a_partial_reset_keeps_the_statistics_of_the_others(envs):
    recorded = RecordEpisodeStatistics(envs)
    recorded.reset(seed=1)
    for _ in range(2):
        recorded.step(ZEROS)
    recorded.reset(options={"reset_mask": np.array([True, False, False])})
    assert recorded.episode_lengths.tolist() == [0, 2, 2]


def test_split_calls_work_and_are_refused_out_of_order(either):
    either.reset(seed=1)
    calls = {name: USES[f"{name}_async"] for name in ("step", "reset", "call")}
    for name, begin in calls.items():
        for other in calls:
            with pytest.raises(NoAsyncCallError):
                USES[f"{other}_wait"](either)
        begin(either)
        for use in ("step", "reset", "call", "get_attr", "set_attr", "render"):
            with pytest.raises(AlreadyPendingCallError):
                USES[use](either)
        for other in calls:
            with pytest.raises(AlreadyPendingCallError):
                USES[f"{other}_async"](either)
        for other in set(calls) - {name}:
            with pytest.raises(NoAsyncCallError):
                USES[f"{other}_wait"](either)
        USES[f"{name}_wait"](either)
    either.step(ZEROS)


def test_a_failed_wait_leaves_nothing_pending(envs):
    envs.reset(seed=1)
    envs.call_async("no_such_method")
    with pytest.raises(AttributeError):
        envs.call_wait()
    envs.step(ZEROS)


def test_actions_changed_while_a_step_is_pending_do_not_change_the_step(envs):
    envs.reset(seed=1)
    actions = np.array([1, 2, 3])
    envs.step_async(actions)
    actions[:] = 0
    assert envs.step_wait()[0][:, 4].tolist() == [1.0, 2.0, 3.0]


def test_native_has_no_sub_environments_to_call():
    with auto_make_vec("CartPole-v1", 3, mode="native") as envs:
        envs.reset(seed=1)
        for name in ("call", "get_attr", "set_attr", "call_async"):
            with pytest.raises(VecselectError, match="Mode 'native' has no .*CartPoleVectorEnv"):
                USES[name](envs)


def test_gymnasiums_vector_wrappers_go_on_top():
    make = functools.partial(gym.make, "CartPole-v1", max_episode_steps=3)
    ours, oracle = auto_make_vec(make, 2, mode="sync"), SyncVectorEnv([make] * 2)
    stacks = []
    for inner in (ours, oracle):
        stack = NormalizeObservation(RecordEpisodeStatistics(inner))
        # Before 1.2 DictInfoToList fails on the statistics, whatever it is put on.
        stacks.append(stack if gym.__version__ < "1.2" else DictInfoToList(stack))
        stacks[-1].reset(seed=1)
    for _ in range(4):
        actual, expected = (stack.step(np.ones(2, np.int64)) for stack in stacks)
        assert_same(actual[:4], expected[:4])
        if isinstance(actual[4], list):
            assert [set(info) for info in actual[4]] == [set(info) for info in expected[4]]
    for stack in stacks:
        stack.close()
    assert ours.closed


@pytest.mark.parametrize("name", NESTED)
def test_observations_that_shared_memory_cannot_hold_arrive_fresh(name):
    make = functools.partial(SampleEnv, NESTED[name])
    with auto_make_vec(make, 2, mode="async") as envs:
        oracle = SyncVectorEnv([make] * 2)
        assert_same_run(envs, oracle, 5)


def test_shared_memory_that_would_freeze_observations_is_an_error():
    make = functools.partial(SampleEnv, NESTED["text and oneof"])
    with pytest.raises(RequestError, match="same Text observation for ever"):
        auto_make_vec(make, 2, mode="async", vector_kwargs={"shared_memory": True})


class NoInfoEnv(EchoEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options=options)[0], None


def test_closing_does_not_wait_for_a_call_that_failed_while_it_was_collected():
    envs = auto_make_vec(NoInfoEnv, 2, mode="async")
    with pytest.raises(AttributeError):
        envs.reset()
    envs.close()
    assert envs.closed


# Collecting, observing, retuning


def run_after(plan, **options):
    """Three environments that run in the calling process, after a plan."""
    return AutoVectorEnv(SyncVectorEnv(echoes()), plan, **options)


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


def test_collecting_does_nothing_where_the_plan_asks_for_nothing(torch):
    with run_after(plans.BY_MODEL) as envs, envs.collecting():
        assert torch.threads == 4
    assert torch.threads_set == []


def test_a_run_that_never_collects_is_told_at_its_own_line(torch, monkeypatch):
    monkeypatch.setattr("vecselect.run_stats.COLLECTING_STEPS", 10)
    with run_after(dataclasses.replace(plans.PINNED, learner_threads=1)) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match="envs.collecting") as caught:
            steps(envs, 100)
        assert {one.filename for one in caught} == {__file__}


def test_closing_hands_over_what_the_run_has_shown():
    seen = []
    envs = run_after(plans.PINNED, on_observed=seen.append)
    envs.reset(seed=1)
    steps(envs, MIN_STEPS // 2)
    for _ in range(MIN_STEPS // 2):
        envs.step_async(ZEROS)
        envs.step_wait()
    envs.close()
    envs.close()
    (one,) = seen
    assert (one.mode, one.vector_steps >= 32) == ("sync", True)
    assert one.inside_s > 0.0
    assert one.outside_s > 0.0
    assert one.other_cores >= 0.0


def test_a_run_that_nobody_closes_is_handed_over_when_it_is_collected():
    seen = []
    envs = run_after(plans.PINNED, on_observed=seen.append)
    envs.reset(seed=1)
    steps(envs, 2 * MIN_STEPS)
    del envs
    gc.collect()
    assert [one.mode for one in seen] == ["sync"]


def test_the_vector_environment_is_closed_even_if_nobody_takes_what_was_observed():
    def fail(observation):
        raise OSError("no space left")

    envs = run_after(plans.PINNED, on_observed=fail)
    envs.reset(seed=1)
    steps(envs, MIN_STEPS)
    with pytest.raises(OSError, match="no space left"):
        envs.close()
    assert envs.closed


SYNC_OBSERVED = dataclasses.replace(
    plans.BY_MODEL,
    mode="sync",
    evidence=dataclasses.replace(
        plans.BY_MODEL.evidence, observations=(Observation("sync", None, 1000, 25e-3, 1e-3),)
    ),
)
"""A plan that runs in sync, which has shown itself slower than the pool is predicted to be."""


def test_retuning_rebuilds_in_the_mode_that_is_now_known_best():
    asked, old = [], SyncVectorEnv(echoes())

    def rebuild(plan):
        assert old.closed
        asked.append(plan)
        return SyncVectorEnv(echoes()), plan

    envs = AutoVectorEnv(old, SYNC_OBSERVED, rebuild=rebuild)
    envs.reset(seed=1)
    steps(envs, 3)
    assert envs.retune() is True
    (plan,) = asked
    assert plan.mode.startswith("pool:")
    assert plan.decided_by == "observed"
    assert plan.evidence.observations == SYNC_OBSERVED.evidence.observations
    assert envs.plan is plan
    assert not envs.closed
    assert envs.stats().vector_steps == 0
    for use in (envs.step, envs.step_async):
        with pytest.raises(ResetNeeded, match="retune"):
            use(ZEROS)
    envs.reset(seed=1)
    steps(envs, 1)
    with pytest.raises(ValueError, match="sub-environments need"):
        envs.step(ZEROS[:2])
    assert envs.retune() is False
    envs.close()


def test_retuning_leaves_a_run_alone_whose_mode_is_the_best_already():
    for plan in (plans.BY_MODEL, plans.PINNED, dataclasses.replace(SYNC_OBSERVED, pinned_by="x")):
        with run_after(plan, rebuild=lambda plan: pytest.fail("it was rebuilt")) as envs:
            envs.reset(seed=1)
            steps(envs, MIN_STEPS)
            assert envs.retune() is False
            steps(envs, 1)


def test_the_run_after_retuning_is_observed_too():
    seen = []
    with run_after(
        SYNC_OBSERVED,
        on_observed=seen.append,
        rebuild=lambda plan: (SyncVectorEnv(echoes()), plan),
    ) as envs:
        envs.reset(seed=1)
        steps(envs, 1)
        assert envs.retune() is True
        envs.reset(seed=1)
        steps(envs, MIN_STEPS)
        mode = envs.mode
    assert mode != "sync"
    assert [one.mode for one in seen] == [mode]


def test_a_wrong_recall_is_planned_anew_by_retuning():
    asked = []

    def rebuild(plan):
        asked.append(plan)
        return SyncVectorEnv(echoes()), plans.BY_MODEL

    forgotten = []
    recalled = dataclasses.replace(plans.BY_MODEL, recalled=True)  # counts on 10 ms
    with run_after(recalled, rebuild=rebuild, on_wrong_recall=lambda: forgotten.append(1)) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match="remembered plan") as caught:
            steps(envs, WARM_UP_STEPS)
        assert [one.filename for one in caught] == [__file__]
        assert forgotten == [1]
        assert envs.retune() is True
        assert asked == [None]
        envs.reset(seed=1)
        steps(envs, WARM_UP_STEPS)


def test_what_auto_make_vec_has_not_made_cannot_be_retuned():
    with run_after(plans.BY_MODEL) as envs, pytest.raises(VecselectError, match="auto_make_vec"):
        envs.retune()
    with pytest.raises(ClosedEnvironmentError):
        envs.retune()


def test_a_failed_rebuild_leaves_it_closed():
    def rebuild(plan):
        raise OSError("no more processes")

    envs = run_after(SYNC_OBSERVED, rebuild=rebuild)
    envs.reset(seed=1)
    with pytest.raises(OSError, match="no more processes"):
        envs.retune()
    assert envs.closed
    with pytest.raises(ClosedEnvironmentError):
        envs.reset()
