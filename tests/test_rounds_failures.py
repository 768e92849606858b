"""Races of real vector environments that fail, or are interrupted, leave nothing."""

import functools
import gc
import random
import time

import numpy as np
import pytest

from tests.racers import (
    ClosingEnv,
    FlagEnv,
    GlobalEnv,
    HomeEnv,
    children,
    in_a_worker,
    race,
    the_modes,
    the_terms,
    wait_until_gone,
)
from tests.zoo import EchoEnv
from vecselect.errors import ProfileError
from vecselect.planning.rounds import COMPARED_STEPS

pytestmark = pytest.mark.usefixtures("no_process_is_left")


# Entrants that fail


@pytest.mark.filterwarnings("ignore:.*Received the following error from Worker:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Raising the last exception back to the main:UserWarning")
@pytest.mark.parametrize(
    ("mode", "phase"),
    [
        ("pool:1", "construct"),
        ("pool:1", "reset"),
        ("pool:1", "step"),
        ("async", "reset"),
        ("async", "step"),
    ],
)
def test_an_entrant_that_fails_is_out_and_the_race_goes_on(mode, phase):
    record = race(functools.partial(HomeEnv, phase), ["sync", mode, "pool:0"])
    assert list(record.out) == [mode]
    assert "OSError" in record.out[mode]
    assert "the licence allows one process" in record.out[mode]
    assert the_modes(record) == ["sync", "pool:0"]
    assert record.difference is None


def test_async_that_cannot_be_built_is_out_and_the_race_goes_on():
    # Gymnasium's workers write their traceback to stderr, and the caller sees a broken pipe.
    before = children()
    record = race(functools.partial(HomeEnv, "construct"), ["sync", "async"])
    assert list(record.out) == ["async"]
    assert record.chosen == "sync"
    wait_until_gone(before)


class OneAwayEnv(EchoEnv):
    """Of several the second cannot be built in a worker."""

    def __init__(self, index):
        super().__init__(index)
        if index == 1 and in_a_worker():
            raise OSError("the licence allows one process")


def test_async_of_which_one_cannot_be_built_leaves_no_process():
    before = children()
    gc.disable()
    try:
        record = race([functools.partial(OneAwayEnv, i) for i in range(3)], ["sync", "async"])
        assert list(record.out) == ["async"]
        wait_until_gone(before, limit_s=3)
    finally:
        gc.enable()
        gc.collect()
        wait_until_gone(before)


def test_an_entrant_that_fails_in_a_later_round_is_out():
    make = functools.partial(HomeEnv, "step", COMPARED_STEPS + 20)
    record = race(make, terms=the_terms(max_rounds=10, block_s=0.01))
    assert list(record.out) == ["pool:1"]
    assert record.chosen == "sync"
    assert the_modes(record) == ["sync"]


def test_where_the_first_fails_the_next_ones_race():
    class AwayEnv(EchoEnv):
        def step(self, action):
            if not in_a_worker():
                raise OSError("not in the main process")
            return super().step(action)

    record = race([AwayEnv] * 2, ["sync", "async"])
    assert list(record.out) == ["sync"]
    assert record.chosen == "async"
    assert record.speedup is None


@pytest.mark.parametrize("modes", [["sync"], ["sync", "pool:0", "pool:1"]])
def test_where_all_fail_it_is_a_profile_error_with_the_reason(modes):
    class Broken(EchoEnv):
        def step(self, action):
            raise LookupError("no such joint")

    with pytest.raises(
        ProfileError, match="Every mode failed.*LookupError.*no such joint"
    ) as caught:
        race(Broken, modes)
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize("modes", [["sync"], ["sync", "pool:0", "pool:1"]])
def test_where_none_can_be_built_it_is_what_the_simplest_raised(modes):
    def broken():
        raise LookupError("no such joint")

    with pytest.raises(LookupError, match="^'?no such joint'?$"):
        race(broken, modes)


def when_measured_again(file):
    """Leaves a file when the advantage of the chosen one is about to be measured again."""

    def progress(text):
        if text.startswith("measuring the advantage"):
            file.touch()

    return progress


def test_an_entrant_that_fails_in_the_final_does_not_end_the_race(tmp_path):
    class Slow(FlagEnv):
        def step(self, action):
            time.sleep(0.02)
            return super().step(action)

    terms = the_terms(progress=when_measured_again(tmp_path / "flag"), max_rounds=6)
    record = race(functools.partial(Slow, tmp_path / "flag"), terms=terms)
    assert record.chosen == "sync"
    assert "the cable was pulled" in record.out["pool:1"]


def test_what_fails_in_the_final_leaves_no_process(tmp_path):
    terms = the_terms(progress=when_measured_again(tmp_path / "flag"))
    make = functools.partial(FlagEnv, tmp_path / "flag", everywhere=True)
    before = children()
    try:
        race(make, terms=terms)
    except (OSError, ProfileError) as error:
        assert "the cable was pulled" in str(error)
    assert children() <= before


# The end, whatever happens


@pytest.mark.parametrize("calls", [1, 12], ids=["while warming up", "in the first round"])
def test_a_failing_learner_is_a_profile_error_and_leaves_no_process(calls):
    before, seen = children(), []

    def learn(observations):
        seen.append(children() - before)
        if len(seen) >= calls:
            raise LookupError("no such layer")

    with pytest.raises(ProfileError, match="learner raised LookupError.*no such layer"):
        race(EchoEnv, ["sync", "pool:1", "async"], learner=learn)
    assert seen[0]
    assert children() <= before


@pytest.mark.parametrize("calls", [1, 12], ids=["while warming up", "in the first round"])
def test_ctrl_c_passes_through_and_leaves_no_process(calls):
    before, seen = children(), []

    def learn(observations):
        seen.append(children() - before)
        if len(seen) >= calls:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(EchoEnv, ["sync", "pool:1", "async"], learner=learn)
    assert seen[0]
    assert children() <= before


def test_ctrl_c_while_the_entrants_are_built_leaves_no_process():
    before = children()

    def progress(text):
        if text == "building pool:0":
            assert children() - before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(EchoEnv, ["pool:1", "async", "pool:0"], terms=the_terms(progress=progress))
    assert children() <= before


@pytest.mark.parametrize("fails", [False, True])
def test_every_environment_is_closed_though_it_does_not_want_to(tmp_path, fails):
    def learn():
        if fails:
            raise LookupError("no such layer")

    try:
        race(functools.partial(ClosingEnv, tmp_path), ["sync", "pool:0"], learner=learn)
    except ProfileError:
        assert fails
    assert len(list(tmp_path.iterdir())) >= 2


@pytest.mark.parametrize("fails", [False, True])
def test_global_generators_are_left_as_they_were(fails):
    def learn():
        random.random()
        np.random.random()
        if fails:
            raise LookupError("no such layer")

    python, numpy = random.getstate(), np.random.get_state()
    try:
        race(GlobalEnv, ["sync", "pool:0"], learner=learn)
    except ProfileError:
        assert fails
    assert random.getstate() == python
    for one, other in zip(np.random.get_state(), numpy, strict=True):
        assert np.array_equal(one, other)
