"""What was decided with all its evidence, and what a sweep found: plain values, JSON both ways.

From JSON only values are made: nothing is executed.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import platform
import types
import typing
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from vecselect.errors import PlanError, RequestError
from vecselect.machine import Machine
from vecselect.modes import KINDS, Mode
from vecselect.request import EFFORTS
from vecselect.selection.evidence import Evidence
from vecselect.selection.model import Parts, learners_as_seen
from vecselect.selection.overlap import Overlap
from vecselect.selection.race import Interval, Timed, choose_by_number, smallest_enough
from vecselect.version import __version__

SCHEMA = 1
"""Number of the JSON forms. Raise it with every field added, removed or renamed."""

MOST = float(1 << 62)
"""No number in a document is as large."""

DECIDED_BY = ("rule", "model", "race", "observed", "pin", "elimination")


@dataclass(frozen=True)
class Candidate:
    """One mode under one setting of the learner's threads, and what is known about it.

    Attributes:
        mode: The mode, as a user would pin it.
        threads: The learner's threads that this is for; None where they make no difference.
        predicted: Predicted seconds from one vector step to the next, learner included.
        measured: The same, measured in a race or by earlier runs; None where it was not.
        parts: What the predicted vector step is made of, the learner not included.
        skipped: Why it could not be chosen, as a sentence; None if it could.
    """

    mode: str
    threads: int | None = None
    predicted: Interval | None = None
    measured: Interval | None = None
    parts: Parts | None = None
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
        code: What it is about, the same from version to version; `vecselect.planning.explain` lists
            them.
        text: A sentence or two.
        loud: Whether it may matter more than the choice itself.
    """

    code: str
    text: str
    loud: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided, how, and from which numbers; `print(Report(plan))` shows it.

    Attributes:
        mode: The mode chosen; as a pin it reproduces the choice.
        learner_threads: The threads that torch and numerical libraries should have while steps are
            made, applied by `AutoVectorEnv.collecting`; None to leave them as they are.
        reason: Why, in a sentence or two.
        decided_by: What decided: `rule`, `model`, `race`, `observed` where earlier runs did, `pin`,
            or `elimination` where only one mode could serve the request.
        effort: How much measuring was allowed.
        pinned_by: What the pin came from, as a user would write it; None without a pin.
        env: The environment's id or name.
        evidence: All that was measured.
        candidates: Every candidate, the chosen one among them, the simpler ones first.
        break_even_s: By kind of mode that has workers, the step time from which on it beats `sync`
            here; None where it never does. Empty where nothing was measured.
        overlap: What stepping some sub-environments while the learner works on others would bring.
        notes: What else the reader should know, the weightiest first.
        provisional: Why this plan should soon be made anew, as a sentence; None if it should not.
        planning_s: Seconds that deciding took.
        created: When, in UTC, as ISO 8601.
        versions: Versions of the packages involved, by name.
        threads_free: Whether the plan may choose the learner's threads.
        key: Under which the plan cache knows it; None where it is not stored.
        not_stored: Why it is not stored, as a sentence; None if it is, or need not be.
        recalled: Whether it came from the plan cache.
        schema: Number of the JSON form.
    """

    mode: str
    learner_threads: int | None
    reason: str
    decided_by: str
    effort: str
    pinned_by: str | None
    env: str
    evidence: Evidence
    candidates: tuple[Candidate, ...]
    break_even_s: dict[str, float | None] = field(default_factory=dict)
    overlap: Overlap | None = None
    notes: tuple[Note, ...] = ()
    provisional: str | None = None
    planning_s: float
    created: str
    versions: dict[str, str]
    threads_free: bool = False
    key: str | None = None
    not_stored: str | None = None
    recalled: bool = False
    schema: int = SCHEMA

    @property
    def num_envs(self) -> int:
        """The number of sub-environments."""
        return self.evidence.num_envs

    @property
    def threads(self) -> int | None:
        """The learner's threads that the choice is for; None where torch was not loaded."""
        if self.learner_threads is not None:
            return self.learner_threads
        return self.evidence.learners[0].threads

    @property
    def chosen(self) -> Candidate | None:
        """What is known about the chosen mode, with the learner's threads it was chosen for."""
        return self.candidate(self.mode)

    def candidate(self, mode: str) -> Candidate | None:
        """What is known about a mode with the learner's threads that the choice is for."""
        rows = [row for row in self.candidates if row.mode == mode]
        same = [row for row in rows if row.threads == self.threads]
        return next(iter(same or rows), None)

    @property
    def learner_s(self) -> float:
        """Seconds that the learner takes between two vector steps, as far as that is known."""
        # A race has run the learner that was measured; else runs have shown how long it is.
        raced = self.decided_by == "race"
        learners = self.evidence.learners if raced else learners_as_seen(self.evidence)
        return next((one.seconds for one in learners if one.threads == self.threads), 0.0)

    @property
    def collection_share(self) -> float | None:
        """Share of the loop's time inside `step`, from 0 to 1; None where nothing tells it.

        A faster mode shortens only this share (Amdahl's law).
        """
        loop_s = self.chosen.loop_s if self.chosen else None
        return None if not loop_s else max(1.0 - self.learner_s / loop_s, 0.0)

    def __repr__(self) -> str:
        """One line: what was chosen for what. A plan in full fills pages; `to_json` has it."""
        what = f"{self.env} x {self.num_envs}"
        return f"<Plan {what}: {self.mode} by {self.decided_by}>"

    def to_dict(self) -> dict[str, Any]:
        """The plan as dicts, lists, numbers, strings and None."""
        return dataclasses.asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """The plan as one JSON document, on a single line if `indent` is None."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, document: str | bytes | dict[str, Any]) -> Plan:
        """Reads what `to_json` wrote, a file of the plan cache, or `vecselect explain --json`.

        Args:
            document: The text, or what `json.loads` made of it.

        Raises:
            PlanError: If it is not such a document, or one of another schema, or of a plan that
                cannot have been made.
        """
        plan: Plan = _read(cls, document)
        evidence, profile = plan.evidence, plan.evidence.profile
        modes = [plan.mode, *(one.mode for one in plan.candidates)]
        modes += [one.mode for one in evidence.runs]
        modes += [one.mode for one in evidence.race.entrants] if evidence.race else []
        conditions = {
            "it has no sub-environments": min(evidence.num_envs, evidence.buffers) >= 1,
            "its learners are missing": bool(evidence.learners),
            "its profile has no steps": profile is None or profile.step_time_s * profile.steps > 0,
            "its decided_by is unknown": plan.decided_by in DECIDED_BY,
            "its effort is unknown": plan.effort in EFFORTS,
            "it holds an unknown kind of mode": KINDS.keys() >= {*evidence.kinds},
            "no mode can run it": profile is None or bool(evidence.kinds),
            "it holds an unknown mode": all(map(_is_mode, modes)),
        }
        wrong = next((what for what, holds in conditions.items() if not holds), None)
        if wrong is not None:
            raise PlanError(f"This is not a plan of vecselect: {wrong}.")
        return plan


def _is_mode(text: str) -> bool:
    try:
        Mode.parse(text)
    except RequestError:
        return False
    return True


@dataclass(frozen=True)
class Sweep:
    """Throughput and memory against the number of sub-environments, for each mode.

    `print(SweepReport(sweep))` shows it as tables.

    Attributes:
        env: The environment's id or name.
        by_id: Whether that is an id that Gymnasium knows.
        num_envs: The numbers of sub-environments, the smallest first.
        modes: The modes that take part, the simpler ones first.
        named_modes: The modes that the user named; empty where they were proposed.
        points: For each number and mode what was measured, or why nothing was.
        recommendation: Which number and mode to take, and why, in a sentence.
        whole: Whether it came to its end; one that was interrupted did not.
        learner: What ran between two vector steps; see `Plan`.
        machine: The machine it was run on.
        memory_kind: What `memory_bytes` adds up over the processes.
        notes: What else the reader should know.
        seconds: Seconds it took.
        created: When, in UTC, as ISO 8601.
        versions: Versions of the packages involved, by name.
        schema: Number of the JSON form.
    """

    env: str
    by_id: bool
    num_envs: tuple[int, ...]
    modes: tuple[str, ...]
    named_modes: tuple[str, ...]
    points: tuple[Timed, ...]
    recommendation: str
    whole: bool
    learner: str
    machine: Machine
    memory_kind: str
    notes: tuple[Note, ...]
    seconds: float
    created: str
    versions: dict[str, str]
    schema: int = SCHEMA

    @property
    def by_number(self) -> dict[int, Timed]:
        """For each number of sub-environments the mode to take."""
        return choose_by_number(self.points, self.named_modes)

    @property
    def recommended(self) -> Timed | None:
        """The fewest sub-environments, in their best mode, that give 95 % of the most throughput.

        None where nothing was measured.
        """
        return smallest_enough(self.by_number)

    def of(self, mode: str, num_envs: int) -> Timed | None:
        """What was found for a mode and a number, if they were part of it."""
        wanted = (mode, num_envs)
        return next((one for one in self.points if (one.mode, one.num_envs) == wanted), None)

    def __repr__(self) -> str:
        """One line: what is recommended for what. `to_json` has all of it."""
        best = self.recommended
        what = "nothing ran" if best is None else f"{best.num_envs} in {best.mode} recommended"
        return f"<Sweep {self.env}: {what}>"

    def to_dict(self) -> dict[str, Any]:
        """The sweep as dicts, lists, numbers, strings and None; `recommended` too."""
        found = self.recommended
        return {
            **dataclasses.asdict(self),
            "recommended": found and {"mode": found.mode, "num_envs": found.num_envs},
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The sweep as one JSON document, on a single line if `indent` is None."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Sweep:
        """Reads what `to_json` wrote.

        Raises:
            PlanError: If the text is not such a document, or one of another schema, or of a sweep
                that cannot have been made.
        """
        sweep: Sweep = _read(cls, text)
        for one in sweep.points:
            timed = one.loop_s is None or one.loop_s.mid > 0
            if not (timed and _is_mode(one.mode) and one.num_envs in sweep.num_envs):
                raise PlanError("This is not a sweep of vecselect: it holds an impossible point.")
        return sweep


def provenance() -> dict[str, Any]:
    """When something was made, and by which versions: fields that plans and sweeps have."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "created": now.isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "vecselect": __version__,
            "gymnasium": _version("gymnasium"),
            "numpy": _version("numpy"),
        },
    }


