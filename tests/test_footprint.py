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
from vecselect.measure.probe import Footprint, held


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


def footprints(before=(), after=(), children=((), ())):
    """Two footprints with such files open, by descriptor, and such children."""
    return [
        Footprint({str(number): name for number, name in enumerate(names)}, frozenset(pids))
        for names, pids in zip((before, after), children, strict=True)
    ]


SHARED = ["/dev/pts/3", "/dev/shm/abc", "/dev/null", "/dev/tty"]
SEEN = {
    **{
        name: (footprints((), [name]), (f"the device {name}",))
        for name in ("/dev/nvidia0", "/dev/dri/renderD128", "/dev/ttyUSB0", "/dev/ttyS0")
    },
    "several": (
        footprints((), ["/dev/video0", "/dev/snd/x", "/dev/snd/x", "socket:[1]"], ((), [5])),
        ("a socket", "a child process", "the device /dev/snd/x", "the device /dev/video0"),
    ),
    "shared devices": (footprints((), SHARED), ()),
    "no devices": (footprints((), ["/home/me/dev/x", "pipe:[7]", "anon_inode:[eventpoll]"]), ()),
    "there before": (
        footprints(["/dev/nvidia0", "socket:[1]"], ["/dev/nvidia0", "socket:[1]"], ([7], [7])),
        (),
    ),
    "a descriptor reused": (footprints(["socket:[1]"], ["socket:[2]"]), ("a socket",)),
    "a child that ended": (footprints(children=([7, 8], [8])), ()),
}


@pytest.mark.parametrize(("seen", "words"), SEEN.values(), ids=SEEN)
def test_what_two_footprints_show(seen, words):
    assert held(Plain(), *seen) == words
    wrapped = gym.wrappers.TimeLimit(RecordVideo(gym.wrappers.OrderEnforcing(Plain("human"))), 10)
    assert held(wrapped, *seen) == (*words, "a window", "a video that it records")
