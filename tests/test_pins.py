"""A pin is that mode or an error; where it may be said, and who wins."""

import threading

import gymnasium as gym
import pytest
from gymnasium import VectorizeMode
from gymnasium.wrappers import TimeAwareObservation

from tests.zoo import EchoEnv
from vecselect import ModeUnavailable, RequestError, auto_make_vec, pinned, recommend
from vecselect.backends.base import backend_of
from vecselect.modes import KINDS
from vecselect.request import read_pin


def source(*arguments, **options):
    pin = read_pin(*arguments, **options)
    return pin and pin.source


def test_the_argument_beats_the_block_which_beats_the_variable(monkeypatch):
    for value in (None, "", "auto"):
        if value is not None:
            monkeypatch.setenv("VECSELECT_MODE", value)
        assert read_pin("auto") is read_pin(None) is None
    monkeypatch.setenv("VECSELECT_MODE", "native")
    assert source("auto") == "VECSELECT_MODE=native"
    with pinned("async"):
        assert source("auto") == "pinned('async')"
        assert source("sync") == "mode='sync'"
        assert source("auto", "sync") == "vectorization_mode='sync'"
        with pinned("sync"):
            assert source("auto") == "pinned('sync')"
        with pinned("auto"):
            assert source("auto") == "VECSELECT_MODE=native"
    with pytest.raises(KeyError), pinned("sync"):
        raise KeyError
    assert source("auto") == "VECSELECT_MODE=native"


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("pool:2", "pool:2"),
        ("vector_entry_point", "native"),
        (VectorizeMode.SYNC, "sync"),
        (VectorizeMode.ASYNC, "async"),
        (VectorizeMode.VECTOR_ENTRY_POINT, "native"),
    ],
)
def test_gymnasiums_words_for_a_mode_pin_it_and_are_shown_as_they_were_said(said, mode):
    pins = read_pin(said), read_pin("auto", said), read_pin(mode, said)
    assert {str(pin.mode) for pin in pins} == {mode}
    word = said if isinstance(said, str) else said.value
    assert [pin.source for pin in pins[:2]] == [f"mode='{word}'", f"vectorization_mode='{word}'"]


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
    assert source("async") == "mode='async'"


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
        assert type(ours.unwrapped).__name__ == "CartPoleVectorEnv"


def test_a_pin_skips_measuring_and_the_plan_says_who_pinned(nothing_starts):
    with pinned("sync"), auto_make_vec(EchoEnv, 2) as envs:
        assert (envs.mode, envs.plan.decided_by) == ("sync", "pin")
        assert envs.plan.pinned_by == "pinned('sync')"
        evidence = envs.plan.evidence
        assert evidence.profile is evidence.ipc is evidence.rule is evidence.hand_off is None


def test_a_recommendation_heeds_no_pin(monkeypatch):
    class Measured(Exception):
        pass

    def measure(*arguments, **options):
        raise Measured

    monkeypatch.setattr("vecselect.planning.planner.FirstWorker", measure)
    monkeypatch.setenv("VECSELECT_MODE", "sync")
    with pytest.raises(Measured), pinned("sync"):
        recommend(EchoEnv, 2)


LOCK = threading.Lock()


def locked(lock=LOCK):
    with lock:
        return EchoEnv()


RESTART = {"on_worker_death": "restart"}
UNMET = [
    ("Pendulum-v1", "native", {}, "Pendulum-v1 has no vector_entry_point"),
    (EchoEnv, "native", {}, "a callable has no vector_entry_point"),
    ("CartPole-v1", "native", {"copy": True}, "takes no vector_kwargs"),
    (EchoEnv, "sync", {"context": "spawn", "daemon": True}, "no vector_kwargs context, daemon"),
    (
        EchoEnv,
        "sync",
        {"start_timeout_s": 1, "step_timeout_s": 1},
        "cannot enforce start_timeout_s and step_timeout_s; use pool, thread or async",
    ),
    (EchoEnv, "async", RESTART, "on_worker_death"),
    (EchoEnv, "thread", {"context": "spawn", **RESTART}, "no vector_kwargs context, on_worker_dea"),
    (lambda lock=LOCK: locked(lock), "async", {}, "cannot be sent to another process"),
    (lambda lock=LOCK: locked(lock), "pool:1", {}, "cannot be sent to another process"),
    (EchoEnv, "pool:99", {}, "no more than 1 busy beside .*; use 'pool:1'"),
    (EchoEnv, "thread:5", {"start_timeout_s": 1}, "no more than 2 busy; use 'thread:2'"),
    (EchoEnv, "pool:0", {"step_timeout_s": 1}, "keep a deadline.* use 'pool:1' to 'pool:2'"),
]


@pytest.mark.parametrize(("id", "mode", "options", "reason"), UNMET)
def test_a_pin_is_that_mode_or_an_error(nothing_starts, monkeypatch, id, mode, options, reason):
    monkeypatch.setenv("VECSELECT_MODE", mode)
    for given, by in (({"mode": mode}, f"mode='{mode}'"), ({}, f"VECSELECT_MODE={mode}")):
        with pytest.raises(ModeUnavailable, match=reason) as caught:
            auto_make_vec(id, 2, vector_kwargs=options, **given)
        message = str(caught.value)
        assert f"Mode '{mode}' was pinned by {by}" in message
        assert "\n" not in message


def test_native_takes_no_wrappers():
    with pytest.raises(ModeUnavailable, match="it takes no wrappers"):
        auto_make_vec("CartPole-v1", 2, "native", wrappers=[TimeAwareObservation])


def test_the_number_of_workers_is_shown_as_it_is():
    with auto_make_vec(EchoEnv, 4, "pool:01") as envs:
        assert envs.mode == envs.plan.mode == "pool:1"
        assert 'mode="pool:1"' in str(envs.report)
    with auto_make_vec(EchoEnv, 4, "pool") as envs, auto_make_vec(EchoEnv, 4, envs.mode) as again:
        assert envs.mode.startswith("pool:")
        assert again.mode == envs.mode
    with auto_make_vec(EchoEnv, 1, "pool") as envs:
        assert envs.mode == "pool:0"


class Heavy:
    """A factory that tells of being packed."""

    packed = 0

    def __call__(self):
        return EchoEnv()

    def __reduce__(self):
        Heavy.packed += 1
        return Heavy, ()


def test_a_pin_asks_its_own_mode_alone_and_packs_nothing_it_does_not_send(monkeypatch):
    for kind in KINDS.keys() - {"sync"}:
        monkeypatch.setattr(type(backend_of(kind)), "missing", pytest.fail)
        monkeypatch.setattr(type(backend_of(kind)), "why_not", pytest.fail)
    with auto_make_vec([Heavy() for _ in range(3)], mode="sync") as envs:
        envs.reset(seed=1)
    assert Heavy.packed == 0
