"""Plans remembered: what is recalled, what is planned anew, and what is kept."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from vecselect.backends.registry import BACKENDS, find, why_not_so_many
from vecselect.errors import RequestError
from vecselect.measure.learner import torch_threads
from vecselect.plan_checks import EFFORTS
from vecselect.planning.calibrate import calibrate
from vecselect.selection.costs import Calibration, is_disturbed
from vecselect.store.files import warn_unwritable
from vecselect.store.key import Unstable, key_of, machine_fields, plan_key_fields
from vecselect.store.learner import identify_learner
from vecselect.store.plans import PlanStore
from vecselect.torch_ import loaded_torch

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.plan import Plan
    from vecselect.planning.draft import Draft
    from vecselect.store.plans import StoredPlan

GAP_MATTERS = 0.1
"""Gaps between two steps that are shorter than this share of a step make no difference."""

GAP_MOVED = 2.0

NEEDING = ("pool", "async")
"""Modes that need something of the system, which may be there again at the next start."""

_calibrations: dict[str, Calibration] = {}


class Memory:
    """The plan store, as far as it concerns one request.

    Attributes:
        incumbent: The mode that was remembered, where it is planned anew all the same.
        observed_gap_s: Seconds between two steps that an earlier run showed, where the remembered
            plan was made for others.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.incumbent: str | None = None
        self.observed_gap_s: float | None = None
        self._store = PlanStore() if draft.asked.use_store else None
        self._key: str | None = None
        self._fields: dict[str, Any] = {}
        self._why_not: str | None = None
        if self._store is None or draft.asked.effort == "rule":
            return
        try:
            self._fields = plan_key_fields(
                draft.request,
                draft.machine,
                learner=_learner_name(draft.asked.learner),
                allow=draft.asked.allow,
            )
            self._fields |= _lacking(draft.machine)
            self._key = key_of(self._fields)
        except Unstable as error:
            self._why_not = str(error)

    def recall(self) -> Plan | None:
        """The remembered plan, if it still holds."""
        if self._store is None or self._key is None:
            return None
        stored = self._store.load(self._key)
        if stored is None:
            return None
        plan, asked = stored.plan, self._draft.asked
        if asked.fresh:
            if asked.learner is None:
                self.observed_gap_s = _known_gap_s(stored)
            return None  # and what was chosen before has no say
        if not self._may_run(plan):
            return None
        self.incumbent = plan.mode
        if EFFORTS.index(plan.effort) < EFFORTS.index(asked.effort):
            return None
        if asked.learner is None and gap_moved(stored):
            assert stored.observed is not None
            self.observed_gap_s = stored.observed.gap_s
            return None
        recalled: Plan = dataclasses.replace(plan, key=self._key, recalled=True)
        return recalled

    def _may_run(self, plan: Plan) -> bool:
        """Whether a plan's mode could be chosen now, whoever wrote it down."""
        request, skipped = self._draft.request, self._draft.skipped
        try:
            backend, _ = find(plan.mode)
        except RequestError:
            return False
        if plan.num_envs != request.num_envs or skipped.get(backend.name, "not asked") is not None:
            return False
        return why_not_so_many(plan.mode, request.num_envs, request.caller_steps) is None

    def keep(self, plan: Plan) -> Plan:
        """Stores a plan; returns it with its key, or with why it is not stored."""
        if self._store is None:
            return plan
        if self._key is None:
            return dataclasses.replace(plan, not_stored=self._why_not)
        plan = dataclasses.replace(plan, key=self._key)
        why_not = self._store.save(self._key, plan, self._fields)
        if why_not is None:
            return plan
        warn_unwritable(self._store.folder, why_not)
        return dataclasses.replace(plan, key=None, not_stored=why_not)

    def calibration(self) -> Calibration:
        """What this machine takes for hand-offs and messages; measured once, then remembered."""
        machine = self._draft.machine
        key = key_of(machine_fields(machine) | _lacking(machine))
        if key in _calibrations:
            return _calibrations[key]
        found = self._store.load_calibration(key) if self._store else None
        calibration = _read(found) if found else None
        if calibration is None:
            self._draft.asked.progress("measuring this machine, once")
            before = dict(self._draft.skipped)
            calibration = calibrate(machine, self._draft.skipped)
            self._draft.deadline_s += calibration.seconds  # the machine's, not this plan's
            if is_disturbed(calibration, machine) or before != self._draft.skipped:
                return calibration  # true for now, but not of this machine
            if self._store is not None:
                self._store.save_calibration(key, dataclasses.asdict(calibration))
        _calibrations[key] = calibration
        return calibration


def _lacking(machine: Machine) -> dict[str, list[str]]:
    """The modes that cannot run here as of now: with them, another plan may be the right one."""
    missing = [name for name in NEEDING if BACKENDS[name].missing(machine) is not None]
    return {"lacking": missing} if missing else {}


def gap_moved(stored: StoredPlan) -> bool:
    """Whether real use showed another time between two steps than a plan was made for."""
    candidate, seen = stored.plan.chosen, stored.observed
    if seen is None or candidate is None or candidate.loop_s is None:
        return False
    step_s = max(candidate.loop_s - stored.plan.learner_s, 0.0)
    floor_s = max(GAP_MATTERS * step_s, 1e-9)
    ratio = (seen.gap_s + floor_s) / (stored.plan.learner_s + floor_s)
    return not 1 / GAP_MOVED <= ratio <= GAP_MOVED


def _known_gap_s(stored: StoredPlan) -> float | None:
    """What real use showed between two steps, lately or before the plan was made; else None."""
    if stored.observed is not None and gap_moved(stored):
        return stored.observed.gap_s
    return stored.plan.learner_s if stored.plan.learner == "observed" else None


def _learner_name(learner: Any) -> str:
    """What about the learner decides the choice: what it does or takes, and torch's threads."""
    if callable(learner):
        name = identify_learner(learner)
    elif learner:
        name = f"2^{round(math.log2(learner))} s"
    else:
        name = "none"
    if loaded_torch() is None:
        return name
    return f"{name}, torch with {torch_threads()} threads"


def _read(found: dict[str, Any]) -> Calibration | None:
    """A stored calibration, if it is one."""
    names = {field.name for field in dataclasses.fields(Calibration)}
    if found.keys() != names or not all(isinstance(v, (int, float)) for v in found.values()):
        return None
    return Calibration(**found)
