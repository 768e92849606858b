"""The threads that the learner computes with: set, put back, and their spin ended."""

import ctypes.util
import sys

import pytest

from tests.fake_torch import FakeLibrary
from tests.processes import output_of
from vecselect import learner_threads
from vecselect.learner_threads import set_learner_threads, settable_threads


def test_threads_are_set_and_put_back_also_after_an_error(torch, libraries):
    with pytest.raises(LookupError), set_learner_threads(2):
        assert (torch.threads, FakeLibrary.threads) == (2, 2)
        with set_learner_threads(1):
            assert (torch.threads, FakeLibrary.threads) == (1, 1)
        assert (torch.threads, FakeLibrary.threads) == (2, 2)
        raise LookupError
    assert (torch.threads, FakeLibrary.threads) == (4, 8)
    torch.threads_set.clear()
    with set_learner_threads(None):
        assert (torch.threads, FakeLibrary.threads) == (4, 8)
    assert torch.threads_set == []


def test_a_numerical_library_counts_where_there_is_no_torch(torch, libraries, monkeypatch):
    assert settable_threads() == 4
    monkeypatch.delitem(sys.modules, "torch")
    assert settable_threads() == 8
    with set_learner_threads(1):
        assert (torch.threads, settable_threads()) == (4, 1)
    assert settable_threads() == 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_threads_of_numpy_s_own_library_are_set_and_put_back(no_torch):
    before = settable_threads()
    with set_learner_threads(before + 1):
        assert settable_threads() in (before, before + 1)  # some libraries cannot be told
    assert settable_threads() == before


def test_idle_threads_are_ended_where_there_were_more(torch, monkeypatch):
    ended = []  # with how many threads torch would compute then
    monkeypatch.setattr(learner_threads, "end_idle_threads", lambda: ended.append(torch.threads))
    with set_learner_threads(1):
        assert ended == [1]
        with set_learner_threads(1):
            pass
        with set_learner_threads(4):
            pass
    assert ended == [1]


OPENMP_PROGRAM = """
import ctypes, os, sys
from vecselect.learner_threads import end_idle_threads

end_idle_threads()
gomp = ctypes.CDLL(sys.argv[1])
looked = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)

def threads():
    return len(os.listdir("/proc/self/task"))

before = threads()
for _ in range(2):
    gomp.GOMP_parallel(looked, None, 3, 0)
    assert threads() == before + 2, threads()
    from vecselect import learner_threads
    learner_threads._native_calls.cache_clear()  # as when torch, which brings it, is loaded
    end_idle_threads()
    assert threads() == before, threads()
print("ended twice")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_idle_threads_of_a_real_openmp_runtime_end_and_come_again():
    library = ctypes.util.find_library("gomp")
    if library is None:
        pytest.skip("this machine has no libgomp")
    assert output_of("-c", OPENMP_PROGRAM, library) == "ended twice\n"


def test_without_proc_nothing_is_ended_or_set(no_torch, monkeypatch):
    def refuse(*args, **kwargs):
        raise FileNotFoundError

    learner_threads._native_calls.cache_clear()
    monkeypatch.setattr("builtins.open", refuse)
    learner_threads.end_idle_threads()
    assert settable_threads() == 1
    learner_threads._native_calls.cache_clear()
