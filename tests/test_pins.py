"""A pin is that mode or an error; where it may be said, and who wins."""

import threading

import gymnasium as gym
import pytest
from gymnasium import VectorizeMode
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation

from tests.zoo import EchoEnv
from vecselect import ModeUnavailable, RequestError, auto_make_vec, pinned, recommend
from vecselect.backends.base import backend_of
from vecselect.modes import KINDS
from vecselect.request import read_pin


def pinned_mode(mode="auto", **options):
    pin = read_pin(mode, **options)
    return pin and str(pin.mode)


def test_the_argument_beats_the_block_which_beats_the_variable(monkeypatch):
    for value in (None, "", "auto"):
        if value is not None:
            monkeypatch.setenv("VECSELECT_MODE", value)
        assert read_pin("auto") is read_pin(None) is None
    monkeypatch.setenv("VECSELECT_MODE", "native")
    assert read_pin("auto").source == "VECSELECT_MODE=native"
    with pinned("async"):
        assert pinned_mode("auto") == "async"
        assert read_pin("auto").source == "pinned('async')"
        assert pinned_mode("sync") == "sync"
        assert read_pin("sync").source == "mode='sync'"
        assert pinned_mode(vectorization_mode="sync") == "sync"
    assert pinned_mode("auto") == "native"


def test_blocks_nest_and_auto_lifts_the_outer_one():
    with pinned("sync"):
        with pinned("async"):
            assert pinned_mode() == "async"
            with pinned("auto"):
                assert pinned_mode() is None
            assert pinned_mode() == "async"
        assert pinned_mode() == "sync"
    assert pinned_mode() is None
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


def test_a_pin_in_gymnasiums_words_is_shown_as_it_was_said():
    assert read_pin(VectorizeMode.ASYNC).source == "mode='async'"
    pin = read_pin("auto", "vector_entry_point")
    assert pin.source == "vectorization_mode='vector_entry_point'"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sync", "async"), "mode='sync' and vectorization_mode='async' contra"),
        (("async", VectorizeMode.VECTOR_ENTRY_POINT), "contradict"),
        (("snyc",), "mode='snyc': There is no mode 'snyc'.*Did you mean 'sync'"),
        (("auto", "asinc"), "vectorization_mode='asinc': .*Did you mean 'async'"),
        ((3,), "mode=3: a mode is named by a string"),
        (("pool:x",), "mode='pool:x': .*number of workers"),
    ],
)
def test_what_is_no_mode_is_an_error_that_names_its_place(arguments, words):
    with pytest.raises(RequestError, match=words):
        read_pin(*arguments)


def test_so_it_is_in_a_block_and_in_the_variable(monkeypatch):
    for mode, words in (("asyn", "no mode 'asyn'.*Did you mean 'async'"), (None, "is named by a")):
        with pytest.raises(RequestError, match=rf"pinned\({mode!r}\): .*{words}"), pinned(mode):
            pytest.fail("the block was entered")
    monkeypatch.setenv("VECSELECT_MODE", "snyc")
    with pytest.raises(RequestError, match="VECSELECT_MODE=snyc: .*Did you mean 'sync'"):
        read_pin("auto")
    assert pinned_mode("async") == "async"


