"""The learner: what happens between two vector steps, and what its other threads burn after it."""

from __future__ import annotations

import inspect
import itertools
import math
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.errors import ProfileError
from vecselect.learner_threads import (
    loaded_torch,
    set_learner_threads,
    settable_threads,
    torch_threads,
)
from vecselect.measure.clock import SPINS, OtherThreads
from vecselect.measure.step import leaves
from vecselect.process.generators import untouched_generators

if TYPE_CHECKING:
    from collections.abc import Callable

    import gymnasium as gym

TIMED_S, SEVERAL_TIMED_S = 0.004, 0.016
FEWEST_CALLS, LIMIT_FACTOR = 8, 5
"""A learner is run for so long, with one thread and with several, and so often, but no longer than
so many times as long; the later half counts. Threads that have just been started may share a core
until the scheduler moves one of them, a few of its ticks later: a call of 50 us takes 8 ms then,
and nothing is seen to spin beside it."""

FIRST_CALL_S = 0.2
"""A first call loads and builds what later ones find there, so it does not count, unless it takes
longer than this: then it stays the only one."""

WINDOW_S = 1e-3
"""Other threads are looked at for so long after a call, to see on how many cores they spin."""

WINDOWS = 3
"""Such looks, each after another call; one where a call takes longer than `TIMED_S`."""

LONGEST_SPIN_S = 0.010
"""For so long other threads are looked at to see when they stop; torch's spin for 3 to 7 ms."""

SAME_WITHIN, NEGLIGIBLE_S = 2.0, 20e-6
"""Times of a learner count as the same within this ratio, or within so many seconds."""


HIDDEN_UNITS = 64
MAX_FEATURES = 4096
"""Inputs of the networks at most: an image is cut to that many numbers."""


@dataclass(frozen=True)
class LearnerCost:
    """What the learner takes between two vector steps, under one setting of its threads.

    Attributes:
        source: Where it comes from: `none`, `seconds` (given), `callable` (given, and run),
            `stand-in` (a small network, where torch is loaded), or `observed` in an earlier run.
        seconds: Its time between two vector steps.
        threads: The threads torch computes with; None where torch is not loaded.
        spinning_cores: Cores that its other threads keep busy after it, while they spin.
        spin_s: Seconds for which they do so, counted from the end of the learner's work.
        cores: Cores that it keeps busy while it works: none where it waits, as for a GPU.
        half_share: The share of its time that half a batch takes. All of it where that was not
            measured: a call has costs of its own, and a GPU is not full with a batch of few rows.
    """

    source: str = "none"
    seconds: float = 0.0
    threads: int | None = None
    spinning_cores: float = 0.0
    spin_s: float = 0.0
    cores: float = 1.0
    half_share: float = 1.0

    def part_s(self, share: float) -> float:
        """Its time for a share of a batch, in proportion to the rows but for what a call takes."""
        return self.seconds * (1.0 - 2.0 * (1.0 - self.half_share) * (1.0 - share))

    def like(self, other: LearnerCost) -> bool:
        """Whether a plan for one also serves the other: the same threads, about the same time."""
        shorter_s, longer_s = sorted((self.seconds, other.seconds))
        longest_s = max(SAME_WITHIN * shorter_s, shorter_s + NEGLIGIBLE_S)
        return self.threads == other.threads and longer_s <= longest_s


@dataclass(frozen=True)
class Learner:
    """Something to run between two vector steps.

    Attributes:
        source: `none`, `seconds`, `callable` or `stand-in`.
        run: Takes the batch of observations; None where there is nothing to run.
        seconds: How long it takes, where that was given.
    """

    source: str
    run: Callable[[Any], Any] | None = None
    seconds: float | None = None


