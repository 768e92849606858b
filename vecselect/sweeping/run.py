"""A sweep: one heat after the other, each with more sub-environments, within one budget."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.backends.registry import BACKENDS
from vecselect.errors import ModeUnavailable, ProfileError
from vecselect.learner_threads import loaded_torch
from vecselect.machine import read_machine
from vecselect.measure.learner import read_learner
from vecselect.measure.memory import memory_kind
from vecselect.measure.step import THOROUGH
from vecselect.modes import Mode
from vecselect.plan import Note
from vecselect.planning import explain
from vecselect.planning.first_worker import FirstWorker
from vecselect.selection.sweep import NOT_REACHED, SAME_AS, Point
from vecselect.sweeping.apart import HeatLost, heat_apart
from vecselect.sweeping.asked import SweepProgress
from vecselect.sweeping.entries import Entries, proposed
from vecselect.sweeping.heat import run_heat
from vecselect.sweeping.record import Sweep

if TYPE_CHECKING:
    from vecselect.measure.learner import Learner
    from vecselect.measure.probe import Probe
    from vecselect.request import Request
    from vecselect.sweeping.asked import SweepAsked
    from vecselect.sweeping.heat import Heat

PROFILE_S = 1.0
"""Seconds that stepping one sub-environment may take, and no more than a tenth of the budget."""

REHEARSE_LIMIT_S = 1.0
"""An environment that takes longer to build is not built once more only to load its modules."""


def run_sweep(request: Request, asked: SweepAsked) -> Sweep:
    """Measures every mode with every number of sub-environments, as far as the budget goes.

    Args:
        request: What was asked for, with the largest number of sub-environments.
        asked: What to sweep over, and how.

    Raises:
        ModeUnavailable: If none of the modes can serve the request.
        ProfileError: If the environment fails while one of it is measured, or the learner fails.
        KeyboardInterrupt: If it was interrupted; its attribute `sweep` is what was found until
            then, not whole.
    """
    sweep = _Sweeping(request, asked)
    try:
        sweep.run()
    except KeyboardInterrupt as stop:
        vars(stop)["sweep"] = sweep.record(whole=False)
        raise
    return sweep.record(whole=True)


class _Sweeping:
    """The state of one call of `run_sweep`."""

    def __init__(self, request: Request, asked: SweepAsked) -> None:
        self.start_s = time.perf_counter()
        self.request = request
        self.asked = asked
        self.machine = read_machine()
        self.found: Probe | None = None
        self.learner_kind = "none"
        self.modes: tuple[str, ...] = ()
        self.points: dict[tuple[str, int], Point] = {}
        self.notes: list[Note] = []

    @property
    def left_s(self) -> float:
        return self.start_s + self.asked.budget_s - time.perf_counter()

    def say(self, text: str) -> None:
        """Tells the user how far it has come."""
        left_s = max(self.left_s, 0.0)
        spent_s = time.perf_counter() - self.start_s
        self.asked.progress(SweepProgress(text, spent_s / (spent_s + left_s), left_s))

    def run(self) -> None:
        """Everything, the smallest number first."""
        self.say("measuring one environment's step")
        blocked = processes.why_no_children() or self.request.why_not_sent
        single = self.request.spec is None or self.request.spec.entry_point is not None
        if single and blocked is None:
            self._look()
        profile = self.found.profile if self.found else None
        largest = self.asked.num_envs[-1]
        named = dict.fromkeys(map(self._exact, self.asked.modes))
        caller_steps = self.request.caller_steps
        self.modes = tuple(named) or proposed(largest, self.machine, profile, caller_steps)
        if not named and self.found is not None and self.found.draws is not None:
            self.modes = tuple(mode for mode in self.modes if not mode.startswith("thread"))
        self._leave_out_modes()
        entries = Entries(self.modes, self.asked.num_envs, self.machine, self.found, caller_steps)
        for num_envs in self.asked.num_envs:
            self._heats(num_envs, entries, apart=blocked is None)

    def _exact(self, text: str) -> str:
        """A mode with its number of workers, where it has one."""
        mode = Mode.parse(text)
        return str(BACKENDS[mode.kind].exact(self.request, mode, self.machine))

    def _look(self) -> None:
        """Measures one sub-environment."""
        first = FirstWorker(
            self.request.env_fns[0 if self.request.spec is not None else -1],
            extent=THOROUGH,
            budget_s=min(self.asked.budget_s / 10, PROFILE_S),
            start_method=self.request.vector_kwargs.get("context"),
        )
        try:
            self.found = first.profile()
        finally:
            first.end()
        self.notes += explain.of_profile(self.machine, self.found.profile)
        if self.found.holds:
            self._note(
                "not-together",
                f"The environment holds {' and '.join(self.found.holds)}, so no two modes were "
                "alive at the same time.",
            )

    def _leave_out_modes(self) -> None:
        """Finds which modes cannot run at all, and which have no work for all at some number."""
        able, caller_steps = [], self.request.caller_steps
        reasons = {}
        for mode in self.modes:
            reasons[mode] = self._why_not(mode)
            if reasons[mode] is None:
                able.append(mode)
        if not able:
            whys = "; ".join(f"{mode}: {why}" for mode, why in reasons.items())
            raise ModeUnavailable(f"None of the modes can run {self.request.label}. {whys}.")
        if not self.asked.modes and reasons.get("native"):
            # Most environments have no other implementation; nobody asked for it.
            self.modes = tuple(mode for mode in self.modes if mode != "native")
        for mode in self.modes:
            for num_envs in self.asked.num_envs:
                if reasons[mode] is not None:
                    self._skip(mode, num_envs, str(reasons[mode]))
                elif (which := Mode.parse(mode)).why_not(num_envs, caller_steps):
                    most = Mode(which.kind, num_envs - caller_steps)
                    self._skip(mode, num_envs, SAME_AS.format(num_envs, most))

    def _why_not(self, mode: str) -> str | None:
        """Says why a mode cannot run at all, if it cannot."""
        which = Mode.parse(mode)
        backend = BACKENDS[which.kind]
        why = backend.missing(self.machine) or backend.why_not(self.request, which, self.machine)
        return why or which.why_not(self.asked.num_envs[-1], self.request.caller_steps)

    def _heats(self, num_envs: int, entries: Entries, *, apart: bool) -> None:
        """Times what fits of one number of sub-environments."""
        open_points = [
            (mode, number)
            for number in self.asked.num_envs
            for mode in self.modes
            if number >= num_envs and (mode, number) not in self.points
        ]
        modes = [mode for mode, number in open_points if number == num_envs]
        why = entries.too_long(open_points, self.left_s, self.asked.budget_s)
        why |= entries.too_large([(mode, num_envs) for mode in modes], read_machine())
        for mode in modes:
            if (mode, num_envs) in why:
                self._skip(mode, num_envs, why[mode, num_envs])
        for mode, number in open_points:
            # What takes too long or too much with this number does so with a larger one.
            if number > num_envs and (mode, num_envs) in why:
                self._skip(mode, number, why.get((mode, number), why[mode, num_envs]))
        modes = [mode for mode in modes if (mode, num_envs) not in why]
        if not modes:
            return
        still_open = [p for p in open_points if p not in why and p not in self.points]
        together = self.found is None or not self.found.holds
        for group in entries.groups(modes, num_envs, read_machine(), together=together):
            if self.left_s <= 0 and self.points_measured():
                for mode in group:
                    self._skip(mode, num_envs, "the time was over before its turn")
                continue
            left_s = entries.share_s(group, num_envs, still_open, self.left_s)
            self._heat(group, num_envs, left_s, apart=apart)
            still_open = [point for point in still_open if point not in self.points]
            entries.learn(self.points[mode, num_envs] for mode in group)

    def points_measured(self) -> bool:
        """Whether anything was measured."""
        return any(point.env_steps_per_s is not None for point in self.points.values())

    def _heat(self, modes: list[str], num_envs: int, left_s: float, *, apart: bool) -> None:
        """One heat, here or in a process of its own."""
        request = dataclasses.replace(self.request, env_fns=self.request.env_fns[:num_envs])
        learner = self._learner(num_envs)
        rehearse = self.found is not None and self.found.construct_s < REHEARSE_LIMIT_S
        label = f"{num_envs} x {', '.join(modes)}"

        def found(heat: Heat) -> None:
            for point in heat.points:
                self.points[point.mode, point.num_envs] = point
            if heat.difference is not None:
                self._note(
                    "bits-differ",
                    "The modes did not return the same bits for the same seeds and actions "
                    f"({heat.difference}): the environment is not deterministic, or draws from "
                    "generators that are not its own.",
                )

        def progress(text: str) -> None:
            self.say(f"{label}: {text}")

        progress("starting")
        try:
            if callable(self.asked.learner) or loaded_torch() is not None or not apart:
                # The learner and its threads are here, and nowhere else.
                run_heat(request, modes, learner, left_s, rehearse, progress, found)
            else:
                heat_apart(request, modes, learner.seconds, left_s, rehearse, progress, found)
        except HeatLost as lost:
            for mode in modes:
                if (mode, num_envs) not in self.points:
                    self._skip(mode, num_envs, str(lost))
            self.notes.append(Note("heat-lost", f"Measuring {label} was cut short: {lost}."))
        for mode in modes:
            if (mode, num_envs) not in self.points:
                self._skip(mode, num_envs, "it was not timed")

    def _learner(self, num_envs: int) -> Learner:
        space = self.found.action_space if self.found else None
        learner = read_learner(self.asked.learner, num_envs, space)
        if learner.kind == "stand-in":
            self._note(
                "learner-stand-in",
                "torch is loaded, so a small network ran between the steps in place of your "
                "learner; learner=your_function measures your own.",
            )
        self.learner_kind = learner.kind
        return learner

    def _note(self, code: str, text: str) -> None:
        """Notes something once, whatever the number of sub-environments it was seen with."""
        if not any(note.code == code for note in self.notes):
            self.notes.append(Note(code, text))

    def _skip(self, mode: str, num_envs: int, why: str) -> None:
        other = not Mode.parse(mode).runs_users_environments
        self.points[mode, num_envs] = Point(mode, num_envs, skipped=why, other_implementation=other)

    def record(self, *, whole: bool) -> Sweep:
        """What was found so far."""
        order = [(mode, number) for number in self.asked.num_envs for mode in self.modes]
        for mode, num_envs in order:
            if (mode, num_envs) not in self.points:
                self._skip(mode, num_envs, NOT_REACHED)
        return Sweep(
            env=self.request.label,
            by_id=self.request.spec is not None,
            num_envs=self.asked.num_envs,
            modes=self.modes,
            named_modes=self.asked.modes,
            points=tuple(self.points[key] for key in order),
            whole=whole,
            learner=self.learner_kind,
            machine=self.machine,
            profile=self.found.profile if self.found else None,
            memory_kind=memory_kind(),
            notes=tuple(self.notes),
            budget_s=self.asked.budget_s,
            seconds=time.perf_counter() - self.start_s,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            versions={
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("vecselect", "gymnasium", "numpy")},
            },
        )


def all_fail(sweep: Sweep) -> ProfileError | None:
    """The error to raise where a whole sweep has measured nothing, else None."""
    if any(point.env_steps_per_s is not None for point in sweep.points):
        return None
    whys = dict.fromkeys(f"{point.mode}: {point.skipped}" for point in sweep.points)
    return ProfileError(f"No mode could be timed with {sweep.env}. {'; '.join(whys)}.")
