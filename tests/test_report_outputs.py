"""Reports as files: which form a name asks for, what is refused, and what the command line does."""

import dataclasses
import sys
from xml.etree import ElementTree

import pytest

from tests.plans import BY_RULE, ELIMINATED, ESTIMATED, PINNED, RACED
from vecselect import Plan, RequestError
from vecselect.cli import main
from vecselect.plan import Note
from vecselect.report.outputs import check_output, write_output

PLANS = {
    "rule": BY_RULE,
    "estimate": ESTIMATED,
    "race": RACED,
    "pinned": PINNED,
    "eliminated": ELIMINATED,
}


@pytest.mark.parametrize("name", PLANS)
def test_every_kind_of_plan_can_be_written_in_every_form(name, tmp_path):
    report = PLANS[name].report
    for form in (".html", ".svg", ".md", ".json"):
        path = tmp_path / f"report{form}"
        assert write_output(report, path) == path
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert Plan.from_json((tmp_path / "report.json").read_text()) == PLANS[name]
    assert ElementTree.parse(tmp_path / "report.svg").getroot().tag.endswith("svg")
    text = (tmp_path / "report.md").read_text()
    assert ("### Candidates" in text) == (name != "pinned")


def test_the_methods_write_their_form_whatever_the_name_and_return_the_path(tmp_path):
    report = RACED.report
    for write, start in (
        (report.to_html, "<!DOCTYPE html>"),
        (report.to_svg, "<?xml"),
        (report.to_markdown, "## Walker-v0 x 8"),
        (report.to_json, "{"),
    ):
        path = write(str(tmp_path / "report"))
        assert path == tmp_path / "report"
        assert path.read_text().startswith(start)


def test_the_ending_may_be_in_capitals(tmp_path):
    assert write_output(PINNED.report, tmp_path / "REPORT.HTML").read_text()[0] == "<"


def test_a_method_refuses_a_name_of_another_form_and_says_what_to_call(tmp_path):
    with pytest.raises(RequestError, match="to_html writes .html.*call to_svg, or choose a name"):
        RACED.report.to_html(tmp_path / "report.svg")
    with pytest.raises(RequestError, match=r"call to_json, or .* ends in \.md"):
        RACED.report.to_markdown(tmp_path / "report.JSON")
    assert list(tmp_path.iterdir()) == []
    assert RACED.report.to_markdown(tmp_path / "report.txt").exists()


@pytest.mark.parametrize("name", ["report.pdf", "report", "html", ".html", ""])
def test_an_unknown_ending_is_refused_with_those_that_there_are(name, tmp_path):
    for refuse in (check_output, lambda path: write_output(PINNED.report, path)):
        with pytest.raises(RequestError, match=r"ends in \.html, \.svg, \.md or \.json"):
            refuse(tmp_path / name if name else name)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "none" / "report.html"
    with pytest.raises(RequestError, match="there is no folder"):
        check_output(path)
    with pytest.raises(RequestError, match="No such file or directory"):
        PINNED.report.to_html(path)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RequestError, match="it is a folder"):
        check_output(tmp_path / "report.html")
    with pytest.raises(RequestError, match="cannot be written"):
        PINNED.report.to_html(tmp_path / "report.html")


def test_a_place_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RequestError, match="may not be written to"):
        check_output(tmp_path / "report.html")


def test_plots_alone_need_matplotlib_and_the_others_do_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match="vecselect\\[plot\\]"):
        check_output(tmp_path / "report.svg")
    for form in (".html", ".md", ".json"):
        write_output(ESTIMATED.report, check_output(tmp_path / f"report{form}"))


def test_the_plots_have_a_title_and_are_one_picture(tmp_path):
    root = ElementTree.parse(RACED.report.to_svg(tmp_path / "plots.svg")).getroot()
    assert root[0].text == "vecselect: Walker-v0 x 8, pool:1"
    text = " ".join(root.itertext())
    assert "The race, round by round" in text
    assert "Throughput against step time" in text


def test_a_name_with_a_formula_in_it_is_drawn_as_it_is(tmp_path):
    plan = dataclasses.replace(RACED, env=r"$\frac{<&$")
    root = ElementTree.parse(plan.report.to_svg(tmp_path / "plots.svg")).getroot()
    assert r"$\frac{<&$ x 8" in root[0].text


def test_markdown_holds_what_people_ask_for_in_an_issue(tmp_path):
    text = RACED.report.to_markdown(tmp_path / "report.md").read_text()
    assert text.startswith("## Walker-v0 x 8: `pool:1`\n")
    assert "**1.79x sync** (measured again after the race; 95 %: 1.75x-1.84x)" in text
    assert '`auto_make_vec("Walker-v0", 8, mode="pool:1")`' in text
    assert "- `resets` Resets take 16 % of the time." in text
    row = r"| pool:1 | 10.2 ms (9.10-11.4 ms) | \~1.87x | 11.2 ms (11.1-11.4 ms) | 714 | 1.79x |"
    assert row in text
    assert "| usable cores | 1.5 |" in text


def test_markdown_takes_nothing_in_a_plan_for_markup(tmp_path):
    plan = dataclasses.replace(
        RACED, env="a|b `c` <img>", notes=(Note("note", "| [x](y)\n# z *w*"),), mode="pool:1`"
    )
    text = plan.report.to_markdown(tmp_path / "report.md").read_text()
    assert r"## a\|b \`c\` \<img\> x 8: `` pool:1` ``" in text
    assert r"- `note` \| \[x\](y) \# z \*w\*" in text
    rows = [line for line in text.splitlines() if line.startswith("| a\\|b")]
    assert not rows or all(row.count(" | ") == 1 for row in rows)


def recommendation(*words):
    return main(["recommend", "Pendulum-v1", "-n", "2", "--budget", "0.05", "--no-store", *words])


def test_the_command_writes_several_files_and_prints_the_report(tmp_path, capfd):
    words = [f"--output={tmp_path / name}" for name in ("a.html", "b.md")]
    assert recommendation(*words, "-o", str(tmp_path / "c.json")) == 0
    output = capfd.readouterr()
    assert output.out.startswith("vecselect: Pendulum-v1 x 2")
    plan = Plan.from_json((tmp_path / "c.json").read_text())
    assert plan.env == "Pendulum-v1"
    assert "Pendulum-v1 &times; 2" in (tmp_path / "a.html").read_text()
    assert (tmp_path / "b.md").read_text().startswith("## Pendulum-v1 x 2")


def test_explain_writes_several_files_too(tmp_path, capsys):
    (tmp_path / "plan.json").write_text(ESTIMATED.to_json())
    words = [f"-o{tmp_path / name}" for name in ("a.md", "b.html")]
    assert main(["explain", str(tmp_path / "plan.json"), *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "b.html", "plan.json"]


def test_with_json_stdout_is_still_one_document(tmp_path, capfd):
    assert recommendation("--json", "-o", str(tmp_path / "a.json")) == 0
    output = capfd.readouterr()
    assert Plan.from_json(output.out) == Plan.from_json((tmp_path / "a.json").read_text())
    assert output.err == ""


@pytest.mark.parametrize("command", ["recommend", "compare"])
@pytest.mark.parametrize("name", ["report.pdf", "none/report.html"])
def test_a_file_that_cannot_be_is_refused_before_anything_is_measured(
    command, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("vecselect.make.recommend", lambda *asked, **options: pytest.fail())
    words = ["-o", str(tmp_path / "good.html"), "-o", str(tmp_path / name)]
    assert main([command, "Pendulum-v1", "-n", "2", *words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("vecselect: ")
    assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
