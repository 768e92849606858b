"""Timing modes in turns: for a race, and for a sweep over several numbers of sub-environments.

    (mode, num_envs) ...                   candidates, or selection.candidates.proposed
    | each that fits into time and memory    built, compared, warmed up: Trials.add
    | rounds, one block of each              selection.race.still_running says who runs on
    v
    TimingResult, or Sweep with its recommendation

All are alive together and take turns, so that nothing that changes meanwhile falls on one of them
alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from vecselect.backends.base import backend_of
from vecselect.errors import ModeUnavailable, ProfileError, RequestError
from vecselect.learner_threads import loaded_torch
from vecselect.machine import memory_kind, read_machine, tree_bytes, why_no_room
from vecselect.measure.learner import read_learner
from vecselect.measure.step import THOROUGH
from vecselect.measure.trial import Trials
from vecselect.modes import Mode
from vecselect.plan import Sweep, provenance
from vecselect.planning import explain
from vecselect.planning.cache import PlanCache
from vecselect.planning.first_worker import profiled
from vecselect.planning.plan_key import sweep_key
from vecselect.process import children, contexts, forkserver
from vecselect.process.generators import untouched_generators
from vecselect.process.isolated import IsolatedLost, run_isolated
from vecselect.request import SweepProgress
from vecselect.selection.candidates import needed_bytes, proposed
from vecselect.selection.model import start_up_s
from vecselect.selection.race import (
    Timed,
    TimingResult,
    choose_by_number,
    still_running,
    times_beside,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import gymnasium as gym

    from vecselect.measure.probe import Probe
    from vecselect.plan import Note
    from vecselect.request import Request, SweepOptions

    Id = tuple[str, int]

BLOCK_S = 0.05
MAX_ROUNDS = 20
"""Seconds that a block of the fastest mode takes, and rounds at the most."""

SWEEP_BLOCK_S = 0.02
SWEEP_ROUNDS = 8
"""Of several numbers, which make longer rounds: the same, and the rounds that the best modes make
at least, so that the numbers can be compared."""

VECTOR_STEPS = 10
"""Vector steps that a mode makes at least: compared, and to warm up."""

REHEARSE_LIMIT_S = 1.0
"""An environment that takes longer to build is not built once more only to load its modules."""

COST_SHARE = 0.5
"""Share of the time left that building one more mode may take, and of all the time that building
may: rounds take the rest."""

PROFILE_S = 1.0
"""Seconds that stepping one sub-environment may take, and no more than a tenth of the budget."""


@dataclass(frozen=True)
class TimingTask:
    """What is to be timed; `run` and `run_isolated` do it.

    Attributes:
        request: With the largest number of sub-environments.
        which: Modes and numbers of sub-environments: the smaller numbers first, and of those the
            simpler modes.
        learner: What happens between two vector steps, as the user gave it.
        budget_s: Seconds after which no mode is built and no further round begun.
        probe: What one sub-environment takes; None to build all, whether there is room or not.
        block_s: Seconds that a block of the fastest mode takes.
    """

    request: Request
    which: tuple[Id, ...]
    learner: Any
    action_space: gym.Space[Any] | None
    budget_s: float
    probe: Probe | None = None
    block_s: float = BLOCK_S
    max_rounds: int = MAX_ROUNDS

    def run_isolated(
        self,
        say: Callable[[str], None],
        keep: Callable[[TimingResult], None] = lambda found: None,
    ) -> TimingResult:
        """The same as `run` in a process of its own, unless the learner and its threads are here.

        Raises `IsolatedLost` if that process ends before it has told all.

        Args:
            say: Told in a few words what is being done.
            keep: Given now and then all that was found so far.
        """

        def progress(message: str | TimingResult) -> None:
            if isinstance(message, str):
                say(message)
            else:
                keep(message)

        here = callable(self.learner) or loaded_torch() is not None
        here = here or self.request.native is not None
        if here or children.why_no_children() or self.request.why_not_sent:
            return self.run(progress=progress)
        start_method = self.request.vector_kwargs.get("context")
        return run_isolated(self.run, self.budget_s, start_method, progress=progress)

    def run(self, *, progress: Callable[[str | TimingResult], None]) -> TimingResult:
        """Builds all, runs rounds until it is known which is best, and closes everything.

        Args:
            progress: Told in a few words what is being done, and now and then all that was found.

        Raises:
            Exception: What building the first mode raised, if none could be built.
            ProfileError: If none of them could be stepped, or the learner failed.
        """
        with untouched_generators(), Trials(self.block_s) as trials:
            running = _Running(self, trials, progress)
            running.build()
            running.rounds()
            return running.found()


class _Running:
    """One call of `TimingTask.run`."""

    def __init__(
        self, timing: TimingTask, trials: Trials, progress: Callable[[str | TimingResult], None]
    ) -> None:
        self.start_s = time.perf_counter()
        self.deadline_s = self.start_s + timing.budget_s
        self.timing = timing
        self.trials = trials
        self.progress = progress
        self.number = 0
        self.skipped: dict[Id, str] = {}
        self.memory_bytes: dict[Id, int] = {}
        _load_what_all_need(timing)
        self.base_bytes = self.taken_bytes = tree_bytes()

    def build(self) -> None:
        """Builds, compares and warms up all that fit into the time and the memory."""
        timing, trials = self.timing, self.trials
        for mode, count in timing.which:
            which = mode, count
            if (why := self.why_not(which)) is not None:
                self.skipped[which] = why
                continue
            self.progress(f"building {mode} x {count}")
            learner = read_learner(timing.learner, count, timing.action_space)
            trials.add(which, partial(_build, timing.request, Mode.parse(mode), count), learner)
            before_bytes, self.taken_bytes = self.taken_bytes, tree_bytes()
            self.memory_bytes[which] = self.base_bytes + max(self.taken_bytes - before_bytes, 0)
            self.progress(self.found())  # the process may be lost with the next one
        self.need_some()
        trials.set_blocks()

    def why_not(self, which: Id) -> str | None:
        """Why there is no time or no memory for one more, if so; never of the first one."""
        probe, (mode, count) = self.timing.probe, which
        if probe is None or not self.trials.running:
            return None
        parsed, left_s = Mode.parse(mode), self.deadline_s - time.perf_counter()
        lanes = parsed.lanes(count, self.timing.request.caller_steps)
        each_s = probe.construct_s + probe.profile.reset_time_s
        takes_s = -(-count // lanes) * (each_s + VECTOR_STEPS * probe.profile.step_time_s)
        takes_s += start_up_s(parsed, count, read_machine().cores)
        if takes_s > min(COST_SHARE * left_s, left_s - COST_SHARE * self.timing.budget_s):
            return explain.NO_TIME.format(seconds=takes_s, budget_s=self.timing.budget_s)
        takes_bytes = needed_bytes(parsed, count, probe.profile)
        return why_no_room(takes_bytes, read_machine().memory_available_bytes)

    def need_some(self) -> None:
        """Raises what has gone wrong if nothing is left."""
        trials = self.trials
        if trials.running:
            return
        errors = list(trials.errors.values())
        if not trials.built:
            raise errors[0]  # a pin of that mode would have raised it too
        last = errors[-1]
        raise ProfileError(
            f"Every mode failed while {self.timing.request.label} was timed; the last one raised "
            f"{type(last).__name__}: {last}"
        ) from last

    def rounds(self) -> None:
        """Rounds, until nobody can get ahead any more or there is no time for another one."""
        names, late = list(self.trials.running), False
        while names and not late and self.number < self.timing.max_rounds:
            self.progress(f"round {self.number + 1}: {', '.join(f'{m} x {n}' for m, n in names)}")
            start_s = time.perf_counter()
            self.trials.round(names, self.number)
            end_s = time.perf_counter()
            late = end_s + (end_s - start_s) > self.deadline_s
            self.number += 1
            self.need_some()
            self.progress(self.found())
            names = self.next_round()

    def next_round(self) -> list[Id]:
        """Who runs in the next round; nobody where it is known which is best."""
        by_number = self.blocks_s()
        names = [
            (mode, count)
            for count, blocks_s in by_number.items()
            for mode in still_running(blocks_s)
        ]
        several = len(by_number) > 1
        known = len(names) == len(by_number) and not (several and self.number < SWEEP_ROUNDS)
        return [] if known else names

    def blocks_s(self) -> dict[int, dict[str, list[float]]]:
        """Seconds per vector step of every block, by number of sub-environments and mode."""
        found: dict[int, dict[str, list[float]]] = {}
        for (mode, count), trial in self.trials.running.items():
            found.setdefault(count, {})[mode] = trial.loops_s or [trial.step_s]
        return found

    def found(self) -> TimingResult:
        """All that is known so far; of those that have run no round, what the warm-up took."""
        trials, entrants = self.trials, []
        times_s = {count: times_beside(blocks_s) for count, blocks_s in self.blocks_s().items()}
        for which in self.timing.which:
            mode, count = which
            trial = trials.running.get(which)
            if trial is None:
                why = trials.why_out(which) or self.skipped.get(which)
                entrants += [Timed(mode, count, skipped=why)] if why else []
                continue
            loop_s = times_s[count][mode]
            shares = [block.learner_s / block.total_s for block in trial.blocks] or [0.0]
            timed = Timed(
                mode,
                count,
                loop_s=loop_s,
                learner_s=loop_s.mid * median(shares),
                blocks_s=tuple(round(s, 9) for s in trial.loops_s or [trial.step_s]),
                vector_steps=trial.vector_steps,
                memory_bytes=self.memory_bytes.get(which),
            )
            entrants.append(timed)
        return TimingResult(
            entrants=tuple(entrants),
            rounds=self.number,
            compared_steps=trials.compared_steps,
            difference=trials.difference,
            seconds=time.perf_counter() - self.start_s,
        )


def _build(request: Request, mode: Mode, num_envs: int) -> Any:
    request = dataclasses.replace(request, env_fns=request.env_fns[:num_envs])
    return backend_of(mode.kind).build(request, mode)


def _load_what_all_need(timing: TimingTask) -> None:
    """Has the memory count for all modes alike, not for the first one, that all of them need."""
    if timing.probe is not None and timing.probe.construct_s < REHEARSE_LIMIT_S:
        with contextlib.suppress(Exception):  # each mode says for itself what is wrong
            timing.request.env_fns[0]().close()
    method = timing.request.vector_kwargs.get("context") or contexts.start_methods()[0]
    if method == "forkserver" and any(Mode.parse(mode).processes(1) for mode, _ in timing.which):
        forkserver.ensure_running()


# A sweep


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
            self.note(explain.note("not-together", what=" and ".join(self.probe.holds)))
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
            self.note(explain.note("timing-lost", why=lost))

    def skip(self, which: Iterable[Id], why: str) -> None:
        self.timed |= {one: Timed(*one, skipped=why) for one in which}

    def keep(self, found: TimingResult) -> None:
        self.timed |= {(one.mode, one.num_envs): one for one in found.entrants}
        if found.difference is not None:
            self.note(explain.note("bits-differ", difference=found.difference))

    def sweep(self, *, whole: bool) -> Sweep:
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
