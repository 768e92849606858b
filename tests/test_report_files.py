"""Reports as files: HTML, Markdown and plots; what is in them, and what is refused."""

import base64
import dataclasses
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.plans import ALL, ONE_THREAD, PINNED, RACED, THREADS_AS_SET
from tests.records import LOOPS, MS, US, evidence
from tests.snapshots import need_as_before
from vecselect import Plan, RequestError
from vecselect.plan import Candidate, Note
from vecselect.report import Report, plots
from vecselect.report.content import content
from vecselect.report.html import fragment, page
from vecselect.report.plots import STEP_TIMES_S, Plot, over_step_time, plan_plot
from vecselect.run_stats import Stats

EVIL = '</script><script>alert("1")</script>&<img src=x onerror=alert(1)>\'$\\frac{'
HOSTILE = dataclasses.replace(
    RACED,
    env=EVIL,
    reason=EVIL,
    not_stored=EVIL,
    candidates=(*RACED.candidates, Candidate(EVIL, skipped=EVIL)),
    notes=(Note(EVIL, EVIL, loud=True),),
    versions={EVIL: EVIL},
)
PLANS = {**ALL, "hostile": HOSTILE}
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
    return {name: page(content(plan), plan) for name, plan in PLANS.items()}


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_pages_and_markdown_look_as_they_did(no_matplotlib, tmp_path):
    text = page(content(RACED, Stats(1000, 8000, 12.0, 4.0, 500.0)), RACED)
    assert "pip install &#x27;vecselect[plot]&#x27;" in text  # in place of the plot
    need_as_before("report_race.html", text[text.index("</style>") :])
    need_as_before("report_threads.md", Report(ONE_THREAD).save(tmp_path / "report.md").read_text())


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
    # A notebook shows the same without plots.
    part = Reader(fragment(content(PLANS[name])))
    assert {"html", "body", "img"}.isdisjoint(part.tags)
    # A plot, for what the model can predict.
    images = [value for key, value in read.attributes if key == "src"]
    assert len(images) == (name not in ("rule", "pin", "elimination"))
    for address in images:
        text = base64.b64decode(address.partition(",")[2]).decode()
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_what_a_plan_holds_stands_for_itself(pages, tmp_path):
    assert EVIL not in pages["hostile"] and "<script" not in pages["hostile"]
    assert Reader(pages["hostile"]).text.count("alert(1)") >= 8
    plan = dataclasses.replace(
        RACED, env="a|b `c` <img>", notes=(Note("note", "| [x](y)\n# z *w*"),), mode="pool:1`"
    )
    text = Report(plan).save(tmp_path / "report.md").read_text()
    assert r"## a\|b \`c\` \<img\> x 8: `` pool:1` ``" in text
    assert r"- `note` \| \[x\](y) \# z \*w\*" in text


def test_the_style_changes_nothing_outside_of_the_report():
    (style,) = re.findall(r"<style>(.*?)</style>", fragment(content(RACED)), re.DOTALL)
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    groups = [
        group for group in re.findall(r"([^{}]+)\{", style) if not group.strip().startswith("@")
    ]
    assert groups
    assert all(".vecselect" in selector for group in groups for selector in group.split(","))


# Figures


def test_every_mode_has_a_colour_and_a_mark_of_its_own():
    modes = ("sync", "pool:0", "pool:1", "pool:3", "pool:7", "async", "thread", "native", "ray")
    for place in (0, 1):
        assert len({plots.look_of(mode)[place] for mode in modes}) == len(modes)
    assert plots.look_of("pool") == plots.look_of("pool:1")


def test_what_is_drawn_the_same_way_gives_the_same_text_whatever_the_user_has_set():
    matplotlib = pytest.importorskip("matplotlib")
    before = "matplotlib.pyplot" in sys.modules  # EnvPool imports it

    def draw():
        made = plots.new_figure(4, 2)
        made.subplots().plot([1, 2], [3, 4], marker="o", label="a < b")
        return made

    plain = {}
    for width in (1.0, 9.0):
        with matplotlib.rc_context({"lines.linewidth": width, "text.color": "red"}):
            plain[width] = plots.svg(Plot("A & B", "", draw))
            assert matplotlib.rcParams["lines.linewidth"] == width
            assert matplotlib.rcParams["text.color"] == "red"
    assert plain[1.0] == plain[9.0]
    assert "<title>A &amp; B</title>" in plain[1.0]
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_the_curves_are_about_the_threads_that_the_choice_is_for(monkeypatch):
    pytest.importorskip("matplotlib")
    seen = []
    monkeypatch.setattr(
        plots, "over_step_time", lambda found: seen.append(found) or over_step_time(found)
    )
    for plan in (ONE_THREAD, THREADS_AS_SET):
        plots.svg(plan_plot(plan))
    assert [evidence.learners[0].threads for evidence in seen] == [1, 2]


@pytest.mark.parametrize("step_s", [0.1 * US, 100 * US, 50 * MS])
def test_a_curve_over_the_step_time_agrees_with_the_model_and_holds_this_one(step_s):
    curves = over_step_time(evidence(step_s, 8, 4))
    assert set(curves) == {"sync", "pool:0", "pool", "async"}
    for curve in curves.values():
        assert curve[0][0] <= min(step_s, STEP_TIMES_S[0])
        assert curve[-1][0] >= max(step_s, STEP_TIMES_S[1])
        per_s = [per_s for _, per_s in curve]
        assert per_s == sorted(per_s, reverse=True)
    for at_s, per_s in curves["sync"]:
        assert per_s == pytest.approx(8 / (8 * at_s + LOOPS.sync_s))


# Files


@pytest.mark.parametrize("plan", [RACED, PINNED], ids=["race", "pin"])
def test_a_report_is_saved_in_the_form_of_its_ending(plan, tmp_path):
    forms = {
        "a.html": "<!DOCTYPE html>",
        "a.HTML": "<!DOCTYPE html>",
        "a.md": "## W",
        "a.json": "{",
    }
    for name, start in forms.items():
        path = Report(plan).save(str(tmp_path / name))
        assert path == tmp_path / name
        assert path.read_text().startswith(start)
    assert Plan.from_json((tmp_path / "a.json").read_text()) == plan


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, r"ends in \.html, \.md or \.json") for name in ("a.pdf", "a", ".html", "")),
        ("none/a.html", "there is no folder"),
        ("folder.md", "it is a folder"),
        ("full.md", "cannot be written to .*No space left on device"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(name, why, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(RequestError, match=why):
        Report(PINNED).save(tmp_path / name if name else name)
