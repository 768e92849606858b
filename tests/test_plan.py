"""A plan is a plain value, the same after a trip through JSON, and never a traceback of ours."""

import dataclasses
import json
import random

import pytest

from tests import plans
from tests.cached import ANYTHING, changed, places
from vecselect import Plan, PlanError, Report, VecselectError
from vecselect.machine import Machine
from vecselect.plan import SCHEMA, Candidate
from vecselect.report.content import content
from vecselect.report.markdown import markdown
from vecselect.selection.race import TimingResult
from vecselect.selection.rule import RuleVerdict

RACED = plans.RACED


def evidence_of(plan, **changes):
    return dataclasses.replace(plan, evidence=dataclasses.replace(plan.evidence, **changes))


NO_FIGURES = {"cores_quota": None, "load_1min": None, "shm_available_bytes": None}
NO_EPISODES = {"episode_steps": None, "episode_steps_sd": None, "memory_bytes": None}
DIFFERENCE = "pool:1, step 1: 0.1 is not 1"
SPARSE = dataclasses.replace(
    evidence_of(
        RACED,
        machine=dataclasses.replace(plans.MACHINE, **NO_FIGURES),
        profile=dataclasses.replace(plans.PROFILE, **NO_EPISODES),
        rule=dataclasses.replace(plans.RULE, break_even_s=None, near_line=True),
        race=dataclasses.replace(plans.RACE, difference=DIFFERENCE),
    ),
    candidates=(),
    key=None,
    not_stored="it is a lambda",
    recalled=True,
)
ALL = {**plans.ALL, "sparse": SPARSE}


def read(**changes):
    """The plan of a document with other fields in place of its own."""
    return Plan.from_json(json.dumps(RACED.to_dict() | changes))


@pytest.mark.parametrize("plan", ALL.values(), ids=ALL)
@pytest.mark.parametrize("indent", [2, None])
def test_a_plan_survives_json_unchanged(plan, indent):
    text = plan.to_json(indent)
    again = Plan.from_json(text)
    assert again == plan == Plan.from_json(json.loads(text))
    assert again.to_json(indent) == text
    assert json.loads(text) == json.loads(json.dumps(plan.to_dict()))
    assert indent or "\n" not in text


def test_what_is_read_has_the_same_types_throughout():
    again = read(planning_s=2)  # a whole number may stand for a float
    evidence = again.evidence
    assert isinstance(evidence.machine, Machine)
    assert isinstance(evidence.rule, RuleVerdict)
    assert isinstance(evidence.race, TimingResult)
    assert {type(candidate) for candidate in again.candidates} == {Candidate}
    assert type(evidence.kinds) is type(again.notes) is tuple
    assert (again.planning_s, type(again.planning_s)) == (2.0, float)


def test_to_dict_is_plain_and_no_part_of_the_plan():
    data = plans.PINNED.to_dict()
    assert list(data) == [field.name for field in dataclasses.fields(Plan)]
    assert data["evidence"]["machine"]["cores"] == 1.5
    assert data["evidence"]["profile"] is None
    assert data["schema"] == SCHEMA
    data["versions"]["python"] = "0"
    assert plans.PINNED.versions["python"] == "3.11.7"
    with pytest.raises(dataclasses.FrozenInstanceError):
        plans.PINNED.mode = "sync"


def test_a_plan_is_read_beside_other_things_and_with_fields_it_does_not_know():
    assert read(colour="blue") == RACED
    stored = {"format": "vecselect-plan", "schema": 1, "key": "ab", "plan": RACED.to_dict()}
    assert Plan.from_json(json.dumps(stored)) == RACED


@pytest.mark.parametrize(
    ("text", "match"),
    [
        *((text, "not a plan") for text in ("", "not json", "{", '{"schema": 1', b"\xff\x00")),
        *((text, "not an object") for text in ("[]", '"plan"', "3", "null")),
        ("{}", "schema None"),
        ('{"schema": 1, "points": []}', r"Sweep\.from_json"),
    ],
)
def test_what_is_no_plan_is_refused(text, match):
    with pytest.raises(PlanError, match=match):
        Plan.from_json(text)


def test_a_plan_error_is_a_value_error_with_the_cause_chained():
    with pytest.raises(ValueError, match="not a plan") as caught:
        Plan.from_json("nothing")
    assert isinstance(caught.value, VecselectError)
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", None])
def test_another_schema_is_refused_by_name(schema):
    with pytest.raises(PlanError, match=f"schema {schema!r}; this version .* reads {SCHEMA}"):
        read(schema=schema)


def test_a_missing_field_is_refused_by_name():
    names = [field.name for field in dataclasses.fields(Plan) if field.name != "schema"]
    for path in (*((name,) for name in names), ("evidence", "machine", "cores_quota")):
        with pytest.raises(PlanError, match=path[-1]):
            Plan.from_json(changed(RACED.to_dict(), path))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mode", [3, None]),
        ("learner_threads", ["1", 1.0, True]),
        ("planning_s", ["1.0", True]),
        ("pinned_by", [1]),
        ("candidates", [5, [{"mode": "sync"}], ["sync"]]),
        ("evidence", [None, [], {}]),
        ("candidates", [[{"mode": "sync"}]]),
        ("notes", [[1]]),
        ("versions", [{"numpy": 2}]),
        ("break_even_s", [{"pool": "never"}]),
        ("recalled", [1]),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(name, values):
    for value in values:
        with pytest.raises(PlanError, match="not a plan"):
            read(**{name: value})


# What it tells of itself


def test_the_collection_share_is_what_the_learner_leaves_of_the_loop():
    assert RACED.collection_share == pytest.approx(1 - 1.1e-3 / 11.2e-3)
    assert plans.BY_MODEL.collection_share == 1.0
    assert plans.ONE_THREAD.collection_share == pytest.approx(1 - 0.25 / 10.2)
    assert plans.PINNED.collection_share is None


def test_a_candidate_is_known_by_its_measurement_before_its_prediction():
    measured, predicted, skipped = RACED.candidates[1:4]
    assert RACED.chosen is measured
    assert plans.ONE_THREAD.chosen.threads == plans.ONE_THREAD.threads == 1
    assert plans.THREADS_AS_SET.chosen.threads == plans.THREADS_AS_SET.threads == 2
    assert [one.loop_s for one in (measured, predicted, skipped)] == [11.2e-3, 13.2e-3, None]


@pytest.mark.parametrize("plan", ALL.values(), ids=ALL)
def test_what_a_terminal_shows_for_a_plan_and_its_parts_is_short(plan):
    one = f"<Plan {plan.env} x {plan.num_envs}: {plan.mode} by {plan.decided_by}>"
    assert repr(plan) == str(plan) == one
    assert len(repr(Report(plan))) < 120
    assert len(repr(plans.RACE)) < 3000


# Plans that somebody has written by hand, or tampered with: refused or used

LOADED, SHOWN = 1000, 15


def test_a_plan_with_any_value_in_any_place_is_refused_or_can_be_shown():
    documents = [json.loads(plan.to_json()) for plan in plans.ALL.values()]
    cases = [
        (document, path, value)
        for document in documents
        for path in places(document)
        for value in ANYTHING
    ]
    taken = []
    for case in random.Random(1).sample(cases, LOADED):
        try:
            taken.append(Plan.from_json(json.dumps(changed(*case))))
        except PlanError as error:
            assert len(str(error)) < 500
    assert SHOWN < len(taken) < LOADED / 2
    for plan in taken[:SHOWN]:
        assert repr(plan) and str(Report(plan)) and markdown(content(plan))
        assert Plan.from_json(plan.to_json()) == plan
