"""The command line: `vecselect` and `python -m vecselect`."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from vecselect import cli_explain, cli_sweep
from vecselect.cli_plans import add_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vecselect.plan import Plan

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def entry_point() -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words of the command line, without the program's name.

    Returns:
        0 if all went well, 1 if measuring failed, 2 for a mistake in the command, 130 after Ctrl-C.
    """
    try:
        asked = _parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    import gymnasium as gym

    from vecselect.errors import PlanError, RequestError, VecselectError

    try:
        code: int = asked.run(asked)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone. Python's own flush at exit must not complain again.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        return _fail(str(error), EXIT_FAILED)
    except (PlanError, RequestError, gym.error.Error, ModuleNotFoundError) as error:
        return _fail(str(error), EXIT_USAGE)
    except VecselectError as error:
        return _fail(str(error), EXIT_FAILED)
    return code


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"vecselect: {message}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vecselect",
        description="Measures a Gymnasium environment and this machine, and says in which mode a "
        "vector environment serves best.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    recommend = commands.add_parser("recommend", help="measure an environment and say which mode")
    recommend.set_defaults(run=_recommend)
    recommend.add_argument(
        "--effort", default="measure", help="rule, estimate, measure (the default) or exhaustive"
    )
    recommend.add_argument(
        "--no-store",
        dest="use_store",
        action="store_false",
        help="neither recall a plan nor remember this one",
    )
    compare = commands.add_parser("compare", help="race every mode at length")
    compare.set_defaults(run=_recommend, effort="exhaustive", use_store=False)
    for command in (recommend, compare):
        _add_request(command)
    doctor = commands.add_parser("doctor", help="show this machine as vecselect sees it")
    doctor.set_defaults(run=_doctor)
    for command in (recommend, compare, doctor):
        command.add_argument("--json", action="store_true", help="print one JSON document instead")
    cli_sweep.add_command(commands, _add_loop)
    add_commands(commands, _write_plans)
    cli_explain.add_command(commands)
    return parser


def _add_request(command: argparse.ArgumentParser) -> None:
    """Adds what says for which vector environment to plan."""
    _add_loop(command)
    command.add_argument("-n", "--num-envs", type=int, required=True, metavar="N")
    command.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODE",
        help="a mode that may be chosen although it is another implementation: native",
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


def _add_loop(command: argparse.ArgumentParser, budget: str = "") -> None:
    """Adds the environment and the loop around it, whatever the number of sub-environments."""
    command.add_argument(
        "env", metavar="ENV", help='an id, such as "Pendulum-v1" or "module:Env-v0"'
    )
    command.add_argument(
        "--env-kwarg",
        action="append",
        default=[],
        type=_key_and_value,
        metavar="KEY=VALUE",
        help="a keyword argument of the environment, such as g=9.81; may be repeated",
    )
    after = "after which nothing new is measured"
    command.add_argument(
        "--budget", type=float, metavar="SECONDS", help=f"{after}; {budget}" if budget else after
    )
    command.add_argument(
        "--learner-ms",
        type=float,
        metavar="MS",
        help="what your loop computes between two steps, in milliseconds",
    )


def _key_and_value(text: str) -> tuple[str, Any]:
    """`g=9.81` as a name and a Python value; what is no literal stays a string."""
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


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
    return EXIT_OK


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
        sys.stderr.write(f"\r\x1b[2K{text} ..."[:100])
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()


def _doctor(asked: argparse.Namespace) -> int:
    from vecselect.machine import read_machine
    from vecselect.make import available_modes

    machine = read_machine()
    modes = available_modes()
    if asked.json:
        document = {"machine": dataclasses.asdict(machine), "modes": modes}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        from vecselect.report.doctor import write

        write(machine, modes, sys.stdout)
    return EXIT_OK


def _write_plans(rows: list[dict[str, Any]]) -> None:
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
