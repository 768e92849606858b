"""What an environment holds outside of its own memory, and a second one could not hold too."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.machine import children_pids

if TYPE_CHECKING:
    import gymnasium as gym

FREELY_SHARED = (
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
    *("/dev/tty", "/dev/pts/", "/dev/ptmx", "/dev/shm/"),
)
"""Devices that any number of processes may have open, and folders of such."""


@dataclass(frozen=True)
class Footprint:
    """What a process has open.

    Attributes:
        files: What its descriptors point to, by descriptor.
        children: Ids of its child processes.
    """

    files: dict[str, str]
    children: frozenset[int]


def read_footprint() -> Footprint:
    """The footprint of this process now. Without /proc no files are seen."""
    files = {}
    folder = "/proc/self/fd"
    try:
        descriptors = os.listdir(folder)
    except OSError:
        descriptors = []
    for descriptor in descriptors:
        try:
            files[descriptor] = os.readlink(f"{folder}/{descriptor}")
        except OSError:  # the descriptor that listed the folder
            continue
    return Footprint(files, children_pids())


def held(env: gym.Env, before: Footprint, after: Footprint) -> tuple[str, ...]:
    """What an environment came to hold, as words that follow "it holds".

    Args:
        env: The environment.
        before: The footprint before it was built.
        after: The footprint after it was stepped, before it is closed.
    """
    found = []
    opened = {after.files[key] for key in after.files if before.files.get(key) != after.files[key]}
    if any(name.startswith("socket:") for name in opened):
        found.append("a socket")
    if after.children - before.children:
        found.append("a child process")
    found += [
        f"the device {name}"
        for name in sorted(opened)
        if name.startswith("/dev/") and not _is_freely_shared(name)
    ]
    if env.render_mode == "human":
        found.append("a window")
    if "RecordVideo" in _wrappers(env):
        found.append("a video that it records")
    return tuple(found)


def _is_freely_shared(name: str) -> bool:
    folders = tuple(known for known in FREELY_SHARED if known.endswith("/"))
    return name in FREELY_SHARED or name.startswith(folders)


def _wrappers(env: gym.Env) -> set[str]:
    """Names of the classes of all layers."""
    names = set()
    layer = env
    while True:
        names.add(type(layer).__name__)
        inner = getattr(layer, "env", None)
        if inner is None or inner is layer:
            return names
        layer = inner
