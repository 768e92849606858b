"""Round trips to a real child process, and that it is gone afterwards."""

import os
import pickle
import time

import numpy as np
import pytest

from vecselect import ProfileError, measure_ipc
from vecselect.measure import ipc

START_METHODS = ("forkserver", "spawn", "fork")
OBSERVATION = np.zeros((84, 84, 4), np.uint8)

pytestmark = [
    pytest.mark.usefixtures("no_process_is_left"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


class Opening:
    """Pickles well, and does something else to whoever opens it."""

    def __init__(self, function, *arguments):
        self.opened = function, arguments

    def __reduce__(self):
        return self.opened


def refuse():
    raise ZeroDivisionError("this observation cannot be opened")


@pytest.mark.parametrize("method", START_METHODS)
def test_a_profile_is_in_seconds_and_bytes_of_the_pickled_messages(method):
    found = measure_ipc(OBSERVATION, start_method=method, budget_s=0.1)
    assert 1 <= found.rounds <= ipc.ROUNDS
    assert 0 < found.observation_s < 1
    assert found.observation_bytes == len(pickle.dumps(OBSERVATION, pickle.HIGHEST_PROTOCOL))
    assert OBSERVATION.nbytes < found.observation_bytes < OBSERVATION.nbytes + 1000


def test_without_any_budget_there_is_a_round_and_with_a_large_one_there_are_200():
    structured = {"image": np.zeros(4, np.uint8), "pair": (np.int64(1), "a text")}
    found = measure_ipc(structured, budget_s=0.0)
    assert 1 <= found.rounds < ipc.ROUNDS
    assert measure_ipc(None, budget_s=60.0).rounds == 200


@pytest.mark.parametrize("method", START_METHODS)
def test_what_cannot_be_sent_or_opened_is_a_profile_error(method):
    with pytest.raises(ProfileError, match="cannot be sent to another process"):
        measure_ipc({"socket": lambda: None}, start_method=method)
    for observation in (Opening(refuse), Opening(os._exit, 3)):
        with pytest.raises(ProfileError, match="echoes messages died") as caught:
            measure_ipc(observation, start_method=method, budget_s=0.1)
        assert isinstance(caught.value.__cause__, (EOFError, ConnectionError))


@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_that_never_answers_is_killed(method, monkeypatch):
    monkeypatch.setattr(ipc, "LIMIT_S", 0.5)
    start_s = time.monotonic()
    with pytest.raises(ProfileError, match="did not answer within 0.5 s"):
        measure_ipc(Opening(time.sleep, 3600), start_method=method, budget_s=0.0)
    assert time.monotonic() - start_s < 10


def test_an_interrupted_measurement_ends_its_child(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ipc, "_round_trips", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_ipc(None)
