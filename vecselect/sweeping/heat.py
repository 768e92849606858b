"""One heat of a sweep: all modes of one number of sub-environments, side by side.

It differs from a race in what it is for. A race stops as soon as it knows the winner; a heat gives
every mode's throughput and memory. And what a race finds unequal it takes out, where a heat only
says so.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.backends.registry import BACKENDS
from vecselect.errors import ProfileError
from vecselect.measure.generators import untouched_generators
from vecselect.measure.memory import tree_bytes
from vecselect.measure.sameness import first_difference
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.planning.rounds import LEAD_IN_S
from vecselect.selection.race import order_of_round
from vecselect.selection.sweep import Point, timed_point

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from vecselect.measure.learner import Learner
    from vecselect.measure.trial import Block
    from vecselect.request import Request

BLOCK_S = 0.02
MAX_ROUNDS = 12
MUCH_LONGER = 3.0
"""A mode that takes this many times as long as the fastest has shorter blocks and fewer of them."""

FEW_ROUNDS = 3
SLOW_ROUND_S = 0.5
"""Rounds that are shorter are run at least so many times, since a single one tells little."""

WARM_BLOCKS = 4
COMPARED_STEPS = 3
SLOW_STEP_S = 0.1
"""Where a vector step takes this long, one of them is compared, and one runs to warm up."""


@dataclass(frozen=True)
class Heat:
    """What a heat has found so far.

    Attributes:
        points: By mode, the simpler ones first.
        difference: Where a mode did not return what another one did, if that was seen.
    """

    points: tuple[Point, ...]
    difference: str | None = None


@dataclass
class _Entrant:
    trial: Trial
    memory_bytes: int
    build_s: float
    warm_s: float = 0.0
    blocks: list[Block] = field(default_factory=list)

    def loop_s(self) -> float:
        return median(block.loop_s for block in self.blocks)


def run_heat(
    request: Request,
    modes: Sequence[str],
    learner: Learner,
    left_s: float,
    rehearse: bool,
    progress: Callable[[str], None],
    found: Callable[[Heat], None],
) -> None:
    """Builds the modes, times them in turns until the time is over, and closes everything.

    Args:
        request: What was asked for, with this heat's number of sub-environments.
        modes: Who takes part, the simpler ones first.
        learner: What happens between two vector steps.
        left_s: Seconds after which no mode is built and no further round begun; one long round
            or a few short ones are always run.
        rehearse: Whether to build and close one sub-environment first, so that what its modules
            take counts for all modes and not for the first one alone.
        progress: Told in a few words what is being done.
        found: Given all that was found, after each round.

    Raises:
        ProfileError: If the learner fails.
    """
    heat = _Running(request, learner, time.perf_counter() + left_s, progress)
    with untouched_generators():
        try:
            heat.prepare(modes, rehearse)
            for mode in modes:
                heat.build(mode)
            for result in heat.rounds():
                found(result)
            found(heat.result())
        finally:
            heat.close()


class _Running:
    """The state of one call of `run_heat`."""

    def __init__(
        self,
        request: Request,
        learner: Learner,
        deadline_s: float,
        progress: Callable[[str], None],
    ) -> None:
        self.request = request
        self.learner = learner
        self.deadline_s = deadline_s
        self.progress = progress
        self.entrants: dict[str, _Entrant] = {}
        self.out: dict[str, str] = {}
        self.order: list[str] = []
        self.first: tuple[str, list[Any]] | None = None
        self.difference: str | None = None
        self.base_bytes = self.helpers_bytes = 0
        self.vector_steps: dict[str, int] = {}
        self.lead_in = 1

    def prepare(self, modes: Sequence[str], rehearse: bool) -> None:
        """Reads what memory is taken before anything is built."""
        if rehearse:
            with contextlib.suppress(Exception):  # each mode says for itself what is wrong
                self.request.env_fns[0]().close()
        self.base_bytes = tree_bytes()
        method = self.request.vector_kwargs.get("context") or processes.start_methods()[0]
        if method == "forkserver" and any(map(_has_processes, modes)):
            from vecselect import fork_client

            # Every mode with processes needs this server, not only the one that is built first.
            fork_client.ensure_server()
            self.helpers_bytes = max(tree_bytes() - self.base_bytes, 0)

    def build(self, mode: str) -> None:
        """Builds and warms up one mode, and reads what memory that took."""
        self.order.append(mode)
        start_s = time.perf_counter()
        if self.entrants and start_s > self.deadline_s:
            self.out[mode] = "the time for this number was over before it was built"
            return
        self.progress(f"building {mode}")
        before_bytes = tree_bytes()
        which = Mode.parse(mode)
        try:
            trial = Trial(BACKENDS[which.kind].build(self.request, which), self.learner)
        except Exception as error:
            self._take_out(mode, error)
            return
        entrant = self.entrants[mode] = _Entrant(trial, 0, 0.0)
        with self._may_fail(mode):
            self._compare(which, trial, start_s, entrant)
            entrant.warm_s = _warm_up(trial)
            taken_bytes = tree_bytes() - before_bytes
            helpers_bytes = self.helpers_bytes if _has_processes(mode) else 0
            entrant.memory_bytes = self.base_bytes + helpers_bytes + max(taken_bytes, 0)

    def _compare(self, which: Mode, trial: Trial, start_s: float, entrant: _Entrant) -> None:
        """A reset and a few steps, which must be what the first mode returned."""
        results = [copy.deepcopy(trial.reset())]
        now_s = time.perf_counter()
        entrant.build_s = now_s - start_s
        results.append(copy.deepcopy(trial.step()))
        more = COMPARED_STEPS - 1 if time.perf_counter() - now_s < SLOW_STEP_S else 0
        results += [copy.deepcopy(trial.step()) for _ in range(more)]
        if not which.runs_users_environments:
            return
        mode = str(which)
        if self.first is None:
            self.first = mode, results
        for number, pair in enumerate(zip(results, self.first[1], strict=False)):
            name = f"step {number}" if number else "reset"
            different = first_difference(*pair, name)
            if different is not None:
                self.difference = self.difference or f"{mode}, {different} in {self.first[0]}"

    @contextlib.contextmanager
    def _may_fail(self, mode: str) -> Iterator[None]:
        """Takes an entrant out if it raises, and remembers why."""
        try:
            yield
        except ProfileError:  # the learner's failure, which is no mode's fault
            raise
        except Exception as error:
            self._take_out(mode, error)

    def _take_out(self, mode: str, error: Exception) -> None:
        message = " ".join(str(error).split())
        self.out[mode] = f"it raised {type(error).__name__}: {message}"
        entrant = self.entrants.pop(mode, None)
        if entrant is not None:
            entrant.trial.close()

    def rounds(self) -> Iterator[Heat]:
        """Rounds, until there are enough or the time is over; what is known after each."""
        times_s = {mode: entrant.warm_s for mode, entrant in self.entrants.items()}
        if not times_s:
            return
        fastest_s = min(map(times_s.__getitem__, _own(times_s)))
        self.vector_steps = {
            mode: max(math.ceil(BLOCK_S / fastest_s / max(loop_s / fastest_s / MUCH_LONGER, 1)), 1)
            for mode, loop_s in times_s.items()
        }
        self.lead_in = round(LEAD_IN_S / fastest_s)
        running = list(times_s)
        for number in range(MAX_ROUNDS):
            start_s = time.perf_counter()
            self.progress(f"round {number + 1}")
            for mode in order_of_round(running, number):
                with self._may_fail(mode):
                    entrant = self.entrants[mode]
                    if lead_in := min(self.lead_in, self.vector_steps[mode]):
                        entrant.trial.block(lead_in)
                    entrant.blocks.append(entrant.trial.block(self.vector_steps[mode]))
            if not self.entrants:
                return
            yield self.result()
            now_s = time.perf_counter()
            few = number + 1 < FEW_ROUNDS and now_s - start_s < SLOW_ROUND_S
            if 2 * now_s - start_s > self.deadline_s and not few:
                return
            running = [mode for mode in running if mode in self.entrants]
            if number + 1 >= FEW_ROUNDS:
                limit_s = MUCH_LONGER * min(self.entrants[mode].loop_s() for mode in _own(running))
                running = [mode for mode in running if self.entrants[mode].loop_s() <= limit_s]

    def result(self) -> Heat:
        """What is known so far."""
        return Heat(tuple(map(self._point, self.order)), self.difference)

    def _point(self, mode: str) -> Point:
        entrant = self.entrants.get(mode)
        if entrant is None or not entrant.blocks:
            why = self.out.get(mode, "it was not timed")
            point = Point(mode, self.request.num_envs, skipped=why)
        else:
            point = timed_point(
                mode,
                self.request.num_envs,
                self.vector_steps[mode],
                [block.loop_s for block in entrant.blocks],
                [block.learner_s / block.vector_steps for block in entrant.blocks],
                memory_bytes=entrant.memory_bytes,
                build_s=entrant.build_s,
            )
        return dataclasses.replace(point, other_implementation=_is_other(mode))

    def close(self) -> None:
        """Closes every entrant."""
        for entrant in self.entrants.values():
            entrant.trial.close()


def _warm_up(trial: Trial) -> float:
    """Seconds of a vector step, by the fastest of a few short blocks."""
    block = trial.block(1)
    times_s = [block.loop_s]
    while len(times_s) < WARM_BLOCKS and block.total_s < BLOCK_S / 4:
        block = trial.block(3)
        times_s.append(block.loop_s)
    return min(times_s)


def _own(modes: Collection[str]) -> list[str]:
    """Those that run the user's own environments, or all if none does.

    What another implementation takes must not make the blocks of all the others long.
    """
    return [mode for mode in modes if not _is_other(mode)] or list(modes)


def _is_other(mode: str) -> bool:
    return not Mode.parse(mode).runs_users_environments


def _has_processes(mode: str) -> bool:
    return Mode.parse(mode).processes(1) > 0
