"""What a report says of a race agrees with itself: one number for a ratio, no word too strong."""

import dataclasses
import types

import pytest

from tests.plans import ESTIMATED, PROFILE, RACE, RACED, RULE
from vecselect.plan import Candidate
from vecselect.planning.notes import of_race
from vecselect.planning.reasons import reason_of_race
from vecselect.report.bars import shown_forecasts
from vecselect.report.facts import how_sure
from vecselect.report.html import page
from vecselect.report.markdown import markdown
from vecselect.report.sentence import sentence
from vecselect.report.verdict import verdict
from vecselect.selection.compare import Interval, compare
from vecselect.selection.race import Entrant, times_beside


def words(text):
    return " ".join(str(text).split())


def raced(blocks_s, again=None, **changes):
    """A race of candidates by their blocks; the first one is the leader unless changed."""
    leader = changes.setdefault("leader", next(iter(blocks_s)))
    times_s = times_beside(blocks_s, leader, again)
    entrants = tuple(
        Entrant(mode, times_s[mode], 0.0, tuple(blocks)) for mode, blocks in blocks_s.items()
    )
    values = {"chosen": leader, "speedup": None, "out": {}, "entrants": entrants}
    values["rounds"] = max(map(len, blocks_s.values()))
    return dataclasses.replace(RACE, **{**values, **changes})


def the_plan(race, skipped=(), num_envs=8):
    """The plan that a race makes, with predictions of three candidates."""
    predicted = {one.mode: one.vector_step_s for one in ESTIMATED.estimate.forecasts}
    whole = race.num_envs == num_envs
    candidates = tuple(
        Candidate(
            mode,
            predicted.get(mode),
            race.of(mode).loop_s if race.of(mode) and whole else None,
            "it is not allowed" if mode in skipped else None,
        )
        for mode in {**predicted, **{one.mode: None for one in race.entrants}}
    )
    return dataclasses.replace(
        RACED,
        mode=race.chosen,
        race=race,
        candidates=candidates,
        reason=reason(race, skipped=skipped),
        learner="none",
        learner_s=0.0,
    )


def reason(race, incumbent=None, skipped=()):
    draft = types.SimpleNamespace(
        race=race,
        rule=RULE,
        skipped=dict.fromkeys(skipped, "it is not allowed"),
        request=types.SimpleNamespace(num_envs=8),
        learner=None,
        profile=PROFILE,
    )
    return reason_of_race(draft, incumbent)


SHORT = {"pool:1": [1.0], "sync": [2.1], "pool:0": [1.9]}
LONG = {"pool:1": [1.0, 2.0, 1.1], "sync": [1.8, 3.6, 2.0], "pool:0": [1.7, 3.5]}


def test_any_two_times_stand_in_the_ratio_measured():
    times_s = times_beside(LONG, "pool:1")
    assert times_s["pool:1"].mid == pytest.approx(1.1)
    for mode in ("sync", "pool:0"):
        found = compare(mode, LONG[mode], LONG["pool:1"]).ratio
        assert times_s[mode].mid / 1.1 == pytest.approx(found.mid)
        assert times_s[mode].low / 1.1 == pytest.approx(found.low)
    assert list(times_s) == list(LONG)


def test_what_was_measured_again_stands_in_that_ratio():
    again = ("sync", "pool:1", Interval(1.06, 0.95, 1.18))
    times_s = times_beside(SHORT, "pool:1", again)
    assert times_s["sync"] == Interval(1.06, 0.95, 1.18)
    assert times_s["pool:0"].mid == pytest.approx(1.9)


def test_headline_table_and_sentence_have_one_number():
    speedup = Interval(1.57, 1.42, 1.74)
    plan = the_plan(raced(LONG, ("sync", "pool:1", speedup), speedup=speedup))
    text = words(plan.report)
    assert "Measured again after the race: 1.57 times the throughput of sync" in text
    assert "=> pool:1 1.10 s" in text and "7.27 1.57x" in text
    assert sentence(plan).startswith("pool:1 ran 1.57 (1.42-1.74) times as fast as sync")
    assert text.count("1.57") == 2
    assert "1.57x sync" in words(page(plan.report)).replace("</span>", "")


