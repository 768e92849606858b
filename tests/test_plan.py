"""A plan is a plain value, the same after a trip through JSON, and never a traceback of ours."""

import dataclasses
import json
import random

import pytest

from tests import plans
from tests.cached import ANYTHING, changed, places
from vecselect import Plan, PlanError, Report, VecselectError
from vecselect.plan import SCHEMA
from vecselect.report.content import content
from vecselect.report.markdown import markdown

RACED = plans.RACED
SPARSE = dataclasses.replace(
    RACED,
    evidence=dataclasses.replace(
        RACED.evidence,
        machine=dataclasses.replace(
            plans.MACHINE, cores_quota=None, load_1min=None, shm_available_bytes=None
        ),
        profile=dataclasses.replace(plans.PROFILE, episode_steps=None, memory_bytes=None),
        rule=dataclasses.replace(plans.RULE, break_even_s=None),
        race=dataclasses.replace(plans.RACE, difference="pool:1, step 1: 0.1 is not 1"),
    ),
    candidates=(),
    key=None,
    not_stored="it is a lambda",
    recalled=True,
)
ALL = {**plans.ALL, "sparse": SPARSE}


@pytest.mark.parametrize("plan", ALL.values(), ids=ALL)
@pytest.mark.parametrize("indent", [2, None])
def test_a_plan_survives_json_unchanged(plan, indent):
    text = plan.to_json(indent)
    again = Plan.from_json(text)
    assert again == plan == Plan.from_json(json.loads(text))
    assert again.to_json(indent) == text
    assert json.loads(text) == json.loads(json.dumps(plan.to_dict()))
    assert indent or "\n" not in text


def test_a_plan_is_read_beside_other_things_and_with_fields_it_does_not_know():
    document = RACED.to_dict() | {"colour": "blue", "planning_s": 2}
    stored = {"format": "vecselect-plan", "schema": 1, "key": "ab", "plan": document}
    for one in (document, stored):
        plan = Plan.from_json(json.dumps(one))
        assert plan == dataclasses.replace(RACED, planning_s=2.0)
        assert type(plan.planning_s) is float  # for which a whole number may stand


def without(*path):
    return json.dumps(changed(RACED.to_dict(), path))


def within(*path, value):
    return json.dumps(changed(RACED.to_dict(), path, value))


def other(**changes):
    return json.dumps(RACED.to_dict() | changes)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        *((text, "not a plan") for text in ("", "not json", "{", '{"schema": 1', b"\xff\x00")),
        *((text, "not an object") for text in ("[]", '"plan"', "3", "null")),
        ("{}", "schema None"),
        (other(schema=SCHEMA + 1), f"schema {SCHEMA + 1}; this version .* reads {SCHEMA}"),
        (other(schema="1"), "schema '1'"),
        ('{"schema": 1, "points": []}', r"Sweep\.from_json"),
        (without("mode"), "mode is missing"),
        (without("evidence", "machine", "cores_quota"), "cores_quota is missing"),
        *((other(mode=mode), "not a plan") for mode in (3, None, "zzz")),
        *((other(learner_threads=one), "not a plan") for one in ("1", 1.0, True)),
        *((other(planning_s=one), "not a plan") for one in ("1.0", True, float("inf"))),
        *((other(candidates=one), "not a plan") for one in ([5], [{"mode": "sync"}], ["sync"])),
        (other(versions={"numpy": 2}), "not a plan"),
        (other(break_even_s={"pool": "never"}), "not a plan"),
        (other(effort="zzz"), "its effort is unknown"),
        (within("evidence", "buffers", value=0), "no sub-environments"),
        (within("evidence", "kinds", value=[]), "no mode can run it"),
        (within("evidence", "kinds", value=["sync", "zzz"]), "unknown kind of mode"),
        (within("evidence", "race", "entrants", 0, "mode", value="zzz"), "an unknown mode"),
    ],
)
def test_what_is_no_plan_is_refused(text, match):
    with pytest.raises(PlanError, match=match) as caught:
        Plan.from_json(text)
    assert isinstance(caught.value, (VecselectError, ValueError))


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
