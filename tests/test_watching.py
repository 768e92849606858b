"""What a run's figures show: the gap between steps, and a plan that no longer holds."""

import dataclasses
import itertools
import warnings

import pytest
from vecselect.watching import OBSERVE_NS, SLOWER, WINDOW_NS, WINDOWS, Watch

import vecselect
from vecselect.errors import VecselectWarning
from vecselect.plan import Candidate
from vecselect.selection.compare import Interval

PLANNED_S = 1e-3
LEARNER_S = 0.5e-3
START_NS = 5_000_000_000_000


@pytest.fixture(scope="module")
def pinned_plan():
    with vecselect.auto_make_vec("CartPole-v1", 2, mode="sync") as envs:
        return envs.plan


@pytest.fixture
def plan(pinned_plan):
    """One that counts on vector steps of `PLANNED_S`."""
    return with_loop(pinned_plan, PLANNED_S + LEARNER_S, LEARNER_S)


def with_loop(plan, loop_s, learner_s=0.0):
    chosen = Candidate("sync", measured=Interval(loop_s, 0.9 * loop_s, 1.1 * loop_s))
    return dataclasses.replace(plan, candidates=(chosen,), learner_s=learner_s)


class Run:
    """A run on a made-up clock: it looks whenever the watch wants to be looked at."""

    def __init__(self, plan, gap_s=LEARNER_S):
        self.watch = Watch(plan)
        self.gap_ns = round(gap_s * 1e9)
        self.now_ns = START_NS
        self.steps = self.inside_ns = self.outside_ns = 0
        self.looks = []

    def step(self, step_s, gap_ns=None):
        gap_ns = self.gap_ns if gap_ns is None else gap_ns
        if self.steps:
            self.now_ns += gap_ns
            self.outside_ns += gap_ns
            if self.watch.gaps_ns is not None:
                self.watch.gaps_ns.append(gap_ns)
        self.now_ns += round(step_s * 1e9)
        self.inside_ns += round(step_s * 1e9)
        self.steps += 1
        if self.now_ns >= self.watch.look_at_ns:
            self.look()

    def look(self):
        counts = (self.steps, self.inside_ns, self.outside_ns)
        self.looks.append(self.watch.look(self.now_ns, *counts))

    def window(self, step_s, steps=100):
        """A window of steps that take so long, and a look when it is over."""
        for _ in range(steps):
            self.steps += 1
            self.inside_ns += round(step_s * 1e9)
        self.now_ns = max(self.now_ns, self.watch.look_at_ns)
        self.look()


def begun(plan, step_s=PLANNED_S):
    """A run whose first seconds, in which gaps are noted, are over."""
    run = Run(plan)
    while run.watch.observed is None:
        run.step(step_s)
    return run


