"""Timing vector environments: built side by side, compared with each other, timed in turns.

builders --> Trials.add        build, reset, compare with the first one, warm up
             Trials.set_blocks as many vector steps a block as fit its time
             Trials.rounds     one block of each per round, until the caller names nobody
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import random
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from gymnasium.vector import AutoresetMode

from vecselect.errors import ProfileError
from vecselect.measure.generators import untouched_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from gymnasium.vector import VectorEnv

    from vecselect.measure.learner import Learner

    T = TypeVar("T")

BATCHES_DRAWN = 64
"""Batches of actions drawn before timing; the vector steps cycle through them."""

SEED = 0
"""Of the first reset and of the actions."""

COMPARED_STEPS = 5
COMPARE_LIMIT_S = 0.1
"""Vector steps whose results are compared, and seconds after which no further one is made."""

WARM_BLOCKS = 4
WARM_STEPS = 3
"""Blocks of a warm-up, and vector steps of each but the first, which has one."""

LEAD_IN_S = 0.002
"""Before each block a trial runs untimed for as long as the threads of the one before it may still
spin; where a vector step takes longer than that, it makes no difference."""


@dataclass(frozen=True)
class Block:
    """What one block took.

    Attributes:
        vector_steps: Vector steps made.
        total_s: Seconds of the whole loop.
        learner_s: Seconds of that spent in the learner.
    """

    vector_steps: int
    total_s: float
    learner_s: float

    @property
    def loop_s(self) -> float:
        """Seconds from one vector step to the next."""
        return self.total_s / self.vector_steps


class Trial:
    """A built vector environment that is timed.

    Every trial draws the same actions from the same seed, so that the n-th vector step is the same
    work in each of them.

    Attributes:
        envs: The vector environment.
        name: What it is called among others.
        build_s: Seconds that building and the first reset took, where `Trials` built it.
        step_s: Seconds from one vector step to the next in the warm-up.
        vector_steps: Vector steps of a block.
        blocks: The blocks that were timed in rounds.
    """

    def __init__(self, envs: VectorEnv, learner: Learner | None = None, name: str = "") -> None:
        """Takes a vector environment over; `close` closes it.

        Args:
            envs: Freshly built.
            learner: What happens between two vector steps; nothing by default.
            name: What it is called among others.
        """
        self.envs = envs
        self.name = name
        self.build_s = 0.0
        self.step_s = 0.0
        self.vector_steps = 1
        self.blocks: list[Block] = []
        disabled = envs.metadata.get("autoreset_mode") == AutoresetMode.DISABLED
        self._step = self._step_and_reset if disabled else envs.step
        self._learn = learner.run if learner is not None else None
        space = copy.deepcopy(envs.action_space)
        space.seed(SEED)
        self._actions = itertools.cycle([space.sample() for _ in range(BATCHES_DRAWN)]).__next__

    @property
    def loops_s(self) -> list[float]:
        """Seconds from one vector step to the next, by block."""
        return [block.loop_s for block in self.blocks]

    def reset(self) -> Any:
        """What a seeded reset returns."""
        return self.envs.reset(seed=SEED)

    def step(self) -> Any:
        """What one vector step returns; nothing is timed."""
        return self._step(self._actions())

    def _step_and_reset(self, actions: Any) -> Any:
        """A vector step as loops make it that reset ended episodes themselves."""
        observations, rewards, terminated, truncated, infos = self.envs.step(actions)
        ended = terminated | truncated
        if ended.any():
            observations, infos = self.envs.reset(options={"reset_mask": ended})
        return observations, rewards, terminated, truncated, infos

    def first_results(self) -> Iterator[Any]:
        """What a reset and then up to `COMPARED_STEPS` vector steps return."""
        yield self.reset()
        until_s = time.perf_counter() + COMPARE_LIMIT_S
        for _ in range(COMPARED_STEPS):
            yield self.step()
            if time.perf_counter() > until_s:
                return

    def warm_up(self, block_s: float) -> None:
        """Runs a few short blocks, about a block's time in all, and sets `step_s` by their median.

        The first one does not count if there are others: it may be cold, or a single reset.

        Args:
            block_s: Seconds that a block takes.
        """
        block = self.block(1)
        times_s = [block.loop_s]
        while len(times_s) < WARM_BLOCKS and block.total_s < block_s / 4:
            block = self.block(WARM_STEPS)
            times_s.append(block.loop_s)
        self.step_s = median(times_s[1:] or times_s)

    def block(self, vector_steps: int, lead_in: int = 0) -> Block:
        """Times so many vector steps, the learner after each of them.

        Args:
            vector_steps: Vector steps that are timed.
            lead_in: Vector steps before them that are not.
        """
        if lead_in:
            self.block(lead_in)
        step, act, learn, clock = self._step, self._actions, self._learn, time.perf_counter_ns
        learner_ns = 0
        start_ns = clock()
        if learn is None:
            for _ in range(vector_steps):
                step(act())
        else:
            for _ in range(vector_steps):
                observations = step(act())[0]
                before_ns = clock()
                learn(observations)
                learner_ns += clock() - before_ns
        total_ns = clock() - start_ns
        return Block(vector_steps, total_ns * 1e-9, learner_ns * 1e-9)

    def again(self) -> Trial:
        """The same vector environment as a trial with blocks of its own."""
        other = copy.copy(self)
        other.blocks = []
        return other

    def __enter__(self) -> Trial:
        """The trial itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Closes the vector environment, whatever it raises then."""
        with contextlib.suppress(Exception):
            self.envs.close()


class Trials:
    """Vector environments that are alive together and timed in turns; leaving closes them.

    One that raises is closed and runs no more; a `ProfileError`, which is the learner's failure,
    passes through.

    Attributes:
        running: Those that can run, by name, in the order in which they were added.
        built: The names of those that could be built.
        errors: By name what those raised that were taken out, in that order.
        out: By name why it was taken out, as words that follow the name.
        difference: The first place where one did not return what the first one did; None if all
            that were compared returned the same.
        repeats: Whether the environment returns the same from one run to the next; looked at only
            where two differ.
    """

    def __init__(
        self, learner: Learner | None, block_s: float, *, longest: float, drops_different: bool
    ) -> None:
        """Nothing is built yet.

        Args:
            learner: What happens between two vector steps.
            block_s: Seconds that a block of the fastest takes.
            longest: Those that take more than this many times as long as the fastest make fewer
                vector steps in a block, so that it takes no longer than that.
            drops_different: What is done with one that does not return what the first one does:
                it is taken out, unless the first one does not repeat itself either; or else only
                `difference` is set.
        """
        self.running: dict[str, Trial] = {}
        self.built: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.out: dict[str, str] = {}
        self.difference: str | None = None
        self.repeats = True
        self._learner = learner
        self._block_s = block_s
        self._longest = longest
        self._drops_different = drops_different
        self._lead_in = 0
        self._first: tuple[str, Callable[[], VectorEnv], list[Any]] | None = None
        self._compared_steps = COMPARED_STEPS

    def __enter__(self) -> Trials:
        """These trials."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes all."""
        for trial in self.running.values():
            trial.close()

    @property
    def compared_steps(self) -> int:
        """Vector steps after the first reset that were compared; 0 where that tells nothing."""
        return self._compared_steps if self._first is not None and self.repeats else 0

    def add(self, name: str, build: Callable[[], VectorEnv], *, compared: bool = True) -> None:
        """Builds one, compares what its first vector steps return, and warms it up.

        Args:
            name: What it is called.
            build: Builds it.
            compared: Whether it has to return what the others do.
        """
        start_s = time.perf_counter()
        with self.may_fail(name):
            trial = self.running[name] = Trial(build(), self._learner, name)
            self.built.append(name)
            results = trial.first_results()
            first = next(results)
            trial.build_s = time.perf_counter() - start_s
            results = itertools.chain([first], results)
            if not compared:
                for _ in results:
                    pass
            elif self._first is None:
                self._first = name, build, [copy.deepcopy(result) for result in results]
                self._compared_steps = len(self._first[2]) - 1
            else:
                self._compare(name, results)
            if name in self.running:
                trial.warm_up(self._block_s)

    def _compare(self, name: str, results: Iterator[Any]) -> None:
        """Holds what one returns against what the first one has returned."""
        assert self._first is not None
        first, build_first, expected = self._first
        number = 0
        for number, (right, result) in enumerate(zip(expected, results, strict=False)):
            place = f"step {number}" if number else "reset"
            found = first_difference(result, right, place) if self.repeats else None
            if found is None:
                continue
            if self._drops_different and self.difference is None:
                self.repeats = repeats_itself(build_first)
                if not self.repeats:
                    continue
            self.difference = self.difference or f"{name}, {found} in {first}"
            if self._drops_different:
                self._take_out(name, f"it does not return what {first} does: {found}")
            return
        self._compared_steps = min(self._compared_steps, number)

    @contextlib.contextmanager
    def may_fail(self, name: str) -> Iterator[None]:
        """Takes one out if it raises within."""
        try:
            yield
        except ProfileError:
            raise
        except Exception as error:
            self.errors[name] = error
            message = " ".join(str(error).split())
            self._take_out(name, f"it raised {type(error).__name__}: {message}")

    def _take_out(self, name: str, why: str) -> None:
        self.out[name] = why
        trial = self.running.pop(name, None)
        if trial is not None:
            trial.close()

    def set_blocks(self, pacers: Collection[str] | None = None) -> set[str]:
        """Sets the vector steps of each one's blocks by what its warm-up took.

        Args:
            pacers: The fastest of these makes a block in the given time; by default of all.

        Returns:
            The names of those that make fewer vector steps than the others.
        """
        times_s = {name: trial.step_s for name, trial in self.running.items()}
        fastest_s = min(times_s[name] for name in pacers or times_s if name in times_s)
        steps = steps_of_blocks(times_s, fastest_s, self._block_s, self._longest)
        for name, trial in self.running.items():
            trial.vector_steps = steps[name]
        self._lead_in = round(LEAD_IN_S / fastest_s)
        return {name for name, count in steps.items() if count < max(steps.values())}

    def round_s(self, names: Collection[str]) -> float:
        """Seconds that a round of some of them takes, by their warm-up."""
        trials = [self.running[name] for name in names if name in self.running]
        return sum(
            (trial.vector_steps + self._lead_in_of(trial)) * trial.step_s for trial in trials
        )

    def _lead_in_of(self, trial: Trial) -> int:
        return min(self._lead_in, trial.vector_steps)

    def rounds(self, names: Collection[str], after: Callable[[int], Collection[str]]) -> None:
        """Runs round after round: one block of each, in an order that changes.

        Args:
            names: Who runs in the first round.
            after: Called after each round with the number of rounds run; returns who runs in the
                next one, nobody to stop.
        """
        number = 0
        while names:
            self.round([self.running[name] for name in names if name in self.running], number)
            number += 1
            names = after(number)

    def round(self, trials: Sequence[Trial], number: int) -> None:
        """Runs one round.

        Args:
            trials: Who runs: trials of those that are running, or what their `again` returned.
            number: The round's number, from 0 on.
        """
        for trial in order_of_round(trials, number):
            if trial.name in self.running:
                with self.may_fail(trial.name):
                    lead_in = self._lead_in_of(trial)
                    trial.blocks.append(trial.block(trial.vector_steps, lead_in))


