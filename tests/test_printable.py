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
from vecselect.report.content import content
from vecselect.selection.evidence import LearnerCost

EVIL = "a\x1b[2Jb\x1b]0;c\x07d\x9be\u202ef\udc80g\r\bh"
SHOWN = "a[2Jb]0;cdef?gh"
UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")

PLAN = dataclasses.replace(
    BY_MODEL,
    env=EVIL,
    reason=EVIL,
    effort=EVIL,
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


def need_clean(text):
    assert SHOWN in text
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


def test_all_that_a_report_says_is_text_on_one_line(tmp_path):
    texts = []

    def walk(value):
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, tuple):
            list(map(walk, value))
        elif dataclasses.is_dataclass(value):
            list(map(walk, vars(value).values()))

    plan = dataclasses.replace(PLAN, decided_by="pin", pinned_by=EVIL, env=f"{EVIL}\n\tz")
    walk((content(PLAN), content(plan)))
    assert sum(SHOWN in one for one in texts) >= 16
    assert f"{SHOWN} z x 8" in texts
    assert all(one.isprintable() for one in texts)
    path = Report(PLAN).save(tmp_path / "report.json")
    assert json.loads(path.read_text()) == json.loads(PLAN.to_json())


def test_a_sweep_shown_or_plotted_is_text(tmp_path):
    sweep = dataclasses.replace(sweeps.SWEEP, env=EVIL, notes=(Note(EVIL, EVIL),))
    need_clean(str(SweepReport(sweep)))
    SweepReport(sweep).save(tmp_path / "sweep.svg")
    need_clean((tmp_path / "sweep.svg").read_text())


def test_the_command_line_writes_text_whatever_is_stored(cache, capsys):
    known = ("mode", "effort", "candidates")
    plan = dataclasses.replace(PLAN, **{name: getattr(BY_MODEL, name) for name in known})
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    key = Key.of({"num_envs": 8, "vector_kwargs": {}, "caller_steps": True})
    assert cache.save(key, dataclasses.replace(plan, created=now, key=key.digest)) is None
    for words in (["plans", "list"], ["explain", key.digest]):
        assert main(words) == 0
        need_clean(capsys.readouterr().out.replace("\n", ""))
    assert main(["plans", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["env"] == EVIL
    assert main(["recommend", EVIL, "-n", "2"]) == 2
    need_clean(capsys.readouterr().err)
