"""`AutoVectorEnv`: one vector environment over whichever mode was chosen."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn

from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from vecselect.arguments import action_check, one_each, read_indices, read_options, read_seeds
from vecselect.errors import VecselectError
from vecselect.learner_threads import RolloutThreads
from vecselect.planning.observed import chosen_anew
from vecselect.report import Report
from vecselect.run_stats import RunWatch, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from vecselect.plan import Plan


class StepClock:
    """When the first of a run's steps began and the last one ended, and the time inside of all.

    Apart from `AutoVectorEnv`, since Python takes ten times as long to look up an attribute where
    the class has a `__getattr__`. `look_at` and `attends` are those of the watch.
    """

    __slots__ = ("attends", "first_ns", "inside_ns", "left_ns", "look_at", "vector_steps")

    def __init__(self) -> None:
        self.vector_steps: int = 0
        self.first_ns: int = 0
        self.left_ns: int = 0
        self.inside_ns: int = 0
        self.look_at: int = 1  # after the first step, then when the watch wants to
        self.attends: bool = False

    def outside_ns(self) -> int:
        """Nanoseconds between the end of one step and the beginning of the next, all together."""
        return self.left_ns - self.first_ns - self.inside_ns


class AutoVectorEnv(VectorWrapper):
    """A vector environment with the plan that chose how it runs.

    Behaves as Gymnasium's `SyncVectorEnv`, and guards what the modes get wrong on their own: action
    batches, seeds and options are checked before anything is sent, options are never changed, and
    use after `close()` is an error everywhere.

    Attributes:
        plan: The decision with all its evidence.
    """

    env: Any  # a vector environment with the further calls that `Backend.build` asks for

    def __init__(
        self,
        env: VectorEnv,
        plan: Plan,
        rebuild: Callable[[Plan | None], tuple[VectorEnv, Plan]] | None = None,
    ) -> None:
        """Takes over a vector environment that was built after a plan, as `Backend.build` gives it.

        Args:
            env: The vector environment.
            plan: The plan. What the run shows is remembered with it.
            rebuild: Builds a vector environment after another plan, or after a new one if it is
                given None, and returns both. Without it there is no `retune`.
        """
        super().__init__(env)
        self._rebuild = rebuild
        self._collecting = False
        self._use(env, plan)

    def _use(self, env: VectorEnv, plan: Plan) -> None:
        """Begins to run a vector environment."""
        self.env = env
        self.plan = plan
        self._check_actions = action_check(env.action_space, env.single_action_space, env.num_envs)
        self._was_reset = False
        self._clock = StepClock()
        self._threads = RolloutThreads(plan.learner_threads, free=plan.threads_free)
        weakref.finalize(self, self._threads.put_back).atexit = False
        self._watch = RunWatch(plan)
        # A run that is never closed is observed too: when it is collected, or at exit.
        self._finished = weakref.finalize(self, self._watch.finish)
        self._clock.attends = self._watch.attends

    @property
    def mode(self) -> str:
        """The mode it runs in; as a pin it reproduces the choice."""
        return self.plan.mode

    @property
    def rows(self) -> slice:
        """The rows of the whole batch that it steps: all of them, unless it is a buffer."""
        return slice(0, self.num_envs)

    @property
    def buffers(self) -> Sequence[AutoVectorEnv]:
        """The parts of the batch that can be stepped independently; itself alone by default.

        With `auto_make_vec(..., buffers=2)` two vector environments over one half each, so that the
        learner works on one while the other steps:

            observations, _ = envs.reset(seed=1)
            for half in envs.buffers:
                half.step_async(policy(observations[half.rows]))
            for half in itertools.cycle(envs.buffers):
                observations, rewards, terminated, truncated, infos = half.step_wait()
                half.step_async(policy(observations))

        Each has the calls of the whole, over its own rows, which it counts from 0. Those of the
        whole need all of them idle.
        """
        return (self,)

    @property
    def report(self) -> Report:
        """The plan and this run so far, rendered for people: `print(envs.report)`."""
        return Report(self.plan, self.stats())

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """What happens to a sub-environment whose episode ended."""
        mode: AutoresetMode = self.metadata["autoreset_mode"]
        return mode

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every sub-environment.

        Args:
            actions: A batch of the action space, `num_envs` long.

        Returns:
            Observations batched as in `observation_space`; rewards float64, terminated and
            truncated bool, each of shape `(num_envs,)`; infos as Gymnasium's vector environments
            give them.

        Raises:
            ValueError: If the batch has a wrong length or shape; nothing was stepped.
            TypeError: If its dtype or structure does not fit; nothing was stepped.
            ClosedEnvironmentError: After `close()`.
            WorkerDied: If a worker's process ended.
            StepTimeout: If a worker did not answer within the `step_timeout_s` that was set.
            Exception: What a sub-environment raised; where Python can, with a note of which one.
            KeyboardInterrupt: On Ctrl-C; reset then, since only some sub-environments have stepped.
        """
        start_ns = perf_counter_ns()
        clock, env = self._clock, self.env
        if env.closed:
            self._raise_closed()
        if clock.attends:
            self._watch.step_begins()
        result: tuple[Any, Any, Any, Any, dict[str, Any]] = env.step(self._check_actions(actions))
        # As in `_count`, which a call of would take as long again.
        clock.left_ns = now_ns = perf_counter_ns()
        clock.inside_ns += now_ns - start_ns
        clock.vector_steps = steps = clock.vector_steps + 1
        if steps >= clock.look_at:
            self._look(start_ns)
        return result

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets every sub-environment, or those in `options["reset_mask"]`.

        Args:
            seed: None, one int (sub-environment `i` gets `seed + i`), or `num_envs` of int or None.
            options: Passed to the sub-environments; never changed. `reset_mask`, bool of shape
                `(num_envs,)`, says which of them to reset.

        Raises:
            ValueError: If a seed or the mask has a wrong value or length; nothing was reset.
            TypeError: If a seed is no whole number, or the mask not bool; nothing was reset.
            ResetNeeded: If the first reset leaves any out: they would have no state.
        """
        self._need_open()
        checked = self._read_reset(seed, options)
        result: tuple[Any, dict[str, Any]] = self.env.reset(**checked)
        self._note_reset()
        return result

    def step_async(self, actions: Any) -> None:
        """Begins a step; `step_wait` collects it. Arguments and errors as in `step`."""
        self._need_open()
        self.env.step_async(self._check_actions(actions))

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Collects what `step_async` began.

        Args:
            timeout: Seconds to wait; a mode that runs in this process does the work here instead.

        Raises:
            NoAsyncCallError: Without a `step_async` before it.
            multiprocessing.TimeoutError: If the time ran out.
        """
        start_ns = perf_counter_ns()
        self._need_open()
        if self._clock.attends:
            self._watch.step_begins()
        result: tuple[Any, Any, Any, Any, dict[str, Any]] = self.env.step_wait(timeout)
        self._count(start_ns)
        return result

    def reset_async(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Begins a reset; `reset_wait` collects it. Arguments and errors as in `reset`."""
        self._need_open()
        self.env.reset_async(**self._read_reset(seed, options))

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Collects what `reset_async` began. Arguments and errors as in `step_wait`."""
        self._need_open()
        result: tuple[Any, dict[str, Any]] = self.env.reset_wait(timeout)
        self._note_reset()
        return result

    def call(
        self, name: str, /, *args: Any, indices: int | Sequence[int] | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Calls a method of sub-environments, or reads an attribute that is not callable.

        Args:
            name: The method's name; the wrappers are searched from the outside in. In modes with
                workers not `reset`, `step` or `close`, which have calls of their own.
            *args: Its arguments, the same for all.
            indices: Which sub-environments: an int, several in any order, or None for all. Numbers
                from 0 on, each once; negative ones are refused.
            **kwargs: Its keyword arguments, the same for all.

        Returns:
            One result per sub-environment, in the order of `indices`.

        Raises:
            IndexError: If there is no such sub-environment; nothing was called.
            ValueError: If `indices` names one twice; nothing was called.
        """
        self._need_open()
        chosen = read_indices(indices, self.num_envs)
        if chosen is None:
            return self.env.call(name, *args, **kwargs)  # type: ignore[no-any-return]
        return self.env.call_some(chosen, name, args, kwargs) if chosen else ()

    def call_async(
        self, name: str, /, *args: Any, indices: int | Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        """Begins a call; `call_wait` collects it. Arguments and errors as in `call`."""
        self._need_open()
        chosen = read_indices(indices, self.num_envs)
        if chosen is None:
            self.env.call_async(name, *args, **kwargs)
        else:
            self.env.call_some_async(chosen, name, args, kwargs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Collects what `call_async` began. Arguments and errors as in `step_wait`."""
        self._need_open()
        return self.env.call_wait(timeout)  # type: ignore[no-any-return]

    def get_attr(self, name: str, indices: int | Sequence[int] | None = None) -> tuple[Any, ...]:
        """An attribute of every sub-environment, or of those that `indices` names as in `call`."""
        self._need_open()
        chosen = read_indices(indices, self.num_envs)
        if chosen is None:
            return self.env.get_attr(name)  # type: ignore[no-any-return]
        return self.env.call_some(chosen, name) if chosen else ()

    def set_attr(self, name: str, values: Any, indices: int | Sequence[int] | None = None) -> None:
        """Sets an attribute of sub-environments.

        Args:
            name: The attribute's name.
            values: A list or tuple with a value for each of them, or one value for all.
            indices: Which of them, as in `call`.
        """
        self._need_open()
        chosen = read_indices(indices, self.num_envs)
        if chosen is None:
            self.env.set_attr(name, values)
            return
        each = one_each(values, len(chosen))
        if chosen:
            self.env.set_attr_some(chosen, name, each)

    def render(self) -> tuple[Any, ...] | None:
        """A frame of every sub-environment, as its render mode gives it."""
        self._need_open()
        return self.env.render()  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Gives the learner the threads that the plan counts on while steps are made.

        Around the rollout, and not around the update of the networks:

            with envs.collecting():
                for _ in range(num_steps):
                    ...
                    observations, rewards, terminated, truncated, infos = envs.step(actions)

        Sets the threads of torch, and of numerical libraries such as OpenBLAS, to
        `plan.learner_threads` if that is a number, and puts them back on leaving. With
        `learner_threads="auto"` the first updates show whether they are faster with the same
        threads, which then stay until `close`.
        """
        if self._collecting:
            yield
            return
        threads = self._threads
        self._collecting = True
        try:
            threads.enter()
            self._watch.collecting(self.plan.learner_threads)
            yield
        except BaseException:
            threads.put_back()
            raise
        finally:
            threads.leave()
            if threads is not self._threads:  # it was retuned
                threads.put_back()
            self._collecting = False
            self._watch.collecting(None)

    def retune(self) -> bool:
        """Goes on in another mode, if the run so far has shown that it is better.

        The sub-environments are closed and built anew; the next call must be `reset`. What this run
        has shown is remembered, and `stats` begins anew. A pinned mode stays.

        Returns:
            Whether anything was done.

        Raises:
            VecselectError: If it was not made by `auto_make_vec`.
            Exception: What planning or building raises; this one is closed then.
        """
        self._need_open()
        if self._rebuild is None:
            raise VecselectError(
                f"{self!r} cannot be rebuilt; make one by auto_make_vec to retune it."
            )
        better = None
        if not self._watch.wrong_recall:
            now, better = self.plan, chosen_anew(self.plan, self._watch.runs())
            if (better.mode, better.learner_threads) == (now.mode, now.learner_threads):
                return False
        threads, before = self._threads, self.plan.learner_threads
        self._end_run()
        self._use(*self._rebuild(better))
        if self._collecting:  # what it has set stays until it is left
            self._watch.collecting(before)
        else:
            threads.put_back()
        return True

    def stats(self) -> Stats:
        """How the time of this run was spent so far."""
        clock = self._clock
        total_ns = clock.left_ns - clock.first_ns
        env_steps = clock.vector_steps * self.num_envs
        stats = Stats(
            vector_steps=clock.vector_steps,
            env_steps=env_steps,
            inside_s=clock.inside_ns * 1e-9,
            outside_s=clock.outside_ns() * 1e-9,
            env_steps_per_s=env_steps / (total_ns * 1e-9) if total_ns else 0.0,
        )
        gain = self._watch.by_buffers()
        if gain is None:
            return stats
        # It goes by rollouts, but what else happens between two steps hides behind none.
        return dataclasses.replace(stats, by_buffers=min(gain, stats.most_by_overlap))

    def close(self, **kwargs: Any) -> None:
        """Closes every sub-environment and ends every worker. Closing twice does nothing.

        Args:
            **kwargs: Passed to the mode's own `close`; processes take `timeout` and `terminate`.
        """
        if not self.closed:
            self._threads.put_back()
            self._end_run(**kwargs)

    def _end_run(self, **kwargs: Any) -> None:
        """Reports the run, and closes every sub-environment."""
        try:
            self._finished()
        finally:
            try:
                self.env.close(**kwargs)
            finally:  # not every native environment notes it; one that raised is not asked again
                self.env.closed = True

    def __enter__(self) -> Self:
        """The vector environment itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Raises an `AttributeError` that says where the attribute may be found."""
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in ("envs", "env_fns"):
                text += (
                    "; envs.unwrapped has it in mode 'sync' only. In every mode that runs your "
                    "environments envs.call, envs.get_attr and envs.set_attr reach them"
                )
            elif name in ("async_reset", "recv", "send"):
                text += "; auto_make_vec(..., batch_size=...) makes one that has it"
            elif not name.startswith("_"):
                text += f"; of the sub-environments get it by envs.get_attr({name!r})"
            raise AttributeError(text, name=name, obj=self)

    def __repr__(self) -> str:
        """Names the mode and what runs in it."""
        return f"<AutoVectorEnv mode={self.mode!r}, {self.env}>"

    def _read_reset(self, seed: Any, options: dict[str, Any] | None) -> dict[str, Any]:
        """The arguments of a reset, checked and copied."""
        checked = read_options(options, self.num_envs)
        mask = None if checked is None else checked.get("reset_mask")
        if mask is not None and not self._was_reset and not mask.all():
            raise ResetNeeded(
                "The first reset has a reset_mask that leaves out sub-environments, which would "
                "have no state. Reset all of them once."
            )
        return {"seed": read_seeds(seed, self.num_envs), "options": checked}

    def _note_reset(self) -> None:
        self._was_reset = True

    def _need_open(self) -> None:
        if self.env.closed:
            self._raise_closed()

    def _raise_closed(self) -> NoReturn:
        raise ClosedEnvironmentError(
            f"{self!r} was used after close(). Make a new one with auto_make_vec."
        )

    def _count(self, start_ns: int) -> None:
        """Adds a step that began at `start_ns` and ends now to the statistics."""
        clock = self._clock
        clock.left_ns = now_ns = perf_counter_ns()
        clock.inside_ns += now_ns - start_ns
        clock.vector_steps += 1
        if clock.vector_steps >= clock.look_at:
            self._look(start_ns)

    def _look(self, start_ns: int) -> None:
        """Has the watch take a sample, if the step that began at `start_ns` is due for one."""
        clock, watch = self._clock, self._watch
        if clock.vector_steps == 1:
            clock.first_ns = start_ns
        if clock.vector_steps >= watch.look_at:
            watch.look(clock.vector_steps, clock.inside_ns, clock.outside_ns())
        clock.look_at, clock.attends = watch.look_at, watch.attends
