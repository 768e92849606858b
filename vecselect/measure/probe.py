"""Profiling one sub-environment inside a worker process: what runs there, and what it finds.

The caller's side is `vecselect.planning.first_worker`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gymnasium.vector.utils import concatenate, create_empty_array

from vecselect import processes
from vecselect.drawing import may_draw
from vecselect.errors import ProfileError
from vecselect.failures import portable
from vecselect.machine import resident_bytes
from vecselect.measure.footprint import held, read_footprint
from vecselect.measure.step import Extent, StepProfile, profile_step
from vecselect.warned import Shown, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    import gymnasium as gym


SPACE_TEXT_CHARACTERS = 160

TRANSITIONS = 16
LARGE_BYTES = 1 << 16
"""Of observations this large only four are brought back."""

TRANSITIONS_LIMIT_S = 0.02

RECORDERS = (
    ("gymnasium.wrappers", "RecordVideo"),
    ("stable_baselines3.common.monitor", "Monitor"),
)
"""Wrappers that write files: what is profiled is the environment beneath them."""


class Signal(Protocol):
    """One direction of a hand-off."""

    def give(self) -> None:
        """Wakes the other side."""

    def wait(self, tries: int) -> None:
        """Waits for the other side; so many tries without sleeping."""


@dataclass(frozen=True)
class ProfileTask:
    """What a worker process is started with that profiles first.

    Attributes:
        env_fn: Builds the sub-environment to profile.
        extent: How long to step it.
        budget_s: Seconds after which no further step is begun.
        global_seed: Of the process's global random generators meanwhile.
    """

    env_fn: Callable[[], gym.Env]
    extent: Extent
    budget_s: float
    global_seed: int

    def run(self, go: Signal, done: Signal, pipe: Connection) -> tuple[Any, gym.Env] | None:
        """In the worker: see `profile_first`."""
        return profile_first(self, go, done, pipe)


@dataclass(frozen=True)
class Probe:
    """What profiling one sub-environment in a process of its own found.

    Attributes:
        profile: What stepping it costs.
        observation_space: Its observation space.
        action_space: Its action space.
        construct_s: Seconds of building it, its imports included.
        profiling_s: Seconds from its being built to the end of profiling.
        transitions: What a reset returned, `(observation, info)`, and then a few steps.
        holds: What it holds that a second one may not be able to hold too, as words that follow "it
            holds".
        start_s: Seconds from starting the process to the environment being built.
        draws: What speaks for it that it draws, which is not safe in several threads, as words that
            follow "it"; None if nothing does.
        warned: The warnings that its process has shown.
    """

    profile: StepProfile
    observation_space: gym.Space
    action_space: gym.Space
    construct_s: float
    profiling_s: float
    transitions: tuple[Any, ...]
    holds: tuple[str, ...]
    start_s: float = 0.0
    draws: str | None = None
    warned: Shown = Shown()

    @property
    def observation(self) -> Any:
        """An observation of it."""
        return self.transitions[0][0]

    def observation_batch(self, num_envs: int) -> Any:
        """So many of its observations, batched as vector environments batch them."""
        space = self.observation_space
        batch: Any = create_empty_array(space, num_envs)
        return concatenate(space, [self.observation] * num_envs, batch)


def profile_first(
    task: ProfileTask, go: Signal, done: Signal, pipe: Connection
) -> tuple[Any, gym.Env] | None:
    """Runs in the worker: profiles, tells the caller, and answers it until it says what to become.

    Returns:
        What to become, and the environment that was profiled, closed; None if the worker is to end.
    """
    # A full collection would look through all that was loaded before, and so copy the memory that
    # is shared with the fork server: tens of milliseconds, in the midst of what is measured.
    gc.freeze()
    env: gym.Env | None = None
    phase = "construct"

    def tell(kind: str, value: Any) -> None:
        pipe.send_bytes(processes.dumps((kind, value)))

    def enter(name: str) -> None:
        nonlocal phase
        if name != phase:
            phase = name
            tell("phase", name)

    try:
        with _stdout_is_stderr(), bypassed_recorders():
            try:
                footprint, memory_before = read_footprint(), resident_bytes()
                start_s = time.perf_counter()
                env = task.env_fn()
            except Exception as error:
                tell("not built", portable(error))
                return None
            construct_s = time.perf_counter() - start_s
            try:
                found = _profile(task, env, footprint, memory_before, construct_s, enter)
                # Before it is closed: what that leads to hides nothing of what was found.
                tell("found", found)
            finally:
                with contextlib.suppress(Exception):
                    env.close()
    except ProfileError as error:
        tell("failed", (str(error), portable(error.__cause__ or error)))
        return None
    except BaseException as error:  # SystemExit would end the caller's program
        message = f"The environment raised {type(error).__name__} in {phase}() while it was being"
        message += " measured"
        with contextlib.suppress(Exception):  # its own text may raise
            message += f": {error}"
        tell("failed", (message, portable(error)))
        return None
    work = _answer(go, done, pipe)
    return None if work is None else (work, env.unwrapped)


def _profile(
    task: ProfileTask,
    env: gym.Env,
    footprint: Any,
    memory_before: int | None,
    construct_s: float,
    enter: Callable[[str], None],
) -> Probe:
    start_s = time.perf_counter()
    profile = profile_step(env, budget_s=task.budget_s, extent=task.extent, on_call=enter)
    memory_after = resident_bytes()
    if memory_before is not None and memory_after is not None:
        memory_bytes = max(memory_after - memory_before, 0)
        profile = dataclasses.replace(profile, memory_bytes=memory_bytes)
    transitions = _transitions(env, profile, enter)
    return Probe(
        profile=profile,
        observation_space=env.observation_space,
        action_space=env.action_space,
        construct_s=construct_s,
        profiling_s=time.perf_counter() - start_s,
        transitions=transitions,
        holds=held(env, footprint, read_footprint()),
        draws=may_draw(env.observation_space, env.render_mode),
        warned=shown(),
    )


def _transitions(
    env: gym.Env, profile: StepProfile, enter: Callable[[str], None]
) -> tuple[Any, ...]:
    """A reset and a few steps of the next episode, with infos only where they can be sent."""
    space = copy.deepcopy(env.action_space)
    space.seed(0)
    enter("reset")
    found: list[Any] = [env.reset()]
    limit_s = time.perf_counter() + TRANSITIONS_LIMIT_S
    enter("step")
    for _ in range(TRANSITIONS if profile.observation_bytes < LARGE_BYTES else 4):
        if len(found) > 1 and (found[-1][2] or found[-1][3] or time.perf_counter() > limit_s):
            break
        found.append(env.step(space.sample()))
    try:
        processes.dumps(found)
    except Exception:  # pickling runs code of the environment's own
        found = [(*result[:-1], {}) for result in found]
    return tuple(found)


def _answer(go: Signal, done: Signal, pipe: Connection) -> Any:
    """Answers empty exchanges until it is said what the worker is to become."""
    while True:
        try:
            message = processes.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        if not isinstance(message, tuple):
            return message
        _, tries = message
        done.give()
        while True:
            go.wait(tries)
            if pipe.poll():
                pipe.recv_bytes()
                break
            done.give()


@contextlib.contextmanager
def bypassed_recorders() -> Iterator[None]:
    """Has wrappers that write files pass everything through, in this process, while inside."""
    import gymnasium as gym

    changed: list[tuple[type, dict[str, Any]]] = []
    for module_name, name in RECORDERS:
        recorder = getattr(sys.modules.get(module_name), name, None)
        if not isinstance(recorder, type):
            continue
        own = {
            method: vars(recorder)[method]
            for method in ("__init__", "step", "reset", "render", "close")
            if method in vars(recorder)
        }
        changed.append((recorder, own))
        for method in own:
            if method == "__init__":
                recorder.__init__ = _only_wrap  # type: ignore[misc]
            else:
                setattr(recorder, method, getattr(gym.Wrapper, method))
    try:
        yield
    finally:
        for recorder, own in changed:
            for method, value in own.items():
                setattr(recorder, method, value)


def _only_wrap(self: Any, env: gym.Env, *args: Any, **kwargs: Any) -> None:
    import gymnasium as gym

    gym.Wrapper.__init__(self, env)


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """What the environment prints must not get into the output of a program that asks for JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def space_text(space: Any) -> str:
    """A space as text, shortened: bounds of a large Box would fill pages."""
    text = " ".join(str(space).split())
    if len(text) <= SPACE_TEXT_CHARACTERS:
        return text
    return text[: SPACE_TEXT_CHARACTERS - 3] + "..."
