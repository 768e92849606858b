import gc
import os
import sys
from multiprocessing import resource_tracker

import pytest

import vecselect
from tests.fake_torch import FakeLibrary, FakeTorch
from tests.faults import case
from tests.processes import children, wait_until_gone
from vecselect import learner_threads
from vecselect.planning.cache import PlanCache
from vecselect.process import forkserver

# Set before any test starts the fork server: its children then start in milliseconds.
forkserver.PRELOADED += (
    "gymnasium.envs.mujoco",
    "tests.zoo",
    "tests.faults.faulty",
    "tests.racers",
)
pytest.register_assert_rewrite("vecselect.testing.contract")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
case.name_own()


def pytest_ignore_collect(collection_path, config):
    """`tests/ecosystem` is entered only by name: it loads torch, which changes how we plan."""
    named = any("ecosystem" in argument for argument in config.args)
    return True if collection_path.name == "ecosystem" and not named else None


@pytest.fixture(scope="module", autouse=True)
def no_name_is_left():
    """What a module's tests made in shared memory has gone with them."""
    yield
    gc.collect()
    assert not case.names_in_shared_memory(os.getpid())


@pytest.fixture(scope="session")
def plan():
    """A small one."""
    with vecselect.auto_make_vec("CartPole-v1", 2, mode="sync") as envs:
        return envs.plan


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A plan cache of its own: no test sees what another one, or the user, has remembered."""
    monkeypatch.setenv("VECSELECT_CACHE_DIR", str(tmp_path / "cache"))
    return PlanCache()


@pytest.fixture(autouse=True)
def no_pin(monkeypatch):
    """The tests choose their modes themselves, whatever is set where they run."""
    monkeypatch.delenv("VECSELECT_MODE", raising=False)


@pytest.fixture
def nothing_starts(monkeypatch):
    """Nothing is measured, nor is any process started for it."""

    def start(*arguments, **options):
        pytest.fail("something was measured")

    for name in ("planner.FirstWorker", "planner.measure_ipc", "timing.profiled"):
        monkeypatch.setattr(f"vecselect.planning.{name}", start)


@pytest.fixture
def torch(monkeypatch):
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.fixture
def libraries(monkeypatch):
    monkeypatch.setattr(FakeLibrary, "threads", 8)
    monkeypatch.setattr(learner_threads, "_libraries", lambda: [(FakeLibrary.get, FakeLibrary.set)])


@pytest.fixture
def children_before():
    """The fork server and the resource tracker, which multiprocessing keeps, are among them."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    return children()


@pytest.fixture
def no_process_is_left(children_before):
    yield
    assert children() <= children_before


@pytest.fixture
def processes_end(children_before):
    """What a test leaves behind may take a while to end."""
    yield
    wait_until_gone(children_before)