def test_an_advantage_that_may_be_none_is_not_clear():
    speedup = Interval(1.06, 0.95, 1.18)
    race = raced(LONG, ("sync", "pool:1", speedup), speedup=speedup, p_best=1.0)
    assert verdict(the_plan(race)) == "by a race, perhaps the fastest"
    sure = dataclasses.replace(race, speedup=Interval(1.6, 1.5, 1.7))
    assert verdict(the_plan(sure)) == "by a race, clearly the fastest"
    none_left = Interval(1.02, 0.95, 1.10)
    race = dataclasses.replace(race, speedup=none_left)
    assert "(95 %: 0.95-1.10); together with the race, more than 5 % faster." in reason(race)


def test_one_round_is_a_short_race_and_clear_of_nothing():
    plan = the_plan(raced(SHORT, p_best=1.0))
    assert verdict(plan) == "by a short race, the fastest in its only round"
    assert how_sure(plan) == "By a race of 1 round: the fastest in its only round."
    assert "race 1 round of 12 vector steps" in words(plan.report)
    assert "1 rounds" not in str(plan.report) + page(plan.report) + markdown(plan.report)


def test_the_only_one_left_is_no_winner():
    plan = the_plan(raced({"pool:1": [1.0, 1.0], "native": [0.5, 0.5]}), skipped=["native"])
    assert verdict(plan) == "by a race, the only one left"
    assert plan.reason.startswith("It was the only one left in the race.")
    assert "clearly" not in str(plan.report)


def test_nothing_is_clear_beside_a_range_that_begins_below_sync():
    wide = dataclasses.replace(
        ESTIMATED.estimate.forecasts[1], vector_step_s=Interval(14.0e-3, 11.0e-3, 21.7e-3)
    )
    estimate = ESTIMATED.estimate
    estimate = dataclasses.replace(
        estimate, forecasts=(estimate.forecasts[0], wide, estimate.forecasts[2])
    )
    assert verdict(ESTIMATED) == "by estimate, clear"
    assert how_sure(ESTIMATED) == "By prediction, and clear."
    plan = dataclasses.replace(ESTIMATED, estimate=estimate)
    assert verdict(plan) == "by estimate, likely"
    assert how_sure(plan) == "By prediction: likely."


def test_one_block_has_no_spread_and_makes_nothing_certain():
    race = raced(SHORT, p_best=1.0)
    plan = the_plan(race)
    shown = str(plan.report) + page(plan.report) + markdown(plan.report)
    assert "certainty" not in shown and "100 %" not in words(markdown(plan.report))
    table = str(plan.report).partition("predicted step")[0]
    assert "\u00b1" not in table
    assert "\u00b1" in str(the_plan(raced(LONG)).report)
    assert "pool:1, in its only round" in shown


def test_who_is_told_of_as_the_fastest_is_the_fastest_of_the_table():
    # The choice was kept although sync led, and came out ahead when measured again.
    blocks_s = {"sync": [1.0] * 4, "pool:1": [1.08] * 4}
    again = ("pool:1", "sync", Interval(0.8, 0.75, 0.85))
    plan = the_plan(raced(blocks_s, again, chosen="pool:1"))
    assert sentence(plan).startswith("pool:1 ran 1.25")
    assert verdict(plan) == "by a race, ahead of sync when measured again"
    assert "pool:1, when measured again; sync had led the race" in words(markdown(plan.report))
    # A lead of another one that went away.
    blocks_s = {"pool:1": [1.0] * 4, "sync": [1.63] * 4}
    race = raced(blocks_s, ("sync", "pool:1", Interval(0.71, 0.6, 0.8)), chosen="sync")
    plan = the_plan(race)
    assert verdict(plan) == "by a race, ahead of pool:1 when measured again"
    assert "0.71x" in words(plan.report)
    assert sentence(plan).startswith("sync ran 1.41")


