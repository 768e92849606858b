"""What has no identity that another process would agree on is refused, with the reason."""

import dataclasses
import functools
import logging
import os
import threading

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from tests.test_identity import Settings
from vecselect.store.key import Unstable, identify


class Rude:
    @property
    def __wrapped__(self):
        raise SystemError

    def __getattr__(self, name):
        raise LookupError(name)

    def __eq__(self, other):
        raise LookupError

    __hash__ = None


@dataclasses.dataclass
class RudeData:
    size: int = 1

    def __getattribute__(self, name):
        raise LookupError(name)


def nested(depth):
    return functools.reduce(lambda inner, _: [inner], range(depth), 0)


def with_logger():
    log = logging.getLogger("x")
    return lambda: log.info("made")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (threading.Lock(), "it is a lock, which has no stable identity"),
        ({"a": [threading.Lock()]}, "it holds a lock in 'a', which has no stable identity"),
        ((i for i in ()), "it is a generator, "),
        (object(), "it is an object, "),
        (with_logger(), "it holds a Logger in 'log', "),
        (functools.partial(gym.make, "A", log=logging.getLogger()), "a RootLogger in 'log'"),
        (Settings(size=iter(())), "in 'size'"),
        (np.array([object()]), "an object"),
        (np.random.default_rng(0), "it is a Generator"),
        (EnvSpec("A-v0", entry_point="nosuchmodule:A"), "'nosuchmodule:A' cannot be loaded"),
        (nested(60), "nested more than 50 levels deep"),
        (nested(100_000), "nested"),
        ([[i] for i in range(30_000)], "more than 20000 objects"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_stable_identity_is_refused_with_the_reason(value, reason):
    with pytest.raises(Unstable) as caught:
        identify(value)
    assert reason in caught.value.reason


def test_an_object_that_fails_when_looked_into_is_refused_and_not_a_failure():
    with pytest.raises(Unstable, match="it is a Rude, "):
        identify(Rude())
    with pytest.raises(Unstable, match="it holds a Rude in 'a'"):
        identify({"a": Rude()})
    with pytest.raises(Unstable, match="looking into it raised LookupError"):
        identify(RudeData())


def test_an_open_file_and_an_environment_are_refused():
    with open(os.devnull) as file, pytest.raises(Unstable, match="it holds a TextIOWrapper"):
        identify([file])
    with gym.make("CartPole-v1") as env, pytest.raises(Unstable, match="'env'"):
        identify(lambda: env)
