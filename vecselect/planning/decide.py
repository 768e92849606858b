"""From a request to a plan: one level of effort after the other, until the choice is clear."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.backends.registry import exact, find, why_not_so_many
from vecselect.errors import ModeUnavailable, RequestError, VecselectError
from vecselect.lanes import count_lanes
from vecselect.measure.cores import effective_cores
from vecselect.measure.ipc import measure_ipc
from vecselect.measure.learner import read_learner
from vecselect.measure.probe import probe
from vecselect.planning import notes, reasons
from vecselect.planning.apart import RaceLost, race_apart
from vecselect.planning.calibrate import loop_costs
from vecselect.planning.draft import Draft
from vecselect.planning.memory import Memory
from vecselect.planning.rounds import Terms, run_race
from vecselect.selection.candidates import simplicity, why_not_enough_memory
from vecselect.selection.costs import is_crowded, is_disturbed
from vecselect.selection.finalists import doubts, finalists, within_time
from vecselect.selection.rule import apply_rule
from vecselect.selection.situation import Situation
from vecselect.torch_ import loaded_torch

if TYPE_CHECKING:
    from vecselect.measure.probe import Probe
    from vecselect.plan import Plan
    from vecselect.planning.asked import Asked
    from vecselect.request import Request
    from vecselect.selection.costs import RayCosts
    from vecselect.selection.finalists import Doubt

PROFILE_SHARE = 0.2
"""Share of the budget that stepping one sub-environment may take, where a race may follow."""

BUILD_SHARE = 0.6
"""Share of what is left of the budget that building a race's entrants may take."""

PATIENCE = 2.0
"""So many times that, where a learner of the user's own competes with the workers: the estimate may
be wrong by a multiple, and a batch of fewer sub-environments might not be what it takes."""

FEWEST = 2
"""A race that stands for one of more sub-environments has this many of them per lane at least."""

BLOCK_S = {"measure": 0.025, "exhaustive": 0.08}
MAX_ROUNDS = {"measure": 12, "exhaustive": 24}
STOP_LOSS = {"measure": 0.005, "exhaustive": 0.001}


def make_plan(request: Request, asked: Asked) -> Plan:
    """Decides how to run a request.

    Args:
        request: What was asked for.
        asked: How much may be done to find out.

    Returns:
        The plan.

    Raises:
        ModeUnavailable: If the pinned mode cannot serve the request.
        RequestError: If no mode can.
        ProfileError: If the environment fails while it is measured.
    """
    draft = Draft(request, asked)
    if request.pin is not None:
        return _pinned(draft)
    _leave_out(draft)
    able = [mode for mode, reason in draft.skipped.items() if reason is None]
    if not able:
        whys = "; ".join(f"{mode}: {reason}" for mode, reason in draft.skipped.items())
        raise RequestError(f"No mode can run {request.label}. {whys}.")
    blocked = processes.why_no_children() or request.why_not_sent
    if blocked is not None:
        # Nothing can be measured in another process, and then nothing can run in one either; of
        # the modes without processes this is the simplest.
        reason = f"No other process can measure or run it: {blocked}."
        if "thread" in able[1:]:
            reason += ' Where steps wait, mode="thread" lets them wait together.'
        return draft.plan(able[0], reason, "elimination")
    if able == ["native"]:
        # There is no single environment to be measured.
        return draft.plan("native", "It is the only mode that can run it.", "elimination")
    memory = Memory(draft)
    recalled = memory.recall()
    if recalled is not None:
        return recalled
    _look(draft)
    if asked.effort == "rule":
        return _by_rule(draft, able)
    _estimate(draft, memory)
    _race(draft, memory)
    return memory.keep(_by_evidence(draft, memory))


def _pinned(draft: Draft) -> Plan:
    """The plan of a pin: that mode, nothing measured."""
    request, pin = draft.request, draft.request.pin
    assert pin is not None
    why = draft.skipped[find(pin.mode)[0].name]
    why = why or why_not_so_many(pin.mode, request.num_envs, request.caller_steps)
    if why is not None:
        raise ModeUnavailable(
            f"Mode {pin.mode!r} was pinned by {pin.source}, but it cannot run {request.label}: "
            f"{why}. Leave the pin out to have a mode chosen that can."
        )
    mode = exact(pin.mode, request, draft.machine)
    return draft.plan(mode, "It was pinned, so nothing was measured.", "pin")


def _leave_out(draft: Draft) -> None:
    """Notes which modes are not to be chosen although they could run."""
    skipped, asked = draft.skipped, draft.asked
    if asked.effort == "rule":
        for mode in {"pool", "thread", "ray"} & skipped.keys():
            skipped[mode] = skipped[mode] or notes.LANES_NEED_EVIDENCE
        skipped["native"] = skipped["native"] or notes.NATIVE_NEEDS_PIN
    elif "native" not in asked.allow:
        skipped["native"] = skipped["native"] or notes.NATIVE_NOT_ALLOWED


