"""Sweeps that are run: small budgets, cheap environments, and no assertion about speed."""

import dataclasses
import math
import os
import signal
import time

import numpy as np
import pytest

from tests.zoo import EchoEnv, GlobalEnv, HoldingEnv
from vecselect import (
    ModeUnavailable,
    RequestError,
    Sweep,
    SweepReport,
    auto_make_vec,
    recommend,
    sweep,
)
from vecselect.machine import read_machine
from vecselect.planning import timing
from vecselect.planning.cache import PlanCache


def echo():
    return EchoEnv()


class Raising(EchoEnv):
    """Three of it in one process are one too many."""

    alive = 0

    def __init__(self):
        super().__init__()
        type(self).alive += 1
        if self.alive > 2:
            type(self).alive = 0
            raise OSError("the port is taken")

    def close(self):
        type(self).alive -= 1


class Deadly(EchoEnv):
    """Ends its process in its 12th step, as long as that is not a profile of one environment."""

    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1
        self.deadly = self.made >= 4

    def step(self, action):
        if self.deadly:
            os._exit(5)
        return super().step(action)


@pytest.fixture(scope="module")
def small():
    """A sweep of two numbers and two modes, and what its progress was."""
    states = []
    found = sweep(echo, (2, 1, 2), modes=("pool:1", "sync"), budget_s=30, progress=states.append)
    return found, states


def test_every_point_has_its_throughput_memory_and_blocks(small):
    found, _ = small
    assert (found.num_envs, found.modes) == ((1, 2), ("sync", "pool:1"))
    assert found.env == "echo" and not found.by_id and found.whole
    points = {(point.mode, point.num_envs): point for point in found.points}
    assert list(points) == [("sync", 1), ("pool:1", 1), ("sync", 2), ("pool:1", 2)]
    assert "use 'pool:0'" in points["pool:1", 1].skipped
    for key in (("sync", 1), ("sync", 2), ("pool:1", 2)):
        point = points[key]
        assert point.skipped is None
        rate = point.env_steps_per_s
        assert 0 < rate.low <= rate.mid <= rate.high < math.inf
        assert len(point.blocks_s) >= 1
        assert point.vector_steps >= 1
        assert point.memory_bytes > 10e6
    workers_bytes = points["pool:1", 2].memory_bytes - points["sync", 2].memory_bytes
    assert workers_bytes > 3e6
    # The sweep says what to take, and survives JSON.
    assert found.recommended in found.points
    assert f"in mode {found.recommended.mode}: " in found.recommendation
    assert " MB" in found.recommendation
    assert Sweep.from_json(found.to_json()) == found
    assert found.recommended.mode in str(SweepReport(found))


def test_numbers_take_turns_and_progress_goes_up(small):
    found, states = small
    assert max(len(point.blocks_s) for point in found.points if point.loop_s) > 1
    texts = [state.text for state in states]
    assert texts[0] == "measuring one environment's step"
    assert "building pool:1 x 2" in texts
    assert [text for text in texts if "round 2" in text]
    shares = [state.share for state in states]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    assert all(state.left_s >= 0 for state in states)


def test_by_default_the_modes_are_proposed_and_native_is_marked():
    found = sweep("CartPole-v1", 2, budget_s=30)
    assert found.named_modes == ()
    assert {"sync", "pool:0", "async", "native"} <= set(found.modes)
    native = found.of("native", 2)
    assert native.loop_s is not None
    assert found.recommended.mode != "native"
    assert "bits-differ" not in {note.code for note in found.notes}
    assert "native" not in sweep("FrozenLake-v1", 1, budget_s=1).modes


def test_without_time_one_point_is_measured_and_the_others_say_why_not():
    found = sweep(echo, (1, 2, 64), modes=("sync", "async"), budget_s=0.05)
    assert any(point.env_steps_per_s for point in found.points)
    assert all("sweep may take" in point.skipped for point in found.points if point.skipped)
    assert found.of("async", 64).skipped


def test_what_does_not_fit_into_the_memory_is_left_out(monkeypatch):
    machine = dataclasses.replace(read_machine(), memory_available_bytes=1_000_000_000)
    monkeypatch.setattr(timing, "read_machine", lambda: machine)
    monkeypatch.setattr(
        timing.TimingTask, "run_isolated", lambda self, *_: self.run(progress=lambda message: None)
    )
    found = sweep(echo, 64, modes=("sync", "async"), budget_s=30)
    assert "of the memory available is 0.8 GB" in found.of("async", 64).skipped
    assert found.of("sync", 64).env_steps_per_s is not None


def test_what_raises_gives_its_reason_and_the_rest_stands():
    found = sweep(Raising, (1, 4), modes=("sync", "pool:0"), budget_s=30)
    assert found.of("sync", 1).env_steps_per_s is not None
    assert found.of("pool:0", 4).skipped == "it raised OSError: the port is taken"
    assert "port is taken" in str(SweepReport(found))
    # Where every mode fails, it is an error.
    with pytest.raises(OSError, match="port is taken"):
        sweep(Raising, 4, modes=["sync"], budget_s=30)


def test_of_a_process_that_dies_what_was_measured_before_stands():
    found = sweep(Deadly, (1, 4), modes=["sync"], budget_s=30)
    assert found.of("sync", 1).env_steps_per_s is not None
    assert "exited with code 5" in found.of("sync", 4).skipped
    assert [note.code for note in found.notes if note.code == "timing-lost"] == ["timing-lost"]


