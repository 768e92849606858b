"""What this machine gives us: cores, memory, load, start methods."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import platform
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vecselect.errors import RequestError
from vecselect.process.contexts import start_methods

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WORKER_BYTES = 20_000_000
"""What a child with Gymnasium loaded takes of its own, environment not included: measured 18.5-20.6
MB beside what it shares with others, by fork server and spawned."""

MEMORY_SHARE = 0.8
"""Share of the memory available that a vector environment may take."""

MAX_CPUS = "VECSELECT_MAX_CPUS"
CORE_VARIABLES = (MAX_CPUS, "SLURM_CPUS_PER_TASK")
"""Environment variables that say how many cores are meant for this process."""

SECOND_THREAD = 0.25
"""What the second hardware thread of a core adds to it: 10 to 40 % is published for simulators."""

SLOW = 0.7
"""Cores slower than this, in terms of the fastest, are left to others: a vector step takes as long
as its slowest slice."""

SHARED = "shared or slow cores"
"""The bound that `hardware_cores` is, where it is one."""

_UNLIMITED_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as a number near 2**63, rounded down to a page."""


@dataclass(frozen=True)
class Machine:
    """The machine as seen by this process.

    Attributes:
        cores: Cores this process may use at once: the least of affinity, what those cores are
            worth (`hardware_cores`), cgroup quota, `VECSELECT_MAX_CPUS` and `SLURM_CPUS_PER_TASK`.
            A float, since a quota may be 1.5 cores.
        cores_logical: Logical cores of the whole machine.
        cores_affinity: Cores this process is allowed to run on.
        cores_quota: The cgroup's quota in cores; None without one.
        memory_bytes: The machine's memory, or a cgroup's limit; 2**60 where neither is known.
        memory_available_bytes: What of that can be had now without swapping.
        shm_available_bytes: What is left in /dev/shm; None where there is none.
        load_1min: Runnable processes, averaged over a minute; None where that is not known.
        start_methods: Of multiprocessing, ours first.
        cpu: The processor's name, or else its architecture.
        system: Operating system and release.
        python: Version and implementation, with a mark for a free-threaded build.
        cores_bound: Which bound `cores` is: `affinity`, `SHARED`, `quota`, or a variable's name.
    """

    cores: float
    cores_logical: int
    cores_affinity: int
    cores_quota: float | None
    memory_bytes: int
    memory_available_bytes: int
    shm_available_bytes: int | None
    load_1min: float | None
    start_methods: tuple[str, ...]
    cpu: str
    system: str
    python: str
    cores_bound: str = "affinity"


def read_machine(root: Path = Path("/")) -> Machine:
    """Reads the machine as it is now, in a few milliseconds; starts nothing.

    Args:
        root: Where `/proc` and `/sys` are found; tests give a made-up one.

    Raises:
        RequestError: If `VECSELECT_MAX_CPUS` holds no whole number of cores.
    """
    affinity = usable_cpus()
    bounds = _core_limits(root)
    bound = min(bounds, key=bounds.__getitem__)
    memory_bytes, available_bytes = read_memory(root)
    return Machine(
        cores=bounds[bound],
        cores_logical=os.cpu_count() or 1,
        cores_affinity=len(affinity),
        cores_quota=bounds.get("quota"),
        memory_bytes=memory_bytes,
        memory_available_bytes=available_bytes,
        shm_available_bytes=_left_in(root / "dev/shm"),
        load_1min=_load(),
        start_methods=start_methods(),
        cpu=_cpu_name(root),
        system=f"{platform.system()} {platform.release()}",
        python=_python(),
        cores_bound=bound,
    )