def read_learner(given: Any, num_envs: int, action_space: gym.Space[Any] | None) -> Learner:
    """The learner as something that can be run: a callable, seconds of work, or a stand-in.

    With None, and torch loaded, small networks stand in for it, on torch's threads as they are set;
    they need the action space of one sub-environment.
    """
    if callable(given):
        return Learner("callable", _guarded(given))
    if given is not None:
        return Learner("seconds", _busy(float(given)), float(given)) if given else Learner("none")
    if loaded_torch() is not None and action_space is not None:
        return Learner("stand-in", _stand_in(num_envs, action_space))
    return Learner("none")


def measure_learner(
    given: Any,
    num_envs: int,
    action_space: gym.Space[Any] | None,
    observations: Any,
    *,
    one_thread: bool,
    half: Any = None,
) -> tuple[LearnerCost, ...]:
    """What the learner takes between two vector steps, with its threads as they are set.

    It runs here, in the calling process, for some 40 ms. Random generators are left as they were.

    Args:
        given: See `read_learner`, as for the next two.
        num_envs: Sub-environments in a batch.
        action_space: Of one sub-environment.
        observations: A batch of observations, handed to the learner.
        one_thread: Whether it is also measured with one thread, where it has more.
        half: Half such a batch, where it is to be timed with that too.

    Returns:
        The cost with the threads as they are set, and then, where that was measured, with one.
        Where threads other than torch's were brought down to one, those of the first are None.

    Raises:
        ProfileError: If the learner raises.
    """
    learner = read_learner(given, num_envs, action_space)
    if learner.run is None or learner.seconds is not None:
        return (LearnerCost(learner.source, learner.seconds or 0.0, torch_threads()),)
    costs = []
    with untouched_generators():
        # One thread comes first: those of the other setting would go on spinning into it.
        if one_thread and settable_threads() > 1:
            with set_learner_threads(1):
                costs.append(_measured(learner.source, learner.run, observations, 1))
        costs.append(_measured(learner.source, learner.run, observations, torch_threads()))
        if half is not None and learner.source == "callable":
            share = _half_share(learner.run, half, costs[-1].seconds)
            costs = [replace(cost, half_share=share) for cost in costs]
    return tuple(reversed(costs))


def _measured(
    source: str, run: Callable[[Any], Any], observations: Any, threads: int | None
) -> LearnerCost:
    """The cost of a learner with its threads as they are."""
    timed_s = TIMED_S if threads == 1 else SEVERAL_TIMED_S
    seconds, cores = _timed(run, observations, timed_s)
    looks = WINDOWS if seconds < TIMED_S else 1
    return LearnerCost(source, seconds, threads, *_spin(run, observations, looks), cores=cores)


def _half_share(run: Callable[[Any], Any], half: Any, seconds: float) -> float:
    """The share of its time that a learner takes for half a batch; 1.0 where it refuses that."""
    try:
        half_s, _ = _timed(run, half, TIMED_S)
    except ProfileError:
        return 1.0
    return min(max(half_s / seconds, 0.5), 1.0)


