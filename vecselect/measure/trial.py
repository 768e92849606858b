"""Timing vector environments: built side by side, compared with each other, timed in turns.

Trials.add         build, reset, compare with the first of the same number, warm up
Trials.set_blocks  as many vector steps a block as fit its time
Trials.round       one block of each
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
from vecselect.machine import quota_period_s
from vecselect.modes import Mode
from vecselect.process.generators import untouched_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gymnasium.vector import VectorEnv

    from vecselect.measure.learner import Learner

    T = TypeVar("T")
    Id = tuple[str, int]

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

LONGEST = 4.0
"""The blocks of one that is slower take no more than this many times as long as the fastest's."""

LEAD_IN_S = 0.002
"""Before each block a trial runs untimed for as long as the threads of the one before it may still
spin; where a vector step takes longer than that, it makes no difference."""


@dataclass(frozen=True)
class Block:
    """Vector steps made, the seconds of the whole loop, and those of them spent in the learner."""

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
        step_s: Seconds from one vector step to the next in the warm-up.
        vector_steps: Vector steps of a block.
        lead_in: Vector steps before it that are not timed.
        blocks: The blocks that were timed in rounds.
    """

    def __init__(self, envs: VectorEnv, learner: Learner | None = None) -> None:
        """Takes over a vector environment freshly built, which `close` closes."""
        self.envs = envs
        self.step_s: float = 0.0
        self.vector_steps: int = 1
        self.lead_in: int = 0
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

    def first_results(self) -> list[Any]:
        """Copies of what a reset and then up to `COMPARED_STEPS` vector steps return."""
        found = [copy.deepcopy(self.reset())]
        until_s = time.perf_counter() + COMPARE_LIMIT_S
        while len(found) <= COMPARED_STEPS and (len(found) < 2 or time.perf_counter() < until_s):
            found.append(copy.deepcopy(self.step()))
        return found

    def warm_up(self, block_s: float) -> None:
        """Runs a few short blocks, about `block_s` in all, and sets `step_s` by their median.

        The first one does not count if there are others: it may be cold, or a single reset.
        """
        block = self.block(1)
        times_s = [block.loop_s]
        while len(times_s) < WARM_BLOCKS and block.total_s < block_s / 4:
            block = self.block(WARM_STEPS)
            times_s.append(block.loop_s)
        self.step_s = median(times_s[1:] or times_s)

    def block(self, vector_steps: int, lead_in: int = 0) -> Block:
        """Times so many vector steps, the learner after each, and `lead_in` before them untimed."""
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
    passes through. They go by a mode and a number of sub-environments.

    Attributes:
        running: Those that can run, in the order in which they were added.
        built: Those that could be built.
        errors: What those raised that were taken out, in that order.
        difference: The first place where one did not return what the first one with as many
            sub-environments did; None if all that were compared returned the same.
        repeats: Whether the environment returns the same from one run to the next; looked at only
            where two differ.
    """

    def __init__(self, block_s: float) -> None:
        """A block of the fastest takes `block_s`, and no less than a quota's period."""
        self.running: dict[Id, Trial] = {}
        self.built: list[Id] = []
        self.errors: dict[Id, Exception] = {}
        self.difference: str | None = None
        self.repeats: bool = True
        self._block_s = max(block_s, quota_period_s())
        self._first: dict[int, tuple[Id, Callable[[], VectorEnv], list[Any]]] = {}
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
        return self._compared_steps if self._first and self.repeats else 0

    def why_out(self, which: Id) -> str | None:
        """Why one was taken out, as words that follow its name; None if it was not."""
        error = self.errors.get(which)
        if error is None:
            return None
        return f"it raised {type(error).__name__}: {' '.join(str(error).split())}"

    def add(self, which: Id, build: Callable[[], VectorEnv], learner: Learner | None) -> None:
        """Builds one, compares what its first vector steps return, and warms it up.

        Another implementation of the environment is not compared.
        """
        with self._may_fail(which):
            trial = self.running[which] = Trial(build(), learner)
            self.built.append(which)
            results = trial.first_results()
            if _runs_users_environments(which):
                self._compare(which, build, results)
            trial.warm_up(self._block_s)

    def _compare(self, which: Id, build: Callable[[], VectorEnv], results: list[Any]) -> None:
        """Holds what one returns against what the first of as many has returned."""
        first, build_first, expected = self._first.setdefault(which[1], (which, build, results))
        self._compared_steps = min(self._compared_steps, len(results) - 1)
        for number, (right, result) in enumerate(zip(expected, results, strict=False)):
            place = f"step {number}" if number else "reset"
            found = first_difference(result, right, place)
            if found is not None:
                self.repeats = self.repeats and repeats_itself(build_first)
                if self.repeats and self.difference is None:
                    self.difference = f"{which[0]}, {found} in {first[0]}"
                return

    @contextlib.contextmanager
    def _may_fail(self, which: Id) -> Iterator[None]:
        """Takes one out if it raises within."""
        try:
            yield
        except ProfileError:
            raise
        except Exception as error:
            self.errors[which] = error
            trial = self.running.pop(which, None)
            if trial is not None:
                trial.close()

    def set_blocks(self) -> None:
        """Sets the vector steps of each one's blocks by what its warm-up took.

        All with one number of sub-environments make as many as the fastest of them that runs the
        user's environments makes in a block; those that are far behind make fewer.
        """
        for number in {which[1] for which in self.running}:
            same = {which: trial for which, trial in self.running.items() if which[1] == number}
            own_s = [one.step_s for which, one in same.items() if _runs_users_environments(which)]
            fastest_s = min(own_s or [one.step_s for one in same.values()])
            steps = max(math.ceil(self._block_s / fastest_s), 2)
            for trial in same.values():
                fitting = int(steps * LONGEST * fastest_s / trial.step_s)
                trial.vector_steps = min(steps, max(fitting, 1))
                trial.lead_in = min(round(LEAD_IN_S / fastest_s), trial.vector_steps)

    def round(self, names: Sequence[Id], number: int) -> None:
        """Runs one block of each of some of them; rounds are numbered from 0 on."""
        for which in order_of_round(names, number):
            trial = self.running[which]
            with self._may_fail(which):
                trial.blocks.append(trial.block(trial.vector_steps, trial.lead_in))


