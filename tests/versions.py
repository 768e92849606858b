"""The suite on other versions of Python and Gymnasium, each in a virtual environment of its own.

    python -m tests.versions              the whole suite on every combination, one after the other
    python -m tests.versions --core 3.13  its core on one of them, in a few minutes
    python -m tests.versions --list       the combinations, and the interpreters found for them

Run it from the repository's root, where vecselect is installed with its tests' requirements. Ends
with 1 if anything failed; a combination without an interpreter is left out, and that is said.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

CORE = (
    "test_contract.py",
    "test_async.py",
    "test_pool.py",
    "test_thread.py",
    "test_wrappers.py",
    "test_registrations.py",
    "test_scripts.py",
    "test_pins.py",
    "test_make.py",
    "test_cache.py",
    "test_plan.py",
    "test_model.py",
    "test_report.py",
    "test_cli.py",
    "test_public_api.py",
)
"""What depends most on Python's and Gymnasium's ways, and something of everything else."""

VERSIONS = """
import platform
from importlib import metadata
names = ("gymnasium", "numpy", "mujoco")
print(platform.python_version(), *(metadata.version(name) for name in names), sep="\\n")
"""


@dataclasses.dataclass(frozen=True)
class Combination:
    """What is tested together.

    Attributes:
        name: What the command line calls it.
        python: The minor version of Python, such as `"3.13"`.
        gymnasium: Requirements that bring a certain Gymnasium; none for the newest.
    """

    name: str
    python: str
    gymnasium: tuple[str, ...] = ()


COMBINATIONS = (
    Combination("3.10", "3.10"),
    Combination("3.12", "3.12"),
    Combination("3.13", "3.13"),
    Combination(
        "gymnasium-1.1",
        "3.11",
        # That Gymnasium's own extra for Box2D names a package which has to be compiled.
        ("gymnasium[classic-control,mujoco,toy-text]==1.1.0", "box2d==2.3.10"),
    ),
)


@dataclasses.dataclass
class Outcome:
    """What came of one combination; without figures where the suite did not come to its end."""

    name: str
    problem: str = ""
    failed: bool = False
    versions: tuple[str, ...] = ()
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


def interpreters(python):
    """Where an interpreter of this minor version may be, the likelier places first."""
    root = os.environ.get("PYENV_ROOT")
    if root is None and shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        root = done.stdout.strip()
    if root:
        found = Path(root, "versions").glob(f"{python}.*/bin/python")
        yield from sorted(found, key=lambda path: numbers(path.parts[-3]), reverse=True)
    if on_path := shutil.which(f"python{python}"):
        yield Path(on_path)


def numbers(version):
    """The numbers of a version, which compare as versions do."""
    return [int(number) for number in re.findall(r"\d+", version)]


def find_interpreter(python):
    """An interpreter that starts and is of this minor version, or None."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in interpreters(python):
        # One that a version manager has on the path may be there and yet not start.
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        if done.stdout.strip() == python:
            return path
    return None


def requirements(*extras):
    """What the installed vecselect and these of its extras require, but for Gymnasium."""
    needed = {}
    for line in metadata.requires("vecselect") or ():
        one = Requirement(line)
        wanted = one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras)
        if wanted and one.name not in ("gymnasium", "vecselect"):
            needed[f"{one.name}{one.specifier}"] = None
    return list(needed)


def install(combination, interpreter, folder):
    """Makes the virtual environment, or renews one that was kept; returns its interpreter."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The one that came with an older Python may take very long to see which versions go together.
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    if combination.gymnasium:
        needed = [*combination.gymnasium, *requirements("test", "plot")]
        subprocess.run([*pip, *needed], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", ROOT], check=True)
    else:
        subprocess.run([*pip, "--upgrade", "--editable", f"{ROOT}[test]"], check=True)
    return python


def read_counts(path):
    """How many tests passed, failed and were skipped, by pytest's own account in XML."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for case in ElementTree.parse(path).iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        elif skipped is None or skipped.get("type") == "pytest.xfail":
            counts["passed"] += 1  # as expected
        else:
            counts["skipped"] += 1
    return counts


def run(combination, folder, tests):
    """Installs one combination and runs the tests on it."""
    outcome = Outcome(combination.name)
    interpreter = find_interpreter(combination.python)
    if interpreter is None:
        outcome.problem = f"left out: no Python {combination.python} with pyenv or on the path"
        return outcome
    print(f"\n=== {combination.name}: {interpreter}", flush=True)
    outcome.failed = True  # until it has ended well
    try:
        python = install(combination, interpreter, folder / combination.name)
        found = subprocess.run([python, "-c", VERSIONS], stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError as error:
        outcome.problem = f"not installed: exit status {error.returncode}"
        return outcome
    outcome.versions = tuple(found.stdout.decode().split())
    report = folder / f"{combination.name}.xml"
    report.unlink(missing_ok=True)
    start_s = time.monotonic()
    pytest = [python, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = subprocess.run([*pytest, *tests], cwd=ROOT, check=False)
    outcome.seconds = time.monotonic() - start_s
    outcome.failed = done.returncode != 0
    if report.exists():
        outcome.counts = read_counts(report)
    else:
        outcome.problem = f"the suite broke off: exit status {done.returncode}"
    return outcome


def table(outcomes):
    """The outcomes, one to a line."""
    heads = ("combination", "Python", "Gymnasium", "NumPy", "MuJoCo", "passed", "failed", "skipped")
    rows = [(*heads, "seconds")]
    for outcome in outcomes:
        cells = [outcome.name, *(outcome.versions or [""] * 4)]
        if outcome.counts:
            cells += [str(outcome.counts[kind]) for kind in ("passed", "failed", "skipped")]
            cells.append(f"{outcome.seconds:.0f}")
        else:
            cells.append(outcome.problem)
        rows.append(tuple(cells))
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[column]) for row in whole) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def listing():
    """The combinations, and what there is for them."""
    for one in COMBINATIONS:
        gymnasium = one.gymnasium[0] if one.gymnasium else "the newest Gymnasium"
        where = find_interpreter(one.python) or "no interpreter found"
        yield f"{one.name:<14} Python {one.python}, {gymnasium}: {where}"


def main():
    known = {one.name: one for one in COMBINATIONS}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--core", action="store_true", help="run the core of the suite only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to keep what is installed")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in known]:
        parser.error(f"no combination {unknown[0]!r}; there are {', '.join(known)}")
    if asked.list:
        print("\n".join(listing()))
        return 0
    tests = [str(ROOT / "tests" / name) for name in CORE] if asked.core else []
    outcomes = []
    with contextlib.ExitStack() as stack:
        folder = asked.keep and asked.keep.absolute()
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="versions-")))
        folder.mkdir(parents=True, exist_ok=True)
        for name in asked.names or known:
            outcomes.append(run(known[name], folder, tests))  # noqa: PERF401 (it takes minutes)
    print(f"\n{table(outcomes)}")
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
