"""Mode `async`: what environments raise, or return wrongly, is an error and harms nothing."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from tests.compare import assert_same
from tests.deeds import (
    ACTIONS,
    ERRORS,
    REPORTED_S,
    ZEROS,
    DoEnv,
    Returns,
    assert_usable,
    make,
    pids,
    tell,
    text_of,
    within,
)
from vecselect.errors import WorkerError


@pytest.mark.parametrize("shared_memory", [True, False])
def test_every_exception_arrives_and_a_reset_works_again(shared_memory):
    with make(options={"shared_memory": shared_memory}) as envs:
        before = pids(envs)
        for name, (_, kind, words) in ERRORS.items():
            for method in ("step", "reset"):
                envs.reset(seed=7)
                tell(envs, method, name)
                with within(REPORTED_S), pytest.raises(kind) as caught:
                    envs.step(ZEROS) if method == "step" else envs.reset()
                text = text_of(caught.value)
                assert words in text
                assert "Traceback" in text and "deeds.py" in text
                if kind is WorkerError or hasattr(caught.value, "__notes__"):
                    assert "sub-environment 2" in text.lower() and f"in {method}" in text
                    assert "last seeded with 9" in text
                tell(envs, "nothing", None)
                assert_usable(envs)
        assert pids(envs) == before


def test_types_and_arguments_are_kept():
    with make() as envs:
        for name in ("runtime", "key", "unicode"):
            with pytest.raises(ERRORS[name][1]) as caught:
                envs.call("do", name)
            assert caught.value.args == ERRORS[name][0]().args


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("autoreset_mode", ["NextStep", "SameStep"])
def test_a_mistaken_name_leaves_every_episode_where_it_is(shared_memory, autoreset_mode):
    """Also where an autoreset is due, which only the worker that failed knew."""
    options = {"shared_memory": shared_memory, "autoreset_mode": autoreset_mode}
    oracle = SyncVectorEnv(
        [functools.partial(DoEnv, i) for i in range(4)], autoreset_mode=autoreset_mode
    )
    mask = np.array([True, False, False, True])
    with make(options=options) as envs:
        before = pids(envs)
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for step in range(14):
            for mistake in (
                lambda: envs.get_attr("no_such_name"),
                lambda: envs.call("step", 1),
                lambda: envs.call("do", "unpicklable"),
                lambda: envs.set_attr("note", [threading.Lock()] * 4),
            ):
                with pytest.raises((AttributeError, ValueError, TypeError, WorkerError)):
                    mistake()
            assert_same(envs.step(ACTIONS), oracle.step(ACTIONS), ordered=False)
            if step % 5 == 3:
                for vector in (envs, oracle):
                    masked = vector.reset(seed=step, options={"reset_mask": mask})
                    assert masked[0][:, 1].tolist()[0] == step
        assert pids(envs) == before
    oracle.close()


def test_a_reset_that_was_asked_for_replaces_the_one_that_is_due():
    """Without shared memory Gymnasium's worker does both."""
    for shared_memory in (True, False):
        with make(options={"shared_memory": shared_memory}) as envs:
            envs.reset(seed=1)
            for _ in range(3):
                result = envs.step(ZEROS)
            assert (result[2] | result[3]).tolist() == [True, False, False, False]
            assert_usable(envs)


def test_episodes_that_ended_are_not_stepped_without_autoreset():
    with make(options={"autoreset_mode": "Disabled"}) as envs:
        envs.reset(seed=1)
        for _ in range(3):
            result = envs.step(ZEROS)
        with pytest.raises(AssertionError, match=r"\[0\] have ended"):
            envs.step(ZEROS)
        envs.reset(options={"reset_mask": result[2] | result[3]})
        assert envs.step(ZEROS)[0][:, 3].tolist() == [1, 4, 4, 4]


INTEGERS = spaces.Box(-10, 10, (3,), np.int64)
BYTES = spaces.Box(0, 255, (3,), np.uint8)
NESTED = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float32)})
WRONG = {
    "shape of one": (None, np.zeros(1, np.float32)),
    "scalar": (None, np.float32(1)),
    "none": (None, None),
    "axis more": (None, np.zeros((1, 3), np.float32)),
    "float into int": (INTEGERS, np.array([1.9, 2, 3])),
    "nan into int": (INTEGERS, np.full(3, np.nan)),
    "too large for uint8": (BYTES, np.array([300, -1, 256])),
    "list too large for uint8": (BYTES, [300, 1, 2]),
}


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("name", WRONG)
def test_observations_that_do_not_fit_are_errors(name, shared_memory):
    space, bad = WRONG[name]
    with make(Returns, 2, {"shared_memory": shared_memory}, space=space, bad=bad) as envs:
        envs.reset()
        envs.step(ZEROS[:2])
        with pytest.raises((ValueError, TypeError), match="Sub-environment 1 returned an obs"):
            envs.step(ZEROS[:2])
        envs.reset()
        assert (envs.step(ZEROS[:2])[0] == 1).all()


def test_parts_that_do_not_fit_are_named():
    class Nested(Returns):
        def observation(self):
            return {"a": 1, "b": np.zeros(2, np.float32)}

    bad = {"a": 1, "b": np.zeros(1, np.float32)}
    with make(Nested, 2, space=NESTED, bad=bad) as envs:
        envs.reset()
        envs.step(ZEROS[:2])
        with pytest.raises(ValueError, match=r"observation\['b'\] of shape \(1,\)"):
            envs.step(ZEROS[:2])


@pytest.mark.parametrize(
    ("part", "bad", "accepted"),
    [(1, np.array([7.0]), 7.0), (1, np.zeros(2), None), (2, np.array([True]), True), (3, 1, True)],
)
def test_rewards_and_flags_are_one_number(part, bad, accepted):
    with make(Returns, 2, part=part, bad=bad) as envs:
        envs.reset()
        envs.step(ZEROS[:2])
        if accepted is None:
            with pytest.raises(ValueError, match="not one number"):
                envs.step(ZEROS[:2])
        else:
            result = envs.step(ZEROS[:2])
            assert result[part][1] == accepted
            assert [one.shape for one in result[1:4]] == [(2,)] * 3
