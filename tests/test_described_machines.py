"""Machines described by what their system says of them, and what is chosen on each."""

import os
from typing import NamedTuple

import psutil
import pytest

from tests.records import US, chosen
from vecselect import machine
from vecselect.machine import hardware_cores, quota_period_s, read_machine
from vecselect.measure import clock, trial


class CpuTimes(NamedTuple):
    user: float
    idle: float


def siblings(*groups):
    """Files that say which logical cores are threads of one core, such as `0,16`."""
    files = {}
    for group in groups:
        for cpu in map(int, group.split(",")):
            files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{group}\n"
    return files


def quota(cores, period_us=100_000):
    return {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": f"{int(cores * period_us)} {period_us}\n",
    }


PAIRS = [f"{core},{core + 16}" for core in range(16)]
BOTH = {*range(8), *range(16, 24)}
UNEQUAL = {
    f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": f"{1024 if cpu < 4 else 446}\n"
    for cpu in range(8)
}
HYBRID = {
    **siblings(*(f"{cpu},{cpu + 1}" for cpu in range(0, 12, 2))),
    "sys/devices/cpu_atom/cpus": "12-19\n",
}

# Logical cores (or those that may be used), files, and from them: cores that count; what is chosen
# for 32 sub-environments with steps of 2 us and of 200 us.
MACHINES = {
    "1 core": (1, {}, 1.0, "pool:0", "pool:0"),
    "2 cores": (2, {}, 2.0, "pool:1", "pool:1"),
    "16 cores": (16, {}, 16.0, "pool:7", "pool:15"),
    "384 cores": (384, {}, 384.0, "pool:7", "pool:31"),
    "16 cores with 32 threads": (32, siblings(*PAIRS), 20.0, "pool:7", "pool:15"),
    "8 of those, 2 threads of each": (BOTH, siblings(*PAIRS), 10.0, "pool:7", "pool:7"),
    "1 core with 2 threads": (2, siblings("0,1"), 1.25, "pool:0", "pool:0"),
    "4 fast cores and 4 slow ones": (8, UNEQUAL, 4.0, "pool:3", "pool:3"),
    "the slow ones alone": ({4, 5, 6, 7}, UNEQUAL, 4.0, "pool:3", "pool:3"),
    "6 fast cores with 2 threads, 8 efficient ones": (20, HYBRID, 7.5, "pool:7", "pool:7"),
    "a quota of 2 of 64 cores": (64, quota(2.0), 2.0, "pool:1", "pool:1"),
    "a quota of 1.25 cores": (64, quota(1.25), 1.25, "pool:0", "pool:0"),
}


@pytest.fixture
def described(tmp_path, monkeypatch):
    """Makes this process believe that it runs on another machine; returns its root."""

    def describe(cpus, files):
        cpus = set(range(cpus)) if isinstance(cpus, int) else cpus
        monkeypatch.setattr(os, "cpu_count", lambda: max(cpus) + 1)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus, raising=False)
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        hardware_cores.cache_clear()
        return tmp_path

    yield describe
    hardware_cores.cache_clear()


@pytest.mark.parametrize(
    ("cpus", "files", "cores", "modes"),
    [(cpus, files, cores, modes) for cpus, files, cores, *modes in MACHINES.values()],
    ids=MACHINES,
)
def test_the_cores_that_count_and_what_is_chosen(described, cpus, files, cores, modes):
    here = read_machine(described(cpus, files))
    assert here.cores == cores
    assert [chosen(step_s, 32, here) for step_s in (2 * US, 200 * US)] == modes


@pytest.mark.parametrize(
    ("cpus", "files", "busy", "taken"),
    [
        pytest.param(4, {}, 1, 1.0, id="one of 4 cores"),
        pytest.param(64, quota(2.0), 40, 0.0, id="enough are left for a quota of 2"),
        pytest.param(64, quota(2.0), 63, 1.0, id="one of the 2"),
        pytest.param({40, 41}, {}, 40, 0.0, id="others than those that may be used"),
        pytest.param({39, 40}, {}, 40, 1.0, id="one of those that may be used"),
    ],
)
def test_cores_that_neighbours_take(described, monkeypatch, cpus, files, busy, taken):
    root = described(cpus, files)
    monkeypatch.setattr(clock, "spare_cores", lambda: machine.spare_cores(root))
    now_s = 0.0

    def cpu_times(percpu):
        return [CpuTimes(now_s * (cpu < busy), now_s * (cpu >= busy)) for cpu in range(64)]

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    monkeypatch.setattr(clock, "process_tree", set)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now_s)
    load = clock.ForeignLoad()
    now_s = 100.0
    assert load.cores() == pytest.approx(taken, abs=0.01)


@pytest.mark.parametrize("period_us", [10_000, 100_000, 1_000_000])
def test_a_block_takes_a_period_of_the_quota_at_least(described, monkeypatch, period_us):
    root = described(2, quota(1.5, period_us))
    monkeypatch.setattr(trial, "quota_period_s", lambda: quota_period_s(root))
    trials = trial.Trials(0.05)
    assert trials._block_s == max(0.05, period_us * 1e-6)
