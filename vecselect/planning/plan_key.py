"""What a plan is remembered under, and the name that what a run showed is kept under.

A key is a guess, not a proof. It holds what usually decides the choice and can be read off a
request: names of code, ids, options, the machine, versions. What it leaves out (the body of a
function, an environment's hyperparameters in a closure) seldom changes the choice, and differs from
run to run where it is a seed or a time stamp. The first steps of a run show what the guess gets
wrong, which costs seconds; a key that proves identity would cost a cold start in every run.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import math
import os
import re
import sys
import types
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vecselect.factory import EnvFactory
from vecselect.learner_threads import loaded_torch
from vecselect.plan import SCHEMA
from vecselect.version import __version__

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.options import PlanningOptions
    from vecselect.request import Request

PACKAGES = ("gymnasium", "numpy", "mujoco", "box2d", "box2d-py", "ale-py", "envpool")
"""Packages whose versions count beside that of vecselect, where they are installed."""

MOST_EXAMINED = 200
"""Values inside one callable that are looked at for ids."""

LONGEST_ID = 200
_MODULE_AND_ID = re.compile(r"[\w.]+:[\w./-]+-v\d+")
_INSTALLED = re.compile(r"(?P<package>[\w.]+)-(?P<version>[\w.+!]+)(-py[\d.]+)?\.(dist|egg)-info")
_WORD = re.compile(r"[\w:]{1,32}")
_MAIN = ("__main__", "__mp_main__")
UNASSIGNED = types.CellType()
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)


@dataclasses.dataclass(frozen=True)
class Key:
    """What a plan is remembered under: 16 hexadecimal digits, made of nothing but `fields`.

    The fields are plain data for a person to compare, arguments of environments only as hashes.
    """

    digest: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Key:
        """The key of fields, also of such that were read from JSON."""
        text = json.dumps(fields, sort_keys=True)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:16], json.loads(text))


def plan_key(request: Request, machine: Machine, options: PlanningOptions) -> Key:
    """The key of what was asked for; calls nothing of the user's.

    Of the learner its kind counts, and its code.
    """
    torch = loaded_torch()
    return Key.of(
        {
            **_environment(request, machine),
            "made_by": _made_by(request),
            "num_envs": request.num_envs,
            "buffers": request.buffers,
            "batch_size": request.batch_size,
            "caller_steps": request.caller_steps,
            "vector_kwargs": {
                str(name): _readable(value) for name, value in request.vector_kwargs.items()
            },
            "allow": sorted(set(options.allow)),
            "learner": _learner_kind(options.learner),
            "learner_threads": options.learner_threads,
            "torch_threads": None if torch is None else int(torch.get_num_threads()),
            "schema": SCHEMA,
        }
    )


def sweep_key(request: Request, machine: Machine) -> Key:
    """The key of a sweep: of the environment and the machine, whatever the number."""
    return Key.of({**_environment(request, machine), "made_by": sorted(_made_by(request))})


def _environment(request: Request, machine: Machine) -> dict[str, Any]:
    """What the environment and the machine are, as far as a key tells them apart."""
    return {
        "env": request.label,
        # Each by itself: what has no stable form takes no other with it.
        "env_kwargs": {str(name): _hashed(part) for name, part in request.env_kwargs.items()},
        "native": None if request.native is None else _described(request.native),
        "wrappers": [_described(wrapper) for wrapper in request.wrappers],
        "machine": machine_fields(machine),
        "versions": _versions(),
    }


def machine_fields(machine: Machine) -> dict[str, Any]:
    """What of the machine must be the same for a plan to be recalled.

    Cores count by tenths, since a quota differs a little from one start of a container to the next.
    """
    return {
        "cpu": machine.cpu,
        "cores": round(machine.cores, 1),
        "system": machine.system,
        "python": machine.python,
    }


def script_name() -> str:
    """A short name of the running script, the same in every run: `train.py 5f2c09ab`.

    The digits stand for the file's absolute path. Without a file it is a notebook, told by its own
    name where that is known, or an interactive session, told by the working folder.
    """
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    try:
        if isinstance(file, str) and file:
            return f"{os.path.basename(file)} {_digest(os.path.abspath(file))[:8]}"
        here = os.getcwd()
    except OSError:  # the working folder is gone
        here = ""
    notebook = os.environ.get("JPY_SESSION_NAME") or getattr(main, "__vsc_ipynb_file__", None)
    kind = "notebook" if notebook or "ipykernel" in sys.modules else "interactive"
    return f"{kind} {_digest(str(notebook or here))[:8]}"


def code_name(value: Any) -> str:
    """Where the code of a callable lives: its module, or script, and its name within."""
    value = _unwrapped(value)
    named = value if isinstance(value, _NAMED) else type(value)
    home = script_name() if named.__module__ in _MAIN else named.__module__
    return f"{home}:{named.__qualname__}"


def _unwrapped(value: Any) -> Any:
    """The function or class inside partials and bound methods."""
    while isinstance(value, (functools.partial, types.MethodType)):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    return value


def _made_by(request: Request) -> dict[str, int]:
    """The code that builds the sub-environments, and how many of them."""
    if request.spec is not None:
        made_by = request.spec.entry_point
        name = code_name(made_by) if callable(made_by) else str(made_by)
        return {name: request.num_envs}
    makers = [fn.make if isinstance(fn, EnvFactory) else fn for fn in request.env_fns]
    names = {number: _described(fn) for number, fn in {id(fn): fn for fn in makers}.items()}
    return dict(Counter(names[id(fn)] for fn in makers))


def _described(value: Any) -> str:
    """A callable's name, and in brackets the ids and the code that it was made with."""
    try:
        inside = sorted(_inside(value))
    except Exception:  # looking into the user's objects may run code of theirs
        inside = []
    return f"{code_name(value)}({', '.join(inside)})" if inside else code_name(value)


