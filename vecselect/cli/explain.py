"""`vecselect explain`: a plan's report again, or what makes two plans differ."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.cli.plans import (
    KEY_HELP,
    SHORT,
    find_stored,
    summary,
    write_json,
    write_lines,
)

if TYPE_CHECKING:
    import argparse

    from vecselect.cli.plans import Commands
    from vecselect.plan import Plan


@dataclass(frozen=True)
class _Found:
    """A plan, and what is to be said of where it was found."""

    plan: Plan
    name: str
    lines: tuple[tuple[str, str], ...]
    document: dict[str, Any]


def add_command(commands: Commands) -> None:
    """Adds `explain` to the command line."""
    summary_text = "the report of a stored plan, or what makes two of them differ"
    explain = commands.add_parser("explain", help=summary_text, description=summary_text)
    explain.set_defaults(run=_explain)
    explain.add_argument(
        "plans",
        nargs="*",
        metavar="PLAN",
        help=f"{KEY_HELP}; or an environment's id, for its newest plan; or a JSON file that "
        "`recommend --json`, `explain --json` or the plan store wrote; the newest plan of all "
        "without one; with two, what differs",
    )
    explain.add_argument("--json", action="store_true", help="print one JSON document instead")
    explain.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report of one plan to a file: .html, .svg (the plots), .md or .json; may "
        "be repeated",
    )


def _explain(asked: argparse.Namespace) -> int:
    from vecselect.errors import RequestError
    from vecselect.report.outputs import check_output, write_output

    if len(asked.plans) > 2:
        raise RequestError(f"explain takes one plan or two; {len(asked.plans)} were given.")
    if asked.output and len(asked.plans) == 2:
        raise RequestError("--output takes the report of one plan, and two were given.")
    for path in asked.output:
        check_output(path)
    found = [_find(word) for word in asked.plans or [None]]
    if len(found) == 2:
        _write_difference(found, asked.json)
        return 0
    (one,) = found
    for path in asked.output:
        write_output(one.plan.report, path)
    if asked.json:
        write_json({**one.document, "plan": one.plan.to_dict()})
        return 0
    one.plan.report.print(sys.stdout)  # its last line is the pin
    sys.stdout.write("\n")
    write_lines([*one.lines, ("made", one.plan.created)])
    return 0


def _write_difference(found: list[_Found], as_json: bool) -> None:
    from vecselect.report import difference, stream

    first, second = (one.plan for one in found)
    names = [one.name for one in found]
    if names[0] == names[1]:
        names = ["the first", "the second"]
    if as_json:
        write_json(
            {
                "plans": [{**one.document, "plan": one.plan.to_dict()} for one in found],
                "reasons": difference.reasons(first, second, names),
            }
        )
    else:
        stream.write(difference.render(first, second, names), sys.stdout)


def _find(word: str | None) -> _Found:
    """The plan that a word stands for.

    Raises:
        PlanError: If there is none.
    """
    from vecselect.errors import PlanError
    from vecselect.store.plans import PlanStore

    if word is not None and word.endswith(".json"):
        plan = _read(Path(word))
        return _Found(plan, Path(word).stem, (("read from", word),), {"path": word})
    store = PlanStore()
    if word is not None:
        entry = find_stored(word)
    else:
        newest = store.entries()[:1]
        if not newest:
            raise PlanError(
                f"No plan is stored in {store.folder} yet. One is stored when auto_make_vec or "
                "`vecselect recommend` has measured."
            )
        entry = newest[0]
    lines = (("key", entry.key), ("stored in", str(entry.path)))
    return _Found(entry.plan, entry.key[:SHORT], lines, summary(entry))


def _read(path: Path) -> Plan:
    """The plan in a file, alone or beside other things."""
    from vecselect.plan import Plan
    from vecselect.store.files import MAX_BYTES, read_at_most

    with path.open("rb") as file:
        return Plan.from_json(read_at_most(file, MAX_BYTES, str(path)))
