"""The break-even of a mode: the step time from which on it beats the loop."""

import itertools

import pytest

from tests.records import FREE_LOOPS, MS, US, a_profile, mid_s, said, tails


def test_the_break_even_grows_with_the_hand_off():
    found = [
        said(1 * MS, 8, cores=2.0, hand_off_s=cost_s).break_even_s["pool"]
        for cost_s in (0.0, 10 * US, 100 * US, 1 * MS)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_the_break_even_grows_with_the_message():
    found = [
        said(1 * MS, 8, cores=2.0, async_message_s=cost_s).break_even_s["async"]
        for cost_s in (10 * US, 60 * US, 600 * US)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_the_break_even_worked_out_by_hand():
    # Two cores save half of 8 steps; that pays the hand-off from a quarter of it on.
    found = said(
        1 * MS, 8, cores=2.0, modes=("sync", "pool:1"), loops=FREE_LOOPS, hand_off_s=100 * US
    )
    assert found.break_even_s == {"pool": pytest.approx(25 * US)}


def test_at_the_break_even_the_pool_takes_as_long_as_sync():
    for cores, mode in itertools.product((2.0, 3.5, 8.0), ("pool:1", "pool:3")):
        options = {"cores": cores, "modes": ("sync", mode), "hand_off_s": 50 * US, "wake_s": 0.0}
        at_s = said(1 * MS, **options).break_even_s["pool"]
        found = said(at_s, **options)
        assert mid_s(found, mode) == pytest.approx(mid_s(found, "sync"))


def test_at_the_break_even_async_takes_as_long_as_sync():
    at_s = said(1 * MS, 8, cores=2.0).break_even_s["async"]
    found = said(at_s, 8, cores=2.0)
    assert mid_s(found, "async") == pytest.approx(mid_s(found, "sync"), rel=0.01)
    assert found.break_even_s["async"] == pytest.approx(at_s, rel=0.01)


def test_the_break_even_does_not_depend_on_the_length_of_the_steps():
    short, long = (
        said(a_profile(tails(median_s, 4, 0.1)), cores=2.0, modes=("sync", "pool:1"))
        for median_s in (10 * US, 10 * MS)
    )
    assert short.break_even_s["pool"] == pytest.approx(long.break_even_s["pool"])


def test_on_one_core_nothing_that_computes_ever_breaks_even():
    assert said(1 * MS, 8, cores=1.0).break_even_s == {"pool": None, "async": None}


def test_a_pool_without_workers_has_no_break_even():
    assert said(1 * MS, modes=("sync", "pool:0")).break_even_s == {}


def test_without_sync_there_is_nothing_to_break_even_with():
    assert said(1 * MS, modes=("pool:1", "async")).break_even_s == {}
