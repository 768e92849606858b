"""What leaves a doubt about an estimate, and who runs in the race then."""

import dataclasses

import pytest
from vecselect.selection.costs import is_crowded
from vecselect.selection.estimate import Estimate, Forecast
from vecselect.selection.finalists import doubts, finalists, within_time

from tests.records import (
    MS,
    a_machine,
    a_profile,
)
from vecselect.selection.compare import Interval


def an_estimate(mids_s, close, learner_s=0.0):
    forecasts = tuple(Forecast(m, Interval(s, s * 0.9, s * 1.1)) for m, s in mids_s.items())
    mode = min(mids_s, key=mids_s.get) if mids_s else "sync"
    return Estimate(mode, forecasts, tuple(close), {}, learner_s)


CLEAR = an_estimate(
    {"sync": 3.0, "pool:0": 2.9, "pool:1": 1.0, "pool:3": 1.5, "async": 2.0}, ["pool:1"]
)
OPEN = dataclasses.replace(CLEAR, close=("sync", "pool:1"))


def doubted(found=CLEAR, profile=None, **other):
    options = {"crowded": False, "learner": "none", "alike": True, "native": False, **other}
    return doubts(found, profile or a_profile(1 * MS), **options)


def test_a_clear_estimate_leaves_no_doubt():
    assert doubted() == ()
    for learner in ("seconds", "observed"):
        assert doubted(learner=learner) == ()


@pytest.mark.parametrize(
    ("options", "words", "contention"),
    [
        pytest.param({"found": OPEN}, "leaves sync and pool:1 open", False, id="open"),
        pytest.param({"learner": "callable"}, "learner", True, id="learner"),
        pytest.param({"learner": "stand-in"}, "learner", True, id="stand-in"),
        pytest.param(
            {"profile": a_profile(1 * MS, cores_used=1.9)}, "several threads", True, id="threads"
        ),
        pytest.param({"profile": a_profile(1 * MS, wait_share=0.3)}, "wait", False, id="waiting"),
        pytest.param({"alike": False}, "different callables", False, id="unlike"),
        pytest.param({"native": True}, "of its own", False, id="native"),
        pytest.param({"crowded": True}, "use the cores", True, id="crowded"),
    ],
)
def test_what_the_model_cannot_see_is_a_doubt(options, words, contention):
    found = doubted(**options)
    assert len(found) == 1
    assert words in found[0].reason
    assert found[0].reason.endswith(".")
    assert found[0].contention is contention


def test_small_things_are_no_doubt():
    assert doubted(profile=a_profile(1 * MS, cores_used=1.1, wait_share=0.1)) == ()


def test_cores_are_crowded_when_about_half_of_them_do_no_work():
    assert not is_crowded(1.2, a_machine(cores=2.0))
    assert is_crowded(1.05, a_machine(cores=2.0))


def test_doubts_add_up():
    found = doubted(OPEN, learner="callable", alike=False, native=True)
    assert len(found) == 4


def test_a_single_candidate_leaves_nothing_to_doubt_but_a_native_one():
    single = an_estimate({"sync": 1.0}, ["sync"])
    assert doubted(single, learner="callable", alike=False) == ()
    assert len(doubted(single, native=True)) == 1


def finals(found, **other):
    options = {"contention": False, "exhaustive": False, "sleepers": False, **other}
    return finalists(found, **options)


def test_the_open_ones_run_and_always_sync():
    assert finals(OPEN) == ["sync", "pool:1"]
    assert finals(CLEAR) == ["sync", "pool:1"]
    assert finals(dataclasses.replace(CLEAR, close=("pool:3", "async"))) == [
        "sync",
        "pool:3",
        "async",
    ]


def test_sync_does_not_run_where_it_is_no_candidate():
    found = an_estimate({"pool:1": 1.0, "async": 2.0}, ["pool:1"])
    assert finals(found) == ["pool:1"]


def test_where_threads_compete_the_best_pool_runs_too():
    close = dataclasses.replace(CLEAR, close=("sync",))
    assert finals(close) == ["sync"]
    assert finals(close, contention=True) == ["sync", "pool:1"]
    without = an_estimate({"sync": 1.0, "pool:0": 1.0, "async": 2.0}, ["sync"])
    assert finals(without, contention=True) == ["sync"]


def test_exhaustive_runs_everybody():
    assert finals(CLEAR, exhaustive=True) == ["sync", "pool:0", "pool:1", "pool:3", "async"]


def test_sleepers_run_beside_every_pool_with_workers():
    found = dataclasses.replace(CLEAR, close=("pool:0", "pool:1", "pool:3", "async"))
    assert finals(found, sleepers=True) == [
        "sync",
        "pool:0",
        "pool:1",
        "pool:1:sleep",
        "pool:3",
        "pool:3:sleep",
        "async",
    ]


def test_the_least_promising_are_left_out_until_the_rest_can_be_built_in_time():
    modes = ["sync", "pool:0", "pool:1", "pool:3", "async"]
    build_s = dict.fromkeys(modes, 1.0)
    kept = [within_time(modes, CLEAR, build_s, limit_s) for limit_s in (5.0, 4.5, 3.0, 2.0, 0.0)]
    assert kept == [
        modes,
        ["sync", "pool:1", "pool:3", "async"],
        ["sync", "pool:1", "pool:3"],
        ["sync", "pool:1"],
        ["sync", "pool:1"],
    ]
    assert len(modes) == 5


def test_a_sleeper_is_as_promising_as_its_pool_but_goes_first():
    modes = ["sync", "pool:1", "pool:1:sleep", "pool:3", "pool:3:sleep"]
    build_s = dict.fromkeys(modes, 1.0)
    kept = [within_time(modes, CLEAR, build_s, limit_s) for limit_s in (4.0, 3.0, 2.0)]
    assert kept == [
        ["sync", "pool:1", "pool:1:sleep", "pool:3"],
        ["sync", "pool:1", "pool:1:sleep"],
        ["sync", "pool:1"],
    ]


def test_without_sync_the_two_most_promising_remain():
    modes = ["pool:1", "pool:3", "async"]
    assert within_time(modes, CLEAR, dict.fromkeys(modes, 9.0), 1.0) == ["pool:1", "pool:3"]


def test_what_nobody_predicted_is_the_least_promising():
    modes = ["sync", "pool:1", "pool:5"]
    assert within_time(modes, CLEAR, dict.fromkeys(modes, 9.0), 1.0) == ["sync", "pool:1"]


WAITS = an_estimate(
    {"sync": 64.0, "pool:63": 1.0, "thread:31": 2.0, "thread:63": 1.03, "async": 1.2},
    ["thread:63"],
)
SLOW_START_S = {"sync": 0.1, "thread:31": 0.1, "thread:63": 0.1, "pool:63": 9.0, "async": 10.0}


def test_what_takes_too_long_to_start_gives_way_to_what_is_predicted_as_good():
    modes = ["sync", "async", "thread:31", "thread:63", "pool:63"]
    kept = [within_time(modes, WAITS, SLOW_START_S, limit_s) for limit_s in (20.0, 9.5, 9.2, 1.0)]
    assert kept == [
        modes,
        ["sync", "thread:31", "thread:63", "pool:63"],
        ["sync", "thread:63", "pool:63"],
        ["sync", "thread:31", "thread:63"],
    ]


def test_what_takes_too_long_to_start_stays_where_nothing_else_is_predicted_as_good():
    modes = ["sync", "thread:31", "pool:63"]
    assert within_time(modes, WAITS, SLOW_START_S, 1.0) == ["sync", "pool:63"]
