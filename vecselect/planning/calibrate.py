"""What each mode itself costs here: vector environments over stubs, which cost nothing to step."""

from __future__ import annotations

import contextlib
import copy
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector.utils import create_empty_array

from vecselect.backends.base import LOOP_OPTIONS, options_for
from vecselect.backends.registry import find
from vecselect.measure.cores import effective_cores
from vecselect.measure.learner import Learner
from vecselect.measure.stub import StubEnv, stub_cost_s, tiny_stub
from vecselect.measure.trial import Trial
from vecselect.request import Request
from vecselect.selection.costs import Calibration, LoopCosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe

ROUNDS = 9
BLOCK_S = 0.003
WARM_UP_STEPS = 5
SMALL, LARGE = 1, 8
"""Sub-environments between which the pool's cost per sub-environment is told from its fixed one."""

ASYNC_SMALL, ASYNC_LARGE = 1, 3

MANY_WORKERS = 4
"""Workers by which it is told what each further one costs: a machine may have hundreds of cores."""

ALONE = "thread:0"
"""The pool's loop without workers, in memory that need not be shared: it runs everywhere."""

COPIES = 100
COPY_LIMIT_S = 0.01


def calibrate(machine: Machine, skipped: dict[str, str | None]) -> Calibration:
    """Measures what a hand-off and a message cost on this machine, in about a second.

    Args:
        machine: The machine; modes that cannot run on it are left out.
        skipped: By mode, why it cannot be chosen, or None. A mode that fails here is added to it.
    """
    start_s = time.perf_counter()
    cores = effective_cores(machine.cores)
    stub_s = stub_cost_s(tiny_stub())
    most = min(max(int(machine.cores) - 1, 1), MANY_WORKERS)
    wanted = {
        "alone": (ALONE, SMALL),
        "eight": (ALONE, LARGE),
        "worker": ("pool:1", LARGE),
        "sleeper": ("pool:1:sleep", LARGE),
        "workers": (f"pool:{most}", max(LARGE, most + 1)),
        "threads": (f"thread:{LARGE - 1}", LARGE),
        "one message": ("async", ASYNC_SMALL),
        "messages": ("async", ASYNC_LARGE),
    }
    possible = {
        name: (mode, count)
        for name, (mode, count) in wanted.items()
        if find(mode)[0].missing(machine) is None
    }
    requests = {
        name: (mode, Request("stub", (tiny_stub,) * count))
        for name, (mode, count) in possible.items()
    }
    with _trials(requests, skipped) as trials:
        times_s = _step_times(trials)
    each_s = max((times_s["eight"] - times_s["alone"]) / (LARGE - SMALL), 0.0)
    fixed_s = max(times_s["alone"] - each_s, 0.0)
    thread_s = hand_off_s = further_s = wake_s = message_s = async_fixed_s = 0.0
    if "threads" in times_s:
        threads_s = max(times_s["threads"] - fixed_s - each_s * LARGE, 0.0)
        thread_s = threads_s / (LARGE - 1)
    if "workers" in times_s:
        hand_off_s = max(times_s["worker"] - fixed_s - each_s * LARGE / 2, 0.0)
        sleeping_s = max(times_s["sleeper"] - fixed_s - each_s * LARGE / 2, hand_off_s)
        wake_s = sleeping_s - hand_off_s
    if "workers" in times_s and most > 1:
        lane = -(-possible["workers"][1] // (most + 1))
        spent_s = times_s["workers"] - fixed_s - each_s * lane - hand_off_s
        further_s = max(spent_s / (most - 1), 0.0)
    if "messages" in times_s:
        message_s = (times_s["messages"] - times_s["one message"]) / (ASYNC_LARGE - ASYNC_SMALL)
        async_fixed_s = max(times_s["one message"] - message_s, 0.0)
    return Calibration(
        effective_cores=cores,
        hand_off_s=hand_off_s,
        worker_s=further_s,
        wake_s=wake_s,
        async_message_s=max(message_s - stub_s, 0.0),
        async_fixed_s=async_fixed_s,
        seconds=time.perf_counter() - start_s,
        thread_s=thread_s,
    )


def loop_costs(request: Request, found: Probe) -> LoopCosts:
    """Measures what the loops around the environments cost, with this one's spaces and infos.

    Args:
        request: What was asked for.
        found: The recording of a sub-environment.
    """

    def stub() -> StubEnv:
        return StubEnv(found.observation_space, found.action_space, found.transitions)

    def bare_stub() -> StubEnv:
        without = [(*result[:-1], {}) for result in found.transitions]
        return StubEnv(found.observation_space, found.action_space, without)

    options = options_for(request, LOOP_OPTIONS)
    count = request.num_envs
    all_of_them = Request("stub", (stub,) * count, vector_kwargs=options)
    one = Request("stub", (stub,), vector_kwargs=options)
    requests = {"sync": ("sync", all_of_them), "pool": (ALONE, all_of_them)}
    requests["one"] = (ALONE, one)
    if any(result[-1] for result in found.transitions[1:]):
        bare = Request("stub", (bare_stub,) * count, vector_kwargs=options)
        requests |= {"bare sync": ("sync", bare), "bare pool": (ALONE, bare)}
    with _trials(requests, {}) as trials:
        times_s = _step_times(trials)
    stub_s = stub_cost_s(stub())
    each_s = (times_s["pool"] - times_s["one"]) / (count - 1) if count > 1 else 0.0
    copied = options.get("copy", True)
    batch = create_empty_array(found.observation_space, count)
    return LoopCosts(
        sync_s=max(times_s["sync"] - count * stub_s, 0.0),
        pool_s=max(times_s["pool"] - count * stub_s, 0.0),
        pool_fixed_s=max(times_s["one"] - max(each_s, stub_s), 0.0),
        sync_infos_s=max(times_s["sync"] - times_s.get("bare sync", times_s["sync"]), 0.0),
        sync_copying_s=_seconds_of(lambda: copy.deepcopy(batch)) if copied else 0.0,
        pool_infos_s=max(times_s["pool"] - times_s.get("bare pool", times_s["pool"]), 0.0),
        pool_copying_s=_seconds_of(lambda: _copied(batch)) if copied else 0.0,
    )


def _copied(batch: Any) -> Any:
    """A copy of a batch of observations, made as the pool makes it: leaf by leaf."""
    if isinstance(batch, np.ndarray):
        return batch.copy()
    parts = batch.values() if isinstance(batch, dict) else batch
    return [_copied(part) for part in parts] if isinstance(batch, (dict, tuple)) else batch


def _seconds_of(call: Callable[[], Any]) -> float:
    """Seconds of a call, the median of some."""
    times_s: list[float] = []
    until_s = time.perf_counter() + COPY_LIMIT_S
    while len(times_s) < COPIES and time.perf_counter() < until_s:
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return median(times_s)


@contextlib.contextmanager
def _trials(
    requests: Mapping[str, tuple[str, Request]], skipped: dict[str, str | None]
) -> Iterator[dict[str, Trial]]:
    """Builds all that can be built, notes which modes cannot, and closes all."""
    built: dict[str, Trial] = {}
    failed: dict[str, str] = {}
    try:
        for name, (mode, request) in requests.items():
            backend, parameters = find(mode)
            if backend.name in failed:
                continue
            try:
                built[name] = Trial(backend.build(request, **parameters), Learner("none"))
            except Exception as error:  # the stubs are ours, so it is the mode that cannot run
                if mode == ALONE or backend.name not in skipped:
                    raise
                failed[backend.name] = f"it failed when it was tried: {error}"
        for kind, why in failed.items():
            skipped[kind] = skipped[kind] or why
            for name in [name for name in built if find(requests[name][0])[0].name == kind]:
                built.pop(name).close()
        for trial in built.values():
            trial.reset()
        yield built
    finally:
        for trial in built.values():
            trial.close()


def _step_times(trials: Mapping[str, Trial]) -> dict[str, float]:
    """Seconds of a vector step of each, from interleaved blocks: of those the faster quarter.

    Other programs only ever add time, and what they add is no property of the machine.
    """
    steps = {}
    for name, trial in trials.items():
        first = trial.block(WARM_UP_STEPS)
        steps[name] = max(int(BLOCK_S * WARM_UP_STEPS / first.total_s), 2)
    times_s: dict[str, list[float]] = {name: [] for name in trials}
    for _ in range(ROUNDS):
        for name, trial in trials.items():
            trial.block(WARM_UP_STEPS)
            times_s[name].append(trial.block(steps[name]).total_s / steps[name])
    return {name: quantiles(values, n=4)[0] for name, values in times_s.items()}
