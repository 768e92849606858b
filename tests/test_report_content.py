"""What a report says, whatever it is rendered as: the words are checked here once."""

import dataclasses

import pytest

from tests import plans
from tests.plans import BY_MODEL, BY_RULE, OBSERVED, ONE_THREAD, PINNED, RACE, RACED, exactly
from vecselect.plan import Candidate, Note
from vecselect.report.content import LONGEST, Bars, Facts, Table, content
from vecselect.report.evidence import sentence_of_race
from vecselect.run_stats import Stats
from vecselect.selection.compare import Interval, compare
from vecselect.selection.evidence import Observation
from vecselect.selection.model import Parts
from vecselect.selection.race import Entrant, times_beside

EVIL = "\x1b[2Jan\x9b31m\u202eenv\ud800 of\n\ttwo lines\r"


def sure(plan):
    return content(plan).sure


def section(plan, kind, stats=None):
    return next((one for one in content(plan, stats).sections if isinstance(one, kind)), None)


def rows(plan):
    """The figures of the candidates by name."""
    return {row.name: row.cells for row in section(plan, Table).rows}


def remarks(plan):
    return {row.name: row.remark for row in section(plan, Table).rows if row.remark}


def group(plan, heading):
    return next((dict(one.rows) for one in content(plan).evidence if one.heading == heading), None)


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


def the_plan(race, skipped=()):
    """The plan that a race makes, with predictions of three candidates."""
    predicted = {one.mode: one.predicted for one in BY_MODEL.candidates if one.predicted}
    whole = race.num_envs == BY_MODEL.num_envs
    candidates = tuple(
        Candidate(
            mode,
            predicted=predicted.get(mode),
            measured=race.of(mode).loop_s if race.of(mode) and whole else None,
            skipped="it is not allowed" if mode in skipped else None,
        )
        for mode in {**predicted, **{one.mode: None for one in race.entrants}}
    )
    return dataclasses.replace(
        RACED,
        mode=race.chosen,
        candidates=candidates,
        evidence=dataclasses.replace(BY_MODEL.evidence, race=race),
    )


SHORT = {"pool:1": [1.0], "sync": [2.1], "pool:0": [1.9]}
LONG = {"pool:1": [1.0, 2.0, 1.1], "sync": [1.8, 3.6, 2.0], "pool:0": [1.7, 3.5]}


def test_every_way_of_deciding_is_told():
    assert sure(BY_RULE) == "by the ~1 ms rule, clear: 2.38x above the line of 1.00 ms"
    assert sure(BY_MODEL) == "by prediction, clear"
    assert sure(RACED) == "by a race, likely (97 %) the fastest"
    assert sure(PINNED) == "pinned by VECSELECT_MODE=sync"
    assert sure(plans.ELIMINATED) == "the only mode left"
    assert sure(OBSERVED) == (
        "by earlier runs, 12.3 k vector steps of them in this mode, recalled from 2025-01-01"
    )
    near = dataclasses.replace(plans.RULE, near_line=True)
    evidence = dataclasses.replace(BY_RULE.evidence, rule=near)
    assert sure(dataclasses.replace(BY_RULE, evidence=evidence)).endswith("close to the line")


@pytest.mark.parametrize(
    ("sync", "ours", "words"),
    [
        (exactly(20.0), exactly(10.0), "clear"),
        (exactly(20.0), Interval(10.0, 5.0, 21.0), "likely"),
        (exactly(10.4), Interval(10.0, 9.0, 11.0), "close to sync"),
    ],
)
def test_a_prediction_is_clear_only_where_no_other_may_be_faster(sync, ours, words):
    candidates = (Candidate("sync", predicted=sync), Candidate("pool:1", predicted=ours))
    assert sure(dataclasses.replace(BY_MODEL, candidates=candidates)) == f"by prediction, {words}"


def test_predicted_figures_are_marked_and_measured_ones_have_their_spread():
    assert rows(BY_MODEL)["pool:1"] == ("~10.2 ms (9.10-11.4 ms)", "~784", "~1.87x")
    assert rows(BY_RULE)["sync"] == ("~19.1 ms", "~419", "~1.00x")
    assert rows(RACED)["pool:1"] == ("11.2 ms ±1.8 %", "714", "1.79x")
    assert rows(RACED)["async"] == ("~13.2 ms (11.8-14.6 ms)", "~606", "~1.45x")
    assert rows(RACED)["native"] == ()
    assert remarks(RACED) == {
        "pool:1": "chosen",
        "async": "not chosen: it raised OSError in the race: no more processes",
        "native": "not chosen: Walker-v0 has no vector_entry_point",
    }
    assert section(RACED, Table).columns == ("mode", "loop", "env steps/s", "vs sync")
    assert section(BY_MODEL, Table).columns[1] == "vector step"
    assert section(PINNED, Table) is None


