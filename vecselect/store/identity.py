"""The walk through a value that gives its identity; see `identity.py`."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import functools
import hashlib
import json
import math
import operator
import sys
import types
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator

from vecselect.store.code import (
    file_hash,
    global_names,
    home_of,
    is_importable,
    is_known,
    name_of,
    source_hash,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DEEPEST = 50
_MOST_OBJECTS = 20_000
_LONGEST_SHOWN = 32
_BUILT_IN = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_METHODS = (types.FunctionType, staticmethod, classmethod, property)
_SLOTS = frozenset({"member_descriptor", "getset_descriptor", "_tuplegetter"})
_GETTERS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)


class Unstable(Exception):
    """Something has no identity that another process would find too.

    Attributes:
        reason: Why, as part of a sentence: "it holds a Logger, which has no stable identity".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Walk:
    """One walk through a value.

    What is met again on the way down is named by how far above it stands. The globals that code of
    `__main__` uses are named where they are used and looked at once each, after the rest: functions
    that call each other then cost no more than their number.
    """

    def __init__(self) -> None:
        self.above: list[int] = []
        self.places: list[str] = []
        self.loops = 0
        self.left = _MOST_OBJECTS
        # The values are kept, so that no other object gets their id meanwhile.
        self.done: dict[int, tuple[Any, Any]] = {}
        self.globals: dict[str, Any] = {}
        self.waiting: list[tuple[str, str, Any]] = []
        self.homes: dict[str, Any] = {}

    def whole(self, value: Any) -> Any:
        """What `identify` returns."""
        found = self.of(value)
        while self.waiting:
            key, name, used = self.waiting.pop()
            self.globals[key] = self.of(used, name)
        return ["with globals", found, digest(self.globals)] if self.globals else found

    def of(self, value: Any, place: str = "") -> Any:
        """One value inside, and where it was found, for the reason of a refusal."""
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if abs(value) < 1 << 63 else ["int", hex(value)]
        if kind is float:
            return value if math.isfinite(value) else ["float", repr(value)]
        known = self.done.get(id(value))
        if known is not None:
            return known[1]
        if id(value) in self.above:
            self.loops += 1
            return ["above", len(self.above) - self.above.index(id(value))]
        if len(self.above) >= _DEEPEST:
            raise Unstable(f"it is nested more than {_DEEPEST} levels deep")
        self.left -= 1
        if self.left < 0:
            raise Unstable(f"it is made of more than {_MOST_OBJECTS} objects")
        loops = self.loops
        self.above.append(id(value))
        self.places.append(place)
        found = self._plain(value, kind)
        self.above.pop()
        self.places.pop()
        # What points above itself depends on where it stands, and cannot be used elsewhere.
        if loops == self.loops:
            self.done[id(value)] = value, found
        return found

    def _plain(self, value: Any, kind: type) -> Any:
        """Values that are what they contain."""
        if kind in (bytes, bytearray):
            return [kind.__name__, hashlib.sha256(value).hexdigest()]
        if value is Ellipsis or value is NotImplemented or kind in (complex, range):
            return [kind.__name__, repr(value)]
        if kind is slice:
            return ["slice", self.of(value.start), self.of(value.stop), self.of(value.step)]
        if kind in (tuple, list, collections.deque):
            return self._many(kind.__name__, [self.of(item) for item in value])
        if kind in (set, frozenset):
            return self._many(kind.__name__, sorted(map(self.of, value), key=canonical))
        if kind in (dict, types.MappingProxyType, collections.OrderedDict):
            return self._dict(value)
        if kind is collections.defaultdict:
            return ["defaultdict", self.of(value.default_factory), self._dict(value)]
        if issubclass(kind, enum.Enum):
            return ["enum", name_of(kind), self.of(value.value)]
        if issubclass(kind, np.dtype):
            return ["dtype", value.str, None if value.names is None else self.of(value.descr)]
        if kind is np.ndarray or issubclass(kind, np.generic):
            return self._array(value)
        if issubclass(kind, PurePath):
            return ["path", kind.__name__, str(value)]
        return self._code_like(value, kind)

    def _code_like(self, value: Any, kind: type) -> Any:
        """Values that do something."""
        if issubclass(kind, types.ModuleType):
            return ["module", value.__name__, file_hash(getattr(value, "__file__", None))]
        if issubclass(kind, type):
            return self._class(value)
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.CodeType:
            return ["code", digest(self._code(value))]
        if kind is types.MethodType:
            return ["method", self.of(value.__self__), self.of(value.__func__)]
        if kind is functools.partial:
            return ["partial", *map(self.of, (value.func, value.args, value.keywords))]
        if kind is property:
            return ["property", *map(self.of, (value.fget, value.fset, value.fdel))]
        if kind in (staticmethod, classmethod):
            return [kind.__name__, self.of(value.__func__)]
        if kind is functools.cached_property:
            return ["cached_property", self.of(value.func)]
        if kind is functools._lru_cache_wrapper:
            return ["cached", self.of(value.__wrapped__)]
        if kind in _GETTERS:
            return ["getter", self.of(value.__reduce__())]
        if kind is np.ufunc:
            return ["ufunc", value.__name__]
        if kind in _BUILT_IN:
            owner = getattr(value, "__self__", None)
            bound = None if isinstance(owner, types.ModuleType) else self.of(owner)
            return ["builtin", name_of(value), bound]
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> Any:
        """Objects of which it is known what they are made of."""
        if issubclass(kind, (EnvSpec, WrapperSpec)):
            return self._spec(value)
        if issubclass(kind, gym.Space):
            # The generator moves with every sample, and changes nothing about the space.
            content = {name: part for name, part in vars(value).items() if name != "_np_random"}
            return ["space", self.of(kind), self._dict(content)]
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(kind)]
            content = {name: self.of(getattr(value, name), name) for name in names}
            return ["object", self.of(kind), content]
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return ["object", self.of(kind), [self.of(item) for item in value]]
        # NumPy has functions of several types of its own.
        with contextlib.suppress(Exception):
            if is_known(str(value.__module__), value) and is_importable(value):
                return ["function", name_of(value)]
        place = next((place for place in reversed(self.places) if place), "")
        article = "an" if kind.__name__[:1].lower() in set("aeiou") else "a"
        holds = "it is" if len(self.above) == 1 and not place else "it holds"
        where = f" in {place!r}" if place else ""
        raise Unstable(f"{holds} {article} {kind.__name__}{where}, which has no stable identity")

    def _many(self, kind: str, items: list[Any]) -> Any:
        if len(items) > _LONGEST_SHOWN:
            return [kind, len(items), digest(items)]
        return [kind, *items]

    def _dict(self, value: Mapping[Any, Any]) -> Any:
        if all(type(key) is str for key in value) and len(value) <= _LONGEST_SHOWN:
            return {key: self.of(item, key) for key, item in value.items()}
        pairs = [
            [self.of(key), self.of(item, key if type(key) is str else "")]
            for key, item in value.items()
        ]
        return self._many("dict", sorted(pairs, key=lambda pair: canonical(pair[0])))

    def _array(self, value: Any) -> Any:
        dtype = value.dtype
        if dtype.hasobject:
            if dtype.names is not None:
                raise Unstable("it holds a structured array of objects")
            return ["array", "object", list(value.shape), self.of(value.tolist())]
        # Short ones are shown as they are: bounds of spaces are the most of them.
        content = np.ascontiguousarray(value).tobytes()
        text = content.hex() if len(content) <= 16 else hashlib.sha256(content).hexdigest()
        shape = list(value.shape) if type(value) is np.ndarray else None
        return ["array", self.of(dtype), shape, text]

    def _spec(self, spec: Any) -> Any:
        names = [field.name for field in dataclasses.fields(spec) if field.init]
        content = {name: self.of(getattr(spec, name), name) for name in names}
        if isinstance(spec.entry_point, str):
            try:
                creator = load_env_creator(spec.entry_point)
            except Exception as error:
                raise Unstable(
                    f"its entry point {spec.entry_point!r} cannot be loaded "
                    f"({type(error).__name__})"
                ) from error
            content["code"] = self.of(creator, "entry_point")
        return ["spec", content]

    def _function(self, function: types.FunctionType) -> Any:
        # A decorator may have put another function's name on it: where the code lives counts.
        space = function.__globals__
        home = home_of(space.get("__name__"))
        name = name_of(function)
        if is_known(home, function) and is_importable(function):
            return ["function", name]
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        parts = [
            self._code(function.__code__),
            self.of(function.__defaults__),
            self.of(function.__kwdefaults__),
            [self._cell(variable, cell) for variable, cell in cells],
        ]
        source = source_hash(home, space.get("__file__"))
        parts.append(source)
        if source is None:
            for used in sorted(global_names(function.__code__)):
                self._use(space, home, used)
            parts.append(home)
        return ["function", name, digest(parts)]

    def _cell(self, variable: str, cell: types.CellType) -> Any:
        try:
            content = cell.cell_contents
        except ValueError:
            return ["empty"]
        return ["cell", self.of(content, variable)]

    def _code(self, code: types.CodeType) -> Any:
        """What code does, without where it stands."""
        return [
            code.co_code.hex(),
            [
                self._code(constant) if type(constant) is types.CodeType else self.of(constant)
                for constant in code.co_consts
            ],
            [code.co_name, *code.co_names],
            [code.co_varnames, code.co_freevars, code.co_cellvars],
            [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
            getattr(code, "co_exceptiontable", b"").hex(),
        ]

    def _use(self, space: dict[str, Any], home: str, name: str) -> None:
        """Notes a global for being looked at. The names that Python itself sets say nothing."""
        if name not in space or (name.startswith("__") and name.endswith("__")):
            return
        if self.homes.setdefault(home, space) is not space:
            raise Unstable(f"its code comes from two modules that are both called {home}")
        key = f"{home}:{name}"
        if key not in self.globals:
            self.globals[key] = None
            self.waiting.append((key, name, space[name]))

    def _class(self, cls: type) -> Any:
        layers = [
            self._layer(base) for base in cls.__mro__ if not is_known(str(base.__module__), base)
        ]
        return ["class", name_of(cls), digest(layers)] if layers else ["class", name_of(cls)]

    def _layer(self, cls: type) -> Any:
        """One class without its bases."""
        if is_importable(cls):
            source = source_hash(
                home_of(cls.__module__), getattr(sys.modules[cls.__module__], "__file__", None)
            )
            if source is not None:
                return [name_of(cls), source]
        if issubclass(cls, enum.Enum):
            return [name_of(cls), {name: self.of(item.value) for name, item in _members(cls)}]
        content: dict[str, Any] = {}
        generated = dataclasses.is_dataclass(cls) and "__dataclass_fields__" in vars(cls)
        if generated:
            content["fields"] = [
                [field.name, self._default(field.default), self._default(field.default_factory)]
                for field in dataclasses.fields(cls)  # type: ignore[arg-type]
            ]
        for name, value in vars(cls).items():
            if name.startswith("__") and name.endswith("__"):
                # Python's own entries: only what is called matters, and not what was generated.
                if not isinstance(value, _METHODS) or name.startswith("__annotate"):
                    continue
                if generated and _is_generated(value):
                    continue
            elif name.startswith("_abc_") or type(value).__name__ in _SLOTS:
                continue
            content[f".{name}"] = self.of(value, name)
        return [name_of(cls), self.of(type(cls)), content]

    def _default(self, value: Any) -> Any:
        return ["missing"] if value is dataclasses.MISSING else ["default", self.of(value)]


def _members(cls: Any) -> Iterable[tuple[str, enum.Enum]]:
    members: Mapping[str, enum.Enum] = cls.__members__
    return members.items()


def _is_generated(method: Any) -> bool:
    """Whether a method of a dataclass was written by `dataclasses`, for all that can be seen."""
    function = getattr(method, "__func__", method)
    if not isinstance(function, types.FunctionType):
        return False
    home = function.__globals__.get("__name__")
    return home in ("dataclasses", "reprlib") or function.__code__.co_filename == "<string>"


def canonical(data: Any) -> str:
    """Plain data as JSON in the one form that is hashed."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def digest(data: Any) -> str:
    """The hash of plain data."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()
