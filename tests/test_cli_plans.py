"""The commands about stored plans: what they print, what they change, and how they end."""

import dataclasses
import io
import json
import re
import sys
import types

import pytest

from tests.cached import PLAN, SEEN, days_ago, saved
from tests.plans import MACHINE
from vecselect import Plan, Report
from vecselect.cli import main
from vecselect.machine import read_machine
from vecselect.planning.plan_key import plan_key
from vecselect.request import PlanningOptions, read_request


def stored(cache, number, machine=None, **changes):
    """Stores a plan for so many CartPoles, older where there are more; returns its key."""
    request = read_request("CartPole-v1", number)
    key = plan_key(request, machine or read_machine(), PlanningOptions())
    evidence = dataclasses.replace(PLAN.evidence, num_envs=number)
    values = {"env": "CartPole-v1", "created": days_ago(number), **changes}
    saved(cache, key, evidence=evidence, **values)
    return key.digest


@pytest.fixture
def keys(cache):
    """Two stored plans, the newer one first."""
    found = [stored(cache, number) for number in (3, 4)]
    cache.observe(found[1], "train.py 0123abcd", SEEN)
    return found


@pytest.fixture
def run(capfd, monkeypatch):
    """Runs a command and returns its exit code, stdout and stderr."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def command(*words):
        code = main([str(word) for word in words])
        output = capfd.readouterr()
        return types.SimpleNamespace(code=code, out=output.out, err=output.err)

    return command


def test_the_list_has_a_line_for_every_plan_the_newest_first(run, cache, keys):
    other = stored(cache, 5, MACHINE, learner_threads=1)
    done = run("plans", "list")
    assert (done.code, done.err) == (0, "")
    rows = [re.split(r"  +", line) for line in done.out.splitlines()]
    assert rows[0] == [
        *("key", "environment", "num_envs", "mode", "threads", "decided by", "learner"),
        *("made (UTC)", "machine"),
    ]
    assert [(row[0], row[2], row[4], row[-1]) for row in rows[1:]] == [
        (keys[0][:8], "3", "as set", "this"),
        (keys[1][:8], "4", "as set", "this"),
        (other[:8], "5", "1", "another"),
    ]
    assert rows[1][-2].startswith(days_ago(3)[:10])
    document = json.loads(run("plans", "list", "--json").out)
    assert {row["key"]: row["here"] for row in document} == dict(
        zip((*keys, other), (True, True, False), strict=True)
    )
    assert document[2]["learner_threads"] == 1


def test_a_line_is_as_long_as_it_must_in_a_pipe_and_no_longer_in_a_terminal(
    run, cache, monkeypatch
):
    name = "[red]" + "A" * 200 + "-v0"
    stored(cache, 3, env=name)
    assert name in run("plans", "list").out

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["plans", "list"]) == 0
    head, line = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()).splitlines()
    assert len(head) <= 120 and len(line) <= 120
    key, environment, *_, here = line.split()
    assert (key, here) == (cache.keys()[0][:8], "this")
    assert environment.startswith("[red]AAA") and not environment.endswith("-v0")


@pytest.mark.parametrize(
    ("columns", "left"),
    [("120", 9), ("80", 5), ("60", 4)],
)
def test_a_narrow_terminal_gets_fewer_columns_and_none_that_is_cut(
    cache, monkeypatch, columns, left
):
    name = "CrowdedWarehouseNavigation-v12"
    stored(cache, 3, env=name, decided_by="observed")
    file = io.StringIO()
    file.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["plans"]) == 0
    head, line = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()).splitlines()
    cells = re.split(r"  +", line.strip())
    assert cells[:2] == [cache.keys()[0][:8], name]
    assert len(cells) == len(re.split(r"  +", head.strip())) == left
    assert "\u2026" not in head + line


def test_an_empty_list_says_where_it_looked_and_is_still_a_document(run, cache):
    assert run("plans").out == run("plans", "list").out
    assert run("plans", "list").out == f"No plans are stored in {cache.folder}.\n"
    assert run("plans", "list", "--json").out == "[]\n"
    assert not cache.folder.exists()
    done = run("explain")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "No plan is stored" in done.err


@pytest.mark.parametrize("chosen", [None, 1])
def test_explain_prints_the_report_where_it_is_stored_and_what_runs_have_shown(
    run, cache, keys, chosen
):
    words = [] if chosen is None else [keys[chosen][:6]]
    key = keys[chosen or 0]  # the newest without a key
    entry = cache.recall(key)
    done = run("explain", *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{Report(entry.plan)}\n")
    shown = " ".join(done.out.split())
    runs = (
        "seen in use train.py 0123abcd: pool:1, 2 threads, 500 vector steps of 1.50 ms"
        if chosen
        else ("seen in use not yet")
    )
    assert all(part in shown for part in (key, str(entry.path), entry.plan.created, runs))
    details = run("explain", *words, "--details").out
    assert details.startswith(f"{Report(entry.plan).details}\n")
    assert json.loads(details[details.rindex("\n{") :]) == entry.fields
    document = json.loads(run("explain", *words, "--json").out)
    assert (document["key"], document["path"]) == (key, str(entry.path))
    assert Plan.from_json(json.dumps(document)) == entry.plan


def test_explain_takes_an_environment_and_every_file_that_holds_a_plan(run, cache, keys, tmp_path):
    plan, path = cache.recall(keys[0]).plan, tmp_path / "plan.json"
    path.write_text(plan.to_json())
    explained = tmp_path / "explained.json"
    explained.write_text(run("explain", keys[0], "--json").out)
    file = cache.folder / "plans" / f"{keys[0]}.json"
    for word in (plan.env, f"gymnasium:{plan.env}", file, path, explained):
        assert run("explain", word).out.startswith(f"{Report(plan)}\n")
    assert run("explain", path, "-o", tmp_path / "plan.md").code == 0
    assert plan.env in (tmp_path / "plan.md").read_text()


def test_explain_refuses_a_file_that_holds_no_plan(run, tmp_path):
    path = tmp_path / "x.json"
    for content in (b"{}", b"\xff\xfe"):
        path.write_bytes(content)
        assert run("explain", path).code == 2
    done = run("explain", tmp_path / "nothing.json")
    assert done.code == 1
    assert done.err == f"vecselect: {tmp_path / 'nothing.json'}: No such file or directory\n"


def test_forget_removes_what_is_named_and_nothing_on_a_mistake(run, cache, keys, monkeypatch):
    done = run("plans", "forget", keys[0], "zzz")
    assert (done.code, done.out, len(cache.entries())) == (2, "", 2)
    (cache.folder / "plans" / f"{keys[0]}.json").write_text("garbage")  # can be forgotten too
    assert run("plans", "forget", keys[0][:6], keys[0]).out == "1 plan removed\n"
    assert cache.keys() == [keys[1]]
    with monkeypatch.context() as patched:
        patched.setattr(type(cache), "forget", lambda self, key: False)
        done = run("plans", "clear")
        assert (done.code, done.out) == (1, "0 plans removed\n")
        assert done.err == f"vecselect: 1 plan in {cache.folder} cannot be removed\n"
    assert run("plans", "clear").out == "1 plan removed\n"
    assert cache.keys() == []


@pytest.mark.parametrize("command", [("plans", "forget"), ("explain",)])
@pytest.mark.parametrize("word", ["zzz", "", "Ant-v5"])
def test_a_key_that_is_not_there_ends_with_2_and_one_line(run, cache, keys, command, word):
    done = run(*command, word)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("vecselect: No stored plan has a key that begins with")
    assert len(cache.entries()) == 2


def test_a_key_that_is_ambiguous_ends_with_2_and_names_the_plans(run, cache):
    keys, number = {}, 3
    while True:  # until two begin with the same digit
        key = stored(cache, number)
        if key[0] in keys:
            break
        keys[key[0]] = key
        number += 1
    for command in (["explain"], ["plans", "forget"]):
        done = run(*command, key[0])
        assert (done.code, done.out) == (2, "")
        assert keys[key[0]] in done.err and key in done.err
        assert "Give more characters of the key" in done.err
