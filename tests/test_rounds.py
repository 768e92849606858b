"""Races of real vector environments: run, recorded, and compared with each other."""

import functools
import time

import pytest
from gymnasium.vector import AutoresetMode

from tests.racers import (
    NUM_ENVS,
    FickleEnv,
    GlobalEnv,
    HomeEnv,
    StuckEnv,
    WaitEnv,
    race,
    the_modes,
    the_terms,
)
from tests.zoo import BusyEnv, EchoEnv, InfoEnv
from vecselect import recommend
from vecselect.errors import ProfileError
from vecselect.planning.rounds import COMPARED_STEPS, TIMED_ONLY_ROUNDS
from vecselect.selection.race import MIN_ROUNDS

pytestmark = pytest.mark.usefixtures("no_process_is_left")


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
    record = race([make] * 3, ["sync", "pool:0", "pool:1", "pool:2", "async"])
    assert record.difference is None
    assert record.out == {}
    assert len(record.entrants) == 5


def test_ended_episodes_are_reset_where_that_is_left_to_the_loop():
    modes = ["sync", "pool:0", "pool:1", "async", "thread:1"]
    options = {"autoreset_mode": AutoresetMode.DISABLED}
    record = race(
        [functools.partial(EchoEnv, index) for index in range(3)], modes, vector_kwargs=options
    )
    assert record.difference is None
    assert record.out == {}
    assert len(record.entrants) == 5


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
        # Its share of the loop is taken from sums, the loop from ratios to the leader's.
        assert 0.5 * 0.002 <= entrant.learner_s < entrant.loop_s.mid
    assert slow.chosen == "sync"


def test_blocks_are_as_long_as_was_asked_for():
    short, long = (
        race(BusyEnv, ["sync"], terms=the_terms(block_s=block_s)) for block_s in (0.001, 0.1)
    )
    assert short.vector_steps == 2
    assert short.vector_steps < long.vector_steps <= 17


def test_it_is_told_what_is_being_done():
    told = []
    race(EchoEnv, terms=the_terms(progress=told.append))
    assert told[:3] == ["building sync", "building pool:1", "round 1: sync, pool:1"]
    assert told[-1].startswith("measuring the advantage")


@pytest.mark.parametrize("max_rounds", [1, 2])
def test_no_more_rounds_than_allowed(max_rounds):
    assert race(EchoEnv, terms=the_terms(max_rounds=max_rounds)).rounds == max_rounds


def test_a_deadline_that_is_past_leaves_no_more_rounds_than_a_choice_takes():
    record = race(EchoEnv, terms=the_terms(max_rounds=50, deadline_s=time.perf_counter() - 5))
    assert 1 <= record.rounds <= MIN_ROUNDS
    assert the_modes(record) == ["sync", "pool:1"]


def test_one_that_is_far_behind_runs_once_and_is_measured_against_all_the_same():
    modes = ["sync", "thread:7", "thread:15"]
    record = race(WaitEnv, modes, num_envs=16, terms=the_terms(block_s=0.05))
    assert record.chosen.startswith("thread:")
    # Once in the rounds, and where the advantage is measured again.
    assert len(record.of("sync").blocks_s) == 1
    assert len(record.of("thread:15").blocks_s) == record.rounds
    assert record.speedup.mid > 4


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


def test_where_the_environment_differs_from_itself_the_times_decide():
    plan = recommend(FickleEnv, 2, effort="race", budget_s=3.0, use_store=False)
    assert plan.evidence.race.difference is None
    assert plan.evidence.race.out == {}
    assert plan.mode != "sync"
    assert [note.code for note in plan.notes if "from one run to the next" in note.text] == [
        "not-repeatable"
    ]
    assert "to the bit" not in str(plan.report)


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