def _runs_users_environments(which: Id) -> bool:
    return Mode.parse(which[0]).runs_users_environments


def order_of_round(entrants: Sequence[T], round_number: int) -> list[T]:
    """The order in which entrants run in a round: every second one backwards, else by chance.

    Two entrants so run as AB BA, and whatever one leaves behind (warm caches, spinning threads)
    falls on each of the others alike.
    """
    order = list(entrants)
    random.Random(round_number // 2).shuffle(order)
    return order[::-1] if round_number % 2 else order


def repeats_itself(build: Callable[[], VectorEnv]) -> bool:
    """Whether a vector environment returns the same when it is built and run a second time.

    Both runs begin with the same state of the global random generators. True too where it raises,
    and so tells nothing.
    """

    def run() -> list[Any]:
        with untouched_generators(), Trial(build()) as trial:
            return trial.first_results()

    try:
        runs = run(), run()
    except Exception:
        return True
    return all(first_difference(*pair) is None for pair in zip(*runs, strict=False))


def first_difference(one: Any, other: Any, path: str = "result") -> str | None:
    """Finds where two values differ in structure, type, dtype, shape or any bit.

    Returns:
        The first place of difference, as `path['key'][0]: 1.0 is not 2.0`; None if there is none.
        NaNs are equal to each other; the order of a dict's keys makes no difference.
    """
    if type(one) is not type(other):
        return f"{path}: {type(one).__name__} is not {type(other).__name__}"
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"{path}: {one.dtype}{one.shape} is not {other.dtype}{other.shape}"
        if one.dtype != object:
            same = one.tobytes() == other.tobytes()
            return None if same else f"{path}: the values differ"
        one, other = list(one.flat), list(other.flat)
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{path}: the keys {list(one)} are not {list(other)}"
        parts = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, (tuple, list)):
        if len(one) != len(other):
            return f"{path}: {len(one)} elements are not {len(other)}"
        parts = list(zip(range(len(one)), one, other, strict=True))
    else:
        return None if _equal(one, other) else f"{path}: {_short(one)} is not {_short(other)}"
    differences = (first_difference(a, b, f"{path}[{key!r}]") for key, a, b in parts)
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
