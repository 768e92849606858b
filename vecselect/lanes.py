"""How sub-environments are divided into lanes: the caller's own, and one for each worker.

Whatever keeps a deadline must be outside of what it may have to end. So where one is asked for, the
calling process steps nothing itself: its slice is empty, and it only waits.
"""

from __future__ import annotations

WORKERS = {"pool": "worker processes", "thread": "threads", "ray": "actors"}
"""What workers are in each mode that may have several of them."""

NO_CALLER = frozenset({"ray"})
"""Modes in which the calling process never steps."""


def slices(num_envs: int, workers: int, caller_steps: bool = True) -> list[range]:
    """The rows of each lane, the caller's first: contiguous, of lengths that differ by one at most.

    The caller, which also gathers the results, gets none of the longer ones, and nothing at all
    where it does not step.

    Args:
        num_envs: The number of sub-environments.
        workers: Lanes besides the caller's.
        caller_steps: Whether the calling process steps a slice of its own.
    """
    lanes = count_lanes(workers, caller_steps)
    shortest, longer = divmod(num_envs, lanes)
    found, start = [] if caller_steps else [range(0)], 0
    for lane in range(lanes):
        length = shortest + (lane >= lanes - longer)
        found.append(range(start, start + length))
        start += length
    return found


def count_lanes(workers: int, caller_steps: bool = True) -> int:
    """The lanes that step something."""
    return workers + caller_steps


def fewest_workers(caller_steps: bool = True) -> int:
    """The fewest workers there can be: somebody has to step."""
    return 0 if caller_steps else 1


def most_workers(num_envs: int, caller_steps: bool = True) -> int:
    """The most workers that all have a sub-environment to step."""
    return num_envs - caller_steps


def usual_workers(lanes: int, num_envs: int, caller_steps: bool = True) -> int:
    """The workers that make so many lanes, as far as there are sub-environments for them."""
    count = min(lanes - caller_steps, most_workers(num_envs, caller_steps))
    return max(count, fewest_workers(caller_steps))


def why_not_workers(
    name: str, workers: int | None, num_envs: int, caller_steps: bool = True
) -> str | None:
    """One sentence if a mode cannot have so many workers, with what to ask for instead.

    Args:
        name: The mode.
        workers: Their number; None where it is left open.
        num_envs: The number of sub-environments.
        caller_steps: Whether the calling process may step a slice of its own.
    """
    if workers is None:
        return None
    caller_steps = caller_steps and name not in NO_CALLER
    if workers < fewest_workers(caller_steps):
        return (
            f"{name}:{workers} steps everything in the calling process, and nothing outside of "
            "that could keep the deadline that vector_kwargs asks for; with one, use "
            f"'{name}:{most_workers(num_envs, caller_steps)}' or fewer workers, but at least one"
        )
    most = most_workers(num_envs, caller_steps)
    if workers > most:
        kind = WORKERS[name]
        each = "sub-environment has" if num_envs == 1 else "sub-environments have"
        beside = " beside the calling process" if caller_steps else ""
        lanes = f"at most {most} {kind}{beside}" if most else "the calling process alone"
        return f"{num_envs} {each} work for {lanes}, not for {workers}; use '{name}:{most}'"
    return None
