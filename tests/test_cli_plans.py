"""The commands about stored plans: what they print, what they change, and how they end."""

import dataclasses
import datetime
import io
import json
import re
import sys
import types

import pytest

from tests.cached import PLAN, SEEN, days_ago, saved
from tests.plans import MACHINE
from vecselect import Plan
from vecselect.cli import main
from vecselect.cli.plans import age
from vecselect.machine import read_machine
from vecselect.options import PlanningOptions
from vecselect.planning.plan_key import plan_key
from vecselect.request import read_request


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


@pytest.fixture
def run_json(run):
    """Runs a command with --json and returns its document."""

    def command(*words):
        done = run(*words, "--json")
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    return command


def test_the_list_has_a_line_for_every_plan_the_newest_first(run, keys):
    done = run("plans", "list")
    assert (done.code, done.err) == (0, "")
    head, *rows = done.out.splitlines()
    assert head.split() == [
        *("key", "environment", "envs", "mode", "by", "learner", "made", "machine")
    ]
    assert [row.split()[:4] for row in rows] == [
        [keys[0][:8], "CartPole-v1", "3", "pool:1"],
        [keys[1][:8], "CartPole-v1", "4", "pool:1"],
    ]
    assert rows[0].endswith(f"model  none     {days_ago(3)[:10]}  here")
    assert not any(line.endswith(" ") for line in done.out.splitlines())
    assert "\x1b" not in done.out


def test_a_line_is_as_long_as_it_must_in_a_pipe_and_no_longer_in_a_terminal(run, cache):
    name = "[red]" + "A" * 200 + "-v0"
    stored(cache, 3, env=name)
    assert name in run("plans", "list").out

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        patched.setenv("COLUMNS", "100")
        patched.setenv("NO_COLOR", "1")
        assert main(["plans", "list"]) == 0
    head, line = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()).splitlines()
    assert len(head) <= 100 and len(line) <= 100
    key, environment, *_, here = line.split()
    assert (key, here) == (cache.keys()[0][:8], "here")
    assert environment.startswith("[red]AAA") and not environment.endswith("-v0")


def test_the_list_says_which_plans_belong_to_another_machine(run, run_json, cache, keys):
    other = stored(cache, 5, MACHINE, learner_threads=1)
    listed = {row["key"]: row for row in run_json("plans", "list")}
    assert {key: row["here"] for key, row in listed.items()} == {
        other: False,
        keys[0]: True,
        keys[1]: True,
    }
    assert listed[other] == {
        "key": other,
        "env": "CartPole-v1",
        "num_envs": 5,
        "mode": "pool:1",
        "learner_threads": 1,
        "effort": "measure",
        "decided_by": "model",
        "learner": "none",
        "created": days_ago(5)[:10] + listed[other]["created"][10:],
        "here": False,
    }
    rows = run("plans", "list").out.splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["here", "here", "another"]
    assert "pool:1, threads 1" in rows[2]


def test_an_empty_list_says_where_it_looked_and_is_still_a_document(run, run_json, cache):
    done = run("plans", "list")
    assert (done.code, done.out) == (0, f"no plans are stored in {cache.folder}\n")
    assert run_json("plans", "list") == []
    assert not cache.folder.exists()


def test_what_cannot_be_read_is_passed_over_and_can_be_forgotten(run, run_json, cache, keys):
    (cache.folder / "plans" / f"{keys[0]}.json").write_text("garbage")
    assert [row["key"] for row in run_json("plans", "list")] == [keys[1]]
    assert run("plans", "show", keys[0]).code == 2
    assert run("plans", "forget", keys[0][:6]).out == "1 plan forgotten\n"
    assert cache.keys() == [keys[1]]


