"""The commands about plans that were made before: `vecselect plans ...` and `vecselect explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.cli.measure import JSON_HELP, add_output, write_json, write_plan
from vecselect.errors import PlanError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vecselect.cli.measure import Commands
    from vecselect.planning.cache import PlanCache, StoredPlan

SHORT = 8
"""Characters of a key that stand for it where it is listed."""

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
    from vecselect.report.text import columns, write

    cache, here = _cache(), machine_fields(read_machine())
    rows: list[dict[str, Any]] = [
        {
            "key": entry.key,
            "env": entry.plan.env,
            "num_envs": entry.plan.num_envs,
            "mode": entry.plan.mode,
            "learner_threads": entry.plan.learner_threads,
            "decided_by": entry.plan.decided_by,
            "learner": entry.fields.get("learner"),
            "created": entry.plan.created,
            "here": entry.fields.get("machine") == here,
        }
        for entry in cache.entries()
    ]
    if args.json:
        write_json(rows)
    elif rows:
        table = {
            "key": [row["key"][:SHORT] for row in rows],
            "environment": [row["env"] for row in rows],
            "num_envs": [row["num_envs"] for row in rows],
            "mode": [row["mode"] for row in rows],
            "threads": [row["learner_threads"] or "as set" for row in rows],
            "made": [row["created"][:10] for row in rows],
            "machine": ["this" if row["here"] else "another" for row in rows],
        }
        write(columns(table), sys.stdout, pipe_width=WIDE)
    else:
        sys.stdout.write(f"No plans are stored in {cache.folder}.\n")
    return 0


def _explain(args: argparse.Namespace) -> int:
    from vecselect.plan import Plan
    from vecselect.report import check_file

    for path in args.output:
        check_file(path, "report")
    if args.plan is not None and args.plan.endswith(".json"):
        plan = Plan.from_json(Path(args.plan).read_bytes())
        write_plan(plan, args, {"plan": plan.to_dict()})
        return 0
    entry = _find(args.plan)
    write_plan(entry.plan, args, {**entry.to_dict(), "path": str(entry.path)})
    if not args.json:
        _write_about(entry)
        if args.details:
            # The key is made of this and nothing else, so two plans can be compared by it.
            sys.stdout.write("\nIt is used where all of this is the same:\n")
            write_json(entry.fields)
    return 0


def _write_about(entry: StoredPlan) -> None:
    """Writes where a plan is stored, and what runs with it have shown, by script."""
    from vecselect.report.evidence import earlier_runs
    from vecselect.report.text import grid, write
    from vecselect.report.units import all_printable

    runs = [
        ("seen in use", f"{script}: {mode}, {text}")
        for script, ones in entry.runs.items()
        for mode, text in earlier_runs(ones)
    ]
    about = (("stored in", str(entry.path)), *(runs or [("seen in use", "not yet")]))
    sys.stdout.write("\n")
    write(grid(all_printable(about)), sys.stdout, pipe_width=WIDE)


def _find(word: str | None) -> StoredPlan:
    """The newest stored plan, or the one that a word stands for: a key, its beginning, or an id.

    Of several plans of one environment it is the newest. Raises `PlanError` if there is none, or
    several keys begin with the word.
    """
    cache = _cache()
    entries = {entry.key: entry for entry in cache.entries()}
    # A plan knows an environment by its id alone, without the module that registers it.
    names = {word, (word or "").rpartition(":")[2]}
    for entry in entries.values():
        if word is None or entry.plan.env in names:
            return entry
    if word is None:
        raise PlanError(
            f"No plan is stored in {cache.folder} yet. auto_make_vec and `vecselect recommend` "
            "store one when they have measured."
        )
    return entries[_resolved(word, list(entries))]


def _resolved(word: str, keys: list[str]) -> str:
    """The one key that begins with a word; `PlanError` if there is none, or more than one."""
    found = [key for key in keys if word and key.startswith(word)]
    if not found:
        raise PlanError(
            f"No stored plan has a key that begins with {word!r} or an environment of that name; "
            "`vecselect plans list` lists all stored plans."
        )
    if len(found) > 1:
        raise PlanError(
            f"{len(found)} stored plans have keys that begin with {word!r}: "
            f"{', '.join(found[:5])}. Give more characters of the key."
        )
    return found[0]


def _forget(args: argparse.Namespace) -> int:
    # All are found before the first is removed: a mistake in one of them removes nothing.
    keys = _cache().keys()
    return _remove([_resolved(word, keys) for word in args.keys])


def _clear(args: argparse.Namespace) -> int:
    _cache().forget_sweeps()
    return _remove(_cache().keys())


def _remove(keys: list[str]) -> int:
    """Removes the plans of these keys, and says how many."""
    from vecselect.report.units import counted

    cache, wanted = _cache(), set(keys)
    removed = sum(map(cache.forget, wanted))
    sys.stdout.write(f"{counted(removed, 'plan')} removed\n")
    if removed < len(wanted):
        left = counted(len(wanted) - removed, "plan")
        raise PermissionError(f"{left} in {cache.folder} cannot be removed")
    return 0