@pytest.mark.parametrize("plan", [RACED, OBSERVED], ids=["raced", "observed"])
def test_beside_measured_ones_nothing_predicted_is_crowned(plan):
    # A prediction that is better than everything measured, as predictions may be.
    too_good = Candidate("pool:3", predicted=exactly(1e-3))
    plan = dataclasses.replace(plan, candidates=(*plan.candidates, too_good))
    shown = section(plan, Table).rows
    measured = {one.mode for one in plan.candidates if one.measured}
    assert {row.name for row in shown[: len(measured)]} == measured
    assert {row.name for row in shown if not row.muted} == measured
    assert [row.name for row in shown if row.chosen] == ["pool:1"]


def test_what_is_only_timed_has_one_row_with_its_reason():
    race = raced({"pool:1": [1.0, 1.0], "native": [0.5, 0.5]})
    plan = the_plan(race)
    timed = (*plan.candidates, Candidate("native", skipped="allow it"))
    plan = dataclasses.replace(plan, candidates=timed)
    assert rows(plan)["native"] == ("500 ms ±5.2 %", "16.0", "-")
    assert remarks(plan)["native"] == "not chosen: allow it"
    assert [row.name for row in section(plan, Table).rows].count("native") == 1
    assert sure(plan) == "by a race, the only one left"


def test_the_learner_threads_of_a_plan_are_in_the_answer_and_in_the_pin():
    found = content(ONE_THREAD)
    assert found.chosen == "pool:1 with 1 learner thread"
    assert found.pin == (
        'mode="pool:1", learner_threads=1  or  VECSELECT_MODE=pool:1',
        "with envs.collecting():  # around the steps of a rollout",
    )
    found = content(plans.THREADS_AS_SET)
    assert (found.chosen, found.pin) == ("sync", ('mode="sync"  or  VECSELECT_MODE=sync',))
    learner = group(ONE_THREAD, "Learner")
    assert learner["with 2 threads, as set"].endswith("keep 0.9 cores busy for 3.50 ms after it")
    assert learner["planned for"] == "1 learner thread while steps are made"


def test_of_other_threads_only_the_best_has_a_row_and_only_where_it_matters():
    assert list(rows(ONE_THREAD)) == ["pool:1", "async", "sync", "sync (2 threads)", "native"]
    as_set = rows(plans.THREADS_AS_SET)
    assert list(as_set) == ["pool:1 (1 thread)", "sync", "pool:1", "async", "native"]
    assert as_set["pool:1 (1 thread)"][2] == "~1.87x"
    slower = tuple(
        dataclasses.replace(one, predicted=exactly(1.0)) if one.threads == 1 else one
        for one in plans.THREADS_AS_SET.candidates
    )
    plan = dataclasses.replace(plans.THREADS_AS_SET, candidates=slower)
    assert list(rows(plan)) == ["sync", "pool:1", "async", "native"]


def test_the_short_report_has_the_choice_sync_and_the_best_of_each_kind():
    pools = tuple(Candidate(f"pool:{n}", predicted=exactly(1e-3 * n)) for n in range(2, 40))
    plan = dataclasses.replace(BY_MODEL, candidates=(*BY_MODEL.candidates, *pools))
    shown = sorted(section(plan, Table).rows, key=lambda row: row.place)
    assert [row.name for row in shown[:2]] == ["pool:1", "sync"]
    assert {"pool:2", "async"} == {row.name for row in shown[2:4]}
    assert sorted(row.place for row in shown if row.cells) == list(range(len(shown) - 1))


def test_any_two_times_stand_in_the_ratio_measured():
    times_s = times_beside(LONG, "pool:1")
    assert times_s["pool:1"].mid == pytest.approx(1.1)
    for mode in ("sync", "pool:0"):
        found = compare(mode, LONG[mode], LONG["pool:1"]).ratio
        assert times_s[mode].mid / 1.1 == pytest.approx(found.mid)
    again = ("sync", "pool:1", Interval(1.06, 0.95, 1.18))
    assert times_beside(SHORT, "pool:1", again)["sync"] == Interval(1.06, 0.95, 1.18)


