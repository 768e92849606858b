"""The command `vecselect sweep`: throughput and memory against the number of sub-environments."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vecselect.cli.loop import add_loop

if TYPE_CHECKING:
    from vecselect.sweeping.asked import SweepProgress
    from vecselect.sweeping.record import Sweep

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_OK, EXIT_INTERRUPTED = 0, 130

SIZES_HELP = "numbers of sub-environments, such as 1,8,64; by default 1,2,4,8,16,32,64"
MODES_HELP = "the modes, such as sync,pool:1,async; by default those that may be worth it"
OUTPUT_HELP = (
    "write it to a file too: .json, or .svg or .png for a plot (vecselect[plot]); may be repeated"
)


def add_command(commands: Commands) -> None:
    """Adds `sweep` to the command line."""
    summary = "throughput and memory against the number of sub-environments"
    parser = commands.add_parser("sweep", help=summary, description=summary.capitalize() + ".")
    parser.set_defaults(run=_sweep)
    add_loop(parser, "after which nothing new is measured; 25 by default")
    parser.add_argument("-n", "--num-envs", type=_numbers, metavar="N,N,...", help=SIZES_HELP)
    parser.add_argument("--modes", type=_words, metavar="MODE,...", help=MODES_HELP)
    parser.add_argument(
        "-o", "--output", action="append", default=[], metavar="FILE", help=OUTPUT_HELP
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def _numbers(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of whole numbers, such as 1,2,4,8"
        ) from None


def _words(text: str) -> tuple[str, ...]:
    """`sync,pool:1` as words."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _sweep(asked: argparse.Namespace) -> int:
    from vecselect.report.outputs import check_place
    from vecselect.sweeping.record import ending_of

    for path in asked.output:  # what cannot be is told before anything is measured
        check_place(Path(path), "sweep", drawn=ending_of(path) != ".json")
    code = EXIT_OK
    try:
        found = _measure(asked)
    except KeyboardInterrupt as stop:
        partial: Sweep | None = getattr(stop, "sweep", None)
        if partial is None:
            raise
        found, code = partial, EXIT_INTERRUPTED
    if asked.json:
        sys.stdout.write(found.to_json() + "\n")
    else:
        found.print(sys.stdout)
    sys.stdout.flush()
    for path in asked.output:
        found.save(path)
    if code:
        sys.stderr.write("vecselect: interrupted; this is what was measured until then\n")
    return code


def _measure(asked: argparse.Namespace) -> Sweep:
    from vecselect.make import sweep
    from vecselect.report.terminal import progress_bar
    from vecselect.sweeping.asked import SIZES

    # What importing the environment's module prints is no part of our output.
    with contextlib.redirect_stdout(sys.stderr), progress_bar(sys.stderr) as show:

        def progress(state: SweepProgress) -> None:
            show(state.text, state.share, state.left_s)

        return sweep(
            asked.env,
            SIZES if asked.num_envs is None else asked.num_envs,
            modes=asked.modes,
            budget_s=asked.budget,
            learner=None if asked.learner_ms is None else asked.learner_ms / 1000,
            progress=progress,
            env_kwargs=dict(asked.env_kwarg),
        )
