"""The decision with all its evidence: a plain value, JSON both ways."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect.errors import PlanError
from vecselect.machine import Machine
from vecselect.measure.ipc import IpcProfile
from vecselect.measure.step import StepProfile
from vecselect.plan_checks import why_unsound
from vecselect.selection.compare import Interval
from vecselect.selection.costs import Calibration, LoopCosts, RayCosts
from vecselect.selection.estimate import Estimate
from vecselect.selection.race import RaceRecord
from vecselect.selection.rule import RuleVerdict
from vecselect.selection.situation import Situation
from vecselect.values import exactly, read_document

if TYPE_CHECKING:
    from vecselect.report import Report

SCHEMA = 5
"""Number of the JSON form; it grows when an older reader could misread the newer form.

1: the first. 2: candidates with intervals; estimate, race, learner and plan store. 3: notes with
codes; predictions taken apart. 4: what a thread costs, and computing without the interpreter's
lock. 5: what Ray actors cost. Plans of schema 2 to 4 are read too.
"""

OLDEST = 2
"""The oldest schema that is still read."""


@dataclass(frozen=True)
class Candidate:
    """One mode, and what is known about it.

    Attributes:
        mode: The mode, as a user would pin it.
        predicted: Predicted seconds from one vector step to the next, learner included.
        measured: The same, measured in a race; None where it did not take part.
        skipped: Why it could not be chosen, as a sentence; None if it could.
    """

    mode: str
    predicted: Interval | None = None
    measured: Interval | None = None
    skipped: str | None = None

    @property
    def loop_s(self) -> float | None:
        """Seconds from one vector step to the next: measured, else predicted, else None."""
        known = self.measured or self.predicted
        return None if known is None else known.mid


@dataclass(frozen=True)
class Note:
    """Something the reader should know beside the choice, and what can be done about it.

    Attributes:
        code: What it is about, the same from version to version; `vecselect.planning.notes` lists
            them.
        text: A sentence or two.
        loud: Whether it may matter more than the choice itself.
    """

    code: str
    text: str
    loud: bool = False


@dataclass(frozen=True)
class Plan:
    """What was decided, how, and from which numbers.

    Attributes:
        mode: The mode chosen; as a pin it reproduces the choice.
        reason: Why, in a sentence or two.
        decided_by: What decided: `rule`, `estimate`, `race`, `pin`, or `elimination` where only one
            mode could serve the request.
        effort: How much measuring was allowed.
        pinned_by: What the pin came from, as a user would write it; None without a pin.
        env: The environment's id or name.
        num_envs: The number of sub-environments.
        autoreset_mode: Gymnasium's value of it.
        observation_space: The observation space of one sub-environment, as text; None if unseen.
        action_space: The action space of one sub-environment, as text; None if unseen.
        candidates: Every candidate, the chosen one among them.
        machine: The machine it was decided for.
        profile: What one sub-environment's step costs; None where nothing was measured.
        ipc: What a hand-off to another process costs; None where nothing was measured.
        rule: What the ~1 ms rule says; None where nothing was measured.
        calibration: What a hand-off and a message of each mode cost here; None below `estimate`.
        loops: What the loops cost with this environment's spaces; None below `estimate`.
        estimate: What the cost model says; None below `estimate`.
        ray: What Ray actors cost; None where `ray` did not come into question.
        race: The race that was run; None without one.
        learner: What ran, or was assumed to run, between two vector steps: `none`, `seconds`,
            `callable`, `stand-in` for torch, or `observed` in an earlier run.
        learner_s: Seconds it takes; 0.0 where that is not known.
        notes: What else the reader should know, the weightiest first.
        planning_s: Seconds that deciding took.
        created: When, in UTC, as ISO 8601.
        versions: Versions of the packages involved, by name.
        key: Under which the plan store knows it; None where it is not stored.
        not_stored: Why it is not stored, as a sentence; None if it is, or need not be.
        recalled: Whether it came from the plan store.
        schema: Number of the JSON form.
    """

    mode: str
    reason: str
    decided_by: str
    effort: str
    pinned_by: str | None
    env: str
    num_envs: int
    autoreset_mode: str
    observation_space: str | None
    action_space: str | None
    candidates: tuple[Candidate, ...]
    machine: Machine
    profile: StepProfile | None
    ipc: IpcProfile | None
    rule: RuleVerdict | None
    calibration: Calibration | None
    loops: LoopCosts | None
    estimate: Estimate | None
    ray: RayCosts | None
    race: RaceRecord | None
    learner: str
    learner_s: float
    notes: tuple[Note, ...]
    planning_s: float
    created: str
    versions: dict[str, str]
    key: str | None = None
    not_stored: str | None = None
    recalled: bool = False
    schema: int = SCHEMA

    @property
    def chosen(self) -> Candidate | None:
        """What is known about the chosen mode."""
        return next((one for one in self.candidates if one.mode == self.mode), None)

    @property
    def collection_share(self) -> float | None:
        """Share of the loop's time inside `step`, from 0 to 1; None where nothing tells it.

        A faster mode shortens only this share (Amdahl's law).
        """
        loop_s = self.chosen.loop_s if self.chosen else None
        return None if not loop_s else max(1.0 - self.learner_s / loop_s, 0.0)

    @property
    def situation(self) -> Situation | None:
        """What the cost model went by, to ask it further questions.

        None below `estimate`, and where an older version kept too little of it.
        """
        if self.estimate is None or self.profile is None:
            return None
        if self.calibration is None or self.loops is None:
            return None
        names = [forecast.mode.partition(":")[0] for forecast in self.estimate.forecasts]
        if "ray" in names and self.ray is None:
            return None
        return Situation(
            profile=self.profile,
            calibration=self.calibration,
            loops=self.loops,
            machine=self.machine,
            num_envs=self.num_envs,
            learner_s=self.learner_s,
            names=tuple(dict.fromkeys(names)),
            ray=self.ray,
            caller_steps=self.estimate.caller_steps,
        )

    @property
    def report(self) -> Report:
        """The plan, rendered for people."""
        from vecselect.report import Report

        return Report(self)

    def __repr__(self) -> str:
        """One line: what was chosen for what. A plan in full fills pages; `to_json` has it."""
        what = f"{self.env} x {self.num_envs}"
        return f"<Plan {what}: {self.mode} by {self.decided_by}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it: its report."""
        return self.report._repr_mimebundle_(include, exclude)

    def to_dict(self) -> dict[str, Any]:
        """The plan as dicts, lists, numbers, strings and None."""
        return dataclasses.asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """The plan as one JSON document.

        Args:
            indent: Spaces per level; None for a single line.
        """
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Reads what `to_json` wrote, also inside a file of the plan store.

        What `vecselect explain --json` and `vecselect plans show --json` print is read too.

        Raises:
            PlanError: If the text is not such a document, or one of a newer schema.
        """
        plan: Plan = read_document(cls, text, "plan", _current)
        if (why := why_unsound(plan)) is not None:
            raise PlanError(f"This is not a plan of vecselect: {why}.")
        return plan


def _current(data: dict[str, Any]) -> dict[str, Any]:
    """A document of any schema that is still read, in today's form."""
    data = _the_plan(data)
    schema = data.get("schema")
    if type(schema) is not int or not OLDEST <= schema <= SCHEMA:
        raise PlanError(
            f"The plan has schema {schema!r}; this version of vecselect reads {OLDEST} to "
            f"{SCHEMA}. Plan again, or read it with the version that wrote it."
        )
    if schema == 2:
        data = _from_2(data)
    if data["schema"] == 3:
        data = _from_3(data)
    if data["schema"] == 4:
        data = {**data, "schema": 5, "ray": None}
    return data


def _the_plan(data: dict[str, Any]) -> dict[str, Any]:
    """The plan in a document that holds other things beside it, or the document itself."""
    if "mode" in data:
        return data
    if isinstance(data.get("plan"), dict):
        return dict(data["plan"])
    if isinstance(data.get("plans"), list):
        raise PlanError(
            f"This document holds {len(data['plans'])} plans and is none; `vecselect plans import` "
            "reads what `vecselect plans export` wrote."
        )
    if "points" in data:
        raise PlanError("This is a sweep and no plan; Sweep.from_json reads it.")
    return data


def _from_2(data: dict[str, Any]) -> dict[str, Any]:
    """A document of schema 2 in the form of schema 3."""
    texts = [str(exactly(str, note)) for note in exactly(list, data.get("notes"))]
    notes = [  # a loud one stood behind a mark
        {"code": "note", "text": text.removeprefix("!!! "), "loud": text.startswith("!!! ")}
        for text in texts
    ]
    loops, estimate = data.get("loops"), data.get("estimate")
    if loops is not None:
        loops = {**dataclasses.asdict(LoopCosts(0.0, 0.0, 0.0)), **exactly(dict, loops)}
    if estimate is not None:
        forecasts = exactly(list, exactly(dict, estimate).get("forecasts"))
        forecasts = [{**exactly(dict, forecast), "parts": None} for forecast in forecasts]
        estimate = {**estimate, "forecasts": forecasts}
    return {**data, "schema": 3, "notes": notes, "loops": loops, "estimate": estimate}


def _from_3(data: dict[str, Any]) -> dict[str, Any]:
    """A document of schema 3 in the form of schema 4."""
    profile, calibration = data.get("profile"), data.get("calibration")
    if profile is not None:
        profile = {"free_share": None, **exactly(dict, profile)}
    if calibration is not None:
        calibration = {"thread_s": 0.0, **exactly(dict, calibration)}
    return {**data, "schema": 4, "profile": profile, "calibration": calibration}
