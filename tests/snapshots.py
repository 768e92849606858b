"""Texts as they were last looked at, in `tests/data`.

One that is to look otherwise: delete its file, run its test twice, and look at what changed.
"""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "data"


def need_as_before(name, text):
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{name} was not there, and is now; look at it")
    assert text == path.read_text(encoding="utf-8")
