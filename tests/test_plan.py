"""A plan is a plain value, and the same value after a trip through JSON."""

import dataclasses
import json

import pytest

from vecselect import Plan, PlanError, VecselectError
from vecselect.machine import Machine
from vecselect.measure.ipc import IpcProfile
from vecselect.measure.step import StepProfile
from vecselect.plan import SCHEMA, Candidate
from vecselect.selection.rule import RuleVerdict

MACHINE = Machine(
    cores=1.5,
    cores_logical=8,
    cores_affinity=4,
    cores_quota=1.5,
    memory_bytes=1 << 40,
    memory_available_bytes=(1 << 39) + 1,
    load_1min=0.25,
    start_methods=("forkserver", "spawn"),
    cpu='A "quoted" name µ',
    system="Linux 6.1",
    python="3.11.9 (CPython)",
)
PROFILE = StepProfile(
    steps=200,
    step_time_s=0.1 + 0.2,
    step_time_median_s=1 / 3,
    step_time_p95_s=1e-9,
    step_time_p99_s=2.5e-4,
    first_step_s=7.0,
    wait_share=0.0,
    reset_time_s=1e-3,
    first_reset_s=2e-3,
    resets=4,
    reset_share=0.125,
    episode_steps=50.5,
    observation_bytes=12,
    action_bytes=4,
    memory_bytes=123_456_789,
    plain_steps_per_s=3.0,
    step_times_s=(0.1, 0.2, 1 / 3),
)
IPC = IpcProfile(
    start_method="spawn",
    rounds=200,
    observation_bytes=180,
    tiny_s=5e-5,
    observation_s=6e-5,
    observation_p10_s=5.5e-5,
    observation_p90_s=9e-5,
    large_bytes=1 << 18,
    large_s=3e-4,
    per_message_s=5e-5,
    per_byte_s=9.5e-10,
)
RULE = RuleVerdict(
    mode="async",
    reason="Because.",
    threshold_s=1e-3,
    step_time_s=0.3,
    near_line=False,
    sync_s=2.4,
    async_s=0.4,
    break_even_s=1e-4,
)


def a_plan(**changes):
    plan = Plan(
        mode="async",
        reason="One step takes long.",
        decided_by="rule",
        pinned_by=None,
        env="Pendulum-v1",
        num_envs=8,
        autoreset_mode="NextStep",
        observation_space="Box(-1.0, 1.0, (3,), float32)",
        action_space="Discrete(2)",
        candidates=(
            Candidate("sync", 2.4),
            Candidate("async", 0.4),
            Candidate("native", skipped="None is registered."),
        ),
        machine=MACHINE,
        profile=PROFILE,
        ipc=IPC,
        rule=RULE,
        notes=("One thing.", "Another."),
        planning_s=1.75,
        created="2025-01-31T12:00:00+00:00",
        versions={"gymnasium": "1.1.1", "numpy": "2.2"},
    )
    return dataclasses.replace(plan, **changes)


UNMEASURED = {
    "decided_by": "pin",
    "pinned_by": 'mode="async"',
    "observation_space": None,
    "action_space": None,
    "profile": None,
    "ipc": None,
    "rule": None,
    "candidates": (),
    "notes": (),
    "versions": {},
}
SPARSE = {
    "machine": dataclasses.replace(MACHINE, cores_quota=None, load_1min=None),
    "profile": dataclasses.replace(PROFILE, episode_steps=None, memory_bytes=None),
    "rule": dataclasses.replace(RULE, break_even_s=None, near_line=True),
}


@pytest.mark.parametrize("changes", [{}, UNMEASURED, SPARSE], ids=["full", "unmeasured", "sparse"])
@pytest.mark.parametrize("indent", [2, None])
def test_a_plan_survives_json_unchanged(changes, indent):
    plan = a_plan(**changes)
    again = Plan.from_json(plan.to_json(indent))
    assert again == plan
    assert again.to_json(indent) == plan.to_json(indent)


def test_what_is_read_has_the_same_types_throughout():
    again = Plan.from_json(a_plan().to_json())
    assert isinstance(again.machine, Machine)
    assert isinstance(again.rule, RuleVerdict)
    assert [type(candidate) for candidate in again.candidates] == [Candidate] * 3
    assert type(again.profile.step_times_s) is type(again.notes) is tuple


def test_to_json_is_one_document_of_what_to_dict_gives():
    plan = a_plan()
    assert json.loads(plan.to_json()) == json.loads(json.dumps(plan.to_dict()))
    assert "\n" not in plan.to_json(indent=None)


def test_to_dict_is_plain():
    data = a_plan(**UNMEASURED).to_dict()
    assert list(data) == [field.name for field in dataclasses.fields(Plan)]
    assert data["machine"]["cores"] == 1.5
    assert data["profile"] is None
    assert data["schema"] == SCHEMA


def test_changing_the_dict_does_not_change_the_plan():
    plan = a_plan()
    plan.to_dict()["versions"]["gymnasium"] = "0"
    assert plan.versions["gymnasium"] == "1.1.1"


def test_a_whole_number_may_stand_for_a_float():
    data = a_plan().to_dict() | {"planning_s": 2}
    again = Plan.from_json(json.dumps(data))
    assert again.planning_s == 2.0
    assert isinstance(again.planning_s, float)


def test_fields_it_does_not_know_are_ignored():
    data = a_plan().to_dict() | {"colour": "blue"}
    assert Plan.from_json(json.dumps(data)) == a_plan()


@pytest.mark.parametrize("text", ["", "not json", "{", '{"schema": 1'])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(PlanError, match="not a plan"):
        Plan.from_json(text)


@pytest.mark.parametrize("text", ["[]", '"plan"', "3", "null"])
def test_json_that_is_no_object_is_refused(text):
    with pytest.raises(PlanError, match="not an object"):
        Plan.from_json(text)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", None])
def test_another_schema_is_refused_by_name(schema):
    data = a_plan().to_dict() | {"schema": schema}
    with pytest.raises(PlanError, match=f"schema {schema!r}; this version .* reads {SCHEMA}"):
        Plan.from_json(json.dumps(data))


def test_a_document_without_a_schema_is_refused():
    with pytest.raises(PlanError, match="schema None"):
        Plan.from_json("{}")


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Plan) if f.name != "schema"])
def test_a_missing_field_is_refused_by_name(name):
    data = a_plan().to_dict()
    del data[name]
    with pytest.raises(PlanError, match=name):
        Plan.from_json(json.dumps(data))


def test_a_missing_field_inside_is_refused_by_name():
    data = a_plan().to_dict()
    del data["machine"]["cores_quota"]
    with pytest.raises(PlanError, match="cores_quota"):
        Plan.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", 3),
        ("mode", None),
        ("num_envs", "8"),
        ("num_envs", 8.0),
        ("num_envs", True),
        ("planning_s", "1.0"),
        ("planning_s", True),
        ("pinned_by", 1),
        ("candidates", 5),
        ("candidates", [{"mode": "sync"}]),
        ("candidates", ["sync"]),
        ("machine", None),
        ("machine", []),
        ("profile", {}),
        ("profile", "fast"),
        ("notes", [1]),
        ("versions", {"numpy": 2}),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(name, value):
    data = a_plan().to_dict() | {name: value}
    with pytest.raises(PlanError, match="not a plan"):
        Plan.from_json(json.dumps(data))


def test_a_plan_error_is_a_value_error_with_the_cause_chained():
    with pytest.raises(ValueError, match="not a plan") as caught:
        Plan.from_json("nothing")
    assert isinstance(caught.value, VecselectError)
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)


def test_a_plan_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_plan().mode = "sync"
