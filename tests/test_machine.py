"""Machines as their /proc and /sys describe them, made up for it, and what is chosen on each."""

import os
from typing import NamedTuple

import psutil
import pytest

from tests.records import US, chosen
from vecselect import machine
from vecselect.errors import RequestError
from vecselect.machine import hardware_cores, quota_period_s, read_machine
from vecselect.measure import clock, trial

MIB = 1 << 20
CPUS = "sys/devices/system/cpu"
CGROUP = "sys/fs/cgroup"


@pytest.fixture
def described(tmp_path, monkeypatch):
    """Makes this process believe that it runs on a machine with such cores and files."""

    def describe(files, cpus=None):
        if cpus is not None:
            cpus = set(range(cpus)) if isinstance(cpus, int) else cpus
            monkeypatch.setattr(os, "cpu_count", lambda: max(cpus) + 1)
            monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus, raising=False)
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        hardware_cores.cache_clear()
        return tmp_path

    yield describe
    hardware_cores.cache_clear()


# Cores that count, and what is chosen


def siblings(*groups):
    """Files that say which logical cores are threads of one core, such as `0,16`."""
    return {
        f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": group
        for group in groups
        for cpu in group.split(",")
    }


def quota(cores, period_us=100_000):
    limit = f"{int(cores * period_us)} {period_us}"
    return {"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": limit}


PAIRS = siblings(*(f"{core},{core + 16}" for core in range(16)))
BOTH = {*range(8), *range(16, 24)}
UNEQUAL = {f"{CPUS}/cpu{cpu}/cpu_capacity": 1024 if cpu < 4 else 446 for cpu in range(8)}
HYBRID = {
    **siblings(*(f"{cpu},{cpu + 1}" for cpu in range(0, 12, 2))),
    "sys/devices/cpu_atom/cpus": "12-19",
}

# Logical cores (or those that may be used), files, and from them: cores that count; what is chosen
# for 32 sub-environments with steps of 2 us and of 200 us.
MACHINES = {
    "1 core": (1, {}, 1.0, "pool:0", "pool:0"),
    "2 cores": (2, {}, 2.0, "pool:1", "pool:1"),
    "384 cores": (384, {}, 384.0, "pool:7", "pool:31"),
    "16 cores with 32 threads": (32, PAIRS, 20.0, "pool:7", "pool:15"),
    "8 of those, 2 threads of each": (BOTH, PAIRS, 10.0, "pool:7", "pool:7"),
    "1 core with 2 threads": (2, siblings("0,1"), 1.25, "pool:0", "pool:0"),
    "4 fast cores and 4 slow ones": (8, UNEQUAL, 4.0, "pool:3", "pool:3"),
    "the slow ones alone": ({4, 5, 6, 7}, UNEQUAL, 4.0, "pool:3", "pool:3"),
    "6 fast cores with 2 threads, 8 efficient ones": (20, HYBRID, 7.5, "pool:7", "pool:7"),
    "a quota of 2 of 64 cores": (64, quota(2.0), 2.0, "pool:1", "pool:1"),
    "a quota of 1.25 cores": (64, quota(1.25), 1.25, "pool:0", "pool:0"),
    "a quota beyond the cores": (2, quota(999.0), 2.0, "pool:1", "pool:1"),
}


@pytest.mark.parametrize(
    ("cpus", "files", "cores", "modes"),
    [(cpus, files, cores, modes) for cpus, files, cores, *modes in MACHINES.values()],
    ids=MACHINES,
)
def test_the_cores_that_count_and_what_is_chosen(described, cpus, files, cores, modes):
    here = read_machine(described(files, cpus))
    assert here.cores == cores
    assert [chosen(step_s, 32, here) for step_s in (2 * US, 200 * US)] == modes


@pytest.mark.parametrize("name", ["VECSELECT_MAX_CPUS", "SLURM_CPUS_PER_TASK"])
def test_a_variable_bounds_the_cores(name, monkeypatch, tmp_path):
    monkeypatch.setenv(name, "1")
    here = read_machine(tmp_path)
    assert (here.cores, here.cores_bound) == (1.0, name)
    for nothing in ("", "1000000"):
        monkeypatch.setenv(name, nothing)
        assert read_machine(tmp_path).cores_bound == "affinity"
    for wrong in ("0", "x", "1.5", "-1"):
        monkeypatch.setenv(name, wrong)
        if name.startswith("SLURM"):
            assert read_machine(tmp_path).cores_bound == "affinity"
            continue
        with pytest.raises(RequestError, match=f"{name}={wrong}: it takes a whole number"):
            read_machine(tmp_path)


class CpuTimes(NamedTuple):
    user: float
    idle: float


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
    root = described(files, cpus)
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


def test_a_block_takes_a_period_of_the_quota_at_least(described, monkeypatch):
    for period_us in (10_000, 1_000_000):
        root = described(quota(1.5, period_us), 2)
        monkeypatch.setattr(trial, "quota_period_s", lambda root=root: quota_period_s(root))
        assert trial.Trials(0.05)._block_s == max(0.05, period_us * 1e-6)


