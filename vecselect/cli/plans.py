"""The commands about plans that were made before: `vecselect plans ...` and `vecselect explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.cli.measure import JSON_HELP, add_output, write_plan
from vecselect.printable import write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from vecselect.cli.measure import Commands
    from vecselect.planning.cache import PlanCache, StoredPlan
    from vecselect.report.evidence import Rows

SHORT = 8
"""Characters of a key that stand for it where it is listed."""

GAP, ENVIRONMENT_COLUMNS = 2, 30
"""Columns of a terminal between two cells, and those that an environment's name has at least."""

LEFT_OUT_FIRST = ("machine", "learner", "decided by", "threads", "made (UTC)", "num_envs")
"""What a list leaves out where the terminal is too narrow; another machine is also dim."""

MOST_BYTES = 16 << 20
"""The most that is read of a file that holds one plan."""

WIDE = 10_000
"""Columns of what is written to a pipe, where no line should be broken."""

KEY_HELP = "the key of a stored plan, or enough of its beginning to tell it from the others"


def add_commands(commands: Commands) -> None:
    """Adds `explain` and `plans` to the command line."""
    text = "show the report of a plan that was made before"
    explain = commands.add_parser("explain", help=text, description=text)
    explain.set_defaults(run=_explain)
    explain.add_argument(
        "plan",
        nargs="?",
        metavar="PLAN",
        help=f"{KEY_HELP}; or an environment's id, for its newest plan; or a JSON file that "
        "`recommend --json`, `explain --json` or the plan cache wrote; without it, the newest plan",
    )
    add_output(explain)

    text = "list the remembered plans, or forget some"
    plans = commands.add_parser("plans", help=text, description=f"{text}; `list` by default")
    plans.set_defaults(run=_list, json=False)
    actions = plans.add_subparsers(metavar="ACTION")

    def add(name: str, run: Callable[[Any], int], summary: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=summary, description=summary)
        parser.set_defaults(run=run)
        return parser

    listing = add("list", _list, "list all remembered plans, the newest first")
    listing.add_argument("--json", action="store_true", help=JSON_HELP)
    forget = add("forget", _forget, "remove plans, and what runs with them have shown")
    forget.add_argument("keys", nargs="+", metavar="KEY", help=KEY_HELP)
    add("clear", _clear, "remove all plans, what runs with them have shown, and all sweeps")


def _cache() -> PlanCache:
    """The plan cache, which takes a while to import."""
    from vecselect.planning.cache import PlanCache

    return PlanCache()


def _list(args: argparse.Namespace) -> int:
    from vecselect.machine import read_machine
    from vecselect.planning.plan_key import machine_fields
    from vecselect.report.text import write

    cache = _cache()
    here = machine_fields(read_machine())
    rows = [_row(entry, here) for entry in cache.entries()]
    if args.json:
        _write_json(rows)
    elif rows:
        write(_Listing(rows), sys.stdout, pipe_width=WIDE)
    else:
        write_text(f"No plans are stored in {cache.folder}.\n", sys.stdout)
    return 0


def _row(entry: StoredPlan, here: dict[str, Any]) -> dict[str, Any]:
    plan = entry.plan
    return {
        "key": entry.key,
        "env": plan.env,
        "num_envs": plan.num_envs,
        "mode": plan.mode,
        "learner_threads": plan.learner_threads,
        "decided_by": plan.decided_by,
        "learner": entry.fields.get("learner"),
        "created": plan.created,
        "here": entry.fields.get("machine") == here,
    }


