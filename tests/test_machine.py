"""Reading cores and memory, from trees of /proc and /sys made up for it."""

import dataclasses
import os

import pytest

from vecselect.machine import cpu_quota_cores, read_machine

MIB = 1 << 20


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


def test_without_any_files_there_is_no_quota(tree):
    assert cpu_quota_cores(tree()) is None


def test_a_group_without_files_has_no_quota(tree):
    assert cpu_quota_cores(tree("0::/user.slice/job\n")) is None


@pytest.mark.parametrize(
    "group", ["", "a.slice/", "a.slice/b.service/"], ids=["mount", "parent", "own"]
)
def test_a_quota_on_any_group_along_the_path_counts(tree, group):
    root = tree("0::/a.slice/b.service\n", {f"{group}cpu.max": "300000 100000\n"})
    assert cpu_quota_cores(root) == 3.0


def test_a_quota_beside_the_path_does_not_count(tree):
    root = tree("0::/a.slice/b.service\n", {"a.slice/other/cpu.max": "100000 100000\n"})
    assert cpu_quota_cores(root) is None


@pytest.mark.parametrize(("outer", "inner"), [("800000", "200000"), ("200000", "800000")])
def test_the_smaller_of_nested_quotas_wins(tree, outer, inner):
    files = {"a/cpu.max": f"{outer} 100000\n", "a/b/cpu.max": f"{inner} 100000\n"}
    assert cpu_quota_cores(tree("0::/a/b\n", files)) == 2.0


def test_max_means_none(tree):
    assert cpu_quota_cores(tree("0::/a\n", {"a/cpu.max": "max 100000\n"})) is None


def test_max_inside_does_not_hide_a_quota_above(tree):
    files = {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}
    assert cpu_quota_cores(tree("0::/a/b\n", files)) == 4.0


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 1.5), ("25000 50000", 0.5), ("100000 1000000", 0.1)]
)
def test_a_quota_may_be_a_part_of_a_core(tree, text, cores):
    assert cpu_quota_cores(tree("0::/\n", {"cpu.max": text})) == pytest.approx(cores)


