"""`vecselect recommend` and `vecselect compare`: the report of an environment."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from vecselect.cli.loop import add_loop
from vecselect.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vecselect.cli.plans import Commands
    from vecselect.plan import Plan


def add_commands(commands: Commands) -> None:
    """Adds `recommend` and `compare` to the command line."""
    recommend = commands.add_parser("recommend", help="measure an environment and say which mode")
    recommend.set_defaults(run=_recommend)
    recommend.add_argument(
        "--effort",
        default="measure",
        help="rule (the ~1 ms rule), measure (the default: a short profile and the cost model) or "
        "race (the best candidates are run too)",
    )
    storing = recommend.add_mutually_exclusive_group()
    storing.add_argument(
        "--fresh",
        action="store_true",
        help="plan anew although a plan is remembered, and remember the new one in its place",
    )
    storing.add_argument(
        "--no-store",
        dest="use_store",
        action="store_false",
        help="neither recall a plan nor remember this one",
    )
    compare = commands.add_parser(
        "compare", help="race the candidates, and say who won by how much"
    )
    compare.set_defaults(run=_compare, effort="race", use_store=False, fresh=False)
    for command in (recommend, compare):
        _add_request(command)
        command.add_argument("--json", action="store_true", help="print one JSON document instead")
        command.add_argument(
            "--details", action="store_true", help="print all of the evidence, not the short report"
        )


def _add_request(command: argparse.ArgumentParser) -> None:
    """Adds what says for which vector environment to plan."""
    add_loop(command, "for a race: after which nothing new is measured; 10 by default")
    command.add_argument(
        "--learner-threads",
        type=_threads,
        metavar="N",
        help="the threads that torch has while steps are made, or auto to let the plan choose",
    )
    command.add_argument("-n", "--num-envs", type=int, required=True, metavar="N")
    command.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODE",
        help="a mode that is chosen only where it is allowed: native, another implementation of "
        "the environment, or ray, actors of a cluster; may be repeated",
    )
    command.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report to a file too, whose name ends in .html, .svg (the plots), .md or "
        ".json; may be repeated",
    )


def _threads(text: str) -> int | str:
    """A number of threads, or `auto`."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, and not 'auto'") from None


def _compare(asked: argparse.Namespace) -> int:
    from vecselect.report.terminal import write
    from vecselect.report.verdict import sentence_of_race

    plan = _write_plan(asked)
    text = sentence_of_race(plan)
    if text is not None and not asked.json:
        from rich.text import Text

        sys.stdout.write("\n")
        write(Text(text), sys.stdout)
    return 0


def _recommend(asked: argparse.Namespace) -> int:
    _write_plan(asked)
    return 0


def _write_plan(asked: argparse.Namespace) -> Plan:
    """Makes the plan that was asked for, and writes it to stdout and to files.

    Raises:
        RequestError: If what was asked for contradicts itself, or cannot be.
    """
    from vecselect.errors import RequestError
    from vecselect.make import recommend
    from vecselect.report.outputs import check_output, write_output

    if asked.budget is not None and asked.effort != "race":
        raise RequestError(
            f"--budget is for a race, and --effort is {asked.effort}; add --effort race, or leave "
            "--budget out."
        )

    for path in asked.output:
        check_output(path)
    learner_s = None if asked.learner_ms is None else asked.learner_ms / 1000
    # What importing the environment's module prints is no part of our output.
    with contextlib.redirect_stdout(sys.stderr), _progress() as progress:
        plan = recommend(
            asked.env,
            asked.num_envs,
            effort=asked.effort,
            budget_s=asked.budget,
            learner=learner_s,
            learner_threads=asked.learner_threads,
            allow=asked.allow,
            use_store=asked.use_store,
            fresh=asked.fresh,
            progress=progress,
            env_kwargs=dict(asked.env_kwarg),
        )
    for path in asked.output:
        write_output(plan.report, path)
    if asked.json:
        sys.stdout.write(plan.to_json() + "\n")
    else:
        shown = plan.report.details if asked.details else plan.report
        shown.print(sys.stdout)
    return plan


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows on a terminal what is being done, in one line that is gone in the end.

    Not with a spinner of rich: the thread that turns it would take time from what is measured.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{printable(text)} ..."[:100])
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()
