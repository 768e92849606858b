"""What a run shows of itself, and a plan that turns out wrong or no longer holds."""

import dataclasses
import sys
import warnings

import pytest

from tests.plans import BY_MODEL, PINNED, exactly
from tests.records import evidence
from vecselect import run_stats
from vecselect.errors import VecselectWarning
from vecselect.measure.learner import LearnerCost
from vecselect.plan import Candidate
from vecselect.run_stats import (
    COLLECTING_STEPS,
    LOOK_STEPS,
    MIN_STEPS,
    SAMPLE_STEPS,
    SLOW_SPAN_S,
    SLOW_SPANS,
    SLOWER,
    WARM_UP_STEPS,
    WINDOWS_KEPT,
    RunWatch,
)

PLANNED_S = 1e-3
LEARNER_S = 0.5e-3

pytestmark = pytest.mark.usefixtures("no_torch")


def a_plan(**changes):
    """One that counts on vector steps of `PLANNED_S`."""
    chosen = Candidate("sync", predicted=exactly(PLANNED_S))
    changes = {"mode": "sync", "candidates": (chosen,), "key": "its key", **changes}
    return dataclasses.replace(BY_MODEL, **changes)


class Run:
    """A run on a made-up clock, which calls the watch as `AutoVectorEnv` does.

    To the watch it is the module `time`, the plan cache, and what tells of other programs too.
    """

    def __init__(self):
        self.now_s = self.process_s = 0.0
        self.other_cores, self.learner_cores, self.foreign = 0.0, 1.0, 0.0
        self.samples = 0
        self.looks, self.observed, self.forgotten = [], [], []
        self.steps = self.inside_ns = self.outside_ns = 0

    def perf_counter(self):
        return self.now_s

    def process_time(self):
        return self.process_s

    def cores(self):
        return self.foreign

    def observe(self, key, script, run):
        self.observed.append(run)

    def forget(self, key):
        self.forgotten.append(key)

    def step(self, inside_s=PLANNED_S, outside_s=LEARNER_S):
        if self.steps:
            self.now_s += outside_s
            self.process_s += outside_s * self.learner_cores
            self.outside_ns += round(outside_s * 1e9)
        if self.watch.attends:
            self.watch.step_begins()
        self.now_s += inside_s
        self.process_s += inside_s
        self.inside_ns += round(inside_s * 1e9)
        self.steps += 1
        if self.steps >= self.watch.look_at:
            self.looks.append(self.steps)
            self.watch.look(self.steps, self.inside_ns, self.outside_ns)

    def many(self, count, inside_s=PLANNED_S, outside_s=LEARNER_S):
        """Steps, and the warnings that they give."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(count):
                self.step(inside_s, outside_s)
        return [str(one.message) for one in caught if one.category is VecselectWarning]

    def windows(self, count, factor):
        """So many windows with steps of so many times the planned length."""
        inside_s = factor * PLANNED_S
        steps = int(count * SLOW_SPAN_S / (inside_s + LEARNER_S))
        return self.many(steps + 3 * LOOK_STEPS, inside_s)

    def end(self):
        self.watch.finish()
        return self.observed


@pytest.fixture
def start(monkeypatch):
    """Starts a run after a plan."""

    def begin(plan=None):
        run = Run()

        class Others:
            count = 2

            def __init__(self):
                run.samples += 1
                self.start_s = run.now_s

            def seconds(self):
                return run.other_cores * (run.now_s - self.start_s)

        monkeypatch.setattr(run_stats, "time", run)
        monkeypatch.setattr(run_stats, "OtherThreads", Others)
        monkeypatch.setattr(run_stats, "ForeignLoad", lambda: run)
        monkeypatch.setattr(run_stats, "PlanCache", lambda: run)
        run.watch = RunWatch(a_plan() if plan is None else plan)
        return run

    return begin


# What is observed


def test_a_run_shows_the_means_of_its_later_half_without_the_first_steps(start):
    run = start()
    run.many(WARM_UP_STEPS, 1.0, 1.0)
    run.many(500, outside_s=1e-5)  # an algorithm that acts at random at first
    run.many(1000, 2e-3, 3e-3)
    (seen,) = run.end()
    assert (seen.mode, seen.threads, seen.busy) == ("sync", None, False)
    assert (seen.inside_s, seen.outside_s) == pytest.approx((2e-3, 3e-3))
    assert 700 <= seen.vector_steps <= 1000


@pytest.mark.parametrize(
    ("steps", "plan", "count"),
    [
        (MIN_STEPS - 1, a_plan(), 0),
        (MIN_STEPS + LOOK_STEPS, a_plan(), 1),
        (MIN_STEPS + LOOK_STEPS, a_plan(key=None), 0),
    ],
)
def test_a_short_run_and_one_whose_plan_is_not_remembered_show_nothing(start, steps, plan, count):
    run = start(plan)
    run.many(steps)
    assert [seen.inside_s for seen in run.end()] == pytest.approx([PLANNED_S] * count)


@pytest.mark.parametrize(
    ("rollout", "update_s", "outside_s"),
    [
        pytest.param(128, 0.7, LEARNER_S, id="updates between rollouts"),
        pytest.param(2048, 0.7, LEARNER_S, id="updates between long rollouts"),
        pytest.param(1, 5e-3, 5e-3, id="updates after each step"),
    ],
)
def test_the_time_between_two_steps_holds_no_update_of_another_kind(
    start, rollout, update_s, outside_s
):
    run = start()
    for step in range(max(12 * rollout, 1000)):
        run.step(outside_s=update_s if step % rollout == 0 else LEARNER_S)
    assert run.end()[0].outside_s == pytest.approx(outside_s, rel=0.01)


def test_a_long_run_keeps_only_the_latest_windows(start):
    run = start()
    run.many((3 * WINDOWS_KEPT) * LOOK_STEPS, 9e-3)
    run.many(WINDOWS_KEPT * LOOK_STEPS)
    (seen,) = run.end()
    assert seen.inside_s == pytest.approx(PLANNED_S)
    assert seen.vector_steps <= WINDOWS_KEPT * LOOK_STEPS


@pytest.mark.parametrize("fake", [True, False])
def test_each_number_of_threads_has_its_own_means(start, torch, monkeypatch, fake):
    if not fake:  # without torch the threads are those that collecting has set
        monkeypatch.delitem(sys.modules, "torch")
    run = start(a_plan(learner_threads=1))
    run.many(500, 2e-3)
    run.watch.collecting(1)
    torch.set_num_threads(1)
    run.many(500, 1e-3)
    four, one = run.end()
    assert (four.threads, one.threads) == (4 if fake else None, 1)
    assert four.inside_s == pytest.approx(2e-3)
    assert one.inside_s == pytest.approx(1e-3, rel=0.15)  # one window holds steps of both


def test_what_other_threads_burn_during_steps_is_sampled_seldom(start):
    run = start()
    run.other_cores = 0.75
    run.many(5000)
    (seen,) = run.end()
    assert seen.other_cores == pytest.approx(0.75)
    assert 5000 / SAMPLE_STEPS / 2 < run.samples <= 5000 / SAMPLE_STEPS + 1
    assert len(run.looks) <= 5000 / LOOK_STEPS + run.samples + 10
    slow = start()
    slow.many(60, 0.5, 0.5)
    assert slow.looks == list(range(10, 61))  # every second


@pytest.mark.parametrize(("foreign", "busy"), [(0.2, False), (0.4, False), (0.6, True)])
def test_other_programs_count_where_they_hold_cores_that_the_mode_has_work_for(
    start, monkeypatch, foreign, busy
):
    assert BY_MODEL.evidence.machine.cores == 1.5
    run = start()
    run.foreign = foreign
    run.many(MIN_STEPS + LOOK_STEPS)
    with monkeypatch.context() as forked:
        forked.setattr("os.getpid", lambda: -1)
        assert run.end() == []
    assert run.end()[0].busy is busy


# A recalled plan is verified


@pytest.mark.parametrize(
    ("factor", "foreign", "wrong"),
    [
        (1.0, 0.0, False),
        (2.0, 0.0, False),
        (3.0, 0.0, True),
        (9.0, 1.0, False),  # other programs hold the cores
        (0.5, 0.0, False),
        (0.33, 0.0, True),
    ],
)
def test_the_first_steps_verify_a_recalled_plan(start, factor, foreign, wrong):
    run = start(a_plan(recalled=True))
    run.foreign = foreign
    inside_s = factor * PLANNED_S
    assert run.many(WARM_UP_STEPS - 1, inside_s) == []
    found = run.many(1, inside_s)
    assert len(found) == run.watch.wrong_recall == wrong
    assert run.forgotten == ["its key"] * wrong
    if wrong:
        assert "envs.retune()" in found[0]
        assert f"{inside_s * 1e3:.3g} ms" in found[0]
    assert run.many(500) == []


def test_a_few_long_steps_are_no_other_environment_and_the_run_is_observed_like_others(start):
    run = start(a_plan(recalled=True))
    run.other_cores = 0.5
    for number in range(WARM_UP_STEPS):
        run.step(0.1 if number % 3 == 0 else PLANNED_S)
    assert not run.watch.wrong_recall
    run.many(MIN_STEPS)
    (seen,) = run.end()
    assert (seen.inside_s, seen.other_cores) == pytest.approx((PLANNED_S, 0.5))


def test_plans_that_are_new_or_pinned_are_not_verified(start):
    for plan in (a_plan(), dataclasses.replace(PINNED, recalled=True)):
        assert start(plan).many(WARM_UP_STEPS, 50 * PLANNED_S) == []


# A loop that does not enter collecting


def test_a_loop_that_never_collects_is_told_once(start, torch):
    run = start(a_plan(learner_threads=1))
    assert run.many(COLLECTING_STEPS - LOOK_STEPS) == []
    (message,) = run.many(2 * LOOK_STEPS)
    for part in ("with envs.collecting():", "1 thread(s)", "4 threads"):
        assert part in message
    assert run.many(2 * COLLECTING_STEPS) == []
    slow = start(a_plan(learner_threads=1))
    assert slow.many(9, 1.0, 1.0) == []
    assert len(slow.many(2, 1.0, 1.0)) == 1


def test_nothing_is_said_where_the_plan_has_what_it_counts_on(start, torch):
    assert start(a_plan(learner_threads=None)).many(2 * COLLECTING_STEPS) == []
    run = start(a_plan(learner_threads=1))
    for threads in (1, None):
        run.watch.collecting(threads)
    assert run.many(2 * COLLECTING_STEPS) == []
    torch.set_num_threads(1)
    assert start(a_plan(learner_threads=1)).many(2 * COLLECTING_STEPS) == []


# Steps slower than planned


def test_long_slow_steps_give_one_warning(start):
    run = start()
    assert run.windows(2, 1.0) == []
    for _ in range(2):
        assert run.windows(SLOW_SPANS - 1, 2.0) == []
        assert run.windows(2, 1.0) == []  # a good one starts the count anew
    assert run.windows(SLOW_SPANS - 1, 2.0) == []
    (message,) = run.windows(2, 2.0)
    for part in ("Walker-v0", "2 ms", "1 ms", "30 s", "'sync'", "envs.retune()"):
        assert part in message
    assert run.windows(10, 2.0) == []


@pytest.mark.parametrize(("share", "count"), [(0.97, 0), (1.03, 1)])
def test_slow_is_what_brings_30_percent_less_than_planned(start, share, count):
    assert pytest.approx(1 / 0.7) == SLOWER
    assert len(start().windows(SLOW_SPANS + 2, share * SLOWER)) == count


def test_a_plan_known_to_be_wrong_or_without_figures_never_warns_of_slow_steps(start):
    run = start(a_plan(recalled=True))
    assert len(run.many(WARM_UP_STEPS, 3 * PLANNED_S)) == 1
    assert run.windows(SLOW_SPANS + 2, 3.0) == []
    for plan in (PINNED, dataclasses.replace(PINNED, candidates=())):
        assert start(plan).windows(10, 50.0) == []


@pytest.mark.parametrize(
    ("learner_cores", "half_share", "known", "warned"),
    [
        (0.0, 0.5, True, True),
        (0.0, 1.0, True, False),
        (2.0, 0.5, True, False),
        (0.0, 0.5, False, False),
    ],
)
def test_a_run_warns_once_where_its_learner_waits_as_long_as_steps_take(
    start, learner_cores, half_share, known, warned
):
    learner = LearnerCost("callable", PLANNED_S, half_share=half_share)
    seen = evidence(PLANNED_S / 8, 8, kinds=("sync", "pool"), cores=2.0, learners=(learner,))
    run = start(a_plan(evidence=seen) if known else a_plan(evidence=PINNED.evidence))
    run.learner_cores = learner_cores
    texts = run.many(3 * SAMPLE_STEPS + MIN_STEPS, outside_s=PLANNED_S)
    assert [text for text in texts if "buffers=2" in text] == texts
    assert len(texts) == warned
    gain = run.watch.by_buffers()
    assert gain is None if not known else (gain > 1.3) == warned