def order_of_round(entrants: Sequence[T], round_number: int) -> list[T]:
    """The order in which entrants run: every second round backwards, else by chance.

    Two entrants so run as AB BA, and whatever one leaves behind (warm caches, spinning threads)
    falls on each of the others alike.

    Args:
        entrants: Who runs.
        round_number: From 0 on.
    """
    order = list(entrants)
    random.Random(round_number // 2).shuffle(order)
    return order[::-1] if round_number % 2 else order


def steps_of_blocks(
    times_s: Mapping[str, float], fastest_s: float, block_s: float, longest: float
) -> dict[str, int]:
    """The vector steps of each one's blocks.

    Args:
        times_s: By name, what a vector step took in the warm-up.
        fastest_s: What it took of the fastest that counts.
        block_s: Seconds that a block of that one takes.
        longest: How many times as long the blocks of the others may take.

    Returns:
        The same number for all, at least two; fewer where these would take longer than is allowed,
        at least one.
    """
    steps = max(math.ceil(block_s / fastest_s), 2)
    limit_s = longest * fastest_s
    return {
        name: steps if time_s <= limit_s else max(int(steps * limit_s / time_s), 1)
        for name, time_s in times_s.items()
    }


def repeats_itself(build: Callable[[], VectorEnv]) -> bool:
    """Whether a vector environment returns the same when it is built and run a second time.

    Both runs begin with the same state of the global random generators.

    Args:
        build: Builds it anew; it is closed.

    Returns:
        True too where it raises, and so tells nothing.
    """

    def run() -> list[Any]:
        with untouched_generators(), Trial(build()) as trial:
            return [copy.deepcopy(result) for result in trial.first_results()]

    try:
        runs = run(), run()
    except Exception:
        return True
    return all(first_difference(*pair) is None for pair in zip(*runs, strict=False))


def first_difference(one: Any, other: Any, path: str = "result") -> str | None:
    """Finds where two values differ in structure, type, dtype, shape or any bit.

    Args:
        one: Dicts, lists, tuples, arrays and plain values, nested.
        other: What it is compared with.
        path: How the values are called in the answer.

    Returns:
        The first place of difference, as `path['key'][0]: 1.0 is not 2.0`; None if there is none.
        NaNs are equal to each other; the keys of dicts must stand in the same order.
    """
    if type(one) is not type(other):
        return f"{path}: {type(one).__name__} is not {type(other).__name__}"
    if isinstance(one, dict):
        if list(one) != list(other):
            return f"{path}: the keys {list(one)} are not {list(other)}"
        parts = ((f"{path}[{key!r}]", one[key], other[key]) for key in one)
    elif isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"{path}: {one.dtype}{one.shape} is not {other.dtype}{other.shape}"
        if one.dtype != object:
            same = one.tobytes() == other.tobytes()
            return None if same else f"{path}: the values differ"
        parts = ((f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(one.flat, other.flat)))  # noqa: B905
    elif isinstance(one, (tuple, list)):
        if len(one) != len(other):
            return f"{path}: {len(one)} elements are not {len(other)}"
        parts = ((f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other)))  # noqa: B905
    else:
        return None if _equal(one, other) else f"{path}: {_short(one)} is not {_short(other)}"
    differences = (first_difference(a, b, name) for name, a, b in parts)
    return next((found for found in differences if found is not None), None)


def _equal(one: Any, other: Any) -> bool:
    """Whether two plain values are equal; what cannot be compared counts as different."""
    try:
        if isinstance(one, float) and one == other == 0:
            return math.copysign(1, one) == math.copysign(1, other)
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # comparing runs code of the user's objects
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
