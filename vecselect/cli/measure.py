"""The commands that measure: `recommend`, `compare`, `sweep`, and `doctor`, which only looks."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from vecselect.printable import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from vecselect.plan import Plan
    from vecselect.request import SweepProgress

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_INTERRUPTED = 130

JSON_HELP = "print one JSON document instead"


def add_commands(commands: Commands) -> None:
    """Adds `recommend`, `compare`, `sweep` and `doctor` to the command line."""
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
        help="ignore the remembered plan, plan anew, and remember the new plan",
    )
    storing.add_argument(
        "--no-store",
        dest="use_store",
        action="store_false",
        help="neither use a remembered plan nor remember this one",
    )
    compare = commands.add_parser("compare", help="run the candidates, and say how fast each is")
    compare.set_defaults(run=_recommend, effort="race", use_store=False, fresh=False)
    for command in (recommend, compare):
        _add_loop(
            command,
            "seconds after which nothing new is measured; by default 1, for the rule 1.5, "
            "for a race 10",
        )
        command.add_argument(
            "--learner-threads",
            type=threads,
            metavar="N",
            help="number of torch threads while steps are made, or auto to let the plan choose",
        )
        command.add_argument("-n", "--num-envs", type=int, required=True, metavar="N")
        command.add_argument(
            "--allow",
            action="append",
            default=[],
            metavar="MODE",
            help="allow a mode that is never chosen unasked: native or envpool (other "
            "implementations of the environment), or ray (actors of a cluster); may be repeated",
        )
        add_output(command)

    summary = "throughput and memory against the number of sub-environments"
    sweep = commands.add_parser("sweep", help=summary, description=summary.capitalize() + ".")
    sweep.set_defaults(run=_sweep)
    _add_loop(sweep, "seconds that the sweep may take; 25 by default")
    sweep.add_argument(
        "-n",
        "--num-envs",
        type=numbers,
        metavar="N,N,...",
        help="numbers of sub-environments, such as 1,8,64; by default 1,2,4,8,16,32,64",
    )
    sweep.add_argument(
        "--modes",
        type=words,
        metavar="MODE,...",
        help="the modes, such as sync,pool:1,async; by default those likely to be fast",
    )
    add_output(sweep, "write it to a file too: .json, or a plot: .svg, .png (vecselect[plot])")

    doctor = commands.add_parser("doctor", help="show this machine as vecselect sees it")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--json", action="store_true", help=JSON_HELP)


def _add_loop(command: argparse.ArgumentParser, budget: str) -> None:
    """Adds the environment and the loop around it; `budget` is the help of `--budget`."""
    command.add_argument(
        "env", metavar="ENV", help='an id, such as "Pendulum-v1" or "module:Env-v0"'
    )
    command.add_argument(
        "--env-kwarg",
        action="append",
        default=[],
        type=key_and_value,
        metavar="KEY=VALUE",
        help="a keyword argument of the environment, such as g=9.81; may be repeated",
    )
    command.add_argument("--budget", type=float, metavar="SECONDS", help=budget)
    command.add_argument(
        "--learner-ms",
        dest="learner_s",
        type=milliseconds,
        metavar="MS",
        help="milliseconds that your loop computes between two steps",
    )


def add_output(command: argparse.ArgumentParser, text: str = "") -> None:
    """Adds what says where and how a plan, or what `text` says, is written."""
    if not text:
        text = "write the report to a file too: .html (with a plot), .md or .json"
        details = "print all of the evidence, not the short report"
        command.add_argument("--details", action="store_true", help=details)
    text = f"{text}; may be repeated"
    command.add_argument("-o", "--output", action="append", default=[], metavar="FILE", help=text)
    command.add_argument("--json", action="store_true", help=JSON_HELP)


def write_json(document: Any) -> None:
    """Writes one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def write_plan(plan: Plan, args: argparse.Namespace, document: dict[str, Any]) -> None:
    """Writes a plan to the files that were named, and its report or a JSON document to stdout."""
    from vecselect.report import Report

    report = Report(plan)
    for path in args.output:
        report.save(path)
    if args.json:
        write_json(document)
    else:
        (report.details if args.details else report).print(sys.stdout)


