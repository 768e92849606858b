"""A pin is that mode or an error; where it may be said, and who wins."""

import threading

import gymnasium as gym
import pytest
from gymnasium import VectorizeMode
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation

from tests.zoo import EchoEnv
from vecselect import ModeUnavailable, RequestError, auto_make_vec, pinned, recommend
from vecselect.backends.registry import BACKENDS
from vecselect.pins import read_pin


@pytest.fixture
def nothing_is_measured(monkeypatch):
    def measure(*arguments, **options):
        pytest.fail("a pinned request was measured")

    monkeypatch.setattr("vecselect.planning.planner.FirstWorker", measure)
    monkeypatch.setattr("vecselect.planning.planner.measure_ipc", measure)


def pinned_mode(mode="auto", **options):
    pin = read_pin(mode, **options)
    return pin and str(pin.mode)


def test_without_a_pin_the_choice_is_free():
    assert read_pin("auto") is None


def test_the_argument_beats_the_block_which_beats_the_variable(monkeypatch):
    monkeypatch.setenv("VECSELECT_MODE", "native")
    assert read_pin("auto").source == "VECSELECT_MODE=native"
    with pinned("async"):
        assert pinned_mode("auto") == "async"
        assert read_pin("auto").source == "pinned('async')"
        assert pinned_mode("sync") == "sync"
        assert read_pin("sync").source == "mode='sync'"
        assert pinned_mode(vectorization_mode="sync") == "sync"
    assert pinned_mode("auto") == "native"


def test_an_empty_variable_and_auto_in_it_are_no_pin(monkeypatch):
    for value in ("", "auto"):
        monkeypatch.setenv("VECSELECT_MODE", value)
        assert read_pin("auto") is None


def test_blocks_nest_and_auto_lifts_the_outer_one():
    with pinned("sync"):
        with pinned("async"):
            assert pinned_mode() == "async"
            with pinned("auto"):
                assert pinned_mode() is None
            assert pinned_mode() == "async"
        assert pinned_mode() == "sync"
    assert pinned_mode() is None


def test_a_block_that_is_left_by_an_error_is_lifted():
    with pytest.raises(KeyError), pinned("sync"):
        raise KeyError
    assert pinned_mode() is None


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("sync", "sync"),
        ("async", "async"),
        ("vector_entry_point", "native"),
        (VectorizeMode.SYNC, "sync"),
        (VectorizeMode.ASYNC, "async"),
        (VectorizeMode.VECTOR_ENTRY_POINT, "native"),
    ],
)
def test_gymnasiums_words_for_a_mode_pin_it(said, mode):
    assert pinned_mode(vectorization_mode=said) == mode
    assert pinned_mode(mode, vectorization_mode=said) == mode


def test_the_positional_arguments_are_those_of_gymnasium():
    arguments = ("CartPole-v1", 2, VectorizeMode.SYNC, {"copy": False}, [TimeAwareObservation])
    theirs = gym.make_vec(*arguments)
    with auto_make_vec(*arguments) as ours:
        assert type(ours.unwrapped) is type(theirs.unwrapped)
        assert ours.unwrapped.copy is theirs.copy is False
        assert ours.single_observation_space == theirs.single_observation_space
    theirs.close()
    with auto_make_vec("CartPole-v1", 2, "vector_entry_point", {}) as ours:
        assert ours.mode == "native"
    assert pinned_mode(None) is None


def test_a_pin_in_gymnasiums_words_is_shown_as_it_was_said():
    assert read_pin(VectorizeMode.ASYNC).source == "mode='async'"
    pin = read_pin("auto", "vector_entry_point")
    assert pin.source == "vectorization_mode='vector_entry_point'"


def test_two_arguments_that_contradict_each_other_are_an_error():
    with pytest.raises(RequestError, match=r"mode='sync' and vectorization_mode='async' contra"):
        read_pin("sync", "async")
    with pytest.raises(RequestError, match="contradict"):
        read_pin("async", VectorizeMode.VECTOR_ENTRY_POINT)


