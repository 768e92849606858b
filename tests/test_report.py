"""What a report says, and how it looks as text: the words are checked here once."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from tests import plans
from tests.plans import (
    BY_MODEL,
    BY_RULE,
    ELIMINATED,
    MACHINE,
    OBSERVED,
    ONE_THREAD,
    PINNED,
    RACE,
    RACED,
    THREADS_AS_SET,
    exactly,
)
from tests.snapshots import need_as_before
from vecselect.plan import Candidate, Note
from vecselect.planning import explain
from vecselect.report import Report
from vecselect.report.content import content
from vecselect.report.text import MOST_LINES
from vecselect.report.units import rate, ratio, seconds, share, size
from vecselect.run_stats import Stats
from vecselect.selection.race import Interval

STATS = Stats(1000, 8000, 12.0, 4.0, 500.0)
WIDE = dataclasses.replace(
    BY_RULE,
    env="a_package_of_some_length.environments:TheEnvironmentWithTheLongestName-v12",
    reason="A reason that goes on and on. " * 20,
    notes=tuple(Note(f"note-{n}", "A note that goes on and on. " * 12) for n in range(5)),
    candidates=(
        *BY_RULE.candidates,
        *(Candidate(f"pool:{n}", predicted=exactly(n)) for n in range(1, 40)),
    ),
    evidence=dataclasses.replace(
        BY_RULE.evidence,
        num_envs=4096,
        machine=dataclasses.replace(MACHINE, cores=192.0, cores_quota=None, cores_bound="affinity"),
    ),
)
PLANS = {**plans.ALL, "wide": WIDE}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def words(text):
    """The text with each run of blanks and line breaks as one blank."""
    return " ".join(str(text).split())


def printed(plan):
    file = io.StringIO()
    Report(plan).print(file)
    return file.getvalue()


def candidates(plan):
    """The rows of the candidates by name."""
    section = next(one for one in content(plan).sections if one.heading == "Candidates")
    return {row.name: row for row in section.rows}


def details(plan, heading):
    """By name what is under a heading of the evidence; None where there is no such heading."""
    for one in content(plan).evidence:
        if one.heading.startswith(heading):
            return {row.name: row.cells if one.columns else row.cells[0] for row in one.rows}
    return None


# The verdict


def predicted(sync, ours):
    found = (Candidate("sync", predicted=sync), Candidate("pool:1", predicted=ours))
    return dataclasses.replace(BY_MODEL, candidates=found)


def raced(**changes):
    race = dataclasses.replace(RACE, **changes)
    return dataclasses.replace(RACED, evidence=dataclasses.replace(RACED.evidence, race=race))


VERDICTS = [
    (BY_RULE, "by the ~1 ms rule"),
    (PINNED, "pinned by VECSELECT_MODE=sync"),
    (ELIMINATED, "the only mode that can run it here"),
    (OBSERVED, "by what earlier runs showed; plan of 2025-01-01"),
    (BY_MODEL, "by prediction, clearly the fastest"),
    (
        predicted(exactly(20.0), Interval(10.0, 5.0, 21.0)),
        "by prediction, likely the fastest",
    ),
    (
        predicted(Interval(10.8, 10.2, 11.4), Interval(10.0, 9.5, 10.4)),
        "by prediction, likely the fastest",
    ),
    (
        predicted(exactly(10.4), Interval(10.0, 9.0, 11.0)),
        "by prediction; sync may be as fast",
    ),
    (dataclasses.replace(BY_MODEL, candidates=BY_MODEL.candidates[1:2]), "by prediction"),
    (
        THREADS_AS_SET,
        "by prediction, clearly the fastest with the learner's threads as they are set",
    ),
    (RACED, "by a race, clearly the fastest"),
    (raced(rounds=1), "by a race of one round"),
    (raced(difference="pool:1, step 1: 0.1 is not 1"), "by a race"),
    (dataclasses.replace(RACED, candidates=RACED.candidates[1:]), "by a race"),
]


@pytest.mark.parametrize(("plan", "text"), VERDICTS)
def test_the_verdict_says_what_decided_and_no_more_than_is_known(plan, text):
    assert content(plan).verdict == text


# The candidates


def test_predicted_figures_are_marked_and_measured_ones_come_first():
    assert candidates(BY_MODEL)["pool:1"].cells == ("~10.2 ms ±12 %", "~784", "~1.87x")
    assert candidates(BY_RULE)["sync"].cells == ("~19.1 ms", "~419", "~1.00x")
    # A prediction that is better than everything measured, as predictions may be.
    too_good = Candidate("pool:3", predicted=exactly(1e-3))
    rows = candidates(dataclasses.replace(RACED, candidates=(too_good, *RACED.candidates)))
    assert list(rows) == ["pool:1", "sync", "pool:3", "async", "native"]
    assert [row.chosen for row in rows.values()] == [True, False, False, False, False]
    assert rows["pool:1"].cells == ("11.2 ms ±1.8 %", "714", "1.79x")
    assert rows["async"].cells == ("~13.2 ms ±11 %", "~606", "-")  # beside measured ones
    assert rows["async"].remark == "it raised OSError in the race: no more processes"
    assert rows["native"].cells == ()
    assert rows["native"].remark == "Walker-v0 has no vector_entry_point"
    # Predictions were rescaled by what runs showed, and stand beside it.
    assert candidates(OBSERVED)["pool:1"].cells == ("10.9 ms", "734", "~1.75x")
    assert content(PINNED).sections == ()


def test_the_learner_threads_of_a_plan_are_in_the_answer_and_in_the_pin():
    found = content(ONE_THREAD)
    assert found.chosen == "pool:1 with 1 learner thread"
    assert found.pin == (
        'mode="pool:1", learner_threads=1  or  VECSELECT_MODE=pool:1',
        "with envs.collecting():  # around the steps, not around the update",
    )
    found = content(THREADS_AS_SET)
    assert (found.chosen, found.pin) == ("sync", ('mode="sync"  or  VECSELECT_MODE=sync',))
    assert candidates(THREADS_AS_SET)["pool:1 (1 thread)"].cells[2] == "~1.87x"
    assert candidates(THREADS_AS_SET)["pool:1"].cells[2] == "~0.94x"
    learner = details(ONE_THREAD, "Learner")
    assert learner["2 threads"].endswith("keep 0.9 cores busy for 3.50 ms after it")


# The details


def test_a_vector_step_is_taken_apart():
    heading = "Where the time of a vector step goes"
    assert details(BY_MODEL, heading) == {
        "pool:1": ("10.2 ms", "9.00 ms", "700 us", "3.00 us", "497 us"),
        "async": ("13.2 ms", "9.00 ms", "1.20 ms", "3.00 ms", "-"),
        "sync": ("19.1 ms", "18.0 ms", "-", "-", "1.10 ms"),
    }
    assert details(BY_RULE, heading) is details(PINNED, heading) is None
    headings = [one.heading for one in content(PINNED).evidence]
    assert headings == ["One sub-environment", "Machine", "Plan"]


def test_what_was_measured_is_told_and_what_was_not_seen_is_said_in_words():
    # The evidence of a race stands in tests/data/details_race.txt.
    assert details(BY_MODEL, "Learner") == {"time": "none: no learner was given or seen"}
    assert details(OBSERVED, "Earlier runs") == {
        "pool:1": "12.3 k vector steps of 9.70 ms, 1.20 ms between two"
    }
    assert details(OBSERVED, "Plan")["recalled as"] == "0123456789abcdef"
    assert details(BY_RULE, "Costs")["an observation"].startswith("65.4 us")
    profile = dataclasses.replace(plans.PROFILE, episode_steps=None, memory_bytes=None)
    evidence = dataclasses.replace(BY_MODEL.evidence, profile=profile, foreign_cores=0.9)
    plan = dataclasses.replace(
        BY_MODEL, evidence=evidence, key=None, not_stored="it holds a lock", provisional="Busy."
    )
    assert details(plan, "One sub-environment")["reset time"].endswith("no episode ended")
    assert "memory" not in details(plan, "One sub-environment")
    one_core = dataclasses.replace(evidence, machine=dataclasses.replace(MACHINE, cores=1.0))
    assert content(dataclasses.replace(plan, evidence=one_core)).where == "1 usable core (quota)"
    about = details(plan, "Plan")
    assert (about["not remembered"], about["provisional"]) == ("it holds a lock", "Busy.")
    assert about["other programs"] == "0.9 cores busy meanwhile; 1.5 counted on"


@pytest.mark.parametrize(
    ("cores", "foreign", "load", "said"),
    [
        (2.0, 1.2, 1.5, "Other programs kept 1.2 of 2 cores busy, so this plan counts on 1."),
        (8.0, 1.0, 1.5, "Other programs kept 1.0 of 8 cores busy, so this plan counts on 7."),
        (2.0, 0.6, 0.0, "Other programs kept 0.6 of 2 cores busy while this was measured."),
        (2.0, 0.1, 1.5, None),
    ],
)
def test_cores_that_other_programs_held_are_told(cores, foreign, load, said):
    machine = dataclasses.replace(MACHINE, cores=cores, load_1min=load)
    evidence = dataclasses.replace(BY_MODEL.evidence, machine=machine, foreign_cores=foreign)
    _, notes = explain.of_machine(evidence, remembered=True)
    told = [note.text.removesuffix(" This plan expires after an hour.") for note in notes]
    assert told == ([said] if said else [])


def test_a_run_so_far_stands_beside_what_was_planned():
    report = Report(RACED, STATS)
    for text in (words(report), words(report.details)):
        assert "1000 of 12.0 ms (planned: 10.1 ms), 75 % of the loop" in text
        assert "500 env steps/s, learner included" in text
    nothing_yet = Report(RACED, Stats(0, 0, 0.0, 0.0, 0.0))
    assert str(nothing_yet) == str(Report(RACED))


# As text


def test_a_report_looks_as_it_did():
    need_as_before("report_threads.txt", f"{Report(ONE_THREAD)}\n")
    need_as_before("details_race.txt", f"{Report(RACED).details}\n")


@pytest.mark.parametrize("name", PLANS)
def test_the_plain_text_fits_a_small_terminal_and_has_no_colour(name, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    report = Report(PLANS[name], STATS)
    lines = str(report).splitlines()
    assert len(lines) <= MOST_LINES == 16
    assert lines[0].startswith("vecselect:")
    assert any(line.startswith("pin it:") for line in lines[-2:])
    for line in (*lines, *str(report.details).splitlines()):
        assert len(line) <= 80
        assert line == line.rstrip() and line.isprintable()


def test_where_all_lines_are_taken_there_are_no_notes():
    long = {"env": "a-very-long-name/" * 9, "reason": "why " * 200, "recalled": True}
    plan = dataclasses.replace(ONE_THREAD, notes=WIDE.notes, **long)
    text = str(Report(plan, Stats(10**8, 8 * 10**8, 1.0, 2.0, 3e5)))
    assert len(text.splitlines()) <= MOST_LINES


def test_what_has_no_room_is_told_of_and_is_in_the_details():
    text = str(Report(WIDE))
    assert "A reason that goes on and on." in text and " ...\n" in text
    assert "! [note-0] A note that goes on and on. " in text
    assert "! the rest of the notes: print(envs.report.details)" in text
    assert "=> async " in text and "   sync " in text  # before the 39 pools
    for note in WIDE.notes:
        assert f"[{note.code}] {note.text.strip()}" in words(Report(WIDE).details)
    assert words(WIDE.reason) in words(Report(WIDE).details)
    assert "pool:39" in str(Report(WIDE).details)
    assert "this process is a daemon" in str(Report(ELIMINATED).details)
    assert "vs sync" not in str(Report(ELIMINATED))  # no head of a table without rows
    loud = Note("loud", "Look here.", loud=True)
    assert "!!! [loud] Look here." in str(Report(dataclasses.replace(RACED, notes=(loud,))))


def test_square_brackets_are_text_and_no_markup():
    plan = dataclasses.replace(
        ELIMINATED,
        env="[bold]x[/]",
        reason="[red]so[/]",
        candidates=(Candidate("async", skipped="no such file [/tmp/x]"),),
    )
    text = words(Report(plan).details)
    for part in ("[bold]x[/] x 8", "[red]so[/]", "why not async no such file [/tmp/x]"):
        assert part in text


def test_a_stream_that_is_no_terminal_gets_the_plain_text(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert printed(RACED) == f"{Report(RACED)}\n"


@pytest.mark.parametrize(("columns", "width"), [(40, 60), (100, 100)])
def test_a_terminal_gets_colour_and_its_own_width_unless_it_is_too_narrow(
    columns, width, monkeypatch
):
    plan = dataclasses.replace(RACED, reason="word " * 100)
    colour = re.compile(r"\x1b\[(\d+;)*3[0-7]m")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = printed(plan)
    assert colour.search(text)
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert width - 6 < max(map(len, lines)) <= width
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(printed(plan))


def test_a_notebook_gets_text_and_html_and_the_texts_are_the_same_inside_one(monkeypatch):
    outside = str(Report(RACED)), printed(RACED)
    bundle = Report(RACED)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == str(Report(RACED))
    assert bundle["text/html"].startswith('<div class="vecselect">')
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *arguments: None)
    assert (str(Report(RACED)), printed(RACED)) == outside


def test_rich_prints_the_details_as_wide_as_its_console():
    console = Console(file=io.StringIO(), width=100)
    console.print(Report(RACED).details)
    assert 90 < max(map(len, console.file.getvalue().splitlines())) <= 100


UNITS = [
    (seconds, 9.812e-6, "9.81 us"),
    (seconds, 9.996e-4, "1.00 ms"),
    (seconds, 9.993e-4, "999 us"),
    (seconds, 9.996e-6, "10.0 us"),
    (seconds, 6.3e-10, "0.63 ns"),
    (seconds, 0.0, "0 ns"),
    (seconds, 1234.5, "1234 s"),
    (rate, 1_234_567, "1.23 M"),
    (rate, 2.5e9, "2.50 G"),
    (rate, 999.6, "1.00 k"),
    (rate, 1.5, "1.50"),
    (size, 12, "12 B"),
    (size, 28_224, "28.2 KB"),
    (share, 0.0004, "0 %"),
    (share, 0.0072, "0.7 %"),
    (share, 0.0996, "10 %"),
    (ratio, 1.518, "1.52x"),
    (ratio, 127.4, "127x"),
]


@pytest.mark.parametrize(("function", "value", "text"), UNITS)
def test_numbers_have_three_digits_and_a_unit(function, value, text):
    assert function(value) == text
