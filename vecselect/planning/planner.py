"""From a request to a plan.

request, options
| what can run here                  backends: missing, why_not
| a remembered plan                  cache, held against the request
| one sub-environment, profiled      measure.probe, in a process of its own
| loops, hand-off, learner           planning.loops, probe, measure.learner
v
Evidence --> selection.model.choose --> (effort="race": planning.race) --> Plan
sentences: planning.explain
"""

from __future__ import annotations

import dataclasses
import datetime
import platform
import time
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.backends.registry import BACKENDS
from vecselect.child import IsolatedLost, run_isolated
from vecselect.errors import ModeUnavailable, RequestError, StartError, VecselectError
from vecselect.learner_threads import loaded_torch, set_learner_threads
from vecselect.machine import read_machine
from vecselect.measure.generators import untouched_generators
from vecselect.measure.ipc import measure_ipc
from vecselect.measure.learner import measure_learner, read_learner
from vecselect.measure.load import ForeignLoad
from vecselect.measure.probe import space_text
from vecselect.measure.step import BRIEF, THOROUGH
from vecselect.modes import Mode
from vecselect.plan import Candidate, Note, Plan
from vecselect.plan_checks import EFFORTS
from vecselect.planning import explain
from vecselect.planning.cache import PlanCache, plan_key, script_name
from vecselect.planning.first_worker import FirstWorker
from vecselect.planning.loops import measure_loops
from vecselect.planning.observed import candidates_of, chosen_anew, counted_on
from vecselect.planning.prepared import Prebuilt, Prepared
from vecselect.planning.race import run_race
from vecselect.selection.candidates import candidate_modes, why_not_enough_memory
from vecselect.selection.compare import Interval
from vecselect.selection.evidence import Evidence, HandOff, LearnerCost
from vecselect.selection.model import break_even_s, choose
from vecselect.selection.rule import apply_rule
from vecselect.selection.what_if import what_if

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe
    from vecselect.options import PlanningOptions
    from vecselect.planning.cache import StoredPlan
    from vecselect.request import Request
    from vecselect.selection.model import Choice
    from vecselect.selection.race import RaceRecord

ONLY_WHEN_NAMED = frozenset({"ray"})
"""Kinds of which nothing is said unless the user has named them."""

RACED_WITHIN = 3.0
"""A race leaves out what is predicted to take this many times as long as the best."""


