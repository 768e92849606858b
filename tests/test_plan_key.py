"""The key of a plan: what changes the choice changes it, and nothing else does."""

import dataclasses
import functools
import json
import time

import gymnasium as gym
import pytest

from tests.test_identity_refused import with_logger
from vecselect.machine import read_machine
from vecselect.request import read_request
from vecselect.store.key import Unstable, key_of, machine_fields
from vecselect.store.key import plan_key_fields as key_fields


def fields(*arguments, machine=None, learner=None, allow=(), **options):
    request = read_request(*arguments, **options)
    return key_fields(request, machine or read_machine(), learner=learner, allow=allow)


MACHINE = read_machine()
BASE = fields("CartPole-v1", 2, machine=MACHINE)


@pytest.mark.parametrize(
    "options",
    [
        {"num_envs": 3},
        {"env_kwargs": {"sutton_barto_reward": True}},
        {"wrappers": [gym.wrappers.FlattenObservation]},
        {"vector_kwargs": {"autoreset_mode": "SameStep"}},
        {"learner": {"kind": "callable"}},
        {"allow": ("native",)},
        {"machine": dataclasses.replace(MACHINE, cores=MACHINE.cores + 1)},
        {"machine": dataclasses.replace(MACHINE, memory_bytes=MACHINE.memory_bytes * 2)},
        {"machine": dataclasses.replace(MACHINE, cpu="another")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_changes_the_choice_changes_the_key(options):
    asked = {"num_envs": 2, "machine": MACHINE, **options}
    assert key_of(fields("CartPole-v1", **asked)) != key_of(BASE)


def test_the_threads_of_the_libraries_are_part_of_the_key(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "13")
    assert key_of(fields("CartPole-v1", 2, machine=MACHINE)) != key_of(BASE)


def test_what_only_passes_by_does_not_change_the_key():
    busy = dataclasses.replace(
        MACHINE, load_1min=99.0, memory_available_bytes=1, cores=MACHINE.cores + 0.01
    )
    again = fields("CartPole-v1", 2, machine=busy)
    assert again == BASE
    assert machine_fields(busy) == BASE["machine"]


def test_the_key_is_short_and_that_of_the_stored_fields():
    key = key_of(BASE)
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert json.loads(json.dumps(BASE)) == BASE
    assert key_of(json.loads(json.dumps(BASE))) == key


def test_one_function_for_all_is_looked_at_once_and_several_each():
    def make():
        return gym.make("CartPole-v1")

    one, several = fields(make, 4), fields([make, lambda: gym.make("CartPole-v1")])
    assert one["env"]["env_fns"] == fields([make] * 7)["env"]["env_fns"]
    assert one["env"]["env_fns"] != several["env"]["env_fns"]
    assert several["env"]["env_fns"] != fields([make, make])["env"]["env_fns"]


@pytest.mark.parametrize(
    ("arguments", "options", "part"),
    [
        ((with_logger(), 2), {}, "The environment's callable cannot be recognised"),
        (("CartPole-v1", 2), {"env_kwargs": {"a": object()}}, "The environment's keyword"),
        (("CartPole-v1", 2), {"wrappers": [with_logger()]}, "The list of wrappers cannot"),
    ],
)
def test_a_request_that_is_not_stable_says_which_part(arguments, options, part):
    with pytest.raises(Unstable) as caught:
        fields(*arguments, **options)
    assert caught.value.reason.startswith(part)
    assert caught.value.reason.endswith("no stable identity.")


def test_it_takes_a_few_milliseconds():
    request = read_request([functools.partial(gym.make, "CartPole-v1") for _ in range(16)])
    taken_s = []
    for _ in range(5):
        start_s = time.perf_counter()
        key_of(key_fields(request, MACHINE, learner=None, allow=()))
        taken_s.append(time.perf_counter() - start_s)
    assert min(taken_s) < 5e-3
