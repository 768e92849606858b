"""Round trips to a real child process, and that it is gone afterwards."""

import os
import pickle
import time

import numpy as np
import psutil
import pytest

from vecselect import ProfileError, measure_ipc
from vecselect.measure import ipc

START_METHODS = ("forkserver", "spawn", "fork")
OBSERVATION = np.zeros((84, 84, 4), np.uint8)
BUDGET_S = 0.1

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module", autouse=True)
def helpers_that_stay():
    """The fork server and the resource tracker, which multiprocessing starts once and keeps."""
    for method in ("forkserver", "spawn"):
        measure_ipc(None, start_method=method, budget_s=0.0)


class Opening:
    """Pickles well, and does something else to whoever opens it."""

    def __init__(self, function, *arguments):
        self.opened = function, arguments

    def __reduce__(self):
        return self.opened


def refuse():
    raise ZeroDivisionError("this observation cannot be opened")


@pytest.mark.parametrize("method", START_METHODS)
def test_a_profile_is_in_seconds_and_bytes_and_leaves_no_child(method):
    before = children()
    profile = measure_ipc(OBSERVATION, start_method=method, budget_s=BUDGET_S)
    assert children() <= before
    assert profile.start_method == method
    assert 1 <= profile.rounds <= ipc.ROUNDS
    assert 0 < profile.tiny_s < profile.large_s < 1
    assert 0 < profile.observation_p10_s <= profile.observation_s <= profile.observation_p90_s < 1
    assert profile.per_message_s > 0
    assert profile.per_byte_s >= 0


def test_the_default_start_method_is_not_fork():
    assert measure_ipc(None, budget_s=0.0).start_method != "fork"


def test_sizes_are_those_of_the_pickled_messages():
    profile = measure_ipc(OBSERVATION, budget_s=0.0)
    assert profile.observation_bytes == len(pickle.dumps(OBSERVATION, pickle.HIGHEST_PROTOCOL))
    assert OBSERVATION.nbytes < profile.observation_bytes < OBSERVATION.nbytes + 1000


@pytest.mark.parametrize(
    ("size", "large_bytes"),
    [(10, ipc.LARGE_MIN_BYTES), (1 << 20, 4 << 20)],
    ids=["small observation", "large observation"],
)
def test_the_large_message_is_four_observations_but_never_small(size, large_bytes):
    profile = measure_ipc(np.zeros(size, np.uint8), budget_s=0.0)
    assert profile.large_bytes == pytest.approx(large_bytes, rel=1e-2)


def test_cost_per_message_and_per_byte_are_the_line_of_least_squares():
    profile = measure_ipc(OBSERVATION, budget_s=BUDGET_S)
    sizes = np.array([0, profile.observation_bytes, profile.large_bytes])
    measured_s = np.array([profile.tiny_s, profile.observation_s, profile.large_s])
    left_s = measured_s - (profile.per_message_s + profile.per_byte_s * sizes)
    assert left_s.sum() == pytest.approx(0, abs=1e-9)
    assert (left_s * sizes).sum() == pytest.approx(0, abs=1e-6)


def test_structured_observations_are_sent():
    observation = {"image": np.zeros(4, np.uint8), "pair": (np.int64(1), "a text")}
    assert measure_ipc(observation, budget_s=0.0).observation_s > 0


def test_without_any_budget_there_is_still_a_round():
    assert 1 <= measure_ipc(None, budget_s=0.0).rounds < ipc.ROUNDS


def test_a_large_budget_ends_after_200_rounds():
    assert measure_ipc(None, budget_s=60.0).rounds == 200


@pytest.mark.parametrize("method", START_METHODS)
def test_an_observation_that_cannot_be_pickled_leaves_no_child(method):
    before = children()
    with pytest.raises(ProfileError, match="cannot be sent to another process"):
        measure_ipc({"socket": lambda: None}, start_method=method)
    assert children() <= before


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize(
    "observation", [Opening(refuse), Opening(os._exit, 3)], ids=["raises", "exits"]
)
def test_a_child_that_dies_of_the_observation_is_a_profile_error(method, observation):
    before = children()
    with pytest.raises(ProfileError, match="echoes messages died") as caught:
        measure_ipc(observation, start_method=method, budget_s=BUDGET_S)
    assert isinstance(caught.value.__cause__, (EOFError, ConnectionError))
    assert children() <= before


@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_that_never_answers_is_killed(method, monkeypatch):
    monkeypatch.setattr(ipc, "LIMIT_S", 0.5)
    before = children()
    start_s = time.monotonic()
    with pytest.raises(ProfileError, match="did not answer within 0.5 s"):
        measure_ipc(Opening(time.sleep, 3600), start_method=method, budget_s=0.0)
    assert time.monotonic() - start_s < 10
    assert children() <= before


def test_an_interrupted_measurement_leaves_no_child(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ipc, "_round_trips", interrupted)
    before = children()
    with pytest.raises(KeyboardInterrupt):
        measure_ipc(None)
    assert children() <= before
