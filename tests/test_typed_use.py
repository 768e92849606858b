"""A typed user's script, which mypy checks with the package, as `pyproject.toml` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from typing_extensions import assert_type

from vecselect import (
    AutoVectorEnv,
    IpcProfile,
    Plan,
    Report,
    StepProfile,
    Sweep,
    SweepReport,
    auto_make_vec,
    available_modes,
    measure_ipc,
    pinned,
    profile_step,
    recommend,
    sweep,
)
from vecselect.testing.contract import VectorEnvContract


def short(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return TimeLimit(env, 5)


def policy(observations: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    return np.zeros((len(observations), 1), np.float32)


def test_a_loop() -> None:
    with pinned("sync"), auto_make_vec("Pendulum-v1", 3, wrappers=[short]) as envs:
        assert_type(envs, AutoVectorEnv)
        observations, infos = envs.reset(seed=1)
        with envs.collecting():
            for _ in range(6):
                observations, rewards, terminated, truncated, infos = envs.step(
                    policy(observations)
                )
        assert_type(infos, dict[str, Any])
        assert_type(envs.plan, Plan)
        assert_type(envs.report, Report)
        assert_type(envs.mode, str)
        assert_type(envs.stats().env_steps_per_s, float)
        assert_type(envs.call("get_wrapper_attr", "np_random_seed"), tuple[Any, ...])
        assert [half.rows for half in envs.buffers] == [slice(0, 3)]


def test_the_kinds_of_environments_and_arguments() -> None:
    factories = [PendulumEnv, lambda: gym.make("Pendulum-v1")]
    options: dict[str, Any] = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    envs = auto_make_vec(factories, mode="sync", vector_kwargs=options)
    wrapped = RecordEpisodeStatistics(envs)
    vector: gym.vector.VectorEnv[Any, Any, Any] = wrapped
    vector.reset(seed=1)
    vector.close()
    spec = gym.spec("Pendulum-v1")
    auto_make_vec(spec, 1, "sync", env_kwargs={"g": 9.81}, learner=1e-4, allow=("native",)).close()


def test_planning_without_building(tmp_path: Path) -> None:
    plan = recommend("CartPole-v1", 2, effort="rule", learner=policy, use_store=False)
    assert_type(plan, Plan)
    assert_type(Plan.from_json(plan.to_json()), Plan)
    assert_type(Report(plan).save(tmp_path / "plan.md"), Path)
    found = sweep("CartPole-v1", [1, 2], modes=["sync"], budget_s=0.2, use_store=False)
    assert_type(found, Sweep)
    assert_type(SweepReport(found).save(tmp_path / "sweep.json"), Path)
    assert_type(profile_step("CartPole-v1", budget_s=0.01), StepProfile)
    assert_type(measure_ipc(np.zeros(3), budget_s=0.01), IpcProfile)
    assert_type(available_modes(), dict[str, str | None])


class TestOwn(VectorEnvContract):
    """The contract, as who adds a mode derives it; checked for its types alone."""

    __test__ = False
    mode = "sync"