@dataclass(frozen=True)
class _Situation:
    """What is known before anything is measured.

    Attributes:
        request: What was asked for.
        options: How planning may go about it.
        machine: The machine.
        skipped: By kind of mode, why it cannot be chosen, or None.
        start_s: When planning began, by `time.perf_counter`.
    """

    request: Request
    options: PlanningOptions
    machine: Machine
    skipped: dict[str, str | None]
    start_s: float

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that can be chosen, the simpler ones first."""
        return tuple(kind for kind, why in self.skipped.items() if why is None)

    @property
    def deadline_s(self) -> float:
        """When nothing new is begun, by `time.perf_counter`."""
        return self.start_s + self.options.budget_s


def make_plan(request: Request, options: PlanningOptions) -> Plan:
    """Decides how to run a request; what `prepare` begins for it is ended.

    Raises:
        Exception: What `prepare` raises.
    """
    prepared = prepare(request, options, builds=False)
    prepared.discard()
    return prepared.plan


def prepare(request: Request, options: PlanningOptions, *, builds: bool) -> Prepared:
    """Decides how to run a request.

    Args:
        request: What was asked for.
        options: How planning may go about it.
        builds: Whether the vector environment is built afterwards: then the calling process builds
            its first sub-environment while another one is profiled.

    Returns:
        The plan, and what was begun for it; `discard` it, or build from it.

    Raises:
        ModeUnavailable: If the pinned mode cannot serve the request.
        RequestError: If no mode can.
        ProfileError: If the environment fails while it is measured.
    """
    start_s = time.perf_counter()
    machine = read_machine()
    if request.pin is not None:
        return Prepared(_pinned(request, options, machine, start_s), request)
    situation = _Situation(
        request, options, machine, _why_not_chosen(request, options, machine), start_s
    )
    kinds = situation.kinds
    if not kinds:
        whys = "; ".join(f"{kind}: {why}" for kind, why in situation.skipped.items())
        raise RequestError(f"No mode can run {request.label}. {whys}.")
    blocked = processes.why_no_children() or request.why_not_sent
    if blocked is not None:
        return Prepared(_without_processes(situation, blocked), request)
    if kinds == ("native",):
        only = "It is the only mode that can run it."
        return Prepared(_unmeasured(situation, "native", only), request)
    if options.effort == "rule":
        return Prepared(_by_rule(situation), request)
    return _by_evidence(situation, builds)


def _without_processes(situation: _Situation, why: str) -> Plan:
    """The plan where no other process can be used: nothing can be measured in one, nor run."""
    reason = f"No other process can measure or run it: {why}."
    if "thread" in situation.kinds[1:]:
        reason += ' Where steps wait, mode="thread" lets them wait together.'
    return _unmeasured(situation, situation.kinds[0], reason)


def _why_not_chosen(
    request: Request, options: PlanningOptions, machine: Machine
) -> dict[str, str | None]:
    """By kind of mode, why it cannot be chosen unasked, or None."""
    skipped: dict[str, str | None] = {}
    for kind, backend in BACKENDS.items():
        if kind in ONLY_WHEN_NAMED and kind not in options.allow:
            continue
        skipped[kind] = backend.missing(machine) or backend.why_not(request, Mode(kind), machine)
    if skipped["native"] is None and "native" not in options.allow:
        skipped["native"] = explain.NATIVE_NOT_ALLOWED
    if options.effort == "rule":
        for kind, why in skipped.items():
            if why is None and kind not in ("sync", "async"):
                skipped[kind] = explain.RULE_KNOWS_TWO
    return skipped


def _pinned(request: Request, options: PlanningOptions, machine: Machine, start_s: float) -> Plan:
    """The plan of a pin: that mode, nothing measured, no other mode looked at."""
    pin = request.pin
    assert pin is not None
    backend = BACKENDS[pin.mode.kind]
    why = backend.missing(machine) or backend.why_not(request, pin.mode, machine)
    why = why or pin.mode.why_not(request.num_envs, request.caller_steps)
    if why is not None:
        raise ModeUnavailable(
            f"Mode '{pin.mode}' was pinned by {pin.source}, but it cannot run {request.label}: "
            f"{why}."
        )
    situation = _Situation(request, options, machine, {pin.mode.kind: None}, start_s)
    mode = str(backend.exact(request, pin.mode, machine))
    return _plan(
        situation,
        _unmeasured_evidence(situation),
        mode=mode,
        reason=f"{pin.source} pins it; nothing was measured.",
        decided_by="pin",
        candidates=(Candidate(mode),),
        learner_threads=_given_threads(options),
    )


def _given_threads(options: PlanningOptions) -> int | None:
    """The learner's threads that the user has named."""
    threads = options.learner_threads
    return threads if isinstance(threads, int) else None


def _unmeasured(situation: _Situation, kind: str, reason: str) -> Plan:
    """The plan where nothing can be measured."""
    mode = Mode(kind)
    exact = str(BACKENDS[kind].exact(situation.request, mode, situation.machine))
    others = _skipped_candidates(situation, {kind})
    return _plan(
        situation,
        _unmeasured_evidence(situation),
        mode=exact,
        reason=reason,
        decided_by="elimination",
        candidates=(Candidate(exact), *others),
        learner_threads=_given_threads(situation.options),
    )


def _by_rule(situation: _Situation) -> Plan:
    """The card's own procedure: a profile, round trips through a pipe, the ~1 ms rule."""
    options, request = situation.options, situation.request
    options.progress("measuring one environment's step")
    first = _first_worker(situation)
    try:
        found = first.profile()
    finally:
        first.end()
    options.progress("measuring a hand-off to another process")
    ipc = measure_ipc(found.observation, start_method=request.vector_kwargs.get("context"))
    verdict = apply_rule(found.profile, situation.machine, request.num_envs, ipc)
    kinds = situation.kinds
    mode = verdict.mode if verdict.mode in kinds else kinds[0]
    evidence = dataclasses.replace(_evidence(situation, found), ipc=ipc, rule=verdict)
    predicted = {"sync": verdict.sync_s, "async": verdict.async_s}
    candidates = [
        Candidate(kind, predicted=None if seconds is None else Interval(*[seconds] * 3))
        for kind, seconds in predicted.items()
        if kind in kinds
    ]
    return _plan(
        situation,
        evidence,
        mode=mode,
        reason=explain.reason_of_rule(verdict, mode, situation.skipped.get(verdict.mode)),
        decided_by="rule",
        candidates=(*candidates, *_skipped_candidates(situation, set(kinds))),
        notes=explain.of_rule(verdict) + explain.of_profile(situation.machine, found.profile),
        break_even={"async": verdict.break_even_s},
        learner_threads=_given_threads(options),
    )


