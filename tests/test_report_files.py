"""Reports as files: HTML, Markdown and plots; what is in them, and what is refused."""

import base64
import dataclasses
import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.plans import (
    ALL,
    BY_MODEL,
    BY_RULE,
    ELIMINATED,
    ONE_THREAD,
    PINNED,
    RACED,
    THREADS_AS_SET,
)
from tests.snapshots import need_as_before
from vecselect import Plan, RequestError
from vecselect.plan import Candidate, Note
from vecselect.report import Report, check_output, plots, write_output
from vecselect.report.content import content
from vecselect.report.html import fragment, page
from vecselect.report.plots import plots_of, race_ratios
from vecselect.run_stats import Stats

EVIL = '</script><script>alert("1")</script>&<img src=x onerror=alert(1)>\'$\\frac{'
HOSTILE = dataclasses.replace(
    RACED,
    env=EVIL,
    reason=EVIL,
    pinned_by=EVIL,
    not_stored=EVIL,
    candidates=(*RACED.candidates, Candidate(EVIL, skipped=EVIL)),
    notes=(Note(EVIL, EVIL, loud=True),),
    versions={EVIL: EVIL},
    evidence=dataclasses.replace(
        RACED.evidence,
        observation_space=EVIL,
        machine=dataclasses.replace(RACED.evidence.machine, cpu=EVIL),
        race=dataclasses.replace(RACED.evidence.race, out={EVIL: EVIL}),
    ),
)
PLANS = {**ALL, "hostile": HOSTILE}
PLOTS = {"race": 4, "hostile": 4, "rule": 1, "pin": 0, "elimination": 0}
VOID = {"meta", "br", "img", "link", "input", "hr", "source"}


