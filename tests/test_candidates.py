"""The candidates: how simple they are, how many workers they have, and what fits into memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import MS, a_machine, a_profile, relaxed
from vecselect.machine import MEMORY_SHARE, WORKER_BYTES
from vecselect.selection.candidates import (
    simplicity,
    why_not_enough_memory,
    worker_counts,
)


def test_the_order_of_simplicity():
    ordered = [
        "sync",
        "pool:0",
        "pool:1",
        "pool:1:sleep",
        "pool:3",
        "pool:3:sleep",
        "pool:12",
        "thread",
        "async",
        "native",
        "something else",
    ]
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(ordered).tolist()
        assert sorted(shuffled, key=simplicity) == ordered


@pytest.mark.parametrize(
    ("num_envs", "cores", "wait_share", "counts"),
    [
        pytest.param(8, 2.0, 0.0, (0, 1), id="two cores"),
        pytest.param(8, 4.0, 0.0, (0, 1, 3), id="four cores"),
        pytest.param(64, 16.0, 0.0, (0, 1, 7, 15), id="many cores"),
        pytest.param(8, 1.0, 0.0, (0, 1), id="one core"),
        pytest.param(8, 2.9, 0.0, (0, 1), id="part of a core"),
        pytest.param(1, 16.0, 0.0, (0,), id="one environment"),
        pytest.param(1, 16.0, 1.0, (0,), id="one environment that waits"),
        pytest.param(2, 16.0, 0.0, (0, 1), id="two environments"),
        pytest.param(3, 16.0, 0.0, (0, 1, 2), id="fewer environments than cores"),
        pytest.param(16, 2.0, 0.9, (0, 1, 3, 7, 15), id="waiting"),
        pytest.param(20, 2.0, 0.9, (0, 1, 3, 7, 15, 19), id="waiting, no power of two"),
        pytest.param(8, 1.0, 0.9, (0, 1, 3, 7), id="waiting on one core"),
        pytest.param(8, 0.5, 0.9, (0, 1, 3, 7), id="waiting on half a core"),
        pytest.param(8, 0.5, 0.0, (0, 1), id="half a core"),
        pytest.param(16, 2.0, 0.09, (0, 1), id="waiting a little"),
    ],
)
def test_numbers_of_workers(num_envs, cores, wait_share, counts):
    profile = a_profile(1 * MS, wait_share=wait_share)
    assert worker_counts(num_envs, a_machine(cores), profile) == counts


@pytest.mark.parametrize(
    ("num_envs", "cores", "wait_share", "counts"),
    [
        pytest.param(8, 2.0, 0.0, (1, 2), id="two cores"),
        pytest.param(8, 4.0, 0.0, (1, 2, 4), id="four cores"),
        pytest.param(64, 16.0, 0.0, (1, 8, 16), id="many cores"),
        pytest.param(8, 1.0, 0.0, (1,), id="one core"),
        pytest.param(8, 0.5, 0.0, (1,), id="half a core"),
        pytest.param(1, 16.0, 1.0, (1,), id="one environment"),
        pytest.param(3, 16.0, 0.0, (1, 3), id="fewer environments than cores"),
        pytest.param(16, 2.0, 0.9, (1, 2, 4, 8, 16), id="waiting"),
    ],
)
def test_numbers_of_workers_where_the_caller_steps_nothing(num_envs, cores, wait_share, counts):
    profile = a_profile(1 * MS, wait_share=wait_share)
    assert worker_counts(num_envs, a_machine(cores), profile, caller_steps=False) == counts


@relaxed
@given(st.integers(1, 600), st.floats(0.1, 300), st.floats(0, 1))
def test_numbers_of_workers_are_few_and_leave_every_lane_an_environment(num_envs, cores, wait):
    for caller_steps in (True, False):
        profile = a_profile(1 * MS, wait_share=wait)
        counts = worker_counts(num_envs, a_machine(cores), profile, caller_steps)
        assert counts[0] == (0 if caller_steps else 1)
        assert list(counts) == sorted(set(counts))
        assert counts[-1] <= num_envs - caller_steps
        assert len(counts) <= 15


def test_what_does_not_fit_into_memory_is_left_out_with_the_figures():
    profile = a_profile(1 * MS, memory_bytes=1_000_000_000)
    machine = a_machine(memory_available_bytes=9_000_000_000)
    why = why_not_enough_memory("pool:3", 8, profile, machine)
    assert "8.1 GB" in why
    assert "7.2 GB" in why
    assert "80%" in why
    roomy = a_machine(memory_available_bytes=11_000_000_000)
    assert why_not_enough_memory("pool:3", 8, profile, roomy) is None


@pytest.mark.parametrize("mode", ["sync", "pool:0"])
def test_what_runs_in_this_process_is_never_left_out(mode):
    profile = a_profile(1 * MS, memory_bytes=1 << 40)
    assert why_not_enough_memory(mode, 8, profile, a_machine()) is None


@pytest.mark.parametrize(("mode", "processes"), [("pool:3", 3), ("pool:3:sleep", 3), ("async", 8)])
def test_every_process_counts(mode, processes):
    needed = 8 * 1_000_000 + processes * WORKER_BYTES
    profile = a_profile(1 * MS)
    fits, too_small = (
        a_machine(memory_available_bytes=int(needed / MEMORY_SHARE) + more) for more in (2, -2)
    )
    assert why_not_enough_memory(mode, 8, profile, fits) is None
    assert why_not_enough_memory(mode, 8, profile, too_small) is not None


def test_memory_nobody_measured_counts_for_nothing():
    profile = a_profile(1 * MS, memory_bytes=None)
    assert why_not_enough_memory("pool:3", 8, profile, a_machine()) is None


def test_observations_of_async_must_fit_into_shared_memory():
    profile = a_profile(1 * MS, observation_bytes=1_000_000)
    small = a_machine(shm_available_bytes=8_000_000)
    why = why_not_enough_memory("async", 8, profile, small)
    assert "/dev/shm has 8.0 MB left" in why
    assert "take 8.0 MB" in why
    assert why_not_enough_memory("pool:1", 8, profile, small) is None
    for left in (1 << 30, None):
        machine = a_machine(shm_available_bytes=left)
        assert why_not_enough_memory("async", 8, profile, machine) is None
