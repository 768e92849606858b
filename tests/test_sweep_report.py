"""Sweeps as text, HTML, JSON and plots; written by hand, so nothing is measured here."""

import dataclasses
import importlib.util
import io
import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from tests.snapshots import need_as_before
from tests.sweeps import EMPTY, INTERRUPTED, SWEEP, point
from vecselect import PlanError, RequestError, Sweep
from vecselect.report.content import sweep_content

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
    assert cells[0] == ("*50.0 k ±5.0 %", "-", "4.00 k ±5.0 %", "20.0 k ±5.0 %")
    assert [[cell[0] for cell in row].index("*") for row in cells] == [0, 0, 1, 1]
    assert memory.rows[3].cells == ("38.0 MB", "38.0 MB", "-", "38.0 MB")
    for table in (throughput, memory):
        assert [row.chosen for row in table.rows] == [False, False, False, True]


def test_the_answer_names_the_best_the_returns_and_the_line_to_paste():
    found = sweep_content(SWEEP)
    assert (found.chosen, found.verdict) == ("pool:1 x 8", "220 k env steps/s, 2.14x vs sync")
    assert found.reason.startswith("Returns do not diminish yet with pool:1: doubling from 4 to 8")
    assert "What to take by number: sync from 1 to 2, pool:1 from 4 on." in found.reason
    assert "native x 8 gives 13.6 times as much as the best" in found.reason
    assert found.pin == ('auto_make_vec("CartPole-v1", 8, mode="pool:1")',)
    assert found.notes == SWEEP.notes


def test_reasons_that_differ_in_numbers_alone_are_one_line():
    why = "building and timing it takes about 3 s, too much"
    assert not_measured(SWEEP) == {"async x 4, 8": why}


def test_each_number_is_told_with_the_mode_that_it_is_in_truth():
    same = tuple(
        point("pool:99", number, None, skipped=f"with {number} it is the same as pool:{number - 1}")
        for number in (2, 4)
    )
    sweep = dataclasses.replace(
        SWEEP, modes=(*SWEEP.modes, "pool:99"), named_modes=("sync", "pool:99"), points=same
    )
    assert not_measured(sweep) == {
        "pool:99 x 2": "with 2 it is the same as pool:1",
        "pool:99 x 4": "with 4 it is the same as pool:3",
    }


def test_it_looks_as_it_did():
    need_as_before("sweep.txt", f"{SWEEP}\n")


def test_a_callable_is_pasted_by_its_name():
    sweep = dataclasses.replace(SWEEP, env="make_maze", by_id=False)
    assert "auto_make_vec(make_maze, 8, " in str(sweep)


@pytest.mark.parametrize("sweep", [SWEEP, INTERRUPTED, EMPTY], ids=["whole", "part", "empty"])
def test_no_line_is_wider_than_80_columns_or_ends_in_blanks(sweep):
    lines = str(sweep).splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "\x1b" not in str(sweep)


def test_many_modes_make_several_tables():
    modes = tuple(f"pool:{workers}" for workers in range(7))
    points = tuple(point(mode, 8, 123e3 + i) for i, mode in enumerate(modes))
    sweep = dataclasses.replace(SWEEP, num_envs=(8,), modes=modes, points=points)
    assert [len(table.columns) - 1 for table in tables(sweep)] == [5, 2, 5, 2]
    assert all(len(line) <= 80 for line in str(sweep).splitlines())


def test_one_that_was_interrupted_says_so():
    assert "It was interrupted: this is not the whole sweep." in str(INTERRUPTED)
    assert "interrupted before its turn" not in str(INTERRUPTED)
    assert "nothing was measured yet" in str(EMPTY)


@pytest.mark.parametrize("sweep", [SWEEP, INTERRUPTED, EMPTY], ids=["whole", "part", "empty"])
def test_json_brings_back_the_same_value_also_from_a_file(sweep, tmp_path):
    sweep.save(tmp_path / "sweep.json")
    assert Sweep.from_json((tmp_path / "sweep.json").read_text()) == sweep
    with pytest.raises(RequestError, match=r"choose a name that ends in \.json, \.svg or \.png"):
        sweep.save(tmp_path / "sweep.pdf")


def test_json_names_the_best_for_programs():
    document = json.loads(SWEEP.to_json())
    assert document["best"] == {"mode": "pool:1", "num_envs": 8}
    assert document["diminishing"] is None
    assert json.loads(EMPTY.to_json())["best"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}'])
def test_what_is_no_sweep_is_refused(text):
    with pytest.raises(PlanError):
        Sweep.from_json(text)


def test_without_matplotlib_a_plot_is_an_error_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'vecselect\[plot\]'"):
        SWEEP.save(tmp_path / "sweep.svg")
    assert list(tmp_path.iterdir()) == []
    assert "<picture>" not in SWEEP._repr_mimebundle_()["text/html"]


def test_in_a_pipe_it_is_plain_and_on_a_stream_of_ascii_too():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    SWEEP.print(file)
    file.seek(0)
    assert "50.0 k +-5.0 %" in file.read()


@needs_matplotlib
@pytest.mark.parametrize("sweep", [SWEEP, INTERRUPTED, EMPTY], ids=["whole", "part", "empty"])
def test_it_is_plotted(sweep, tmp_path):
    sweep.save(tmp_path / "sweep.svg")
    sweep.save(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(tmp_path / "sweep.svg").getroot()
    texts = {one.text for one in root.iter() if one.text}
    assert "memory of all processes" in texts
    assert {point.mode for point in sweep.points if point.env_steps_per_s} <= texts
    assert ("best: pool:1 x 8, 220 k" in texts) == (sweep is SWEEP)
    assert root[0].text.startswith("CartPole-v1: env steps/s and memory")


@needs_matplotlib
def test_a_notebook_shows_the_plot_below_the_tables():
    bundle = SWEEP._repr_mimebundle_()
    assert bundle["text/plain"] == str(SWEEP)
    assert bundle["text/html"].index("</table>") < bundle["text/html"].index("<picture>")
