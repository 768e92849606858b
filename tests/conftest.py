import multiprocessing
import os

import pytest

# Set before any test starts the fork server: its children then start in milliseconds.
multiprocessing.set_forkserver_preload(
    ["gymnasium", "gymnasium.envs.mujoco", "tests.zoo", "tests.deeds"]
)
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(autouse=True)
def own_store(monkeypatch, tmp_path):
    """No test sees what another one, or the user, has remembered."""
    monkeypatch.setenv("VECSELECT_CACHE_DIR", str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def no_pin(monkeypatch):
    """The tests choose their modes themselves, whatever is set where they run."""
    monkeypatch.delenv("VECSELECT_MODE", raising=False)
