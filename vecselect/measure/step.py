"""How long one sub-environment takes to step and to reset."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import pickle
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from vecselect.errors import ProfileError, RequestError
from vecselect.learner_threads import set_library_threads
from vecselect.measure.clock import SPINS, Clock, OtherThreads
from vecselect.process.generators import untouched_generators
from vecselect.request import read_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import gymnasium as gym

    from vecselect.factory import EnvFn

DRAWING_S = 4e-3
MOST_ACTIONS, FEWEST_ACTIONS = 256, 16
"""Actions are drawn before timing, for so many seconds or up to so many; the steps cycle through
them. Drawing one costs 5-30 us, more than a step of CartPole, so it must not happen inside what is
timed."""

DEFAULT_BUDGET_S = 1.5
LOST_CORE_NS = 10_000
"""A step that took so much longer than it computed, and never gave its core up by itself, has lost
it to another program. That is no property of the environment, and one such step of 30 ms in twenty
would turn the choice around."""

OWN_THREADS = 1.25
"""A sub-environment that keeps more cores busy than this computes in threads of its own."""

THREADED_STEP_S = 2e-4
"""Shorter steps gain nothing by the threads of a numerical library."""

THREADED_GAIN = 0.8
"""Steps that take more than this share of their time in several threads do not use them."""

THREADED_STEPS, THREADED_S = 8, 4e-3
"""Steps, or seconds of them, that are taken to see whether a step computes in such threads."""

IDLE_LOOK_S, IDLE_LIMIT_S = 2e-3, 0.06
"""OpenBLAS starts its threads when it is told their number, and each spins for some 25 ms before it
sleeps. Hand-offs and the learner, which are measured next, would find its core taken."""


@dataclass(frozen=True)
class Extent:
    """How long an environment is stepped for a profile: so many steps, episodes, seconds at least.

    So many steps after the first one, to warm up, are not timed.
    """

    steps: int
    episodes: int
    span_s: float
    warm_up_steps: int


THOROUGH = Extent(steps=200, episodes=2, span_s=0.25, warm_up_steps=20)
"""What `profile_step` and `effort="rule"` take."""

BRIEF = Extent(steps=8, episodes=0, span_s=0.03, warm_up_steps=3)
"""What planning takes: the mean wrong by 1.4x costs 0.1 % of the throughput."""


@dataclass(frozen=True)
class StepProfile:
    """What stepping one sub-environment costs.

    Attributes:
        steps: Steps timed, after the first one and the warm-up.
        step_time_s: Mean seconds of one `step()`, resets not included. Here and below, time in
            which another program held the core does not count, where the system tells it.
        step_time_median_s: Median of the same.
        step_time_p99_s: 99th percentile of the same.
        off_cpu_fraction: Share of the step's wall time in which this thread did not compute
            (sleeping, sockets, child processes), from 0 to 1.
        cores_used: CPU time of all threads of the process over wall time, while stepping: well
            above 1 where the environment computes in several threads.
        reset_time_s: Mean seconds of one `reset()`, the first one not included.
        reset_share: Share of the time of steps and resets that went into resets, from 0 to 1.
        episode_steps: Mean length of the episodes that ended, under random actions; None if none
            ended.
        observation_bytes: Size of one observation.
        observation_arrays: The arrays that it consists of.
        info_keys: Keys of the info of the last step.
        memory_bytes: Growth of the process by building and running the environment, its imports
            included; None where it was not built for measuring.
        plain_steps_per_s: What `gymnasium.utils.performance.benchmark_step` would print: steps per
            second of a plain loop that draws an action, steps, and resets when an episode ends.
        step_spread_s: Standard deviation of the step times.
        slowest_step_s: Seconds of the slowest step.
        gil_free: Whether threads can step side by side, as on a free-threaded Python.
    """

    steps: int
    step_time_s: float
    step_time_median_s: float
    step_time_p99_s: float
    off_cpu_fraction: float
    cores_used: float
    reset_time_s: float
    reset_share: float
    episode_steps: float | None
    observation_bytes: int
    memory_bytes: int | None
    plain_steps_per_s: float
    step_spread_s: float
    slowest_step_s: float
    gil_free: bool = False
    observation_arrays: int = 1
    info_keys: int = 0

    @property
    def mean_step_with_resets_s(self) -> float:
        """Mean seconds per step, each step carrying its share of the resets."""
        return self.step_time_s / (1.0 - self.reset_share)

    @property
    def threaded(self) -> bool:
        """Whether a step computes in threads of its own."""
        return self.cores_used > OWN_THREADS

    def scaled(self, factor: float) -> StepProfile:
        """The same profile with steps and resets so many times as long."""
        return dataclasses.replace(
            self,
            step_time_s=self.step_time_s * factor,
            reset_time_s=self.reset_time_s * factor,
            step_spread_s=self.step_spread_s * factor,
            slowest_step_s=self.slowest_step_s * factor,
        )


def profile_step(
    env: gym.Env | str | EnvSpec | EnvFn, *, budget_s: float = DEFAULT_BUDGET_S, seed: int = 0
) -> StepProfile:
    """Times single calls of `env.step` and `env.reset` under random actions.

    In the manner of Gymnasium's `benchmark_step`, but with the actions drawn before the clock
    starts, resets timed apart, the first step and reset kept apart, and monotonic clocks. It takes
    200 steps, 2 episodes and 0.25 s at least, unless `budget_s` ends first; one step is always
    timed.

    Args:
        env: One environment. It is reset and stepped here, and left open. The process's global
            random generators are left as they were; the environment's own are not. Or an id, a spec
            or a callable, of which one is built here and closed.
        budget_s: Seconds after which no further step is begun.
        seed: Seed of the first reset and of the actions.

    Returns:
        The profile, times in seconds.

    Raises:
        ProfileError: If the environment raises; its exception is chained.
        RequestError: If it is no environment, and nothing that builds one.
        Exception: What building one raises.
    """
    profiled: Any = env
    with contextlib.ExitStack() as stack:
        if isinstance(env, type) or not (hasattr(env, "step") and hasattr(env, "action_space")):
            profiled = stack.enter_context(contextlib.closing(_build(env)))
        stack.enter_context(untouched_generators())
        return Profiling(profiled).run(budget_s, THOROUGH, seed)


def _build(env: Any) -> gym.Env:
    """One environment of an id, a spec or a callable."""
    if not isinstance(env, (str, EnvSpec)) and not callable(env):
        raise RequestError(
            f"env is {env!r}; give one environment, an id such as 'Pendulum-v1', an EnvSpec, or a "
            "callable that returns an environment."
        )
    return read_request(env, 1).env_fns[0]()


@dataclass
class _Times:
    """What stepping took, in nanoseconds, and the lengths of the episodes that ended, in steps."""

    steps_ns: list[int] = field(default_factory=list)
    resets_ns: list[int] = field(default_factory=list)
    episodes: list[int] = field(default_factory=list)
    off_cpu_ns: int = 0
    process_ns: int = 0
    elapsed_ns: int = 0


class Profiling:
    """One environment being profiled; `observation` is the one that it returned last.

    Before each call of the environment, outside of what is timed, `on_call` is told its name; that
    lets a watcher see where an environment hangs.
    """

    def __init__(
        self,
        env: gym.Env,
        on_call: Callable[[str], None] = lambda phase: None,
        clock: Clock | None = None,
    ) -> None:
        self.env = env
        self.on_call = on_call
        self.clock = clock = clock or Clock()
        self.wall_overhead_ns: int = clock.wall_overhead_ns()
        self.cpu_overhead_ns: int = clock.cpu_overhead_ns()
        self.episode_steps: int = 0
        self.ended: bool = False
        self.observation: Any = None
        self.info: Any = {}

    def draw(self, seed: int) -> tuple[list[Any], float]:
        """Actions to cycle through, and the seconds that drawing one takes."""
        # A copy, so that the environment's own action space draws what it would have drawn.
        space = copy.deepcopy(self.env.action_space)
        space.seed(seed)
        actions = [space.sample()]
        start_ns, drawn_ns = self.clock.wall_ns(), 0
        while len(actions) < FEWEST_ACTIONS or (
            len(actions) < MOST_ACTIONS and drawn_ns < DRAWING_S * 1e9
        ):
            actions.append(space.sample())
            drawn_ns = self.clock.wall_ns() - start_ns
        each_ns = drawn_ns / (len(actions) - 1) - self.wall_overhead_ns
        return actions, max(each_ns, 0.0) * 1e-9

    def run(self, budget_s: float, extent: Extent, seed: int = 0) -> StepProfile:
        """Resets and steps for as long as `extent` says, or as `budget_s` allows."""
        actions, draw_s = self.draw(seed)
        self.reset(seed=seed)
        self.action: Callable[[], Any] = itertools.cycle(actions).__next__
        self.step(self.action())
        limit_ns = self.clock.wall_ns() + int(budget_s * 1e9)
        for _ in range(extent.warm_up_steps):
            if self.ended:
                self.reset()
            if self.clock.wall_ns() >= limit_ns:
                break
            self.step(self.action())
        found = self._timed(extent, limit_ns)
        reset_share = sum(found.resets_ns) / max(sum(found.steps_ns) + sum(found.resets_ns), 1)
        resets_ns = found.resets_ns or [self.reset()]
        times_s = np.array(found.steps_ns) * 1e-9
        step_time_s = float(times_s.mean())
        median, p99 = np.percentile(times_s, [50, 99]).tolist()
        # The loop of `benchmark_step` also reads the clock once in each step.
        per_step_s = step_time_s / (1.0 - reset_share) + draw_s + self.wall_overhead_ns * 1e-9
        return StepProfile(
            steps=len(found.steps_ns),
            step_time_s=step_time_s,
            step_time_median_s=median,
            step_time_p99_s=p99,
            off_cpu_fraction=min(found.off_cpu_ns / sum(found.steps_ns), 1.0),
            cores_used=found.process_ns / found.elapsed_ns,
            reset_time_s=float(np.mean(resets_ns)) * 1e-9,
            reset_share=reset_share,
            episode_steps=float(np.mean(found.episodes)) if found.episodes else None,
            observation_bytes=size_bytes(self.observation),
            memory_bytes=None,
            plain_steps_per_s=1.0 / max(per_step_s, 1e-9),
            step_spread_s=float(times_s.std()),
            slowest_step_s=float(times_s.max()),
            observation_arrays=sum(1 for _ in leaves(self.observation)),
            info_keys=len(self.info),
            gil_free=not getattr(sys, "_is_gil_enabled", lambda: True)(),
        )

    def _timed(self, extent: Extent, limit_ns: int) -> _Times:
        """Steps, one at least, until there are enough, or until `limit_ns` on the clock."""
        wall_ns, action, found = self.clock.wall_ns, self.action, _Times()
        start_ns = wall_ns()
        start_process_ns = self.clock.process_ns()
        while True:
            if self.ended:
                found.episodes.append(self.episode_steps)
                found.resets_ns.append(self.reset())
            switches = self.clock.switches()
            wall, cpu = self.step(action())
            if switches is None or self.clock.switches() != switches:
                found.off_cpu_ns += max(wall - cpu, 0)
            elif wall - cpu > LOST_CORE_NS:
                wall = cpu
            found.steps_ns.append(max(wall, 1))
            now_ns = wall_ns()
            enough = len(found.steps_ns) >= extent.steps and len(found.episodes) >= extent.episodes
            if (enough and now_ns - start_ns >= extent.span_s * 1e9) or now_ns >= limit_ns:
                break
        found.process_ns = self.clock.process_ns() - start_process_ns
        found.elapsed_ns = max(wall_ns() - start_ns, 1)
        return found

    def with_threads(self, profile: StepProfile, threads: int) -> StepProfile:
        """The profile that `run` has returned, as it is where numerical libraries have threads.

        Where these do not shorten a step, the profile stays.
        """
        if threads < 2 or profile.step_time_s < THREADED_STEP_S:
            return profile
        walls: list[int] = []
        cpu_ns = steps = 0
        set_library_threads(threads)
        try:
            while steps <= THREADED_STEPS and sum(walls) < THREADED_S * 1e9:
                if self.ended:
                    self.reset()
                before_ns = self.clock.process_ns()
                step_ns, _ = self.step(self.action())
                if steps:  # the first one starts the threads
                    walls.append(step_ns)
                    cpu_ns += self.clock.process_ns() - before_ns
                steps += 1
        finally:
            set_library_threads(1)
            _wait_for_idle_threads()
        # Threads that were just started spin for a while: their CPU time alone says nothing.
        factor = float(np.median(walls)) * 1e-9 / profile.step_time_median_s
        if cpu_ns <= OWN_THREADS * sum(walls) or factor > THREADED_GAIN:
            return profile
        # What is twice as fast keeps two cores busy, whatever a clock of few ticks says.
        cores_used = max(cpu_ns / sum(walls), 1.0 / factor)
        return dataclasses.replace(profile.scaled(factor), cores_used=cores_used)

    def step(self, action: Any) -> tuple[int, int]:
        """Nanoseconds of wall and CPU time of one step."""
        wall_ns, cpu_ns = self.clock.wall_ns, self.clock.cpu_ns
        self.on_call("step")
        step = self.env.step
        try:
            cpu = cpu_ns()
            wall = wall_ns()
            self.observation, _, terminated, truncated, self.info = step(action)
            wall = wall_ns() - wall
            cpu = cpu_ns() - cpu
        except Exception as error:
            raise _failure("step", error) from error
        self.episode_steps += 1
        self.ended = bool(terminated or truncated)
        return max(wall - self.wall_overhead_ns, 1), max(cpu - self.cpu_overhead_ns, 0)

    def reset(self, seed: int | None = None) -> int:
        """Nanoseconds of one reset."""
        self.on_call("reset")
        try:
            wall = self.clock.wall_ns()
            self.observation, _ = self.env.reset(seed=seed)
            wall = self.clock.wall_ns() - wall
        except Exception as error:
            raise _failure("reset", error) from error
        self.episode_steps, self.ended = 0, False
        return max(wall - self.wall_overhead_ns, 1)


def _wait_for_idle_threads() -> None:
    """Sleeps until other threads of this process do, for `IDLE_LIMIT_S` at the most."""
    until_s = time.perf_counter() + IDLE_LIMIT_S
    while (start_s := time.perf_counter()) < until_s:
        others = OtherThreads()
        time.sleep(IDLE_LOOK_S)
        if others.seconds() < SPINS * (time.perf_counter() - start_s):
            return


def _failure(phase: str, error: Exception) -> ProfileError:
    text = (
        f"The environment raised {type(error).__name__} in {phase}() while it was being measured: "
        f"{error}"
    )
    if phase == "step":
        end = "" if text.endswith((".", "!", "?")) else "."
        text += (
            f'{end} Measuring plays random actions; to go without it, pin a mode: mode="pool:1".'
        )
    return ProfileError(text)


def size_bytes(value: Any) -> int:
    """Bytes of an observation or action: of its arrays, or pickled what is none."""
    return sum(
        one.nbytes if isinstance(one, (np.ndarray, np.generic)) else len(pickle.dumps(one))
        for one in leaves(value)
    )


def leaves(value: Any) -> Iterator[Any]:
    """What an observation or action consists of, out of its dicts and tuples."""
    if isinstance(value, dict) or type(value) is tuple:
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value
