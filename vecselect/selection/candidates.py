"""Which modes are worth considering for a request, and how simple each is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vecselect.lanes import (
    NO_CALLER,
    count_lanes,
    fewest_workers,
    most_workers,
    usual_workers,
)
from vecselect.machine import MEMORY_SHARE, WORKER_BYTES, why_no_room
from vecselect.selection.rule import WAITING

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.measure.step import StepProfile

THREADS_SHARE = 0.25
"""Share of the computing that must do without the interpreter's lock for threads to be worth
considering where nothing waits."""

CROWD = 2
"""A pool with more than so many workers per core needs them only to wait: threads wait as well."""


def simplicity(mode: str, cores: float = math.inf) -> tuple[int, int, int]:
    """A key that sorts candidates, the simpler ones first; workers that sleep come after others.

    Args:
        mode: The candidate.
        cores: The cores there are. A pool with several times as many workers comes after threads,
            as `async` does: each process takes memory, descriptors and time to start, only to wait.
    """
    name, _, rest = mode.partition(":")
    workers, _, manner = rest.partition(":")
    order = ("sync", "pool", "thread", "async", "crowd", "native", "ray")
    count = int(workers or 0)
    if name == "pool" and count > CROWD * max(cores, 1.0):
        name = "crowd"
    place = order.index(name) if name in order else len(order)
    return place, count, bool(manner)


def processes_of(mode: str, num_envs: int) -> int:
    """The processes that a mode starts."""
    name = mode.partition(":")[0]
    return num_envs if name == "async" else simplicity(mode)[1] if name == "pool" else 0


def lanes_of(mode: str, num_envs: int, caller_steps: bool = True) -> int:
    """The lanes that a mode steps side by side; each process of `async` is one."""
    name = mode.partition(":")[0]
    if name == "async":
        return num_envs
    own = caller_steps and name not in NO_CALLER
    return min(max(count_lanes(simplicity(mode)[1], own), 1), num_envs)


def thread_counts(
    num_envs: int, machine: Machine, profile: StepProfile, caller_steps: bool = True
) -> tuple[int, ...]:
    """The numbers of threads worth considering, the caller's not included.

    Where steps wait, as many as workers of a pool, one at least; where they compute without the
    interpreter's lock, one lane per core; elsewhere none.

    Args:
        num_envs: The number of sub-environments.
        machine: The cores there are.
        profile: How a step spends its time.
        caller_steps: Whether the calling process may step a slice of its own.
    """
    if profile.wait_share >= WAITING / 5:
        counts = worker_counts(num_envs, machine, profile, caller_steps)
        return tuple(count for count in counts if count)
    count = usual_workers(int(machine.cores), num_envs, caller_steps)
    return (count,) if (profile.free_share or 0.0) >= THREADS_SHARE and count > 0 else ()


def worker_counts(
    num_envs: int, machine: Machine, profile: StepProfile, caller_steps: bool = True
) -> tuple[int, ...]:
    """The numbers of workers worth considering for a pool.

    None, if the caller steps; one; half and all of the cores with a lane each. Where steps wait,
    more lanes than there are cores: twice as many each time, up to one for each sub-environment.

    Args:
        num_envs: The number of sub-environments.
        machine: The cores there are.
        profile: How a step spends its time.
        caller_steps: Whether the calling process may step a slice of its own.
    """
    fewest, most = fewest_workers(caller_steps), most_workers(num_envs, caller_steps)
    cores, own = int(machine.cores), int(caller_steps)
    counts = {0, 1, cores // 2 - own, cores - own}
    if profile.wait_share >= WAITING / 5:
        lanes = max(cores, 1)
        while lanes < num_envs:
            lanes *= 2
            counts.add(lanes - own)
        counts.add(most)
    return tuple(sorted({min(count, most) for count in counts if count >= fewest}))


def why_not_enough_memory(
    mode: str, num_envs: int, profile: StepProfile, machine: Machine
) -> str | None:
    """One sentence if a candidate would not fit into the memory that is left, else None.

    Args:
        mode: The candidate.
        num_envs: The number of sub-environments.
        profile: What one of them takes.
        machine: What is left.
    """
    processes = processes_of(mode, num_envs)
    needed = num_envs * (profile.memory_bytes or 0) + processes * WORKER_BYTES
    why = why_no_room(needed, machine.memory_available_bytes) if processes else None
    if why is not None:
        return why
    shared = num_envs * profile.observation_bytes
    left = machine.shm_available_bytes
    if mode == "async" and left is not None and shared > MEMORY_SHARE * left:
        return (
            f"its observations take {shared / 1e6:.1f} MB of shared memory, and /dev/shm has "
            f"{left / 1e6:.1f} MB left"
        )
    return None
