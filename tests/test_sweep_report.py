"""Sweeps as text, HTML, JSON and plots; written by hand, so nothing is measured here."""

import dataclasses
import importlib.util
import io
import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from tests.snapshots import need_as_before
from tests.sweeps import CURVES, EMPTY, INTERRUPTED, SWEEP, point, points
from vecselect import PlanError, RequestError, Sweep, SweepReport
from vecselect.planning import explain
from vecselect.report.content import sweep_content
from vecselect.selection.race import choose_by_number

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the extra vecselect[plot] is missing"
)


def tables(sweep):
    return [one for one in sweep_content(sweep).sections if one.columns]


def not_measured(sweep):
    return {row.name: row.cells[0] for row in sweep_content(sweep).sections[-1].rows}


def test_the_tables_show_every_mode_and_number_and_mark_the_best():
    throughput, memory = tables(SWEEP)
    assert throughput.columns == memory.columns == ("num_envs", *SWEEP.modes)
    assert [row.name for row in throughput.rows] == ["1", "2", "4", "8"]
    cells = [row.cells for row in throughput.rows]
    assert cells[0] == ("*50.0 k", "-", "4.00 k", "20.0 k")
    assert [[cell[0] for cell in row].index("*") for row in cells] == [0, 0, 1, 1]
    assert memory.rows[3].cells == ("38.0 MB", "38.0 MB", "-", "38.0 MB")
    for table in (throughput, memory):
        assert [row.chosen for row in table.rows] == [False, False, False, True]


def test_the_answer_names_what_is_recommended_and_the_line_to_paste():
    found = sweep_content(SWEEP)
    assert (found.chosen, found.verdict) == ("pool:1 x 8", "220 k env steps/s, 2.14x vs sync")
    assert found.reason == SWEEP.recommendation
    assert found.pin == ('auto_make_vec("CartPole-v1", 8, mode="pool:1")',)
    assert found.notes == SWEEP.notes


@pytest.mark.parametrize(
    ("curves", "whole", "said"),
    [
        (
            CURVES,
            True,
            "Take 8 sub-environments in mode pool:1: 220,000 env steps/s, which is the most,",
        ),
        (
            {"sync": {1: 50e3, 2: 97e3, 4: 100e3}},
            True,
            "Take 2 sub-environments in mode sync: 97,000 env",
        ),
        ({"sync": {1: 50e3, 2: 97e3, 4: 100e3}}, True, "is 97% of the most (100,000 with 4);"),
        (
            {"sync": {1: 50e3}},
            False,
            "It was interrupted: this is not the whole sweep. Take 1 sub-",
        ),
        ({}, True, "Nothing was measured."),
    ],
)
def test_a_sweep_recommends_in_a_sentence(curves, whole, said):
    text = explain.of_sweep(choose_by_number(points(curves)), whole=whole)
    assert said in text
    assert (" MB." in text) == bool(curves)


def test_reasons_that_differ_in_numbers_alone_are_one_line():
    (row,) = sweep_content(SWEEP).sections[-1].rows
    assert (row.name, row.cells) == (
        "async x 4, 8",
        ("building and timing it takes about 3 s, too much",),
    )


def test_it_looks_as_it_did():
    need_as_before("sweep.txt", f"{SweepReport(SWEEP)}\n")


def test_a_callable_is_pasted_by_its_name():
    sweep = dataclasses.replace(SWEEP, env="make_maze", by_id=False)
    assert "auto_make_vec(make_maze, 8, " in str(SweepReport(sweep))


@pytest.mark.parametrize("sweep", [SWEEP, INTERRUPTED, EMPTY], ids=["whole", "part", "empty"])
def test_no_line_is_wider_than_80_columns_or_ends_in_blanks(sweep):
    lines = str(SweepReport(sweep)).splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "\x1b" not in str(SweepReport(sweep))


def test_many_modes_make_several_tables():
    modes = tuple(f"pool:{workers}" for workers in range(7))
    points = tuple(point(mode, 8, 123e3 + i) for i, mode in enumerate(modes))
    sweep = dataclasses.replace(SWEEP, num_envs=(8,), modes=modes, points=points)
    assert [len(table.columns) - 1 for table in tables(sweep)] == [5, 2, 5, 2]
    assert all(len(line) <= 80 for line in str(SweepReport(sweep)).splitlines())


def test_one_that_was_interrupted_says_so():
    assert "It was interrupted: this is not the whole sweep." in str(SweepReport(INTERRUPTED))
    assert "interrupted before its turn" not in str(SweepReport(INTERRUPTED))
    assert "Nothing was measured." in str(SweepReport(EMPTY))


@pytest.mark.parametrize("sweep", [SWEEP, INTERRUPTED, EMPTY], ids=["whole", "part", "empty"])
def test_json_brings_back_the_same_value_also_from_a_file(sweep, tmp_path):
    SweepReport(sweep).save(tmp_path / "sweep.json")
    assert Sweep.from_json((tmp_path / "sweep.json").read_text()) == sweep
    with pytest.raises(RequestError, match=r"choose a name that ends in \.json, \.svg or \.png"):
        SweepReport(sweep).save(tmp_path / "sweep.pdf")


def test_json_names_the_best_for_programs():
    document = json.loads(SWEEP.to_json())
    assert document["recommended"] == {"mode": "pool:1", "num_envs": 8}
    assert json.loads(EMPTY.to_json())["recommended"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}'])
def test_what_is_no_sweep_is_refused(text):
    with pytest.raises(PlanError):
        Sweep.from_json(text)


def test_without_matplotlib_a_plot_is_an_error_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'vecselect\[plot\]'"):
        SweepReport(SWEEP).save(tmp_path / "sweep.svg")
    assert list(tmp_path.iterdir()) == []
    assert "<picture>" not in SweepReport(SWEEP)._repr_mimebundle_()["text/html"]


def test_in_a_pipe_it_is_plain_and_on_a_stream_of_ascii_too():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    SweepReport(SWEEP).print(file)
    file.seek(0)
    assert "widest +-5.0 %" in file.read()


@needs_matplotlib
@pytest.mark.parametrize("sweep", [SWEEP, INTERRUPTED, EMPTY], ids=["whole", "part", "empty"])
def test_it_is_plotted(sweep, tmp_path):
    SweepReport(sweep).save(tmp_path / "sweep.svg")
    SweepReport(sweep).save(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(tmp_path / "sweep.svg").getroot()
    texts = {one.text for one in root.iter() if one.text}
    assert "memory of all processes" in texts
    assert {point.mode for point in sweep.points if point.env_steps_per_s} <= texts
    assert ("recommended: pool:1 x 8, 220 k" in texts) == (sweep is SWEEP)
    assert root[0].text.startswith("CartPole-v1: env steps/s and memory")


def test_a_sweep_that_is_shown_itself_takes_one_line():
    assert repr(SWEEP) == "<Sweep CartPole-v1: 8 in pool:1 recommended>"
    assert repr(dataclasses.replace(SWEEP, points=())) == "<Sweep CartPole-v1: nothing ran>"


@needs_matplotlib
def test_a_notebook_shows_the_plot_below_the_tables():
    bundle = SweepReport(SWEEP)._repr_mimebundle_()
    assert bundle["text/plain"] == str(SweepReport(SWEEP))
    assert bundle["text/html"].index("</table>") < bundle["text/html"].index("<picture>")
