"""Whole reports, line by line, as they were last looked at.

A report that is to look otherwise: delete its file, run this twice, and look at what changed.
"""

from pathlib import Path

import pytest

from tests import plans
from vecselect.report.stream import plain

FOLDER = Path(__file__).parent / "data"
PLANS = {"rule": plans.BY_RULE, "estimate": plans.ESTIMATED, "race": plans.RACED}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", PLANS)
def test_a_report_looks_as_it_did(name, width):
    text = plain(PLANS[name].report, width) + "\n"
    path = FOLDER / f"report_{name}_{width}.txt"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was not there, and is now; look at it")
    assert text == path.read_text(encoding="utf-8")
