"""The command line: `vecselect` and `python -m vecselect`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from vecselect.cli import measure, plans
from vecselect.printable import write_text
from vecselect.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def entry_point() -> NoReturn:
    """Runs the command line and ends the process with its exit code.

    Modules of the current folder are found too, as with `python -m vecselect`: what a script
    installed elsewhere looks through is its own folder. They come last, so that a `random.py` there
    does not take the place of Python's own.
    """
    with contextlib.suppress(OSError):  # a folder that was removed under us
        here = os.getcwd()
        if not getattr(sys.flags, "safe_path", False) and not {"", here} & set(sys.path):
            sys.path.append(here)
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words of the command line, without the program's name.

    Returns:
        0 if all went well, 1 if measuring failed, 2 for a mistake in the command, 130 after Ctrl-C.
    """
    try:
        args = _parser().parse_args(arguments)
        return _run(args)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)


def _run(args: argparse.Namespace) -> int:
    """Runs what was asked for; what goes wrong becomes a line and an exit code."""
    import gymnasium as gym

    from vecselect.errors import PlanError, RequestError, VecselectError
    from vecselect.process.remote_errors import RemoteTraceback

    try:
        code: int = args.run(args)
        sys.stdout.flush()
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
    write_text(f"vecselect: {message}\n", sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vecselect",
        description="Measures a Gymnasium environment and this machine, and says in which mode a "
        "vector environment serves best.",
    )
    parser.add_argument("--version", action="version", version=f"vecselect {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure.add_commands(commands)
    plans.add_commands(commands)
    return parser
