"""Whether a race is called for, and who runs in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.selection.candidates import simplicity
from vecselect.selection.race import TIE
from vecselect.selection.rule import WAITING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.measure.step import StepProfile
    from vecselect.selection.estimate import Estimate

SEVERAL_THREADS = 1.25
"""An environment that uses more cores than this computes in several threads."""


@dataclass(frozen=True)
class Doubt:
    """Something the cost model cannot see.

    Attributes:
        reason: A sentence.
        contention: Whether it is about threads that compete with the workers.
    """

    reason: str
    contention: bool = False


def doubts(
    estimate: Estimate,
    profile: StepProfile,
    *,
    crowded: bool,
    learner: str,
    alike: bool,
    native: bool,
) -> tuple[Doubt, ...]:
    """Why the estimate cannot stand by itself; empty where it can.

    Args:
        estimate: What the cost model says.
        profile: How a step spends its time.
        crowded: Whether other programs use the cores while this is decided.
        learner: Its kind, as in `Plan.learner`.
        alike: Whether all sub-environments are built alike.
        native: Whether the environment has a registered vector environment of its own.
    """
    if len(estimate.forecasts) < 2 and not native:
        return ()
    found = []
    if not estimate.clear:
        found.append(Doubt(f"The estimate leaves {' and '.join(estimate.close)} open."))
    if learner in ("callable", "stand-in"):
        found.append(Doubt("The learner's threads may compete with the workers.", True))
    if profile.cores_used > SEVERAL_THREADS:
        found.append(Doubt("The environment computes in several threads.", True))
    if profile.wait_share >= WAITING / 2:
        found.append(Doubt("Steps wait, and may wait for the same thing."))
    if not alike:
        found.append(Doubt("The sub-environments are built by different callables."))
    if native:
        found.append(Doubt("There is a vector environment of its own, which no model knows."))
    if crowded:
        found.append(Doubt("Other programs use the cores.", True))
    return tuple(found)


def finalists(
    estimate: Estimate, *, contention: bool, exhaustive: bool, sleepers: bool
) -> list[str]:
    """Who runs in a race, the simpler ones first.

    Args:
        estimate: What the cost model says of each candidate.
        contention: Whether threads may compete with the workers: then what the model says about
            pools may be wrong, and the best of them runs against `sync` all the same.
        exhaustive: Whether everybody runs.
        sleepers: Whether pools also run with workers that sleep while they wait.

    Returns:
        The open candidates and always `sync`, if it is a candidate.
    """
    modes = [forecast.mode for forecast in estimate.forecasts]
    running = set(modes if exhaustive else estimate.close) | ({"sync"} & set(modes))
    pools = [mode for mode in modes if mode.startswith("pool:") and mode != "pool:0"]
    if contention and pools:
        running.add(min(pools, key=lambda mode: _mid(estimate, mode)))
    if sleepers:
        running |= {f"{mode}:sleep" for mode in running if mode in pools}
    return sorted(running, key=lambda mode: (modes.index(mode.removesuffix(":sleep")), mode))


def within_time(
    modes: Sequence[str], estimate: Estimate, build_s: dict[str, float], limit_s: float
) -> list[str]:
    """Leaves out entrants until the others can be built in time.

    First those that take longer than there is by themselves, the longest first, where another that
    does not is predicted as good; then the least promising.

    Args:
        modes: The entrants, the simpler ones first.
        estimate: What the cost model says of each.
        build_s: Seconds that building each takes.
        limit_s: Seconds there are.

    Returns:
        Those that remain; two at least, `sync` and the most promising other one.
    """
    kept = list(modes)
    while len(kept) > 2 and sum(build_s[mode] for mode in kept) > limit_s:
        others = [mode for mode in kept if mode != "sync"]
        quick_s = [_mid(estimate, mode) for mode in others if build_s[mode] <= limit_s]
        best_quick_s = min(quick_s, default=math.inf)
        replaced = [
            mode
            for mode in others
            if build_s[mode] > limit_s and best_quick_s <= _mid(estimate, mode) * (1 + TIE)
        ]
        if replaced:
            kept.remove(max(replaced, key=lambda mode: build_s[mode]))
        else:
            kept.remove(max(others, key=lambda mode: (_mid(estimate, mode), simplicity(mode))))
    return kept


def _mid(estimate: Estimate, mode: str) -> float:
    """Predicted seconds; those of the pool whose workers do not sleep, for one whose do."""
    forecast = estimate.of(mode.removesuffix(":sleep"))
    return forecast.mid if forecast else float("inf")