def _look(draft: Draft) -> None:
    """Measures one sub-environment and a round trip of its observation, and asks the rule."""
    request, asked = draft.request, draft.asked
    context = request.vector_kwargs.get("context")
    asked.progress("measuring one environment's step")
    # What an id builds is always new; of callables a second is called, to see that it is.
    looked_at = request.env_fns[: 2 if request.spec is None else 1]
    share = 1.0 if asked.effort in ("rule", "estimate") else PROFILE_SHARE
    draft.found = probe(looked_at, budget_s=min(asked.budget_s * share, 1.5), start_method=context)
    if draft.found.draws is not None:
        draft.skipped["thread"] = draft.skipped["thread"] or notes.DRAWS.format(draft.found.draws)
    asked.progress("measuring round trips of its observation")
    draft.ipc = measure_ipc(draft.found.observation, start_method=context)
    draft.rule = apply_rule(draft.found.profile, draft.ipc, draft.machine, request.num_envs)
    remembered = asked.use_store and asked.effort != "rule"
    again = notes.how_to_measure_again(request, asked.learner) if remembered else ""
    draft.notes += notes.of_profile(draft.machine, draft.found.profile, again)


def _by_rule(draft: Draft, able: list[str]) -> Plan:
    verdict = draft.rule
    assert verdict is not None
    mode, reason = verdict.mode, verdict.reason
    if mode not in able:
        mode, reason = able[0], f"The rule says {mode}, but {draft.skipped[mode]}."
    draft.notes[:0] = notes.of_rule(verdict)
    return draft.plan(mode, reason, "rule")


def _estimate(draft: Draft, memory: Memory) -> None:
    """Predicts every candidate that could be chosen."""
    request, machine, found = draft.request, draft.machine, draft.found
    assert found is not None
    profile = found.profile
    draft.learner = read_learner(
        draft.asked.learner, request.num_envs, found.action_space, memory.observed_gap_s
    )
    draft.asked.progress("measuring what the modes themselves cost")
    draft.calibration = memory.calibration()
    draft.loops = loop_costs(request, found)
    if draft.skipped.get("ray", "") is None:
        draft.asked.progress("measuring Ray")
        draft.ray = _ray_costs(draft, found)
    situation = Situation(
        profile=profile,
        calibration=draft.calibration,
        loops=draft.loops,
        machine=machine,
        num_envs=request.num_envs,
        learner_s=draft.learner.seconds or 0.0,
        names=tuple(
            name
            for name in ("sync", "pool", "async", "thread", "ray")
            if draft.skipped.get(name, "") is None
        ),
        ray=draft.ray,
        caller_steps=request.caller_steps,
    )
    modes = situation.modes()
    for mode in list(modes):
        why = why_not_enough_memory(mode, request.num_envs, profile, machine)
        if why is not None:
            modes.remove(mode)
            draft.notes.append(notes.left_out(mode, why))
    # What takes least of the memory is tried all the same where nothing fits.
    draft.estimate = situation.estimate(modes or situation.modes()[:1] or ["sync"])


def _ray_costs(draft: Draft, found: Probe) -> RayCosts | None:
    """What actors cost; None, with the reason noted, where there are none to be had."""
    from vecselect.planning.ray_costs import ray_costs  # Ray is imported only where it is allowed

    start_s = time.perf_counter()
    try:
        costs = ray_costs(draft.request, draft.machine, found)
    except VecselectError as error:
        draft.skipped["ray"] = str(error)
        return None
    draft.deadline_s += time.perf_counter() - start_s  # Ray's start, not this plan's
    draft.notes.append(notes.ray_measured(costs))
    return costs