# Limits of cgroups

V1 = "12:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n"


def v1(folder, quota_us):
    return {f"{folder}/cpu.cfs_quota_us": quota_us, f"{folder}/cpu.cfs_period_us": 100_000}


QUOTAS = {
    "no files": ("", {}, None),
    "a group without files": ("0::/user.slice/job", {}, None),
    "on the mount": ("0::/a/b", {"cpu.max": "300000 100000"}, 3.0),
    "on the parent": ("0::/a/b", {"a/cpu.max": "300000 100000"}, 3.0),
    "beside the path": ("0::/a/b", {"a/other/cpu.max": "100000 100000"}, None),
    "the smaller inside": (
        "0::/a/b",
        {"a/cpu.max": "800000 100000", "a/b/cpu.max": "200000 100000"},
        2.0,
    ),
    "max below a quota": (
        "0::/a/b",
        {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"},
        4.0,
    ),
    "half a core": ("0::/", {"cpu.max": "25000 50000"}, 0.5),
    "version 1": (V1, v1("cpu,cpuacct/job", 250_000), 2.5),
    "version 1 linked, on the mount": (V1, v1("cpu", 250_000), 2.5),
    "version 1 without a limit": (V1, v1("cpu/job", -1), None),
    "version 1, another controller's group": (
        "5:cpuset:/other\n4:cpu,cpuacct:/job",
        v1("cpu/other", 100_000),
        None,
    ),
    "both versions": (
        f"{V1}0::/",
        {"unified/cpu.max": "500000 100000", **v1("cpu/job", 300_000)},
        3.0,
    ),
    "outside of its own": ("0::/../../outside", {"cpu.max": "200000 100000"}, 2.0),
    "a colon in the path": ("0::/a:b", {"a:b/cpu.max": "100000 100000"}, 1.0),
    **{
        f"unreadable: {text!r}": ("0::/", {"cpu.max": text}, None)
        for text in ("", "garbage", "100000 0", "0 100000", "1 2 3")
    },
}


def grouped(group, files):
    return {"proc/self/cgroup": group, **{f"{CGROUP}/{name}": files[name] for name in files}}


@pytest.mark.parametrize(("group", "files", "cores"), QUOTAS.values(), ids=QUOTAS)
def test_the_smallest_quota_along_the_path_counts(described, group, files, cores):
    here = read_machine(described(grouped(group, files)))
    assert here.cores_quota == pytest.approx(cores)
    assert here.cores <= (cores or here.cores_affinity)


def limited(folder, limit, used, names=("memory.max", "memory.current")):
    return {f"{folder}{names[0]}": limit, f"{folder}{names[1]}": used}


NAMES_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
MEMORY = {
    "on the mount": ("0::/a/b", limited("", 64 * MIB, 24 * MIB), (64, 40)),
    "the smaller inside": (
        "0::/a/b",
        {**limited("a/b/", 32 * MIB, 2 * MIB), **limited("a/", 64 * MIB, 2 * MIB)},
        (32, 30),
    ),
    "more in use than allowed": ("0::/", limited("", 8 * MIB, 9 * MIB), (8, 0)),
    "version 1": (V1, limited("memory/job/", 64 * MIB, 16 * MIB, NAMES_V1), (64, 48)),
    "version 1 on the mount": (V1, limited("memory/", 64 * MIB, 16 * MIB, NAMES_V1), (64, 48)),
    "max": ("0::/", limited("", "max", MIB), None),
    "version 1's huge number": (V1, limited("memory/job/", (1 << 63) - 4096, MIB, NAMES_V1), None),
}


@pytest.mark.parametrize(("group", "files", "mib"), MEMORY.values(), ids=MEMORY)
def test_the_smallest_memory_limit_along_the_path_counts(described, group, files, mib):
    unlimited = psutil.virtual_memory().total
    here = read_machine(described(grouped(group, files)))
    if mib is None:
        assert here.memory_bytes == unlimited
        assert here.memory_available_bytes > MIB
    else:
        assert (here.memory_bytes, here.memory_available_bytes) == (mib[0] * MIB, mib[1] * MIB)


def test_the_processors_name_comes_from_cpuinfo_or_is_its_architecture(described):
    assert read_machine(described({})).cpu
    info = {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU: fast @ 2 GHz"}
    assert read_machine(described(info)).cpu == "Some CPU: fast @ 2 GHz"


def test_the_real_machine_is_sane():
    here = read_machine()
    assert 0 < here.cores <= here.cores_affinity <= here.cores_logical == os.cpu_count()
    assert isinstance(here.cores, float)
    assert 0 < here.memory_available_bytes <= here.memory_bytes
    assert here.load_1min >= 0
    assert here.start_methods[0] != "fork"
    assert here.cpu and here.system
    assert here.python.startswith("3.")
