"""`python -m tests.versions` finds interpreters, reads what pytest says, and shows all of it."""

import sys

import pytest

from tests import versions
from tests.versions import COMBINATIONS, CORE, Combination, Outcome

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="interpreters are made of scripts")

REPORT = """<testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><failure message="wrong"/></testcase>
<testcase name="c"><error message="at setup"/></testcase>
<testcase name="d"><skipped type="pytest.skip"/></testcase>
<testcase name="e"><skipped type="pytest.xfail"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def pyenv(tmp_path, monkeypatch):
    """Adds interpreters to a version manager's folder: what each says of its version."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def add(folder, says):
        python = tmp_path / folder
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{says}\n")
        python.chmod(0o755)
        return python

    return add


def test_the_core_is_made_of_files_that_exist():
    assert all((versions.ROOT / "tests" / name).is_file() for name in CORE)


def test_the_newest_interpreter_of_a_minor_version_is_found(pyenv):
    pyenv("versions/3.12.9/bin/python", "echo 3.12")
    newest = pyenv("versions/3.12.10/bin/python", "echo 3.12")
    pyenv("versions/3.13.1/bin/python", "echo 3.13")
    assert versions.find_interpreter("3.12") == newest


def test_an_interpreter_that_does_not_start_or_is_another_is_passed_over(pyenv):
    pyenv("versions/3.12.10/bin/python", "exit 127")
    pyenv("versions/3.12.9/bin/python", "echo 3.11")
    on_path = pyenv("bin/python3.12", "echo 3.12")
    assert versions.find_interpreter("3.12") == on_path
    assert versions.find_interpreter("3.13") is None


def test_a_combination_without_an_interpreter_is_left_out_and_no_failure(pyenv, tmp_path):
    outcome = versions.run(Combination("3.12", "3.12"), tmp_path, [])
    assert not outcome.failed
    assert outcome.problem.startswith("left out: no Python 3.12")


def test_what_cannot_be_installed_is_a_failure(pyenv, tmp_path):
    pyenv("versions/3.12.1/bin/python", '[ "$1" = -c ] && echo 3.12')
    outcome = versions.run(Combination("3.12", "3.12"), tmp_path, [])
    assert outcome.failed
    assert outcome.problem == "not installed: exit status 1"


def test_what_pytest_reports_is_counted(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    assert versions.read_counts(path) == {"passed": 2, "failed": 2, "skipped": 1}


def test_requirements_beside_gymnasium_are_those_of_the_extras():
    needed = versions.requirements("test", "plot")
    assert any(one.startswith("hypothesis") for one in needed)
    assert not any(one.startswith(("gymnasium", "vecselect", "ruff", "ray")) for one in needed)
    assert len(needed) == len(set(needed))


def test_the_table_shows_figures_or_the_reason_why_there_are_none():
    counts = {"passed": 30, "failed": 1, "skipped": 2}
    good = Outcome("3.12", versions=("3.12.1", "1.4.0", "2.5.5", "4.0.0"), counts=counts)
    lines = versions.table([good, Outcome("3.10", "left out: no Python 3.10")]).splitlines()
    assert lines[0].split()[:2] == ["combination", "Python"]
    assert lines[1].split() == ["3.12", "3.12.1", "1.4.0", "2.5.5", "4.0.0", "30", "1", "2", "0"]
    assert lines[2].split(maxsplit=1) == ["3.10", "left out: no Python 3.10"]


def test_an_unknown_name_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["versions", "2.7"])
    with pytest.raises(SystemExit):
        versions.main()
    said = capsys.readouterr().err
    assert all(one.name in said for one in COMBINATIONS)