def _race(draft: Draft, memory: Memory) -> None:
    """Races the finalists, where the estimate leaves a doubt and nothing forbids it."""
    request, asked, learner, found = draft.request, draft.asked, draft.learner, draft.found
    assert draft.estimate is not None and draft.calibration is not None
    assert found is not None and learner is not None
    native = draft.skipped["native"] in (None, notes.NATIVE_NOT_ALLOWED)
    doubted = doubts(
        draft.estimate,
        found.profile,
        crowded=is_disturbed(draft.calibration, draft.machine)
        or is_crowded(effective_cores(draft.machine.cores, rounds=1), draft.machine),
        learner=learner.kind,
        alike=request.spec is not None or len(set(map(_maker, request.env_fns))) == 1,
        native=native,
    )
    exhaustive = asked.effort == "exhaustive"
    if not (doubted or exhaustive) or draft.estimate.mode.startswith("ray:"):
        return  # starting actors takes longer than a race may
    if asked.effort == "estimate":
        draft.notes.append(notes.not_settled(doubted[0]))
        return
    if found.holds:
        draft.notes.append(notes.not_raced(found.holds, doubted))
        return
    entrants = _entrants(draft, doubted)
    if entrants is None:
        return
    modes, num_envs = entrants
    if native and num_envs == request.num_envs:
        modes.append("native")
    terms = Terms(
        block_s=BLOCK_S[asked.effort],
        max_rounds=MAX_ROUNDS[asked.effort],
        deadline_s=draft.deadline_s,
        stop_loss=STOP_LOSS[asked.effort],
        progress=asked.progress,
    )
    timed_only = ["native"] if native and "native" not in asked.allow else []
    raced = dataclasses.replace(request, env_fns=request.env_fns[:num_envs])
    incumbent = memory.incumbent
    if callable(asked.learner) or loaded_torch() is not None:
        # The learner and its threads are here, and nowhere else.
        draft.race = run_race(
            raced, modes, learner, terms, timed_only=timed_only, incumbent=incumbent
        )
        return
    try:
        draft.race = race_apart(
            raced, modes, learner.seconds, terms, timed_only=timed_only, incumbent=incumbent
        )
    except RaceLost as lost:
        draft.notes.append(notes.race_lost(lost))


def _maker(env_fn: object) -> object:
    return getattr(env_fn, "make", env_fn)


def _entrants(draft: Draft, doubted: tuple[Doubt, ...]) -> tuple[list[str], int] | None:
    """Who runs, and with how many sub-environments; None where building them takes too long.

    Where threads compete with the workers a race of fewer sub-environments still shows it.
    """
    asked, found, learner = draft.asked, draft.found, draft.learner
    assert draft.estimate is not None and found is not None and learner is not None
    contention = any(doubt.contention for doubt in doubted)
    modes = finalists(
        draft.estimate,
        contention=contention,
        exhaustive=asked.effort == "exhaustive",
        sleepers=learner.kind in ("callable", "stand-in", "observed"),
    )
    modes = [mode for mode in modes if not mode.startswith("ray:")]
    build_s = {mode: _build_s(draft, mode) for mode in modes}
    limit_s = max(draft.left_s, 0.0) * BUILD_SHARE
    modes = within_time(modes, draft.estimate, build_s, limit_s)
    needed_s = sum(build_s[mode] for mode in modes)
    if contention and learner.kind == "callable":
        limit_s *= PATIENCE
    num_envs = draft.request.num_envs
    if needed_s <= limit_s:
        return modes, num_envs
    fewer = int(num_envs * limit_s / needed_s)
    caller_steps = draft.request.caller_steps
    lanes = max((count_lanes(simplicity(mode)[1], caller_steps) for mode in modes), default=1)
    batched = isinstance(draft.request.vector_kwargs.get("observation_mode"), tuple)
    if contention and learner.kind != "callable" and not batched and fewer >= FEWEST * lanes:
        draft.notes.append(notes.fewer(fewer, num_envs))
        return modes, fewer
    draft.notes.append(notes.too_long(needed_s, asked.budget_s, doubted))
    return None


def _build_s(draft: Draft, mode: str) -> float:
    """Seconds that building a mode takes, by what one sub-environment took."""
    assert draft.found is not None
    each_s, start_s, count = draft.found.construct_s, draft.found.start_s, draft.request.num_envs
    if mode == "sync":
        return count * each_s
    if mode == "async":
        return each_s + count * start_s / draft.machine.cores
    if mode.startswith("thread:"):
        return count * each_s  # one after the other
    workers = find(mode)[1]["workers"]
    lane_s = -(-count // count_lanes(workers, draft.request.caller_steps)) * each_s
    return lane_s + (workers > 0) * start_s * max(workers / draft.machine.cores, 1.0)


def _by_evidence(draft: Draft, memory: Memory) -> Plan:
    """The plan that the race makes, or the estimate where there was none or it was cut short."""
    assert draft.estimate is not None and draft.rule is not None
    if draft.race is not None:
        mode, decided_by = draft.race.chosen, "race"
        reason = reasons.reason_of_race(draft, memory.incumbent)
        draft.notes[:0] = notes.of_race(draft)
    else:
        mode = draft.estimate.mode
        if memory.incumbent in draft.estimate.close:
            mode = str(memory.incumbent)
        reason, decided_by = reasons.reason_of_estimate(draft, mode), "estimate"
    draft.notes += notes.of_copying(draft, mode)
    return draft.plan(mode, reason, decided_by)
