"""What a plan is remembered under, and the name that what a run showed is kept under.

A key is a guess, not a proof. It holds what usually decides the choice and can be read off a
request: names of code, ids, options, the machine, versions. What it leaves out (the body of a
function, an environment's hyperparameters in a closure) seldom changes the choice, and differs from
run to run where it is a seed or a time stamp. The first steps of a run show what the guess gets
wrong, which costs seconds; a key that proves identity would cost a cold start in every run.
"""

from __future__ import annotations

import dataclasses
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
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vecselect.factory import EnvFactory
from vecselect.learner_threads import loaded_torch
from vecselect.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecselect.machine import Machine
    from vecselect.request import PlanningOptions, Request

MOST_EXAMINED = 200
"""Values inside one callable that are looked at for ids."""

_ID = re.compile(r"([\w.]+:)?[\w./-]{1,100}-v\d+")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MAIN = ("__main__", "__mp_main__")
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
        """The key of fields that JSON can hold."""
        return cls(_digest(json.dumps(fields, sort_keys=True))[:16], dict(fields))


def plan_key(request: Request, machine: Machine, options: PlanningOptions) -> Key:
    """The key of what was asked for; of the learner its kind counts, and its code."""
    torch = loaded_torch()
    return Key.of(
        {
            **_environment(request, machine),
            "made_by": _made_by(request),
            "num_envs": request.num_envs,
            "buffers": request.buffers,
            "batch_size": request.batch_size,
            "vector_kwargs": _hashes(request.vector_kwargs),
            "allow": sorted(set(options.allow)),
            "learner": _learner_kind(options.learner),
            "learner_threads": options.learner_threads,
            "torch_threads": None if torch is None else int(torch.get_num_threads()),
        }
    )


def sweep_key(request: Request, machine: Machine) -> Key:
    """The key of a sweep: of the environment and the machine, whatever the number."""
    return Key.of({**_environment(request, machine), "made_by": sorted(_made_by(request))})


def _environment(request: Request, machine: Machine) -> dict[str, Any]:
    """What the environment and the machine are, as far as a key tells them apart."""
    return {
        "env": request.label,
        "env_kwargs": _hashes(request.env_kwargs),
        "native": None if request.native is None else _described(request.native),
        "wrappers": [_described(wrapper) for wrapper in request.wrappers],
        "machine": machine_fields(machine),
        "versions": {
            "vecselect": __version__,
            "gymnasium": gym.__version__,
            "numpy": np.__version__,
        },
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
        inside = sorted(set(_inside(value, getattr(_unwrapped(value), "__module__", ""), {})))
    except Exception:  # looking into the user's objects may run code of theirs
        inside = []
    return f"{code_name(value)}({', '.join(inside)})" if inside else code_name(value)


def _inside(value: Any, module: str, seen: dict[int, Any]) -> Iterator[str]:
    """Ids that a callable uses, and the names of the callables that it was given.

    Ids are looked for in what it closes over, its defaults and constants, the arguments of
    partials, and the globals it uses; of an object or a container there, such as parsed arguments,
    in what it holds itself. Other functions of the same module are followed; `seen` holds by its id
    what was looked at before.
    """
    if id(value) in seen or len(seen) >= MOST_EXAMINED or isinstance(value, types.ModuleType):
        return
    seen[id(value)] = value
    given: list[Any] = []
    written: list[Any] = []
    if isinstance(value, functools.partial):
        given, written = [*value.args, *value.keywords.values()], [value.func]
    elif isinstance(value, types.MethodType):
        written = [value.__func__, value.__self__]
    elif isinstance(value, types.FunctionType):
        if value.__module__ == module != gym.make.__module__:
            given = [cell.cell_contents for cell in value.__closure__ or ()]
            given += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            written = _written_in(value.__code__, value.__globals__)
    elif not isinstance(value, type):
        held = value
        if not isinstance(value, (list, tuple, set, frozenset)):
            attributes = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
            held = attributes.values()
        written = [part for part in held if isinstance(part, str)]
    for part in given:
        if callable(part):
            yield code_name(part)
    for part in (*given, *written):
        if not isinstance(part, str):
            yield from _inside(part, module, seen)
        elif _ID.fullmatch(part) or part in gym.registry:
            yield part


def _written_in(code: types.CodeType, names: dict[str, Any]) -> list[Any]:
    """The constants and the globals that a function's code names."""
    found = [*code.co_consts, *(names[name] for name in code.co_names if name in names)]
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found += _written_in(inner, names)
    return found


def _learner_kind(learner: Any) -> str:
    """The kind of a learner: `callable` and its code, or its time by the next power of two."""
    if callable(learner):
        return f"callable {code_name(learner)}"
    return f"seconds 2^{round(math.log2(learner))}" if learner else "none"


def _hashes(values: Mapping[str, Any]) -> dict[str, str]:
    """Hashes that are the same in every process in which the values are made the same way.

    Each by itself: what has no stable form takes no other with it.
    """
    return {str(name): _hashed(value) for name, value in values.items()}


def _hashed(value: Any) -> str:
    try:
        text = json.dumps(value, sort_keys=True, default=_stand_in)
    except Exception:  # it holds itself, or keys of several types, or raised when looked into
        text = code_name(type(value))
    return _digest(text)[:16]


def _stand_in(value: Any) -> Any:
    """What counts of a value that JSON does not know."""
    if isinstance(value, (set, frozenset)):  # whose order differs from run to run
        return sorted(map(_hashed, value))
    return _described(value) if callable(value) else _ADDRESS.sub("", repr(value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
