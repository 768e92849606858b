"""From a request to a plan.

    request, options
    | what can run here                  backends: missing, why_not
    | a remembered plan                  cache, held against the request
    | one sub-environment, profiled      first_worker, in a process of its own
    | hand-off, learner, other ways      first_worker, measure.learner, other_costs
    v
    Evidence --> selection.model.choose --> (effort="race": timing) --> Plan --> build

What a pin, the ~1 ms rule or elimination decides takes the same way with less evidence. Every
sentence comes from `explain`.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from vecselect.backends.base import backend_of
from vecselect.errors import ModeUnavailable, RequestError, StartError, VecselectError
from vecselect.learner_threads import set_learner_threads
from vecselect.machine import read_machine
from vecselect.measure.clock import ForeignLoad
from vecselect.measure.ipc import measure_ipc
from vecselect.measure.learner import measure_learner
from vecselect.measure.probe import space_text
from vecselect.measure.step import BRIEF, THOROUGH
from vecselect.modes import KINDS, Mode
from vecselect.plan import Candidate, Plan, provenance
from vecselect.planning import explain
from vecselect.planning.cache import PlanCache
from vecselect.planning.first_worker import FirstWorker, profiled
from vecselect.planning.observed import candidates_of, chosen_anew, counted_on
from vecselect.planning.other_costs import implementation_costs, ray_costs
from vecselect.planning.plan_key import plan_key, script_name
from vecselect.planning.timing import TimingTask
from vecselect.process import children
from vecselect.process.generators import untouched_generators
from vecselect.process.isolated import IsolatedLost
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.evidence import BUSY_SHARE, Evidence, HandOff, LoopCosts
from vecselect.selection.model import break_even_s, choose
from vecselect.selection.overlap import overlap
from vecselect.selection.race import Interval
from vecselect.selection.race import choose as choose_timed
from vecselect.selection.rule import apply_rule

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from vecselect.measure.probe import Probe
    from vecselect.plan import Note
    from vecselect.request import Pin, PlanningOptions, Request
    from vecselect.selection.evidence import (
        ImplementationCost,
        LearnerCost,
        ObservedRun,
        RayCosts,
    )
    from vecselect.selection.model import Choice
    from vecselect.selection.overlap import Overlap
    from vecselect.selection.race import TimingResult

RACED_WITHIN, RACED_START_S = 3.0, 1.0
"""A race leaves out what is predicted to take this many times as long as the best, and modes whose
first worker takes longer to start than this."""


Planned = tuple[Plan, FirstWorker | None]
"""A plan, and the process that has profiled where it can be the first worker of the plan's pool."""


def make_plan(request: Request, options: PlanningOptions) -> Plan:
    """Decides how to run a request; what `prepare` begins for it is ended."""
    plan, first = prepare(request, options, builds=False)
    if first is not None:
        first.end()
    return plan


def prepare(request: Request, options: PlanningOptions, *, builds: bool) -> Planned:
    """Decides how to run a request.

    Args:
        request: What was asked for.
        options: How planning may go about it.
        builds: Whether the vector environment is built afterwards: then the calling process imports
            what that needs while a sub-environment is profiled.

    Returns:
        The plan, and what was begun for it: `end` it, or build with it.

    Raises:
        ModeUnavailable: If the pinned mode cannot serve the request.
        RequestError: If no mode can.
        ProfileError: If the environment fails while it is measured.
    """
    planning = _Planning(request, options)
    if request.pin is not None:
        return planning.pinned(request.pin), None
    planning.find_kinds()
    blocked = children.why_no_children() or request.why_not_sent
    if blocked is not None:
        return planning.without_processes(blocked), None
    if not any(KINDS[kind].users_environments for kind in planning.kinds):
        mode = Mode(planning.kinds[0])
        return planning.unmeasured(mode, explain.NO_OTHER), None
    if options.effort == "rule":
        return planning.by_rule(), None
    return planning.by_evidence(builds)


