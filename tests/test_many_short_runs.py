"""Many short vector environments in one process, as for a search or an evaluation."""

import gc
import os
import threading

import psutil
import pytest

from tests.processes import children
from vecselect import auto_make_vec

WARM_UP = 3

pytestmark = pytest.mark.usefixtures("no_process_is_left")


def use(mode):
    with auto_make_vec("CartPole-v1", 4, mode) as envs:
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())


def held():
    """What this process holds: descriptors, threads, child processes, and objects by their kind."""
    gc.collect()
    kinds = [f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects()]
    ours = {kind: kinds.count(kind) for kind in set(kinds) if "vecselect" in kind or "gym" in kind}
    return len(os.listdir("/dev/fd")), threading.active_count(), len(children()), len(kinds), ours


@pytest.mark.parametrize(
    ("mode", "times"), [("auto", 50), ("pool:1", 20), ("thread:1", 50), ("async", 6)]
)
def test_a_loop_of_vector_environments_leaks_nothing(mode, times):
    for _ in range(WARM_UP):
        use(mode)
    *before, objects, ours = held()
    memory_bytes = psutil.Process().memory_info().rss
    for _ in range(times):
        use(mode)
    *after, objects_after, ours_after = held()
    assert after == before
    assert ours_after == ours
    assert objects_after - objects < times
    assert psutil.Process().memory_info().rss - memory_bytes < 8 << 20
