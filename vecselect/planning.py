"""From a request to a plan: measures what has to be measured and asks the selection."""

from __future__ import annotations

import datetime
import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.backends.registry import BACKENDS, exact, find
from vecselect.errors import ModeUnavailable, RequestError
from vecselect.machine import read_machine
from vecselect.measure.ipc import measure_ipc
from vecselect.measure.probe import Probe, probe
from vecselect.plan import Candidate, Plan
from vecselect.selection.rule import RuleVerdict, apply_rule

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.measure.ipc import IpcProfile
    from vecselect.request import Request

EFFORTS = ("rule",)
"""How much measuring is allowed, the least first."""

NEVER_BY_RULE = {
    "pool": "the rule chooses between sync and async; pin it to use it",
    "native": "another implementation of the environment; pin it to use it",
}
"""Modes that the rule does not choose, and why."""

SPACE_TEXT_CHARACTERS = 160


def make_plan(request: Request, *, budget_s: float) -> Plan:
    """Decides how to run a request.

    Args:
        request: What was asked for.
        budget_s: Seconds that stepping the environment for measurement may take.

    Returns:
        The plan.

    Raises:
        ModeUnavailable: If the pinned mode cannot serve the request.
        RequestError: If no mode can.
        ProfileError: If the environment fails while it is measured.
    """
    start_s = time.perf_counter()
    machine = read_machine()
    skipped = {
        mode: backend.missing(machine) or backend.why_not(request, machine)
        for mode, backend in BACKENDS.items()
    }
    if request.pin is not None:
        return _pinned_plan(request, machine, skipped, start_s)
    for mode, reason in NEVER_BY_RULE.items():
        skipped[mode] = skipped[mode] or reason
    able = [mode for mode, reason in skipped.items() if reason is None]
    if not able:
        reasons = "; ".join(f"{mode}: {reason}" for mode, reason in skipped.items())
        raise RequestError(f"No mode can run {request.label}. {reasons}.")
    context = request.vector_kwargs.get("context")
    blocked = processes.why_no_children() or request.why_not_sent
    if blocked is not None:
        # Nothing can be measured in another process, and then nothing can run in one either.
        return _plan(
            request,
            machine,
            mode=able[0],
            reason=f"It is the only mode that can run here: {blocked}.",
            decided_by="elimination",
            candidates=tuple(Candidate(mode, skipped=why) for mode, why in skipped.items()),
            start_s=start_s,
        )
    # What an id builds is always new; of callables a second is called, to see that it is.
    looked_at = request.env_fns[: 2 if request.spec is None else 1]
    found = probe(looked_at, budget_s=budget_s, start_method=context)
    ipc = measure_ipc(found.observation, start_method=context)
    verdict = apply_rule(found.profile, ipc, machine, request.num_envs)
    mode, reason = verdict.mode, verdict.reason
    if mode not in able:
        mode, reason = able[0], f"The rule says {mode}, but {skipped[mode]}."
    seconds = {"sync": verdict.sync_s, "async": verdict.async_s}
    return _plan(
        request,
        machine,
        mode=mode,
        reason=reason,
        decided_by="rule",
        candidates=tuple(
            Candidate(name, None if why else seconds.get(name), why)
            for name, why in skipped.items()
        ),
        start_s=start_s,
        found=found,
        ipc=ipc,
        verdict=verdict,
        notes=_notes(machine, verdict, found),
    )


def _pinned_plan(
    request: Request, machine: Machine, skipped: dict[str, str | None], start_s: float
) -> Plan:
    """The plan of a pin: that mode, nothing measured."""
    pin = request.pin
    assert pin is not None
    if why := skipped[find(pin.mode)[0].name]:
        raise ModeUnavailable(
            f"Mode {pin.mode!r} was pinned by {pin.source}, but it cannot run {request.label}: "
            f"{why}. Leave the pin out to have a mode chosen that can."
        )
    return _plan(
        request,
        machine,
        mode=exact(pin.mode, request.num_envs, machine),
        reason="It was pinned, so nothing was measured.",
        decided_by="pin",
        candidates=tuple(Candidate(mode, skipped=why) for mode, why in skipped.items()),
        start_s=start_s,
    )


def _plan(
    request: Request,
    machine: Machine,
    *,
    mode: str,
    reason: str,
    decided_by: str,
    candidates: tuple[Candidate, ...],
    start_s: float,
    found: Probe | None = None,
    ipc: IpcProfile | None = None,
    verdict: RuleVerdict | None = None,
    notes: tuple[str, ...] = (),
) -> Plan:
    return Plan(
        mode=mode,
        reason=reason,
        decided_by=decided_by,
        pinned_by=request.pin.source if request.pin else None,
        env=request.label,
        num_envs=request.num_envs,
        autoreset_mode=request.autoreset_mode.value,
        observation_space=_text(found.observation_space) if found else None,
        action_space=_text(found.action_space) if found else None,
        candidates=candidates,
        machine=machine,
        profile=found.profile if found else None,
        ipc=ipc,
        rule=verdict,
        notes=notes,
        planning_s=time.perf_counter() - start_s,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("vecselect", "gymnasium", "numpy")},
        },
    )


def _text(space: object) -> str:
    """A space as text, shortened: bounds of a large Box would fill pages."""
    text = " ".join(str(space).split())
    if len(text) <= SPACE_TEXT_CHARACTERS:
        return text
    return text[: SPACE_TEXT_CHARACTERS - 3] + "..."


def _notes(machine: Machine, verdict: RuleVerdict, found: Probe) -> tuple[str, ...]:
    """What the reader should know beside the verdict."""
    notes = []
    if verdict.near_line:
        notes.append("The step time lies close to the rule's line: both modes may serve.")
    predicted = "async" if verdict.async_s < verdict.sync_s else "sync"
    if predicted != verdict.mode and not verdict.near_line:
        notes.append(f"By the costs measured here {predicted} would be faster; the rule stands.")
    if machine.load_1min is not None and machine.load_1min > machine.cores:
        notes.append(
            f"{machine.load_1min:.1f} processes compete for {machine.cores:g} cores: measure again "
            "when the machine is idle."
        )
    if found.profile.reset_share > 0.1:
        notes.append(f"Resets take {found.profile.reset_share:.0%} of the time.")
    return tuple(notes)
