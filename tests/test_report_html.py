"""The HTML report: what is in it, what is not, and that nothing in a plan can break out of it."""

import dataclasses
import re
import sys
from html.parser import HTMLParser

import pytest

from tests import plans
from tests.plans import BY_RULE, ELIMINATED, ESTIMATED, PINNED, RACED
from vecselect import Plan
from vecselect.plan import Candidate, Note
from vecselect.report import Report
from vecselect.report.html import fragment, page
from vecselect.report.plots import plots_of
from vecselect.run_stats import Stats

EVIL = '</script><script>alert("1")</script>&<img src=x onerror=alert(1)>\'$\\frac{'
HOSTILE = dataclasses.replace(
    RACED,
    env=EVIL,
    reason=EVIL,
    pinned_by=EVIL,
    observation_space=EVIL,
    learner=EVIL,
    not_stored=EVIL,
    candidates=(*RACED.candidates, Candidate(EVIL, skipped=EVIL)),
    notes=(Note(EVIL, EVIL, loud=True),),
    versions={EVIL: EVIL},
    machine=dataclasses.replace(RACED.machine, cpu=EVIL),
    race=dataclasses.replace(RACED.race, out={EVIL: EVIL}),
)
PLANS = {
    "rule": BY_RULE,
    "estimate": ESTIMATED,
    "race": RACED,
    "pinned": PINNED,
    "eliminated": ELIMINATED,
    "hostile": HOSTILE,
}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """What a page holds; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.attributes, self.texts = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def no_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture(scope="module")
def pages():
    return {name: page(plan.report) for name, plan in PLANS.items()}


@pytest.mark.parametrize("name", PLANS)
def test_every_kind_of_plan_has_a_page_that_is_well_formed(name, pages):
    read = Reader(pages[name])
    assert pages[name].startswith("<!DOCTYPE html>")
    assert len(read.ids) == len(set(read.ids))
    assert ("Candidates" in read.text) == (name != "pinned")
    assert "Measurements" in read.text


@pytest.mark.parametrize("name", PLANS)
def test_a_page_runs_nothing_and_loads_nothing(name, pages):
    read = Reader(pages[name])
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(read.tags)
    assert not [attribute for attribute, _ in read.attributes if attribute.startswith("on")]
    for attribute, value in read.attributes:
        if attribute in ("src", "href", "xlink:href"):
            assert value.startswith("#")
    assert "default-src 'none'" in pages[name]
    assert "@import" not in pages[name]
    assert not re.search(r"url\((?!#)", pages[name])


def test_what_a_plan_holds_stands_for_itself(pages):
    assert EVIL not in pages["hostile"]
    assert "<script" not in pages["hostile"]
    assert Reader(pages["hostile"]).text.count("alert(1)") >= 10


def test_the_answer_comes_first(pages):
    text = Reader(pages["race"]).text
    assert "Walker-v0 × 8 on 1.5 usable cores pool:1 1.79x sync" in text
    assert "(measured again after the race; 95 %: 1.75x-1.84x)" in text
    assert "the fastest with 97 % certainty; taking it is expected to lose 0.1 %" in text
    assert 'auto_make_vec("Walker-v0", 8, mode="pool:1")' in text
    assert "VECSELECT_MODE=pool:1" in text


def test_a_prediction_says_how_far_it_may_be_off(pages):
    text = Reader(pages["estimate"]).text
    assert "1.87x sync (predicted; 1.68x-2.10x)" in text
    assert "By prediction, and clear." in text
    assert "10.2 ms (9.10-11.4 ms)" in text


def test_every_candidate_is_there_with_its_figures_or_its_reason(pages):
    text = Reader(pages["race"]).text
    assert "10.2 ms (9.10-11.4 ms) ~1.87x 11.2 ms (11.1-11.4 ms) 714 1.79x chosen" in text
    assert "native skipped: Walker-v0 has no vector_entry_point" in text


def test_a_step_is_taken_apart_in_bars_to_one_scale(pages):
    text = Reader(pages["race"]).text
    assert "hand-off" in text
    assert "700 us (6.9 %)" in text
    totals = [
        sum(float(width) for width in re.findall(r"width: ([\d.]+)%", bar))
        for bar in re.findall(r'<div class="vs-bar">(.*?)</div>', pages["race"])
    ]
    assert len(totals) == 3
    assert max(totals) == pytest.approx(97, abs=0.1)
    assert totals[0] / totals[2] == pytest.approx(10.2 / 19.1, abs=0.01)


def test_a_bar_that_is_too_long_is_cut_off_with_a_mark():
    estimate = plans.ESTIMATE
    forecasts = [
        dataclasses.replace(
            one,
            vector_step_s=plans.exactly(one.vector_step_s.mid * 10),
            parts=dataclasses.replace(one.parts, hand_off_s=one.vector_step_s.mid * 9),
        )
        if one.mode == "async"
        else one
        for one in estimate.forecasts
    ]
    estimate = dataclasses.replace(estimate, forecasts=tuple(forecasts))
    text = page(dataclasses.replace(ESTIMATED, estimate=estimate).report)
    assert text.count('class="vs-cut"') == 1


def test_it_says_what_would_change_the_answer_and_where_the_rule_stands(pages):
    text = Reader(pages["estimate"]).text
    assert "4 cores pool:" in text
    assert "a learner of 2 ms" in text
    assert "pool pays from 2.50 us per step async pays never here" in text
    assert "the rule's line 1.00 ms per step, then async" in text


def test_notes_have_their_codes_and_loud_ones_stand_out():
    notes = (Note("native-faster", "Look here.", loud=True), Note("copy", "And there."))
    text = page(dataclasses.replace(RACED, notes=notes).report)
    assert '<div class="vs-note vs-loud"><code>native-faster</code><span>Look here.' in text
    assert '<div class="vs-note"><code>copy</code><span>And there.' in text


def test_the_plan_itself_is_in_the_page(pages):
    (raw,) = re.findall(r'<pre class="vs-raw">(.*?)</pre>', pages["hostile"], re.DOTALL)
    (text,) = Reader(f"<p>{raw}</p>").texts
    assert Plan.from_json(text) == HOSTILE


def test_what_was_not_measured_is_left_out_with_a_sentence(pages):
    pinned, rule = Reader(pages["pinned"]).text, Reader(pages["rule"]).text
    assert "Nothing was measured, so there is nothing to plot." in pinned
    assert "The environment was not measured." in pinned
    for absent in (
        "One vector step taken apart",
        "Break-even",
        "What would change",
        "IPC cost",
        "planning took",
    ):
        assert absent not in pinned
    assert "the cost model was not asked" in rule
    assert "There was no race to plot." in rule
    assert "Step and reset times of one environment" in rule


def test_there_is_a_plot_for_what_there_are_numbers(pages):
    names = {name: [plot.name for plot in plots_of(plan)] for name, plan in PLANS.items()}
    assert names["race"] == ["step-time", "num-envs", "times", "race"]
    assert names["estimate"] == ["step-time", "num-envs", "times"]
    assert names["rule"] == ["times"]
    assert names["pinned"] == []
    for name, wanted in names.items():
        assert Reader(pages[name]).tags.count("svg") == len(wanted)


def test_without_matplotlib_it_has_the_tables_and_says_what_to_install(no_matplotlib):
    read = Reader(page(RACED.report))
    assert "svg" not in read.tags
    assert "The race, round by round: not drawn" in read.text
    assert "pip install 'vecselect[plot]'" in read.text
    assert "700 us (6.9 %)" in read.text


def test_a_run_so_far_has_a_section():
    text = Reader(page(Report(RACED, Stats(1000, 8000, 12.0, 4.0, 500.0)))).text
    assert "vector step 12.0 ms; planned: 10.1 ms" in text
    assert "500 env steps/s, learner included" in text


@pytest.mark.parametrize("name", PLANS)
def test_the_part_for_notebooks_is_scoped_and_well_formed(name):
    text = fragment(PLANS[name].report)
    read = Reader(text)
    assert {"html", "body", "script", "svg", "img"}.isdisjoint(read.tags)
    assert not read.ids
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    selectors = [
        selector.strip()
        for group in re.findall(r"([^{}]+)\{", style)
        for selector in group.split(",")
        if not group.strip().startswith("@")
    ]
    assert selectors
    assert all(".vecselect" in selector for selector in selectors)


def test_a_callable_has_no_id_to_paste():
    text = Reader(page(dataclasses.replace(PINNED, env="a lambda").report)).text
    assert 'auto_make_vec(..., 8, mode="sync")' in text
