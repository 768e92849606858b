"""The commands about stored plans: what they print, what they change, and how they end."""

import dataclasses
import io
import json
import sys
import types

import pytest
from vecselect.store.key import key_of, machine_fields, plan_key_fields
from vecselect.store.plans import Observed, PlanStore

from vecselect import Plan
from vecselect.cli import main
from vecselect.errors import VecselectWarning
from vecselect.machine import read_machine
from vecselect.request import read_request

OBSERVED = Observed(vector_steps=200, inside_s=0.1, outside_s=0.5, gap_s=2.5e-3)


@pytest.fixture(autouse=True)
def folder(own_store, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return own_store


def save(plan, number, machine=None, observed=None):
    request = read_request("CartPole-v1", number)
    fields = plan_key_fields(request, machine or read_machine(), learner=None, allow=())
    created = f"2025-01-0{number}T12:34:56+00:00"
    changed = dataclasses.replace(plan, num_envs=number, created=created)
    assert PlanStore().save(key_of(fields), changed, fields, observed) is None
    return key_of(fields)


@pytest.fixture
def keys(plan):
    """Two stored plans, the newer one first."""
    return [save(plan, 3), save(plan, 2, observed=OBSERVED)]


@pytest.fixture
def run(capfd):
    """Runs a command and returns its exit code, stdout and stderr."""

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
    assert head.split() == ["key", "environment", "envs", "mode", "by", "made"]
    assert [row.split()[:4] for row in rows] == [
        [keys[0][:8], "CartPole-v1", "3", "sync"],
        [keys[1][:8], "CartPole-v1", "2", "sync"],
    ]
    assert rows[0].endswith("pin  2025-01-03")
    assert not any(line.endswith(" ") for line in done.out.splitlines())
    assert "\x1b" not in done.out


def test_a_long_name_is_not_broken_in_a_pipe(run, plan):
    save(dataclasses.replace(plan, env="A" * 200 + "-v0"), 2)
    assert "A" * 200 + "-v0" in run("plans", "list").out


def test_the_list_says_which_plans_belong_to_another_machine(run, run_json, plan, keys):
    machine = read_machine()
    other = save(plan, 4, dataclasses.replace(machine, cores=machine.cores + 8))
    listed = {row["key"]: row for row in run_json("plans", "list")}
    assert {key: row["here"] for key, row in listed.items()} == {
        other: False,
        keys[0]: True,
        keys[1]: True,
    }
    assert listed[keys[1]] == {
        "key": keys[1],
        "env": "CartPole-v1",
        "num_envs": 2,
        "mode": "sync",
        "effort": plan.effort,
        "decided_by": "pin",
        "created": "2025-01-02T12:34:56+00:00",
        "here": True,
    }
    head, *rows = run("plans", "list").out.splitlines()
    assert head.endswith("machine")
    assert [row.split()[-1] for row in rows] == ["another", "here", "here"]


def test_an_empty_list_says_where_it_looked_and_is_still_a_document(run, run_json, folder):
    done = run("plans", "list")
    assert (done.code, done.out) == (0, f"no plans are stored in {folder}\n")
    assert run_json("plans", "list") == []
    assert not folder.exists()


def test_a_damaged_file_is_warned_about_and_the_rest_is_listed(run, keys, folder):
    (folder / "plans" / f"{keys[0]}.json").write_text("garbage")
    with pytest.warns(VecselectWarning, match=keys[0]):
        done = run("plans", "list", "--json")
    assert done.code == 0
    assert [row["key"] for row in json.loads(done.out)] == [keys[1]]


def test_show_says_what_a_plan_is_for_and_what_use_showed(run, run_json, keys, folder):
    done = run("plans", "show", keys[1][:8])
    assert (done.code, done.err) == (0, "")
    for part in (
        keys[1],
        "CartPole-v1 x 2",
        str(folder / "plans" / f"{keys[1]}.json"),
        "200 vector steps seen, 0.5 ms each and 2.5 ms between two",
        '"num_envs": 2',
        f'"cpu": {json.dumps(read_machine().cpu)}',
    ):
        assert part in done.out
    assert "not seen yet" in run("plans", "show", keys[0]).out
    document = run_json("plans", "show", keys[1])
    assert key_of(document["fields"]) == document["key"] == keys[1]
    assert document["fields"]["machine"] == machine_fields(read_machine())
    assert document["observed"] == dataclasses.asdict(OBSERVED)
    assert Plan.from_json(json.dumps(document["plan"])).num_envs == 2


@pytest.mark.parametrize("chosen", [None, 1])
def test_explain_prints_the_report_where_it_is_stored_and_the_pin(
    run, run_json, keys, folder, chosen
):
    words = [] if chosen is None else [keys[chosen][:6]]
    key = keys[chosen or 0]  # the newest without a key
    plan = PlanStore().find(key).plan
    done = run("explain", *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{plan.report}\n")
    for part in (str(folder / "plans" / f"{key}.json"), plan.created, "VECSELECT_MODE=sync"):
        assert part in done.out
    document = run_json("explain", *words)
    assert (document["key"], document["pin"]) == (key, "sync")
    assert document["path"] == str(folder / "plans" / f"{key}.json")
    assert Plan.from_json(json.dumps(document["plan"])) == plan


def test_explain_of_two_says_what_differs(run, run_json, keys):
    done = run("explain", keys[0][:8], keys[1][:8])
    assert (done.code, done.err) == (0, "")
    assert keys[0][:8] in done.out and keys[1][:8] in done.out
    document = run_json("explain", *keys)
    assert [one["key"] for one in document["plans"]] == keys
    assert document["reasons"] == ["Both choose sync."]
    done = run("explain", "a", "b", "c")
    assert (done.code, done.out) == (2, "")
    assert "takes one plan or two" in done.err


def test_explain_takes_an_environment_and_a_file_too(run, keys, tmp_path):
    plan = PlanStore().find(keys[0]).plan
    assert run("explain", plan.env).out.startswith(f"{plan.report}\n")
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert run("explain", path).out.startswith(f"{plan.report}\n")
    assert run("explain", path, "-o", tmp_path / "plan.md").code == 0
    assert plan.env in (tmp_path / "plan.md").read_text()
    assert run("explain", path, path, "-o", tmp_path / "plan.md").code == 2
    path.write_text("{}")
    assert run("explain", path).code == 2
    path.write_bytes(b"\xff\xfe")
    assert run("explain", path).code == 2
    done = run("explain", tmp_path / "nothing.json")
    assert done.code == 1
    assert done.err == f"vecselect: {tmp_path / 'nothing.json'}: No such file or directory\n"


def test_explain_reads_what_the_store_and_it_itself_have_written(run, keys, folder, tmp_path):
    plan = PlanStore().find(keys[0]).plan
    assert run("explain", folder / "plans" / f"{keys[0]}.json").out.startswith(f"{plan.report}\n")
    for command in (["explain"], ["plans", "show"]):
        (tmp_path / "x.json").write_text(run(*command, keys[0], "--json").out)
        assert run("explain", tmp_path / "x.json").out.startswith(f"{plan.report}\n")
    for words, why in (
        (["plans", "export"], "holds 2 plans"),
        (["explain", *keys, "--json"], "holds 2 plans"),
    ):
        (tmp_path / "x.json").write_text(run(*words).out)
        done = run("explain", tmp_path / "x.json")
        assert (done.code, done.out) == (2, "")
        assert why in done.err


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


def test_what_was_exported_can_be_imported(run, run_json, keys, tmp_path):
    before = PlanStore().entries()
    done = run("plans", "export", "-o", tmp_path / "plans.json")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"2 plans written to {tmp_path / 'plans.json'}\n"
    assert run_json("plans", "forget", "--all")["forgotten"] == sorted(keys)
    assert PlanStore().entries() == []
    assert run("plans", "import", tmp_path / "plans.json").out == "2 plans imported\n"
    assert PlanStore().entries() == before
    again = run_json("plans", "import", tmp_path / "plans.json")
    assert (sorted(again["imported"]), again["refused"]) == (sorted(keys), [])


def test_an_export_to_stdout_is_one_document_of_the_chosen_plans(run, run_json, keys, monkeypatch):
    text = run("plans", "export", keys[1][:7]).out
    assert [plan["key"] for plan in json.loads(text)["plans"]] == [keys[1]]
    assert len(run_json("plans", "export")["plans"]) == 2
    assert run("plans", "export", "-o", "-").out == run("plans", "export").out
    PlanStore().forget(None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run("plans", "import", "-").out == "1 plan imported\n"
    assert [entry.key for entry in PlanStore().entries()] == [keys[1]]


def test_an_export_to_a_file_with_json_says_what_it_holds(run_json, keys, tmp_path):
    file = str(tmp_path / "x.json")
    assert run_json("plans", "export", "-o", file) == {"file": file, "exported": keys}


def test_an_import_with_damaged_plans_takes_the_others_and_ends_with_1(run, keys, tmp_path):
    document = json.loads(run("plans", "export").out)
    document["plans"][0]["fields"]["num_envs"] = 99
    (tmp_path / "x.json").write_text(json.dumps(document))
    PlanStore().forget(None)
    done = run("plans", "import", tmp_path / "x.json")
    assert (done.code, done.out) == (1, "1 plan imported\n")
    assert f"{keys[0]} was not imported: its checksum" in done.err
    done = run("plans", "import", tmp_path / "x.json", "--json")
    assert done.code == 1
    assert [refusal["key"] for refusal in json.loads(done.out)["refused"]] == [keys[0]]


def test_forget_removes_what_is_named_and_nothing_on_a_mistake(run, run_json, keys):
    done = run("plans", "forget", keys[0], "zzz")
    assert (done.code, done.out) == (2, "")
    assert len(PlanStore().entries()) == 2
    assert run("plans", "forget", keys[0][:6], keys[0]).out == "1 plan forgotten\n"
    assert run_json("plans", "forget", keys[1]) == {"forgotten": [keys[1]]}
    assert PlanStore().entries() == []
    assert run("plans", "forget", "--all").out == "0 plans forgotten\n"


def test_forget_all_needs_no_key(run, keys):
    assert run("plans", "forget", "--all").out == "2 plans forgotten\n"
    assert PlanStore().entries() == []


def test_the_path_is_the_folder(run, run_json, folder):
    assert run("plans", "path").out == f"{folder / 'plans'}\n"
    assert run_json("plans", "path") == {"folder": str(folder / "plans")}


@pytest.mark.parametrize(
    "words",
    [
        ["plans", "show", "zzz"],
        ["plans", "export", "zzz"],
        ["plans", "forget", "zzz"],
        ["explain", "zzz"],
        ["explain", ""],
    ],
)
def test_a_key_that_is_not_there_ends_with_2_and_one_line(run, keys, words):
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("vecselect: No stored plan has a key that begins with")
    assert done.err.count("\n") == 1


def test_a_key_that_is_ambiguous_ends_with_2_and_names_the_plans(run, plan):
    for key in ("ab1", "ab2"):
        assert PlanStore().save(key, plan, {}) is None
    done = run("explain", "ab")
    assert (done.code, done.out) == (2, "")
    assert "ab1, ab2" in done.err


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
    "words",
    [
        ["plans"],
        ["plans", "burn"],
        ["plans", "forget"],
        ["plans", "forget", "--json"],
        ["plans", "forget", "abc", "--all"],
        ["plans", "show"],
        ["plans", "import"],
        ["plans", "list", "abc"],
    ],
)
def test_a_mistake_in_the_command_ends_with_2_and_the_usage(run, keys, words):
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: vecselect")
    assert len(PlanStore().entries()) == 2


def test_help_names_the_commands(run):
    assert {"plans", "explain"} <= set(run("--help").out.split())
    words = run("plans", "--help").out.split()
    assert {"list", "show", "export", "import", "forget", "path"} <= set(words)
