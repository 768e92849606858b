"""A plan is a plain value, and the same value after a trip through JSON."""

import dataclasses
import json

import pytest

from tests import plans
from vecselect import Plan, PlanError, VecselectError
from vecselect.machine import Machine
from vecselect.plan import SCHEMA, Candidate
from vecselect.selection.race import RaceRecord
from vecselect.selection.rule import RuleVerdict

ALL = {
    **plans.ALL,
    "sparse": dataclasses.replace(
        plans.RACED,
        evidence=dataclasses.replace(
            plans.RACED.evidence,
            machine=dataclasses.replace(
                plans.MACHINE, cores_quota=None, load_1min=None, shm_available_bytes=None
            ),
            profile=dataclasses.replace(
                plans.PROFILE, episode_steps=None, episode_steps_sd=None, memory_bytes=None
            ),
            rule=dataclasses.replace(plans.RULE, break_even_s=None, near_line=True),
            race=dataclasses.replace(
                plans.RACE, speedup=None, difference="pool:1, step 1: 0.1 is not 1"
            ),
        ),
        candidates=(),
        key=None,
        not_stored="it is a lambda",
        recalled=True,
    ),
}


def a_plan(**changes):
    return dataclasses.replace(plans.RACED, **changes)


@pytest.mark.parametrize("plan", ALL.values(), ids=ALL)
@pytest.mark.parametrize("indent", [2, None])
def test_a_plan_survives_json_unchanged(plan, indent):
    again = Plan.from_json(plan.to_json(indent))
    assert again == plan
    assert again.to_json(indent) == plan.to_json(indent)


def test_what_is_read_has_the_same_types_throughout():
    again = Plan.from_json(a_plan().to_json())
    evidence = again.evidence
    assert isinstance(evidence.machine, Machine)
    assert isinstance(evidence.rule, RuleVerdict)
    assert isinstance(evidence.race, RaceRecord)
    assert {type(candidate) for candidate in again.candidates} == {Candidate}
    assert type(evidence.profile.step_quantiles_s) is type(again.notes) is tuple


def test_to_json_is_one_document_of_what_to_dict_gives():
    plan = a_plan()
    assert json.loads(plan.to_json()) == json.loads(json.dumps(plan.to_dict()))
    assert "\n" not in plan.to_json(indent=None)


def test_to_dict_is_plain():
    data = plans.PINNED.to_dict()
    assert list(data) == [field.name for field in dataclasses.fields(Plan)]
    assert data["evidence"]["machine"]["cores"] == 1.5
    assert data["evidence"]["profile"] is None
    assert data["schema"] == SCHEMA


def test_changing_the_dict_does_not_change_the_plan():
    plan = a_plan()
    plan.to_dict()["versions"]["python"] = "0"
    assert plan.versions["python"] == "3.11.7"


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


def test_a_plan_beside_other_things_is_read():
    plan = a_plan()
    stored = {"format": "vecselect-plan", "schema": 1, "key": "ab", "plan": plan.to_dict()}
    assert Plan.from_json(json.dumps(stored)) == plan
    with pytest.raises(PlanError, match="holds 2 plans .* `vecselect plans import`"):
        Plan.from_json(json.dumps({"schema": 1, "plans": [plan.to_dict()] * 2}))
    with pytest.raises(PlanError, match=r"Sweep\.from_json"):
        Plan.from_json(json.dumps({"schema": 1, "points": []}))


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
    del data["evidence"]["machine"]["cores_quota"]
    with pytest.raises(PlanError, match="cores_quota"):
        Plan.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", 3),
        ("mode", None),
        ("learner_threads", "1"),
        ("learner_threads", 1.0),
        ("learner_threads", True),
        ("planning_s", "1.0"),
        ("planning_s", True),
        ("pinned_by", 1),
        ("candidates", 5),
        ("candidates", [{"mode": "sync"}]),
        ("candidates", ["sync"]),
        ("evidence", None),
        ("evidence", []),
        ("evidence", {}),
        ("what_if", [{"change": "4 cores"}]),
        ("notes", [1]),
        ("versions", {"numpy": 2}),
        ("break_even_s", {"pool": "never"}),
        ("recalled", 1),
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


def test_the_collection_share_is_what_the_learner_leaves_of_the_loop():
    assert plans.RACED.collection_share == pytest.approx(1 - 1.1e-3 / 11.2e-3)
    assert plans.BY_MODEL.collection_share == 1.0
    assert plans.ONE_THREAD.collection_share == pytest.approx(1 - 0.25 / 10.2)
    assert plans.PINNED.collection_share is None


def test_a_candidate_is_known_by_its_measurement_before_its_prediction():
    measured, predicted, skipped = plans.RACED.candidates[1:4]
    assert plans.RACED.chosen is measured
    assert plans.ONE_THREAD.chosen.threads == plans.ONE_THREAD.threads == 1
    assert plans.THREADS_AS_SET.chosen.threads == plans.THREADS_AS_SET.threads == 2
    assert measured.loop_s == 11.2e-3
    assert predicted.loop_s == 13.2e-3
    assert skipped.loop_s is None


@pytest.mark.parametrize("name", ALL)
def test_what_a_terminal_shows_for_a_plan_and_its_parts_is_short(name):
    plan = ALL[name]
    one = f"<Plan {plan.env} x {plan.num_envs}: {plan.mode} by {plan.decided_by}>"
    assert repr(plan) == str(plan) == one
    assert len(repr(plan.report)) < 120
    long = dataclasses.replace(plans.PROFILE, step_quantiles_s=(0.1,) * 2048)
    assert len(repr(long)) < 1000
    assert long != plans.PROFILE
    assert len(repr(plans.RACE)) < 3000
