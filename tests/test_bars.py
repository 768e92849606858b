"""The bars of a vector step: their lengths, what they are made of, and when there are none."""

import dataclasses
import io

import pytest
from rich.console import Console

from tests import plans
from vecselect.report.bars import COLUMNS, CUT, LONGEST, bars
from vecselect.selection.compare import Interval
from vecselect.selection.estimate import Forecast, Parts


def drawn(plan):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(bars(plan))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def a_plan(mode, **parts_by_mode):
    forecasts = tuple(
        Forecast(name, Interval(sum(parts), sum(parts), sum(parts)), Parts(*parts))
        for name, parts in parts_by_mode.items()
    )
    estimate = dataclasses.replace(plans.ESTIMATE, mode=mode, forecasts=forecasts)
    return dataclasses.replace(plans.ESTIMATED, mode=mode, estimate=estimate)


def test_bars_have_one_scale_and_the_longest_fills_the_line():
    lines = drawn(a_plan("sync", sync=(1.0, 0, 0, 0, 0, 0), **{"async": (1.0, 0, 1.0, 0, 0, 0)}))
    assert lines[1].count("█") == COLUMNS / 2
    assert lines[2].count("█") == lines[2].count("▒") == COLUMNS / 2
    assert CUT not in "".join(lines)


def test_a_bar_far_longer_than_the_chosen_one_is_cut():
    slow = (1.0, 0, 4 * LONGEST, 0, 0, 0)
    lines = drawn(a_plan("sync", sync=(1.0, 0, 0, 0, 0, 0), **{"async": slow}))
    assert lines[1].count("█") == COLUMNS / LONGEST
    assert lines[2].endswith(CUT)
    assert lines[2].count("█") + lines[2].count("▒") == COLUMNS


def test_every_part_has_its_length_and_a_word():
    lines = drawn(a_plan("sync", sync=(4.0, 3.0, 2.0, 2.0, 1.0, 1.0)))
    for character, share in zip("█▓▒░=·", (4, 3, 2, 2, 1, 1), strict=True):
        assert lines[1].count(character) == pytest.approx(COLUMNS * share / 13, abs=1)
    for word in ("stepping", "stragglers", "hand-off", "infos", "copying", "loop"):
        assert word in lines[0]


def test_what_takes_next_to_nothing_is_not_in_the_legend():
    lines = drawn(a_plan("sync", sync=(1.0, 0, 0, 0.001, 0, 0.1)))
    assert "infos" not in lines[0]
    assert "loop" in lines[0]


def test_a_pool_whose_workers_sleep_has_the_bar_of_one_whose_do_not():
    plan = dataclasses.replace(plans.ESTIMATED, mode="pool:1:sleep")
    assert drawn(plan)[1].startswith("pool:1 ")


def test_without_a_model_there_are_no_bars():
    assert bars(plans.BY_RULE) is None
    assert bars(plans.PINNED) is None
