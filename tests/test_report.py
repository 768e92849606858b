"""The report as text: where it fits, what streams get, how numbers read, and how it looks."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from tests import plans
from tests.plans import BY_MODEL, BY_RULE, ELIMINATED, MACHINE, RACED
from tests.snapshots import need_as_before
from vecselect.plan import Candidate, Note
from vecselect.report import Report
from vecselect.report.text import MOST_LINES
from vecselect.report.units import rate, ratio, seconds, share, size
from vecselect.run_stats import Stats

WIDE = dataclasses.replace(
    BY_RULE,
    env="a_package_of_some_length.environments:TheEnvironmentWithTheLongestName-v12",
    reason="A reason that goes on and on. " * 20,
    notes=tuple(Note(f"note-{n}", "A note that goes on and on, " * 8) for n in range(5)),
    candidates=(
        *BY_RULE.candidates,
        *(Candidate(f"pool:{n}", predicted=plans.exactly(n)) for n in range(1, 40)),
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
    plan.report.print(file)
    return file.getvalue()


def test_a_report_looks_as_it_did():
    need_as_before("report_threads.txt", f"{plans.ONE_THREAD.report}\n")
    need_as_before("details_race.txt", f"{RACED.report.details}\n")


@pytest.mark.parametrize("name", PLANS)
def test_the_plain_text_fits_a_small_terminal_and_has_no_colour(name, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    report = Report(PLANS[name].report.plan, Stats(1000, 8000, 12.0, 4.0, 500.0))
    lines = str(report).splitlines()
    assert len(lines) <= MOST_LINES == 16
    assert lines[0].startswith("vecselect:")
    assert any(line.startswith("pin it:") for line in lines[-2:])
    for line in (*lines, *str(report.details).splitlines()):
        assert len(line) <= 80
        assert line == line.rstrip() and line.isprintable()


def test_what_has_no_room_is_told_of():
    text = str(WIDE.report)
    assert "A reason that goes on and on." in text and " ...\n" in text
    assert re.search(r"! [345] more notes: report.details", text)
    for note in WIDE.notes:
        assert f"[{note.code}] {note.text.strip()}" in words(WIDE.report.details)
    assert words(WIDE.reason) in words(WIDE.report.details)
    assert "pool:39" in str(WIDE.report.details)
    loud = Note("loud", "Look here.", loud=True)
    assert "!!! [loud] Look here." in str(dataclasses.replace(RACED, notes=(loud,)).report)


def test_the_details_say_why_a_candidate_was_not_chosen_and_the_short_report_does_not():
    assert "this process is a daemon" in str(ELIMINATED.report.details)
    assert "this process is a daemon" not in str(ELIMINATED.report)


def test_a_run_so_far_is_in_both():
    report = Report(RACED, Stats(1000, 8000, 12.0, 4.0, 500.0))
    for text in (words(report), words(report.details)):
        assert "1000 of 12.0 ms (planned: 10.1 ms), 75 % of the loop" in text
        assert "500 env steps/s, learner included" in text


@pytest.mark.parametrize("name", PLANS)
def test_a_stream_that_is_no_terminal_gets_the_plain_text(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = printed(PLANS[name])
    assert "\x1b" not in text
    assert [line.rstrip() for line in text.splitlines()] == str(PLANS[name].report).splitlines()


def test_square_brackets_are_text_and_no_markup():
    plan = dataclasses.replace(
        ELIMINATED,
        env="[bold]x[/]",
        reason="[red]so[/]",
        candidates=(Candidate("async", skipped="no such file [/tmp/x]"),),
    )
    text = words(plan.report.details)
    assert "[bold]x[/] x 8" in text
    assert "[red]so[/]" in text
    assert "async not chosen: no such file [/tmp/x]" in text


def test_a_stream_of_ascii_gets_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    BY_MODEL.report.details.print(file)
    RACED.report.print(file)
    file.flush()
    text = file.buffer.getvalue().decode("ascii")
    assert "# stepping  % stragglers  : hand-off" in text
    assert "11.2 ms +-1.8 %" in text


def test_a_terminal_gets_colour_unless_no_color_is_set(monkeypatch):
    colour = re.compile(r"\x1b\[(\d+;)*3[0-7]m")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert colour.search(printed(RACED))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(printed(RACED))


@pytest.mark.parametrize(("columns", "width"), [(40, 60), (100, 100)])
def test_a_terminal_gets_its_own_width_unless_it_is_too_narrow(monkeypatch, columns, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    head = re.sub(r"\x1b\[[\d;]*m", "", printed(RACED)).splitlines()[0]
    assert len(head) == width


def test_a_notebook_gets_text_and_html():
    bundle = RACED.report._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == str(RACED.report)
    assert bundle["text/html"].startswith('<div class="vecselect">')
    assert RACED._repr_mimebundle_() == bundle


def test_inside_a_notebook_the_texts_are_the_same(monkeypatch):
    outside = str(RACED.report), printed(RACED)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *arguments: None)
    assert (str(RACED.report), printed(RACED)) == outside


def test_rich_prints_it_as_wide_as_its_console():
    console = Console(file=io.StringIO(), width=100)
    console.print(RACED.report)
    text = console.file.getvalue()
    assert "Walker-v0 x 8" in text
    assert max(map(len, text.splitlines())) == 100


UNITS = [
    (seconds, 9.812e-6, "9.81 us"),
    (seconds, 0.00123, "1.23 ms"),
    (seconds, 9.996e-4, "1.00 ms"),
    (seconds, 9.993e-4, "999 us"),
    (seconds, 9.996e-6, "10.0 us"),
    (seconds, 6.3e-10, "0.63 ns"),
    (seconds, 0.0, "0 ns"),
    (seconds, 1.5, "1.50 s"),
    (seconds, 1234.5, "1234 s"),
    (rate, 97_400, "97.4 k"),
    (rate, 1_234_567, "1.23 M"),
    (rate, 2.5e9, "2.50 G"),
    (rate, 999.6, "1.00 k"),
    (rate, 417.2, "417"),
    (rate, 1.5, "1.50"),
    (size, 12, "12 B"),
    (size, 0, "0 B"),
    (size, 28_224, "28.2 KB"),
    (size, 1_499_600_000, "1.50 GB"),
    (share, 0.0, "0 %"),
    (share, 0.0004, "0 %"),
    (share, 0.0072, "0.7 %"),
    (share, 0.0996, "10 %"),
    (share, 0.123, "12 %"),
    (share, 1.0, "100 %"),
    (ratio, 1.518, "1.52x"),
    (ratio, 127.4, "127x"),
]


@pytest.mark.parametrize(("function", "value", "text"), UNITS)
def test_numbers_have_three_digits_and_a_unit(function, value, text):
    assert function(value) == text


def test_a_duration_is_never_off_by_more_than_its_last_digit():
    factors = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    for exponent in range(-9, 2):
        for mantissa in (1.0, 1.004, 4.996, 9.994, 9.9949, 9.9951, 9.996, 9.9999):
            value = mantissa * 10.0**exponent
            number, unit = seconds(value).split()
            assert len(number.replace(".", "")) == 3
            assert float(number) * factors[unit] == pytest.approx(value, rel=0.0051)
