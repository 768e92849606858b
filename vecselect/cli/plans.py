"""The commands about plans that were made before: `vecselect plans ...` and `vecselect explain`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.cli.measure import DETAILS_HELP, JSON_HELP, OUTPUT_HELP
from vecselect.printable import write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from vecselect.cli.measure import Commands
    from vecselect.plan import Plan
    from vecselect.planning.cache import PlanCache, StoredPlan
    from vecselect.report.evidence import Rows

SHORT = 8
"""Characters of a key that stand for it where it is named."""

MOST_BYTES = 16 << 20
"""The most that is read of a file that holds one plan."""

WIDE = 10_000
"""Columns of what is written to a pipe, where no line should be broken."""

KEY_HELP = "the key of a stored plan, or as much of its beginning as tells it from the others"


def add_commands(commands: Commands) -> None:
    """Adds `explain` and `plans` to the command line."""
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
    explain.add_argument("--json", action="store_true", help=JSON_HELP)
    explain.add_argument("--details", action="store_true", help=DETAILS_HELP)
    explain.add_argument(
        "-o", "--output", action="append", default=[], metavar="FILE", help=OUTPUT_HELP
    )

    plans = commands.add_parser("plans", help="list, show, share and forget remembered plans")
    actions = plans.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, run: Callable[[Any], int], summary: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=summary, description=summary)
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help=JSON_HELP)
        return parser

    add("list", _list, "all plans that are remembered, the newest first")
    show = add("show", _show, "what a stored plan is for, and what runs with it have shown")
    show.add_argument("key", metavar="PLAN", help=f"{KEY_HELP}; or an environment's id")
    export = add("export", _export, "plans as one JSON document, for `plans import` elsewhere")
    export.add_argument("-o", "--output", metavar="FILE", help="where to, instead of stdout")
    export.add_argument("keys", nargs="*", metavar="KEY", help=f"{KEY_HELP}; all without one")
    importing = add("import", _import, "store the plans that `plans export` wrote")
    importing.add_argument("file", metavar="FILE", help="the document, or - for stdin")
    forget = add("forget", _forget, "remove some plans, and what runs with them have shown")
    forget.add_argument("keys", nargs="+", metavar="KEY", help=KEY_HELP)
    add("clear", _clear, "remove all plans, and what runs with them have shown")


def _cache() -> PlanCache:
    """The plan cache, which takes a while to import."""
    from vecselect.planning.cache import PlanCache

    return PlanCache()


def _list(args: argparse.Namespace) -> int:
    from vecselect.machine import read_machine
    from vecselect.planning.plan_key import machine_fields

    cache = _cache()
    entries = cache.entries()
    here = machine_fields(read_machine())
    if args.json:
        _write_json([_row(entry, here) for entry in entries])
    elif entries:
        _write_table([_row(entry, here) for entry in entries])
    else:
        write_text(f"no plans are stored in {cache.folder}\n", sys.stdout)
    return 0


def _row(entry: StoredPlan, here: dict[str, Any]) -> dict[str, Any]:
    plan = entry.plan
    return {
        "key": entry.key,
        "env": plan.env,
        "num_envs": plan.num_envs,
        "mode": plan.mode,
        "learner_threads": plan.learner_threads,
        "effort": plan.effort,
        "decided_by": plan.decided_by,
        "learner": entry.fields.get("learner"),
        "created": plan.created,
        "here": entry.fields.get("machine") == here,
    }


def _write_table(rows: Sequence[dict[str, Any]]) -> None:
    """Writes a line for each plan: in a terminal of its width, else as wide as it is."""
    from rich.table import Table
    from rich.text import Text

    from vecselect.report.text import write
    from vecselect.report.units import all_printable

    now = datetime.datetime.now(datetime.timezone.utc)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("environment")  # the only one that rich may make narrower
    table.add_column("envs", justify="right", no_wrap=True)
    for name in ("mode", "by", "learner", "made", "machine"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        threads = row["learner_threads"]
        cells = (
            row["key"][:SHORT],
            row["env"],
            str(row["num_envs"]),
            row["mode"] if threads is None else f"{row['mode']}, threads {threads}",
            row["decided_by"],
            str(row["learner"]),
            age(row["created"], now),
            "here" if row["here"] else "another",
        )
        # As texts: in a plain string rich would take brackets for markup.
        texts = (Text(cell, no_wrap=True, overflow="ellipsis") for cell in all_printable(cells))
        table.add_row(*texts, style="" if row["here"] else "dim")
    write(table, sys.stdout, pipe_width=WIDE)


def age(created: str, now: datetime.datetime) -> str:
    """When a plan was made: `3 h ago`, and the date where that is longer ago than two days.

    Args:
        created: As the plan has it.
        now: When it is read.
    """
    past_s = (now - datetime.datetime.fromisoformat(created)).total_seconds()
    if not 0 <= past_s < 48 * 3600:
        return created[:10]
    if past_s < 60:
        return "just now"
    return f"{past_s / 60:.0f} min ago" if past_s < 3570 else f"{past_s / 3600:.0f} h ago"


def _show(args: argparse.Namespace) -> int:
    from vecselect.report.evidence import earlier_runs

    entry = _find_stored(args.key)
    plan = entry.plan
    if args.json:
        _write_json({**_summary(entry), "fields": entry.fields, "plan": plan.to_dict()})
        return 0
    threads = "" if plan.learner_threads is None else f", learner threads {plan.learner_threads}"
    lines = [
        ("key", entry.key),
        ("environment", f"{plan.env} x {plan.num_envs}"),
        ("mode", f"{plan.mode}{threads}, decided by {plan.decided_by}"),
        ("made", plan.created),
        ("file", str(entry.path)),
    ]
    for script, ones in entry.observations.items():
        lines += [("in use", f"{script}: {mode}, {text}") for mode, text in earlier_runs(ones)]
    if not entry.observations:
        lines.append(("in use", "not seen yet"))
    _write_rows(tuple(lines))
    # The key is made of this and nothing else, so two plans can be compared by it.
    sys.stdout.write("\nit is used where all of this is the same:\n")
    _write_json(entry.fields)
    return 0


def _explain(args: argparse.Namespace) -> int:
    from vecselect.report import check_output, write_output

    for path in args.output:
        check_output(path)
    plan, rows, document = _find(args.plan)
    for path in args.output:
        write_output(plan.report, path)
    if args.json:
        _write_json({**document, "plan": plan.to_dict()})
        return 0
    shown = plan.report.details if args.details else plan.report
    shown.print(sys.stdout)  # its last line is the pin
    sys.stdout.write("\n")
    _write_rows((*rows, ("made", plan.created)))
    return 0


def _find(word: str | None) -> tuple[Plan, Rows, dict[str, Any]]:
    """The plan that a word stands for, where it was found, and the same for programs.

    Raises:
        PlanError: If there is none.
    """
    from vecselect.errors import PlanError

    if word is not None and word.endswith(".json"):
        return _read(Path(word)), (("read from", word),), {"path": word}
    if word is not None:
        entry = _find_stored(word)
    else:
        cache = _cache()
        newest = cache.entries()[:1]
        if not newest:
            raise PlanError(
                f"No plan is stored in {cache.folder} yet. One is stored when auto_make_vec or "
                "`vecselect recommend` has measured."
            )
        entry = newest[0]
    return entry.plan, (("key", entry.key), ("stored in", str(entry.path))), _summary(entry)


def _read(path: Path) -> Plan:
    """The plan in a file, alone or beside other things."""
    from vecselect.plan import Plan
    from vecselect.values import read_at_most

    with path.open("rb") as file:
        return Plan.from_json(read_at_most(file, MOST_BYTES, str(path)))


def _export(args: argparse.Namespace) -> int:
    keys = [_find_stored(word).key for word in args.keys] or None
    text = _cache().export_plans(keys) + "\n"
    if args.output in (None, "-"):
        sys.stdout.write(text)
        return 0
    Path(args.output).write_text(text, encoding="utf-8")
    exported = [plan["key"] for plan in json.loads(text)["plans"]]
    if args.json:
        _write_json({"file": args.output, "exported": exported})
    else:
        write_text(f"{_count(exported)} written to {args.output}\n", sys.stdout)
    return 0


def _import(args: argparse.Namespace) -> int:
    if args.file == "-":
        stored, refused = _cache().import_plans(sys.stdin.buffer)
    else:
        with Path(args.file).open("rb") as file:
            stored, refused = _cache().import_plans(file)
    if args.json:
        _write_json(
            {"imported": stored, "refused": [{"key": key, "why": why} for key, why in refused]}
        )
    else:
        sys.stdout.write(f"{_count(stored)} imported\n")
    for key, why in refused:
        write_text(f"vecselect: {key} was not imported: {why}\n", sys.stderr)
    return 1 if refused else 0


def _forget(args: argparse.Namespace) -> int:
    # All are found before the first is removed: a mistake in one of them removes nothing.
    keys = _cache().keys()
    return _remove(list(dict.fromkeys(_resolved(word, keys) for word in args.keys)), args.json)


def _clear(args: argparse.Namespace) -> int:
    return _remove(_cache().keys(), args.json)


def _remove(keys: list[str], as_json: bool) -> int:
    """Removes the plans of these keys and tells which."""
    cache = _cache()
    removed = [key for key in keys if cache.forget(key)]
    if as_json:
        _write_json({"forgotten": removed})
    else:
        sys.stdout.write(f"{_count(removed)} forgotten\n")
    if len(removed) < len(keys):
        left = _count(keys[len(removed) :])
        write_text(f"vecselect: {left} in {cache.folder} cannot be removed\n", sys.stderr)
    return 0 if len(removed) == len(keys) else 1


def _find_stored(word: str) -> StoredPlan:
    """The stored plan that a word stands for: a key, its beginning, or an environment's id.

    Of several plans of one environment it is the newest.

    Raises:
        PlanError: If there is none, or several keys begin with it.
    """
    entries = _cache().entries()
    # A plan knows an environment by its id alone, without the module that registers it.
    names = {word, word.rpartition(":")[2]}
    by_name = next((entry for entry in entries if entry.plan.env in names), None)
    if by_name is not None:
        return by_name
    by_key = {entry.key: entry for entry in entries}
    return by_key[_resolved(word, list(by_key))]


def _resolved(word: str, keys: list[str]) -> str:
    """The one key that begins with a word.

    Raises:
        PlanError: If there is none, or more than one.
    """
    from vecselect.errors import PlanError

    found = [key for key in keys if word and key.startswith(word)]
    if not found:
        raise PlanError(
            f"No stored plan has a key that begins with {word!r}, and none is for an environment "
            "of that name; `vecselect plans list` shows the plans there are."
        )
    if len(found) > 1:
        raise PlanError(
            f"{len(found)} stored plans have keys that begin with {word!r}: "
            f"{', '.join(found[:5])}{', ...' if len(found) > 5 else ''}. Give more of the key."
        )
    return found[0]


def _summary(entry: StoredPlan) -> dict[str, Any]:
    """What a stored plan is, beside the plan itself."""
    return {
        "key": entry.key,
        "path": str(entry.path),
        "created": entry.plan.created,
        "pin": entry.plan.mode,
        "observations": {
            script: [dataclasses.asdict(one) for one in ones]
            for script, ones in entry.observations.items()
        },
    }


def _count(keys: list[str]) -> str:
    return "1 plan" if len(keys) == 1 else f"{len(keys)} plans"


def _write_json(document: Any) -> None:
    """Writes one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _write_rows(rows: Rows) -> None:
    """Writes names and texts to stdout, in two columns."""
    from vecselect.report.text import grid, write
    from vecselect.report.units import all_printable

    write(grid(all_printable(rows)), sys.stdout, pipe_width=WIDE)
