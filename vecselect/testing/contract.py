"""The contract of every mode that runs the user's environments: what `SyncVectorEnv` does, exactly.

    from vecselect.testing.contract import VectorEnvContract


    class TestTimed(VectorEnvContract):
        mode = "timed"

pytest runs what the class inherits. "How to add a mode" in `examples/README.md` shows the rest.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vecselect.make import auto_make_vec
from vecselect.measure.trial import first_difference
from vecselect.modes import KINDS, Mode
from vecselect.testing import envs as zoo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gymnasium.vector import VectorEnv

    from vecselect.vector_env import AutoVectorEnv

STOCK = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "FrozenLake-v1",
    "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3",
    "Blackjack-v1",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "HalfCheetah-v5",
    "Humanoid-v5",
)
"""Environments of Gymnasium; those whose libraries are not installed are skipped."""


ZEROS = np.zeros(3, np.int64)

JOINED: list[Callable[[AutoVectorEnv], Any]] = [
    lambda envs: envs.step(ZEROS),
    lambda envs: envs.reset(),
    lambda envs: envs.call("double", 1),
    lambda envs: envs.get_attr("label"),
    lambda envs: envs.set_attr("label", "x"),
    lambda envs: envs.render(),
]
BEGIN: dict[str, Callable[[AutoVectorEnv], Any]] = {
    "step": lambda envs: envs.step_async(ZEROS),
    "reset": lambda envs: envs.reset_async(),
    "call": lambda envs: envs.call_async("double", 1),
}
WAIT: dict[str, Callable[[AutoVectorEnv], Any]] = {
    "step": lambda envs: envs.step_wait(),
    "reset": lambda envs: envs.reset_wait(),
    "call": lambda envs: envs.call_wait(),
}
"""Every use of a vector environment: in one call, or in two."""


def assert_same(actual: Any, expected: Any, path: str = "result") -> None:
    """Fails unless the two are equal in structure, type, dtype, shape and every bit.

    `path` says where they stand, for the message.
    """
    difference = first_difference(actual, expected, path)
    assert difference is None, difference


def assert_same_run(
    envs: VectorEnv[Any, Any, Any],
    oracle: VectorEnv[Any, Any, Any],
    steps: int,
    seed: Any = 7,
    reset: Callable[[int, np.ndarray], dict[str, Any] | None] | None = None,
) -> None:
    """Fails unless two vector environments return the same for the same seeds and actions.

    Args:
        envs: The one under test.
        oracle: What it is compared with.
        steps: Vector steps.
        seed: Of the first reset; the actions follow from it.
        reset: Called with the number of a step and the flags of ended episodes to get a reset's
            arguments, or None for no reset.
    """
    space = copy.deepcopy(oracle.action_space)
    space.seed(3)
    assert_same(envs.reset(seed=seed), oracle.reset(seed=seed), "reset")
    for step in range(steps):
        actions = space.sample()
        actual, expected = envs.step(copy.deepcopy(actions)), oracle.step(actions)
        assert_same(actual, expected, f"step {step}")
        arguments = reset(step, expected[2] | expected[3]) if reset else None
        if arguments is not None:
            result = envs.reset(**copy.deepcopy(arguments))
            assert_same(result, oracle.reset(**copy.deepcopy(arguments)), f"reset after {step}")


def echoes(
    count: int, kind: type[zoo.EchoEnv] = zoo.EchoEnv
) -> list[Callable[[], gym.Env[Any, Any]]]:
    """Factories of environments that tell their index, seed, episode, step and action."""
    return [functools.partial(kind, index) for index in range(count)]


def samples(space: gym.Space[Any], count: int = 3) -> list[Callable[[], gym.Env[Any, Any]]]:
    """Factories of environments that draw their observations from a space."""
    return [functools.partial(zoo.SampleEnv, space, None, 3 + index) for index in range(count)]


def actors(space: gym.Space[Any], count: int = 3) -> list[Callable[[], gym.Env[Any, Any]]]:
    """Factories of environments that tell the actions they got, of a space."""
    return [functools.partial(zoo.SampleEnv, spaces.Discrete(9), space)] * count


def masked_reset(step: int, ended: np.ndarray) -> dict[str, Any] | None:
    """The arguments of the reset after a step in `DISABLED`: a mask of the ended episodes."""
    return {"options": {"reset_mask": ended}} if ended.any() else None


class VectorEnvContract:
    """What a mode must do; derive from it and set `mode`.

    Attributes:
        mode: The mode as users write it. A number of workers is lowered where there is not work
            for so many.
        vector_kwargs: Given to all that is built.
        sets_all_or_none: Whether `set_attr` takes back what it has set if one sub-environment
            refuses.
        wrong: Ids of stock environments with the autoreset modes in which the mode is known to be
            wrong.
    """

    mode: str
    vector_kwargs: dict[str, Any] = {}
    sets_all_or_none: bool = True
    wrong: Sequence[tuple[str, AutoresetMode]] = ()

    def make(
        self,
        id: str | list[Callable[[], gym.Env[Any, Any]]],
        num_envs: int | None = None,
        **kwargs: Any,
    ) -> AutoVectorEnv:
        """The mode under test over an environment; `kwargs` are those of `auto_make_vec`."""
        options = {**self.vector_kwargs, **kwargs.pop("vector_kwargs", {})}
        mode = Mode.parse(self.mode)
        if mode.workers is not None:
            count = len(id) if isinstance(id, list) else num_envs or 1
            steps_too = KINDS[mode.kind].caller_steps and "step_timeout_s" not in options
            mode = Mode(mode.kind, min(mode.workers, count - steps_too))
        return auto_make_vec(id, num_envs, str(mode), options, **kwargs)

    def pair(
        self, env_fns: list[Callable[[], gym.Env[Any, Any]]], **options: Any
    ) -> tuple[AutoVectorEnv, SyncVectorEnv]:
        """The mode under test and the loop over the same callables."""
        return self.make(env_fns, vector_kwargs=options), SyncVectorEnv(env_fns, **options)

    @pytest.mark.parametrize("id", STOCK)
    def test_stock_environments_equal_the_loop_in_every_autoreset_mode(self, id: str) -> None:
        try:
            gym.make(id).close()
        except gym.error.DependencyNotInstalled as error:
            pytest.skip(str(error))
        for autoreset_mode in AutoresetMode:
            if (id, autoreset_mode) in self.wrong:
                continue
            options = {"autoreset_mode": autoreset_mode}
            make = functools.partial(gym.make, id, max_episode_steps=12)
            with self.make(id, 3, vector_kwargs=options, max_episode_steps=12) as envs:
                oracle = SyncVectorEnv([make] * 3, autoreset_mode=autoreset_mode)
                assert envs.metadata == oracle.metadata
                assert envs.single_observation_space == oracle.single_observation_space
                assert envs.observation_space == oracle.observation_space
                assert envs.action_space == oracle.action_space
                reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
                assert_same_run(envs, oracle, 30, reset=reset)
                assert envs.get_attr("np_random_seed") == oracle.get_attr("np_random_seed")
                states = [
                    [generator.bit_generator.state for generator in vector.get_attr("np_random")]
                    for vector in (envs, oracle)
                ]
                assert states[0] == states[1]
                oracle.close()

    @pytest.mark.parametrize("autoreset_mode", AutoresetMode)
    @pytest.mark.parametrize("kind", [zoo.EchoEnv, zoo.InfoEnv])
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_observations_rewards_and_infos_belong_together(
        self, kind: type[zoo.EchoEnv], count: int, autoreset_mode: AutoresetMode
    ) -> None:
        envs, oracle = self.pair(echoes(count, kind), autoreset_mode=autoreset_mode)
        with envs:
            reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
            assert_same_run(envs, oracle, 40, reset=reset)

    @pytest.mark.parametrize("name", zoo.SPACES)
    def test_observations_of_any_space_equal_the_loop(self, name: str) -> None:
        envs, oracle = self.pair(samples(zoo.SPACES[name]))
        with envs:
            assert envs.observation_space == oracle.observation_space
            assert_same_run(envs, oracle, 12)

    @pytest.mark.parametrize("name", zoo.ACTION_SPACES)
    def test_each_sub_environment_gets_its_action_as_the_loop_gives_it(self, name: str) -> None:
        envs, oracle = self.pair(actors(zoo.ACTION_SPACES[name]))
        with envs:
            assert envs.action_space == oracle.action_space
            assert_same_run(envs, oracle, 8)

    @pytest.mark.parametrize("seed", [None, 5, [3, None, 9], np.array([4, 5, 6]), np.int64(2)])
    def test_seeds_reach_the_sub_environments_as_in_the_loop(self, seed: Any) -> None:
        envs, oracle = self.pair(echoes(3))
        plain = seed.tolist() if isinstance(seed, (np.ndarray, np.integer)) else seed
        with envs:
            assert_same(envs.reset(seed=seed), oracle.reset(seed=plain))

    def test_options_and_a_mask_reach_the_sub_environments(self) -> None:
        envs, oracle = self.pair(echoes(4))
        mask = np.array([True, False, False, True])

        def now_and_then(step: int, ended: np.ndarray) -> dict[str, Any] | None:
            options = {"reset_mask": mask, "deep": 1}
            return {"seed": step, "options": options} if step % 3 == 1 else None

        with envs:
            everything = {"reset_mask": np.ones(4, bool)}
            assert_same(
                envs.reset(seed=5, options=everything),
                oracle.reset(seed=5, options=dict(everything)),
            )
            given = {"b": 1, "a": 2}
            assert_same(envs.reset(options=given), oracle.reset(options=dict(given)))
            assert_same_run(envs, oracle, 12, reset=now_and_then)

    def test_call_get_attr_and_set_attr_reach_every_sub_environment(self) -> None:
        envs, oracle = self.pair(echoes(3))
        with envs:
            for vector in (envs, oracle):
                vector.reset(seed=1)
            assert envs.call("double", 4, plus=1) == oracle.call("double", 4, plus=1) == (9, 10, 11)
            assert envs.call("named", name="x") == ("x 0", "x 1", "x 2")
            envs.call_async("named", name="x", indices=[2])
            assert envs.call_wait() == ("x 2",)
            assert envs.get_attr("label") == ("echo 0", "echo 1", "echo 2")
            envs.set_attr("label", ["a", "b", "c"])
            assert envs.get_attr("label") == ("a", "b", "c")
            envs.set_attr("label", "same")
            assert envs.get_attr("label") == ("same",) * 3
            assert_same(envs.render(), oracle.render())

    def test_some_sub_environments_are_reached_in_the_order_of_the_indices(self) -> None:
        with self.make(echoes(5)) as envs:
            envs.reset(seed=1)
            assert envs.call("double", 4, indices=[3, 0, 4], plus=1) == (12, 9, 13)
            assert envs.call("double", 4, indices=2) == (10,)
            some: Any = np.array([1])
            assert envs.call("double", 4, indices=some) == (9,)
            assert envs.call("double", 4, indices=[]) == ()
            assert envs.get_attr("label", indices=(4, 1)) == ("echo 4", "echo 1")
            envs.set_attr("label", ["d", "b"], indices=[3, 1])
            assert envs.get_attr("label") == ("echo 0", "b", "echo 2", "d", "echo 4")
            envs.set_attr("label", "same", indices=np.int64(4))
            assert envs.get_attr("label", indices=[4, 0]) == ("same", "echo 0")
            envs.call_async("double", 1, indices=[4, 2])
            assert envs.call_wait() == (6, 4)
            envs.call_async("double", 1)
            assert envs.call_wait() == envs.call("double", 1) == (2, 3, 4, 5, 6)
            assert_same(envs.step(np.ones(5, np.int64))[1], 1000.0 * np.arange(5) + 10.1)

    def test_wrong_indices_or_values_are_an_error_before_anything_is_called(self) -> None:
        wrong: list[tuple[Any, type[Exception], str]] = [
            (5, IndexError, "holds 5"),
            ([0, -1], IndexError, "holds -1"),
            ([1, 3, 1], ValueError, "twice"),
            ("all", TypeError, "neither an int"),
            ([0.0], TypeError, "neither an int"),
            (True, TypeError, "flatnonzero"),
            (np.array([True, False, False, False, False]), TypeError, "flatnonzero"),
        ]
        with self.make(echoes(5)) as envs:
            envs.reset(seed=1)
            for indices, error, says in wrong:
                with pytest.raises(error, match=says):
                    envs.set_attr("label", "changed", indices=indices)
                with pytest.raises(error, match=says):
                    envs.call("double", 1, indices=indices)
                with pytest.raises(error, match=says):
                    envs.call_async("double", 1, indices=indices)
                with pytest.raises(error, match=says):
                    envs.get_attr("label", indices=indices)
            with pytest.raises(ValueError, match="3 values; 2 are needed"):
                envs.set_attr("label", ["a", "b", "c"], indices=[0, 1])
            assert envs.get_attr("label") == tuple(f"echo {index}" for index in range(5))

    def test_some_are_set_or_none_of_them(self) -> None:
        if not self.sets_all_or_none:
            pytest.skip("those before the one that refuses are set")
        with self.make([functools.partial(zoo.PickyEnv, index) for index in range(4)]) as envs:
            with pytest.raises(ValueError, match="refused"):
                envs.set_attr("limit", [1, 2, -1], indices=[3, 0, 2])
            assert envs.get_attr("limit") == (10, 10, 10, 10)
            envs.set_attr("limit", [1, 2], indices=[3, 0])
            assert envs.get_attr("limit") == (2, 10, 10, 1)

    def test_split_calls_do_what_the_joined_ones_do(self) -> None:
        envs, oracle = self.pair(echoes(3))
        with envs:
            envs.reset_async(seed=4)
            assert_same(envs.reset_wait(), oracle.reset(seed=4))
            for step in range(8):
                actions = np.array([step % 10, 1, 2])
                envs.step_async(actions)
                assert_same(envs.step_wait(), oracle.step(actions))
            envs.call_async("double", 3)
            assert envs.call_wait() == oracle.call("double", 3)

    def test_split_calls_out_of_order_are_an_error(self) -> None:
        with self.make(echoes(3)) as envs:
            envs.reset(seed=1)
            for name, begin in BEGIN.items():
                for too_early in WAIT.values():
                    with pytest.raises(gym.error.NoAsyncCallError):
                        too_early(envs)
                begin(envs)
                for use in (*JOINED, *BEGIN.values()):
                    with pytest.raises(gym.error.AlreadyPendingCallError):
                        use(envs)
                for another in WAIT.keys() - {name}:
                    with pytest.raises(gym.error.NoAsyncCallError):
                        WAIT[another](envs)
                WAIT[name](envs)
            envs.step(ZEROS)

    def test_use_after_close_is_an_error(self) -> None:
        envs = self.make(echoes(3))
        envs.reset(seed=1)
        envs.close()
        envs.close()
        assert envs.closed
        for use in (*JOINED, *BEGIN.values(), *WAIT.values()):
            with pytest.raises(gym.error.ClosedEnvironmentError, match="was used after close"):
                use(envs)

    def test_returned_arrays_never_change_later(self) -> None:
        envs, _ = self.pair(echoes(3))
        with envs:
            results = [envs.reset(seed=1)[0]]
            copies = [results[0].copy()]
            for step in range(6):
                result = envs.step(np.full(3, step))
                results += result[:4]
                copies += [part.copy() for part in result[:4]]
            for kept, copied in zip(results, copies, strict=True):
                assert_same(kept, copied)
            actions = np.array([1, 2, 3])
            envs.reset(seed=1)
            envs.step_async(actions)
            actions[:] = 0
            assert envs.step_wait()[0][:, 4].tolist() == [1.0, 2.0, 3.0]

    def test_different_bounds_batch_under_observation_mode_different(self) -> None:
        bounds = [spaces.Box(-high, high, (2,), np.float32) for high in (1, 2, 3)]
        env_fns: list[Callable[[], gym.Env[Any, Any]]] = [
            functools.partial(zoo.SampleEnv, box) for box in bounds
        ]
        envs, oracle = self.pair(env_fns, observation_mode="different")
        with envs:
            assert envs.observation_space == oracle.observation_space
            assert_same_run(envs, oracle, 6)

    def test_copy_false_gives_the_same_numbers(self) -> None:
        envs, oracle = self.pair(echoes(3), copy=False)
        with envs:
            assert_same_run(envs, oracle, 12)

    def test_wrappers_of_single_environments_are_applied(self) -> None:
        wrapper = gym.wrappers.TimeAwareObservation
        oracle = SyncVectorEnv([lambda: wrapper(gym.make("Pendulum-v1"))] * 2)
        with self.make("Pendulum-v1", 2, wrappers=[wrapper]) as envs:
            assert_same_run(envs, oracle, 5)

    def test_the_spec_makes_the_same_environments_again(self) -> None:
        with self.make("Pendulum-v1", 2, g=5.0) as envs:
            assert envs.spec is not None
            assert envs.spec.kwargs["g"] == 5.0
            again = gym.make_vec(envs.spec)
            assert again.num_envs == 2
            assert again.get_attr("g") == (5.0, 5.0)  # type: ignore[attr-defined]
            again.close()