def _by_evidence(situation: _Situation, builds: bool) -> Prepared:
    """The plan by what is remembered, or else by the model and, where asked for, a race."""
    options, request = situation.options, situation.request
    cache = PlanCache() if options.use_store else None
    key = plan_key(
        request,
        situation.machine,
        learner=options.learner,
        learner_threads=options.learner_threads,
        allow=options.allow,
    )
    stored = cache.recall(key, kinds=situation.kinds) if cache else None
    if stored is not None and not options.fresh and _serves(stored, options):
        return Prepared(_recalled(stored, key.digest), request)
    if cache is None:
        return _measured(situation, None, builds, alone=True)
    with cache.planning_lock() as alone:
        prepared = _measured(situation, stored, builds, alone=alone)
    plan = prepared.plan
    if not alone or plan.decided_by == "elimination":
        return prepared
    try:
        why_not = cache.save(key, dataclasses.replace(plan, key=key.digest))
    except BaseException:  # warnings may be errors
        prepared.discard()
        raise
    plan = dataclasses.replace(plan, key=None if why_not else key.digest, not_stored=why_not)
    return dataclasses.replace(prepared, plan=plan)


def _serves(stored: StoredPlan, options: PlanningOptions) -> bool:
    """Whether a remembered plan was made with as much effort as is asked for."""
    return EFFORTS.index(stored.plan.effort) >= EFFORTS.index(options.effort)


def _recalled(stored: StoredPlan, key: str) -> Plan:
    """The remembered plan, chosen anew where runs of this script have shown more since."""
    plan = dataclasses.replace(stored.plan, key=key, recalled=True)
    return chosen_anew(plan, stored.observations.get(script_name(), ()))


def _measured(
    situation: _Situation, stored: StoredPlan | None, builds: bool, *, alone: bool
) -> Prepared:
    """The plan by what is measured now.

    Args:
        situation: What is known so far.
        stored: A remembered plan that is replaced; what runs have shown since is kept.
        builds: As in `prepare`.
        alone: Whether nothing else plans at the same time, so that hand-offs can be measured.
    """
    options, request = situation.options, situation.request
    load = ForeignLoad()
    options.progress("measuring one environment's step")
    try:
        first = _first_worker(situation)
    except (StartError, OSError, ImportError) as error:
        return Prepared(_without_processes(situation, str(error)), request)
    prebuilt: Prebuilt | None = None
    try:
        if builds and request.num_envs > 1 and request.caller_steps:
            prebuilt = Prebuilt(request.env_fns[0])
        found = first.profile()
        measured = alone and "pool" in situation.kinds
        hand_off = first.measure_hand_off() if measured else None
        plan = _decided(situation, stored, found, hand_off or HandOff(), load, alone=alone)
    except BaseException:
        first.end()
        if prebuilt is not None:
            prebuilt.close()
        raise
    if prebuilt is not None:
        request = dataclasses.replace(request, env_fns=(prebuilt, *request.env_fns[1:]))
    mode = Mode.parse(plan.mode)
    if mode.kind == "pool" and mode.workers and (hand_off or (not measured and first.answers())):
        return Prepared(plan, request, first)
    first.end()
    return Prepared(plan, request)


