"""Figures: what a page gets of them."""

import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from vecselect import RequestError
from vecselect.report import figures

MODES = ("sync", "pool:0", "pool:1", "pool:3", "pool:7", "async", "thread", "native", "ray")


def test_every_mode_has_a_colour_and_a_mark_of_its_own():
    assert len({figures.colour_of(mode) for mode in MODES}) == len(MODES)
    assert len({figures.marker_of(mode) for mode in MODES}) == len(MODES)
    assert figures.colour_of("pool") == figures.colour_of("pool:1")
    assert figures.colour_of("pool:1:sleep") == figures.colour_of("pool:1")
    assert figures.dashes_of("pool:1:sleep") != figures.dashes_of("pool:1")
    assert figures.colour_of("unheard of") == figures.MUTED


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'vecselect\[plot\]'"), figures.styled():
        pass


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def drawn():
    with figures.styled():
        made = figures.new_figure(4, 2)
        axes = made.subplots()
        axes.plot([1, 2], [3, 4], color=figures.colour_of("sync"), marker="o", label="a < b -- c")
        axes.fill_between([1, 2], [2, 3], [4, 5], alpha=0.2)
        axes.legend()
    return made


@pytest.fixture
def figure(matplotlib):
    return drawn()


def test_an_svg_is_one_element_with_text_and_no_fixed_greys(figure):
    text = figures.svg(figure, "A & B")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert text.startswith("<svg ")
    assert "<title>A &amp; B</title>" in text
    assert ">a &lt; b -- c<" in text
    for colour in (figures.INK, figures.MUTED, figures.GRID, figures.PAPER, "#ffffff", "#000000"):
        assert colour not in text
    assert "currentColor" in text
    assert "<style" not in text
    assert figures.colour_of("sync") in text


def test_the_ids_of_two_figures_do_not_clash_and_every_reference_is_met(matplotlib, figure):
    with figures.styled():
        other = figures.new_figure(4, 2)
        other.subplots().plot([1, 2], [3, 5], marker="o")
    found = []
    for one in (figure, other):
        text = figures.svg(one)
        ids = set(re.findall(r' id="([^"]*)"', text))
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
        assert ids == used != set()
        found.append(ids)
    assert found[0].isdisjoint(found[1])


def test_what_is_drawn_the_same_way_gives_the_same_text(figure):
    assert figures.svg(figure) == figures.svg(drawn())


def test_a_file_of_its_own_follows_the_theme(figure):
    text = figures.svg(figure, standalone=True)
    assert text.startswith("<?xml")
    assert "prefers-color-scheme: dark" in text
    ElementTree.fromstring(text.encode())


def test_a_png_is_drawn_too(figure):
    assert figures.png(figure).startswith(b"\x89PNG")


def test_the_settings_of_the_user_neither_count_nor_change(matplotlib):
    plain = {}
    for width in (1.0, 9.0):
        with matplotlib.rc_context({"lines.linewidth": width, "text.color": "red"}):
            with figures.styled():
                made = figures.new_figure(4, 2)
                made.subplots().plot([1, 2], [3, 4])
            plain[width] = figures.svg(made)
            assert matplotlib.rcParams["lines.linewidth"] == width
            assert matplotlib.rcParams["text.color"] == "red"
    assert plain[1.0] == plain[9.0]


def test_pyplot_is_not_loaded(figure):
    figures.svg(figure)
    assert "matplotlib.pyplot" not in sys.modules
