"""Profiling one environment, mostly on a clock that only the environment moves."""

import contextlib
import dataclasses
import pickle
import random
import time
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.fake_torch import FakeLibrary
from vecselect import ProfileError, RequestError, profile_step
from vecselect.measure import step
from vecselect.measure.clock import Clock
from vecselect.measure.step import BRIEF, THOROUGH, Profiling, size_bytes

UNTIMED = 1 + THOROUGH.warm_up_steps
"""The first step and the warm-up."""


class FakeTime:
    """Time that passes only when told to; `reading_ns` passes whenever a clock is read."""

    def __init__(self, reading_ns=0):
        self.wall_ns = self.cpu_ns = 0
        self.reading_ns = reading_ns
        self.switches = 0
        self.clock = Clock(
            lambda: self.read("wall_ns"),
            lambda: self.read("cpu_ns"),
            switches=lambda: self.switches,
        )

    def __deepcopy__(self, memo):
        return self

    def compute(self, ns):
        self.wall_ns += ns
        self.cpu_ns += ns

    def wait(self, ns):
        self.wall_ns += ns
        self.switches += ns > 0

    def lose_the_core(self, ns):
        self.wall_ns += ns

    def read(self, name):
        now = getattr(self, name)
        self.compute(self.reading_ns)
        return now


