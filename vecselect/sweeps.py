"""What a sweep found: a plain value, JSON both ways."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from vecselect.machine import Machine
from vecselect.plan import Note
from vecselect.selection.race import Timed, choose_by_number, smallest_enough
from vecselect.values import read_document

SCHEMA = 1
"""Number of the JSON form. Raise it with every field added, removed or renamed."""


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
            PlanError: If the text is not such a document, or one of another schema.
        """
        sweep: Sweep = read_document(cls, text)
        return sweep
