"""Every mode keeps the contract; plain `pytest` runs all of it on three, and on others the smoke.

`ray` has fewer actors than all of it takes: test_ray.
"""

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from vecselect import VecselectError, auto_make_vec
from vecselect.testing.contract import VectorEnvContract

GYMNASIUM = tuple(map(int, gym.__version__.split(".")[:2]))
SMOKE = (
    "test_options_and_a_mask_reach_the_sub_environments",
    "test_call_get_attr_and_set_attr_reach_every_sub_environment",
    "test_split_calls_do_what_the_joined_ones_do",
    "test_use_after_close_is_an_error",
)


def variant(kind):
    """Marks the tests of a class as `full`, but for the smoke."""
    for name in dir(kind):
        if name.startswith("test_") and name not in SMOKE:
            setattr(kind, name, pytest.mark.full(copied(getattr(kind, name))))
    return kind


def copied(test):
    """A test of the class's own, so that a mark on it is not one on all classes'."""
    return functools.wraps(test)(lambda *args, **kwargs: test(*args, **kwargs))


class TestAsync(VectorEnvContract):
    mode = "async"
    sets_all_or_none = False
    # Before 1.2 Gymnasium sends a `final_info` whose arrays the reset has overwritten.
    wrong = [("Humanoid-v5", AutoresetMode.SAME_STEP)] if GYMNASIUM < (1, 2) else []


class TestPool(VectorEnvContract):
    mode = "pool:2"


class TestThread(VectorEnvContract):
    mode = "thread:2"


class InBuffers(VectorEnvContract):
    """With `buffers=2`, or of one sub-environment alone without."""

    def make(self, id, num_envs=None, **kwargs):
        count = len(id) if isinstance(id, list) else num_envs
        return self.divided(id, num_envs, count // 2, buffers=min(2, count), **kwargs)

    def divided(self, id, num_envs, most_workers, vector_kwargs=None, **kwargs):
        kind, _, workers = self.mode.partition(":")
        mode = f"{kind}:{min(int(workers), most_workers)}" if workers else kind
        options = {**self.vector_kwargs, **(vector_kwargs or {})}
        return auto_make_vec(id, num_envs, mode, options, **kwargs)


class OneByOne(InBuffers):
    """With a batch of all of them, which step one by one."""

    def make(self, id, num_envs=None, **kwargs):
        count = len(id) if isinstance(id, list) else num_envs
        return self.divided(id, num_envs, count, batch_size=count, **kwargs)


RESTARTED = {"step_timeout_s": 60.0, "on_worker_death": "restart"}
VARIANTS = {
    "Sync": ("sync", {}),
    "PoolOfTheCaller": ("pool:0", {}),
    "PoolOfOne": ("pool:1", {}),
    "PoolOfThree": ("pool:3", {}),
    "PoolSpawned": ("pool:2", {"context": "spawn"}),
    "PoolWithDeadline": ("pool:2", {"step_timeout_s": 60.0}),
    "ThreadOfTheCaller": ("thread:0", {}),
    "ThreadOfOne": ("thread:1", {}),
    "ThreadsWithDeadline": ("thread:3", {"step_timeout_s": 60.0}),
    "SyncInBuffers": ("sync", {}, InBuffers),
    "PoolInBuffers": ("pool:2", {}, InBuffers),
    "ThreadInBuffers": ("thread:2", {}, InBuffers),
    "PoolOneByOne": ("pool:2", {}, OneByOne),
    "PoolOneByOneWithDeadline": ("pool:2", RESTARTED, OneByOne),
    "ThreadOneByOne": ("thread:3", {}, OneByOne),
}
for name, (mode, options, *base) in VARIANTS.items():
    about = {"mode": mode, "vector_kwargs": options}
    kind = type(f"Test{name}", (*base,) or (VectorEnvContract,), about)
    globals()[kind.__name__] = variant(kind)


def test_native_has_the_shapes_of_its_environment():
    with auto_make_vec("CartPole-v1", 4, mode="native") as envs:
        observations, _ = envs.reset(seed=1)
        assert envs.observation_space.contains(observations)
        observations, rewards, terminated, truncated, infos = envs.step(np.zeros(4, np.int64))
        assert envs.observation_space.contains(observations)
        assert rewards.shape == terminated.shape == truncated.shape == (4,)
        assert isinstance(infos, dict)
        with pytest.raises(VecselectError, match="native"):
            envs.get_attr("length", indices=[1])