class FakeEnv(gym.Env):
    """Takes as long as it is told; `step_ns` may be a function of the step's number, from 1."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, fake, step_ns=2_000_000, reset_ns=0, episode=10, wait_ns=0):
        self.fake = fake
        self.step_ns = step_ns if callable(step_ns) else lambda number: step_ns
        self.reset_ns = reset_ns if callable(reset_ns) else lambda number: reset_ns
        self.episode = episode
        self.wait_ns = wait_ns if callable(wait_ns) else lambda number: wait_ns
        self.action_space = spaces.Discrete(5)
        self.steps = self.resets = self.length = 0
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        self.length = 0
        self.seeds.append(seed)
        self.fake.compute(self.reset_ns(self.resets))
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.length += 1
        self.fake.compute(self.step_ns(self.steps))
        self.fake.wait(self.wait_ns(self.steps))
        return np.zeros(3, np.float32), 0.0, self.length == self.episode, False, {}

    def close(self):
        raise AssertionError("profiling leaves the environment open")


def profiled(env, budget_s=100.0, extent=THOROUGH, seed=0, on_call=lambda phase: None):
    profiling = Profiling(env, on_call, env.fake.clock)
    return profiling.run(budget_s, extent, seed)


MS_NS = 1_000_000
FIRST_NS = {1: 70 * MS_NS} | dict.fromkeys(range(2, UNTIMED + 1), 50 * MS_NS)
FOUND = {
    "mean and percentiles of the timed steps": (
        {"step_ns": lambda number: 100_000 * ((number - UNTIMED - 1) % 100 + 1)},
        {"steps": 200, "step_time_s": 50.5e-4, "step_time_median_s": 50.5e-4}
        | {"step_time_p99_s": 99.01e-4, "slowest_step_s": 100e-4},
    ),
    "resets apart from steps": (
        {"step_ns": MS_NS, "reset_ns": 5 * MS_NS, "episode": 10},
        {"episode_steps": 10.0, "step_time_s": 1e-3, "reset_time_s": 5e-3, "steps": 200}
        | {"reset_share": 1 / 3, "mean_step_with_resets_s": 1.5e-3},
    ),
    "first reset, first step and warm-up apart": (
        {
            "step_ns": lambda number: FIRST_NS.get(number, 2 * MS_NS),
            "reset_ns": lambda number: 500 * MS_NS if number == 1 else 3 * MS_NS,
        },
        {"slowest_step_s": 2e-3} | {"step_time_s": 2e-3, "reset_time_s": 3e-3},
    ),
    "no episode that ends": (
        {"step_ns": MS_NS, "reset_ns": 6 * MS_NS, "episode": None},
        {"episode_steps": None, "reset_share": 0.0, "reset_time_s": 6e-3},
    ),
    "computing": ({}, {"step_time_s": 2e-3, "off_cpu_fraction": 0.0}),
    "waiting too": (
        {"step_ns": MS_NS, "wait_ns": 3 * MS_NS},
        {"step_time_s": 4e-3, "off_cpu_fraction": 0.75},
    ),
    "waiting alone": (
        {"step_ns": 0, "wait_ns": 2 * MS_NS},
        {"step_time_s": 2e-3, "off_cpu_fraction": 1.0},
    ),
    "clocks that take long to read": (
        {"fake": FakeTime(reading_ns=1_000), "reset_ns": 4_000},
        {"step_time_s": 2e-3, "reset_time_s": 4e-6, "off_cpu_fraction": 0.0},
    ),
    "waits in some of the steps": (
        {"step_ns": MS_NS, "wait_ns": lambda number: 0 if number % 2 else 3 * MS_NS},
        {"step_time_s": 2.5e-3, "off_cpu_fraction": 3 / 5},
    ),
}


@pytest.mark.parametrize(("how", "expected"), FOUND.values(), ids=FOUND)
def test_what_a_profile_finds(how, expected):
    profile = profiled(FakeEnv(**{"fake": FakeTime(), **how}), budget_s=5.0)
    for name, value in expected.items():
        found = getattr(profile, name)
        assert found == (value if value is None else pytest.approx(value, rel=1e-6)), name


@pytest.mark.parametrize(
    ("how", "budget_s", "steps"),
    [
        pytest.param({"step_ns": 10 * MS_NS}, 0.5, 50 - 20, id="the budget ends it first"),
        pytest.param({"step_ns": 10 * MS_NS}, 0.0, 1, id="one step is timed all the same"),
        pytest.param({"step_ns": 50 * MS_NS}, 100.0, 200, id="200 steps"),
        pytest.param({"step_ns": MS_NS // 2}, 100.0, 500, id="0.25 s"),
        pytest.param({"episode": 300}, 100.0, 2 * 300 + 1 - UNTIMED, id="two episodes"),
    ],
)
def test_it_goes_on_until_all_minima_are_reached_or_the_budget_is_spent(how, budget_s, steps):
    env = FakeEnv(FakeTime(), **how)
    profile = profiled(env, budget_s=budget_s)
    assert profile.steps == steps
    assert profile.step_time_s == pytest.approx(env.step_ns(1) * 1e-9)


@pytest.mark.parametrize(("step_ns", "steps"), [(500_000, 60), (4_000_000, 8), (10_000_000, 8)])
def test_a_brief_profile_takes_30_ms_and_8_steps(step_ns, steps):
    env = FakeEnv(FakeTime(), step_ns=step_ns, episode=10_000)
    assert profiled(env, extent=BRIEF).steps == steps
    assert env.steps == 1 + 3 + steps
    assert env.resets == 2  # the first, and one that is timed


class SharingEnv(FakeEnv):
    """Shares the work of a step between the threads of a library, as far as there are two."""

    def step(self, action):
        threads = min(FakeLibrary.threads, 2)
        self.fake.process_ns += self.step_ns(1)
        step_ns, self.step_ns = self.step_ns, lambda number: step_ns(number) // threads
        try:
            return super().step(action)
        finally:
            self.step_ns = step_ns


@pytest.mark.parametrize(
    ("step_ns", "threads", "counted", "cores_used"),
    [
        (2 * MS_NS, 2, 1.0, 2.0),
        (2 * MS_NS, 2, 0.7, 2.0),  # half the time takes two cores, though fewer are counted
        (2 * MS_NS, 8, 1.0, 2.0),
        (2 * MS_NS, 1, 1.0, 1.0),
        (100_000, 2, 1.0, 1.0),
    ],
)
def test_what_a_library_computes_in_threads_is_seen_with_the_caller_s(
    libraries, step_ns, threads, counted, cores_used
):
    FakeLibrary.set(1)
    fake = FakeTime()
    fake.process_ns = 0
    clock = dataclasses.replace(fake.clock, process_ns=lambda: int(fake.process_ns * counted))
    profiling = Profiling(SharingEnv(fake, step_ns), clock=clock)
    alone = profiling.run(100.0, BRIEF)
    found = profiling.with_threads(alone, threads)
    assert found.step_time_s == pytest.approx(step_ns * 1e-9 / cores_used)
    assert found.cores_used == pytest.approx(cores_used, rel=0.01)
    assert found.threaded == (cores_used > 1)
    assert FakeLibrary.threads == 1


def test_threads_that_spin_and_shorten_no_step_are_not_its_own(libraries):
    FakeLibrary.set(1)
    fake = FakeTime()
    # Beside each nanosecond of the environment's a thread spins for another one.
    clock = dataclasses.replace(fake.clock, process_ns=lambda: 2 * fake.cpu_ns)
    profiling = Profiling(FakeEnv(fake), clock=clock)
    alone = profiling.run(100.0, BRIEF)
    assert profiling.with_threads(alone, 2) == alone


@pytest.mark.parametrize("spin_s", [0.0, 0.025, 1.0])
def test_what_is_measured_next_waits_until_a_library_s_threads_sleep(
    libraries, monkeypatch, spin_s
):
    now = [0.0]

    class Others:
        def __init__(self):
            self.start_s = min(now[0], spin_s)

        def seconds(self):
            return min(now[0], spin_s) - self.start_s

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(
        step, "time", types.SimpleNamespace(perf_counter=lambda: now[0], sleep=sleep)
    )
    monkeypatch.setattr(step, "OtherThreads", Others)
    FakeLibrary.set(1)
    fake = FakeTime()
    profiling = Profiling(FakeEnv(fake), clock=fake.clock)
    profiling.with_threads(profiling.run(100.0, BRIEF), 2)
    least_s = min(spin_s, step.IDLE_LIMIT_S)
    assert least_s <= now[0] <= least_s + 2 * step.IDLE_LOOK_S


def test_a_scaled_profile_has_all_its_times_longer():
    profile = profiled(FakeEnv(FakeTime(), step_ns=lambda number: 1000 * (number % 7 + 1)))
    long = profile.scaled(3.0)
    for name in ("step_time_s", "reset_time_s", "step_spread_s", "slowest_step_s"):
        assert getattr(long, name) == pytest.approx(3 * getattr(profile, name))
    assert long.reset_share == profile.reset_share


def test_bytes_are_those_of_the_arrays_or_of_the_pickle():
    for value, size in (
        (np.zeros((2, 3), np.float32), 24),
        (np.int64(4), 8),
        ({"a": np.zeros(3, np.uint8), "b": {"c": np.zeros(2)}}, 19),
        ((np.int64(1), np.zeros(4, np.int32)), 24),
        ("a text", len(pickle.dumps("a text"))),
    ):
        assert size_bytes(value) == size
    assert profiled(FakeEnv(FakeTime())).observation_bytes == 12


@pytest.mark.parametrize(("reset_ns", "with_resets_s"), [(0, 1e-3), (5_000_000, 1.5e-3)])
def test_drawing_actions_is_in_plain_steps_per_s_but_not_in_what_is_timed(reset_ns, with_resets_s):
    class SlowlyDrawn(spaces.Discrete):
        def sample(self, *args, **kwargs):
            fake.compute(20_000)
            return super().sample(*args, **kwargs)

    fake = FakeTime(reading_ns=1_000)
    env = FakeEnv(fake, MS_NS, reset_ns, episode=10)
    env.action_space = SlowlyDrawn(5)
    profile = profiled(env)
    assert profile.step_time_p99_s == pytest.approx(1e-3)
    assert profile.mean_step_with_resets_s == pytest.approx(with_resets_s)
    loop_s = with_resets_s + 20e-6 + 1e-6
    assert profile.plain_steps_per_s == pytest.approx(1 / loop_s, rel=1e-4)


def test_the_seed_decides_the_first_reset_and_the_actions_and_not_the_space_s_own():
    class Recording(FakeEnv):
        def step(self, action):
            actions.append(int(action))
            return super().step(action)

    runs = []
    for seed in (7, 7, 8):
        actions = []
        env, untouched = Recording(FakeTime()), spaces.Discrete(5, seed=3)
        env.action_space.seed(3)
        profiled(env, seed=seed)
        drawn = [env.action_space.sample() for _ in range(20)]
        assert drawn == [untouched.sample() for _ in range(20)]
        assert env.seeds[0] == seed
        assert set(env.seeds[1:]) == {None}
        runs.append(actions)
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 5


class Drawing(FakeEnv):
    """Draws from the global generators, and may fail after that."""

    fails = False

    def step(self, action):
        random.random()
        np.random.random()
        if self.fails:
            raise ZeroDivisionError("in the middle")
        return super().step(action)


def global_states():
    return random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]


@pytest.mark.parametrize("fails", [False, True])
def test_global_generators_are_restored(fails):
    env = Drawing(FakeTime())
    env.fails = fails
    before = global_states()
    with pytest.raises(ProfileError) if fails else contextlib.nullcontext():
        profile_step(env, budget_s=0.0)
    assert global_states() == before
    env.fails = False
    env.step(0)
    assert global_states() != before


@pytest.mark.parametrize("phase", ["reset", "step"])
def test_an_exception_of_the_environment_is_chained(phase):
    original = ZeroDivisionError("the wheel came off")

    def failing(*args, **kwargs):
        raise original

    env = FakeEnv(FakeTime())
    setattr(env, phase, failing)
    with pytest.raises(ProfileError, match=rf"ZeroDivisionError in {phase}\(\).*wheel") as caught:
        profiled(env)
    assert caught.value.__cause__ is original
    assert ('pin a mode: mode="pool:1".' in str(caught.value)) == (phase == "step")


def test_on_call_comes_before_every_call_outside_of_what_is_timed():
    env = FakeEnv(FakeTime(), step_ns=2_000_000, reset_ns=3_000_000)
    announced = []

    def on_call(phase):
        assert (env.resets, env.steps) == (announced.count("reset"), announced.count("step"))
        announced.append(phase)
        env.fake.compute(1_000_000)

    profile = profiled(env, on_call=on_call)
    assert announced[:3] == ["reset", "step", "step"]
    assert (env.resets, env.steps) == (announced.count("reset"), announced.count("step"))
    assert profile.step_time_s == pytest.approx(2e-3)
    assert profile.reset_time_s == pytest.approx(3e-3)


class Closing(gym.Env):
    """Counts those that are open."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    open = 0

    def __init__(self):
        Closing.open += 1

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def close(self):
        Closing.open -= 1