def test_a_learner_runs_here_and_counts_and_leaves_the_generators_as_they_are():
    seen = []

    def learn(observations):
        seen.append((os.getpid(), len(observations)))
        np.random.random()
        time.sleep(0.002)

    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    found = sweep(echo, 3, modes=["sync", "pool:0"], budget_s=30, learner=learn)
    assert set(seen) == {(os.getpid(), 3)}
    point = found.of("sync", 3)
    assert point.learner_s >= 0.002
    assert found.learner == "callable"
    assert point.env_steps_per_s.mid < 3 / 0.002
    assert np.random.get_state()[1].tolist() == before


def test_modes_that_differ_are_timed_all_the_same_and_it_is_said():
    found = sweep(GlobalEnv, 2, modes=["sync", "pool:0"], budget_s=5)
    assert all(point.env_steps_per_s is not None for point in found.points)
    assert [note.code for note in found.notes if "(pool:0, step 1[0]: " in note.text] == [
        "bits-differ"
    ]


def test_a_list_of_callables_gives_its_first_ones():
    assert sweep([echo, echo, echo], (1, 2), modes=["sync"], budget_s=1).of("sync", 2).loop_s
    with pytest.raises(RequestError, match="goes up to 4, but the list holds 3"):
        sweep([echo, echo, echo], (1, 4))


def test_an_interrupt_carries_what_was_measured():
    def stop(state):
        if state.text.startswith("building sync x 4"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(echo, (1, 2, 4), modes=["sync"], budget_s=30, progress=stop)
    found = caught.value.sweep
    assert not found.whole
    assert found.of("sync", 1).env_steps_per_s is not None
    assert found.of("sync", 4) is None
    assert found.recommendation.startswith("It was interrupted")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": ()}, "num_envs is empty"),
        ({"modes": 5}, "modes is 5; it must be a list of names"),
        ({"modes": [None]}, "modes is .* it must be a list of names"),
        ({"num_envs": (1, -2)}, "num_envs is -2"),
        ({"num_envs": "1,2"}, "num_envs is '1'; it must be a whole"),
        ({"modes": ("auto",)}, "no mode 'auto'"),
        ({"modes": ("synk",)}, "Did you mean 'sync'"),
        ({"budget_s": 0}, "budget_s is 0"),
        ({"learner": "fast"}, "learner is 'fast'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(options, message):
    with pytest.raises(RequestError, match=message):
        sweep(echo, **options)


def test_an_environment_that_holds_something_has_no_two_modes_alive_at_once():
    texts = []
    found = sweep(
        HoldingEnv,
        2,
        modes=["sync", "pool:0"],
        budget_s=10,
        progress=lambda state: texts.append(state.text),
    )
    rounds = [text for text in texts if text.startswith("round 1")]
    assert rounds == ["round 1: sync x 2", "round 1: pool:0 x 2"]
    assert [note.code for note in found.notes if "holds a socket" in note.text] == ["not-together"]


def test_wrappers_and_options_get_to_every_environment():
    with pytest.raises(ZeroDivisionError):
        sweep("CartPole-v1", 2, modes=["sync"], wrappers=[lambda env: 1 / 0])
    with pytest.raises(ModeUnavailable, match="sync: it cannot enforce step_timeout_s"):
        sweep("CartPole-v1", 2, modes=["sync"], vector_kwargs={"step_timeout_s": 9.0})
    with pytest.raises(ModeUnavailable, match="native: a callable has no vector_entry_point"):
        sweep(echo, 2, modes=["native"])


# The number that a remembered sweep recommends


def test_auto_takes_the_number_that_a_sweep_has_recommended():
    with pytest.raises(RequestError, match="here. Run `vecselect sweep CartPole"):
        auto_make_vec("CartPole-v1", "auto")
    found = sweep("CartPole-v1", (3, 5), modes=["sync"], budget_s=30)
    with auto_make_vec("CartPole-v1", "auto", mode="sync") as envs:
        assert envs.num_envs == found.recommended.num_envs
    # Another environment has another number, and one that is not to be kept none.
    sweep(echo, (3,), modes=["sync"], budget_s=30, use_store=False)
    for env, options, how in (
        (echo, {}, r"Run vecselect.sweep\(...\) with the same environment once"),
        ("CartPole-v1", {"sutton_barto_reward": True}, "Run vecselect.sweep"),
        ([echo, echo], {}, "has its own number"),
        ("CartPole-v1", {"num_envs": "many"}, "num_envs is 'many'"),
    ):
        with pytest.raises(RequestError, match=how):
            auto_make_vec(env, **{"num_envs": "auto", **options})


def test_a_damaged_or_old_sweep_is_not_there(monkeypatch):
    found = sweep(echo, 2, modes=["sync"], budget_s=30)
    (path,) = (PlanCache().folder / "sweeps").iterdir()
    old = dataclasses.replace(found, created="2020-01-01T00:00:00+00:00")
    for content in ("{", "[]", old.to_json()):
        path.write_text(content)
        with pytest.raises(RequestError, match="none is remembered"):
            auto_make_vec(echo, "auto")
    path.write_text(found.to_json())
    recommend(echo, "auto", use_store=False)
    PlanCache().forget_sweeps()
    assert not path.exists()
