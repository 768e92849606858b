"""A sweep: the modes timed in turns over several numbers of sub-environments.

one sub-environment, profiled     first_worker
modes and numbers                 selection.candidates.proposed, or as named
all of them, timed in turns       timing
v
Sweep, and its recommendation     selection.race.smallest_enough, explain
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vecselect.backends.base import backend_of
from vecselect.errors import ModeUnavailable, ProfileError, RequestError
from vecselect.machine import memory_kind, read_machine
from vecselect.measure.learner import read_learner
from vecselect.measure.step import THOROUGH
from vecselect.modes import Mode
from vecselect.plan import Sweep, provenance
from vecselect.planning import explain
from vecselect.planning.cache import PlanCache
from vecselect.planning.first_worker import profiled
from vecselect.planning.plan_key import sweep_key
from vecselect.planning.timing import SWEEP_BLOCK_S, TimingTask
from vecselect.process import children
from vecselect.process.isolated import IsolatedLost
from vecselect.request import SweepProgress
from vecselect.selection.candidates import proposed
from vecselect.selection.race import Timed, TimingResult, choose_by_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecselect.measure.probe import Probe
    from vecselect.plan import Note
    from vecselect.request import Request, SweepOptions

    Id = tuple[str, int]

PROFILE_S = 1.0
"""Seconds that stepping one sub-environment may take, and no more than a tenth of the budget."""


def run_sweep(request: Request, options: SweepOptions) -> Sweep:
    """Measures every mode with every number of sub-environments, as far as the budget goes.

    Raises as `vecselect.sweep` does; the request has the largest number of sub-environments.
    """
    running = _Sweeping(request, options)
    try:
        running.run()
    except KeyboardInterrupt as stop:
        vars(stop)["sweep"] = running.sweep(whole=False)
        raise
    found = running.sweep(whole=True)
    if options.use_store and found.recommended is not None:
        PlanCache().save_sweep(sweep_key(request, running.machine), found)
    return found


def remembered_num_envs(request: Request) -> int:
    """The number of sub-environments that a remembered sweep of the environment recommends."""
    found = PlanCache().recall_sweep(sweep_key(request, read_machine()))
    if found is not None and found.recommended is not None:
        return found.recommended.num_envs
    plain = request.spec is not None and not (request.env_kwargs or request.wrappers)
    command = "vecselect.sweep(...) with the same environment"
    if plain:
        command = f"`vecselect sweep {request.label}`"
    raise RequestError(
        f"num_envs='auto' takes the number that a sweep of {request.label} has found, and none is "
        f"remembered here. Run {command} once, or give a number."
    )


class _Sweeping:
    """One call of `run_sweep`."""

    def __init__(self, request: Request, options: SweepOptions) -> None:
        self.start_s = time.perf_counter()
        self.request = request
        self.options = options
        self.machine = read_machine()
        self.probe: Probe | None = None
        self.modes: tuple[str, ...] = ()
        self.timed: dict[Id, Timed] = {}
        self.notes: dict[str, Note] = {}

    def say(self, text: str) -> None:
        """Tells the user how far it has come."""
        spent_s = time.perf_counter() - self.start_s
        left_s = max(self.options.budget_s - spent_s, 0.0)
        self.options.progress(SweepProgress(text, spent_s / (spent_s + left_s), left_s))

    def note(self, *notes: Note) -> None:
        """Notes something, in place of what was noted of it before."""
        self.notes |= {note.code: note for note in notes}

    def run(self) -> None:
        """Profiles one sub-environment, chooses the modes, and times them."""
        request, options = self.request, self.options
        self.say("measuring one environment's step")
        single = request.spec is None or request.spec.entry_point is not None
        if single and not (children.why_no_children() or request.why_not_sent):
            self.probe = profiled(request, THOROUGH, min(options.budget_s / 10, PROFILE_S))
            self.note(*explain.of_profile(self.probe.profile))
        which = self.choose_modes()
        groups = [which] if which else []
        if self.probe is not None and self.probe.holds:
            self.note(explain.not_together(self.probe.holds))
            groups = [(one,) for one in which]
        for place, group in enumerate(groups):
            left_s = self.start_s + options.budget_s - time.perf_counter()
            try:
                self.time(group, left_s / (len(groups) - place))
            except Exception as error:
                if len(groups) == 1:
                    raise
                self.skip(group, str(error))
        if not any(one.loop_s for one in self.timed.values()):
            whys = dict.fromkeys(f"{one.mode}: {one.skipped}" for one in self.timed.values())
            raise ProfileError(f"No mode could be timed with {request.label}. {'; '.join(whys)}.")

    def choose_modes(self) -> tuple[Id, ...]:
        """Sets the modes, and returns what to time; what was named and cannot be timed is noted."""
        request, named, machine = self.request, self.options.modes, self.machine
        sizes, caller_steps = self.options.num_envs, request.caller_steps
        profile = self.probe.profile if self.probe else None
        draws = self.probe is not None and self.probe.draws is not None
        modes: dict[Mode, str | None] = {}
        for text in named or proposed(sizes[-1], machine, profile, caller_steps, threads=not draws):
            mode = Mode.parse(text)
            backend = backend_of(mode.kind)
            mode = backend.exact(request, mode, machine)
            why = backend.missing(machine) or backend.why_not(request, mode, machine)
            modes[mode] = why or mode.why_not(sizes[-1], caller_steps)
        if None not in modes.values():
            text = "; ".join(f"{mode}: {why}" for mode, why in modes.items())
            raise ModeUnavailable(f"None of the modes can run {request.label}. {text}.")
        modes = {mode: why for mode, why in modes.items() if named or why is None}
        self.modes = tuple(map(str, modes))
        which: list[Id] = []
        for number in sizes:
            for mode, never in modes.items():
                one, why = (str(mode), number), never or mode.why_not(number, caller_steps)
                if why is None:
                    which.append(one)
                elif named:
                    self.skip([one], why)
        return tuple(which)

    def time(self, which: tuple[Id, ...], budget_s: float) -> None:
        """Times modes in turns."""
        timing = TimingTask(
            self.request,
            which,
            self.options.learner,
            self.probe.action_space if self.probe else None,
            budget_s,
            probe=self.probe,
            block_s=SWEEP_BLOCK_S,
        )
        try:
            self.keep(timing.run_isolated(self.say, self.keep))
        except IsolatedLost as lost:
            self.skip([one for one in which if one not in self.timed], str(lost))
            self.note(explain.timing_lost(lost))

    def skip(self, which: Iterable[Id], why: str) -> None:
        """Notes why something is not timed."""
        self.timed |= {one: Timed(*one, skipped=why) for one in which}

    def keep(self, found: TimingResult) -> None:
        """Takes in what was found so far."""
        self.timed |= {(one.mode, one.num_envs): one for one in found.entrants}
        if found.difference is not None:
            self.note(explain.modes_differ(found.difference))

    def sweep(self, *, whole: bool) -> Sweep:
        """What was found so far."""
        order = [(mode, number) for number in self.options.num_envs for mode in self.modes]
        points = tuple(self.timed[one] for one in order if one in self.timed)
        space = self.probe.action_space if self.probe else None
        learner = read_learner(self.options.learner, self.request.num_envs, space).source
        by_number = choose_by_number(points, self.options.modes)
        return Sweep(
            env=self.request.label,
            by_id=self.request.spec is not None,
            num_envs=self.options.num_envs,
            modes=self.modes,
            named_modes=self.options.modes,
            points=points,
            recommendation=explain.of_sweep(by_number, whole=whole),
            whole=whole,
            learner=learner,
            machine=self.machine,
            memory_kind=memory_kind(),
            notes=(*self.notes.values(), *explain.of_learner(learner)),
            seconds=time.perf_counter() - self.start_s,
            **provenance(),
        )