def test_of_what_builds_an_environment_one_is_built_and_closed():
    spec = gym.envs.registration.EnvSpec("Closing-v0", Closing)
    for env in (Closing, lambda: Closing(), spec):
        assert profile_step(env, budget_s=0.01).steps >= 1
        assert Closing.open == 0
    assert profile_step("Pendulum-v1", budget_s=0.01).observation_bytes == 12
    for env in (5, None, [Closing]):
        with pytest.raises(RequestError, match="env is .*; give one environment, an id such as"):
            profile_step(env)


@pytest.mark.parametrize("lost_ns", [300, 30_000_000])
def test_a_core_lost_to_others_is_no_waiting_and_no_time_of_the_step(lost_ns):
    class Robbed(FakeEnv):
        def step(self, action):
            if self.steps % 20 == 0:
                self.fake.lose_the_core(lost_ns)
            return super().step(action)

    profile = profiled(Robbed(FakeTime(), step_ns=1_000_000))
    assert profile.off_cpu_fraction == 0.0
    assert profile.step_time_s == pytest.approx(1e-3, rel=1e-3)
    assert profile.slowest_step_s == pytest.approx(1e-3, rel=1e-3)
    assert profile.step_spread_s < 1e-6


def test_where_the_system_tells_nothing_of_switches_all_that_passes_is_the_step_s():
    env = FakeEnv(FakeTime(), step_ns=1_000_000, wait_ns=1_000_000)
    env.fake.clock = dataclasses.replace(env.fake.clock, switches=lambda: None)
    profile = profiled(env)
    assert profile.step_time_s == pytest.approx(2e-3)
    assert profile.off_cpu_fraction == pytest.approx(0.5)


class Real(FakeEnv):
    """Computes or sleeps for two real milliseconds per step."""

    def __init__(self, sleeps):
        super().__init__(FakeTime())
        self.sleeps = sleeps

    def step(self, action):
        end_s = time.thread_time() + 2e-3
        if self.sleeps:
            time.sleep(2e-3)
        else:
            while time.thread_time() < end_s:
                pass
        return super().step(action)


@pytest.mark.parametrize("sleeps", [False, True])
def test_real_computing_and_sleeping_are_measured(sleeps):
    profile = profile_step(Real(sleeps), budget_s=0.4)
    assert 1.5e-3 < profile.step_time_median_s < 20e-3
    assert profile.off_cpu_fraction > 0.5 or not sleeps
