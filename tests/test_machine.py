"""Reading cores and memory, from trees of /proc and /sys made up for it."""

import dataclasses
import os

import pytest

from vecselect.errors import RequestError
from vecselect.machine import read_machine

MIB = 1 << 20
V1 = "12:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n"


@pytest.fixture
def tree(tmp_path):
    """Writes files below a made-up root and returns that root."""

    def write(cgroup=None, files=None, cpuinfo=None):
        texts = {
            "proc/self/cgroup": cgroup,
            "proc/cpuinfo": cpuinfo,
            **{f"sys/fs/cgroup/{name}": text for name, text in (files or {}).items()},
        }
        for name, text in texts.items():
            if text is not None:
                file = tmp_path / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        return tmp_path

    return write


def v1(folder, quota, period=100_000):
    return {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }


QUOTAS = {
    "no files": (None, {}, None),
    "a group without files": ("0::/user.slice/job\n", {}, None),
    "on the mount": ("0::/a/b\n", {"cpu.max": "300000 100000\n"}, 3.0),
    "on the parent": ("0::/a/b\n", {"a/cpu.max": "300000 100000\n"}, 3.0),
    "on its own group": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n"}, 3.0),
    "beside the path": ("0::/a/b\n", {"a/other/cpu.max": "100000 100000\n"}, None),
    "the smaller inside": (
        "0::/a/b\n",
        {"a/cpu.max": "800000 100000\n", "a/b/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "max": ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
    "max below a quota": (
        "0::/a/b\n",
        {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"},
        4.0,
    ),
    "one and a half": ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
    "half a core": ("0::/\n", {"cpu.max": "25000 50000"}, 0.5),
    "version 1": (V1, v1("cpu,cpuacct/job", 250_000), 2.5),
    "version 1 linked, on the mount": (V1, v1("cpu", 250_000), 2.5),
    "version 1 without a limit": (V1, v1("cpu/job", -1), None),
    "version 1, another controller's group": (
        "5:cpuset:/other\n4:cpu,cpuacct:/job\n",
        v1("cpu/other", 100_000),
        None,
    ),
    "both versions": (
        V1 + "0::/\n",
        {"unified/cpu.max": "500000 100000\n", **v1("cpu/job", 300_000)},
        3.0,
    ),
    "in a container": ("0::/kubepods/pod1/c2\n", {"cpu.max": "200000 100000\n"}, 2.0),
    "outside of its own": ("0::/../../outside\n", {"cpu.max": "200000 100000\n"}, 2.0),
    "a colon in the path": ("0::/a:b\n", {"a:b/cpu.max": "100000 100000\n"}, 1.0),
    **{
        f"unreadable: {text!r}": ("0::/\n", {"cpu.max": text}, None)
        for text in ("", "garbage\n", "100000 0\n", "0 100000\n", "1 2 3\n")
    },
}


@pytest.mark.parametrize(("cgroup", "files", "cores"), QUOTAS.values(), ids=QUOTAS)
def test_the_smallest_quota_along_the_path_counts(tree, cgroup, files, cores):
    assert read_machine(tree(cgroup, files)).cores_quota == pytest.approx(cores)


@pytest.mark.parametrize("name", ["VECSELECT_MAX_CPUS", "SLURM_CPUS_PER_TASK"])
def test_a_variable_bounds_the_cores(name, monkeypatch, tmp_path):
    monkeypatch.setenv(name, "1")
    machine = read_machine(tmp_path)
    assert (machine.cores, machine.cores_bound) == (1.0, name)
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


def limited(folder, limit, used, names=("memory.max", "memory.current")):
    return {f"{folder}{names[0]}": f"{limit}\n", f"{folder}{names[1]}": f"{used}\n"}


NAMES_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
INNER, OUTER = limited("a/b/", 32 * MIB, 2 * MIB), limited("a/", 64 * MIB, 2 * MIB)
MEMORY = {
    **{
        f"version 2 on {folder or 'the mount'}": (
            "0::/a/b\n",
            limited(folder, 64 * MIB, 24 * MIB),
            (64, 40),
        )
        for folder in ("", "a/", "a/b/")
    },
    "the smaller inside": ("0::/a/b\n", {**INNER, **OUTER}, (32, 30)),
    "more in use than allowed": ("0::/\n", limited("", 8 * MIB, 9 * MIB), (8, 0)),
    "version 1 on the mount": (V1, limited("memory/", 64 * MIB, 16 * MIB, NAMES_V1), (64, 48)),
    "max": ("0::/\n", limited("", "max", MIB), None),
    "version 1's huge number": (V1, limited("memory/job/", (1 << 63) - 4096, MIB, NAMES_V1), None),
}


@pytest.mark.parametrize(("cgroup", "files", "mib"), MEMORY.values(), ids=MEMORY)
def test_the_smallest_memory_limit_along_the_path_counts(tree, cgroup, files, mib):
    unlimited = read_machine(tree()).memory_bytes
    machine = read_machine(tree(cgroup, files))
    if mib is None:
        assert machine.memory_bytes == unlimited
        assert machine.memory_available_bytes > MIB
    else:
        assert machine.memory_bytes == mib[0] * MIB
        assert machine.memory_available_bytes == mib[1] * MIB


def test_the_processors_name_comes_from_cpuinfo_or_is_its_architecture(tree):
    assert read_machine(tree()).cpu
    root = tree(cpuinfo="processor\t: 0\nmodel name\t: Some CPU: fast @ 2 GHz\n")
    assert read_machine(root).cpu == "Some CPU: fast @ 2 GHz"


def test_the_real_machine_is_sane_and_frozen():
    machine = read_machine()
    assert 0 < machine.cores <= machine.cores_affinity <= machine.cores_logical
    assert machine.cores_logical == os.cpu_count()
    assert isinstance(machine.cores, float)
    assert 0 < machine.memory_available_bytes <= machine.memory_bytes
    assert machine.load_1min >= 0
    assert machine.start_methods[0] != "fork"
    assert machine.cpu and machine.system
    assert machine.python.startswith("3.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        machine.cores = 64.0
