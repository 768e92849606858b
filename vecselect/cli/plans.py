"""The commands about remembered plans: `vecselect plans ...`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vecselect.store.plans import StoredPlan

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Row = dict[str, Any]

KEY_HELP = "the key of a stored plan, or as much of its beginning as tells it from the others"


def add_commands(commands: Commands) -> None:
    """Adds `plans` to the command line."""
    plans = commands.add_parser("plans", help="list, show, share and forget remembered plans")
    actions = plans.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, run: Callable[[Any], int], summary: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=summary, description=summary)
        parser.set_defaults(run=run)
        return parser

    listing = add("list", _list, "all stored plans, the newest first")
    show = add("show", _show, "what a stored plan is for, and what use of it showed")
    show.add_argument("key", metavar="KEY", help=KEY_HELP)
    export = add("export", _export, "plans as one JSON document, for `plans import` elsewhere")
    export.add_argument("-o", "--output", metavar="FILE", help="where to, instead of stdout")
    export.add_argument("keys", nargs="*", metavar="KEY", help=f"{KEY_HELP}; all without one")
    importing = add("import", _import, "store the plans that `plans export` wrote")
    importing.add_argument("file", metavar="FILE", help="the document, or - for stdin")
    forget = add("forget", _forget, "remove stored plans")
    which = forget.add_mutually_exclusive_group(required=True)
    which.add_argument("keys", nargs="*", default=[], metavar="KEY", help=KEY_HELP)
    which.add_argument(
        "--all",
        action="store_true",
        help="remove every plan, and what was measured of this machine",
    )
    path = add("path", _path, "the folder of the plan store")

    for parser in (listing, show, export, importing, forget, path):
        parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def _list(asked: argparse.Namespace) -> int:
    from vecselect.machine import read_machine
    from vecselect.store.key import machine_fields
    from vecselect.store.plans import PlanStore

    store = PlanStore()
    here = machine_fields(read_machine())
    rows = [_row(entry, here) for entry in store.entries()]
    if asked.json:
        write_json(rows)
    elif rows:
        _write_table(rows)
    else:
        sys.stdout.write(f"no plans are stored in {store.folder}\n")
    return 0


def _row(entry: StoredPlan, here: Row) -> Row:
    plan = entry.plan
    return {
        "key": entry.key,
        "env": plan.env,
        "num_envs": plan.num_envs,
        "mode": plan.mode,
        "effort": getattr(plan, "effort", None),
        "decided_by": plan.decided_by,
        "created": plan.created,
        "here": entry.fields.get("machine") == here,
    }


def _show(asked: argparse.Namespace) -> int:
    from vecselect.store.plans import PlanStore

    entry = PlanStore().find(asked.key)
    if asked.json:
        document = summary(entry)
        document["fields"] = entry.fields
        document["plan"] = entry.plan.to_dict()
        write_json(document)
        return 0
    plan = entry.plan
    lines = [
        ("key", entry.key),
        ("environment", f"{plan.env} x {plan.num_envs}"),
        ("mode", f"{plan.mode}, decided by {plan.decided_by}"),
        ("made", plan.created),
        ("file", str(entry.path)),
    ]
    seen = entry.observed
    if seen is None:
        lines.append(("in use", "not seen yet"))
    else:
        inside_ms = seen.inside_s / max(seen.vector_steps, 1) * 1e3
        lines.append(
            (
                "in use",
                f"{seen.vector_steps} vector steps seen, {inside_ms:.3g} ms each and "
                f"{seen.gap_s * 1e3:.3g} ms between two",
            )
        )
    write_lines(lines)
    # The key is made of this and nothing else, so two plans can be compared by it.
    sys.stdout.write("\nit is used where all of this is the same:\n")
    sys.stdout.write(json.dumps(entry.fields, indent=2) + "\n")
    return 0


def _export(asked: argparse.Namespace) -> int:
    from vecselect.store.plans import PlanStore

    text = PlanStore().export_json(asked.keys or None) + "\n"
    if asked.output in (None, "-"):
        sys.stdout.write(text)
        return 0
    Path(asked.output).write_text(text, encoding="utf-8")
    keys = [plan["key"] for plan in json.loads(text)["plans"]]
    if asked.json:
        write_json({"file": asked.output, "exported": keys})
    else:
        sys.stdout.write(f"{_count(keys)} written to {asked.output}\n")
    return 0


def _import(asked: argparse.Namespace) -> int:
    from vecselect.errors import PlanError
    from vecselect.store.plans import PlanStore

    try:
        content = sys.stdin.buffer.read() if asked.file == "-" else Path(asked.file).read_bytes()
        text = content.decode()
    except UnicodeDecodeError as error:
        raise PlanError(f"{asked.file} is no export of vecselect: {error}.") from error
    stored, refused = PlanStore().import_json(text)
    if asked.json:
        write_json(
            {"imported": stored, "refused": [{"key": key, "why": why} for key, why in refused]}
        )
    else:
        sys.stdout.write(f"{_count(stored)} imported\n")
    for key, why in refused:
        sys.stderr.write(f"vecselect: {key} was not imported: {why}\n")
    return 1 if refused else 0


def _forget(asked: argparse.Namespace) -> int:
    from vecselect.store.plans import PlanStore

    store = PlanStore()
    if asked.all:
        forgotten = store.forget(None)
    else:
        # All are found before the first is removed: a mistake in one of them removes nothing.
        keys = dict.fromkeys(store.resolve(prefix) for prefix in asked.keys)
        forgotten = [gone for key in keys for gone in store.forget(key)]
    if asked.json:
        write_json({"forgotten": forgotten})
    else:
        sys.stdout.write(f"{_count(forgotten)} forgotten\n")
    return 0


def _path(asked: argparse.Namespace) -> int:
    from vecselect.store.plans import PlanStore

    folder = str(PlanStore().folder)
    if asked.json:
        write_json({"folder": folder})
    else:
        sys.stdout.write(folder + "\n")
    return 0


def summary(entry: StoredPlan) -> Row:
    """What a stored plan is, beside the plan itself."""
    plan, seen = entry.plan, entry.observed
    return {
        "key": entry.key,
        "path": str(entry.path),
        "created": plan.created,
        "pin": plan.mode,
        "observed": None if seen is None else dataclasses.asdict(seen),
    }


def _count(keys: list[str]) -> str:
    return "1 plan" if len(keys) == 1 else f"{len(keys)} plans"


def write_json(document: Any) -> None:
    """Writes one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def write_lines(lines: list[tuple[str, str]]) -> None:
    """Writes names and texts to stdout, in two columns."""
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        sys.stdout.write(f"{name.ljust(width)}  {text}\n")


def _write_table(rows: list[Row]) -> None:
    """Writes the stored plans as a table."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("key", "environment", "envs", "mode", "effort", "decided by", "made", "here"):
        table.add_column(heading, justify="right" if heading == "envs" else "left")
    for row in rows:
        cells = (
            row["key"],
            row["env"],
            str(row["num_envs"]),
            row["mode"],
            row["effort"] or "-",
            row["decided_by"],
            row["created"][:16].replace("T", " "),
            "used" if row["here"] else "other machine",
        )
        table.add_row(*map(Text, cells), style=None if row["here"] else "dim")
    if sys.stdout.isatty():
        Console(file=sys.stdout, force_jupyter=False).print(table)
        return
    # In a pipe a row is a line, however long.
    wide = Console(file=io.StringIO(), width=1000, color_system=None, force_jupyter=False)
    with wide.capture() as captured:
        wide.print(table)
    lines = (line.rstrip() for line in captured.get().splitlines())
    sys.stdout.write("\n".join(line for line in lines if line) + "\n")
