"""The commands about remembered plans: `vecselect plans ...`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.printable import write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vecselect.store.plans import StoredPlan

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Row = dict[str, Any]

SHORT = 8
"""Characters of a key that stand for it where it is named."""

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
    show.add_argument("key", metavar="PLAN", help=f"{KEY_HELP}; or an environment's id")
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
    path = add("path", _path, "the folder that the plans lie in")

    for parser in (listing, show, export, importing, forget, path):
        parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def _list(asked: argparse.Namespace) -> int:
    from vecselect.cli.plan_table import write_table
    from vecselect.machine import read_machine
    from vecselect.store.key import machine_fields
    from vecselect.store.plans import PlanStore

    store = PlanStore()
    here = machine_fields(read_machine())
    entries = store.entries()
    rows = [_row(entry, here) for entry in entries]
    if asked.json:
        write_json(rows)
    elif rows:
        learners = [str(entry.fields.get("learner", "none")) for entry in entries]
        write_table(rows, learners, sys.stdout)
    else:
        write_text(f"no plans are stored in {store.folder}\n", sys.stdout)
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
    entry = find_stored(asked.key)
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
                f"{seen.vector_steps} vector step{'' if seen.vector_steps == 1 else 's'} seen, "
                f"{inside_ms:.3g} ms each and "
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
        write_text(f"{_count(keys)} written to {asked.output}\n", sys.stdout)
    return 0


def _import(asked: argparse.Namespace) -> int:
    from vecselect.store.files import MAX_MANY_BYTES, read_at_most
    from vecselect.store.plans import PlanStore

    if asked.file == "-":
        text = read_at_most(sys.stdin.buffer, MAX_MANY_BYTES, "stdin")
    else:
        with Path(asked.file).open("rb") as file:
            text = read_at_most(file, MAX_MANY_BYTES, asked.file)
    stored, refused = PlanStore().import_json(text)
    if asked.json:
        write_json(
            {"imported": stored, "refused": [{"key": key, "why": why} for key, why in refused]}
        )
    else:
        sys.stdout.write(f"{_count(stored)} imported\n")
    for key, why in refused:
        write_text(f"vecselect: {key} was not imported: {why}\n", sys.stderr)
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

    folder = str(PlanStore().folder / "plans")
    if asked.json:
        write_json({"folder": folder})
    else:
        write_text(folder + "\n", sys.stdout)
    return 0


def find_stored(word: str) -> StoredPlan:
    """The stored plan that a word stands for: a key, its beginning, or an environment's id.

    Of several plans of one environment it is the newest.

    Raises:
        PlanError: If there is none.
    """
    from vecselect.errors import PlanError
    from vecselect.store.plans import PlanStore

    store = PlanStore()
    if not word or _is_hex(word):
        return store.find(word)
    # A plan knows an environment by its id alone, without the module that registers it.
    names = {word, word.rpartition(":")[2]}
    entry = next((one for one in store.entries() if one.plan.env in names), None)
    if entry is None:
        raise PlanError(
            f"No stored plan has a key that begins with {word!r}, and none is for an environment "
            "of that name; `vecselect plans list` shows the plans there are."
        )
    return entry


def _is_hex(word: str) -> bool:
    return bool(word) and all(character in "0123456789abcdef" for character in word)


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
        write_text(f"{name.ljust(width)}  {text}\n", sys.stdout)
