"""Vector environments of which some sub-environments step while the learner works on others.

Buffers are fixed parts of the batch; first finished takes whoever is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from gymnasium.error import AlreadyPendingCallError

from vecselect.errors import VecselectError
from vecselect.vector_env import AutoVectorEnv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gymnasium.vector import VectorEnv

    from vecselect.plan import Plan
    from vecselect.run_stats import Stats


class PartlyStepped(AutoVectorEnv):
    """An `AutoVectorEnv` of which some sub-environments can be stepped without the others.

    What its run shows is not remembered for the next start: such steps say little of whole ones.
    """

    def _use(self, env: VectorEnv, plan: Plan) -> None:
        super()._use(env, plan)
        self._clock.attends = False
        self._part_env_steps = 0

    def _look(self, start_ns: int) -> None:
        self._clock.first_ns = self._clock.first_ns or start_ns
        self._clock.look_at = sys.maxsize

    def stats(self) -> Stats:
        """How the time of this run was spent so far, steps of a part of the batch included.

        Of these `inside_s` are the seconds of waiting for one to end, and `outside_s` all others.
        """
        stats = super().stats()
        total_s = stats.inside_s + stats.outside_s
        env_steps = stats.env_steps + self._part_env_steps
        return dataclasses.replace(
            stats,
            vector_steps=env_steps // self.num_envs,
            env_steps=env_steps,
            env_steps_per_s=env_steps / total_s if total_s else 0.0,
        )

    def count_part(self, start_ns: int, env_steps: int) -> None:
        """Adds a step of a part, waited for since `start_ns` and over now, to the statistics."""
        clock = self._clock
        clock.first_ns = clock.first_ns or start_ns
        clock.left_ns = now_ns = time.perf_counter_ns()
        clock.inside_ns += now_ns - start_ns
        self._part_env_steps += env_steps


class BufferedAutoVectorEnv(PartlyStepped):
    """An `AutoVectorEnv` whose batch can be stepped in parts: see `AutoVectorEnv.buffers`."""

    def _use(self, env: VectorEnv, plan: Plan) -> None:
        super()._use(env, plan)
        self._buffers = tuple(
            Buffer(self, part, rows)
            for part, rows in zip(self.env.parts, self.env.rows, strict=True)
        )

    @property
    def buffers(self) -> Sequence[Buffer]:
        """The parts of the batch, which can be stepped independently."""
        return self._buffers

    def _note_reset(self) -> None:
        super()._note_reset()
        for one in self._buffers:
            AutoVectorEnv._note_reset(one)


class Buffer(PartlyStepped):
    """Some of the sub-environments of a `BufferedAutoVectorEnv`, which are counted from 0 here.

    Closing it closes the whole.
    """

    def __init__(self, whole: BufferedAutoVectorEnv, env: VectorEnv, rows: range) -> None:
        self._whole = whole
        self._rows = slice(rows.start, rows.stop)
        super().__init__(env, whole.plan)

    @property
    def rows(self) -> slice:
        """Its rows of the whole batch."""
        return self._rows

    def retune(self) -> NoReturn:
        """Refused: the buffers of a vector environment run in one mode."""
        raise VecselectError(
            f"{self!r} is a part of a batch, all of which runs in one mode; retune the whole: "
            "envs.retune()."
        )

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """The same as that of the whole."""
        with self._whole.collecting():
            yield

    def close(self, **kwargs: Any) -> None:
        """Closes the whole."""
        self._whole.close(**kwargs)

    def __repr__(self) -> str:
        """Names its rows and the mode."""
        return f"<Buffer of rows {self._rows.start}-{self._rows.stop - 1}, mode={self.mode!r}>"

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps its sub-environments; arguments and errors as in `AutoVectorEnv.step`."""
        self.step_async(actions)
        return self.step_wait()

    def _count(self, start_ns: int) -> None:
        super()._count(start_ns)
        self._whole.count_part(start_ns, self.num_envs)

    def _need_open(self) -> None:
        super()._need_open()
        pending = self._whole.env.pending
        if pending is not None:
            raise AlreadyPendingCallError(
                f"A call to `{pending}` of the whole is pending; collect that first: "
                f"envs.{pending}_wait().",
                pending,
            )


class FirstFinishedAutoVectorEnv(PartlyStepped):
    """An `AutoVectorEnv` made with `batch_size`: each sub-environment steps independently.

        envs = auto_make_vec(id, 64, batch_size=16)
        envs.async_reset(seed=1)
        while True:
            observations, rewards, terminated, truncated, infos = envs.recv()
            envs.send(policy(observations), infos["env_id"])

    Each sub-environment's own trajectory is that of a loop. Which of them come together, and when,
    depends on how long their steps take, so that training differs from run to run.
    """

    @property
    def batch_size(self) -> int:
        """The results that `recv` gives at once."""
        return self.env.batch_size  # type: ignore[no-any-return]

    def async_reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Has every sub-environment reset, or those in the mask; `recv` gives the observations.

        Args:
            seed: As in `reset`.
            options: As in `reset`. Without a `reset_mask`, those at work finish first, and what
                they return is dropped; none in a mask may be at work.
        """
        self._need_open()
        self.env.async_reset(**self._read_reset(seed, options))
        self._note_reset()

    def send(self, actions: Any, env_id: Any) -> None:
        """Has sub-environments step.

        Args:
            actions: A batch with an action for each of them.
            env_id: Which, such as the `infos["env_id"]` of a `recv`; each once, and none at work.

        Raises:
            ValueError: If there is no such sub-environment, one is named twice, or the actions do
                not fit; nothing was sent.
            AlreadyPendingCallError: If one is at work, or its result was not received.
        """
        self._need_open()
        self.env.send(actions, env_id)

    def recv(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """The results of the `batch_size` sub-environments that have finished first.

        Args:
            timeout: Seconds to wait.

        Returns:
            As of `step`, over these rows alone, in ascending order; `infos["env_id"]` says which.

        Raises:
            NoAsyncCallError: If fewer are at work or have finished: it would wait for ever.
            multiprocessing.TimeoutError: If the time ran out; nothing is lost.
            StepTimeout: If one takes longer than the `step_timeout_s` that was set.
            WorkerDied: If a worker's process ended.
            Exception: What a sub-environment raised. The results of others are kept, and it can be
                reset alone by `async_reset(options={"reset_mask": ...})`.
        """
        start_ns = time.perf_counter_ns()
        self._need_open()
        result: tuple[Any, Any, Any, Any, dict[str, Any]] = self.env.recv(timeout)
        self.count_part(start_ns, self.batch_size)
        return result
