"""`auto_make_vec`, `recommend` and `sweep`: validate, plan, build, wrap."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vecselect.backends.base import backend_of
from vecselect.build import build_planned
from vecselect.errors import RequestError, warn
from vecselect.machine import read_machine
from vecselect.modes import KINDS
from vecselect.planning.planner import make_plan
from vecselect.planning.timing import remembered_num_envs, run_sweep
from vecselect.request import (
    AUTO,
    SIZES,
    VECTOR_OPTIONS,
    PlanningOptions,
    SweepOptions,
    dict_of,
    read_pin,
    read_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import gymnasium as gym
    from gymnasium import VectorizeMode
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.vector import VectorEnv

    from vecselect.factory import EnvFn
    from vecselect.plan import Plan, Sweep
    from vecselect.request import Request, SweepProgress
    from vecselect.vector_env import AutoVectorEnv


def auto_make_vec(
    id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    num_envs: int | str | None = None,
    mode: str | VectorizeMode | None = AUTO,
    vector_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Callable[[gym.Env], gym.Env]] | None = None,
    *,
    effort: str = "measure",
    budget_s: float | None = None,
    learner: Callable[..., Any] | float | None = None,
    learner_threads: int | str | None = None,
    allow: Iterable[str] = (),
    native: Callable[..., VectorEnv] | None = None,
    buffers: int = 1,
    batch_size: int | None = None,
    use_store: bool = True,
    verbose: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
    vectorization_mode: str | VectorizeMode | None = None,
    **kwargs: Any,
) -> AutoVectorEnv:
    """Makes a vector environment that runs in the mode that serves best here.

    One sub-environment more than `num_envs` is built, in a worker process, and stepped for about
    30 ms; from that every candidate's throughput is predicted. `envs.plan` holds what was measured,
    `print(envs.report)` shows it. The trajectories are those of Gymnasium's `SyncVectorEnv` for the
    same seeds. The positional parameters are those of `gymnasium.make_vec`, in its order.

    Args:
        id: An id (`"module:Env-v0"` too), a spec, a callable that builds one sub-environment, or an
            iterable of such callables.
        num_envs: The number of sub-environments, 1 by default; an iterable of callables has its
            own. `"auto"` takes the number that the last `sweep` of the environment on this machine
            recommends; with another number the learner sees other batches.
        mode: A mode to pin (see `available_modes()`), or `"auto"`. Weaker pins are
            `with pinned(mode):` and the environment variable `VECSELECT_MODE`. A pin is that mode
            or an error, and nothing is measured. Gymnasium's `VectorizeMode` is understood too.
        vector_kwargs: Options of the vector environment as Gymnasium's classes take them:
            `autoreset_mode`, `copy`, `observation_mode`, and for processes `context`, `daemon`,
            `max_concurrency`, `shared_memory`, `worker`; and with the pool, `thread` and `async`
            `step_timeout_s` and `start_timeout_s`, after which a worker that does not answer is a
            `StepTimeout`. The pool's `on_worker_death="restart"` replaces a worker that died (or
            missed its deadline): its sub-environments begin anew, with `truncated` and
            `info["worker_restarted"]` set, and without what `set_attr` had changed in them.
        wrappers: Applied to each sub-environment, in order, as in `gymnasium.make_vec`.
        effort: `"rule"`: one environment's step, round trips of an observation through a pipe, and
            the ~1 ms rule. `"measure"`: a short profile, and a prediction of every candidate.
            `"race"`: the candidates that may be best are built and timed in turns as well.
        budget_s: Seconds after which planning starts nothing new and the best answer so far stands;
            1 by default, 1.5 for `"rule"` and 10 for `"race"`.
        learner: What your loop does between two steps: a callable that takes the batch of
            observations (or nothing), run for about 20 ms at each start; or seconds of busy,
            single-threaded work. Without one, what earlier runs of the same script showed is used,
            or, where torch is loaded, a step of a rollout with small networks.
        learner_threads: Threads that torch and numerical libraries have inside
            `with envs.collecting():`. None leaves them as they are; `"auto"` lets the plan choose
            between that and one thread, which often frees the cores that workers need.
        allow: Modes that may be chosen beside those that run your environment as it is: `"native"`,
            its own vectorized implementation; `"envpool"`, EnvPool's; `"ray"`, the actors of a Ray
            cluster. Other implementations have other random numbers; what random actions lead to in
            them is held against your environment, and a difference is a warning.
        native: A factory of another implementation, in place of the registered
            `vector_entry_point`: called with `num_envs` and the environment's keyword arguments, it
            returns a `gymnasium.vector.VectorEnv`. For `mode="native"` and `allow=("native",)`.
        buffers: The parts of the batch that can be stepped independently: see
            `AutoVectorEnv.buffers`. With 2 the learner works on one half while the other one steps.
            Each part has as many workers as the mode says: `pool:2` starts 4 processes then.
        batch_size: Has each sub-environment step independently, for `envs.recv`, which gives the
            results of so many that have finished first, and `envs.send`; see
            `FirstFinishedAutoVectorEnv`.
        use_store: Whether plans are remembered and recalled. They are JSON files in the user's
            cache folder, or in `VECSELECT_CACHE_DIR`.
        verbose: Whether to print the report to stderr, once.
        env_kwargs: Keyword arguments of the environment whose names are taken by a parameter here.
        vectorization_mode: The same as `mode`, by the name that `gymnasium.make_vec` has for it.
        **kwargs: Further keyword arguments of the environment.

    Returns:
        The vector environment; close it when done, or use it as a context manager.

    Raises:
        RequestError: If an argument is wrong.
        ModeUnavailable: If the pinned mode cannot serve the request.
        ProfileError: If the environment or the learner raises, dies or hangs while it is measured.
        Exception: What building a sub-environment raises, as it is.
        gymnasium.error.Error: If the id is not registered.
    """
    pin = read_pin(mode, vectorization_mode)
    with _hints(kwargs):
        request = _read_request(
            id,
            num_envs,
            kwargs,
            env_kwargs,
            wrappers=wrappers,
            vector_kwargs=vector_kwargs,
            pin=pin,
            native=native,
            buffers=buffers,
            batch_size=batch_size,
        )
        options = PlanningOptions(
            effort=effort,
            budget_s=budget_s,
            learner=learner,
            learner_threads=learner_threads,
            allow=allow,
            use_store=use_store,
        )
        envs = build_planned(request, options)
    try:
        _warn_of_loud_notes(envs.plan)
        if verbose:
            envs.report.print(sys.stderr)
    except BaseException:  # warnings may be errors
        envs.close()
        raise
    return envs


def recommend(
    id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    num_envs: int | str | None = None,
    *,
    effort: str = "measure",
    budget_s: float | None = None,
    learner: Callable[..., Any] | float | None = None,
    learner_threads: int | str | None = None,
    allow: Iterable[str] = (),
    native: Callable[..., VectorEnv] | None = None,
    use_store: bool = True,
    fresh: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    wrappers: Sequence[Callable[[gym.Env], gym.Env]] | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Plan:
    """Decides as `auto_make_vec` would without a pin, and builds nothing that stays.

    The arguments are those of `auto_make_vec`, and two more. `fresh` has it plan anew although a
    plan is remembered; the new one takes its place. `progress` is called with a few words on what
    is being done.

    Returns:
        The plan; `print(Report(plan))` shows it.

    Raises:
        RequestError: If an argument is wrong.
        ProfileError: If the environment or the learner raises, dies or hangs while it is measured.
        Exception: What building a sub-environment raises, as it is.
        gymnasium.error.Error: If the id is not registered.
    """
    with _hints(kwargs):
        request = _read_request(
            id,
            num_envs,
            kwargs,
            env_kwargs,
            wrappers=wrappers,
            vector_kwargs=vector_kwargs,
            native=native,
        )
        options = PlanningOptions(
            effort=effort,
            budget_s=budget_s,
            learner=learner,
            learner_threads=learner_threads,
            allow=allow,
            use_store=use_store,
            progress=progress,
            fresh=fresh,
        )
        return make_plan(request, options)


def sweep(
    id: str | EnvSpec | EnvFn | Iterable[EnvFn],
    num_envs: int | Iterable[int] = SIZES,
    *,
    native: Callable[..., VectorEnv] | None = None,
    modes: Iterable[str] | None = None,
    budget_s: float | None = None,
    learner: Callable[..., Any] | float | None = None,
    use_store: bool = True,
    progress: Callable[[SweepProgress], None] = lambda state: None,
    wrappers: Sequence[Callable[[gym.Env], gym.Env]] | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Sweep:
    """Measures throughput and memory against the number of sub-environments, for each mode.

    All modes with all numbers are built side by side, in a process of their own where that can be,
    and timed in turns. What does not fit into the memory or into the time is left out, and the
    reason is kept. The fewest sub-environments that give 95 % of the most throughput are
    recommended, and remembered for `auto_make_vec(id, "auto")` unless `use_store` is false.

    The environment is described as for `auto_make_vec`; of an iterable of callables the first ones
    are taken. `num_envs` holds the numbers of sub-environments, and `modes` the modes, such as
    `("sync", "pool:1")`: by default sync, pools of no worker, half of the cores and all of them,
    async, threads where steps wait, and native where there is one. Native is another
    implementation (by `native`, or registered): it is the best only where it is named here. After
    `budget_s` seconds, 25 by default, nothing new is begun. `learner` is what your loop does
    between two steps. `progress` is called with a `text` on what is being done, the `share` of the
    time that is over, and the seconds that are left at the most, `left_s`.

    Returns:
        The sweep; `print(SweepReport(sweep))` shows it; its `save("sweep.svg")` plots it.

    Raises:
        RequestError: If an argument is wrong.
        ModeUnavailable: If none of the modes can serve the request.
        ProfileError: If the environment fails in every mode, or the learner raises.
        Exception: What building a sub-environment raises, as it is.
        gymnasium.error.Error: If the id is not registered.
        KeyboardInterrupt: On Ctrl-C; its attribute `sweep` holds what was measured until then.
    """
    options = SweepOptions.read(
        num_envs, modes, budget_s, learner=learner, progress=progress, use_store=use_store
    )
    largest = options.num_envs[-1]
    with _hints(kwargs):
        request = _read_request(
            id,
            None if _is_listed(id) else largest,
            kwargs,
            env_kwargs,
            wrappers=wrappers,
            vector_kwargs=vector_kwargs,
            native=native,
        )
        if request.num_envs < largest:
            raise RequestError(
                f"num_envs goes up to {largest}, but the list holds {request.num_envs} callables; "
                "give more of them, or smaller numbers."
            )
        return run_sweep(request, options)


def available_modes() -> dict[str, str | None]:
    """Every mode with None, or with a sentence saying why it cannot run on this machine."""
    machine = read_machine()
    return {kind: backend_of(kind).missing(machine) for kind in KINDS}


_warned: set[tuple[str, str]] = set()
"""Environments and codes of notes of which a warning was given in this process."""


def _warn_of_loud_notes(plan: Plan) -> None:
    """Warns of advice that is worth a lot, once per process and environment."""
    for note in plan.notes:
        if note.loud and (plan.env, note.code) not in _warned:
            _warned.add((plan.env, note.code))
            warn(note.text)


# What is given to the environment, and what of it may have been meant for the vector environment

_PARAMETERS = tuple(inspect.signature(auto_make_vec).parameters)[:-1]
"""The names that may have been meant by one that no environment takes."""

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def _read_request(
    id: Any,
    num_envs: int | str | None,
    kwargs: Mapping[str, Any],
    env_kwargs: Mapping[str, Any] | None,
    **options: Any,
) -> Request:
    """The request, with the environment's keyword arguments from `kwargs` and `env_kwargs`.

    `options` are others of `read_request`.
    """
    given = dict_of("env_kwargs", env_kwargs)
    if twice := sorted(given.keys() & kwargs.keys()):
        raise RequestError(
            f"{', '.join(twice)} is given in env_kwargs and as a keyword argument; give it once."
        )
    options["env_kwargs"] = {**given, **kwargs}
    if num_envs == AUTO:
        if _is_listed(id):
            raise RequestError(
                "num_envs='auto' needs an id or one callable; an iterable of callables has its own "
                "number of sub-environments, so leave num_envs out."
            )
        num_envs = remembered_num_envs(read_request(id, 1, **options))
    number: Any = num_envs
    return read_request(id, number, **options)


def _is_listed(id: Any) -> bool:
    """Whether the sub-environments are given one at a time, each by a callable of its own."""
    return isinstance(id, Iterable) and not isinstance(id, str) and not callable(id)


@contextlib.contextmanager
def _hints(kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Adds to an error about an unknown keyword argument what was probably meant."""
    try:
        yield
    except (TypeError, RequestError) as error:
        found = _UNEXPECTED.search(str(error))
        name = found.group(1) if found else ""
        if name in kwargs and (meant := _meant(name)):
            error.args = (f"{error}. {meant}",)
        raise


def _meant(name: str) -> str | None:
    """A question or a sentence on what a keyword argument was probably meant as."""
    if name in ("mode", "vectorization_mode"):
        return "Only auto_make_vec pins a mode; a sweep has modes=(...)."
    if name in VECTOR_OPTIONS:
        return f"{name} is an option of the vector environment: vector_kwargs={{{name!r}: ...}}."
    known = [*sorted(_PARAMETERS), *sorted(VECTOR_OPTIONS)]
    for near in get_close_matches(name, known, n=1, cutoff=0.75):
        as_option = f"vector_kwargs={{{near!r}: ...}}"
        return f"Did you mean {as_option if near in VECTOR_OPTIONS else near}?"
    return None
