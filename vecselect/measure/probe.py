"""Measuring an environment in a process of its own, where nothing it does can harm the caller.

The environment is built, stepped and closed in a child process: a crash ends the child, a hang
ends with the child being killed, and global state of the caller (random generators, GL contexts,
signal handlers) is never touched.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.child import ChildEnded, child_at_work, tell, tell_failure, tell_not_built
from vecselect.drawing import may_draw
from vecselect.errors import ProfileError, RequestError, same_instance
from vecselect.machine import read_machine, resident_bytes
from vecselect.measure.footprint import held, read_footprint
from vecselect.measure.lock import free_share
from vecselect.measure.step import StepProfile, profile_step
from vecselect.warned import Shown, learn, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext

    import gymnasium as gym

    from vecselect.child import Child

STALL_LIMIT_S = 30.0
"""Seconds a single call of the environment may take before it counts as never returning."""

CONSTRUCT_LIMIT_S = 120.0
"""The same for building it, which may load assets or start a simulator."""

WATCH_PERIOD_S = 0.1
TRANSITIONS = 32
TRANSITIONS_LIMIT_S = 0.1
LARGE_BYTES = 1 << 16
"""Of observations this large only four are brought back."""

LOCK_FROM_S = 5e-5
"""Step time from which on it is asked how much of a step does without the interpreter's lock; below
it, threads cost more than they save."""

LOCK_TO_S = 0.25
LOCK_LIMIT_S = 5.0
"""Seconds after which that question counts as having no answer."""

PHASES = ("start", "construct", "reset", "step")


@dataclass(frozen=True)
class Probe:
    """What measuring one sub-environment in a process of its own found.

    Attributes:
        profile: What stepping it costs.
        observation: An observation of it.
        observation_space: Its observation space.
        action_space: Its action space.
        start_s: Seconds from starting the process to the environment being built.
        construct_s: Seconds of building the environment alone; of the second one if there are two,
            since the first one imports what both need.
        transitions: What a reset returned, `(observation, info)`, and then a few steps.
        holds: What it holds that a second one may not be able to hold too, as words that follow "it
            holds".
        draws: What speaks for it that it draws, which is not safe in several threads, as words that
            follow "it"; None if nothing does.
        warned: The warnings that its process has shown.
    """

    profile: StepProfile
    observation: Any
    observation_space: gym.Space
    action_space: gym.Space
    start_s: float
    construct_s: float
    transitions: tuple[Any, ...]
    holds: tuple[str, ...]
    draws: str | None = None
    warned: Shown = Shown()


def probe(
    env_fns: Sequence[Callable[[], gym.Env]],
    *,
    budget_s: float,
    start_method: str | None = None,
    stall_limit_s: float = STALL_LIMIT_S,
    construct_limit_s: float = CONSTRUCT_LIMIT_S,
) -> Probe:
    """Builds, profiles and closes one sub-environment in a child process.

    Args:
        env_fns: Factories of sub-environments; the first is profiled. A second one is called too,
            to see that it does not return the same instance, and how two do in two threads.
        budget_s: Seconds of stepping.
        start_method: Of multiprocessing; the safest one of this platform by default.
        stall_limit_s: Seconds that one `reset()` or `step()` may take.
        construct_limit_s: Seconds that building may take.

    Returns:
        The profile, a sample observation and the spaces.

    Raises:
        Exception: What building the environment raised.
        ProfileError: If it raises later (its exception is chained), its process dies, or a call
            does not return within its limit.
        RequestError: If two factories return the same instance.
    """
    context = processes.get_context(start_method)
    progress = _Progress(_shared_numbers(context))
    work = processes.dumps((tuple(env_fns[:2]), budget_s))
    limits_s = {"start": construct_limit_s, "construct": construct_limit_s}
    start_s = time.perf_counter()
    with child_at_work(context, _run, work, progress) as child:
        found = _await(child, progress, limits_s, stall_limit_s)
        found = dataclasses.replace(found, start_s=found.start_s - start_s)
        learn(found.warned)
        return _with_free_share(found, child)


def _await(
    child: Child, progress: _Progress, limits_s: dict[str, float], stall_limit_s: float
) -> Probe:
    """Watches the child until it is done, has failed, or makes no progress."""
    calls, since_s = progress.calls, time.perf_counter()
    while not child.stirs(WATCH_PERIOD_S):
        now_s = time.perf_counter()
        if progress.calls != calls:
            calls, since_s = progress.calls, now_s
        limit_s = limits_s.get(progress.phase, stall_limit_s)
        if now_s - since_s > limit_s:
            child.kill()
            raise ProfileError(
                f"The environment did not return from {progress.phase}() within {limit_s:g} s "
                "while it was being measured; its process was ended. If it needs that long, pin a "
                'mode: that skips measuring, as in auto_make_vec(..., mode="sync").'
            )
    try:
        kind, found = child.said()
    except ChildEnded as ended:
        raise ProfileError(
            f"The environment's process {ended} in {progress.phase}() while it was being measured. "
            "Run one environment alone to see why."
        ) from None
    if kind == "same instance":
        raise RequestError(same_instance(0, 1))
    assert isinstance(found, Probe)
    return found


def _with_free_share(found: Probe, child: Child) -> Probe:
    """Adds what the child tells of threads; environments that threads end or hang say nothing."""
    with contextlib.suppress(ChildEnded, ProfileError):
        if child.stirs(LOCK_LIMIT_S):
            share = child.said()[1]
            profile = dataclasses.replace(found.profile, free_share=share)
            return dataclasses.replace(found, profile=profile)
    return found


def _run(pipe: Connection, work: bytes, progress: _Progress) -> None:
    """Runs in the child: measures, reports, and closes what was built."""
    built: list[gym.Env] = []
    try:
        env_fns, budget_s = processes.loads(work)
        found = _measure(env_fns, budget_s, built, progress)
        tell(pipe, "found", found)
        tell(pipe, "free share", _free_share(built, found))
    except _SameInstance:
        tell(pipe, "same instance")
    except _NotBuilt as failed:
        tell_not_built(pipe, failed.error)
    except ProfileError as error:
        tell_failure(pipe, str(error), error.__cause__ or error)
    except BaseException as error:
        kind, phase = type(error).__name__, progress.phase
        message = f"The environment raised {kind} in {phase}() while it was being measured"
        with contextlib.suppress(Exception):  # its own text may raise
            message += f": {error}"
        tell_failure(pipe, message, error)
    finally:
        # Last, so that an environment that fails or hangs here hides nothing of what was found.
        for env in built:
            with contextlib.suppress(Exception):
                env.close()


def _measure(
    env_fns: Sequence[Callable[[], gym.Env]],
    budget_s: float,
    built: list[gym.Env],
    progress: _Progress,
) -> Probe:
    before = read_footprint()
    memory_before = resident_bytes()
    before_s = time.perf_counter()
    env = _build(env_fns[0], progress)
    built_s = time.perf_counter()
    construct_s = built_s - before_s
    built.append(env)
    profile = profile_step(env, budget_s=budget_s, on_call=progress.enter)
    memory_after = resident_bytes()
    memory_bytes = None
    if memory_before is not None and memory_after is not None:
        memory_bytes = max(memory_after - memory_before, 0)
    transitions = _transitions(env, profile, progress)
    holds = held(env, before, read_footprint())
    if len(env_fns) > 1:
        before_s = time.perf_counter()
        built.append(_build(env_fns[1], progress))
        construct_s = min(construct_s, time.perf_counter() - before_s)
        if built[1].unwrapped is env.unwrapped:
            raise _SameInstance
    return Probe(
        profile=dataclasses.replace(profile, memory_bytes=memory_bytes),
        observation=transitions[0][0],
        observation_space=env.observation_space,
        action_space=env.action_space,
        start_s=built_s,
        construct_s=construct_s,
        transitions=transitions,
        holds=holds,
        draws=may_draw(env.observation_space, env.render_mode),
        warned=shown(),
    )


def _build(env_fn: Callable[[], gym.Env], progress: _Progress) -> gym.Env:
    progress.enter("construct")
    try:
        return env_fn()
    except Exception as error:
        raise _NotBuilt(error) from error


def _free_share(built: Sequence[gym.Env], found: Probe) -> float | None:
    """What the profile says of it, or else what two environments in two threads show."""
    profile = found.profile
    if profile.free_share is not None or len(built) < 2 or found.holds or found.draws:
        return profile.free_share
    if profile.wait_share > 0.5 or not LOCK_FROM_S <= profile.step_time_s <= LOCK_TO_S:
        return None
    return free_share(built, profile.step_time_s) if read_machine().cores >= 2 else None


def _transitions(env: gym.Env, profile: StepProfile, progress: _Progress) -> tuple[Any, ...]:
    """A reset and a few steps of the next episode, with infos only where they can be sent."""
    space = copy.deepcopy(env.action_space)
    space.seed(0)
    progress.enter("reset")
    found: list[Any] = [env.reset()]
    limit_s = time.perf_counter() + TRANSITIONS_LIMIT_S
    for _ in range(TRANSITIONS if profile.observation_bytes < LARGE_BYTES else 4):
        if (len(found) > 1 and (found[-1][2] or found[-1][3])) or time.perf_counter() > limit_s:
            break
        progress.enter("step")
        found.append(env.step(space.sample()))
    try:
        processes.dumps(found)
    except Exception:  # pickling runs code of the environment's own
        found = [(*result[:-1], {}) for result in found]
    return tuple(found)


def _shared_numbers(context: BaseContext) -> Any:
    """Two numbers in memory shared with a child.

    Where the system refuses that they are not shared: the parent then sees no progress, and all of
    the child's work must be done within the time that building may take.
    """
    try:
        return context.RawArray("Q", 2)
    except OSError:
        return [0, 0]


class _SameInstance(Exception):
    """Two factories returned one environment."""


class _NotBuilt(Exception):
    """A factory raised an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Progress:
    """Where the child is, in memory it shares with the parent: calls begun, and the last one."""

    def __init__(self, shared: Any) -> None:
        self.shared = shared

    def enter(self, phase: str) -> None:
        """Notes, in the child, that a call of the environment is about to begin."""
        self.shared[1] = PHASES.index(phase)
        self.shared[0] += 1

    @property
    def calls(self) -> int:
        """Calls begun so far."""
        return int(self.shared[0])

    @property
    def phase(self) -> str:
        """The call that was begun last."""
        return PHASES[self.shared[1]]
