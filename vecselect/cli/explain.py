"""`vecselect explain`: the report of a plan that was made before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.cli.plans import KEY_HELP, find_stored, summary, write_json, write_lines

if TYPE_CHECKING:
    import argparse

    from vecselect.cli.plans import Commands
    from vecselect.plan import Plan

Lines = list[tuple[str, str]]


MOST_BYTES = 16 << 20
"""The most that is read of a file that holds one plan."""


def add_command(commands: Commands) -> None:
    """Adds `explain` to the command line."""
    text = "the report of a plan that was made before"
    explain = commands.add_parser("explain", help=text, description=text)
    explain.set_defaults(run=_explain)
    explain.add_argument(
        "plan",
        nargs="?",
        metavar="PLAN",
        help=f"{KEY_HELP}; or an environment's id, for its newest plan; or a JSON file that "
        "`recommend --json`, `explain --json` or the plan cache wrote; the newest plan of all "
        "without one",
    )
    explain.add_argument("--json", action="store_true", help="print one JSON document instead")
    explain.add_argument(
        "--details", action="store_true", help="print all of the evidence, not the short report"
    )
    explain.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report to a file: .html, .svg (the plots), .md or .json; may be repeated",
    )


def _explain(asked: argparse.Namespace) -> int:
    from vecselect.report.outputs import check_output, write_output

    for path in asked.output:
        check_output(path)
    plan, lines, document = _find(asked.plan)
    for path in asked.output:
        write_output(plan.report, path)
    if asked.json:
        write_json({**document, "plan": plan.to_dict()})
        return 0
    shown = plan.report.details if asked.details else plan.report
    shown.print(sys.stdout)  # its last line is the pin
    sys.stdout.write("\n")
    write_lines([*lines, ("made", plan.created)])
    return 0


def _find(word: str | None) -> tuple[Plan, Lines, dict[str, Any]]:
    """The plan that a word stands for, where it was found, and the same for programs.

    Raises:
        PlanError: If there is none.
    """
    from vecselect.errors import PlanError
    from vecselect.planning.cache import PlanCache

    if word is not None and word.endswith(".json"):
        return _read(Path(word)), [("read from", word)], {"path": word}
    if word is not None:
        entry = find_stored(word)
    else:
        cache = PlanCache()
        newest = cache.entries()[:1]
        if not newest:
            raise PlanError(
                f"No plan is stored in {cache.folder} yet. One is stored when auto_make_vec or "
                "`vecselect recommend` has measured."
            )
        entry = newest[0]
    return entry.plan, [("key", entry.key), ("stored in", str(entry.path))], summary(entry)


def _read(path: Path) -> Plan:
    """The plan in a file, alone or beside other things."""
    from vecselect.plan import Plan
    from vecselect.values import read_at_most

    with path.open("rb") as file:
        return Plan.from_json(read_at_most(file, MOST_BYTES, str(path)))