class _Listing:
    """Stored plans as a table for rich, with the columns that there is room for."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        from vecselect.report.units import all_printable

        self._here = [row["here"] for row in rows]
        columns = {
            "key": [row["key"][:SHORT] for row in rows],
            "environment": [row["env"] for row in rows],
            "num_envs": [str(row["num_envs"]) for row in rows],
            "mode": [row["mode"] for row in rows],
            "threads": [str(row["learner_threads"] or "as set") for row in rows],
            "decided by": [row["decided_by"] for row in rows],
            "learner": [str(row["learner"]) for row in rows],
            "made (UTC)": [row["created"][:16].replace("T", " ") for row in rows],
            "machine": ["this" if here else "another" for here in self._here],
        }
        self._columns: dict[str, list[str]] = all_printable(columns)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        columns = dict(self._columns)
        for name in LEFT_OUT_FIRST:
            widths = {name: max(map(len, (name, *cells))) for name, cells in columns.items()}
            widths["environment"] = min(widths["environment"], ENVIRONMENT_COLUMNS)
            if sum(widths.values()) + GAP * len(widths) > options.max_width:
                del columns[name]
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for name in columns:  # only the environment may be made narrower
            table.add_column(name, no_wrap=name != "environment")
        for here, *cells in zip(self._here, *columns.values(), strict=True):
            # As texts: in a plain string rich would take brackets for markup.
            texts = (Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells)
            table.add_row(*texts, style="" if here else "dim")
        yield table


def _explain(args: argparse.Namespace) -> int:
    from vecselect.plan import Plan
    from vecselect.report import REPORT_FILES, check_file
    from vecselect.report.text import grid, write
    from vecselect.report.units import all_printable
    from vecselect.values import read_at_most

    for path in args.output:
        check_file(path, "report", REPORT_FILES)
    entry = None
    if args.plan is not None and args.plan.endswith(".json"):
        with Path(args.plan).open("rb") as file:
            plan = Plan.from_json(read_at_most(file, MOST_BYTES, args.plan))
    else:
        entry = _find(args.plan)
        plan = entry.plan
    stored = {} if entry is None else {**entry.to_dict(), "path": str(entry.path)}
    write_plan(plan, args, json.dumps({**stored, "plan": plan.to_dict()}, indent=2))
    if entry is not None and not args.json:
        sys.stdout.write("\n")
        write(grid(all_printable(_about(entry))), sys.stdout, pipe_width=WIDE)
        if args.details:
            # The key is made of this and nothing else, so two plans can be compared by it.
            sys.stdout.write("\nIt is used where all of this is the same:\n")
            _write_json(entry.fields)
    return 0


def _about(entry: StoredPlan) -> Rows:
    """Where a plan is stored, and what runs with it have shown, by script."""
    from vecselect.report.evidence import earlier_runs

    runs = tuple(
        ("seen in use", f"{script}: {mode}, {text}")
        for script, ones in entry.runs.items()
        for mode, text in earlier_runs(ones)
    )
    return (
        ("key", entry.key),
        ("made", entry.plan.created),
        ("stored in", str(entry.path)),
        *(runs or (("seen in use", "not yet"),)),
    )


def _find(word: str | None) -> StoredPlan:
    """The newest stored plan, or the one that a word stands for: a key, its beginning, or an id.

    Of several plans of one environment it is the newest. Raises `PlanError` if there is none, or
    several keys begin with the word.
    """
    from vecselect.errors import PlanError

    cache = _cache()
    entries = cache.entries()
    if word is None and not entries:
        raise PlanError(
            f"No plan is stored in {cache.folder} yet. auto_make_vec and `vecselect recommend` "
            "store one when they have measured."
        )
    # A plan knows an environment by its id alone, without the module that registers it.
    names = {word, (word or "").rpartition(":")[2]}
    for entry in entries:
        if word is None or entry.plan.env in names:
            return entry
    by_key = {entry.key: entry for entry in entries}
    return by_key[_resolved(str(word), list(by_key))]


def _resolved(word: str, keys: list[str]) -> str:
    """The one key that begins with a word; `PlanError` if there is none, or more than one."""
    from vecselect.errors import PlanError

    found = [key for key in keys if word and key.startswith(word)]
    if not found:
        raise PlanError(
            f"No stored plan has a key that begins with {word!r} or an environment of that name; "
            "`vecselect plans list` lists all stored plans."
        )
    if len(found) > 1:
        more = ", ..." if len(found) > 5 else ""
        raise PlanError(
            f"{len(found)} stored plans have keys that begin with {word!r}: "
            f"{', '.join(found[:5])}{more}. Give more characters of the key."
        )
    return found[0]


def _forget(args: argparse.Namespace) -> int:
    # All are found before the first is removed: a mistake in one of them removes nothing.
    keys = _cache().keys()
    return _remove(list(dict.fromkeys(_resolved(word, keys) for word in args.keys)))


def _clear(args: argparse.Namespace) -> int:
    _cache().forget_sweeps()
    return _remove(_cache().keys())


def _remove(keys: list[str]) -> int:
    """Removes the plans of these keys, and says how many."""
    cache = _cache()
    removed = sum(cache.forget(key) for key in keys)
    sys.stdout.write(f"{_count(removed)} removed\n")
    if removed == len(keys):
        return 0
    left = _count(len(keys) - removed)
    write_text(f"vecselect: {left} in {cache.folder} cannot be removed\n", sys.stderr)
    return 1


def _count(number: int) -> str:
    return "1 plan" if number == 1 else f"{number} plans"


def _write_json(document: Any) -> None:
    """Writes one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