_version = functools.cache(metadata.version)  # which looks through folders


def _read(wanted: Any, document: str | bytes | dict[str, Any]) -> Any:
    """A `Plan` or `Sweep` from the JSON document that it was written to, or that holds it.

    Raises `PlanError` if it is no such document, or one of another schema.
    """
    name = wanted.__name__.lower()
    try:
        data = document if isinstance(document, dict) else json.loads(document)
        if not isinstance(data, dict):
            raise TypeError("it is not an object")
        data = data[name] if isinstance(data.get(name), dict) else data
        if name == "plan" and "points" in data:
            raise TypeError("it is a sweep, which Sweep.from_json reads")
        schema = data.get("schema")
        if type(schema) is int and schema == wanted.schema:
            return rebuilt(wanted, data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PlanError(f"This is not a {name} of vecselect: {error}.") from error
    raise PlanError(
        f"The {name} has schema {schema!r:.40}; this version of vecselect reads {wanted.schema}. "
        f"{name.title()} again, or read it with the version that wrote it."
    )


def rebuilt(wanted: Any, data: Any) -> Any:
    """A dataclass, or a value of one of its fields, from what `dataclasses.asdict` gave of it.

    Raises `TypeError` if something is missing or of another type, `ValueError` if a number cannot
    have been measured.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else rebuilt(arguments[0], data)
    if dataclasses.is_dataclass(wanted):
        hints = _hints(typing.cast("typing.Hashable", wanted))
        missing = hints.keys() - exactly(dict, data).keys()
        if missing:
            raise TypeError(f"{', '.join(sorted(missing))} is missing")
        return wanted(**{name: rebuilt(hint, data[name]) for name, hint in hints.items()})  # type: ignore[operator]
    if origin is tuple:
        return tuple(rebuilt(arguments[0], item) for item in exactly(list, data))
    if origin is dict:
        items = exactly(dict, data).items()
        return {str(key): rebuilt(arguments[1], value) for key, value in items}
    if wanted is float and type(data) is int:
        data = float(data)
    if wanted in (int, float) and not abs(exactly(wanted, data)) < MOST:  # nor is what is no number
        raise ValueError("a number is out of range")
    return exactly(wanted, data)


@functools.cache
def _hints(wanted: Any) -> dict[str, Any]:
    """The types of a dataclass's fields; finding them out compiles each of them."""
    return typing.get_type_hints(wanted)


def exactly(wanted: type, data: Any) -> Any:
    """The data itself, if it is of the type that JSON gives for it; else `TypeError`."""
    if type(data) is not wanted:
        shown = repr(data)[:40] if isinstance(data, (str, float, bool)) else type(data).__name__
        raise TypeError(f"{shown} stands where a {wanted.__name__} should")
    return data
