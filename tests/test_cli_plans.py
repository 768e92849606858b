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
    name = "[red]" + "A" * 200 + "-v0"  # as long as it must be in a pipe
    other = stored(cache, 5, MACHINE, learner_threads=1, env=name)
    done = run("plans", "list")
    assert (done.code, done.err) == (0, "")
    rows = [re.split(r"  +", line) for line in done.out.splitlines()]
    assert rows == [
        ["key", "environment", "num_envs", "mode", "threads", "made", "machine"],
        [keys[0][:8], "CartPole-v1", "3", "pool:1", "as set", days_ago(3)[:10], "this"],
        [keys[1][:8], "CartPole-v1", "4", "pool:1", "as set", days_ago(4)[:10], "this"],
        [other[:8], name, "5", "pool:1", "1", days_ago(5)[:10], "another"],
    ]
    document = json.loads(run("plans", "list", "--json").out)
    assert [(row["key"], row["here"], row["learner_threads"]) for row in document] == [
        (keys[0], True, None),
        (keys[1], True, None),
        (other, False, 1),
    ]


def test_a_list_fits_a_small_terminal(cache, monkeypatch):
    stored(cache, 3, env="CrowdedWarehouseNavigation-v12")
    file = io.StringIO()
    file.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["plans"]) == 0
    head, *lines = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()).splitlines()
    assert max(map(len, (head, *lines))) <= 80 and "machine" in head
    assert cache.keys()[0][:8] in lines[0] and "this" in lines[0]


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
    assert f"stored in {entry.path}" in shown and runs in shown
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
    (tmp_path / "none.json").write_text("{}")
    assert run("explain", tmp_path / "none.json").code == 2
    assert run("explain", tmp_path / "nothing.json").code == 1
    assert run("explain", path, "-o", tmp_path / "plan.md").code == 0
    assert plan.env in (tmp_path / "plan.md").read_text()


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
def test_a_key_that_tells_no_plan_ends_with_2_and_one_line(run, cache, command):
    keys = [stored(cache, number) for number in range(3, 20)]  # of which two begin the same
    first = next(key[0] for key in keys if sum(one[0] == key[0] for one in keys) > 1)
    for word, said in (
        *((word, "No stored plan has a key that begins with") for word in ("zzz", "", "Ant-v5")),
        (first, "Give more characters of the key"),
    ):
        done = run(*command, word)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert said in done.err
    assert len(cache.keys()) == len(keys)