def test_a_lead_that_went_away_is_told_with_what_is_left_of_it():
    blocks_s = {"pool:1": [1.0, 1.0], "sync": [1.63, 1.63]}
    again = ("sync", "pool:1", Interval(1.03, 0.9, 1.2))
    race = raced(blocks_s, again, chosen="sync")
    plan = the_plan(race)
    assert verdict(plan) == "by a race, within 5 % of pool:1 when measured again"
    assert plan.reason.startswith(
        "pool:1 led the race, but measured again, and all rounds taken together, it came to 1.03 "
        "times the throughput of sync."
    )
    assert "1.03x" in str(plan.report) and "1.63" not in str(plan.report)


def test_no_candidate_was_faster_only_where_that_is_known():
    close = {"pool:1": [1.0] * 20, "sync": [1.01] * 20}
    race = raced(close, chosen="sync")
    assert reason(race).startswith("No candidate was more than 5 % faster.")
    race = raced({mode: blocks[:2] for mode, blocks in close.items()}, chosen="sync")
    assert reason(race).startswith("No candidate was proven to be more than 5 % faster.")
    assert "within 5 % of the fastest and simpler than pool:1" in verdict(the_plan(race))


def test_what_was_remembered_and_kept_is_told_as_that():
    race = raced({"pool:3": [1.0, 1.0], "pool:1": [1.08, 1.08]}, chosen="pool:1")
    assert reason(race, "pool:1").startswith(
        "It was remembered, and no candidate was surely more than 10 % faster."
    )
    assert verdict(the_plan(race)) == "by a race, kept, not surely beaten by pool:3"


def test_a_race_that_found_differences_proves_nothing():
    race = raced(LONG, chosen="sync", difference="pool:1, step 1: 0.1 is not 1")
    assert verdict(the_plan(race)) == "by a race, kept, since the results differ"


def test_a_smaller_race_shows_what_it_measured():
    race = raced({"sync": [1.0, 1.0], "pool:1": [2.9, 2.9]}, num_envs=2)
    plan = the_plan(race)
    text = words(plan.report)
    assert "sync ~19.1 ms ~419 ~1.00x" in text
    assert "Measured in a race of 2 of the 8 sub-environments:" in text
    assert "pool:1 2.90 s" in text and "0.69 0.34x" in text
    assert "with 2 sub-environments: pool:1 came to 0.34 times its throughput" in text
    for other in (page(plan.report), markdown(plan.report)):
        assert "Measured in a race of 2 of the 8 sub-environments" in other
        assert "0.34x" in other
    assert "Measured in a race of" not in page(RACED.report) + str(RACED.report)


def test_predicted_figures_are_marked_and_never_compared_with_measured_ones():
    text = words(RACED.report)
    assert "async - - - 548-678 ~1.45x" in text
    assert "sync 20.1 ms ±1.5 % 398 1.00x 412-423 ~1.00x" in text
    assert "~606 chosen" not in words(page(RACED.report))
    assert ">~606" in page(RACED.report)
    assert "predicted step: █ stepping" in text
    assert "As the cost model predicts them" in page(RACED.report)


def test_who_raced_has_a_bar_where_there_is_room():
    forecasts = ESTIMATED.estimate.forecasts
    more = tuple(dataclasses.replace(forecasts[1], mode=f"pool:{count}") for count in (0, 2, 3))
    estimate = dataclasses.replace(ESTIMATED.estimate, forecasts=(*forecasts, *more))
    race = raced({"pool:1": [1.0], "sync": [2.0], "pool:0": [2.0], "pool:3:sleep": [3.0]})
    plan = dataclasses.replace(RACED, estimate=estimate, race=race)
    shown = [forecast.mode for forecast in shown_forecasts(plan)]
    assert shown[0] == "pool:1"
    assert set(shown) == {"pool:1", "sync", "async", "pool:0", "pool:3"}


def test_native_is_told_against_the_choice_and_against_sync():
    race = raced({"pool:1": [1.0], "sync": [1.1], "native": [0.66]})
    draft = types.SimpleNamespace(race=race, learner=None)
    (note,) = of_race(draft)
    assert (
        "native would give 1.52 times as much as pool:1 (1.67 times as much as sync)" in note.text
    )
    plan = the_plan(race, skipped=["native"])
    assert "1.67x" in str(plan.report)
    assert sentence(plan).startswith("pool:1 ran 0.66")
    assert "native, which was only timed" in sentence(plan)
