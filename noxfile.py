"""The suite on the versions that are supported, and the linters.

    nox                      all of it, one session after the other
    nox -s tests-3.12        plain `pytest` on one version of Python
    nox -s tests -- -m ""    the whole suite on all of them; pytest gets what follows `--`
    nox --list               the sessions

A session whose interpreter is not found is skipped. With pyenv, name those that nox may use:
`PYENV_VERSION=3.10.13:3.11.7:3.12.1:3.13.0 nox`.
"""

import nox

nox.options.sessions = ["lint", "tests", "tests_gymnasium_1_1"]


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def tests(session):
    """The tests with the newest Gymnasium."""
    session.install("--editable", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python="3.11")
def tests_gymnasium_1_1(session):
    """The tests with the oldest Gymnasium that is supported."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["plot"], *extras["test"]]
    others = [one for one in needed if not one.startswith(("gymnasium", "vecselect"))]
    # The extra for Box2D of that Gymnasium names a package that has to be compiled.
    gymnasium = ["gymnasium[classic-control,mujoco,toy-text]==1.1.0", "box2d==2.3.10"]
    session.install(*gymnasium, *others)
    session.install("--no-deps", "--editable", ".")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session):
    """Ruff's format and rules, and mypy."""
    session.install("--editable", ".[lint,plot]")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("mypy")