def usable_cpus() -> frozenset[int]:
    """The numbers of the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def spare_cores(root: Path = Path("/")) -> float:
    """Cores that this process may run on, but for a quota or a variable does not use."""
    limits = _core_limits(root)
    return min(limits["affinity"], limits[SHARED]) - min(limits.values())


def _core_limits(root: Path) -> dict[str, float]:
    """Every limit on the cores that this process may use at once, by its name."""
    cpus = usable_cpus()
    limits = {"affinity": float(len(cpus)), SHARED: hardware_cores(root, cpus)}
    if quotas := _quotas(root):
        limits["quota"] = min(cores for cores, _ in quotas)
    for name in CORE_VARIABLES:
        text = os.environ.get(name, "").strip()
        if text.isdecimal() and int(text) > 0:
            limits[name] = float(text)
        elif text and name == MAX_CPUS:  # SLURM's is not the user's to correct
            raise RequestError(
                f"{name}={text}: it takes a whole number of cores, 1 or more; unset it to use all."
            )
    return limits


@functools.lru_cache(maxsize=8)
def hardware_cores(root: Path, cpus: frozenset[int]) -> float:
    """What some logical cores are worth, in cores that have one thread and full speed."""
    folder = root / "sys/devices/system/cpu"
    speeds = {cpu: _read(folder / f"cpu{cpu}/cpu_capacity").strip() or "1024" for cpu in cpus}
    slow = _numbers(_read(root / "sys/devices/cpu_atom/cpus"))  # Intel's efficient cores
    slow |= {cpu for cpu in cpus if int(speeds[cpu]) < SLOW * max(map(int, speeds.values()))}
    fast = cpus - slow or cpus
    if hasattr(os, "sched_getaffinity"):
        names = {_read(folder / f"cpu{cpu}/topology/thread_siblings_list") or cpu for cpu in fast}
        whole = len(names)
    else:
        cores: int | None = _of_psutil(lambda psutil: psutil.cpu_count(logical=False), None)
        whole = min(cores or len(fast), len(fast))
    return whole + SECOND_THREAD * (len(fast) - whole)


def _numbers(text: str) -> frozenset[int]:
    """The numbers in a list of the kernel's, such as `0-3,8`."""
    spans = (part.partition("-") for part in text.strip().split(",") if part)
    return frozenset(
        number for first, _, last in spans for number in range(int(first), int(last or first) + 1)
    )


def _of_psutil(ask: Callable[[Any], T], otherwise: T) -> T:
    """What psutil tells; without /proc, or on a system it does not know, it raises anything."""
    try:
        import psutil

        return ask(psutil)
    except Exception:
        return otherwise


def resident_bytes() -> int | None:
    """Memory that this process takes; None where the system does not tell."""
    return _of_psutil(lambda psutil: int(psutil.Process().memory_info().rss), None)


def memory_kind() -> str:
    """The measure of memory that `tree_bytes` adds up on this system."""
    kind = "resident" if _proportional_bytes(os.getpid()) is None else "proportional"
    return f"{kind} set size"


def tree_bytes() -> int:
    """Memory of this process, of all that it has started, and of all below those.

    On Linux each process counts with its proportional set size, where pages that several share
    count once altogether; elsewhere with its resident set size, where they count in each.
    """
    import psutil

    total = 0
    for pid in process_tree():
        with contextlib.suppress(psutil.Error):  # it has just ended
            found = _proportional_bytes(pid)
            total += psutil.Process(pid).memory_info().rss if found is None else found
    return total


def _proportional_bytes(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "Pss:"), None)


def process_tree() -> set[int]:
    """The ids of this process, of all that it has started, and of all below those."""
    # What a fork server of another process has started for this one is no child of it.
    started = {child.pid for child in multiprocessing.active_children()}
    tree = {os.getpid(), *(pid for pid in started if pid is not None)}
    above = list(tree)
    while above:
        new = children_pids(above.pop()) - tree
        tree |= new
        above += new
    return tree


def children_pids(pid: int | None = None) -> frozenset[int]:
    """The ids of the processes that this or another process has started, where it can be told."""
    files = list(Path(f"/proc/{pid or 'self'}/task").glob("*/children"))
    if files:  # Linux; psutil would look through every process of the machine
        return frozenset(int(pid) for file in files for pid in _read(file).split())
    # Also where it has just ended.
    children: list[Any] = _of_psutil(lambda psutil: psutil.Process(pid).children(), [])
    return frozenset(child.pid for child in children)


