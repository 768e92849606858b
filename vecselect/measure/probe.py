"""Profiling one sub-environment inside a worker process: what runs there, and what it finds.

The caller's side is `vecselect.planning.first_worker`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from vecselect.errors import ProfileError
from vecselect.factory import Key, shown_warnings
from vecselect.machine import children_pids, resident_bytes
from vecselect.measure.step import Extent, Profiling, StepProfile
from vecselect.process import pickling
from vecselect.process.remote_errors import portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

SPACE_TEXT_CHARACTERS = 160

TELL_PERIOD_S = 0.1
"""While the environment is stepped, the caller is told this often that a call has returned."""

RECORDERS = (
    ("gymnasium.wrappers", "RecordVideo"),
    ("stable_baselines3.common.monitor", "Monitor"),
)
"""Wrappers that write files: what is profiled is the environment beneath them."""


class HandOffSignal(Protocol):
    """One direction of a hand-off: what is needed here of the signals of `backends.pool`."""

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
        threads: Threads that numerical libraries compute with in the calling process; here they
            have one, since a worker has no more.
    """

    env_fn: Callable[[], gym.Env]
    extent: Extent
    budget_s: float
    global_seed: int
    threads: int = 1

    def run(
        self, go: HandOffSignal, done: HandOffSignal, pipe: Connection
    ) -> tuple[Any, gym.Env] | None:
        """In the worker: profiles, tells the caller, and answers it until it says what to become.

        Returns that and the closed environment that was profiled; None if the worker is to end.
        """
        # A full collection would look through all that was loaded before, and so copy the memory
        # that is shared with the fork server: tens of milliseconds, amid what is measured.
        gc.freeze()
        phase, told_s = "its constructor", time.perf_counter()

        def tell(topic: str, value: Any) -> None:
            pipe.send_bytes(pickling.dumps((topic, value)))

        def enter(name: str) -> None:
            nonlocal phase, told_s
            now_s = time.perf_counter()
            if f"{name}()" != phase or now_s - told_s > TELL_PERIOD_S:
                phase, told_s = f"{name}()", now_s
                tell("phase", phase)

        tell("phase", phase)  # it is there, and has opened what it was sent
        try:
            with _stdout_is_stderr(), bypassed_recorders():
                env = self._profile(tell, enter)
        except ProfileError as error:
            tell("failed", (str(error), portable(error.__cause__ or error)))
            return None
        except BaseException as error:  # SystemExit would end the caller's program
            message = f"The environment raised {type(error).__name__} in {phase} while it was "
            message += "being measured"
            with contextlib.suppress(Exception):  # its own text may raise
                message += f": {error}"
            tell("failed", (message, portable(error)))
            return None
        work = None if env is None else _answer(go, done, pipe)
        return None if work is None or env is None else (work, env.unwrapped)

    def _profile(
        self, tell: Callable[[str, Any], None], enter: Callable[[str], None]
    ) -> gym.Env | None:
        """Builds the environment, tells what it costs, and closes it; None if it was not built."""
        footprint, memory_before = read_footprint(), resident_bytes()
        start_s = time.perf_counter()
        try:
            env = self.env_fn()
        except Exception as error:
            tell("not built", portable(error))
            return None
        construct_s = time.perf_counter() - start_s
        try:
            profiling = Profiling(env, enter)
            profile = profiling.run(self.budget_s, self.extent)
            profile = profiling.with_threads(profile, self.threads)
            memory_after = resident_bytes()
            if memory_before is not None and memory_after is not None:
                memory_bytes = max(memory_after - memory_before, 0)
                profile = dataclasses.replace(profile, memory_bytes=memory_bytes)
            found = Probe(
                profile=profile,
                observation_space=env.observation_space,
                action_space=env.action_space,
                construct_s=construct_s,
                observation=profiling.observation,
                holds=held(env, read_footprint() - footprint),
                draws=may_draw(env.observation_space, env.render_mode),
                warned=shown_warnings(),
            )
            # Before it is closed: what that leads to hides nothing of what was found.
            tell("found", found)
        finally:
            with contextlib.suppress(Exception):
                env.close()
        return env


