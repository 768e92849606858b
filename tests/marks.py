"""Marks of parameters; the marks themselves are registered in pyproject.toml."""

import pytest


def only_full(*values):
    """Parameters that plain `pytest` leaves out and `pytest -m ""` runs."""
    return [pytest.param(value, marks=pytest.mark.full) for value in values]
