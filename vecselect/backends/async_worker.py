"""The `worker` of mode `async`: one sub-environment in a process of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import read_from_shared_memory

from vecselect.backends.pool.arena import at, leaves, writer
from vecselect.backends.pool.lane import FORBIDDEN_CALLS
from vecselect.backends.pool.worker import close_all
from vecselect.backends.specs import difference, draws, facts_of
from vecselect.learner_threads import seed_torch
from vecselect.process import children, pickling
from vecselect.process.contexts import ParentWatch
from vecselect.process.forkserver import LOOK_S
from vecselect.process.remote_errors import Failed, how_far, portable

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import gymnasium as gym

    from vecselect.backends.specs import Facts


Task = tuple[int, int, "Facts | None", bytes]
"""What a worker is started with: the number of sub-environments; a seed for the process's global
random generators; the facts of the spec of what the same factory has built in the caller's process,
if it has; and the factory as `pickling.dumps` packs it: what fails in unpacking is told as what
fails in building."""


def work(row: int, task: Task, pipe: Connection, inherited: Any, *rest: Any) -> None:
    """Runs in a worker's process: builds a sub-environment and serves it until the end.

    Args:
        row: Index of the sub-environment.
        task: What it is to run.
        pipe: The worker's end of its pipe.
        inherited: Ends of the caller's that a forked worker closes: an open one would keep other
            workers from seeing the caller go.
        *rest: Gymnasium's shared memory, queue of errors, autoreset mode and, from 1.4 on, a
            semaphore.
    """
    for end in inherited:
        end.close()
    count, seed, theirs, factory = task
    children.prepare_child(seed)
    watch = ParentWatch()
    envs: list[gym.Env] = []
    try:
        make = pickling.loads(factory)
        envs.append(make())
        facts = facts_of(envs[0])
        problem = difference(row, facts, theirs)
        if problem and not draws(make, [facts]):
            raise RuntimeError(problem)
        seed_torch(seed)
        served = _Served(row, count, envs[0], pipe, *rest)
    except Exception as error:
        _answer(pipe, Failed(row, "its constructor", portable(error)))
        close_all(envs, row)
        return
    _answer(pipe, (None, True, False))
    try:
        hung_up = served.until_closed()
    finally:
        close_all(envs, row)
    watch.end_orphan(LOOK_S + 0.1 if hung_up else 0.0)


def _answer(pipe: Connection, answer: Any) -> None:
    data = pickling.dumps_importable(answer)
    with contextlib.suppress(ConnectionError):  # the next `recv_bytes` tells that nobody is there
        pipe.send_bytes(data)


class _Served:
    """A sub-environment that does what `AsyncVectorEnv` asks for."""

    def __init__(
        self,
        row: int,
        count: int,
        env: gym.Env,
        pipe: Connection,
        memory: Any,
        _errors: None,
        autoreset_mode: AutoresetMode,
        semaphore: Any = None,
    ) -> None:
        self._row = row
        self._env = env
        self._pipe = pipe
        self._autoreset_mode = autoreset_mode
        self._permit = semaphore or contextlib.nullcontext()
        self._in_memory = memory is not None
        space = env.observation_space
        if memory is not None:
            arrays = read_from_shared_memory(space, memory, count)
            batches: Any = {leaf.path: at(arrays, leaf.path) for leaf in leaves(space)}
        else:  # nobody reads what is written: it is checked so
            batches = {
                leaf.path: [None] * (row + 1)
                if leaf.dtype is None
                else np.zeros((row + 1, *leaf.shape), leaf.dtype)
                for leaf in leaves(space)
            }
        self._write = writer(space, batches)
        self._phase = ""
        self._over = False
        self._steps = 0
        self._seed: int | None = None
        self._observation: Any = None

    def until_closed(self) -> bool:
        """Answers commands; returns whether they end because the caller has hung up."""
        command = ""
        while command != "close":
            try:
                data = self._pipe.recv_bytes()
            except (EOFError, OSError):
                return True
            self._phase = "reading a command"
            try:
                command, given = pickling.loads(data)
                self._phase = command
                result = self._do(command, given)
                ended = self._over and self._autoreset_mode == AutoresetMode.DISABLED
                _answer(self._pipe, (result, True, ended))
            except SystemExit:
                raise
            except BaseException as error:
                when = how_far(self._steps, self._seed) if command in ("step", "reset") else ""
                _answer(self._pipe, Failed(self._row, self._phase, portable(error), when))
        return False

    def _do(self, command: str, given: Any) -> Any:
        """The answer to a command."""
        if command in ("step", "reset"):
            with self._permit:
                return self._step(given) if command == "step" else self._reset(**given)
        if command == "reset-noop":
            return self._observation, {}
        if command == "_call":
            name, arguments, _ = given
            return self._call(name, *arguments)
        if command == "_setattr":
            self._phase = f"set_attr({given[0]!r})"
            self._env.set_wrapper_attr(*given)
        if command == "_check_spaces":
            mode, observations, actions = given
            ours, alike = self._env.observation_space, is_space_dtype_shape_equiv
            same = observations == ours if mode == "same" else alike(observations, ours)
            return same, actions == self._env.action_space
        return None

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._phase = "render" if name == "render" else f"call({name!r})"
        if name in FORBIDDEN_CALLS:
            raise ValueError(f"call({name!r}) is not possible; use envs.{name}() instead.")
        found = self._env.get_wrapper_attr(name)
        return found(*args, **kwargs) if callable(found) else found

    def _reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        self._phase = "reset"
        self._steps = 0
        if given.get("seed") is not None:
            self._seed = given["seed"]
        observation, info = self._env.reset(**given)
        self._over = False
        return self._stored(observation), info

    def _step(self, action: Any) -> tuple[Any, ...]:
        if self._over and self._autoreset_mode == AutoresetMode.NEXT_STEP:
            observation, info = self._reset()
            return observation, 0.0, False, False, info
        self._steps += 1
        observation, reward, terminated, truncated, info = self._env.step(action)
        reward = np.asarray(reward, np.float64).item()
        terminated, truncated = (
            np.asarray(one, np.bool_).item() for one in (terminated, truncated)
        )
        self._over = terminated or truncated
        if self._over and self._autoreset_mode == AutoresetMode.SAME_STEP:
            final = {"final_info": info, "final_obs": observation}
            observation, info = self._reset()
            return observation, reward, terminated, truncated, {**final, **info}
        return self._stored(observation), reward, terminated, truncated, info

    def _stored(self, observation: Any) -> Any:
        """What goes through the pipe of an observation: nothing where there is shared memory."""
        self._write(self._row, observation)
        self._observation = None if self._in_memory else observation
        return self._observation
