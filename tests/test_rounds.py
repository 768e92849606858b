"""Races of real vector environments: run, recorded, and closed whatever happens."""

import functools
import gc
import multiprocessing
import random
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces

from tests.zoo import BusyEnv, EchoEnv, InfoEnv
from vecselect.errors import ProfileError
from vecselect.measure.learner import read_learner
from vecselect.planning.rounds import COMPARED_STEPS, TIMED_ONLY_ROUNDS, Terms, run_race
from vecselect.request import read_request

NUM_ENVS = 2


def in_a_worker():
    return multiprocessing.parent_process() is not None


class WaitEnv(gym.Env):
    """Waits in each step: a worker halves that however busy the machine is."""

    observation_space = spaces.Box(0, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(3, dtype=np.float32), {}

    def step(self, action):
        time.sleep(0.02)
        return self.np_random.random(3, dtype=np.float32), float(action), False, False, {}


class GlobalEnv(EchoEnv):
    """Draws from the generators of the process it runs in."""

    def step(self, action):
        observation, *rest = super().step(action)
        observation[0] = np.random.random() + random.random()
        return observation, *rest


class HomeEnv(EchoEnv):
    """Fails in a worker, when it comes to `phase`."""

    def __init__(self, phase, steps=0):
        super().__init__()
        self.phase, self.steps_left = phase, steps
        self.enter("construct")

    def enter(self, phase):
        if phase == self.phase and in_a_worker():
            self.steps_left -= 1
            if self.steps_left < 0:
                raise OSError("the licence allows one process")

    def reset(self, **kwargs):
        self.enter("reset")
        return super().reset(**kwargs)

    def step(self, action):
        self.enter("step")
        return super().step(action)


class FlagEnv(EchoEnv):
    """Fails in workers (or everywhere) as soon as a file is there."""

    def __init__(self, file, everywhere=False):
        super().__init__()
        self.file, self.everywhere = file, everywhere

    def step(self, action):
        if (in_a_worker() or self.everywhere) and self.file.exists():
            raise OSError("the cable was pulled")
        return super().step(action)


class ClosingEnv(EchoEnv):
    """Leaves a file for every one that was closed; refuses to close quietly."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def close(self):
        (self.folder / str(time.monotonic_ns())).touch()
        raise OSError("it does not want to close")


class StuckEnv(EchoEnv):
    """Is different in a worker, in a value, in a type or in a key."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if in_a_worker():
            if self.how == "reward":
                reward += 1e-9
            elif self.how == "info":
                info["worker"] = 1
            else:
                observation[2] = np.nextafter(observation[2], 9)
        return observation, reward, terminated, truncated, info


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until_gone(before, limit_s=10.0):
    """Fails unless all child processes but those of `before` end within a while."""
    end_s = time.monotonic() + limit_s
    while not children() <= before and time.monotonic() < end_s:
        time.sleep(0.02)
    assert children() <= before


@pytest.fixture(scope="module", autouse=True)
def helpers_that_stay():
    """The fork server and the resource tracker, which multiprocessing starts once and keeps."""
    race(EchoEnv)


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = children()
    yield
    assert children() <= before


def a_learner(given=None, num_envs=NUM_ENVS):
    return read_learner(0.0 if given is None else given, num_envs, spaces.Discrete(2))


def the_terms(**options):
    values = {"block_s": 0.002, "max_rounds": 3, "deadline_s": time.perf_counter() + 30}
    return Terms(**{**values, **options})


def race(make, modes=("sync", "pool:1"), learner=None, num_envs=NUM_ENVS, terms=None, **options):
    request = read_request(make, None if isinstance(make, list) else num_envs)
    count = request.num_envs
    return run_race(request, modes, a_learner(learner, count), terms or the_terms(), **options)


def the_modes(record):
    return [entrant.mode for entrant in record.entrants]


# The record


def test_a_race_records_the_blocks_of_all():
    record = race(EchoEnv)
    assert the_modes(record) == ["sync", "pool:1"]
    assert record.chosen in ("sync", "pool:1")
    assert record.leader in ("sync", "pool:1")
    assert record.difference is None
    assert record.out == {}
    assert 1 <= record.compared_steps <= COMPARED_STEPS
    assert 1 <= record.rounds <= 3
    assert record.vector_steps >= 2
    assert 0 <= record.p_best <= 1
    assert 0 < record.seconds < 60
    for entrant in record.entrants:
        assert 1 <= len(entrant.blocks_s) <= record.rounds
        assert min(entrant.blocks_s) > 0
        assert entrant.loop_s.low < entrant.loop_s.mid < entrant.loop_s.high
        assert entrant.learner_s == 0.0
    assert max(len(entrant.blocks_s) for entrant in record.entrants) == record.rounds
    assert record.of("sync") is record.entrants[0]
    assert record.of("async") is None


@pytest.mark.parametrize("make", [EchoEnv, InfoEnv, functools.partial(BusyEnv, 1e-4)])
def test_all_modes_return_the_same(make):
    record = race([make] * 3, ["sync", "pool:0", "pool:1", "pool:1:sleep", "pool:2", "async"])
    assert record.difference is None
    assert record.out == {}
    assert len(record.entrants) == 6


def test_infos_that_differ_from_one_sub_environment_to_another_are_no_difference():
    record = race([functools.partial(InfoEnv, index) for index in range(4)], ["sync", "pool:1"])
    assert record.difference is None
    assert record.compared_steps >= 1


def test_the_faster_is_chosen_and_its_advantage_measured_again():
    record = race(WaitEnv, terms=the_terms(block_s=0.01, max_rounds=6))
    assert record.chosen == record.leader == "pool:1"
    assert 1.3 < record.speedup.mid < 4
    assert record.speedup.low < record.speedup.mid < record.speedup.high
    assert record.p_best > 0.5


def test_what_waits_is_faster_in_more_lanes():
    record = race(WaitEnv, ["sync", "pool:1", "pool:3"], num_envs=4)
    assert record.chosen == "pool:3"
    assert record.of("pool:3").loop_s.mid < record.of("sync").loop_s.mid / 2


def test_for_sync_there_is_no_advantage_to_measure():
    record = race(EchoEnv, ["sync"])
    assert (record.chosen, record.leader, record.speedup) == ("sync", "sync", None)
    assert (record.expected_loss, record.p_best, record.rounds) == (0.0, 1.0, 1)


def test_a_race_without_sync():
    record = race(WaitEnv, ["pool:0", "pool:1"], terms=the_terms(max_rounds=6))
    assert record.chosen == "pool:1"
    assert record.speedup is None


def test_the_learner_runs_between_steps_and_counts():
    batches = []
    record = race(EchoEnv, learner=batches.append)
    assert len(batches) > record.vector_steps
    assert all(batch.shape == (NUM_ENVS, 5) for batch in batches)
    slow = race(EchoEnv, learner=0.002)
    for entrant in slow.entrants:
        assert 0.002 <= entrant.learner_s < entrant.loop_s.mid
    assert slow.chosen == "sync"


def test_blocks_are_as_long_as_was_asked_for():
    short, long = (
        race(BusyEnv, ["sync"], terms=the_terms(block_s=block_s)) for block_s in (0.001, 0.1)
    )
    assert short.vector_steps == 2
    assert 4 <= long.vector_steps <= 17


def test_it_is_told_what_is_being_done():
    told = []
    race(EchoEnv, terms=the_terms(progress=told.append))
    assert told[:3] == ["building sync", "building pool:1", "round 1: sync, pool:1"]
    assert told[-1].startswith("measuring the advantage")


@pytest.mark.parametrize("max_rounds", [1, 2])
def test_no_more_rounds_than_allowed(max_rounds):
    assert race(EchoEnv, terms=the_terms(max_rounds=max_rounds)).rounds == max_rounds


def test_a_deadline_that_is_past_leaves_one_round():
    record = race(EchoEnv, terms=the_terms(max_rounds=50, deadline_s=time.perf_counter() - 5))
    assert record.rounds == 1
    assert the_modes(record) == ["sync", "pool:1"]


def test_a_deadline_ends_a_race_that_would_go_on():
    start_s = time.perf_counter()
    terms = the_terms(max_rounds=10**6, stop_loss=0.0, deadline_s=start_s + 1.5)
    record = race(EchoEnv, ["sync", "pool:0"], terms=terms)
    assert record.rounds < 10**5
    assert time.perf_counter() - start_s < 20


# Different results


def test_an_environment_that_draws_from_global_generators_keeps_sync_and_says_where():
    record = race(GlobalEnv, ["sync", "pool:0", "pool:1"])
    assert record.chosen == "sync"
    assert "step 1[0]" in record.difference
    assert record.difference.startswith("pool:0, ")
    assert record.difference.endswith(" in sync")
    assert set(record.out) == {"pool:0", "pool:1"}
    assert all("does not return what sync does" in why for why in record.out.values())
    assert record.speedup is None


@pytest.mark.parametrize(
    ("how", "place"),
    [("reward", "step 1[1]"), ("observation", "step 1[0]"), ("info", "step 1[4]")],
)
def test_the_first_difference_is_named_though_it_be_small(how, place):
    record = race([functools.partial(StuckEnv, how)] * 2)
    assert record.chosen == "sync"
    assert record.difference.startswith(f"pool:1, {place}: ")
    assert place in record.out["pool:1"]


def test_sync_is_kept_though_another_that_returns_the_same_is_faster():
    # pool:0 agrees with sync, the worker does not: then nobody knows about the others either.
    record = race([functools.partial(StuckEnv, "reward")] * 2, ["sync", "pool:0", "pool:1"])
    assert record.chosen == "sync"
    assert the_modes(record) == ["sync", "pool:0"]


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
    def broken():
        raise LookupError("no such joint")

    with pytest.raises(
        ProfileError, match="Every mode failed.*LookupError.*no such joint"
    ) as caught:
        race(broken, modes)
    assert isinstance(caught.value.__cause__, LookupError)


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


# Entrants that are only timed


def test_who_is_only_timed_is_never_chosen_though_it_be_the_fastest():
    record = race(WaitEnv, ["sync", "pool:0", "pool:1"], timed_only=["pool:1"])
    assert record.chosen in ("sync", "pool:0")
    assert record.leader in ("sync", "pool:0")
    assert record.of("pool:1").loop_s.mid < 0.8 * record.of("sync").loop_s.mid


def test_who_is_only_timed_runs_in_the_first_rounds_only():
    terms = the_terms(max_rounds=8, stop_loss=0.0)
    record = race(EchoEnv, ["sync", "pool:0", "pool:1"], timed_only=["pool:1"], terms=terms)
    assert 1 <= len(record.of("pool:1").blocks_s) <= TIMED_ONLY_ROUNDS
    assert len(record.of("sync").blocks_s) >= 2


def test_what_the_only_timed_return_is_not_compared():
    record = race([functools.partial(StuckEnv, "reward")] * 2, timed_only=["pool:1"])
    assert record.difference is None
    assert record.chosen == "sync"
    assert record.of("pool:1") is not None


def test_a_native_environment_is_timed():
    record = race("CartPole-v1", ["sync", "native"], timed_only=["native"])
    assert record.chosen == "sync"
    assert record.difference is None
    assert record.of("native").loop_s.mid > 0


def test_who_is_only_timed_may_fail():
    make = functools.partial(HomeEnv, "construct")
    record = race(make, ["sync", "pool:1"], timed_only=["pool:1"])
    assert list(record.out) == ["pool:1"]
    assert record.chosen == "sync"


def test_where_only_the_only_timed_remain_it_is_a_profile_error():
    with pytest.raises(ProfileError, match="the licence allows one process"):
        race(functools.partial(HomeEnv, "step"), ["pool:1", "pool:0"], timed_only=["pool:0"])
