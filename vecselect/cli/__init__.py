"""The command line: `vecselect` and `python -m vecselect`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from vecselect.cli import doctor, explain, plans, recommend, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


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
    from vecselect.failures import RemoteTraceback

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
    except Exception as error:
        if not isinstance(error.__cause__, RemoteTraceback):
            raise
        message = f"The environment raised {type(error).__name__} while it was built: {error}"
        return _fail(message, EXIT_FAILED)
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

    recommend.add_commands(commands)
    sweep.add_command(commands)
    explain.add_command(commands)
    plans.add_commands(commands)
    doctor.add_command(commands)
    return parser