def test_an_unknown_mode_is_an_error_with_the_nearest_name():
    with pytest.raises(RequestError, match="no mode 'snyc'.*Did you mean 'sync'"):
        read_pin("snyc")
    with pytest.raises(RequestError, match="no mode 'asyn'.*Did you mean 'async'"), pinned("asyn"):
        pytest.fail("the block was entered")
    with pytest.raises(RequestError, match="no vectorization_mode 'asinc'.*Did you mean 'async'"):
        read_pin("auto", "asinc")
    with pytest.raises(RequestError, match="mode=3: a mode is named by a string"):
        read_pin(3)
    with pytest.raises(RequestError, match=r"pinned\(None\): a mode is named"), pinned(None):
        pytest.fail("the block was entered")


def test_a_typo_in_the_variable_is_an_error_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("VECSELECT_MODE", "snyc")
    with pytest.raises(RequestError, match="'snyc'.*Did you mean 'sync'"):
        read_pin("auto")
    assert pinned_mode("async") == "async"


def test_a_typo_in_the_variable_names_the_variable(monkeypatch):
    monkeypatch.setenv("VECSELECT_MODE", "snyc")
    with pytest.raises(RequestError, match="VECSELECT_MODE"):
        read_pin("auto")


def test_a_pin_skips_measuring_and_the_plan_says_who_pinned(nothing_is_measured, monkeypatch):
    with auto_make_vec(EchoEnv, 2, mode="sync") as envs:
        assert (envs.mode, envs.plan.decided_by) == ("sync", "pin")
        assert envs.plan.pinned_by == "mode='sync'"
        evidence = envs.plan.evidence
        assert evidence.profile is evidence.ipc is evidence.rule is evidence.hand_off is None
    with pinned("sync"), auto_make_vec(EchoEnv, 2) as envs:
        assert envs.plan.pinned_by == "pinned('sync')"
    monkeypatch.setenv("VECSELECT_MODE", "sync")
    with auto_make_vec(EchoEnv, 2) as envs:
        assert envs.plan.pinned_by == "VECSELECT_MODE=sync"


def test_a_recommendation_heeds_no_pin(monkeypatch):
    class Measured(Exception):
        pass

    def measure(*arguments, **options):
        raise Measured

    monkeypatch.setattr("vecselect.planning.planner.FirstWorker", measure)
    monkeypatch.setenv("VECSELECT_MODE", "sync")
    with pytest.raises(Measured), pinned("sync"):
        recommend(EchoEnv, 2)


@pytest.mark.parametrize(
    ("id", "mode", "options", "reason"),
    [
        ("Pendulum-v1", "native", {}, "Pendulum-v1 has no vector_entry_point"),
        (EchoEnv, "native", {}, "a callable has no vector_entry_point"),
        (
            "CartPole-v1",
            "native",
            {"wrappers": [TimeAwareObservation]},
            "wrappers of single environments cannot be put around it",
        ),
        ("CartPole-v1", "native", {"vector_kwargs": {"copy": True}}, "takes no vector_kwargs"),
        (
            "Pendulum-v1",
            "sync",
            {"vector_kwargs": {"context": "spawn", "daemon": True}},
            "vector_kwargs context, daemon has no meaning in it",
        ),
    ],
)
def test_a_pin_is_that_mode_or_an_error(nothing_is_measured, id, mode, options, reason):
    with pytest.raises(ModeUnavailable) as caught:
        auto_make_vec(id, 2, mode, **options)
    message = str(caught.value)
    assert f"Mode '{mode}' was pinned by mode='{mode}'" in message
    assert reason in message
    assert "\n" not in message


def test_what_cannot_be_sent_to_another_process_cannot_be_pinned_to_one(nothing_is_measured):
    lock = threading.Lock()

    def make():
        with lock:
            return EchoEnv()

    with pytest.raises(ModeUnavailable, match="cannot be sent to another process"):
        auto_make_vec(make, 2, "async")


