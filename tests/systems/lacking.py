"""Takes from Python what other systems lack: `sitecustomize.py` of each, in every process.

What is left is Linux under the hood. It shows that nothing here asks for more than those systems
have, not that they do what they promise.
"""

import builtins
import os
import sys

HIDDEN = ("/proc", "/sys/fs/cgroup", "/dev/shm")


def take_away(module, names):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def hide_files(*more):
    """Has no file below the folders of Linux found, but by psutil, which knows each system."""
    folders = (*HIDDEN, *more)

    def hidden(call):
        def without(file=".", *arguments, **named):
            name = os.fspath(file) if isinstance(file, os.PathLike) else file
            if isinstance(name, str) and name.startswith(folders):
                asking = sys._getframe(1).f_globals.get("__name__", "")
                if not asking.startswith("psutil"):
                    raise FileNotFoundError(2, "No such file or directory", name)
            return call(file, *arguments, **named)

        # Like a builtin, it is not bound as a method: pathlib of Python 3.10 has it in a class.
        return staticmethod(without)

    for name in ("listdir", "readlink", "open", "scandir", "stat", "statvfs"):
        if hasattr(os, name):
            setattr(os, name, hidden(getattr(os, name)))
    builtins.open = hidden(builtins.open)


def start_methods(*methods):
    """Sets the start methods of multiprocessing, the default first."""
    import multiprocessing

    multiprocessing.get_all_start_methods = lambda: list(methods)
    multiprocessing.set_start_method(methods[0], force=True)