class Reader(HTMLParser):
    """What a page holds; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
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

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def pages():
    pytest.importorskip("matplotlib")
    return {name: page(plan) for name, plan in PLANS.items()}


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_a_page_looks_as_it_did(no_matplotlib):
    text = page(RACED, Stats(1000, 8000, 12.0, 4.0, 500.0))
    need_as_before("report_race.html", text[text.index("<main") : text.index("<details>")])


def test_markdown_looks_as_it_did(tmp_path):
    path = ONE_THREAD.report.to_markdown(tmp_path / "report.md")
    need_as_before("report_threads.md", path.read_text())


@pytest.mark.parametrize("name", PLANS)
def test_a_page_is_well_formed_runs_nothing_and_loads_nothing(name, pages):
    read = Reader(pages[name])
    assert pages[name].startswith("<!DOCTYPE html>")
    assert {"script", "link", "iframe", "object", "svg"}.isdisjoint(read.tags)
    for attribute, value in read.attributes:
        assert attribute != "id" and not attribute.startswith("on")
        if attribute in ("src", "href", "srcset"):
            assert value.startswith("data:image/svg+xml;base64,")
    assert "default-src 'none'" in pages[name]
    assert "@import" not in pages[name] and "url(" not in pages[name]
    assert ("Candidates" in read.text) == (name != "pin")
    # A notebook shows its upper part, without plots.
    part = Reader(fragment(content(PLANS[name])))
    assert {"html", "body", "img"}.isdisjoint(part.tags)
    assert part.text.split("}")[-1].strip() in read.text


def test_the_style_changes_nothing_outside_of_the_report():
    (style,) = re.findall(r"<style>(.*?)</style>", fragment(content(RACED)), re.DOTALL)
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    groups = [
        group for group in re.findall(r"([^{}]+)\{", style) if not group.strip().startswith("@")
    ]
    assert groups
    assert all(".vecselect" in selector for group in groups for selector in group.split(","))


def test_what_a_plan_holds_stands_for_itself(pages):
    assert EVIL not in pages["hostile"]
    assert "<script" not in pages["hostile"]
    assert Reader(pages["hostile"]).text.count("alert(1)") >= 10
    (raw,) = re.findall(r'<pre class="vs-raw">(.*?)</pre>', pages["hostile"], re.DOTALL)
    (text,) = Reader(f"<p>{raw}</p>").texts
    assert json.loads(text) == json.loads(HOSTILE.to_json())


@pytest.mark.parametrize(("name", "count"), PLOTS.items())
def test_there_is_a_plot_light_and_dark_for_what_there_are_numbers(name, count, pages):
    read = Reader(pages[name])
    assert len(plots_of(PLANS[name])) == read.tags.count("img") == count
    images = [value for key, value in read.attributes if key in ("src", "srcset")]
    assert len(images) == 2 * count
    greys = (plots.DARK, plots.LIGHT)
    for place, address in enumerate(images):
        text = base64.b64decode(address.partition(",")[2]).decode()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert greys[place % 2]["paper"] in text and greys[place % 2]["ink"] in text
        assert greys[1 - place % 2]["paper"] not in text


def test_what_was_not_measured_is_left_out_with_a_sentence(pages):
    pinned, rule = Reader(pages["pin"]).text, Reader(pages["rule"]).text
    assert "Nothing was measured, so there is nothing to plot." in pinned
    assert "Predicted vector step" not in pinned
    assert "the cost model was not asked" in rule
    assert "There was no race to plot." in rule


def test_without_matplotlib_a_page_says_what_to_install(no_matplotlib):
    read = Reader(page(RACED))
    assert "img" not in read.tags
    assert "A plot needs matplotlib" in read.text
    assert "pip install 'vecselect[plot]'" in read.text
    with pytest.raises(RequestError, match=r"pip install 'vecselect\[plot\]'"), plots.styled():
        pass


def test_markdown_takes_nothing_in_a_plan_for_markup(tmp_path):
    plan = dataclasses.replace(
        RACED, env="a|b `c` <img>", notes=(Note("note", "| [x](y)\n# z *w*"),), mode="pool:1`"
    )
    text = plan.report.to_markdown(tmp_path / "report.md").read_text()
    assert r"## a\|b \`c\` \<img\> x 8: `` pool:1` ``" in text
    assert r"- `note` \| \[x\](y) \# z \*w\*" in text


# Figures


def test_every_mode_has_a_colour_and_a_mark_of_its_own():
    modes = ("sync", "pool:0", "pool:1", "pool:3", "pool:7", "async", "thread", "native", "ray")
    for place in (0, 1):
        assert len({plots.look_of(mode)[place] for mode in modes}) == len(modes)
    assert plots.look_of("pool") == plots.look_of("pool:1")


def test_what_is_drawn_the_same_way_gives_the_same_text_whatever_the_user_has_set():
    matplotlib = pytest.importorskip("matplotlib")

    def draw():
        made = plots.new_figure(4, 2)
        made.subplots().plot([1, 2], [3, 4], marker="o", label="a < b")
        return made

    plain = {}
    for width in (1.0, 9.0):
        with matplotlib.rc_context({"lines.linewidth": width, "text.color": "red"}):
            plain[width] = plots.svg(draw, "A & B")
            assert matplotlib.rcParams["lines.linewidth"] == width
            assert matplotlib.rcParams["text.color"] == "red"
    assert plain[1.0] == plain[9.0]
    assert "<title>A &amp; B</title>" in plain[1.0]
    assert plots.png(draw).startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules


def test_the_curves_are_about_the_threads_that_the_choice_is_for():
    pytest.importorskip("matplotlib")
    assert plots._evidence(ONE_THREAD).learners[0].threads == 1
    assert plots._evidence(THREADS_AS_SET).learners[0].threads == 2


def test_a_race_is_told_against_its_leader_round_by_round():
    race = RACED.evidence.race
    ratios = dict(race_ratios(race))
    assert ratios["pool:1"] == (1.0, 1.0)
    assert ratios["sync"] == pytest.approx((20.1 / 11.2, 20.3 / 11.3))
    early = dataclasses.replace(race.entrants[0], blocks_s=(2.0,))
    early_out = dataclasses.replace(race, entrants=(early, race.entrants[1]))
    assert len(dict(race_ratios(early_out))["sync"]) == 1
    assert race_ratios(dataclasses.replace(race, leader="async")) == ()


# Files


@pytest.mark.parametrize("name", ["race", "pin"])
def test_a_plan_can_be_written_in_every_form(name, tmp_path):
    pytest.importorskip("matplotlib")
    report = PLANS[name].report
    for form in (".html", ".svg", ".md", ".json", ".HTML"):
        path = tmp_path / f"report{form}"
        assert write_output(report, path) == path
    assert (tmp_path / "report.HTML").read_text().startswith("<!DOCTYPE html>")
    assert Plan.from_json((tmp_path / "report.json").read_text()) == PLANS[name]
    root = ElementTree.parse(tmp_path / "report.svg").getroot()
    assert root[0].text == f"vecselect: Walker-v0 x 8, {PLANS[name].mode}"
    assert ("The race, round by round" in "".join(root.itertext())) == (name == "race")


def test_a_name_with_a_formula_in_it_is_drawn_as_it_is(tmp_path):
    pytest.importorskip("matplotlib")
    plan = dataclasses.replace(RACED, env=r"$\frac{<&$")
    root = ElementTree.parse(plan.report.to_svg(tmp_path / "plots.svg")).getroot()
    assert r"$\frac{<&$ x 8" in root[0].text


def test_the_methods_write_their_form_and_refuse_a_name_of_another(tmp_path):
    report = Report(RACED)
    for write, start in (
        (report.to_html, "<!DOCTYPE html>"),
        (report.to_markdown, "## Walker-v0 x 8"),
        (report.to_json, "{"),
    ):
        path = write(str(tmp_path / "report"))
        assert path == tmp_path / "report"
        assert path.read_text().startswith(start)
    with pytest.raises(RequestError, match="to_html writes .html.*call to_svg, or choose a name"):
        report.to_html(tmp_path / "report.svg")
    with pytest.raises(RequestError, match=r"call to_json, or .* ends in \.md"):
        report.to_markdown(tmp_path / "report.JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("name", ["report.pdf", "report", "html", ".html", ""])
def test_an_unknown_ending_is_refused_with_those_that_there_are(name, tmp_path):
    for refuse in (check_output, lambda path: write_output(PINNED.report, path)):
        with pytest.raises(RequestError, match=r"ends in \.html, \.svg, \.md or \.json"):
            refuse(tmp_path / name if name else name)


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="there is no folder"):
        check_output(tmp_path / "none" / "report.html")
    with pytest.raises(RequestError, match="No such file or directory"):
        PINNED.report.to_html(tmp_path / "none" / "report.html")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RequestError, match="it is a folder"):
        check_output(tmp_path / "report.html")
    with pytest.raises(RequestError, match="cannot be written"):
        PINNED.report.to_html(tmp_path / "report.html")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RequestError, match="may not be written to"):
        check_output(tmp_path / "report.md")


def test_plots_alone_need_matplotlib_and_the_others_do_not(tmp_path, no_matplotlib):
    with pytest.raises(RequestError, match="vecselect\\[plot\\]"):
        check_output(tmp_path / "report.svg")
    for plan in (BY_MODEL, BY_RULE, ELIMINATED):
        for form in (".html", ".md", ".json"):
            write_output(plan.report, check_output(tmp_path / f"report{form}"))
