"""A deadline asked for decides which modes are to be chosen from."""

import pytest

from vecselect import Plan, auto_make_vec, recommend

DEADLINE = {"step_timeout_s": 60.0}


def planned(effort, **options):
    options = {"vector_kwargs": DEADLINE, "use_store": False, **options}
    return recommend("CartPole-v1", 4, effort=effort, **options)


@pytest.mark.parametrize("effort", ["measure", "race"])
def test_what_runs_in_the_calling_process_is_left_out_and_the_reason_said(effort):
    plan = planned(effort, budget_s=1.5)
    skipped = {candidate.mode: candidate.skipped for candidate in plan.candidates}
    assert "cannot keep step_timeout_s" in skipped["sync"]
    assert "pool:0" not in skipped
    assert plan.mode.partition(":")[0] in ("pool", "async")
    assert plan.break_even_s == {}
    report = " ".join(str(plan.report.details).split())
    assert "cannot keep step_timeout_s" in report
    assert not plan.evidence.caller_steps
    assert Plan.from_json(plan.to_json()) == plan


def test_the_rule_s_answer_gives_way_to_the_deadline():
    plan = planned("rule")
    assert plan.mode == "async"
    assert "The rule says sync, but it cannot keep step_timeout_s" in plan.reason


def test_every_sub_environment_of_what_is_chosen_is_under_the_deadline():
    with auto_make_vec("CartPole-v1", 4, use_store=False, vector_kwargs=DEADLINE) as envs:
        envs.reset(seed=1)
        assert envs.mode not in ("sync", "pool:0")
        assert envs.plan.candidates[0].mode == "pool:1"


def test_a_start_deadline_counts_and_none_is_no_deadline():
    plan = planned("rule", vector_kwargs={"start_timeout_s": 30.0, "step_timeout_s": None})
    assert plan.mode == "async"
    assert planned("rule", vector_kwargs={"step_timeout_s": None}).mode == "sync"
