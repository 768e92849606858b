"""The guide to adding a mode works as it is written: its code is taken from it and run."""

import re
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests import zoo
from tests.compare import assert_same_run
from tests.test_contract import echoes
from vecselect import auto_make_vec, available_modes, modes, recommend
from vecselect.backends.registry import BACKENDS

GUIDE = Path(__file__).parents[1] / "examples" / "README.md"


@pytest.fixture
def timed(monkeypatch):
    text = GUIDE.read_text(encoding="utf-8")
    section = text[text.index("## How to add a mode") :]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {}
    exec(code, names)
    monkeypatch.setitem(BACKENDS, "timed", names["Timed"]())
    monkeypatch.setattr(modes, "KINDS", (*modes.KINDS, "timed"))


@pytest.mark.parametrize("autoreset_mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_guide_s_mode_keeps_the_contract(timed, autoreset_mode):
    options = {"autoreset_mode": autoreset_mode}
    for env_fns in (
        [lambda: gym.make("CartPole-v1", max_episode_steps=9)] * 3,
        echoes(3),
        echoes(2, zoo.EchoEnv),
    ):
        with auto_make_vec(env_fns, mode="timed", vector_kwargs=options) as envs:
            assert_same_run(envs, SyncVectorEnv(env_fns, **options), steps=25)
            assert (envs.unwrapped.seconds > 0).all()


def test_the_guide_s_mode_is_known_everywhere_and_chosen_only_by_pin(timed):
    assert available_modes()["timed"] is None
    plan = recommend("CartPole-v1", 2, use_store=False)
    assert plan.mode != "timed"
    with auto_make_vec("CartPole-v1", 2, mode="timed") as envs:
        assert envs.mode == envs.plan.mode == "timed"