def read_memory(root: Path = Path("/")) -> tuple[int, int]:
    """The bytes that this process may use, and what of them can be had now without swapping.

    Those of the machine, or less by the limit of a cgroup: there the kernel kills at that limit,
    whatever the machine has left.
    """
    memory: Any = _of_psutil(lambda psutil: psutil.virtual_memory(), None)
    total = free = _UNLIMITED_BYTES
    if memory is not None:
        total, free = int(memory.total), int(memory.available)
    limit, left = _memory_limits(root)
    return min(total, limit), min(free, left)


def memory_picture(exitcode: int | None) -> str:
    """A hint that memory may have run out, for a process that was ended by SIGKILL; else empty."""
    killed = getattr(signal, "SIGKILL", None)  # Windows has none
    if killed is None or exitcode != -killed:
        return ""
    total_bytes, free_bytes = read_memory()
    return (
        " vecselect does not send that signal: the machine may be out of memory "
        f"({free_bytes / 1e9:.1f} of {total_bytes / 1e9:.1f} GB are free now)."
    )


def why_no_room(needed_bytes: float, available_bytes: float) -> str | None:
    """Why `MEMORY_SHARE` of the available memory is exceeded, as a sentence; None if it is not."""
    allowed = MEMORY_SHARE * available_bytes
    if needed_bytes <= allowed:
        return None
    return (
        f"it would take about {needed_bytes / 1e9:.1f} GB, and {MEMORY_SHARE:.0%} of the memory "
        f"available is {allowed / 1e9:.1f} GB"
    )


def quota_period_s(root: Path = Path("/")) -> float:
    """The longest period over which the kernel keeps a CPU quota; 0.0 without one.

    Within a period all cores may be used until the quota is spent, and none after that. So whatever
    is timed for less than a period may have seen the one or the other.
    """
    return max((period_s for _, period_s in _quotas(root)), default=0.0)


def _quotas(root: Path) -> list[tuple[float, float]]:
    """The CPU quotas that bind this process: cores, and seconds of a period.

    A quota may be set on any group above ours, so every group along the path in
    `/proc/self/cgroup` is read, in version 2 (`cpu.max`) and in version 1 (`cpu.cfs_quota_us`).
    """
    quotas = []
    for folder in _groups(root, "cpu"):
        words = _read(f"{folder}/cpu.max").split()
        if not words:
            words = [_read(f"{folder}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        try:
            quota_us, period_us = map(int, words)
        except ValueError:  # no such file, or "max"
            continue
        if quota_us > 0 and period_us > 0:
            quotas.append((quota_us / period_us, period_us * 1e-6))
    return quotas


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows; no /proc
        return None


def _memory_limits(root: Path) -> tuple[int, int]:
    """The least cgroup memory limit that binds this process, and the least that is left of one."""
    limit = left = _UNLIMITED_BYTES
    for folder in _groups(root, "memory"):
        for limit_name, used_name in (("max", "current"), ("limit_in_bytes", "usage_in_bytes")):
            allowed = _read(f"{folder}/memory.{limit_name}").strip()
            if allowed.isdigit():
                used = _read(f"{folder}/memory.{used_name}").strip()
                limit = min(limit, int(allowed))
                left = min(left, max(int(allowed) - int(used if used.isdigit() else 0), 0))
    return limit, left


def _groups(root: Path, controller: str) -> list[str]:
    """The folders of this process's cgroup and of all above it, for one controller."""
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            mounts = [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"]
        else:
            continue
        # Inside a container the path is the host's and need not exist here: the missing folders
        # read as empty, and the mount itself is then the container's own group.
        names = [name for name in path.split("/") if name]
        paths = ["/".join(names[:depth]) for depth in range(len(names), -1, -1)]
        folders += [os.path.join(root, mount, inside) for mount in mounts for inside in paths]
    return list(dict.fromkeys(folders))


def _read(file: str | Path) -> str:
    try:
        with open(file) as opened:
            return opened.read()
    except OSError:
        return ""


def _left_in(folder: Path) -> int | None:
    """Bytes that can still be written into a folder's file system; None if there is no such."""
    try:
        found = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize


def _cpu_name(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _python() -> str:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    build = "" if gil else ", free-threaded"
    return f"{platform.python_version()} ({platform.python_implementation()}{build})"
