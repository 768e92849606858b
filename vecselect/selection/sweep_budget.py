"""What of a sweep fits into its time and into the memory, by what the smaller points have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    Key = TypeVar("Key", bound=Hashable)


def extrapolate(
    seen: Mapping[int, float], num_envs: int, guess: Callable[[int], float] | None
) -> float:
    """A quantity that grows with the number of sub-environments, beyond where it was seen.

    Args:
        seen: What it was, by number of sub-environments.
        num_envs: The number to tell it for.
        guess: What to think of it for a number where nothing was seen, if anything.

    Returns:
        What the line through the two largest numbers gives. With a single one, that and as much
        more as the guess grows, but no more than in proportion to the number.
    """
    known = sorted(number for number in seen if number <= num_envs)
    if not known:
        return guess(num_envs) if guess else 0.0
    last = known[-1]
    if len(known) == 1:
        in_proportion = seen[last] * num_envs / last
        if guess is None:
            return in_proportion
        return min(in_proportion, seen[last] + max(guess(num_envs) - guess(last), 0.0))
    slope = (seen[last] - seen[known[-2]]) / (last - known[-2])
    return seen[last] + max(slope, 0.0) * (num_envs - last)


def too_costly(costs_s: Mapping[Key, float], limit_s: float, keep: int = 0) -> set[Key]:
    """Which points to leave out so that the others fit: the most expensive ones.

    Args:
        costs_s: Seconds that each takes at least.
        limit_s: Seconds there are.
        keep: So many of them stay in any case.
    """
    kept = dict(costs_s)
    while len(kept) > keep and sum(kept.values()) > limit_s:
        del kept[max(kept, key=kept.__getitem__)]
    return set(costs_s) - set(kept)


def groups_that_fit(needed_bytes: Mapping[str, float], allowed_bytes: float) -> list[list[str]]:
    """Which modes may be alive at the same time, in order.

    Args:
        needed_bytes: What each mode takes; none of them more than is allowed.
        allowed_bytes: Memory they may take together.
    """
    groups: list[list[str]] = []
    left = 0.0
    for mode, needed in needed_bytes.items():
        if not groups or needed > left:
            groups.append([])
            left = allowed_bytes
        groups[-1].append(mode)
        left -= needed
    return groups
