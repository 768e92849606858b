"""The cost model of threads, and when they are worth considering."""

import pytest
from vecselect.selection.estimate import estimate

from tests.records import LOOPS, MS, US, a_calibration, a_machine, a_profile
from vecselect.selection.candidates import lanes_of, processes_of, thread_counts

THREADS = tuple(f"{name}:{count}" for name in ("pool", "thread") for count in (1, 15, 63))


def predicted(profile, cores=2.0, modes=("sync", "pool:0", *THREADS), num_envs=64, **costs):
    calibration = a_calibration(cores, thread_s=15 * US, **costs)
    return estimate(modes, profile, calibration, LOOPS, num_envs, 0.0, cores)


def test_threads_overlap_what_waits_and_take_turns_with_what_computes():
    waiting = predicted(a_profile(5 * MS, wait_share=1.0))
    assert waiting.of("thread:63").mid == pytest.approx(5 * MS, rel=0.25)
    assert waiting.of("thread:15").mid == pytest.approx(20 * MS, rel=0.1)
    computing = predicted(a_profile(5 * MS))
    assert computing.of("thread:63").mid >= computing.of("sync").mid * 0.999
    half = predicted(a_profile(5 * MS, wait_share=0.5))
    assert half.of("thread:63").mid == pytest.approx(64 * 2.5 * MS, rel=0.05)


def test_computing_without_the_lock_overlaps_as_far_as_there_are_cores():
    free = predicted(a_profile(5 * MS, free_share=1.0), cores=4.0)
    assert free.of("thread:15").mid == pytest.approx(64 * 5 * MS / 4, rel=0.1)
    part = predicted(a_profile(5 * MS, free_share=0.5), cores=4.0)
    assert part.of("thread:15").mid == pytest.approx(64 * 5 * MS * (0.5 + 0.5 / 4), rel=0.1)


def test_where_a_pool_needs_a_crowd_of_workers_to_wait_threads_are_chosen():
    found = predicted(a_profile(5 * MS, wait_share=1.0))
    assert found.mode == "thread:63"
    assert found.forecasts[-1].mode == "pool:63"  # after threads: it is the less simple one


def test_where_a_pool_has_cores_for_its_workers_it_stays_the_simpler():
    found = predicted(a_profile(5 * MS, wait_share=1.0), cores=64.0)
    assert found.mode == "pool:63"


def test_where_much_is_computed_between_waits_processes_are_chosen():
    profile = a_profile(5 * MS, wait_share=0.8)
    assert predicted(profile, cores=8.0).mode.startswith("pool:")


@pytest.mark.parametrize(
    ("profile", "num_envs", "counts"),
    [
        (a_profile(5 * MS), 64, ()),
        (a_profile(5 * MS, free_share=0.1), 64, ()),
        (a_profile(5 * MS, free_share=0.6), 64, (3,)),
        (a_profile(5 * MS, free_share=0.6), 2, (1,)),
        (a_profile(5 * MS, free_share=1.0), 1, ()),
        (a_profile(5 * MS, wait_share=0.9), 64, (1, 3, 7, 15, 31, 63)),
        (a_profile(5 * MS, wait_share=0.9), 1, ()),
    ],
)
def test_threads_are_considered_where_steps_wait_or_do_without_the_lock(profile, num_envs, counts):
    assert thread_counts(num_envs, a_machine(4.0), profile) == counts


@pytest.mark.parametrize(
    ("mode", "processes", "lanes"),
    [
        ("sync", 0, 1),
        ("pool:0", 0, 1),
        ("pool:3", 3, 4),
        ("pool:3:sleep", 3, 4),
        ("thread:3", 0, 4),
        ("async", 8, 8),
        ("native", 0, 1),
    ],
)
def test_processes_and_lanes_of_a_mode(mode, processes, lanes):
    assert (processes_of(mode, 8), lanes_of(mode, 8)) == (processes, lanes)