def _inside(value: Any) -> set[str]:
    """Registered ids that a callable uses, and the names of the callables that it was given.

    Ids are looked for in what it closes over, its defaults and constants, the arguments of
    partials, and the globals it uses; of an object or a container there, such as parsed arguments,
    in what it holds itself. Other functions of the same module are followed.
    """
    found: set[str] = set()
    # The values are kept, so that no other object gets their id meanwhile.
    seen: dict[int, Any] = {}
    module = getattr(_unwrapped(value), "__module__", None)
    written, given = [value], list[Any]()
    while (written or given) and len(seen) < MOST_EXAMINED:
        is_given = bool(given)
        one = (given or written).pop()
        if isinstance(one, str) and _is_id(one):
            found.add(one)
        if id(one) in seen or isinstance(one, (str, types.ModuleType)):
            continue
        seen[id(one)] = one
        if is_given and callable(one):
            found.add(code_name(one))
        if isinstance(one, functools.partial):
            given += [*one.args, *one.keywords.values()]
            written.append(one.func)
        elif isinstance(one, types.MethodType):
            written += [one.__func__, one.__self__]
        elif isinstance(one, types.FunctionType):
            if one.__module__ == module and one.__module__ != gym.make.__module__:
                cells = [cell for cell in one.__closure__ or () if cell != UNASSIGNED]
                given += [cell.cell_contents for cell in cells]
                given += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
                written += _written_in(one)
        elif not isinstance(one, type):
            written += _texts_in(one)
            if one is value:
                written.append(type(one).__call__)
    return found


def _written_in(function: types.FunctionType) -> list[Any]:
    """The constants and the globals that a function's code names."""
    found: list[Any] = []
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
        found += [one for one in code.co_consts if isinstance(one, (str, tuple))]
        names = (name for name in code.co_names if name in function.__globals__)
        found += [function.__globals__[name] for name in names]
    return found


def _texts_in(value: Any) -> list[str]:
    """The texts that a container or an object holds itself, as far as it is a short one."""
    held = value
    if not isinstance(value, (list, tuple, set, frozenset)):
        held = (value if isinstance(value, Mapping) else getattr(value, "__dict__", {})).values()
    return [part for part in list(held)[:MOST_EXAMINED] if isinstance(part, str)]


def _is_id(text: str) -> bool:
    """Whether a text names an environment: registered, or of a module that registers it."""
    if len(text) > LONGEST_ID:
        return False
    if _MODULE_AND_ID.fullmatch(text):
        return True
    return text in gym.registry or any(f"{text}-v{version}" in gym.registry for version in range(9))


def _learner_kind(learner: Any) -> str:
    """The kind of a learner: `callable` and its code, or its time by the next power of two."""
    if callable(learner):
        return f"callable {code_name(learner)}"
    return f"seconds 2^{round(math.log2(learner))}" if learner else "none"


def _readable(value: Any) -> Any:
    """An option as it is where it is a number or a word, else as a hash."""
    value = value.value if isinstance(value, enum.Enum) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return value if isinstance(value, str) and _WORD.fullmatch(value) else _hashed(value)


def _hashed(value: Any) -> str:
    """A hash that is the same in every process in which the value is made the same way."""
    try:
        text = json.dumps(value, sort_keys=True, skipkeys=True, default=_stand_in)
    except Exception:  # it holds itself, or keys of several types, or raised when looked into
        text = code_name(type(value))
    return _digest(text)[:16]


def _stand_in(value: Any) -> Any:
    """What counts of a value that JSON does not know: its contents, else the name of its type."""
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, (bytes, bytearray, enum.Enum, PurePath, gym.Space)):
        return repr(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(_hashed, value))
    if isinstance(value, Mapping):
        return dict(value)
    if callable(value):
        return _described(value)
    names = getattr(value, "__dataclass_fields__", ())
    return [code_name(type(value)), {name: getattr(value, name, None) for name in names}]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@functools.cache
def _versions() -> dict[str, str]:
    """The versions that count, by the names of the folders that installers write.

    `importlib.metadata` reads whole files for them, which takes 10 ms of each start.
    """
    found = {"vecselect": __version__}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # an archive, or a folder that is not there
            continue
        for match in filter(None, map(_INSTALLED.fullmatch, names)):
            found.setdefault(match["package"].lower().replace("_", "-"), match["version"])
    return {name: found[name] for name in ("vecselect", *PACKAGES) if name in found}
