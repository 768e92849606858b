"""Exact comparison of what two vector environments return."""

from vecselect.testing.contract import assert_same, assert_same_run

__all__ = ["assert_same", "assert_same_run"]