def _decided(
    situation: _Situation,
    stored: StoredPlan | None,
    found: Probe,
    hand_off: HandOff,
    load: ForeignLoad,
    *,
    alone: bool,
) -> Plan:
    """The plan by a profile and a hand-off, with what else is measured here."""
    options, request, machine = situation.options, situation.request, situation.machine
    options.progress("measuring the loops and the learner")
    if found.draws is not None and situation.skipped.get("thread", "") is None:
        skipped = {**situation.skipped, "thread": explain.DRAWS.format(found.draws)}
        situation = dataclasses.replace(situation, skipped=skipped)
    evidence = _evidence(situation, found)
    learners = _learners(situation, found)
    evidence = dataclasses.replace(
        evidence,
        hand_off=hand_off,
        loops=measure_loops(request, found),
        learners=learners,
        rule=apply_rule(found.profile, machine, request.num_envs),
        foreign_cores=load.cores(),
    )
    if evidence.busy:  # an exchange that waits for its turn of the core tells nothing
        evidence = dataclasses.replace(evidence, hand_off=HandOff())
    notes: list[Note] = []
    evidence, skipped = _with_ray(situation, evidence, found, notes)
    situation = dataclasses.replace(situation, skipped=skipped)
    if stored is not None:
        seen = stored.observations.get(script_name(), ())
        evidence = dataclasses.replace(evidence, observations=seen)
    any_threads = options.learner_threads == "auto"
    modes = candidate_modes(evidence)
    choice = choose(evidence, any_threads=any_threads, modes=modes)
    decided_by, mode = "model", choice.best.mode
    if options.effort == "race":
        race = _race(situation, found, choice, notes)
        if race is not None:
            evidence = dataclasses.replace(evidence, race=race)
            decided_by, mode = "race", race.chosen
    why = explain.provisional(evidence, alone=alone)
    notes = [
        *explain.of_threads(choice, quiet=why is None),
        *explain.of_provisional(why, alone=alone),
        *notes,
        *explain.of_profile(machine, found.profile),
        *explain.of_learner(learners[0].kind),
        *explain.of_copying(choice.best),
        *_left_out(evidence, modes),
    ]
    race = evidence.race
    if race is not None:
        reason = explain.reason_of_race(race, skipped) + explain.of_rule_beside(mode, evidence.rule)
    else:
        reason = explain.reason_of_model(choice, evidence.rule)
    threads = counted_on(choice.best, evidence) if any_threads else _given_threads(options)
    named = {Mode.parse(row.mode).kind for row in choice.forecasts}
    return _plan(
        situation,
        evidence,
        mode=mode,
        reason=reason,
        decided_by=decided_by,
        candidates=candidates_of(choice, race) + _skipped_candidates(situation, named),
        notes=notes,
        break_even=_break_evens(evidence, modes),
        changes=True,
        provisional=why,
        learner_threads=threads,
    )


def _first_worker(situation: _Situation) -> FirstWorker:
    """A process that profiles one sub-environment.

    Of a list of callables the last one is profiled: where one of them records, it is the first.
    """
    options, request = situation.options, situation.request
    return FirstWorker(
        request.env_fns[0 if request.spec is not None else -1],
        extent=THOROUGH if options.effort == "rule" else BRIEF,
        budget_s=options.budget_s,
        start_method=request.vector_kwargs.get("context"),
        daemon=bool(request.vector_kwargs.get("daemon", False)),
    )


def _evidence(situation: _Situation, found: Probe) -> Evidence:
    """What the profile tells."""
    return dataclasses.replace(
        _unmeasured_evidence(situation),
        observation_space=space_text(found.observation_space),
        action_space=space_text(found.action_space),
        profile=found.profile,
        construct_s=found.construct_s,
    )


def _unmeasured_evidence(situation: _Situation) -> Evidence:
    request = situation.request
    return Evidence(
        machine=situation.machine,
        num_envs=request.num_envs,
        autoreset_mode=request.autoreset_mode.value,
        caller_steps=request.caller_steps,
        kinds=situation.kinds,
    )


def _learners(situation: _Situation, found: Probe) -> tuple[LearnerCost, ...]:
    """The learner as its threads are set, or as the user sets them, and with one thread."""
    options, request = situation.options, situation.request
    given = _given_threads(options)
    with set_learner_threads(given), untouched_generators():
        return measure_learner(
            options.learner,
            request.num_envs,
            found.action_space,
            found.observation_batch(request.num_envs),
            one_thread=given is None,
        )


def _with_ray(
    situation: _Situation, evidence: Evidence, found: Probe, notes: list[Note]
) -> tuple[Evidence, dict[str, str | None]]:
    """Adds what Ray actors cost, where they may be chosen; leaves `ray` out where that fails."""
    skipped = dict(situation.skipped)
    if skipped.get("ray", "") is not None:
        return evidence, skipped
    from vecselect.planning.ray_costs import ray_costs  # Ray is imported only where it is allowed

    situation.options.progress("measuring Ray")
    try:
        costs = ray_costs(situation.request, situation.machine, found)
    except VecselectError as error:
        skipped["ray"] = str(error)
        kinds = tuple(kind for kind in evidence.kinds if kind != "ray")
        return dataclasses.replace(evidence, kinds=kinds), skipped
    notes.append(explain.ray_measured(costs))
    return dataclasses.replace(evidence, ray=costs), skipped


