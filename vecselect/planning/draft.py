"""A plan in the making: the evidence so far, and the plan that it makes."""

from __future__ import annotations

import datetime
import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING

from vecselect.backends.registry import BACKENDS
from vecselect.machine import read_machine
from vecselect.plan import Candidate, Note, Plan
from vecselect.selection.candidates import simplicity
from vecselect.selection.compare import Interval

if TYPE_CHECKING:
    from vecselect.measure.ipc import IpcProfile
    from vecselect.measure.learner import Learner
    from vecselect.measure.probe import Probe
    from vecselect.planning.asked import Asked
    from vecselect.request import Request
    from vecselect.selection.costs import Calibration, LoopCosts, RayCosts
    from vecselect.selection.estimate import Estimate
    from vecselect.selection.race import RaceRecord
    from vecselect.selection.rule import RuleVerdict

SPACE_TEXT_CHARACTERS = 160


ONLY_WHEN_ASKED = frozenset({"ray"})
"""Modes of which nothing is said unless the user has named them."""


def _comes_into_question(mode: str, request: Request, asked: Asked) -> bool:
    """Whether a mode is asked what it can do: of a pin that one alone."""
    if request.pin is not None:
        return request.pin.mode.partition(":")[0] == mode
    return mode not in ONLY_WHEN_ASKED or mode in asked.allow


class Draft:
    """What is known so far. Every level of effort adds to it; `plan` can be called at any time.

    Attributes:
        deadline_s: When nothing new is begun, by `time.perf_counter`.
        skipped: By mode, why it cannot be chosen, or None.
        notes: What the reader should know beside the decision.
    """

    def __init__(self, request: Request, asked: Asked) -> None:
        self.start_s = time.perf_counter()
        self.request = request
        self.asked = asked
        self.deadline_s = self.start_s + asked.budget_s
        self.machine = read_machine()
        self.skipped: dict[str, str | None] = {
            mode: backend.missing(self.machine) or backend.why_not(request, self.machine)
            for mode, backend in BACKENDS.items()
            if _comes_into_question(mode, request, asked)
        }
        self.found: Probe | None = None
        self.ipc: IpcProfile | None = None
        self.rule: RuleVerdict | None = None
        self.calibration: Calibration | None = None
        self.loops: LoopCosts | None = None
        self.learner: Learner | None = None
        self.estimate: Estimate | None = None
        self.ray: RayCosts | None = None
        self.race: RaceRecord | None = None
        self.notes: list[Note] = []

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.deadline_s - time.perf_counter()

    def plan(self, mode: str, reason: str, decided_by: str) -> Plan:
        """The plan of choosing a mode by all that is known so far."""
        request, found = self.request, self.found
        return Plan(
            mode=mode,
            reason=reason,
            decided_by=decided_by,
            effort=self.asked.effort,
            pinned_by=request.pin.source if request.pin else None,
            env=request.label,
            num_envs=request.num_envs,
            autoreset_mode=request.autoreset_mode.value,
            observation_space=space_text(found.observation_space) if found else None,
            action_space=space_text(found.action_space) if found else None,
            candidates=self._candidates(),
            machine=self.machine,
            profile=found.profile if found else None,
            ipc=self.ipc,
            rule=self.rule,
            calibration=self.calibration,
            loops=self.loops,
            estimate=self.estimate,
            ray=self.ray,
            race=self.race,
            learner=self.learner.kind if self.learner else "none",
            learner_s=self._learner_s(mode),
            notes=tuple(sorted(self.notes, key=lambda note: not note.loud)),
            planning_s=time.perf_counter() - self.start_s,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            versions={
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("vecselect", "gymnasium", "numpy")},
            },
        )

    def _learner_s(self, mode: str) -> float:
        raced = self.race.of(mode) if self.race else None
        if raced is not None:
            return raced.learner_s
        return (self.learner.seconds or 0.0) if self.learner else 0.0

    def _candidates(self) -> tuple[Candidate, ...]:
        """One per mode, or per forecast and entrant where a mode has several."""
        if self.estimate is None:
            return tuple(
                Candidate(mode, None if why else self._by_rule(mode), None, why)
                for mode, why in self.skipped.items()
            )
        race = self.race
        out = dict(race.out) if race else {}
        raced = {entrant.mode for entrant in race.entrants} if race else set()
        known = {forecast.mode for forecast in self.estimate.forecasts} | raced | set(out)
        rows = []
        for mode in known:
            forecast, entrant = self.estimate.of(mode), race.of(mode) if race else None
            predicted = None
            if forecast is not None:
                wait_s = self.estimate.learner_s or self._learner_alone_s()
                ends = (forecast.mid, forecast.low, forecast.high)
                predicted = Interval(*(end + wait_s for end in ends))
            why = out.get(mode) or self.skipped.get(mode)
            whole = race is not None and race.num_envs == self.request.num_envs
            measured = entrant.loop_s if entrant and whole else None
            rows.append(Candidate(mode, predicted, measured, why))
        of_modes = {mode.partition(":")[0] for mode in known}
        rows += [
            Candidate(mode, skipped=why)
            for mode, why in self.skipped.items()
            if why and mode not in of_modes
        ]
        return tuple(sorted(rows, key=lambda row: simplicity(row.mode)))

    def _learner_alone_s(self) -> float:
        """What the learner took in the race beside the entrant that slowed it least."""
        entrants = self.race.entrants if self.race else ()
        return min((entrant.learner_s for entrant in entrants), default=0.0)

    def _by_rule(self, mode: str) -> Interval | None:
        """What the rule's own figures predict."""
        if self.rule is None or mode not in ("sync", "async"):
            return None
        seconds = self.rule.sync_s if mode == "sync" else self.rule.async_s
        return Interval(seconds, seconds, seconds)


def space_text(space: object) -> str:
    """A space as text, shortened: bounds of a large Box would fill pages."""
    text = " ".join(str(space).split())
    if len(text) <= SPACE_TEXT_CHARACTERS:
        return text
    return text[: SPACE_TEXT_CHARACTERS - 3] + "..."
