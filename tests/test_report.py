"""The report of plans written by hand: what it says, where it fits, and how numbers read."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from tests import plans
from tests.plans import BY_RULE as MEASURED
from tests.plans import ELIMINATED, ESTIMATED, MACHINE, PINNED, PROFILE, RACED, RULE
from vecselect.plan import Candidate, Note
from vecselect.report import Report
from vecselect.report.units import rate, ratio, seconds, share, size
from vecselect.run_stats import Stats

WIDE = dataclasses.replace(
    MEASURED,
    env="a_package_of_some_length.environments:TheEnvironmentWithTheLongestName-v12",
    num_envs=4096,
    notes=(Note("memory", "A note that goes on and on, " * 8), Note("copy", "Another note.")),
    machine=dataclasses.replace(MACHINE, cores=192.0, cores_quota=None),
)
PLANS = {
    "measured": MEASURED,
    "estimated": ESTIMATED,
    "raced": RACED,
    "pinned": PINNED,
    "eliminated": ELIMINATED,
    "wide": WIDE,
}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def words(text):
    """The text with each run of blanks and line breaks as one blank."""
    return " ".join(text.split())


def printed(plan):
    file = io.StringIO()
    plan.report.print(file)
    return file.getvalue()


@pytest.mark.parametrize("name", PLANS)
def test_the_plain_text_fits_a_small_terminal_and_has_no_colour(name, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    lines = str(PLANS[name].report).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() and line.replace(" ", "").isprintable() for line in lines)


@pytest.mark.parametrize("name", PLANS)
def test_a_stream_that_is_no_terminal_gets_the_plain_text(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = printed(PLANS[name])
    assert "\x1b" not in text
    assert [line.rstrip() for line in text.splitlines()] == str(PLANS[name].report).splitlines()


def test_a_measured_plan_is_told_with_its_numbers():
    text = words(str(MEASURED.report))
    assert "Walker-v0 x 8" in text
    assert "1.5 usable cores (quota 1.5)" in text
    assert "=> async by the ~1 ms rule, clear: 2.38x above the line of 1.00 ms" in text
    assert RULE.reason in text
    assert "step time 2.35 ms, median 2.20 ms, p99 4.70 ms; 25 % waiting" in text
    assert "reset time 7.89 ms, 1.6 % of the time; episodes of 200 steps" in text
    assert "IPC cost 65.4 us a round trip of an observation (28.2 KB)" in text
    assert "break-even async pays from 187 us per step" in text
    assert "417 steps/s" in text
    assert "45.6 MB of memory" in text
    assert "! [resets] Resets take 16 % of the time." in text
    assert 'pin it: mode="async" or VECSELECT_MODE=async' in text


def test_every_mode_has_a_row_with_its_prediction_or_why_it_was_skipped():
    text = words(str(MEASURED.report))
    assert "sync ~19.1 ms ~419 ~1.00x 419" in text
    assert "=> async ~13.2 ms ~606 ~1.45x 606" in text
    assert "skipped native: Walker-v0 has no vector_entry_point" in text


def test_an_estimate_is_told_with_its_ranges_and_with_what_the_rule_says():
    text = words(str(ESTIMATED.report))
    assert "=> pool:1 by estimate, clear" in text
    assert "=> pool:1 ~10.2 ms ~784 ~1.87x 702-879" in text
    assert "~1 ms rule async, clear: 2.38x above the line of 1.00 ms" in text
    assert "pool: 3.10 us" in text
    assert "pool pays from 2.50 us per step; async never pays here" in text
    assert "what if 4 cores: pool:" in text
    assert "planned in 800 ms; remembered as 0123456789abcdef" in text


def test_a_race_is_told_with_its_rounds_its_spread_and_the_learner():
    text = words(str(RACED.report))
    assert "=> pool:1 by a race, likely (97%) the fastest" in text
    assert "=> pool:1 11.2 ms ±1.8 % 714 1.79x 702-879 ~1.87x" in text
    assert "learner 1.10 ms between two steps (callable); 90 % of the loop collects" in text
    assert "race 5 rounds of 12 vector steps; 5 steps the same to the bit" in text


def test_a_choice_that_is_not_the_fastest_says_so():
    sync, ours = plans.RACE.entrants
    close = dataclasses.replace(ours, mode="pool:3", blocks_s=(11e-3, 11.1e-3))
    race = dataclasses.replace(plans.RACE, leader="pool:3", entrants=(sync, ours, close))
    candidates = (*RACED.candidates, Candidate("pool:3", measured=close.loop_s))
    text = words(str(dataclasses.replace(RACED, race=race, candidates=candidates).report))
    assert "by a race, within 5 % of the fastest and simpler than pool:3" in text


def test_a_recalled_plan_says_from_when_it_is():
    text = words(str(dataclasses.replace(RACED, recalled=True).report))
    assert "planned 2025-01-01T00:00:00+00:00, recalled as 0123456789abcdef" in text


def test_why_a_plan_is_not_remembered_is_said():
    plan = dataclasses.replace(RACED, key=None, not_stored="it holds a lock")
    assert "not remembered: it holds a lock" in words(str(plan.report))


def test_a_run_so_far_stands_beside_what_was_planned():
    text = words(str(Report(RACED, Stats(1000, 8000, 12.0, 4.0, 500.0))))
    assert "1000 vector steps of 12.0 ms (planned: 10.1 ms), 75 % of the loop" in text
    assert "500 env steps/s in all" in text


def test_a_pinned_plan_says_who_pinned_it_and_shows_no_measurement():
    text = words(str(PINNED.report))
    assert "=> sync pinned by VECSELECT_MODE=sync" in text
    assert "nothing was measured" in text
    assert "skipped" not in text  # what else there would have been matters to nobody
    for measured in ("step time", "IPC cost", "break-even"):
        assert measured not in text


def test_a_plan_by_elimination_says_what_was_in_the_way():
    text = words(str(ELIMINATED.report))
    assert "=> sync the only mode left" in text
    assert words(ELIMINATED.reason) in text


def test_what_was_not_seen_is_said_in_words():
    profile = dataclasses.replace(PROFILE, episode_steps=None, memory_bytes=None)
    rule = dataclasses.replace(RULE, near_line=True, break_even_s=None)
    text = words(str(dataclasses.replace(MEASURED, profile=profile, rule=rule).report))
    assert "no episode ended" in text
    assert "of memory" not in text
    assert "by the ~1 ms rule, close to the line" in text
    assert "async never pays here" in text


def test_square_brackets_in_a_name_are_text_and_no_markup():
    plan = dataclasses.replace(PINNED, env="[bold]x[/]", reason="[red]so[/]")
    text = words(str(plan.report))
    assert "[bold]x[/] x 8" in text
    assert "[red]so[/]" in text


@pytest.mark.parametrize("reason", ["cannot pickle [deep] thing", "no such file [/tmp/x]"])
def test_square_brackets_in_a_reason_are_text_and_no_markup(reason):
    plan = dataclasses.replace(ELIMINATED, candidates=(Candidate("async", skipped=reason),))
    assert f"skipped async: {reason}" in words(str(plan.report))


def test_a_stream_of_ascii_gets_ascii():
    class Ascii(io.StringIO):
        encoding = "ascii"

    file = Ascii()
    ESTIMATED.report.print(file)
    text = file.getvalue()
    text.encode("ascii")
    assert "# stepping  % stragglers  : hand-off" in text


def test_a_terminal_gets_colour_unless_no_color_is_set(monkeypatch):
    colour = re.compile(r"\x1b\[(\d+;)*3[0-7]m")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert colour.search(printed(MEASURED))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(printed(MEASURED))


@pytest.mark.parametrize(("columns", "width"), [(40, 60), (100, 100)])
def test_a_terminal_gets_its_own_width_unless_it_is_too_narrow(monkeypatch, columns, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    head = re.sub(r"\x1b\[[\d;]*m", "", printed(MEASURED)).splitlines()[0]
    assert len(head) == width


def test_a_notebook_gets_text_and_html():
    bundle = MEASURED.report._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == str(MEASURED.report)
    assert bundle["text/html"].startswith('<div class="vecselect">')
    assert "Walker-v0 &times; 8" in bundle["text/html"]
    assert MEASURED._repr_mimebundle_() == bundle


def test_inside_a_notebook_the_texts_are_the_same(monkeypatch):
    outside = str(MEASURED.report), printed(MEASURED)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *arguments: None)
    assert (str(MEASURED.report), printed(MEASURED)) == outside


def test_rich_prints_it_as_wide_as_its_console():
    console = Console(file=io.StringIO(), width=100)
    console.print(MEASURED.report)
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
