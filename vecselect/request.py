"""What the user asks for, checked: a vector environment, a mode, and how to plan or to sweep."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import importlib
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsIndex

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

# Private, but the only way to get what `gymnasium.make` gets from an id: modules imported, the
# newest version where none is named, and its own messages for what does not exist.
from gymnasium.envs.registration import _find_spec  # isort: skip

from vecselect.errors import RequestError, unknown
from vecselect.factory import EnvFactory
from vecselect.modes import Mode, allowable
from vecselect.process.contexts import start_methods
from vecselect.process.pickling import why_unpicklable

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.factory import EnvFn

AUTO = "auto"
MODE_VARIABLE = "VECSELECT_MODE"

_pinned: ContextVar[str] = ContextVar("vecselect_pinned", default=AUTO)

FAILURE_OPTIONS = frozenset({"on_worker_death", "start_timeout_s", "step_timeout_s"})
"""The `vector_kwargs` that say what happens to a worker that fails."""

DEADLINES = ("start_timeout_s", "step_timeout_s")
"""Those of them that limit how long something may take."""

PROCESS_OPTIONS = frozenset({"context", "daemon", "max_concurrency", "shared_memory"})
PROCESS_OPTIONS |= FAILURE_OPTIONS
"""The `vector_kwargs` that say how processes are run; they bind only a mode that has processes."""

RAY_OPTIONS = frozenset({"address", "lane_mode", "num_cpus", "resources"})
"""The `vector_kwargs` that say how lanes are run in a cluster; they bind only `ray`."""

CHOICES = {
    "context": start_methods(),
    "on_worker_death": ("raise", "restart"),
    "autoreset_mode": tuple(mode.value for mode in AutoresetMode),
}
"""The `vector_kwargs` that take one of a few words, and these."""

VECTOR_OPTIONS = frozenset({"autoreset_mode", "copy", "observation_mode", "worker"})
VECTOR_OPTIONS |= PROCESS_OPTIONS | RAY_OPTIONS
"""Every key that `vector_kwargs` may have: those of Gymnasium's vector environments, and ours."""

BUDGETS_S = {"rule": 1.5, "measure": 1.0, "race": 10.0}
"""Seconds by effort after which nothing new is begun."""

EFFORTS = tuple(BUDGETS_S)
"""How much measuring is allowed; a plan of a later one serves a request for an earlier one."""

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""The numbers of sub-environments that a sweep has where none are named."""

SWEEP_BUDGET_S = 25.0

MOST_S = 1e9
"""Thirty years: more seconds are a mistake, and more than clocks and figures are made for."""

MOST_ENVS = 1_000_000
"""More sub-environments are a mistake: the list of what builds them would fill the memory."""

Wrappers = tuple[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]], ...]


@dataclass(frozen=True)
class Pin:
    """A mode the user forces, and the text that forces it, such as `mode='sync'`."""

    mode: Mode
    source: str


@dataclass(frozen=True)
class Request:
    """The vector environment that the user wants, as `auto_make_vec` takes it, checked and frozen.

    Attributes:
        label: How the report calls the environment: its id, or the callable's name.
        env_fns: One factory per sub-environment.
        spec: The registered spec, without keyword arguments; None for callables.
        vector_kwargs: `autoreset_mode` is the enum.
        overlaps: Whether the calling process does something else while sub-environments step.
    """

    label: str
    env_fns: tuple[EnvFn, ...]
    spec: EnvSpec | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Wrappers = ()
    vector_kwargs: Mapping[str, Any] = field(default_factory=dict)
    pin: Pin | None = None
    native: Callable[..., VectorEnv[Any, Any, Any]] | None = None
    buffers: int = 1
    batch_size: int | None = None
    overlaps: bool = False

    @property
    def num_envs(self) -> int:
        """The number of sub-environments."""
        return len(self.env_fns)

    @property
    def deadlines(self) -> tuple[str, ...]:
        """The names of the `vector_kwargs` that limit how long something may take."""
        return tuple(key for key in DEADLINES if self.vector_kwargs.get(key) is not None)

    @property
    def caller_steps(self) -> bool:
        """Whether the calling process may step sub-environments.

        Not where it keeps a deadline, nor where it does something else while they step.
        """
        return not (self.deadlines or self.overlaps)

    def import_entry_point(self) -> None:
        """Imports what builds the sub-environments, where an id says so; builds nothing."""
        entry_point = None if self.spec is None else self.spec.entry_point
        if isinstance(entry_point, str):
            with contextlib.suppress(Exception):  # building says it better
                importlib.import_module(entry_point.partition(":")[0])

    def part(self, rows: range) -> Request:
        """The request of some of the sub-environments alone, as one of several buffers."""
        env_fns = self.env_fns[rows.start : rows.stop]
        return dataclasses.replace(self, env_fns=env_fns, buffers=1)

    @functools.cached_property
    def why_not_sent(self) -> str | None:
        """One sentence if the factories cannot get into another process, else None."""
        if self.vector_kwargs.get("context") == "fork":
            return None
        return why_unpicklable(self.env_fns)

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """What happens to a sub-environment whose episode ended; Gymnasium's default is ours."""
        mode: AutoresetMode = self.vector_kwargs.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        return mode


