"""Sweeps as text, HTML, JSON and plots; written by hand, so nothing is measured here."""

import dataclasses
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

ALL, IDS = [SWEEP, INTERRUPTED, EMPTY], ["whole", "part", "empty"]


def tables(sweep):
    return [one for one in sweep_content(sweep).sections if one.columns]


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
    sweep = dataclasses.replace(SWEEP, env="make_maze", by_id=False)
    assert sweep_content(sweep).pin == ('auto_make_vec(make_maze, 8, mode="pool:1")',)
    (row,) = found.sections[-1].rows
    assert (row.name, *row.cells) == (
        *("async x 4, 8", "building and timing it takes about 3 s, too much"),
    )


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


def test_it_looks_as_it_did():
    need_as_before("sweep.txt", f"{SweepReport(SWEEP)}\n")


@pytest.mark.parametrize("sweep", ALL, ids=IDS)
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


@pytest.mark.parametrize("sweep", ALL, ids=IDS)
def test_it_is_saved_in_the_form_of_its_ending(sweep, tmp_path):
    SweepReport(sweep).save(tmp_path / "sweep.json")
    text = (tmp_path / "sweep.json").read_text()
    assert Sweep.from_json(text) == sweep
    best = {"mode": "pool:1", "num_envs": 8} if sweep is SWEEP else json.loads(text)["recommended"]
    assert json.loads(text)["recommended"] == best
    pytest.importorskip("matplotlib")
    SweepReport(sweep).save(tmp_path / "sweep.svg")
    SweepReport(sweep).save(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(tmp_path / "sweep.svg").getroot()
    texts = {one.text for one in root.iter() if one.text}
    assert "memory of all processes" in texts
    assert {point.mode for point in sweep.points if point.env_steps_per_s} <= texts
    assert ("recommended: pool:1 x 8, 220 k" in texts) == (sweep is SWEEP)
    assert root[0].text.startswith("CartPole-v1: env steps/s and memory")
    bundle = SweepReport(sweep)._repr_mimebundle_()
    assert bundle["text/plain"] == str(SweepReport(sweep))
    assert 'src="data:image/svg+xml' in bundle["text/html"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}'])
def test_what_is_no_sweep_is_refused(text):
    with pytest.raises(PlanError):
        Sweep.from_json(text)


@pytest.mark.parametrize("changes", [{"mode": "zzz"}, {"num_envs": 10**12}, {"num_envs": 0}])
def test_a_sweep_that_cannot_have_been_made_is_refused(changes):
    document = SWEEP.to_dict()
    document["points"] = [{**document["points"][0], **changes}]
    with pytest.raises(PlanError, match="impossible point"):
        Sweep.from_json(json.dumps(document))


def test_a_sweep_that_took_no_time_is_refused():
    document = json.loads(SWEEP.to_json())
    document["points"][0]["loop_s"]["mid"] = 0
    with pytest.raises(PlanError, match="impossible point"):
        Sweep.from_json(json.dumps(document))


def test_without_matplotlib_a_plot_is_an_error_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'vecselect\[plot\]'"):
        SweepReport(SWEEP).save(tmp_path / "sweep.svg")
    assert list(tmp_path.iterdir()) == []
    html = SweepReport(SWEEP)._repr_mimebundle_()["text/html"]
    assert "<img" not in html and "vecselect[plot]" in html


def test_a_sweep_that_is_shown_itself_takes_one_line():
    assert repr(SWEEP) == "<Sweep CartPole-v1: 8 in pool:1 recommended>"
    assert repr(dataclasses.replace(SWEEP, points=())) == "<Sweep CartPole-v1: nothing ran>"
