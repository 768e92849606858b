"""What runs short is said before workers start: descriptors as an error, memory as a warning."""

from __future__ import annotations

import os
import re
import types
import warnings

import psutil
import pytest

from tests.zoo import EchoEnv
from vecselect import RequestError, auto_make_vec
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


def test_workers_that_hardly_fit_into_memory_are_one_warning(monkeypatch):
    free_memory(monkeypatch, 20 * MIB)
    with pytest.warns(VecselectWarning) as caught:
        auto_make_vec([EchoEnv] * 4, mode="pool:2").close()
    (message,) = (str(one.message) for one in caught)
    assert re.fullmatch(
        r"2 workers take about \d\.\d GB each, and 0\.0 GB of memory are free: "
        r"use fewer, as in mode='pool:1'\.",
        message,
    )


@pytest.mark.parametrize(("mode", "free_bytes"), [("pool:2", 16 << 30), ("pool:0", 0)])
def test_workers_that_fit_are_none(monkeypatch, mode, free_bytes):
    free_memory(monkeypatch, free_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auto_make_vec([EchoEnv] * 4, mode=mode).close()