def warned(run, *windows_s):
    """The warnings that windows with steps of these lengths give."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step_s in windows_s:
            run.window(step_s)
    return [str(one.message) for one in caught if one.category is VecselectWarning]


def test_the_first_look_only_notes_the_time(plan):
    run = Run(plan)
    assert run.watch.look_at_ns == 0
    run.step(PLANNED_S)
    assert run.looks == [False]
    assert run.watch.observed is None
    assert run.watch.look_at_ns == run.now_ns + OBSERVE_NS


def test_after_two_seconds_the_gaps_have_been_observed(plan):
    run = begun(plan)
    assert run.looks == [False, True]
    seen = run.watch.observed
    assert seen.gap_s == pytest.approx(LEARNER_S)
    assert seen.vector_steps == run.steps
    assert seen.inside_s == pytest.approx(run.steps * PLANNED_S)
    assert seen.outside_s == pytest.approx((run.steps - 1) * LEARNER_S)
    assert 2.0 <= seen.inside_s + seen.outside_s < 2.01
    assert run.watch.gaps_ns is None
    assert run.watch.look_at_ns == run.now_ns + WINDOW_NS


def test_a_few_long_gaps_do_not_move_what_was_observed(plan):
    run = Run(plan)
    for number in itertools.count(1):
        run.step(PLANNED_S, 100_000_000 if number % 10 == 0 else None)
        if run.watch.observed is not None:
            break
    assert run.watch.observed.gap_s == pytest.approx(LEARNER_S)
    assert run.watch.observed.outside_s > 1.0


def test_it_is_observed_once(plan):
    run = begun(plan)
    seen = run.watch.observed
    for _ in range(3):
        run.window(PLANNED_S)
    assert run.looks == [False, True, False, False, False]
    assert run.watch.observed is seen


def test_without_a_gap_nothing_is_observed(plan):
    run = Run(plan)
    run.step(PLANNED_S)
    run.window(PLANNED_S, steps=0)
    assert run.looks == [False, False]
    assert run.watch.observed is None


def test_steps_as_planned_give_no_warning(plan):
    assert warned(begun(plan), *[PLANNED_S] * 10) == []
    assert warned(begun(plan), *[0.1 * PLANNED_S] * 10) == []


def test_the_gap_does_not_count_as_slow(plan):
    run = begun(plan)
    run.outside_ns += 10**15
    assert warned(run, *[PLANNED_S] * 5) == []


def test_three_slow_windows_in_a_row_give_one_warning(plan):
    run = begun(plan)
    assert warned(run, *[2 * PLANNED_S] * (WINDOWS - 1)) == []
    (message,) = warned(run, 2 * PLANNED_S)
    assert "CartPole-v1" in message
    assert "2 ms" in message
    assert "1 ms" in message
    assert "30 s" in message
    assert "'sync'" in message
    assert warned(run, *[2 * PLANNED_S] * 10) == []


def test_one_good_window_starts_the_count_anew(plan):
    slow, good = 2 * PLANNED_S, PLANNED_S
    run = begun(plan)
    assert warned(run, slow, good, slow, slow, good, slow, slow) == []
    assert len(warned(run, slow)) == 1


def test_the_warning_comes_once_in_a_run(plan):
    slow = [2 * PLANNED_S] * WINDOWS
    run = begun(plan)
    assert len(warned(run, *slow, PLANNED_S, *slow, PLANNED_S, *slow)) == 1


@pytest.mark.parametrize(("share", "count"), [(0.98, 0), (1.02, 1)])
def test_slow_is_what_brings_30_percent_less_than_planned(plan, share, count):
    assert pytest.approx(1 / 0.7) == SLOWER
    assert len(warned(begun(plan), *[share * SLOWER * PLANNED_S] * 5)) == count


def test_slow_first_seconds_do_not_count(plan):
    run = begun(plan, step_s=10 * PLANNED_S)
    assert warned(run, PLANNED_S, PLANNED_S, PLANNED_S) == []
    assert warned(run, *[2 * PLANNED_S] * (WINDOWS - 1)) == []


def test_a_window_without_steps_says_nothing(plan):
    run = begun(plan)
    assert warned(run, 2 * PLANNED_S, 2 * PLANNED_S) == []
    run.window(PLANNED_S, steps=0)
    assert len(warned(run, 2 * PLANNED_S)) == 1


def test_a_plan_without_figures_never_warns(pinned_plan):
    assert pinned_plan.chosen.loop_s is None
    assert warned(begun(pinned_plan), *[1.0] * 10) == []
    nothing = dataclasses.replace(pinned_plan, candidates=())
    assert warned(begun(nothing), *[1.0] * 10) == []


def test_a_plan_that_counts_on_no_time_at_all_never_warns(pinned_plan):
    plan = with_loop(pinned_plan, 1e-3, learner_s=2e-3)
    assert warned(begun(plan), *[1.0] * 10) == []


def test_a_prediction_counts_where_nothing_was_measured(pinned_plan):
    predicted = Candidate("sync", predicted=Interval(PLANNED_S, PLANNED_S, PLANNED_S))
    plan = dataclasses.replace(pinned_plan, candidates=(predicted,), learner_s=0.0)
    assert warned(begun(plan), *[1.2 * PLANNED_S] * 5) == []
    assert len(warned(begun(plan), *[2 * PLANNED_S] * 5)) == 1