class _Planning:
    """The state of one call of `prepare`.

    Attributes:
        skipped: By kind of mode, why it cannot be chosen, or None.
    """

    def __init__(self, request: Request, options: PlanningOptions) -> None:
        self.start_s = time.perf_counter()
        self.request = request
        self.options = options
        self.machine = read_machine()
        self.skipped: dict[str, str | None] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that can be chosen, the simpler ones first."""
        return tuple(kind for kind, why in self.skipped.items() if why is None)

    def find_kinds(self) -> None:
        """Finds which kinds can be chosen; raises `RequestError` if none can."""
        for kind, about in KINDS.items():
            if kind in self.options.allow or not about.on_request:
                self.skipped[kind] = self._why_not(Mode(kind))
            elif kind == "native" and self._why_not(Mode(kind)) is None:
                self.skipped[kind] = explain.NATIVE_NOT_ALLOWED
        if self.options.effort == "rule":
            for kind in set(self.kinds) - {"sync", "async"}:
                self.skipped[kind] = explain.RULE_KNOWS_TWO
        if not self.kinds:
            whys = "; ".join(f"{kind}: {why}" for kind, why in self.skipped.items())
            raise RequestError(f"No mode can run {self.request.label}. {whys}.")

    def _why_not(self, mode: Mode) -> str | None:
        backend = backend_of(mode.kind)
        if self.request.buffers > 1 and not backend.buffers:
            return explain.NO_BUFFERS
        if self.request.batch_size is not None and not KINDS[mode.kind].one_by_one:
            return explain.NOT_ONE_BY_ONE
        return backend.missing(self.machine) or backend.why_not(self.request, mode, self.machine)

    # Nothing is measured

    def pinned(self, pin: Pin) -> Plan:
        """The plan of a pin: that mode, nothing measured, no other mode looked at."""
        request = self.request
        why = self._why_not(pin.mode)
        why = why or pin.mode.why_not(request.num_envs, request.caller_steps, request.buffers)
        if why is not None:
            raise ModeUnavailable(
                f"Mode '{pin.mode}' was pinned by {pin.source}, but it cannot run {request.label}: "
                f"{why}."
            )
        self.skipped = {pin.mode.kind: None}
        return self.unmeasured(pin.mode, explain.reason_of_pin(pin.source), decided_by="pin")

    def without_processes(self, why: str) -> Plan:
        """The plan where no other process can be used: nothing can be measured in one, nor run."""
        return self.unmeasured(Mode(self.kinds[0]), explain.WITHOUT_PROCESSES.format(why=why))

    def unmeasured(self, mode: Mode, reason: str, *, decided_by: str = "elimination") -> Plan:
        """The plan where nothing can or need be measured."""
        exact = str(backend_of(mode.kind).exact(self.request, mode, self.machine))
        return self._plan(
            self._evidence(), exact, reason, decided_by, candidates=(Candidate(exact),)
        )

    # The ~1 ms rule

    def by_rule(self) -> Plan:
        """The rule as it is told: a profile, round trips through a pipe, about 1 ms."""
        options, request = self.options, self.request
        options.progress("measuring one environment's step")
        found = profiled(request, THOROUGH, options.limit_s)
        options.progress("measuring a hand-off to another process")
        ipc = measure_ipc(found.observation, start_method=request.vector_kwargs.get("context"))
        verdict = apply_rule(found.profile, self.machine, request.num_envs, ipc)
        mode = verdict.mode if verdict.mode in self.kinds else self.kinds[0]
        predicted = {"sync": verdict.sync_s, "async": verdict.async_s}
        return self._plan(
            dataclasses.replace(self._evidence(found), ipc=ipc, rule=verdict),
            mode,
            explain.reason_of_rule(verdict, mode, self.skipped.get(verdict.mode)),
            "rule",
            candidates=tuple(
                Candidate(kind, predicted=None if seconds is None else Interval(*[seconds] * 3))
                for kind, seconds in predicted.items()
                if kind in self.kinds
            ),
            notes=explain.of_rule(verdict) + explain.of_profile(found.profile),
            break_even_s={"async": verdict.break_even_s},
        )

    # Evidence, and the model

    def by_evidence(self, builds: bool) -> Planned:
        """The plan by what is remembered, or else by the model and, where asked for, a race."""
        options = self.options
        if not options.use_store:
            return self._measured((), builds)
        cache, key = PlanCache(), plan_key(self.request, self.machine, options)
        stored = cache.recall(key.digest)
        seen: tuple[ObservedRun, ...] = ()
        if stored is not None and (builds or not callable(options.learner)):
            # Of a callable learner only what is built tells whether it is still the same.
            seen = stored.runs.get(script_name(), ())
            serves = stored.serves(self.kinds) and options.served_by(stored.plan.effort)
            if serves and not options.fresh:
                plan = dataclasses.replace(stored.plan, key=key.digest, recalled=True)
                return chosen_anew(plan, seen), None
        plan, first = self._measured(seen, builds)
        if plan.decided_by == "elimination":
            return plan, first
        plan = dataclasses.replace(plan, key=key.digest)
        try:
            if why_not := cache.save(key, plan):
                plan = dataclasses.replace(plan, key=None, not_stored=why_not)
        except BaseException:  # warnings may be errors
            if first is not None:
                first.end()
            raise
        return plan, first

    def _measured(self, seen: tuple[ObservedRun, ...], builds: bool) -> Planned:
        """The plan by what is measured now; `seen` is what runs of this script have shown."""
        request = self.request
        load = ForeignLoad()
        self.options.progress("measuring one environment's step")
        try:
            first = FirstWorker(request, BRIEF, self.options.limit_s)
        except (StartError, OSError, ImportError) as error:
            return self.without_processes(str(error)), None
        try:
            if builds and request.caller_steps:
                request.import_entry_point()  # while the other process does, too
            found = first.profile()
            hand_off = first.measure_hand_off()
            evidence, notes = self._gathered(found, hand_off or HandOff(), load, seen)
            plan = self._decided(evidence, found, notes)
        except BaseException:
            first.end()
            raise
        mode = Mode.parse(plan.mode)
        has_workers = mode.kind == "pool" and bool(mode.workers) and request.batch_size is None
        if has_workers and hand_off is not None:
            return plan, first
        first.end()
        return plan, None

    def _gathered(
        self, found: Probe, hand_off: HandOff, load: ForeignLoad, seen: tuple[ObservedRun, ...]
    ) -> tuple[Evidence, list[Note]]:
        """All evidence, with what else is measured here, and notes on what could not be."""
        able, num_envs, machine = self.kinds, self.request.num_envs, self.machine
        if found.draws is not None:
            for kind in able:
                if KINDS[kind].shares_interpreter:
                    self.skipped[kind] = explain.DRAWS.format(draws=found.draws, kind=kind)
        self.options.progress("measuring the learner")
        learners = self._learners(found)
        foreign_cores = load.cores()
        if foreign_cores > BUSY_SHARE * machine.cores:
            hand_off = HandOff()  # an exchange that waits for its turn of the core tells nothing
        ray, implementations, notes = self._other_costs(found)
        evidence = dataclasses.replace(
            self._evidence(found),
            ruled_out=tuple(kind for kind in able if kind not in self.kinds),
            hand_off=hand_off,
            loops=LoopCosts.of(found.profile, num_envs),
            learners=learners,
            rule=apply_rule(found.profile, machine, num_envs),
            foreign_cores=foreign_cores,
            ray=ray,
            implementations=implementations,
            runs=seen,
        )
        return evidence, notes

    def _decided(self, evidence: Evidence, found: Probe, notes: list[Note]) -> Plan:
        """The plan by the model and, where asked for, a race."""
        options, rule = self.options, evidence.rule
        any_threads = options.learner_threads == "auto"
        modes = candidate_modes(evidence)
        self.skipped |= explain.too_large(evidence, modes)
        choice = choose(evidence, any_threads=any_threads, modes=modes)
        mode, decided_by = choice.best.mode, "model"
        reason, race = explain.reason_of_model(choice, rule), None
        if options.effort == "race":
            race, race_notes = self._race(found, choice)
            notes += race_notes
        if race is not None:
            mode, decided_by = _winner(race), "race"
            reason = explain.reason_of_race(race, mode, rule)
        why, machine_notes = explain.of_machine(evidence, remembered=options.use_store)
        overlapped = None if self.request.overlaps else _overlap(evidence, choice)
        source = evidence.learners[0].source
        learner_known = source in ("seconds", "callable") or bool(evidence.runs)
        return self._plan(
            dataclasses.replace(evidence, race=race),
            mode,
            reason,
            decided_by,
            candidates=candidates_of(choice, race),
            notes=[
                *explain.of_threads(choice, quiet=why is None),
                *explain.of_overlap(overlapped, sure=why is None and learner_known),
                *machine_notes,
                *explain.of_implementations(self.request.label, evidence.implementations),
                *notes,
                *explain.of_profile(found.profile),
                *explain.of_learner(source),
            ],
            break_even_s=_break_evens(evidence, modes),
            overlap=overlapped,
            provisional=why,
            learner_threads=(
                counted_on(choice.best, evidence) if any_threads else self._given_threads
            ),
        )

    def _evidence(self, found: Probe | None = None) -> Evidence:
        """What the profile tells; without one, what was asked for."""
        evidence = Evidence(
            machine=self.machine,
            num_envs=self.request.num_envs,
            autoreset_mode=self.request.autoreset_mode.value,
            caller_steps=self.request.caller_steps,
            buffers=self.request.buffers,
            kinds=self.kinds,
        )
        if found is None:
            return evidence
        return dataclasses.replace(
            evidence,
            observation_space=space_text(found.observation_space),
            action_space=space_text(found.action_space),
            profile=found.profile,
            construct_s=found.construct_s,
        )

    @property
    def _given_threads(self) -> int | None:
        """The learner's threads that the user has named."""
        threads = self.options.learner_threads
        return threads if isinstance(threads, int) else None

    def _learners(self, found: Probe) -> tuple[LearnerCost, ...]:
        """The learner as its threads are set, or as the user sets them, and with one thread."""
        given, num_envs = self._given_threads, self.request.num_envs
        with set_learner_threads(given), untouched_generators():
            return measure_learner(
                self.options.learner,
                num_envs,
                found.action_space,
                found.observation_batch(num_envs),
                one_thread=given is None,
                half=found.observation_batch(num_envs // 2) if num_envs > 1 else None,
            )

    def _other_costs(
        self, found: Probe
    ) -> tuple[RayCosts | None, tuple[ImplementationCost, ...], list[Note]]:
        """What the steps of a sub-environment do not tell, for modes that were allowed.

        One that cannot be measured is left out, and a note says why.
        """
        ray: RayCosts | None = None
        costs: list[ImplementationCost] = []
        notes: list[Note] = []
        for kind in self.kinds:
            if not KINDS[kind].on_request:
                continue
            self.options.progress(f"timing {kind}")
            try:
                if kind == "ray":
                    ray = ray_costs(self.request, self.machine, found)
                elif not KINDS[kind].users_environments:
                    costs += implementation_costs(self.request, kind, found, self.machine)
            except ModeUnavailable as error:
                self.skipped[kind] = str(error).rstrip(".")
            except RequestError:
                raise
            except Exception as error:
                known = isinstance(error, VecselectError)
                why = str(error) if known else f"{type(error).__name__}: {error}"
                self.skipped[kind] = why
                notes.append(explain.note("implementation-left-out", loud=True, kind=kind, why=why))
        return ray, tuple(costs), notes

    def _race(self, found: Probe, choice: Choice) -> tuple[TimingResult | None, list[Note]]:
        """Races what may be best; None, with the reason noted, where that cannot be."""
        if found.holds:
            return None, [explain.note("not-raced", what=" and ".join(found.holds))]
        options, request = self.options, self.request
        threads, as_set = choice.best.threads, choice.forecasts[0].threads
        limit_s = RACED_WITHIN * choice.best.loop_s
        entrants = [
            one.mode
            for one in choice.forecasts
            if one.threads == threads and (one.mode == "sync" or one.loop_s <= limit_s)
            if KINDS[Mode.parse(one.mode).kind].start_s <= RACED_START_S
        ]
        timing = TimingTask(
            request,
            tuple((mode, request.num_envs) for mode in entrants),
            options.learner,
            found.action_space,
            self.start_s + options.limit_s - time.perf_counter(),
        )
        try:
            with set_learner_threads(threads if threads != as_set else None):
                race = timing.run_isolated(options.progress)
        except IsolatedLost as lost:
            return None, [explain.note("race-lost", why=lost)]
        return race, explain.of_race(race)

    def _plan(
        self,
        evidence: Evidence,
        mode: str,
        reason: str,
        decided_by: str,
        *,
        candidates: tuple[Candidate, ...],
        notes: Iterable[Note] = (),
        **others: Any,
    ) -> Plan:
        """The plan of a decision; what could not be chosen is added to the candidates."""
        pin = self.request.pin
        left_out = (Candidate(kind, skipped=why) for kind, why in self.skipped.items() if why)
        others.setdefault("learner_threads", self._given_threads)
        return Plan(
            mode=mode,
            reason=reason,
            decided_by=decided_by,
            effort=self.options.effort,
            pinned_by=pin.source if pin else None,
            env=self.request.label,
            evidence=evidence,
            candidates=(*candidates, *left_out),
            notes=tuple(sorted(notes, key=lambda note: not note.loud)),
            planning_s=time.perf_counter() - self.start_s,
            threads_free=self.options.learner_threads == "auto",
            **provenance(),
            **others,
        )


def _winner(race: TimingResult) -> str:
    """The mode to take after a race: the first one where others returned something else."""
    entrants = race.entrants
    if race.difference is not None:
        entrants = tuple(one for one in entrants if one.loop_s)[:1]
    won = choose_timed(entrants)
    assert won is not None, "a race without any result raises"
    return won.mode


def _overlap(evidence: Evidence, choice: Choice) -> Overlap | None:
    """What overlap would bring beside the choice, its learner as long as runs have shown it."""
    given = {one.threads: one for one in evidence.learners}
    cost = given.get(choice.best.threads, evidence.learners[0])
    cost = dataclasses.replace(cost, seconds=choice.best.learner_s)
    return overlap(evidence, Mode.parse(choice.best.mode), choice.best.loop_s, cost)


def _break_evens(evidence: Evidence, modes: tuple[Mode, ...]) -> dict[str, float | None]:
    """By kind, the step time from which on it beats `sync`, as far as both can run."""
    kinds = {mode.kind for mode in modes if mode.runs_users_environments}
    kinds &= {mode.kind for mode in modes if not mode.in_caller_alone}
    if "sync" not in evidence.kinds:
        return {}
    return {kind: break_even_s(kind, evidence, modes) for kind in KINDS if kind in kinds}
