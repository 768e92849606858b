"""What is known about code: where it lives, whether it can be imported, and what it uses."""

from __future__ import annotations

import dis
import hashlib
import os
import sys
import types
from typing import Any

_LARGEST_HASHED_BYTES = 16 << 20
_KNOWN_BY_VERSION = frozenset({"abc", "gymnasium", "numpy", "typing", *sys.builtin_module_names})
"""Packages whose code is told by a version that is in the key anyway."""

_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


def home_of(module: Any) -> str:
    """A module's name; that of `__main__` is another one in a worker that was spawned."""
    return "__main__" if module == "__mp_main__" else str(module)


def name_of(value: Any) -> str:
    """The module and the name within it."""
    return f"{home_of(getattr(value, '__module__', None))}:{value.__qualname__}"


def is_importable(value: Any) -> bool:
    """Whether it is what its module has under its name."""
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def is_known(home: str, value: Any) -> bool:
    """Whether a function or class that lives in a module is told by its name alone."""
    root = home.partition(".")[0]
    return root == "builtins" or (root in _KNOWN_BY_VERSION and is_importable(value))


def global_names(code: types.CodeType) -> set[str]:
    """The globals that code uses, its inner functions included; attributes are none."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _GLOBAL_LOADS}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return names


def source_hash(home: str, file: Any) -> str | None:
    """The hash of the file that a module's code comes from, if that can be imported."""
    return None if home == "__main__" else file_hash(file)


_hashes: dict[tuple[str, int, int], str] = {}


def file_hash(path: Any) -> str | None:
    """The hash of a module's file; None if there is no such file. Huge ones count by their size."""
    if not isinstance(path, str):
        return None
    try:
        found = os.stat(path)
        key = path, found.st_mtime_ns, found.st_size
        if found.st_size > _LARGEST_HASHED_BYTES:
            return f"{found.st_size} bytes"
        if key not in _hashes:
            with open(path, "rb") as file:
                _hashes[key] = hashlib.sha256(file.read()).hexdigest()
    except (OSError, ValueError):
        return None
    return _hashes[key]