V1 = "12:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n"


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("group", ["job/", ""], ids=["own", "mount"])
def test_version_1_quota(tree, mount, group):
    files = {
        f"{mount}/{group}cpu.cfs_quota_us": "250000\n",
        f"{mount}/{group}cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota_cores(tree(V1, files)) == 2.5


def test_version_1_quota_of_minus_one_means_none(tree):
    files = {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}
    assert cpu_quota_cores(tree(V1, files)) is None


def test_version_1_quota_of_another_controllers_group_does_not_count(tree):
    files = {"cpu/other/cpu.cfs_quota_us": "100000\n", "cpu/other/cpu.cfs_period_us": "100000\n"}
    root = tree("5:cpuset:/other\n4:cpu,cpuacct:/job\n", files)
    assert cpu_quota_cores(root) is None


def test_both_versions_together(tree):
    files = {
        "unified/cpu.max": "500000 100000\n",
        "cpu/job/cpu.cfs_quota_us": "300000\n",
        "cpu/job/cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota_cores(tree(V1 + "0::/\n", files)) == 3.0


@pytest.mark.parametrize("path", ["/kubepods/pod1/container2", "/../../outside"])
def test_in_a_container_the_mount_is_the_own_group(tree, path):
    root = tree(f"0::{path}\n", {"cpu.max": "200000 100000\n"})
    assert cpu_quota_cores(root) == 2.0


def test_a_colon_in_the_path_is_part_of_it(tree):
    assert cpu_quota_cores(tree("0::/a:b\n", {"a:b/cpu.max": "100000 100000\n"})) == 1.0


@pytest.mark.parametrize("text", ["", "garbage\n", "100000 0\n", "0 100000\n", "1 2 3\n"])
def test_an_unreadable_quota_is_none(tree, text):
    assert cpu_quota_cores(tree("0::/\n", {"cpu.max": text})) is None


def test_cores_are_the_least_of_affinity_and_quota(tree):
    affinity = read_machine(tree()).cores
    machine = read_machine(tree("0::/\n", {"cpu.max": "50000 100000\n"}))
    assert (machine.cores, machine.cores_quota) == (0.5, 0.5)
    machine = read_machine(tree("0::/\n", {"cpu.max": "99900000 100000\n"}))
    assert (machine.cores, machine.cores_quota) == (affinity, 999.0)


@pytest.mark.parametrize("name", ["VECSELECT_MAX_CPUS", "SLURM_CPUS_PER_TASK"])
def test_a_variable_bounds_the_cores(name, monkeypatch, tmp_path):
    monkeypatch.setenv(name, "1")
    machine = read_machine(tmp_path)
    assert (machine.cores, machine.cores_bound) == (1.0, name)
    for nothing in ("", "0", "many", "1000000"):
        monkeypatch.setenv(name, nothing)
        assert read_machine(tmp_path).cores_bound == "affinity"


@pytest.mark.parametrize("group", ["", "a/", "a/b/"], ids=["mount", "parent", "own"])
def test_version_2_memory_limit(tree, group):
    files = {f"{group}memory.max": f"{64 * MIB}\n", f"{group}memory.current": f"{24 * MIB}\n"}
    machine = read_machine(tree("0::/a/b\n", files))
    assert machine.memory_bytes == 64 * MIB
    assert machine.memory_available_bytes == 40 * MIB


@pytest.mark.parametrize(("outer", "inner"), [(32, 64), (64, 32)])
def test_the_smaller_of_nested_memory_limits_wins(tree, outer, inner):
    files = {
        "a/memory.max": f"{outer * MIB}\n",
        "a/memory.current": f"{2 * MIB}\n",
        "a/b/memory.max": f"{inner * MIB}\n",
        "a/b/memory.current": f"{2 * MIB}\n",
    }
    machine = read_machine(tree("0::/a/b\n", files))
    assert (machine.memory_bytes, machine.memory_available_bytes) == (32 * MIB, 30 * MIB)


def test_memory_in_use_beyond_the_limit_leaves_none(tree):
    files = {"memory.max": f"{8 * MIB}\n", "memory.current": f"{9 * MIB}\n"}
    assert read_machine(tree("0::/\n", files)).memory_available_bytes == 0


@pytest.mark.parametrize("group", ["job/", ""], ids=["own", "mount"])
def test_version_1_memory_limit(tree, group):
    files = {
        f"memory/{group}memory.limit_in_bytes": f"{64 * MIB}\n",
        f"memory/{group}memory.usage_in_bytes": f"{16 * MIB}\n",
    }
    machine = read_machine(tree(V1, files))
    assert (machine.memory_bytes, machine.memory_available_bytes) == (64 * MIB, 48 * MIB)


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/\n", {"memory.max": "max\n", "memory.current": f"{MIB}\n"}),
        (
            V1,
            {
                "memory/job/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/job/memory.usage_in_bytes": f"{MIB}\n",
            },
        ),
    ],
    ids=["max", "version 1's huge number"],
)
def test_no_memory_limit_leaves_the_machines_own(tree, cgroup, files):
    unlimited = read_machine(tree()).memory_bytes
    machine = read_machine(tree(cgroup, files))
    assert machine.memory_bytes == unlimited
    assert machine.memory_available_bytes > MIB


def test_the_processors_name_comes_from_cpuinfo(tree):
    root = tree(cpuinfo="processor\t: 0\nmodel name\t: Some CPU: fast @ 2 GHz\n")
    assert read_machine(root).cpu == "Some CPU: fast @ 2 GHz"


def test_a_processor_without_a_name_has_its_architecture(tree):
    assert read_machine(tree()).cpu


def test_the_real_machine_is_sane():
    machine = read_machine()
    assert 0 < machine.cores <= machine.cores_affinity <= machine.cores_logical
    assert machine.cores_logical == os.cpu_count()
    assert isinstance(machine.cores, float)
    assert 0 < machine.memory_available_bytes <= machine.memory_bytes
    assert machine.load_1min >= 0
    assert machine.start_methods[0] != "fork"
    assert machine.cpu
    assert machine.system
    assert machine.python.startswith("3.")


def test_a_machine_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_machine().cores = 64.0
