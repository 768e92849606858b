"""Which modes are considered: numbers of workers, what fits into memory, machines of all sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import MS, US, a_machine, a_profile, chosen, evidence, relaxed
from vecselect.machine import WORKER_BYTES
from vecselect.modes import Mode
from vecselect.selection.candidates import (
    MEMORY_SHARE,
    MOST_WORKERS,
    candidate_modes,
    why_not_enough_memory,
)
from vecselect.selection.evidence import HandOff, LoopCosts, RayCosts

ALL = ("sync", "pool", "thread", "async", "native")


def counts(kind, num_envs, cores, *, off_cpu=0.0, kinds=ALL, **other):
    profile = a_profile(1 * MS, off_cpu=off_cpu)
    found = candidate_modes(evidence(profile, num_envs, cores, kinds=kinds, **other))
    return [mode.workers for mode in found if mode.kind == kind]


@pytest.mark.parametrize(
    ("num_envs", "cores", "off_cpu", "expected"),
    [
        pytest.param(8, 2, 0.0, [0, 1], id="two cores"),
        pytest.param(8, 4, 0.0, [0, 1, 2, 3], id="four cores"),
        pytest.param(8, 8, 0.0, [0, 1, 2, 3, 7], id="4 to 6 workers have the longest slice of 3"),
        pytest.param(12, 64, 0.0, [0, 1, 2, 3, 5, 11], id="one for each longest slice"),
        pytest.param(8, 1, 0.0, [0], id="one core"),
        pytest.param(8, 2.4, 0.0, [0, 1], id="less than half of a third core"),
        pytest.param(8, 2.6, 0.0, [0, 1, 2], id="more than half of it"),
        pytest.param(1, 16, 0.0, [0], id="one environment"),
        pytest.param(1, 16, 1.0, [0], id="one environment that waits"),
        pytest.param(3, 16, 0.0, [0, 1, 2], id="fewer environments than cores"),
        pytest.param(8, 1, 0.9, [0, 1, 2, 3, 7], id="waiting on one core"),
        pytest.param(8, 1, 0.09, [0], id="waiting a little"),
    ],
)
def test_numbers_of_workers(num_envs, cores, off_cpu, expected):
    assert counts("pool", num_envs, cores, off_cpu=off_cpu) == expected


@pytest.mark.parametrize(
    ("num_envs", "cores", "expected"),
    [(8, 1, [1]), (8, 4, [1, 2, 3, 4]), (1, 8, [1]), (8, 64, [1, 2, 3, 4, 8])],
)
def test_where_the_caller_steps_nothing_there_is_a_worker_at_least(num_envs, cores, expected):
    kinds = ("pool", "async")
    assert counts("pool", num_envs, cores, kinds=kinds, caller_steps=False) == expected


@relaxed
@given(st.integers(1, 600), st.floats(0.1, 300), st.floats(0, 1), st.booleans())
def test_workers_differ_in_their_longest_slice_and_every_slice_has_work(
    num_envs, cores, off_cpu, caller_steps
):
    profile = a_profile(1 * MS, off_cpu=off_cpu)
    kinds = ("sync", "pool") if caller_steps else ("pool",)
    known = evidence(profile, num_envs, cores, kinds=kinds, caller_steps=caller_steps)
    found = [mode for mode in candidate_modes(known) if mode.kind == "pool"]
    longest = [-(-num_envs // mode.lanes(num_envs, caller_steps)) for mode in found]
    assert len(set(longest)) == len(longest) <= 2 * num_envs**0.5 + 1
    assert found[0].workers == (0 if caller_steps else 1)
    assert all(mode.why_not(num_envs, caller_steps) is None for mode in found)
    assert max(mode.workers for mode in found) <= MOST_WORKERS
    # None is left out that would have a shorter longest slice on these cores.
    most = num_envs if off_cpu >= 0.1 else min(num_envs, max(int(cores + 0.5), 1))
    assert min(longest) <= max(-(-num_envs // most), -(-num_envs // (MOST_WORKERS + caller_steps)))


@pytest.mark.parametrize(
    ("profile", "num_envs", "expected"),
    [
        (a_profile(5 * MS), 64, []),
        (a_profile(5 * MS, gil_free=True), 8, [1, 2, 3]),
        (a_profile(5 * MS, gil_free=True), 1, []),
        (a_profile(5 * MS, off_cpu=0.9), 8, [1, 2, 3, 7]),
    ],
)
def test_threads_are_considered_where_steps_wait_or_do_without_the_lock(
    profile, num_envs, expected
):
    found = candidate_modes(evidence(profile, num_envs, 4, kinds=ALL))
    assert [mode.workers for mode in found if mode.kind == "thread"] == expected


def test_threads_are_considered_where_there_is_no_pool():
    assert counts("thread", 8, 4, kinds=("sync", "thread")) == [1, 2, 3]


def test_every_worker_has_a_slice_of_each_buffer_and_of_ray_all_actors_and_half_of_them_count():
    ray = RayCosts(fixed_s=0.2 * MS, lane_s=1.0 * MS, lanes=16, cores=16.0)
    halves = {"kinds": ("pool", "ray"), "caller_steps": False, "buffers": 2, "ray": ray}
    assert counts("pool", 9, 16, **halves) == [1, 2, 4]
    assert counts("ray", 9, 16, **halves) == [2, 4]
    assert counts("ray", 12, 2, kinds=("sync", "ray"), ray=ray) == [6, 12]
    assert counts("ray", 64, 2, kinds=("sync", "ray"), ray=ray) == [8, 16]


def test_the_simpler_ones_come_first_and_only_what_can_run_or_was_timed():
    found = candidate_modes(evidence(a_profile(1 * MS, off_cpu=0.5), 4, 2, kinds=ALL))
    assert [str(mode) for mode in found] == [
        *("sync", "pool:0", "pool:1", "pool:3", "thread:1", "thread:3", "async")
    ]
    assert candidate_modes(evidence(1 * MS, kinds=("sync",))) == (Mode("sync"),)


# Memory


def why_not(mode, profile, **machine):
    known = evidence(profile, 8, a_machine(**machine))
    return why_not_enough_memory(Mode.parse(mode), profile, known)


def test_what_does_not_fit_into_memory_is_left_out_with_the_figures():
    profile = a_profile(1 * MS, memory_bytes=1_000_000_000)
    why = why_not("pool:3", profile, memory_available_bytes=9_000_000_000)
    assert f"{8 + 3 * WORKER_BYTES / 1e9:.1f} GB" in why and "7.2 GB" in why and "80%" in why
    assert why_not("pool:3", profile, memory_available_bytes=11_000_000_000) is None
    small = evidence(profile, 8, a_machine(memory_available_bytes=9_000_000_000))
    assert {mode.kind for mode in candidate_modes(small)} == {"sync", "pool"}
    assert all(mode.in_caller_alone for mode in candidate_modes(small))


@pytest.mark.parametrize(
    ("mode", "processes"), [("pool:3", 3), ("async", 8), ("sync", None), ("pool:0", None)]
)
def test_every_process_counts_and_what_runs_in_this_one_is_never_left_out(mode, processes):
    profile, huge = a_profile(1 * MS), a_profile(1 * MS, memory_bytes=1 << 42)
    if processes is None:
        assert why_not(mode, huge) is None
        return
    needed = (8 * 1_000_000 + processes * WORKER_BYTES) / MEMORY_SHARE
    assert why_not(mode, profile, memory_available_bytes=int(needed) + 2) is None
    assert why_not(mode, profile, memory_available_bytes=int(needed) - 2) is not None
    assert why_not(mode, a_profile(1 * MS, memory_bytes=None)) is None


def test_observations_of_async_must_fit_into_shared_memory():
    profile = a_profile(1 * MS, observation_bytes=1_000_000)
    why = why_not("async", profile, shm_available_bytes=8_000_000)
    assert "take 8.0 MB" in why and "/dev/shm has 8.0 MB left" in why
    assert why_not("pool:1", profile, shm_available_bytes=8_000_000) is None
    assert why_not("async", profile, shm_available_bytes=None) is None


def test_where_nothing_fits_the_simplest_is_tried_all_the_same():
    profile = a_profile(1 * MS, memory_bytes=1 << 42)
    known = evidence(profile, 8, 4, kinds=("pool", "async"), caller_steps=False)
    assert candidate_modes(known) == (Mode("pool", 1),)


# Machines of all sizes


def on_a_machine(cores, num_envs, steps, kinds=("sync", "pool", "thread", "async")):
    """What is chosen with the costs of an AMD EPYC."""
    loops = LoopCosts((5 + num_envs) * US, (3 + num_envs / 2) * US, 3 * US)
    return chosen(steps, num_envs, cores, loops=loops, hand_off=HandOff(), kinds=kinds)


@pytest.mark.parametrize("cores", [1, 2, 8, 16, 64, 128])
def test_what_waits_is_spread_out_on_every_machine(cores):
    waiting = a_profile(5 * MS, off_cpu=0.95)
    mode = Mode.parse(on_a_machine(cores, 32, waiting))
    assert mode.kind in ("pool", "thread")
    assert mode.lanes(32) == 32


@pytest.mark.parametrize("num_envs", [2, 8, 32, 128])
@pytest.mark.parametrize("steps", [1 * US, 50 * US, 20 * MS])
def test_more_cores_never_bring_fewer_slices(num_envs, steps):
    found = [
        Mode.parse(on_a_machine(cores, num_envs, steps)).lanes(num_envs)
        for cores in (1, 2, 8, 16, 64, 128)
    ]
    assert found == sorted(found)