def _race(
    situation: _Situation, found: Probe, choice: Choice, notes: list[Note]
) -> RaceRecord | None:
    """Races what may be best; None, with the reason noted, where that cannot be."""
    options, request = situation.options, situation.request
    if found.holds:
        notes.append(explain.not_raced(found.holds))
        return None
    threads = choice.best.threads
    limit_s = RACED_WITHIN * choice.best.loop_s
    modes = [
        one.mode
        for one in choice.forecasts
        if one.threads == threads and (one.mode == "sync" or one.loop_s <= limit_s)
        if not one.mode.startswith("ray:")  # starting actors takes longer than a race may
    ]
    native = situation.skipped["native"] in (None, explain.NATIVE_NOT_ALLOWED)
    timed_only = ["native"] if native and "native" not in options.allow else []
    entrants = [*modes, *(["native"] if native else [])]
    learner = read_learner(options.learner, request.num_envs, found.action_space)
    as_set = choice.forecasts[0].threads
    left_s = situation.deadline_s - time.perf_counter()
    run = partial(run_race, request, entrants, learner, budget_s=left_s, timed_only=timed_only)
    try:
        if callable(options.learner) or loaded_torch() is not None:
            # The learner and its threads are here, and nowhere else.
            with set_learner_threads(threads if threads != as_set else None):
                race = run(progress=options.progress)
        else:
            start_method = request.vector_kwargs.get("context")
            race = run_isolated(run, left_s, start_method, progress=options.progress)
    except IsolatedLost as lost:
        notes.append(explain.race_lost(lost))
        return None
    notes += explain.of_race(race)
    return race


def _left_out(evidence: Evidence, modes: tuple[Mode, ...]) -> list[Note]:
    """Which modes would not fit into memory."""
    profile = evidence.profile
    assert profile is not None
    left_out = []
    for kind in ("async", "pool"):
        if kind in evidence.kinds and not any(mode.kind == kind for mode in modes):
            mode = Mode(kind) if kind == "async" else Mode(kind, 1)
            why = why_not_enough_memory(mode, profile, evidence)
            left_out += [explain.left_out(mode, why)] if why else []
    return left_out


def _break_evens(evidence: Evidence, modes: tuple[Mode, ...]) -> dict[str, float | None]:
    """By kind, the step time from which on it beats `sync`, as far as both can run."""
    kinds = {mode.kind for mode in modes if not mode.in_caller_alone}
    if "sync" not in evidence.kinds:
        return {}
    return {
        kind: break_even_s(kind, evidence, modes)
        for kind in ("pool", "async", "ray")
        if kind in kinds
    }


def _skipped_candidates(situation: _Situation, named: set[str]) -> tuple[Candidate, ...]:
    """A row for each kind that could not be chosen."""
    return tuple(
        Candidate(kind, skipped=why)
        for kind, why in situation.skipped.items()
        if why is not None and kind not in named
    )


def _plan(
    situation: _Situation,
    evidence: Evidence,
    *,
    mode: str,
    reason: str,
    decided_by: str,
    candidates: tuple[Candidate, ...],
    learner_threads: int | None = None,
    notes: list[Note] | None = None,
    break_even: dict[str, float | None] | None = None,
    changes: bool = False,
    provisional: str | None = None,
) -> Plan:
    """The plan of a decision."""
    pin = situation.request.pin
    return Plan(
        mode=mode,
        learner_threads=learner_threads,
        reason=reason,
        decided_by=decided_by,
        effort=situation.options.effort,
        pinned_by=pin.source if pin else None,
        env=situation.request.label,
        evidence=evidence,
        candidates=candidates,
        break_even_s=break_even or {},
        what_if=what_if(evidence) if changes else (),
        notes=tuple(sorted(notes or [], key=lambda note: not note.loud)),
        provisional=provisional,
        planning_s=time.perf_counter() - situation.start_s,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
        threads_free=situation.options.learner_threads == "auto",
    )


def _versions() -> dict[str, str]:
    names = ("vecselect", "gymnasium", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
