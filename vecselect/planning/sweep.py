"""Running a sweep: number by number of sub-environments, the modes of each timed side by side.

one sub-environment, profiled      first_worker
for each number, smallest first
| what fits time and memory        selection.sweep.Costs
| its modes, timed in turns        time_modes, in a process of its own where that can be
v
Sweep

It differs from a race in what it is for. A race stops as soon as it knows the winner; a sweep gives
every mode's throughput and memory. And what a race finds unequal it takes out, where a sweep only
says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from vecselect import forkserver, processes
from vecselect.backends.registry import BACKENDS
from vecselect.child import IsolatedLost, run_isolated
from vecselect.errors import ModeUnavailable, ProfileError
from vecselect.learner_threads import loaded_torch
from vecselect.machine import memory_kind, read_machine, tree_bytes
from vecselect.measure.generators import untouched_generators
from vecselect.measure.learner import read_learner
from vecselect.measure.step import THOROUGH
from vecselect.measure.trial import Trials
from vecselect.modes import Mode
from vecselect.options import SweepProgress
from vecselect.plan import Note, provenance
from vecselect.planning import explain
from vecselect.planning.first_worker import profiled
from vecselect.planning.race import builder
from vecselect.selection.sweep import (
    NOT_REACHED,
    SAME_AS,
    Costs,
    proposed,
    skipped_point,
    timed_point,
)
from vecselect.sweeps import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from vecselect.measure.learner import Learner
    from vecselect.measure.probe import Probe
    from vecselect.options import SweepOptions
    from vecselect.request import Request
    from vecselect.selection.sweep import Point

PROFILE_S = 1.0
"""Seconds that stepping one sub-environment may take, and no more than a tenth of the budget."""

REHEARSE_LIMIT_S = 1.0
"""An environment that takes longer to build is not built once more only to load its modules."""

BLOCK_S = 0.02
MAX_ROUNDS = 12
MUCH_LONGER = 3.0
"""A mode that takes this many times as long as the fastest has shorter blocks and fewer of them."""

FEW_ROUNDS = 3
SLOW_ROUND_S = 0.5
"""Rounds that are shorter are run at least so many times, since a single one tells little."""


def run_sweep(request: Request, options: SweepOptions) -> Sweep:
    """Measures every mode with every number of sub-environments, as far as the budget goes.

    Args:
        request: What was asked for, with the largest number of sub-environments.
        options: What to sweep over, and how.

    Raises:
        ModeUnavailable: If none of the modes can serve the request.
        ProfileError: If the environment fails while one of it is measured, if it fails in every
            mode, or if the learner fails.
        KeyboardInterrupt: If it was interrupted; its attribute `sweep` is what was found until
            then, not whole.
    """
    running = _Sweeping(request, options)
    try:
        running.run()
    except KeyboardInterrupt as stop:
        vars(stop)["sweep"] = running.sweep(whole=False)
        raise
    found = running.sweep(whole=True)
    if not running.measured:
        whys = dict.fromkeys(f"{point.mode}: {point.skipped}" for point in found.points)
        raise ProfileError(f"No mode could be timed with {found.env}. {'; '.join(whys)}.")
    return found


class _Sweeping:
    """The state of one call of `run_sweep`."""

    def __init__(self, request: Request, options: SweepOptions) -> None:
        self.start_s = time.perf_counter()
        self.request = request
        self.options = options
        self.machine = read_machine()
        self.probe: Probe | None = None
        self.learner_kind = "none"
        self.modes: tuple[str, ...] = ()
        self.points: dict[tuple[str, int], Point] = {}
        self.notes: list[Note] = []
        self.isolated = processes.why_no_children() is None and request.why_not_sent is None

    @property
    def left_s(self) -> float:
        """Seconds left of the budget."""
        return self.start_s + self.options.budget_s - time.perf_counter()

    @property
    def measured(self) -> bool:
        """Whether anything was measured."""
        return any(point.env_steps_per_s is not None for point in self.points.values())

    def say(self, text: str) -> None:
        """Tells the user how far it has come."""
        left_s = max(self.left_s, 0.0)
        spent_s = time.perf_counter() - self.start_s
        self.options.progress(SweepProgress(text, spent_s / (spent_s + left_s), left_s))

    def run(self) -> None:
        """Everything, the smallest number first."""
        self.say("measuring one environment's step")
        request = self.request
        single = request.spec is None or request.spec.entry_point is not None
        if single and self.isolated:
            self._profile()
        self._choose_modes()
        costs = Costs(self.points, self.machine, self.probe, request.caller_steps)
        for num_envs in self.options.num_envs:
            self._time_number(num_envs, costs)

    def _profile(self) -> None:
        """Measures one sub-environment."""
        budget_s = min(self.options.budget_s / 10, PROFILE_S)
        self.probe = profiled(self.request, THOROUGH, budget_s)
        self.notes += explain.of_profile(self.probe.profile)
        if self.probe.holds:
            self._note(
                "not-together",
                f"The environment holds {' and '.join(self.probe.holds)}, so no two modes were "
                "alive at the same time.",
            )

    def _choose_modes(self) -> None:
        """Sets the modes, and skips those that cannot run, or have no work for all at a number."""
        request, caller_steps = self.request, self.request.caller_steps
        sizes, probe = self.options.num_envs, self.probe
        self.modes = tuple(dict.fromkeys(map(self._exact, self.options.modes)))
        if not self.modes:
            profile = probe.profile if probe else None
            self.modes = proposed(sizes[-1], self.machine, profile, caller_steps)
            if probe is not None and probe.draws is not None:
                self.modes = tuple(mode for mode in self.modes if Mode.parse(mode).kind != "thread")
        whys = {mode: self._why_not(mode) for mode in self.modes}
        if None not in whys.values():
            text = "; ".join(f"{mode}: {why}" for mode, why in whys.items())
            raise ModeUnavailable(f"None of the modes can run {request.label}. {text}.")
        if not self.options.modes and whys.get("native"):
            # Most environments have no other implementation; nobody asked for it.
            self.modes = tuple(mode for mode in self.modes if mode != "native")
        for mode in self.modes:
            which = Mode.parse(mode)
            for num_envs in sizes:
                if (why := whys[mode]) is not None:
                    self._skip(mode, num_envs, why)
                elif which.why_not(num_envs, caller_steps):
                    most = Mode(which.kind, num_envs - caller_steps)
                    self._skip(mode, num_envs, SAME_AS.format(num_envs, most))

    def _exact(self, text: str) -> str:
        """A mode with its number of workers, where it has one."""
        mode = Mode.parse(text)
        return str(BACKENDS[mode.kind].exact(self.request, mode, self.machine))

    def _why_not(self, mode: str) -> str | None:
        """Says why a mode cannot run at all, if it cannot."""
        which = Mode.parse(mode)
        backend = BACKENDS[which.kind]
        why = backend.missing(self.machine) or backend.why_not(self.request, which, self.machine)
        return why or which.why_not(self.options.num_envs[-1], self.request.caller_steps)

    def _time_number(self, num_envs: int, costs: Costs) -> None:
        """Times what fits of one number of sub-environments."""
        open_points = [
            (mode, number)
            for number in self.options.num_envs
            for mode in self.modes
            if number >= num_envs and (mode, number) not in self.points
        ]
        available_bytes = read_machine().memory_available_bytes
        here = [point for point in open_points if point[1] == num_envs]
        whys = costs.too_long(open_points, self.left_s, self.options.budget_s)
        whys |= costs.too_large(here, available_bytes)
        for mode, number in open_points:
            # What takes too long or too much with this number does so with a larger one.
            if (why := whys.get((mode, num_envs))) is not None:
                self._skip(mode, number, whys.get((mode, number), why))
        modes = [mode for mode, number in here if (mode, number) not in self.points]
        holds = self.probe is not None and self.probe.holds
        together = not holds and costs.fit_together(modes, num_envs, available_bytes)
        for group in [modes] if together and modes else [[mode] for mode in modes]:
            if self.left_s <= 0 and self.measured:
                for mode in group:
                    self._skip(mode, num_envs, "the time was over before its turn")
                continue
            still = [p for p in open_points if p not in whys and p not in self.points]
            self._time(group, num_envs, costs.share_s(group, num_envs, still, self.left_s))

    def _time(self, modes: list[str], num_envs: int, budget_s: float) -> None:
        """Times modes side by side, here or in a process of their own."""
        request = dataclasses.replace(self.request, env_fns=self.request.env_fns[:num_envs])
        learner = self._learner(num_envs)
        rehearse = self.probe is not None and self.probe.construct_s < REHEARSE_LIMIT_S
        label = f"{num_envs} x {', '.join(modes)}"

        def progress(message: str | Timed) -> None:
            if isinstance(message, str):
                self.say(f"{label}: {message}")
            else:
                self._keep(message)

        progress("starting")
        run = partial(time_modes, request, modes, learner, budget_s, rehearse)
        try:
            # The learner and its threads, or the user's factory, are here, and nowhere else.
            here = callable(self.options.learner) or loaded_torch() is not None
            if here or request.native is not None or not self.isolated:
                run(progress=progress)
            else:
                start_method = request.vector_kwargs.get("context")
                run_isolated(run, budget_s, start_method, progress=progress)
        except IsolatedLost as lost:
            for mode in modes:
                if (mode, num_envs) not in self.points:
                    self._skip(mode, num_envs, str(lost))
            self.notes.append(Note("timing-lost", f"Measuring {label} was cut short: {lost}."))

    def _keep(self, found: Timed) -> None:
        self.points.update({(point.mode, point.num_envs): point for point in found.points})
        if found.difference is not None:
            self._note(
                "bits-differ",
                "The modes did not return the same bits for the same seeds and actions "
                f"({found.difference}): the environment is not deterministic, or draws from "
                "generators that are not its own.",
            )

    def _learner(self, num_envs: int) -> Learner:
        space = self.probe.action_space if self.probe else None
        learner = read_learner(self.options.learner, num_envs, space)
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
        self.points[mode, num_envs] = skipped_point(mode, num_envs, why)

    def sweep(self, *, whole: bool) -> Sweep:
        """What was found so far."""
        order = [(mode, number) for number in self.options.num_envs for mode in self.modes]
        return Sweep(
            env=self.request.label,
            by_id=self.request.spec is not None,
            num_envs=self.options.num_envs,
            modes=self.modes,
            named_modes=self.options.modes,
            points=tuple(self.points.get(key) or skipped_point(*key, NOT_REACHED) for key in order),
            whole=whole,
            learner=self.learner_kind,
            machine=self.machine,
            profile=self.probe.profile if self.probe else None,
            memory_kind=memory_kind(),
            notes=tuple(self.notes),
            budget_s=self.options.budget_s,
            seconds=time.perf_counter() - self.start_s,
            **provenance(),
        )


@dataclass(frozen=True)
class Timed:
    """What timing modes side by side has found so far.

    Attributes:
        points: By mode, the simpler ones first.
        difference: Where a mode did not return what another one did, if that was seen.
    """

    points: tuple[Point, ...]
    difference: str | None = None


def time_modes(
    request: Request,
    modes: Sequence[str],
    learner: Learner,
    budget_s: float,
    rehearse: bool,
    *,
    progress: Callable[[str | Timed], None],
) -> None:
    """Builds modes, times them in turns until the time is over, and closes everything.

    Args:
        request: What was asked for, with the number of sub-environments to time.
        modes: Who takes part, the simpler ones first.
        learner: What happens between two vector steps.
        budget_s: Seconds after which no mode is built and no further round begun; one long round
            or a few short ones are always run.
        rehearse: Whether to build and close one sub-environment first, so that what its modules
            take counts for all modes and not for the first one alone.
        progress: Told in a few words what is being done, and after each round all that was found.

    Raises:
        ProfileError: If the learner fails.
    """
    deadline_s = time.perf_counter() + budget_s
    trials = Trials(learner, BLOCK_S, longest=MUCH_LONGER, drops_different=False)
    memory_bytes: dict[str, int] = {}

    def found() -> Timed:
        points = []
        for mode in modes:
            trial = trials.running.get(mode)
            if trial is None or not trial.blocks:
                why = trials.out.get(mode, "the time for this number was over before it was built")
                points.append(skipped_point(mode, request.num_envs, why))
                continue
            point = timed_point(
                mode,
                request.num_envs,
                trial.vector_steps,
                trial.loops_s,
                [block.learner_s / block.vector_steps for block in trial.blocks],
                memory_bytes=memory_bytes[mode],
                build_s=trial.build_s,
            )
            points.append(point)
        return Timed(tuple(points), trials.difference)

    with untouched_generators(), trials:
        base_bytes, server_bytes = _taken_before(request, modes, rehearse)
        for mode in modes:
            if trials.running and time.perf_counter() > deadline_s:
                break
            progress(f"building {mode}")
            before_bytes = tree_bytes()
            own = Mode.parse(mode).runs_users_environments
            trials.add(mode, builder(request, mode), compared=own)
            memory_bytes[mode] = base_bytes + max(tree_bytes() - before_bytes, 0)
            if _has_processes(mode):
                memory_bytes[mode] += server_bytes
        if trials.running:
            trials.set_blocks(_own(trials.running))
            _run_rounds(trials, deadline_s, progress, found)
        progress(found())


def _taken_before(request: Request, modes: Sequence[str], rehearse: bool) -> tuple[int, int]:
    """Memory that is taken before anything is built, and what a fork server takes beside it."""
    if rehearse:
        with contextlib.suppress(Exception):  # each mode says for itself what is wrong
            request.env_fns[0]().close()
    base_bytes = tree_bytes()
    method = request.vector_kwargs.get("context") or processes.start_methods()[0]
    if method != "forkserver" or not any(map(_has_processes, modes)):
        return base_bytes, 0
    # Every mode with processes needs this server, not only the one that is built first.
    forkserver.ensure_running()
    return base_bytes, max(tree_bytes() - base_bytes, 0)


def _run_rounds(
    trials: Trials,
    deadline_s: float,
    progress: Callable[[str | Timed], None],
    found: Callable[[], Timed],
) -> None:
    """Rounds, until there are enough or the time is over."""
    start_s = time.perf_counter()

    def after(rounds: int) -> list[str]:
        nonlocal start_s
        running = list(trials.running)
        if not running:
            return []
        progress(found())
        now_s = time.perf_counter()
        round_s, start_s = now_s - start_s, now_s
        few = rounds < FEW_ROUNDS and round_s < SLOW_ROUND_S
        if rounds == MAX_ROUNDS or (now_s + round_s > deadline_s and not few):
            return []
        if rounds >= FEW_ROUNDS:
            loops_s = {mode: median(trial.loops_s) for mode, trial in trials.running.items()}
            limit_s = MUCH_LONGER * min(loops_s[mode] for mode in _own(running))
            running = [mode for mode in running if loops_s[mode] <= limit_s]
        progress(f"round {rounds + 1}")
        return running

    progress("round 1")
    trials.rounds(tuple(trials.running), after)


def _own(modes: Collection[str]) -> list[str]:
    """Those that run the user's own environments, or all if none does.

    What another implementation takes must not make the blocks of all the others long.
    """
    own = [mode for mode in modes if Mode.parse(mode).runs_users_environments]
    return own or list(modes)


def _has_processes(mode: str) -> bool:
    return Mode.parse(mode).processes(1) > 0