def test_table_and_sentence_have_one_number():
    speedup = Interval(1.57, 1.42, 1.74)
    plan = the_plan(raced(LONG, ("sync", "pool:1", speedup), speedup=speedup))
    assert rows(plan)["pool:1"][2] == "1.57x"
    assert sentence_of_race(plan).startswith("pool:1 ran 1.57 (1.42-1.74) times as fast as sync")


def test_an_advantage_that_may_be_none_is_not_clear():
    speedup = Interval(1.06, 0.95, 1.18)
    race = raced(LONG, ("sync", "pool:1", speedup), speedup=speedup, p_best=1.0)
    assert sure(the_plan(race)) == "by a race, perhaps the fastest"
    clear = dataclasses.replace(race, speedup=Interval(1.6, 1.5, 1.7))
    assert sure(the_plan(clear)) == "by a race, clearly the fastest"
    unlikely = dataclasses.replace(clear, p_best=0.11)
    assert sure(the_plan(unlikely)) == "by a race, perhaps the fastest"


def test_one_round_is_a_short_race_and_clear_of_nothing():
    plan = the_plan(raced(SHORT, p_best=1.0))
    assert sure(plan) == "by a short race, the fastest in its only round"
    assert rows(plan)["sync"][0] == "2.10 s"  # what varies within one block is no spread


def test_a_lead_that_went_away_is_told_with_what_is_left_of_it():
    blocks_s = {"pool:1": [1.0, 1.0], "sync": [1.63, 1.63]}
    race = raced(blocks_s, ("sync", "pool:1", Interval(1.03, 0.9, 1.2)), chosen="sync")
    plan = the_plan(race)
    assert sure(plan) == "by a race, within 5 % of pool:1 when measured again"
    assert rows(plan)["pool:1"][2] == "1.03x"


def test_a_choice_that_did_not_lead_says_why_it_was_taken():
    close = {"pool:1": [1.0] * 20, "sync": [1.01] * 20}
    simpler = "by a race, within 5 % of the fastest and simpler than pool:1"
    assert sure(the_plan(raced(close, chosen="sync"))) == simpler
    kept = raced({"pool:3": [1.0, 1.0], "pool:1": [1.08, 1.08]}, chosen="pool:1")
    assert sure(the_plan(kept)) == "by a race, kept, not surely beaten by pool:3"
    differing = raced(LONG, chosen="sync", difference="pool:1, step 1: 0.1 is not 1")
    assert sure(the_plan(differing)) == "by a race, kept, since the results differ"


def test_who_is_named_as_the_fastest_is_the_fastest_of_the_table():
    blocks_s = {"sync": [1.0] * 4, "pool:1": [1.08] * 4}
    race = raced(blocks_s, chosen="pool:1")
    sync, ours = race.entrants
    ours = dataclasses.replace(ours, loop_s=Interval(0.71, 0.7, 0.72))
    plan = the_plan(dataclasses.replace(race, entrants=(sync, ours)))
    assert sentence_of_race(plan).startswith("pool:1 ran 1.41")
    assert sure(plan) == "by a race, ahead of sync when measured again"


def test_a_sentence_says_who_won_by_how_much_and_what_was_only_timed():
    assert sentence_of_race(RACED) == "pool:1 ran 1.79 (1.78-1.82) times as fast as sync."
    race = raced({"pool:1": [1.0], "sync": [1.1], "native": [0.66]})
    text = sentence_of_race(the_plan(race, skipped=["native"]))
    assert text.startswith("pool:1 ran 0.66")
    assert "as fast as native, which was only timed and 1.10" in text
    assert sentence_of_race(BY_MODEL) is None
    assert sentence_of_race(the_plan(raced({"sync": [1.0]}))) is None


def test_a_smaller_race_shows_what_it_measured():
    plan = the_plan(raced({"sync": [1.0, 1.0], "pool:1": [2.9, 2.9]}, num_envs=2))
    assert sure(plan).startswith("by a race of 2 sub-environments, ")
    assert rows(plan)["sync"][0].startswith("~")
    assert group(plan, "Race")["pool:1"] == "2.90 s ±5.2 %, 0.69 env steps/s, 0.34x sync"
    assert "pool:1" not in group(RACED, "Race")


def test_a_step_is_taken_apart_in_bars_to_one_scale():
    ours, other, sync = section(BY_MODEL, Bars).bars
    assert (ours.name, other.name, sync.name) == ("pool:1", "async", "sync")
    assert (sync.total, sync.parts[-1].end, sync.cut) == ("19.1 ms", pytest.approx(1.0), False)
    assert ours.parts[-1].end == pytest.approx(10.2 / 19.1)
    assert [(part.name, part.text) for part in other.parts] == [
        ("stepping", "9.00 ms (68 %)"),
        ("stragglers", "1.20 ms (9.1 %)"),
        ("hand-off", "3.00 ms (23 %)"),
    ]
    # What takes next to nothing is drawn with the loop.
    assert [part.name for part in ours.parts] == ["stepping", "stragglers", "copying", "loop"]
    assert ours.parts[-1].text == "3.00 us (0 %)"


