"""What an environment holds that a second one beside it could not hold too."""

import functools
import os
import socket
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.probes import probed
from tests.processes import gone
from vecselect.measure.probe import held


class Plain(gym.Env):
    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["human", "rgb_array"]}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self):
        return np.zeros((2, 2, 3), np.uint8)


class WithSocket(Plain):
    """Connects when it is first reset, as simulators do."""

    socket = None

    def reset(self, **kwargs):
        self.socket = self.socket or socket.socket()
        return super().reset(**kwargs)

    def close(self):
        if self.socket:
            self.socket.close()


class WithShortSocket(Plain):
    """Has closed its socket by the time it is looked at."""

    def __init__(self):
        super().__init__()
        socket.socket().close()


class WithChild(Plain):
    def __init__(self, file):
        super().__init__()
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self.child = subprocess.Popen(command, **streams)
        file.write_text(str(self.child.pid))

    def close(self):
        self.child.kill()
        self.child.wait()


class WithFiles(Plain):
    """Opens what any number of processes may open."""

    def __init__(self, folder):
        super().__init__()
        self.files = [open(name, "rb") for name in ("/dev/null", "/dev/zero", __file__)]  # noqa: SIM115
        self.files.append(open(folder / "log", "w"))  # noqa: SIM115
        self.pipe = os.pipe()

    def close(self):
        for file in self.files:
            file.close()
        for end in self.pipe:
            os.close(end)


class RecordVideo(gym.Wrapper):
    """Stands in for Gymnasium's, which needs a package to encode with."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (functools.partial(gym.make, "CartPole-v1", render_mode="rgb_array"), ()),
        (WithSocket, ("a socket",)),
        (WithShortSocket, ()),
        (functools.partial(Plain, "human"), ("a window",)),
        (lambda: RecordVideo(Plain()), ("a video that it records",)),
    ],
)
def test_what_an_environment_holds_while_it_is_profiled(make, words):
    assert probed(make).holds == words


def test_a_window_of_an_environment_of_gymnasium():
    # SDL draws it into nothing: see conftest.
    assert "a window" in probed(lambda: gym.make("CartPole-v1", render_mode="human")).holds


def test_a_child_process_which_is_gone_afterwards(tmp_path):
    file = tmp_path / "child"
    assert probed(functools.partial(WithChild, file)).holds == ("a child process",)
    assert gone(int(file.read_text()), 10.0)


def test_files_pipes_and_shared_devices_are_nothing_held(tmp_path):
    assert probed(functools.partial(WithFiles, tmp_path)).holds == ()


def test_what_is_new_in_a_footprint_and_a_video_in_whatever_layer():
    assert held(Plain(), {"/dev/nvidia0", "/home/me/x", "pipe:[7]"}) == ()
    wrapped = gym.wrappers.TimeLimit(RecordVideo(Plain("human")), 10)
    assert held(wrapped, {"socket:[1]", "socket:[2]", "child 9"}) == (
        *("a socket", "a child process", "a window", "a video that it records"),
    )
