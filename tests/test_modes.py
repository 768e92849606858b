"""Modes as values: read, written, sorted, and what workers they have."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import relaxed
from vecselect import RequestError
from vecselect.backends.base import Backend, backend_of
from vecselect.modes import KINDS, Mode, slices, usual_workers


def test_there_is_a_backend_for_every_kind():
    assert all(isinstance(backend_of(kind), Backend) for kind in KINDS)


@pytest.mark.parametrize(
    "text", [*KINDS, "pool:0", "pool:12", "thread:0", "thread:63", "envpool:3", "ray:2"]
)
def test_a_mode_is_written_as_it_is_read(text):
    mode = Mode.parse(text)
    assert str(mode) == text
    assert hash(mode) == hash(Mode.parse(text))
    assert str(Mode.parse("pool:007")) == "pool:7"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("snyc", "There is no mode 'snyc'.*Did you mean 'sync'"),
        ("Pool", "no mode 'Pool'.*Did you mean 'pool'"),
        ("auto", "There is no mode 'auto'; choose one of 'sync'"),
        ("sync:1", "'sync' takes none"),
        ("pool:", "'' is no number of workers, as in 'pool:2'"),
        ("pool:-1", "'-1' is no number of workers"),
        ("pool:1:sleep", "'1:sleep' is no number of workers"),
        ("pool:\u0663", "is no number of workers"),
        ("pool:9999999999", "is no number of workers"),
        ("thread:1.5", "'1.5' is no number of workers, as in 'thread:2'"),
        ("envpool:0", "envpool needs at least 1 worker"),
    ],
)
def test_what_is_no_mode_is_refused_with_what_would_be(text, words):
    with pytest.raises(RequestError, match=words):
        Mode.parse(text)


def test_the_simpler_ones_come_first_and_a_pool_of_which_most_only_wait_after_threads():
    ordered = [
        *("sync", "pool:0", "pool:1", "pool:4", "thread", "thread:1", "thread:15", "async"),
        *("pool:63", "native", "envpool", "ray:1", "ray:4"),
    ]
    ranks = [Mode.parse(text).rank(2.0) for text in ordered]
    assert ranks == sorted(set(ranks))
    assert Mode("pool", 63).rank(64.0) < Mode("thread", 63).rank(64.0)


@pytest.mark.parametrize(
    ("text", "processes", "lanes", "lanes_of_workers"),
    [
        ("sync", 0, 1, 1),
        ("pool:0", 0, 1, 1),
        ("pool:3", 3, 4, 3),
        ("pool:20", 20, 8, 8),
        ("thread:3", 0, 4, 3),
        ("async", 8, 8, 8),
        ("native", 0, 1, 1),
        ("envpool:2", 0, 2, 2),
        ("ray:2", 0, 2, 2),
    ],
)
def test_processes_and_lanes_of_8_sub_environments(text, processes, lanes, lanes_of_workers):
    mode = Mode.parse(text)
    assert mode.processes(8) == processes
    assert mode.lanes(8) == lanes
    assert mode.lanes(8, caller_steps=False) == lanes_of_workers


def test_what_runs_in_the_caller_alone():
    texts = ("sync", "pool:0", "thread:0", "pool:1", "thread:1", "async", "pool")
    alone = [text for text in texts if Mode.parse(text).in_caller_alone]
    assert alone == ["sync", "pool:0", "thread:0"]
    others = {kind for kind in KINDS if not Mode(kind).runs_users_environments}
    assert others == {"native", "envpool"}


@pytest.mark.parametrize(
    ("text", "num_envs", "caller_steps", "words"),
    [
        ("pool:4", 4, True, "4 sub-environments can keep no more than 3 busy beside"),
        ("thread:9", 8, True, "9 threads, .* no more than 7 busy .*; use 'thread:7'"),
        ("pool:1", 1, True, "and 1 sub-environment can keep no more than 0 busy .*'pool:0'"),
        ("pool:5", 4, False, "5 worker processes, .* no more than 4 busy; use 'pool:4'"),
        (
            "pool:0",
            4,
            False,
            "everything in the calling process.* deadline.* use 'pool:1' to 'pool:4'",
        ),
        ("ray:5", 4, True, "5 actors, .* no more than 4 busy; use 'ray:4'"),
    ],
)
def test_workers_without_work_are_refused_with_the_most_there_may_be(
    text, num_envs, caller_steps, words
):
    why = Mode.parse(text).why_not(num_envs, caller_steps)
    assert re.search(words, why), why


def test_what_is_offered_in_place_of_too_many_workers_is_accepted():
    assert all(Mode(kind).why_not(8) is None for kind in KINDS)
    counted = [kind for kind in KINDS if KINDS[kind].workers]
    for kind, num_envs, caller_steps in itertools.product(counted, (1, 2, 9), (True, False)):
        why = Mode(kind, 99).why_not(num_envs, caller_steps)
        offered = Mode.parse(why.rpartition("use '")[2].rstrip("'"))
        if offered.workers or caller_steps:
            assert offered.why_not(num_envs, caller_steps) is None


@relaxed
@given(st.integers(1, 300), st.data(), st.booleans())
def test_slices_are_contiguous_and_even(num_envs, data, caller_steps):
    workers = data.draw(st.integers(1 - caller_steps, num_envs - caller_steps))
    found = slices(num_envs, workers, caller_steps)
    assert len(found) == workers + 1
    assert [row for rows in found for row in rows] == list(range(num_envs))
    lengths = [len(rows) for rows in found]
    own, others = lengths[0], lengths[1:]
    if not caller_steps:
        assert own == 0
    elif workers <= 3 and lengths.count(max(lengths)) == 1:
        assert own == max(lengths)
    else:
        assert 1 <= own == min(lengths)
    assert max(others, default=own) - min(others, default=own) <= 1
    assert max(lengths) == -(-num_envs // Mode("pool", workers).lanes(num_envs, caller_steps))


@pytest.mark.parametrize(
    ("lanes", "num_envs", "caller_steps", "workers"),
    [(4, 8, True, 3), (4, 2, True, 1), (1, 8, True, 0), (4, 8, False, 4), (0, 8, False, 1)],
)
def test_the_usual_workers_make_so_many_lanes(lanes, num_envs, caller_steps, workers):
    assert usual_workers(lanes, num_envs, caller_steps) == workers
