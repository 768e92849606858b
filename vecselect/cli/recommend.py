"""`vecselect recommend` and `vecselect compare`: the report of an environment."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from vecselect.cli.loop import add_loop
from vecselect.printable import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from vecselect.cli.plans import Commands
    from vecselect.plan import Plan


def add_commands(commands: Commands) -> None:
    """Adds `recommend` and `compare` to the command line."""
    recommend = commands.add_parser("recommend", help="measure an environment and say which mode")
    recommend.set_defaults(run=_recommend)
    recommend.add_argument(
        "--effort", default="measure", help="rule, estimate, measure (the default) or exhaustive"
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
    compare = commands.add_parser("compare", help="race every mode at length")
    compare.set_defaults(run=_recommend, effort="exhaustive", use_store=False, fresh=False)
    for command in (recommend, compare):
        _add_request(command)
        command.add_argument("--json", action="store_true", help="print one JSON document instead")


def _add_request(command: argparse.ArgumentParser) -> None:
    """Adds what says for which vector environment to plan."""
    add_loop(command)
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


def _recommend(asked: argparse.Namespace) -> int:
    from vecselect.make import recommend
    from vecselect.report.outputs import check_output, write_output

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
        plan.report.print(sys.stdout)
        if asked.effort == "exhaustive":
            _write_sentence(plan)
    return 0


def _write_sentence(plan: Plan) -> None:
    """Writes the race in one sentence, wrapped as the report is."""
    from rich.text import Text

    from vecselect.report import stream
    from vecselect.report.sentence import sentence

    text = sentence(plan)
    if text is not None:
        sys.stdout.write("\n")
        stream.write(Text(text), sys.stdout)


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