def test_show_says_what_a_plan_is_for_and_what_runs_have_shown(run, run_json, cache, keys):
    done = run("plans", "show", keys[1][:8])
    assert (done.code, done.err) == (0, "")
    for part in (
        keys[1],
        "CartPole-v1 x 4",
        str(cache.folder / "plans" / f"{keys[1]}.json"),
        "train.py 0123abcd: pool:1, 2 threads, 500 vector steps of 1.50 ms, 2.50 ms between two",
        '"num_envs": 4',
        f'"cpu": {json.dumps(read_machine().cpu)}',
    ):
        assert part in done.out
    assert "not seen yet" in run("plans", "show", keys[0]).out
    document = run_json("plans", "show", keys[1])
    assert document["fields"] == cache.recall(keys[1]).fields
    assert document["observations"] == {"train.py 0123abcd": [dataclasses.asdict(SEEN)]}
    assert Plan.from_json(json.dumps(document["plan"])).num_envs == 4


@pytest.mark.parametrize("chosen", [None, 1])
def test_explain_prints_the_report_where_it_is_stored_and_the_pin(
    run, run_json, cache, keys, chosen
):
    words = [] if chosen is None else [keys[chosen][:6]]
    key = keys[chosen or 0]  # the newest without a key
    plan, path = cache.recall(key).plan, str(cache.folder / "plans" / f"{key}.json")
    done = run("explain", *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{plan.report}\n")
    assert all(part in done.out for part in (path, plan.created, "pool:1"))
    assert run("explain", *words, "--details").out.startswith(f"{plan.report.details}\n")
    document = run_json("explain", *words)
    assert (document["key"], document["pin"], document["path"]) == (key, "pool:1", path)
    assert Plan.from_json(json.dumps(document["plan"])) == plan


def test_explain_takes_an_environment_and_every_file_that_holds_a_plan(run, cache, keys, tmp_path):
    plan, path = cache.recall(keys[0]).plan, tmp_path / "plan.json"
    assert run("explain", plan.env).out.startswith(f"{plan.report}\n")
    assert run("explain", cache.folder / "plans" / f"{keys[0]}.json").out.startswith(
        f"{plan.report}\n"
    )
    for text in (
        plan.to_json(),
        run("explain", keys[0], "--json").out,
        run("plans", "show", keys[0], "--json").out,
    ):
        path.write_text(text)
        assert run("explain", path).out.startswith(f"{plan.report}\n")
    assert run("explain", path, "-o", tmp_path / "plan.md").code == 0
    assert plan.env in (tmp_path / "plan.md").read_text()


def test_explain_refuses_a_file_that_holds_no_plan(run, keys, tmp_path):
    path = tmp_path / "x.json"
    for content in (b"{}", b"\xff\xfe"):
        path.write_bytes(content)
        assert run("explain", path).code == 2
    path.write_text(run("plans", "export").out)
    done = run("explain", path)
    assert (done.code, done.out) == (2, "")
    assert "holds 2 plans" in done.err
    done = run("explain", tmp_path / "nothing.json")
    assert done.code == 1
    assert done.err == f"vecselect: {tmp_path / 'nothing.json'}: No such file or directory\n"


@pytest.mark.parametrize("command", [["explain"], ["plans", "show"]])
def test_a_plan_is_found_by_its_environment(run, keys, command):
    for word in ("CartPole-v1", "gymnasium:CartPole-v1"):
        assert keys[0] in run(*command, word).out
    done = run(*command, "Ant-v5")
    assert (done.code, done.out) == (2, "")
    assert "none is for an environment of that name" in done.err


def test_explain_without_any_plan_says_how_one_comes_about(run):
    done = run("explain")
    assert (done.code, done.out) == (2, "")
    assert "No plan is stored" in done.err
    assert done.err.count("\n") == 1


def test_what_was_exported_can_be_imported(run, run_json, cache, keys, tmp_path):
    before = cache.entries()
    done = run("plans", "export", "-o", tmp_path / "plans.json")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"2 plans written to {tmp_path / 'plans.json'}\n"
    assert run_json("plans", "clear") == {"forgotten": sorted(keys)}
    assert cache.entries() == []
    assert run("plans", "import", tmp_path / "plans.json").out == "2 plans imported\n"
    assert cache.entries() == before
    again = run_json("plans", "import", tmp_path / "plans.json")
    assert (sorted(again["imported"]), again["refused"]) == (sorted(keys), [])


def test_an_export_to_stdout_is_one_document_of_the_chosen_plans(
    run, run_json, cache, keys, monkeypatch
):
    text = run("plans", "export", keys[1][:7]).out
    assert [plan["key"] for plan in json.loads(text)["plans"]] == [keys[1]]
    assert len(run_json("plans", "export")["plans"]) == 2
    assert run("plans", "export", "-o", "-").out == run("plans", "export").out
    run("plans", "clear")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run("plans", "import", "-").out == "1 plan imported\n"
    assert cache.keys() == [keys[1]]


def test_an_export_to_a_file_with_json_says_what_it_holds(run_json, keys, tmp_path):
    file = str(tmp_path / "x.json")
    assert run_json("plans", "export", "-o", file) == {"file": file, "exported": keys}


def test_an_import_with_damaged_plans_takes_the_others_and_ends_with_1(run, cache, keys, tmp_path):
    document = json.loads(run("plans", "export").out)
    document["plans"][0]["plan"]["mode"] = "\x1b[2Jzzz"
    (tmp_path / "x.json").write_text(json.dumps(document))
    run("plans", "clear")
    done = run("plans", "import", tmp_path / "x.json")
    assert (done.code, done.out) == (1, "1 plan imported\n")
    assert f"{keys[0]} was not imported: This is not a plan" in done.err
    assert "\x1b" not in done.err
    done = run("plans", "import", tmp_path / "x.json", "--json")
    assert done.code == 1
    assert [refusal["key"] for refusal in json.loads(done.out)["refused"]] == [keys[0]]


def test_forget_removes_what_is_named_and_nothing_on_a_mistake(run, run_json, cache, keys):
    done = run("plans", "forget", keys[0], "zzz")
    assert (done.code, done.out) == (2, "")
    assert len(cache.entries()) == 2
    assert run("plans", "forget", keys[0][:6], keys[0]).out == "1 plan forgotten\n"
    assert run_json("plans", "forget", keys[1]) == {"forgotten": [keys[1]]}
    assert cache.entries() == []
    assert run("plans", "clear").out == "0 plans forgotten\n"


def test_what_cannot_be_removed_is_told(run, cache, keys, monkeypatch):
    monkeypatch.setattr(type(cache), "forget", lambda self, key: False)
    done = run("plans", "clear")
    assert (done.code, done.out) == (1, "0 plans forgotten\n")
    assert done.err == f"vecselect: 2 plans in {cache.folder} cannot be removed\n"


@pytest.mark.parametrize(
    "words",
    [
        ["plans", "show", "zzz"],
        ["plans", "show", ""],
        ["plans", "export", "zzz"],
        ["plans", "forget", "zzz"],
        ["plans", "forget", ""],
        ["explain", "zzz"],
        ["explain", ""],
    ],
)
def test_a_key_that_is_not_there_ends_with_2_and_one_line(run, cache, keys, words):
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("vecselect: No stored plan has a key that begins with")
    assert done.err.count("\n") == 1
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
        assert "Give more of the key" in done.err


@pytest.mark.parametrize("content", [b"garbage", b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_export_ends_with_2_and_one_line(run, tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    done = run("plans", "import", tmp_path / "x.json")
    assert (done.code, done.out) == (2, "")
    assert "export" in done.err
    assert done.err.count("\n") == 1


def test_a_file_that_cannot_be_opened_ends_with_1_and_one_line(run, keys, tmp_path):
    for words in (["import", tmp_path / "none.json"], ["export", "-o", tmp_path / "no" / "x.json"]):
        done = run("plans", *words)
        assert (done.code, done.out) == (1, "")
        assert "No such file" in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2025-03-04T11:59:30+00:00", "just now"),
        ("2025-03-04T11:40:00+00:00", "20 min ago"),
        ("2025-03-04T09:00:00+00:00", "3 h ago"),
        ("2025-03-03T09:00:00+00:00", "27 h ago"),
        ("2025-03-01T09:00:00+00:00", "2025-03-01"),
        ("2025-03-05T09:00:00+00:00", "2025-03-05"),
    ],
)
def test_an_age_is_told_in_hours_and_a_long_one_by_its_date(created, text):
    now = datetime.datetime(2025, 3, 4, 12, 0, tzinfo=datetime.timezone.utc)
    assert age(created, now) == text
