"""The arguments that say for which environment and loop to measure."""

from __future__ import annotations

import argparse
import ast
from typing import Any


def add_loop(command: argparse.ArgumentParser, budget: str) -> None:
    """Adds the environment and the loop around it, whatever the number of sub-environments.

    Args:
        command: The command.
        budget: What the help says of `--budget`.
    """
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
    command.add_argument("--budget", type=float, metavar="SECONDS", help=budget)
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
