"""For Stable-Baselines3: a vector environment as the `VecEnv` that its algorithms take.

    from stable_baselines3 import PPO
    from vecselect.sb3 import make_vec_env

    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 8)).learn(100_000)

Needs `pip install 'vecselect[sb3]'`. Nothing else of vecselect imports this module.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.monitor import Monitor, ResultsWriter
    from stable_baselines3.common.vec_env import VecMonitor
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvWrapper
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "stable_baselines3":
        raise
    raise ModuleNotFoundError(
        "vecselect.sb3 needs Stable-Baselines3, which is not installed here; install it with: "
        "pip install 'vecselect[sb3]'.",
        name=error.name,
    ) from error

from vecselect.errors import RequestError
from vecselect.make import auto_make_vec
from vecselect.whole_infos import WholeInfos, name_of, one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import gymnasium as gym
    from gymnasium.envs.registration import EnvSpec

    from vecselect.factory import EnvFn
    from vecselect.plan import Plan
    from vecselect.report import Report
    from vecselect.vector_env import AutoVectorEnv


def make_vec_env(
    env_id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    n_envs: int | None = None,
    seed: int | None = None,
    start_index: int = 0,
    monitor_dir: str | os.PathLike[str] | None = None,
    wrapper_class: Callable[..., gym.Env] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    vec_env_cls: Any = None,
    vec_env_kwargs: Any = None,
    monitor_kwargs: Mapping[str, Any] | None = None,
    wrapper_kwargs: Mapping[str, Any] | None = None,
    *,
    wrappers: Sequence[Callable[[gym.Env], gym.Env]] = (),
    vector_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> VecEnv:
    """Makes a vector environment as `auto_make_vec` does, for Stable-Baselines3.

    The positional parameters are those of Stable-Baselines3's own `make_vec_env`. Frames for
    `VecVideoRecorder` and the like need `render_mode="rgb_array"`, which is not the default here:
    environments that draw are not run in threads.

    Args:
        env_id: As `auto_make_vec` takes it.
        n_envs: The number of sub-environments, 1 by default; an iterable of callables has its own.
        seed: Of the first reset: the sub-environments get it and the numbers that follow. The
            action spaces are seeded as well.
        start_index: Added to the numbers of the sub-environments in the names of monitor files and
            in the seeds of action spaces.
        monitor_dir: A folder for monitor files, one for each sub-environment, which
            Stable-Baselines3's `load_results` reads. The calling process writes them, so nothing
            that is stepped for measuring gets into them.
        wrapper_class: Put around the `Monitor` of each sub-environment.
        env_kwargs: Keyword arguments of the environment, or of a callable.
        vec_env_cls: Refused: how the sub-environments run is what is chosen here.
        vec_env_kwargs: Refused too.
        monitor_kwargs: Keyword arguments of the `Monitor` of each sub-environment.
        wrapper_kwargs: Keyword arguments of `wrapper_class`.
        wrappers: Applied to each sub-environment after `wrapper_class`, in order.
        vector_kwargs: As `auto_make_vec` takes them, but `autoreset_mode` and `copy` are fixed:
            Stable-Baselines3 has one way to reset, and keeps observations beyond the next step.
        **kwargs: Everything else that `auto_make_vec` takes: `mode`, `effort`, `learner` and so on.

    Returns:
        What `DummyVecEnv` over the same sub-environments would be, bit for bit, but faster where
        workers pay. Its attributes `plan` and `report` tell how it runs and why; `envs` is the
        vector environment itself. Episodes are recorded by a `Monitor` in each sub-environment
        where one of the arguments about it or `wrapper_class` is given, or the sub-environments
        have one already; that costs an import of Stable-Baselines3 in every worker. Elsewhere a
        `VecMonitor` around all of them does it.

    Raises:
        RequestError: If an argument is wrong.
    """
    if vec_env_cls is not None or vec_env_kwargs:
        raise RequestError(
            "vec_env_cls and vec_env_kwargs name a class that runs the sub-environments, which is "
            'what vecselect chooses. Leave them out, or pin a mode: mode="sync" runs them as '
            'DummyVecEnv does, mode="pool" in processes. The start method is '
            'vector_kwargs={"context": "spawn"}.'
        )
    for name, here in (("id", "env_id"), ("num_envs", "n_envs")):
        if name in kwargs:
            raise RequestError(f"{name} is called {here} here, as in Stable-Baselines3.")
    options = {"autoreset_mode": AutoresetMode.SAME_STEP, **(vector_kwargs or {})}
    if env_kwargs and callable(env_id):
        env_id, env_kwargs = functools.partial(env_id, **env_kwargs), None
    chain: list[Callable[[gym.Env], gym.Env]] = [*wrappers, WholeInfos]
    if wrapper_class is not None:
        chain.insert(0, functools.partial(wrapper_class, **(wrapper_kwargs or {})))
    keywords = dict(monitor_kwargs or {})
    override = keywords.pop("override_existing", True)
    if wrapper_class is not None or monitor_dir is not None or monitor_kwargs:
        chain.insert(0, functools.partial(Monitor, **keywords))
    envs = auto_make_vec(
        env_id, n_envs, wrappers=chain, vector_kwargs=options, env_kwargs=env_kwargs, **kwargs
    )
    try:
        made = Sb3VecEnv(envs)
        made.seed(seed)
        if seed is not None:
            made.action_space.seed(seed + start_index)
            for index in range(made.num_envs):
                made.env_method("seed_actions", seed + start_index + index, indices=index)
        if monitor_dir is not None:
            columns = (*keywords.get("reset_keywords", ()), *keywords.get("info_keywords", ()))
            return _MonitorFiles(made, os.fspath(monitor_dir), start_index, columns, override)
        return made if made.env_is_wrapped(Monitor)[0] else VecMonitor(made)
    except BaseException:
        envs.close()
        raise


class CollectingCallback(BaseCallback):
    """Gives torch the threads that the plan counts on in rollouts; for updates the faster number.

        envs = make_vec_env("HalfCheetah-v5", 8, learner_threads="auto")
        PPO("MlpPolicy", envs).learn(100_000, callback=CollectingCallback())

    It is `AutoVectorEnv.collecting` around each rollout, and does nothing where the plan leaves the
    threads as they are. If training ends by an error within a rollout, closing the vector
    environment or the next rollout puts them back.
    """

    def __init__(self, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._entered = contextlib.ExitStack()

    def _init_callback(self) -> None:
        venv = self.training_env
        while isinstance(venv, VecEnvWrapper):
            venv = venv.venv
        if not isinstance(venv, Sb3VecEnv):
            raise RequestError(
                f"CollectingCallback has nothing to do for {type(venv).__name__}: make the vector "
                "environment by vecselect.sb3.make_vec_env, or leave it out."
            )
        self._envs = venv.envs

    def _on_rollout_start(self) -> None:
        self._entered.close()
        self._entered.enter_context(self._envs.collecting())

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._entered.close()

    _on_training_end = _on_rollout_end


class Sb3VecEnv(VecEnv):
    """A vector environment as Stable-Baselines3 sees one, such as one in mode `native`.

    It differs from `DummyVecEnv` in `set_attr`, which sets an attribute where it is, and not on the
    outermost wrapper only. What `make_vec_env` makes is more exact: without its `WholeInfos` infos
    come through batches, which turn ints beside floats into floats, say, and `set_options` takes
    the same options for all only.

    Args:
        envs: Made with `autoreset_mode=SAME_STEP` among its `vector_kwargs`; it belongs to the
            result from here on.

    Attributes:
        envs: The vector environment, with its plan and report.

    Raises:
        RequestError: If it resets in another manner, or hands out observations without a copy.
    """

    def __init__(self, envs: AutoVectorEnv) -> None:
        if envs.autoreset_mode not in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value):
            raise RequestError(
                f"Stable-Baselines3 cannot have autoreset_mode={envs.autoreset_mode}: it takes the "
                "first observation of an episode with the end of the one before. Leave it out."
            )
        if not getattr(envs.unwrapped, "copy", True):
            raise RequestError(
                "Stable-Baselines3 cannot have copy=False: it keeps observations beyond the next "
                "step, which would overwrite them. Leave it out."
            )
        self.envs = envs
        self.num_envs: int = envs.num_envs
        self._whole = self.has_attr("options_once")
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.metadata: dict[str, Any] = self.get_attr("metadata", 0)[0]

    @property
    def plan(self) -> Plan:
        """How the sub-environments run, and why."""
        return self.envs.plan

    @property
    def report(self) -> Report:
        """The plan, rendered for people."""
        return self.envs.report

    def reset(self) -> Any:
        """Resets every sub-environment, with the seeds and options that were set before."""
        options = self._options[0]
        if any(other != options for other in self._options[1:]):
            if not self._whole:
                raise RequestError(
                    "set_options gave the sub-environments different options, which a vector "
                    "environment cannot hand on. Make it by vecselect.sb3.make_vec_env."
                )
            self.envs.set_attr("options_once", list(self._options))
            options = {}
        observations, infos = self.envs.reset(seed=list(self._seeds), options=options or None)
        self.reset_infos: list[dict[str, Any]] = one_by_one(infos, self.num_envs)
        # Both hold for one reset only.
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Begins a step."""
        self.envs.step_async(actions)

    def step_wait(self) -> Any:
        """Collects a step: observations, rewards (float32), dones and infos."""
        observations, rewards, terminated, truncated, batch = self.envs.step_wait()
        dones = terminated | truncated
        infos = one_by_one(batch, self.num_envs)
        if dones.any():
            finals = one_by_one(batch.get("final_info", {}), self.num_envs)
            for index in dones.nonzero()[0].tolist():
                self.reset_infos[index], infos[index] = infos[index], finals[index]
                infos[index]["terminal_observation"] = batch["final_obs"][index]
        limited = (truncated & ~terminated).tolist()
        for info, truncated_only in zip(infos, limited, strict=True):
            info["TimeLimit.truncated"] = truncated_only
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Closes every sub-environment and ends every worker."""
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A frame of every sub-environment, where its render mode is `rgb_array`."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"The render mode is {self.render_mode!r}, which gives no images; make the "
                'sub-environments with render_mode="rgb_array".',
                stacklevel=2,
            )
            return [None] * self.num_envs
        return list(self.envs.call("render"))

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of sub-environments."""
        return self.env_method("get_wrapper_attr", attr_name, indices=indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute of sub-environments, the same value for all of them."""
        chosen = self._chosen(indices)
        self.envs.set_attr(attr_name, [value] * len(chosen), indices=chosen)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of sub-environments."""
        return list(self.envs.call(method_name, *args, indices=self._chosen(indices), **kwargs))

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """Whether sub-environments have a wrapper of a class, or of one derived from it."""
        if self._whole:
            return self.env_method("is_wrapped_by", name_of(wrapper_class), indices=indices)
        # They may run elsewhere; their text names every wrapper.
        texts = self.env_method("__str__", indices=indices)
        return [f"<{wrapper_class.__name__}<" in text for text in texts]

    def _chosen(self, indices: Any) -> list[int]:
        """Which sub-environments are meant; negative numbers count from the end."""
        every = range(self.num_envs)
        return [every[index] for index in self._get_indices(indices)]


class _MonitorFiles(VecEnvWrapper):
    """Writes what the `Monitor` of each sub-environment tells of an episode into a file."""

    def __init__(
        self, venv: Sb3VecEnv, folder: str, start_index: int, columns: Sequence[str], override: bool
    ) -> None:
        super().__init__(venv)
        header: dict[str, float | str] = {"t_start": time.time(), "env_id": venv.plan.env}
        names = (str(start_index + index) for index in range(venv.num_envs))
        self._files = [
            ResultsWriter(os.path.join(folder, name), header, tuple(columns), override)
            for name in names
        ]

    def reset(self) -> Any:
        """Resets every sub-environment."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """Collects a step, and writes down the episodes that ended with it."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for file, info in zip(self._files, infos, strict=True):
            if "episode" in info:
                file.write_row(info["episode"])
        return observations, rewards, dones, infos

    def close(self) -> None:
        """Closes the sub-environments and the files."""
        self.venv.close()
        for file in self._files:
            file.close()
