"""Which points of a sweep are worth starting, by what the smaller ones have shown."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from vecselect.machine import MEMORY_SHARE, WORKER_BYTES, why_no_room
from vecselect.modes import Mode, fewest_workers
from vecselect.selection.candidates import WAITING
from vecselect.selection.sweep_budget import extrapolate, groups_that_fit, too_costly

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe
    from vecselect.measure.step import StepProfile
    from vecselect.selection.sweep import Point

    Key = tuple[str, int]

START_S = 0.4
"""Seconds that starting and ending a heat's process takes."""

VECTOR_STEPS = 4
"""Vector steps that a mode makes in a heat at least: compared, to warm up, and in one round."""

COST_SHARE = 0.5
"""Share of the time left that the least work of all points may take; more rounds take the rest."""


def proposed(
    num_envs: int, machine: Machine, profile: StepProfile | None, caller_steps: bool = True
) -> tuple[str, ...]:
    """The modes to sweep over where none are named, the simpler ones first.

    Of the pools: no worker, half of the cores and all of them. Where steps wait, also the most
    lanes there can be, and four to a core.

    Args:
        num_envs: The largest number of sub-environments.
        machine: The cores there are.
        profile: How a step spends its time, if that is known.
        caller_steps: Whether the calling process may step a slice of its own.
    """
    cores, own = int(machine.cores), int(caller_steps)
    fewest, most = fewest_workers(caller_steps), num_envs - own
    waits = profile is not None and profile.off_cpu_fraction >= WAITING
    wanted = {0, cores // 2 - own, cores - own}
    if waits:
        wanted |= {most, 4 * max(cores, 1) - own}
    pools = sorted(count for count in wanted if fewest <= count <= most)
    threads = (f"thread:{most}",) if waits and most > 0 else ()
    return ("sync", *(f"pool:{count}" for count in pools), "async", *threads, "native")


class Entries:
    """What the points that are still open are expected to take."""

    def __init__(
        self,
        modes: Sequence[str],
        num_envs: Sequence[int],
        machine: Machine,
        found: Probe | None,
        caller_steps: bool = True,
    ) -> None:
        self.caller_steps = caller_steps
        self.machine = machine
        self.found = found
        self.build_s: dict[str, dict[int, float]] = {mode: {} for mode in modes}
        self.step_s: dict[str, dict[int, float]] = {mode: {} for mode in modes}
        self.bytes: dict[str, dict[int, float]] = {mode: {} for mode in modes}

    def learn(self, points: Iterable[Point]) -> None:
        """Takes in what was measured."""
        for point in points:
            if point.build_s is not None:
                self.build_s[point.mode][point.num_envs] = point.build_s
            if point.blocks_s:
                self.step_s[point.mode][point.num_envs] = min(point.blocks_s)
            if point.memory_bytes is not None:
                self.bytes[point.mode][point.num_envs] = float(point.memory_bytes)

    def cost_s(self, point: Key) -> float:
        """Seconds that a point takes at least: building, a reset and a few vector steps."""
        mode, num_envs = point
        if self.found is None:
            build = step = None
        else:
            build = partial(self._build_s, self.found, mode)
            step = partial(self._step_s, self.found, mode)
        build_s = extrapolate(self.build_s[mode], num_envs, build)
        return build_s + VECTOR_STEPS * extrapolate(self.step_s[mode], num_envs, step)

    def _build_s(self, found: Probe, mode: str, num_envs: int) -> float:
        """Seconds that building and a reset take, by what one sub-environment took."""
        each_s = found.construct_s + found.profile.reset_time_s
        lanes = Mode.parse(mode).lanes(num_envs, self.caller_steps)
        started_s = found.start_s * (lanes - 1) / self.machine.cores
        return -(-num_envs // lanes) * each_s + started_s

    def _step_s(self, found: Probe, mode: str, num_envs: int) -> float:
        """Seconds that a vector step takes, by what one sub-environment took."""
        lanes = Mode.parse(mode).lanes(num_envs, self.caller_steps)
        waits = found.profile.off_cpu_fraction
        # As many lanes as there are cores get on at the same time, and more where they wait.
        at_once = max(min(lanes, self.machine.cores / max(1.0 - waits, 0.01)), 1.0)
        return num_envs * found.profile.mean_step_with_resets_s / at_once

    def too_long(self, points: Sequence[Key], left_s: float, budget_s: float) -> dict[Key, str]:
        """By point why there is no time for it, where there is none; the very first one has it.

        Args:
            points: All that are still open.
            left_s: Seconds left for them.
            budget_s: Seconds that the sweep may take.
        """
        costs_s = {point: self.cost_s(point) for point in points}
        heats = len({num_envs for _, num_envs in points})
        # Where starting processes takes all the time there is, the work itself still gets some.
        limit_s = COST_SHARE * max(left_s - heats * START_S, left_s / 2)
        out = too_costly(costs_s, limit_s, keep=0 if any(self.step_s.values()) else 1)
        more_s = sum(costs_s.values()) / COST_SHARE + heats * START_S
        enough_s = math.ceil(more_s + max(budget_s - left_s, 0.0))
        return {
            point: f"building and timing it takes about {costs_s[point]:.2g} s, too much of the "
            f"{budget_s:g} s that the sweep may take; a budget of {enough_s} s allows it"
            for point in out
        }

    def needed_bytes(self, point: Key) -> float:
        """Memory that a point takes, as far as can be told."""
        mode, num_envs = point
        guess = None if self.found is None else partial(_needed_bytes, self.found, mode)
        return extrapolate(self.bytes[mode], num_envs, guess)

    def too_large(self, points: Sequence[Key], machine: Machine) -> dict[Key, str]:
        """By point why it does not fit into the memory, where it does not."""
        available = machine.memory_available_bytes
        whys = {point: why_no_room(self.needed_bytes(point), available) for point in points}
        return {point: why for point, why in whys.items() if why is not None}

    def groups(
        self, modes: Sequence[str], num_envs: int, machine: Machine, *, together: bool
    ) -> list[list[str]]:
        """Which modes are alive at the same time: all if they may and fit, else fewer."""
        if not together:
            return [[mode] for mode in modes]
        allowed = MEMORY_SHARE * machine.memory_available_bytes
        return groups_that_fit({m: self.needed_bytes((m, num_envs)) for m in modes}, allowed)

    def share_s(
        self, modes: Sequence[str], num_envs: int, points: Sequence[Key], left_s: float
    ) -> float:
        """Seconds for a heat: what it takes at least, and its share of what is over.

        Args:
            modes: Those of the heat.
            num_envs: Its number of sub-environments.
            points: All that are still open, the heat's own included.
            left_s: Seconds left for them.
        """
        own_s = sum(self.cost_s((mode, num_envs)) for mode in modes)
        heats = len({number for _, number in points})
        over_s = left_s - sum(map(self.cost_s, points)) - heats * START_S
        # Of several heats with one number each gets a part of that number's share.
        part = len(modes) / max(sum(number == num_envs for _, number in points), 1)
        return own_s + max(over_s, 0.0) / heats * part


def _needed_bytes(found: Probe, mode: str, num_envs: int) -> float:
    """Memory that a mode takes, by what one sub-environment took."""
    children = Mode.parse(mode).processes(num_envs)
    return float(num_envs * (found.profile.memory_bytes or 0) + children * WORKER_BYTES)