# What words stand for; argparse names these functions in its messages.


def key_and_value(text: str) -> tuple[str, Any]:
    """`g=9.81` as a name and a Python value; what is no literal stays a string."""
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier():
        raise ValueError
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def threads(text: str) -> int | str:
    """A number of threads, or `auto`."""
    return text if text == "auto" else int(text)


def milliseconds(text: str) -> float:
    """Milliseconds in seconds."""
    return float(text) / 1000


def numbers(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers."""
    return tuple(map(int, text.split(",")))


def words(text: str) -> tuple[str, ...]:
    """`sync,pool:1` as words."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _recommend(args: argparse.Namespace) -> int:
    """Makes the plan that was asked for, and writes it to stdout and to files."""
    from vecselect.make import recommend
    from vecselect.report import check_file

    for path in args.output:
        check_file(path, "report")
    with _measuring() as show:
        plan = recommend(
            args.env,
            args.num_envs,
            effort=args.effort,
            budget_s=args.budget,
            learner=args.learner_s,
            learner_threads=args.learner_threads,
            allow=args.allow,
            use_store=args.use_store,
            fresh=args.fresh,
            progress=lambda text: show(f"{text} ..."),
            env_kwargs=dict(args.env_kwarg),
        )
    write_plan(plan, args, plan.to_dict())
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from vecselect.make import sweep
    from vecselect.report import SweepReport, check_file
    from vecselect.request import SIZES

    for path in args.output:  # what cannot be is told before anything is measured
        check_file(path, "sweep")
    with _measuring() as show:

        def progress(state: SweepProgress) -> None:
            show(f"{state.share:4.0%}, {state.left_s:3.0f} s left: {state.text}")

        try:
            found = sweep(
                args.env,
                SIZES if args.num_envs is None else args.num_envs,
                modes=args.modes,
                budget_s=args.budget,
                learner=args.learner_s,
                progress=progress,
                env_kwargs=dict(args.env_kwarg),
            )
        except KeyboardInterrupt as stop:
            if "sweep" not in vars(stop):
                raise
            found = vars(stop)["sweep"]
    if args.json:
        write_json(found.to_dict())
    else:
        SweepReport(found).print(sys.stdout)
    sys.stdout.flush()
    for path in args.output:
        SweepReport(found).save(path)
    if found.whole:
        return 0
    sys.stderr.write("vecselect: interrupted; this is what was measured until then\n")
    return EXIT_INTERRUPTED


@contextlib.contextmanager
def _measuring() -> Iterator[Callable[[str], None]]:
    """Keeps stdout clean while something is measured, and shows on a terminal what is being done.

    What importing the environment's module prints is no part of our output, and goes to stderr. The
    progress is one line that is gone in the end. It is drawn anew only when it is told something: a
    thread that turns a spinner would take time from what is measured.
    """
    terminal = sys.stderr if sys.stderr.isatty() else None

    def show(text: str) -> None:
        if terminal is not None:
            terminal.write(f"\r\x1b[2K{printable(text)}"[:100])
            terminal.flush()

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield show
    finally:
        show("")


def _doctor(args: argparse.Namespace) -> int:
    from vecselect.machine import read_machine
    from vecselect.make import available_modes
    from vecselect.report.evidence import machine_rows
    from vecselect.report.text import grid, write
    from vecselect.report.units import all_printable

    machine, modes = read_machine(), available_modes()
    if args.json:
        write_json({"machine": dataclasses.asdict(machine), "modes": modes})
        return 0
    states = tuple(
        (f"mode {mode}", "available" if why is None else f"not available: {why}")
        for mode, why in modes.items()
    )
    write(grid(all_printable((*machine_rows(machine), *states))), sys.stdout)
    return 0
