"""Sub-environments that step one by one, as users see them: `recv` and `send`, as in EnvPool."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from vecselect.buffers import PartlyStepped


class FirstFinishedAutoVectorEnv(PartlyStepped):
    """An `AutoVectorEnv` made with `batch_size`: its sub-environments step one by one.

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
        start_ns = perf_counter_ns()
        self._need_open()
        result: tuple[Any, Any, Any, Any, dict[str, Any]] = self.env.recv(timeout)
        self.count_part(start_ns, self.batch_size)
        return result