@dataclass(frozen=True)
class Probe:
    """What profiling one sub-environment in a process of its own found.

    Attributes:
        profile: What stepping it costs.
        observation_space: Its observation space.
        action_space: Its action space.
        construct_s: Seconds of building it, its imports included.
        observation: An observation of it.
        holds: What it holds that a second one may not be able to hold too, as words that follow "it
            holds".
        draws: What speaks for it that it draws, which is not safe in several threads, as words that
            follow "it"; None if nothing does.
        warned: The warnings that its process has shown.
    """

    profile: StepProfile
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    construct_s: float
    observation: Any
    holds: tuple[str, ...]
    draws: str | None = None
    warned: frozenset[Key] = frozenset()

    def observation_batch(self, num_envs: int) -> Any:
        """So many of its observations, batched as vector environments batch them."""
        space = self.observation_space
        batch: Any = create_empty_array(space, num_envs)
        return concatenate(space, [self.observation] * num_envs, batch)


def _answer(go: HandOffSignal, done: HandOffSignal, pipe: Connection) -> Any:
    """Answers empty exchanges until it is said what the worker is to become."""
    while True:
        try:
            message = pickling.loads(pipe.recv_bytes())
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
    changed: list[tuple[type, str, Any]] = []
    for module_name, name in RECORDERS:
        recorder = getattr(sys.modules.get(module_name), name, None)
        if isinstance(recorder, type):
            for method in ("__init__", "step", "reset", "render", "close"):
                if method in vars(recorder):
                    changed.append((recorder, method, vars(recorder)[method]))
                    plain = _only_wrap if method == "__init__" else getattr(gym.Wrapper, method)
                    setattr(recorder, method, plain)
    try:
        yield
    finally:
        for recorder, method, value in changed:
            setattr(recorder, method, value)


def _only_wrap(self: Any, env: gym.Env, *args: Any, **kwargs: Any) -> None:
    gym.Wrapper.__init__(self, env)
    self.recorded_frames = []  # RecordVideo's `__del__` looks at them


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """What the environment prints must not get into the output of a program that asks for JSON."""
    if not sys.stdout:  # closed, as that of a daemon may be: descriptor 1 is something else
        yield
        return
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


def read_footprint() -> set[str]:
    """What this process has open, and its child processes. Without /proc no files are seen."""
    found, folder = {f"child {pid}" for pid in children_pids()}, "/proc/self/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):  # the descriptor that listed the folder
                found.add(os.readlink(f"{folder}/{descriptor}"))
    return found


def held(env: gym.Env, new: set[str]) -> tuple[str, ...]:
    """What an environment holds that a second one could not, as words that follow "it holds".

    What is `new` in the footprint came to be since it was built.
    """
    layers, layer = [env], env
    while (layer := getattr(layer, "env", layer)) is not layers[-1]:
        layers.append(layer)
    signs = {
        "a socket": any(name.startswith("socket:") for name in new),
        "a child process": any(name.startswith("child ") for name in new),
        "a window": env.render_mode == "human",
        "a video that it records": any(type(one).__name__ == "RecordVideo" for one in layers),
    }
    return tuple(what for what, is_so in signs.items() if is_so)


def may_draw(observation_space: spaces.Space[Any], render_mode: str | None) -> str | None:
    """What speaks for it that an environment draws, as words that follow "it"; else None."""
    if render_mode is not None:
        return f"renders (render_mode={render_mode!r})"
    return "returns images" if _has_image(observation_space) else None


def _has_image(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_image, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_has_image, space.spaces))
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) >= 3 or (len(space.shape) == 2 and space.dtype == np.uint8)
