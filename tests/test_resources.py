"""What runs short is said before workers start: descriptors as an error, memory as a warning."""

from __future__ import annotations

import os
import re
import signal
import types
import warnings

import psutil
import pytest

from tests.zoo import EchoEnv
from vecselect import RequestError, auto_make_vec, processes
from vecselect.errors import VecselectWarning

resource = pytest.importorskip("resource")

MIB = 1 << 20
COUNT = 40


@pytest.fixture
def few_descriptors():
    """This process may open only a few more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = len(os.listdir("/proc/self/fd")) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize(("mode", "workers"), [(f"pool:{COUNT - 1}", COUNT - 1), ("async", COUNT)])
def test_too_few_descriptors_are_an_error_before_anything_is_started(
    mode, workers, few_descriptors
):
    before, open_before = children(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(RequestError, match="file descriptors") as caught:
        auto_make_vec([EchoEnv] * COUNT, mode=mode)
    message = str(caught.value)
    assert re.match(rf"{workers} processes take about \d+ file descriptors", message)
    assert f"may have {few_descriptors}" in message
    assert int(re.search(r"ulimit -n (\d+)", message)[1]) > few_descriptors
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("mode", ["pool:1", "sync"])
def test_a_few_workers_need_few_descriptors(mode, few_descriptors):
    with auto_make_vec([EchoEnv] * COUNT, mode=mode) as envs:
        envs.reset(seed=1)


def free_memory(monkeypatch, free_bytes):
    memory = types.SimpleNamespace(total=64 << 30, available=free_bytes)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.mark.parametrize(("mode", "workers"), [("pool:2", 2), ("async", 4)])
def test_workers_that_hardly_fit_into_memory_are_one_warning(monkeypatch, mode, workers):
    free_memory(monkeypatch, 20 * MIB)
    with pytest.warns(VecselectWarning) as caught:
        auto_make_vec([EchoEnv] * 4, mode=mode).close()
    (message,) = (str(one.message) for one in caught)
    assert re.fullmatch(
        rf"{workers} worker processes may be more than fit into memory: it would take about "
        r"\d\.\d GB, and 80% of the memory available is 0\.0 GB\. Use fewer, as in "
        r"mode='pool:1'\.",
        message,
    )


def test_what_a_killed_worker_is_told_with_is_the_memory_of_its_group(monkeypatch):
    monkeypatch.setattr("vecselect.machine._memory_limits", lambda root: (2 * 10**9, 10**8))
    assert "(0.1 of 2.0 GB are free now" in processes.memory_picture(-signal.SIGKILL)


@pytest.mark.parametrize(
    ("mode", "free_bytes"), [("pool:2", 16 << 30), ("async", 16 << 30), ("pool:0", 0)]
)
def test_workers_that_fit_are_none(monkeypatch, mode, free_bytes):
    free_memory(monkeypatch, free_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auto_make_vec([EchoEnv] * 4, mode=mode).close()