def test_a_pin_that_serves_is_that_mode():
    with auto_make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point") as envs:
        assert envs.mode == "native"
        assert type(envs.unwrapped).__name__ == "CartPoleVectorEnv"
    with auto_make_vec("Pendulum-v1", 2, "async") as envs:
        assert envs.mode == "async"
        assert isinstance(envs.unwrapped, AsyncVectorEnv)


@pytest.mark.parametrize(("asked", "mode"), [("pool:01", "pool:1"), ("pool:3", "pool:3")])
def test_the_number_of_workers_is_shown_as_it_is(asked, mode):
    with auto_make_vec(EchoEnv, 4, asked) as envs:
        assert envs.mode == envs.plan.mode == mode
        assert f'mode="{mode}"' in str(envs.report)


def test_a_pool_without_a_number_shows_its_number():
    with auto_make_vec(EchoEnv, 4, "pool") as envs, auto_make_vec(EchoEnv, 4, envs.mode) as again:
        assert envs.mode.startswith("pool:")
        assert again.mode == envs.mode


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("pool:99", {}, "at most 3 worker processes beside the calling .* 99; use 'pool:3'"),
        ("pool:4", {}, "use 'pool:3'"),
        ("thread:4", {}, "at most 3 threads beside the calling process, .* use 'thread:3'"),
        ("pool:5", {"step_timeout_s": 1}, "at most 4 worker processes, not for 5; use 'pool:4'"),
        ("thread:5", {"start_timeout_s": 1}, "at most 4 threads, not for 5; use 'thread:4'"),
        ("pool:0", {"step_timeout_s": 1}, "could keep the deadline .* use 'pool:4' or fewer"),
        ("thread:0", {"start_timeout_s": 1}, "could keep the deadline .* use 'thread:4' or"),
    ],
)
def test_a_number_of_workers_without_work_for_all_is_an_error(
    mode, options, words, monkeypatch, nothing_is_measured
):
    with pytest.raises(ModeUnavailable, match=f"'{mode}' was pinned by mode='{mode}'.*{words}"):
        auto_make_vec(EchoEnv, 4, mode, vector_kwargs=options)
    monkeypatch.setenv("VECSELECT_MODE", mode)
    with pytest.raises(ModeUnavailable, match=f"by VECSELECT_MODE={mode}, but"):
        auto_make_vec(EchoEnv, 4, vector_kwargs=options)


def test_one_sub_environment_has_no_work_for_a_worker():
    with pytest.raises(ModeUnavailable, match="has work for no worker, not for 1; use 'pool:0'"):
        auto_make_vec(EchoEnv, 1, "pool:1")
    with auto_make_vec(EchoEnv, 1, "pool") as envs:
        assert envs.mode == "pool:0"


@pytest.mark.parametrize("mode", ["pool:x", "pool:-1", "sync:2", "pool:", "pool:3:sleep"])
def test_a_number_of_workers_that_cannot_be_is_an_error(mode):
    with pytest.raises(RequestError, match="number of workers"):
        read_pin(mode)


def test_the_callers_lane_alone_takes_what_cannot_be_sent(nothing_is_measured):
    lock = threading.Lock()

    def make():
        assert lock is not None
        return EchoEnv()

    with auto_make_vec(make, 2, "pool:0") as envs:
        envs.reset(seed=1)
    with pytest.raises(ModeUnavailable, match="cannot be sent to another process"):
        auto_make_vec(make, 2, "pool:1")


class Heavy:
    """A factory that tells of being packed."""

    packed = 0

    def __call__(self):
        return EchoEnv()

    def __reduce__(self):
        Heavy.packed += 1
        return Heavy, ()


def test_a_pin_asks_its_own_mode_alone_and_packs_nothing_it_does_not_send(monkeypatch):
    for name, backend in BACKENDS.items():
        if name != "sync":
            monkeypatch.setattr(type(backend), "missing", pytest.fail)
            monkeypatch.setattr(type(backend), "why_not", pytest.fail)
    with auto_make_vec([Heavy() for _ in range(3)], mode="sync") as envs:
        envs.reset(seed=1)
    assert Heavy.packed == 0
