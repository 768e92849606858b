"""Two plans side by side, and a race in one sentence."""

import dataclasses

from tests import plans
from tests.test_situation import US, a_situation
from vecselect.report.difference import reasons, render
from vecselect.report.sentence import sentence
from vecselect.report.stream import plain
from vecselect.selection.difference import factors
from vecselect.selection.race import Entrant

NAMES = ("one", "two")


def a_plan(situation):
    estimate = situation.estimate()
    return dataclasses.replace(
        plans.ESTIMATED,
        mode=estimate.mode,
        estimate=estimate,
        profile=situation.profile,
        calibration=situation.calibration,
        loops=situation.loops,
        machine=situation.machine,
        num_envs=situation.num_envs,
        learner_s=situation.learner_s,
    )


def test_only_things_that_differ_are_factors():
    assert factors(a_situation(), a_situation()) == ()
    found = factors(a_situation(), a_situation(learner_s=2e-3))
    assert [(factor.name, factor.mode) for factor in found] == [("the learner", "sync")]


def test_what_turns_the_choice_is_told_from_what_does_not():
    two, one = a_plan(a_situation(step_s=19 * US)), a_plan(a_situation(cores=1))
    assert (two.mode, one.mode) == ("pool:1", "sync")
    told = reasons(two, one, NAMES)
    assert told == ["With the machine of two, the model chooses sync for one too."]


def test_what_only_together_turns_the_choice_is_said_to_do_so():
    one = a_situation(step_s=30 * US)
    two = a_situation(step_s=20 * US, learner_s=1.2e-3)
    assert (a_plan(one).mode, a_plan(two).mode) == ("pool:1", "sync")
    turning = [factor for factor in factors(one, two) if factor.mode == "sync"]
    told = reasons(a_plan(one), a_plan(two), NAMES)
    if turning:
        assert told[0].startswith(f"With {turning[0].name} of two")
    else:
        assert "together they do" in told[0]


def test_a_choice_of_the_race_against_the_model_is_said():
    plan = dataclasses.replace(a_plan(a_situation()), mode="sync")
    told = reasons(plan, a_plan(a_situation()), NAMES)
    assert told[0] == "The cost model says pool:1 of both."
    assert told[1] == "In one the race chose sync, where the model had said pool:1."


def test_the_table_holds_what_differs_and_nothing_else():
    text = plain(render(plans.ESTIMATED, plans.RACED, NAMES), 80)
    assert "decided by" in text
    assert "learner" in text
    assert "environment" not in text
    assert "Both choose pool:1." in text
    assert plain(render(plans.RACED, plans.RACED, NAMES), 80) == "The two plans say the same."


def test_plans_without_a_model_are_compared_by_what_they_hold():
    text = plain(render(plans.BY_RULE, plans.PINNED, NAMES), 80)
    assert "made without the cost model" in " ".join(text.split())


def test_a_race_is_told_in_one_sentence_the_closest_first():
    entrants = tuple(
        Entrant(mode, plans.exactly(seconds), 0.0, (seconds,) * 8)
        for mode, seconds in {"sync": 2.0, "pool:1": 1.0, "async": 5.0}.items()
    )
    race = dataclasses.replace(plans.RACE, leader="pool:1", entrants=entrants)
    text = sentence(dataclasses.replace(plans.RACED, race=race))
    assert text.startswith("pool:1 ran 2.00 (")
    assert text.index("as fast as sync") < text.index("and 5.00 (") < text.index("as async.")
    assert sentence(plans.ESTIMATED) is None
    alone = dataclasses.replace(race, entrants=entrants[1:2])
    assert sentence(dataclasses.replace(plans.RACED, race=alone)) is None
