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

from tests.faults.support import gone
from tests.probes import probed
from vecselect.measure.probe import Footprint, held, read_footprint


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
    def __init__(self):
        super().__init__()
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()

    def close(self):
        self.socket.close()


class WithLateSocket(Plain):
    """Connects when it is first reset, as simulators do."""

    socket = None

    def reset(self, **kwargs):
        self.socket = self.socket or socket.socket()
        return super().reset(**kwargs)

    def close(self):
        if self.socket:
            self.socket.close()


class WithChild(Plain):
    def __init__(self, file=None):
        super().__init__()
        nothing = subprocess.DEVNULL
        self.child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
        )
        if file is not None:
            file.write_text(str(self.child.pid))

    def close(self):
        self.child.kill()
        self.child.wait()


class WithFiles(Plain):
    """Opens what any number of processes may open."""

    def __init__(self, folder):
        super().__init__()
        self.files = [open(name, "rb") for name in ("/dev/null", "/dev/urandom", "/dev/zero")]  # noqa: SIM115
        self.files += [open(folder / "log", "w"), open(__file__)]  # noqa: SIM115
        self.pipe = os.pipe()

    def close(self):
        for file in self.files:
            file.close()
        for end in self.pipe:
            os.close(end)


class WithShortSocket(Plain):
    """Has closed its socket by the time it is looked at."""

    def __init__(self):
        super().__init__()
        socket.socket().close()


class RecordVideo(gym.Wrapper):
    """Stands in for Gymnasium's, which needs a package to encode with."""


def holds(make):
    return probed(make).holds


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_a_plain_environment_holds_nothing(id):
    assert holds(functools.partial(gym.make, id)) == ()


def test_images_drawn_off_screen_are_nothing_held():
    assert holds(functools.partial(gym.make, "CartPole-v1", render_mode="rgb_array")) == ()
    assert holds(functools.partial(Plain, "rgb_array")) == ()


@pytest.mark.parametrize("make", [WithSocket, WithLateSocket])
def test_a_socket(make):
    assert holds(make) == ("a socket",)


def test_a_child_process_which_is_gone_afterwards(tmp_path):
    file = tmp_path / "child"
    assert holds(functools.partial(WithChild, file)) == ("a child process",)
    assert gone(int(file.read_text()), 10.0)


def test_a_window():
    assert holds(functools.partial(Plain, "human")) == ("a window",)


def test_a_window_of_an_environment_of_gymnasium():
    # SDL draws it into nothing: see conftest.
    assert "a window" in holds(functools.partial(gym.make, "CartPole-v1", render_mode="human"))


def test_files_pipes_and_shared_devices_are_nothing_held(tmp_path):
    assert holds(functools.partial(WithFiles, tmp_path)) == ()


def test_what_was_closed_again_is_not_held():
    assert holds(WithShortSocket) == ()


def test_a_video_that_is_recorded_in_whatever_layer():
    assert holds(lambda: RecordVideo(Plain())) == ("a video that it records",)
    wrapped = gym.wrappers.TimeLimit(RecordVideo(gym.wrappers.OrderEnforcing(Plain())), 10)
    assert held(wrapped, *[read_footprint()] * 2) == ("a video that it records",)


def footprints(before=(), after=(), children=((), ())):
    """Two footprints with such files open, by descriptor, and such children."""
    return [
        Footprint({str(number): name for number, name in enumerate(names)}, frozenset(pids))
        for names, pids in zip((before, after), children, strict=True)
    ]


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        pytest.param(["/dev/nvidia0"], ("the device /dev/nvidia0",), id="gpu"),
        pytest.param(["/dev/dri/renderD128"], ("the device /dev/dri/renderD128",), id="gl"),
        pytest.param(["/dev/video0", "/dev/snd/x"], ("/dev/snd/x", "/dev/video0"), id="two"),
        pytest.param(["/dev/nvidia0", "/dev/nvidia0"], ("the device /dev/nvidia0",), id="twice"),
        pytest.param(["socket:[1]", "socket:[2]"], ("a socket",), id="sockets"),
        pytest.param(["/dev/pts/3", "/dev/shm/abc", "/dev/null"], (), id="shared devices"),
        pytest.param(["/home/me/dev/x", "pipe:[7]", "anon_inode:[eventpoll]"], (), id="no devices"),
    ],
)
def test_what_was_opened(opened, words):
    found = held(Plain(), *footprints((), opened))
    assert len(found) == len(words)
    assert all(said.endswith(word) for said, word in zip(found, words, strict=True))


@pytest.mark.parametrize("name", ["/dev/ttyUSB0", "/dev/ttyACM1", "/dev/ttyS0"])
def test_a_serial_port_is_a_device(name):
    assert held(Plain(), *footprints((), [name])) == (f"the device {name}",)


def test_the_terminal_is_nothing_held():
    assert held(Plain(), *footprints((), ["/dev/tty"])) == ()


def test_what_was_there_before_is_not_the_environment_s():
    names = ["/dev/nvidia0", "socket:[1]"]
    before, after = footprints(names, names, children=([7], [7]))
    assert held(Plain(), before, after) == ()


def test_a_descriptor_that_was_reused_is_the_environment_s():
    assert held(Plain(), *footprints(["socket:[1]"], ["socket:[2]"])) == ("a socket",)


def test_a_child_that_ended_or_stayed_is_nothing_new():
    assert held(Plain(), *footprints(children=([7, 8], [8]))) == ()
    assert held(Plain(), *footprints(children=([7], [7, 9]))) == ("a child process",)


def test_several_things_are_all_named():
    before, after = footprints((), ["socket:[1]", "/dev/nvidia0"], children=((), [5]))
    assert held(RecordVideo(Plain("human")), before, after) == (
        "a socket",
        "a child process",
        "the device /dev/nvidia0",
        "a window",
        "a video that it records",
    )


def test_the_footprint_of_this_process_changes_with_what_it_opens():
    before = read_footprint()
    env = WithSocket()
    try:
        assert held(env, before, read_footprint()) == ("a socket",)
    finally:
        env.close()
    assert held(env, before, read_footprint()) == ()


def test_a_child_of_this_process_is_seen():
    before = read_footprint()
    env = WithChild()
    try:
        assert env.child.pid in read_footprint().children
        assert held(env, before, read_footprint()) == ("a child process",)
    finally:
        env.close()
    assert held(env, before, read_footprint()) == ()