def read_request(
    id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    num_envs: int | None = None,
    *,
    wrappers: Sequence[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    pin: Pin | None = None,
    native: Callable[..., VectorEnv[Any, Any, Any]] | None = None,
    buffers: int = 1,
    batch_size: int | None = None,
) -> Request:
    """Checks the user's arguments and puts them into one value. Starts and builds nothing.

    The arguments are those of `auto_make_vec`.

    Raises:
        RequestError: If something asked for cannot be.
        gymnasium.error.Error: If the id is not registered; Gymnasium's own message.
        ModuleNotFoundError: If the module of `"module:Env-v0"` cannot be imported.
    """
    given = dict_of("env_kwargs", env_kwargs)
    if native is not None and not callable(native):
        raise RequestError(
            f"native is {native!r}; give a callable that takes num_envs and returns a "
            "gymnasium.vector.VectorEnv."
        )
    if isinstance(id, (str, EnvSpec)):
        spec = copy.deepcopy(_find_spec(id) if isinstance(id, str) else id)
        # A spec that came out of a vector environment carries the arguments of `make_vec` too:
        # defaults here, since the arguments of this call win. How it was vectorized is not kept:
        # that is to be chosen.
        stored = {"num_envs": None, "vector_kwargs": {}, "wrappers": (), **spec.kwargs}
        stored.pop("vectorization_mode", None)
        defaults = [stored.pop(name) for name in ("num_envs", "vector_kwargs", "wrappers")]
        num_envs = defaults[0] if num_envs is None else num_envs
        vector_kwargs = defaults[1] if vector_kwargs is None else vector_kwargs
        wrappers = defaults[2] if wrappers is None else wrappers
        given = {**stored, **given}
        spec.kwargs = {}
        spec.entry_point = _resolved(spec.entry_point)
        make: EnvFn = functools.partial(gym.make, spec, **given)
        makers: list[EnvFn] = [make] * _number_of(num_envs)
        label = spec.id
    else:
        if given:
            name, value = next(iter(given.items()))
            raise RequestError(
                f"A callable got an unexpected keyword argument {name!r}, as it takes none. Put "
                f'them into it: lambda: gym.make("Pendulum-v1", {name}={value!r}).'
            )
        spec = None
        makers, label = _read_callables(id, num_envs)
    if callable(wrappers):
        raise RequestError("wrappers is one wrapper; give a list of them: wrappers=[...].")
    chain: Wrappers = ()
    if wrappers is not None:
        chain = tuple(wrappers) if isinstance(wrappers, Iterable) else (wrappers,)
    if not all(map(callable, chain)):
        raise RequestError(f"wrappers is {wrappers!r}; it must be a list of wrappers.")
    buffers = checked_count("buffers", buffers, len(makers))
    if batch_size is not None:
        batch_size = checked_count("batch_size", batch_size, len(makers))
        if buffers > 1:
            raise RequestError(
                f"buffers={buffers} and batch_size={batch_size} exclude each other: with buffers "
                "the halves step in turn, with batch_size those that finish first are returned "
                "first. Leave one of them out."
            )
    return Request(
        label=label,
        env_fns=_factories(makers, chain),
        spec=spec,
        env_kwargs=given,
        wrappers=chain,
        vector_kwargs=_read_options(vector_kwargs),
        pin=pin,
        native=native,
        buffers=buffers,
        batch_size=batch_size,
        overlaps=buffers > 1 or batch_size is not None,
    )


def is_seconds(value: object) -> bool:
    """Whether a value is a number of seconds, from 0 on, that a clock can tell."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    number: Any = value  # `Real` knows no order, and whole numbers may be beyond floats
    return bool(0 <= number < MOST_S)


def need_seconds(name: str, value: object) -> None:
    """Raises `RequestError` for what is neither None nor a number of seconds above 0."""
    if value is not None and not (is_seconds(value) and value != 0):
        raise RequestError(f"{name} is {value!r}; it must be a number of seconds above 0.")


def _read_callables(id: EnvFn | Iterable[EnvFn], num_envs: int | None) -> tuple[list[EnvFn], str]:
    if callable(id):
        return [id] * _number_of(num_envs), _name_of(id)
    if not isinstance(id, Iterable):
        raise RequestError(
            f"id is {id!r}, which names no environment; give an id such as 'Pendulum-v1', an "
            "EnvSpec, a callable that returns an environment, or a list of such callables."
        )
    makers = list(id)
    for i, maker in enumerate(makers):
        if not callable(maker):
            raise RequestError(
                f"Element {i} of the list of callables is {maker!r}. Give a function that builds "
                'it, as in lambda: gym.make("Pendulum-v1").'
            )
    if not makers:
        raise RequestError("The list of callables is empty; at least one is needed.")
    if num_envs is not None and _number_of(num_envs) != len(makers):
        raise RequestError(
            f"num_envs is {num_envs}, but the list holds {len(makers)} callables; leave num_envs "
            "out, it is the length of the list."
        )
    names = dict.fromkeys(map(_name_of, makers))
    return makers, next(iter(names)) if len(names) == 1 else f"{len(makers)} callables"


def _factories(makers: Sequence[EnvFn], wrappers: Wrappers) -> tuple[EnvFactory, ...]:
    """A factory per sub-environment: one for each callable, so that it is pickled only once."""
    made = {id(make): EnvFactory(make, wrappers) for make in makers}
    return tuple(made[id(make)] for make in makers)


def dict_of(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments as a dict; raises `RequestError` for what holds none."""
    if value is not None and not (
        isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    ):
        raise RequestError(f"{name} is {value!r}; it must be a dict of keyword arguments.")
    return dict(value or {})


def _name_of(make: EnvFn) -> str:
    if isinstance(make, functools.partial):
        return _name_of(make.func)
    name = getattr(make, "__qualname__", type(make).__qualname__)
    return "a lambda" if name.endswith("<lambda>") else str(name).rpartition("<locals>.")[2]


def checked_count(name: str, given: object, most: int | None = None) -> int:
    """A number as an int from 1 to `most`, which is the number of sub-environments."""
    whole = isinstance(given, SupportsIndex) and not isinstance(given, bool)
    count = operator.index(given) if whole else 0  # type: ignore[arg-type]
    if count < 1:
        raise RequestError(f"{name} is {given!r}; it must be a whole number of at least 1.")
    if most is not None and count > most:
        raise RequestError(
            f"{name} is {count}; with {most} sub-environments it must be from 1 to {most}."
        )
    return count


def _number_of(num_envs: int | None) -> int:
    number = 1 if num_envs is None else checked_count("num_envs", num_envs)
    if number > MOST_ENVS:
        raise RequestError(f"num_envs is {number}; it must be {MOST_ENVS:,} at the most.")
    return number


def _resolved(entry_point: Any) -> Any:
    """The entry point itself where it is named inside `__main__`, which no worker imports."""
    if isinstance(entry_point, str) and entry_point.startswith("__main__:"):
        return getattr(importlib.import_module("__main__"), entry_point.partition(":")[2])
    return entry_point


def _read_options(vector_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Checked `vector_kwargs`, the autoreset mode as the enum."""
    options = dict_of("vector_kwargs", vector_kwargs)
    if isinstance(mode := options.get("autoreset_mode"), AutoresetMode):
        options["autoreset_mode"] = mode.value
    for key, value in options.items():
        if key not in VECTOR_OPTIONS:
            raise RequestError(unknown("vector_kwargs key", key, sorted(VECTOR_OPTIONS)))
        if key in CHOICES and value is not None and not _is_one_of(CHOICES[key], value):
            raise RequestError(unknown(key, value, CHOICES[key]))
        if key in DEADLINES:
            need_seconds(key, value)
    if (autoreset := options.pop("autoreset_mode", None)) is not None:
        options["autoreset_mode"] = AutoresetMode(autoreset)
    mode = options.get("observation_mode", "same")
    if not _is_one_of(("same", "different"), mode) and not (
        isinstance(mode, tuple)
        and len(mode) == 2
        and all(isinstance(space, gym.Space) for space in mode)
    ):
        raise RequestError(
            f"observation_mode is {mode!r}; it must be 'same', 'different', or the pair (batched "
            "space, space of one sub-environment)."
        )
    worker = options.get("worker")
    if worker is not None and not callable(worker):
        raise RequestError(f"worker is {worker!r}; give a function, as AsyncVectorEnv takes it.")
    lane_mode = Mode.parse(str(options.get("lane_mode", "sync")))
    if lane_mode.kind != "sync" and (lane_mode.kind != "pool" or lane_mode.workers is None):
        raise RequestError(
            f"lane_mode is '{lane_mode}'; it must be 'sync' or a pool, such as 'pool:3'."
        )
    return options


@contextlib.contextmanager
def pinned(mode: str) -> Iterator[None]:
    """Pins every `auto_make_vec` inside the `with` block that names no mode itself.

    Args:
        mode: A mode, or `"auto"` to lift an outer `pinned`.

    Raises:
        RequestError: If there is no such mode.
    """
    _read_mode(mode, f"pinned({mode!r})")
    token = _pinned.set(mode)
    try:
        yield
    finally:
        _pinned.reset(token)


def read_pin(mode: Any, vectorization_mode: Any = None) -> Pin | None:
    """The pin that is in force: the argument, else `pinned()`, else `VECSELECT_MODE`.

    The third argument of `gymnasium.make_vec` stands in the place of `mode`, so Gymnasium's modes
    are understood.

    Raises:
        RequestError: If a mode does not exist, or the two arguments contradict each other.
    """
    pins = []
    for name, given in (("mode", mode), ("vectorization_mode", vectorization_mode)):
        word = given.value if isinstance(given, gym.VectorizeMode) else given
        pins.append(_read_mode(AUTO if word is None else word, f"{name}={word!r}"))
    first, second = pins
    if first and second and first.mode != second.mode:
        raise RequestError(
            f"{first.source} and {second.source} contradict each other; leave one of them out."
        )
    block, variable = _pinned.get(), os.environ.get(MODE_VARIABLE) or AUTO
    pin = second or first or _read_mode(block, f"pinned({block!r})")
    return pin or _read_mode(variable, f"{MODE_VARIABLE}={variable}")


def _read_mode(mode: Any, source: str) -> Pin | None:
    """A pin to a mode, or None for `"auto"`; `source` is the text that gave it."""
    if not isinstance(mode, str):
        raise RequestError(f"{source}: a mode is named by a string, such as 'sync'.")
    if mode == AUTO:
        return None
    try:
        return Pin(Mode.parse("native" if mode == "vector_entry_point" else mode), source)
    except RequestError as error:
        text = str(error).removeprefix(f"Mode {mode!r}: ")  # the source says it
        raise RequestError(f"{source}: {text}") from None


@dataclass(frozen=True)
class PlanningOptions:
    """What the user says about planning, as `auto_make_vec` and `recommend` take it.

    Raises:
        RequestError: If something asked for cannot be.
    """

    effort: str = "measure"
    budget_s: float | None = None
    learner: Any = None
    learner_threads: int | str | None = None
    allow: Iterable[str] = ()
    use_store: bool = True
    fresh: bool = False
    progress: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        """Checks all of it."""
        if self.effort not in EFFORTS:
            raise RequestError(unknown("effort", self.effort, EFFORTS))
        need_seconds("budget_s", self.budget_s)
        check_learner(self.learner)
        if self.learner_threads not in (None, "auto"):
            # NumPy's numbers are none of JSON's.
            threads = checked_count("learner_threads", self.learner_threads)
            object.__setattr__(self, "learner_threads", threads)
        object.__setattr__(self, "allow", _words("allow", self.allow))
        for mode in self.allow:
            if mode not in allowable():
                raise RequestError(unknown("mode to allow", mode, allowable()))

    @property
    def limit_s(self) -> float:
        """Seconds after which planning starts nothing new."""
        return BUDGETS_S[self.effort] if self.budget_s is None else float(self.budget_s)

    def served_by(self, effort: str) -> bool:
        """Whether a plan made with that effort is as good as one made with this effort."""
        return EFFORTS.index(effort) >= EFFORTS.index(self.effort)


def check_learner(given: Any) -> None:
    """Raises `RequestError` for what is neither a callable nor a number of seconds."""
    if not (given is None or callable(given) or is_seconds(given)):
        raise RequestError(
            f"learner is {given!r}; give a callable that takes the batch of observations, or the "
            "seconds that your loop spends between two steps, such as 0.001."
        )


def _words(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Some names, each once, in order; one may be given as it is."""
    words = (given,) if isinstance(given, str) else given
    listed = tuple(words) if isinstance(words, Iterable) else (None,)
    if not all(isinstance(word, str) for word in listed):
        raise RequestError(f"{name} is {given!r}; it must be a list of names of modes.")
    return tuple(dict.fromkeys(listed))


def _is_one_of(words: Sequence[str], given: object) -> bool:
    """Whether it is one of some words; arrays cannot be compared with them."""
    return isinstance(given, str) and given in words


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep has come.

    Attributes:
        text: What is being done, in a few words.
        share: The share of its time that is over, from 0 to 1.
        left_s: Seconds that are left, at the most.
    """

    text: str
    share: float
    left_s: float


@dataclass(frozen=True)
class SweepOptions:
    """What the user says about a sweep, as `vecselect.sweep` takes it, checked.

    Numbers are in order, the smallest first, and modes the simpler ones first; where modes are to
    be proposed there are none.
    """

    num_envs: tuple[int, ...]
    modes: tuple[str, ...]
    budget_s: float
    learner: Any
    progress: Callable[[SweepProgress], None]
    use_store: bool = True

    @classmethod
    def read(
        cls,
        num_envs: int | Iterable[int],
        modes: Iterable[str] | None,
        budget_s: float | None,
        **others: Any,
    ) -> SweepOptions:
        """Checks what the user says; raises `RequestError` if something asked for cannot be."""
        need_seconds("budget_s", budget_s)
        check_learner(others["learner"])
        given = num_envs if isinstance(num_envs, Iterable) else [num_envs]
        sizes = {checked_count("num_envs", one) for one in given}
        named = () if modes is None else _words("modes", modes)
        if not sizes or (modes is not None and not named):
            raise RequestError(
                f"{'modes' if sizes else 'num_envs'} is empty; name some, or leave it out."
            )
        by_rank = sorted(named, key=lambda mode: Mode.parse(mode).rank())
        return cls(
            tuple(sorted(sizes)), tuple(by_rank), float(budget_s or SWEEP_BUDGET_S), **others
        )
