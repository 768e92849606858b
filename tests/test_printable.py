"""What a plan, an error or an environment's name holds is shown as text, and does nothing else."""

import dataclasses
import datetime
import io
import json
import re

import pytest

from tests import sweeps
from tests.plans import BY_MODEL
from vecselect import Report, SweepReport
from vecselect.cli import main
from vecselect.plan import Note
from vecselect.planning.plan_key import Key
from vecselect.printable import printable, write_text
from vecselect.selection.evidence import LearnerCost

EVIL = "a\x1b[2Jb\x1b]0;c\x07d\x9be\u202ef\udc80g\r\bh"
SHOWN = "a[2Jb]0;cdef?gh"
UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")

PLAN = dataclasses.replace(
    BY_MODEL,
    env=EVIL,
    reason=EVIL,
    effort=EVIL,
    decided_by=EVIL,
    created=EVIL,
    versions={EVIL: EVIL},
    notes=(Note(EVIL, EVIL), Note(EVIL, EVIL, loud=True)),
    candidates=tuple(
        dataclasses.replace(one, skipped=EVIL if one.skipped else None)
        for one in BY_MODEL.candidates
    ),
    evidence=dataclasses.replace(
        BY_MODEL.evidence,
        learners=(LearnerCost(EVIL, 1e-3),),
        observation_space=EVIL,
        action_space=EVIL,
        machine=dataclasses.replace(BY_MODEL.evidence.machine, cpu=EVIL, system=EVIL, python=EVIL),
    ),
)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def need_clean(text):
    assert SHOWN in text or SHOWN.translate({ord(one): f"\\{one}" for one in "["}) in text
    assert not UNWANTED.search(text)
    text.encode()


def test_only_what_is_no_text_is_taken_out():
    assert printable(EVIL) == SHOWN
    kept = "ä 日本 \N{FAMILY} \u200d\ttab\nline ±"
    assert printable(kept) == kept


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_text_can_be_written_in_any_encoding(encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    write_text(f"{EVIL} 日", file)
    file.flush()
    assert file.buffer.getvalue().decode(encoding) in (f"{SHOWN} 日", f"{SHOWN} ?")


@pytest.mark.parametrize("form", [".md", ".html", ".json"])
def test_a_plan_written_to_a_file_is_text(form, tmp_path):
    text = Report(PLAN).save(tmp_path / f"report{form}").read_text()
    assert not UNWANTED.search(text)
    if form == ".json":
        assert json.loads(text) == json.loads(PLAN.to_json())
    else:
        need_clean(text)


def test_a_plan_shown_is_text():
    need_clean(str(Report(PLAN)).replace("\n", ""))
    need_clean(str(Report(PLAN).details).replace("\n", ""))
    need_clean("".join(Report(PLAN)._repr_mimebundle_().values()))


def test_on_a_terminal_only_our_own_colours_are_left(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    Report(PLAN).print(file)
    assert "\x1b[1m" in file.getvalue()
    need_clean(re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()))


def test_a_sweep_shown_or_plotted_is_text(tmp_path):
    sweep = dataclasses.replace(sweeps.SWEEP, env=EVIL, notes=(Note(EVIL, EVIL),))
    need_clean(str(SweepReport(sweep)))
    SweepReport(sweep).save(tmp_path / "sweep.svg")
    need_clean((tmp_path / "sweep.svg").read_text())


def test_the_command_line_writes_text_whatever_is_stored(cache, capsys):
    known = ("mode", "effort", "decided_by", "candidates")
    plan = dataclasses.replace(PLAN, **{name: getattr(BY_MODEL, name) for name in known})
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    key = Key.of({"num_envs": 8, "vector_kwargs": {}, "caller_steps": True})
    assert cache.save(key, dataclasses.replace(plan, created=now, key=key.digest)) is None
    for words in (["plans", "list"], ["explain", key.digest]):
        assert main(words) == 0
        need_clean(capsys.readouterr().out.replace("\n", ""))
    assert main(["plans", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["env"] == EVIL
    assert main(["explain", f"{EVIL}.json"]) == 1
    need_clean(capsys.readouterr().err)
