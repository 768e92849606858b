"""Cases that fail because of a known defect: expected to fail until it is put right.

Take the line away with the defect: a case that passes although it stands here is a failure.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Defect(NamedTuple):
    """A defect that makes cases fail.

    Attributes:
        pattern: Of the ids of these cases.
        reason: What is wrong, in a few words.
        run: Whether they are run all the same; not where they hang or take long.
        strict: Whether they always fail.
    """

    pattern: str
    reason: str
    run: bool = True
    strict: bool = True


DEFECTS = [
    # DEFECT: Gymnasium's loop leaves an array of one to NumPy, and 2.4 makes no number of it.
    Defect(r"reward_in_an_array_of_one.*\[sync", "rewards of shape (1,)"),
]


def find(name):
    """The defect that a test fails of, by its id, or None if it must pass."""
    return next((one for one in DEFECTS if re.search(one.pattern, name)), None)