def test_a_pin_skips_measuring_and_the_plan_says_who_pinned(nothing_starts, monkeypatch):
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
        ("CartPole-v1", "native", {"wrappers": [TimeAwareObservation]}, "it takes no wrappers"),
        ("CartPole-v1", "native", {"vector_kwargs": {"copy": True}}, "takes no vector_kwargs"),
        (
            "Pendulum-v1",
            "sync",
            {"vector_kwargs": {"context": "spawn", "daemon": True}},
            "it takes no vector_kwargs context, daemon",
        ),
        (
            "Pendulum-v1",
            "sync",
            {"vector_kwargs": {"start_timeout_s": 1, "step_timeout_s": 1}},
            "cannot enforce start_timeout_s and step_timeout_s; use pool, thread or async",
        ),
        (EchoEnv, "async", {"vector_kwargs": {"on_worker_death": "restart"}}, "on_worker_death"),
        (
            "Pendulum-v1",
            "thread",
            {"vector_kwargs": {"on_worker_death": "restart", "context": "spawn"}},
            "it takes no vector_kwargs context, on_worker_death",
        ),
    ],
)
def test_a_pin_is_that_mode_or_an_error(nothing_starts, id, mode, options, reason):
    with pytest.raises(ModeUnavailable) as caught:
        auto_make_vec(id, 2, mode, **options)
    message = str(caught.value)
    assert f"Mode '{mode}' was pinned by mode='{mode}'" in message
    assert reason in message
    assert "\n" not in message


def test_what_cannot_be_sent_to_another_process_cannot_be_pinned_to_one(nothing_starts):
    lock = threading.Lock()

    def make():
        with lock:
            return EchoEnv()

    for mode in ("async", "pool:1"):
        with pytest.raises(ModeUnavailable, match="cannot be sent to another process"):
            auto_make_vec(make, 2, mode)
    with auto_make_vec(make, 2, "pool:0") as envs:
        envs.reset(seed=1)


def test_a_pin_that_serves_is_that_mode():
    with auto_make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point") as envs:
        assert envs.mode == "native"
        assert type(envs.unwrapped).__name__ == "CartPoleVectorEnv"
    with auto_make_vec("Pendulum-v1", 2, "async") as envs:
        assert envs.mode == "async"
        assert isinstance(envs.unwrapped, AsyncVectorEnv)


def test_the_number_of_workers_is_shown_as_it_is():
    for asked, mode in (("pool:01", "pool:1"), ("pool:3", "pool:3")):
        with auto_make_vec(EchoEnv, 4, asked) as envs:
            assert envs.mode == envs.plan.mode == mode
            assert f'mode="{mode}"' in str(envs.report)
    with auto_make_vec(EchoEnv, 4, "pool") as envs, auto_make_vec(EchoEnv, 4, envs.mode) as again:
        assert envs.mode.startswith("pool:")
        assert again.mode == envs.mode
    with auto_make_vec(EchoEnv, 1, "pool") as envs:
        assert envs.mode == "pool:0"


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("pool:99", {}, "99 worker processes, .* no more than 3 busy beside .*; use 'pool:3'"),
        ("thread:5", {"start_timeout_s": 1}, "5 threads, .* no more than 4 busy; use 'thread:4'"),
        ("pool:0", {"step_timeout_s": 1}, "keep a deadline.* use 'pool:1' to 'pool:4'"),
    ],
)
def test_a_number_of_workers_without_work_for_all_is_an_error(
    mode, options, words, monkeypatch, nothing_starts
):
    with pytest.raises(ModeUnavailable, match=f"'{mode}' was pinned by mode='{mode}'.*{words}"):
        auto_make_vec(EchoEnv, 4, mode, vector_kwargs=options)
    monkeypatch.setenv("VECSELECT_MODE", mode)
    with pytest.raises(ModeUnavailable, match=f"by VECSELECT_MODE={mode}, but"):
        auto_make_vec(EchoEnv, 4, vector_kwargs=options)


class Heavy:
    """A factory that tells of being packed."""

    packed = 0

    def __call__(self):
        return EchoEnv()

    def __reduce__(self):
        Heavy.packed += 1
        return Heavy, ()


def test_a_pin_asks_its_own_mode_alone_and_packs_nothing_it_does_not_send(monkeypatch):
    for kind in KINDS:
        if kind != "sync":
            monkeypatch.setattr(type(backend_of(kind)), "missing", pytest.fail)
            monkeypatch.setattr(type(backend_of(kind)), "why_not", pytest.fail)
    with auto_make_vec([Heavy() for _ in range(3)], mode="sync") as envs:
        envs.reset(seed=1)
    assert Heavy.packed == 0