def _timed(run: Callable[[Any], Any], observations: Any, timed_s: float) -> tuple[float, float]:
    """Median seconds of a call, and the cores that calls keep busy."""

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    ends = [now()]
    run(observations)
    ends.append(now())
    if ends[1][0] - ends[0][0] <= FIRST_CALL_S:
        ends = ends[1:]
        while (took_s := ends[-1][0] - ends[0][0]) < timed_s or (
            len(ends) <= FEWEST_CALLS and took_s < LIMIT_FACTOR * timed_s
        ):
            run(observations)
            ends.append(now())
    ends = ends[(len(ends) - 1) // 2 :]
    seconds = median(later[0] - earlier[0] for earlier, later in itertools.pairwise(ends))
    return seconds, (ends[-1][1] - ends[0][1]) / (ends[-1][0] - ends[0][0])


def _spin(run: Callable[[Any], Any], observations: Any, looks: int) -> tuple[float, float]:
    """How many cores other threads keep busy right after a call, and for how many seconds.

    The learner has just been called; each of the `looks` but the first is after another call.
    """
    seen = []
    for look in range(looks):
        if look:
            run(observations)
        others, start_s = OtherThreads(), time.perf_counter()
        window_s = _stay_busy_until(start_s + WINDOW_S) - start_s
        seen.append(others.seconds() / window_s)
    cores = median(seen)
    if cores < SPINS:
        return 0.0, 0.0
    _stay_busy_until(start_s + LONGEST_SPIN_S)
    return cores, others.seconds() / cores


def _stay_busy_until(end_s: float) -> float:
    """Keeps this thread's core busy, as a step would, and returns the time it is then."""
    while (now_s := time.perf_counter()) < end_s:
        pass
    return now_s


def _guarded(given: Callable[..., Any]) -> Callable[[Any], Any]:
    """Calls the user's learner as it wants to be called, and says so if it fails."""
    try:
        inspect.signature(given).bind(None)
        takes_observations = True
    except TypeError:
        takes_observations = False
    except ValueError:  # some builtins have no signature
        takes_observations = True

    def run(observations: Any) -> None:
        try:
            if takes_observations:
                given(observations)
            else:
                given()
        except Exception as error:
            raise ProfileError(
                f"The learner raised {type(error).__name__} while it ran between two steps: "
                f"{error}. It is called with the batch of observations, or with nothing if it "
                "takes nothing."
            ) from error

    return run


def _busy(seconds: float) -> Callable[[Any], None]:
    """Burns CPU time, not wall time: work that loses its core takes longer."""
    duration_ns, clock = int(seconds * 1e9), time.thread_time_ns

    def run(observations: Any) -> None:
        end_ns = clock() + duration_ns
        while clock() < end_ns:
            pass

    return run


def _stand_in(num_envs: int, action_space: gym.Space[Any]) -> Callable[[Any], None]:
    """A step of a rollout as policy gradients do it, with networks of two layers of 64 units.

    An action is drawn from what one network says, its log-probability is taken, and another
    network says what the observation is worth. A forward pass alone would be too little: for 8
    sub-environments of HalfCheetah it takes 30 us, all of this 190 us, and the policy of
    Stable-Baselines3 does the same in 320 us.
    """
    torch = loaded_torch()
    choices = int(getattr(action_space, "n", 0)) if action_space.shape == () else 0
    outputs = max(choices or math.prod(action_space.shape or (1,)), 1)
    networks: list[Any] = []  # built when the first observations come

    def run(observations: Any) -> None:
        features = _features(observations, num_envs)
        with torch.no_grad():
            if not networks:
                inputs = features.shape[1]
                networks[:] = _network(inputs, outputs), _network(inputs, 1)
            actor, critic = networks
            seen = torch.from_numpy(features)
            if choices:
                found = torch.distributions.Categorical(logits=actor(seen))
            else:
                found = torch.distributions.Normal(actor(seen), torch.ones(outputs))
            actions = found.sample()
            found.log_prob(actions)
            critic(seen)
            actions.numpy()

    return run


def _network(inputs: int, outputs: int) -> Any:
    nn = loaded_torch().nn
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN_UNITS),
        nn.Tanh(),
        nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
        nn.Tanh(),
        nn.Linear(HIDDEN_UNITS, outputs),
    )


def _features(observations: Any, num_envs: int) -> np.ndarray:
    """A batch of observations as float32 of shape `(num_envs, features)`."""
    # Each leaf is cut before all are: copying whole images would take longer than the network.
    columns = [
        leaf.reshape(num_envs, -1)[:, :MAX_FEATURES]
        for leaf in leaves(observations)
        if isinstance(leaf, np.ndarray)
        and leaf.dtype.kind in "biuf"
        and leaf.shape[:1] == (num_envs,)
    ]
    if not columns:
        return np.zeros((num_envs, 1), np.float32)
    return np.concatenate(columns, axis=1)[:, :MAX_FEATURES].astype(np.float32)