def test_a_bar_that_is_far_too_long_is_cut_off():
    slow = Candidate("async", predicted=exactly(1.0), parts=Parts(1.0, 0.0, 9.0, 0.0, 0.0))
    plan = dataclasses.replace(BY_MODEL, candidates=(*BY_MODEL.candidates[:2], slow))
    ours, sync, last = section(plan, Bars).bars
    assert (ours.cut, sync.cut, last.cut) == (False, False, True)
    assert ours.parts[-1].end == pytest.approx(1 / LONGEST)
    assert last.parts[-1].end == 1.0


def test_without_a_model_there_are_no_bars_and_no_evidence_of_it():
    for plan in (BY_RULE, PINNED):
        assert section(plan, Bars) is None
    headings = [one.heading for one in content(PINNED).evidence]
    assert headings == ["Environment", "Machine", "Plan", "Versions"]


def test_what_was_measured_in_other_ways_is_told_too():
    # The evidence of a race stands in tests/data/details_race.txt.
    assert group(BY_MODEL, "Learner")["learner"] == "none given or seen: all of the loop collects"
    assert group(OBSERVED, "Earlier runs") == {
        "pool:1": "12.3 k vector steps of 9.70 ms, 1.20 ms between two"
    }
    assert group(OBSERVED, "Plan")["recalled as"] == "0123456789abcdef"
    assert group(BY_RULE, "Hand-off and loops")["IPC of an observation"].startswith("65.4 us")


def test_what_was_not_seen_is_said_in_words():
    profile = dataclasses.replace(plans.PROFILE, episode_steps=None, memory_bytes=None)
    evidence = dataclasses.replace(BY_MODEL.evidence, profile=profile, foreign_cores=0.9)
    plan = dataclasses.replace(
        BY_MODEL, evidence=evidence, key=None, not_stored="it holds a lock", provisional="Busy."
    )
    step = group(plan, "Step and reset of one environment")
    assert step["reset time"].endswith("no episode ended")
    assert "memory" not in step["sizes"]
    assert group(plan, "Plan")["not remembered"] == "it holds a lock"
    assert group(plan, "Plan")["provisional"] == "Busy."
    assert group(plan, "Machine")["held by others"] == "0.9 cores busy; 1.5 counted on"


def test_an_observed_choice_says_what_it_stands_on():
    # Its prediction was rescaled by what runs showed, and stands beside it, marked.
    assert rows(OBSERVED)["pool:1"] == ("10.9 ms", "734", "~1.75x")
    other = Observation("sync", None, 5000, 20e-3, 1e-3)
    evidence = dataclasses.replace(OBSERVED.evidence, observations=(other,))
    plan = dataclasses.replace(OBSERVED, evidence=evidence, recalled=False)
    assert sure(plan) == "predicted from what earlier runs of other modes showed"


def test_a_run_so_far_stands_beside_what_was_planned():
    assert dict(section(RACED, Facts, Stats(1000, 8000, 12.0, 4.0, 500.0)).rows) == {
        "vector steps": "1000 of 12.0 ms (planned: 10.1 ms), 75 % of the loop",
        "throughput": "500 env steps/s, learner included",
    }
    assert section(RACED, Facts, Stats(0, 0, 0.0, 0.0, 0.0)) is None


def test_no_foreign_text_commands_a_terminal_or_breaks_a_line():
    plan = dataclasses.replace(
        RACED,
        env=EVIL,
        mode=EVIL,
        reason=EVIL,
        notes=(Note(EVIL, EVIL, loud=True),),
        candidates=(*RACED.candidates, Candidate(EVIL, skipped=EVIL)),
        versions={EVIL: EVIL},
        evidence=dataclasses.replace(RACED.evidence, observation_space=EVIL),
    )
    text = []

    def walk(value):
        if isinstance(value, str):
            text.append(value)
        elif isinstance(value, tuple):
            list(map(walk, value))
        elif dataclasses.is_dataclass(value):
            list(map(walk, (getattr(value, f.name) for f in dataclasses.fields(value))))

    walk(content(plan))
    assert sum("[2Jan31menv? of two lines" in one for one in text) >= 8
    assert all(one.isprintable() for one in text)
