"""Which modes are worth considering for a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.machine import MEMORY_SHARE, WORKER_BYTES, why_no_room
from vecselect.modes import KINDS, Mode, fewest_workers

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.measure.step import StepProfile
    from vecselect.selection.evidence import Evidence

SOME_WAITING = 0.1
"""Off-CPU fraction of a step from which on more slices than cores are worth considering."""

MOST_WORKERS = 255
"""Handing a step to a worker takes about 10 us of the caller's core, so that more of them hardly
wait for anything but each other."""


def candidate_modes(evidence: Evidence) -> tuple[Mode, ...]:
    """The modes to predict, the simpler ones first.

    Args:
        evidence: With a profile; `kinds` says what can run.
    """
    modes: list[Mode] = []
    for kind in evidence.kinds:
        if KINDS[kind].cost is None:
            continue
        if not KINDS[kind].users_environments:
            timed = [Mode.parse(one.mode) for one in evidence.implementations]
            modes += [mode for mode in timed if mode.kind == kind]
        elif kind == "ray":
            smallest = evidence.num_envs // evidence.buffers
            most = min(evidence.ray.lanes, smallest) if evidence.ray else 0
            modes += [Mode("ray", count) for count in sorted({most // 2, most} - {0})]
        elif KINDS[kind].workers:
            modes += [Mode(kind, workers) for workers in _worker_counts(kind, evidence)]
        else:
            modes.append(Mode(kind))
    profile = evidence.profile
    fitting = [
        mode
        for mode in modes
        if profile is None or why_not_enough_memory(mode, profile, evidence) is None
    ]
    # What takes least of the memory is tried all the same where nothing fits.
    return tuple(sorted(fitting or modes[:1], key=lambda mode: mode.rank(evidence.cores)))


def _worker_counts(kind: str, evidence: Evidence) -> list[int]:
    """One number of workers for each length of the longest slice that they can bring about.

    Fewer workers with the same longest slice take as long and cost less, so of N sub-environments
    at most 2 sqrt(N) numbers are worth considering.
    """
    profile, own = evidence.profile, int(evidence.caller_steps)
    count = evidence.num_envs // evidence.buffers  # every buffer has work for all of its workers
    waits = profile is not None and profile.off_cpu_fraction >= SOME_WAITING
    frees = profile is not None and profile.gil_free
    shares = KINDS[kind].shares_interpreter
    if shares and not (waits or frees or "pool" not in evidence.kinds):
        return []
    most_lanes = count if waits else min(count, max(int(evidence.cores + 0.5), 1))
    most_lanes = min(most_lanes, MOST_WORKERS + own)
    lanes = {-(-count // longest) for longest in range(-(-count // most_lanes), count + 1)}
    fewest = 1 if shares else fewest_workers(evidence.caller_steps)
    counts = {lane - own for lane in lanes}
    if own and not shares:
        counts.add(0)
    return sorted(one for one in counts if one >= fewest)


def proposed(
    num_envs: int,
    machine: Machine,
    profile: StepProfile | None,
    caller_steps: bool = True,
    *,
    threads: bool = True,
) -> tuple[str, ...]:
    """The modes to sweep over where none are named, the simpler ones first.

    Of the pools: no worker, half of the cores and all of them. Where steps wait, also the most
    lanes there can be, and four to a core.

    Args:
        num_envs: The largest number of sub-environments.
        machine: The cores there are.
        profile: How a step spends its time, if that is known.
        caller_steps: Whether the calling process may step a slice of its own.
        threads: Whether several threads may step at a time.
    """
    cores, own = int(machine.cores), int(caller_steps)
    fewest, most = fewest_workers(caller_steps), num_envs - own
    waits = profile is not None and profile.off_cpu_fraction >= SOME_WAITING
    wanted = {0, cores // 2 - own, cores - own}
    if waits:
        wanted |= {most, 4 * max(cores, 1) - own}
    pools = sorted(count for count in wanted if fewest <= count <= most)
    many = (f"thread:{most}",) if waits and threads and most > 0 else ()
    return ("sync", *(f"pool:{count}" for count in pools), "async", *many, "native")


def needed_bytes(mode: Mode, num_envs: int, profile: StepProfile) -> int:
    """Memory that so many sub-environments take in a mode, its workers included."""
    workers_bytes = mode.processes(num_envs) * WORKER_BYTES
    return num_envs * (profile.memory_bytes or 0) + workers_bytes


def why_not_enough_memory(mode: Mode, profile: StepProfile, evidence: Evidence) -> str | None:
    """One sentence if a mode would not fit into the memory that is left, else None."""
    machine, num_envs = evidence.machine, evidence.num_envs
    if mode.processes(num_envs):
        needed = needed_bytes(mode, num_envs, profile)
        if (why := why_no_room(needed, machine.memory_available_bytes)) is not None:
            return why
    shared = num_envs * profile.observation_bytes
    left = machine.shm_available_bytes
    if mode.kind == "async" and left is not None and shared > MEMORY_SHARE * left:
        return (
            f"its observations take {shared / 1e6:.1f} MB of shared memory, and /dev/shm has "
            f"{left / 1e6:.1f} MB left"
        )
    return None
