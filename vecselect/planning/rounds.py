"""Running a race: the entrants alive together, timed in turns, ended whatever happens."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from vecselect.backends.registry import BACKENDS
from vecselect.errors import ProfileError
from vecselect.learner_threads import one_thread, settable_threads
from vecselect.measure.generators import untouched_generators
from vecselect.measure.repeats import repeats_itself
from vecselect.measure.sameness import first_difference
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.selection.compare import Interval, compare
from vecselect.selection.race import (
    STOP_LOSS,
    TIE,
    Entrant,
    RaceRecord,
    choose,
    fastest,
    has_time,
    order_of_round,
    standing,
    steps_of_blocks,
    times_beside,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from vecselect.measure.learner import Learner
    from vecselect.measure.trial import Block
    from vecselect.request import Request

LEAD_IN_S = 0.002
"""Before each block a candidate runs untimed for as long as the one before it may still spin; where
a vector step takes longer than that, it hardly notices."""

COMPARED_STEPS = 5
COMPARE_LIMIT_S = 0.3
FINAL_ROUNDS = 4
FEWEST_FINAL_ROUNDS = 2
"""Rounds that measure the advantage even when the time is over: one, and one backwards."""

TIMED_ONLY_ROUNDS = 3


@dataclass(frozen=True)
class Terms:
    """How a race is run.

    Attributes:
        block_s: Seconds that a block of the fastest candidate takes.
        max_rounds: Rounds at the most.
        deadline_s: When no further round is begun, by `time.perf_counter`.
        stop_loss: Expected loss at which it is over.
        progress: Told in a few words what is being done.
    """

    block_s: float
    max_rounds: int
    deadline_s: float
    stop_loss: float = STOP_LOSS
    progress: Callable[[str], None] = lambda text: None


def run_race(
    request: Request,
    modes: Sequence[str],
    learner: Learner,
    terms: Terms,
    *,
    timed_only: Collection[str] = (),
    incumbent: str | None = None,
) -> RaceRecord:
    """Builds the entrants, runs rounds until the race is over, and closes everything.

    Args:
        request: What was asked for.
        modes: The entrants, the simpler ones first.
        learner: What happens between two vector steps.
        terms: How it is run.
        timed_only: Entrants that may not be chosen. They run in the first rounds only, and what
            they return is not compared.
        incumbent: What was chosen and remembered before.

    Raises:
        Exception: What building the simplest entrant raised, if none could be built.
        ProfileError: If none of them could be stepped, or the learner failed.
    """
    start_s = time.perf_counter()
    race = _Race(request, learner, terms, frozenset(timed_only))
    with untouched_generators():
        try:
            race.enter(modes)
            race.compare()
            race.warm_up()
            race.run(incumbent, start_s)
            return race.record(incumbent, start_s)
        finally:
            race.close()


class _Race:
    """The state of one call of `run_race`."""

    def __init__(
        self, request: Request, learner: Learner, terms: Terms, timed_only: frozenset[str]
    ) -> None:
        self.request = request
        self.learner = learner
        self.terms = terms
        self.timed_only = timed_only
        self.trials: dict[str, Trial] = {}
        self.blocks: dict[str, list[Block]] = {}
        self.out: dict[str, str] = {}
        self.first_error: Exception | None = None
        self.last_error: Exception | None = None
        self.difference: str | None = None
        self.repeats = True
        self.compared_steps = 0
        self.vector_steps: dict[str, int] = {}
        self.lead_in = 1
        self.round_s: dict[str, float] = {}

    def enter(self, modes: Sequence[str]) -> None:
        """Builds every entrant, and resets those that are not compared."""
        for mode in modes:
            self.terms.progress(f"building {mode}")
            with self._may_fail(mode):
                which = Mode.parse(mode)
                envs = BACKENDS[which.kind].build(self.request, which)
                self.trials[mode] = Trial(envs, self.learner)
                if not self._is_compared(mode):
                    self.trials[mode].reset()
        if self.first_error is not None and not self.trials.keys() - self.timed_only:
            raise self.first_error  # a pin of that mode would have raised it too

    def _is_compared(self, mode: str) -> bool:
        """Whether it must return what the others do; another implementation cannot."""
        return mode not in self.timed_only and Mode.parse(mode).runs_users_environments

    @contextlib.contextmanager
    def _may_fail(self, mode: str) -> Iterator[None]:
        """Takes an entrant out of the race if it raises, and remembers why."""
        try:
            yield
        except ProfileError:  # the learner's failure, which is no entrant's fault
            raise
        except Exception as error:
            self.first_error = self.first_error or error
            self.last_error = error
            self._take_out(mode, f"it raised {type(error).__name__} in the race: {error}")

    def _take_out(self, mode: str, why: str) -> None:
        self.out[mode] = why
        self.blocks.pop(mode, None)
        trial = self.trials.pop(mode, None)
        if trial is not None:
            trial.close()

    def _need_entrants(self) -> None:
        if not self.trials.keys() - self.timed_only:
            error = self.last_error
            raise ProfileError(
                f"Every mode failed with {self.request.label} in the race; the last one raised "
                f"{type(error).__name__}: {error}"
            ) from error

    def compare(self) -> None:
        """Steps the entrants side by side; one that differs from the first is out.

        Where the first differs from itself when it is run again, they are not compared any more.
        """
        modes = list(filter(self._is_compared, self.trials))
        self._compare(modes, "reset", Trial.reset)
        start_s = time.perf_counter()
        self._compare(modes, "step 1", Trial.step)
        spent_s = time.perf_counter() - start_s
        more = min(COMPARED_STEPS - 1, int(COMPARE_LIMIT_S / max(spent_s, 1e-9)))
        for number in range(more):
            self._compare(modes, f"step {number + 2}", Trial.step)
        self.compared_steps = 1 + more if self.repeats else 0

    def _compare(self, modes: list[str], name: str, act: Callable[[Trial], object]) -> None:
        modes = [mode for mode in modes if mode in self.trials]
        results = {}
        for mode in modes:
            with self._may_fail(mode):
                results[mode] = act(self.trials[mode])
        self._need_entrants()
        first = next(iter(results), "")
        for mode, result in results.items():
            difference = first_difference(result, results[first], name) if self.repeats else None
            if difference is not None:
                self.repeats = self.difference is not None or self._repeats_itself(first)
            if difference is not None and self.repeats:
                self.difference = self.difference or f"{mode}, {difference} in {first}"
                self._take_out(mode, f"it does not return what {first} does: {difference}")

    def _repeats_itself(self, mode: str) -> bool:
        """Whether a mode returns the same when it is run twice."""
        which = Mode.parse(mode)
        make = partial(BACKENDS[which.kind].build, self.request, which)
        return repeats_itself(make, COMPARED_STEPS, COMPARE_LIMIT_S)

    def warm_up(self) -> None:
        """Runs every entrant a little, and sets the length of blocks by what that took."""
        times_s = {}
        for mode in list(self.trials):
            with self._may_fail(mode):
                block = self.trials[mode].block(1)
                if block.total_s < self.terms.block_s / 4:
                    block = self.trials[mode].block(3)
                times_s[mode] = block.loop_s
        self._need_entrants()
        self.vector_steps = steps_of_blocks(times_s, self.terms.block_s)
        self.lead_in = round(LEAD_IN_S / min(times_s.values()))
        self.round_s = {
            mode: (self.lead_in + self.vector_steps[mode]) * time_s
            for mode, time_s in times_s.items()
        }

    def run(self, incumbent: str | None, start_s: float) -> None:
        """Rounds, until the race is over or its time is."""
        self.blocks = {mode: [] for mode in self.trials}
        running = tuple(self.trials)
        most = max(self.vector_steps.values())
        far = {mode for mode, steps in self.vector_steps.items() if steps < most}
        for number in range(self.terms.max_rounds):
            self.terms.progress(f"round {number + 1}: {', '.join(running)}")
            for mode in order_of_round(running, number):
                with self._may_fail(mode):
                    self._lead_in(self.trials[mode])
                    self.blocks[mode].append(self.trials[mode].block(self.vector_steps[mode]))
            self._need_entrants()
            result = standing(self.times_s(), self.terms.stop_loss, incumbent, far)
            running = result.running
            if number < TIMED_ONLY_ROUNDS - 1:
                running += tuple(mode for mode in self.trials if mode in self.timed_only)
            now_s = time.perf_counter()
            if result.over or not has_time(
                left_s=self.terms.deadline_s - now_s,
                next_s=sum(self.round_s[mode] for mode in running),
                final_s=FINAL_ROUNDS * self._final_round_s(result.leader),
                spent_s=now_s - start_s,
                rounds=number + 1,
            ):
                break

    def _final_round_s(self, chosen: str) -> float:
        """What a round takes that measures the advantage, out of the same time as the others."""
        return sum(self.round_s[mode] for mode in {chosen, "sync"} & self.round_s.keys())

    def _lead_in(self, trial: Trial) -> None:
        """Lets what the one before has left behind pass by."""
        if self.lead_in:
            trial.block(self.lead_in)

    def times_s(self) -> dict[str, list[float]]:
        """Seconds per vector step of every block of those that may be chosen."""
        return {
            mode: [block.loop_s for block in blocks]
            for mode, blocks in self.blocks.items()
            if mode not in self.timed_only
        }

    def record(self, incumbent: str | None, start_s: float) -> RaceRecord:
        """What came of it; the chosen one's advantage is measured once more."""
        times_s = self.times_s()
        result = standing(times_s, self.terms.stop_loss)
        first = next(iter(times_s))
        chosen = first if self.difference else choose(result, times_s, incumbent)
        self.terms.progress(f"measuring the advantage of {chosen} again")
        cores_used = self._cores_used()
        speedup, one_thread_speedup = self._final(chosen, times_s)
        if chosen not in self.trials:  # it failed just now
            self._need_entrants()
            return self.record(incumbent, start_s)
        again = None if speedup is None else ("sync", chosen, speedup)
        if speedup is not None and chosen != incumbent:
            # What looked like an advantage may have been a whim of the machine.
            all_rounds = compare("sync", times_s["sync"], times_s[chosen]).ratio
            if all_rounds.mid <= 1 + TIE:
                again = ("sync", chosen, all_rounds)
                chosen, speedup = "sync", None
        return RaceRecord(
            chosen=chosen,
            leader=result.leader,
            entrants=self._entrants(result.leader, again),
            out=self.out,
            num_envs=self.request.num_envs,
            vector_steps=max(self.vector_steps.values()),
            rounds=result.rounds,
            expected_loss=result.expected_loss,
            p_best=result.p_best,
            speedup=speedup,
            one_thread_speedup=one_thread_speedup,
            cores_used=cores_used,
            compared_steps=self.compared_steps,
            difference=self.difference,
            seconds=time.perf_counter() - start_s,
        )

    def _entrants(
        self, leader: str, again: tuple[str, str, Interval] | None
    ) -> tuple[Entrant, ...]:
        """What was measured of each that is still there."""
        blocks_s = {mode: [one.loop_s for one in blocks] for mode, blocks in self.blocks.items()}
        if leader not in blocks_s:  # it failed just now
            leader = fastest(blocks_s)
        if again is not None and again[0] == leader:
            mode, beside, found = again
            again = (beside, mode, Interval(1 / found.mid, 1 / found.high, 1 / found.low))
        times_s = times_beside(blocks_s, leader, again)
        return tuple(
            Entrant(
                mode=mode,
                loop_s=times_s[mode],
                learner_s=times_s[mode].mid * median(map(_learner_share, blocks)),
                blocks_s=tuple(round(block.loop_s, 9) for block in blocks),
            )
            for mode, blocks in self.blocks.items()
        )

    def _final(
        self, chosen: str, times_s: dict[str, list[float]]
    ) -> tuple[Interval | None, Interval | None]:
        """In new rounds: the speed-up over `sync`, and what one thread of torch would give.

        The blocks that decided favour the one they chose; these do not. They are added to the times
        of the two, as far as those ran in the same rounds.
        """
        run_by = {chosen: chosen}
        if "sync" in self.trials:
            run_by["sync"] = "sync"
        pool = self._best_pool()
        if pool is not None and self.learner.run is not None and settable_threads() > 1:
            run_by["one thread"] = pool
        if len(run_by) == 1:
            return None, None
        final_s: dict[str, list[float]] = {name: [] for name in run_by}
        round_s = self._final_round_s(chosen)
        for number in range(FINAL_ROUNDS):
            late = time.perf_counter() + round_s > self.terms.deadline_s
            if late and number >= FEWEST_FINAL_ROUNDS:
                break
            for name in order_of_round(list(run_by), number):
                mode = run_by[name]
                with self._may_fail(mode):
                    trial = self.trials[mode]
                    trial = trial.under(one_thread) if name == "one thread" else trial
                    self._lead_in(trial)
                    final_s[name].append(trial.block(self.vector_steps[mode]).loop_s)
            run_by = {name: mode for name, mode in run_by.items() if mode in self.trials}
        speedup = one_thread_speedup = None
        if {chosen, "sync"} <= run_by.keys() and chosen != "sync":
            speedup = compare("sync", final_s["sync"], final_s[chosen]).ratio
            common = min(len(times_s["sync"]), len(times_s[chosen]))
            for name in ("sync", chosen):
                times_s[name] = times_s[name][:common] + final_s[name]
        if {chosen, "one thread"} <= run_by.keys():
            one_thread_speedup = compare(chosen, final_s[chosen], final_s["one thread"]).ratio
        return speedup, one_thread_speedup

    def _cores_used(self) -> float | None:
        """CPU time over wall time of a loop in this process alone, where there is a learner."""
        mode = next((mode for mode in self.trials if mode in ("sync", "pool:0")), None)
        if mode is None or self.learner.run is None:
            return None
        before_s = time.process_time()
        with self._may_fail(mode):
            block = self.trials[mode].block(self.vector_steps[mode])
            return (time.process_time() - before_s) / block.total_s
        return None

    def _best_pool(self) -> str | None:
        """The fastest pool with workers."""
        blocks_s = {
            mode: [block.loop_s for block in blocks]
            for mode, blocks in self.blocks.items()
            if mode.startswith("pool:") and mode != "pool:0"
        }
        return fastest(blocks_s) if blocks_s else None

    def close(self) -> None:
        """Closes every entrant."""
        for trial in self.trials.values():
            trial.close()


def _learner_share(block: Block) -> float:
    """The learner's share of a block's time."""
    return block.learner_s / block.total_s
