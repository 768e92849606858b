"""Running a race: the candidates alive together, timed in turns until it is known which is best."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from vecselect.backends.registry import BACKENDS
from vecselect.errors import ProfileError
from vecselect.measure.generators import untouched_generators
from vecselect.measure.trial import Trials
from vecselect.modes import Mode
from vecselect.selection.compare import Interval, compare
from vecselect.selection.race import (
    FAR_BEHIND,
    STOP_LOSS,
    TIE,
    Entrant,
    RaceRecord,
    choose,
    fastest,
    has_time,
    standing,
    times_beside,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gymnasium.vector import VectorEnv

    from vecselect.measure.learner import Learner
    from vecselect.request import Request

BLOCK_S = 0.05
MAX_ROUNDS = 20
"""Seconds that a block of the fastest candidate takes, and rounds at the most."""

FINAL_ROUNDS = 4
FEWEST_FINAL_ROUNDS = 2
"""Rounds that measure the advantage even when the time is over: one, and one backwards."""

TIMED_ONLY_ROUNDS = 3


def run_race(
    request: Request,
    modes: Sequence[str],
    learner: Learner,
    *,
    budget_s: float,
    timed_only: Collection[str] = (),
    block_s: float = BLOCK_S,
    max_rounds: int = MAX_ROUNDS,
    stop_loss: float = STOP_LOSS,
    progress: Callable[[str], None] = lambda text: None,
) -> RaceRecord:
    """Builds the candidates, runs rounds until the race is over, and closes everything.

    Args:
        request: What was asked for.
        modes: The candidates, the simpler ones first.
        learner: What happens between two vector steps.
        budget_s: Seconds after which no further round is begun.
        timed_only: Candidates that may not be chosen. They run in the first rounds only, and what
            they return is not compared.
        block_s: Seconds that a block of the fastest candidate takes.
        max_rounds: Rounds at the most.
        stop_loss: Expected loss, as a share of throughput, at which the race is over.
        progress: Told in a few words what is being done.

    Raises:
        Exception: What building the simplest candidate raised, if none could be built.
        ProfileError: If none of them could be stepped, or the learner failed.
    """
    start_s = time.perf_counter()
    trials = Trials(learner, block_s, longest=FAR_BEHIND, drops_different=True)
    with untouched_generators(), trials:
        race = _Race(
            request, trials, learner, timed_only, start_s, start_s + budget_s, stop_loss, progress
        )
        race.build(modes)
        race.run(max_rounds)
        return race.record()


def builder(request: Request, mode: str) -> Callable[[], VectorEnv]:
    """Builds a request's vector environment in a mode."""
    which = Mode.parse(mode)
    return partial(BACKENDS[which.kind].build, request, which)


@dataclass(frozen=True)
class _Race:
    """One call of `run_race`: its arguments, the trials, and the times it began and is to end."""

    request: Request
    trials: Trials
    learner: Learner
    timed_only: Collection[str]
    start_s: float
    deadline_s: float
    stop_loss: float
    progress: Callable[[str], None]

    def build(self, modes: Sequence[str]) -> None:
        """Builds and compares all; another implementation cannot return what the others do."""
        for mode in modes:
            self.progress(f"building {mode}")
            own = mode not in self.timed_only and Mode.parse(mode).runs_users_environments
            self.trials.add(mode, builder(self.request, mode), compared=own)
        self._need_candidates()

    def _need_candidates(self) -> None:
        """Raises what has gone wrong if none is left that may be chosen."""
        trials = self.trials
        if trials.running.keys() - set(self.timed_only):
            return
        if not set(trials.built) - set(self.timed_only):
            raise next(iter(trials.errors.values()))  # a pin of that mode would have raised it too
        error = list(trials.errors.values())[-1]
        raise ProfileError(
            f"Every mode failed with {self.request.label} in the race; the last one raised "
            f"{type(error).__name__}: {error}"
        ) from error

    def run(self, max_rounds: int) -> None:
        """Rounds, until the race is over or its time is."""
        trials = self.trials
        own = [mode for mode in trials.running if Mode.parse(mode).runs_users_environments]
        far = trials.set_blocks(own or None)

        def after(rounds: int) -> tuple[str, ...]:
            self._need_candidates()
            result = standing(self._times_s(), self.stop_loss, far)
            running = result.running
            if rounds < TIMED_ONLY_ROUNDS:
                running += tuple(mode for mode in trials.running if mode in self.timed_only)
            now_s = time.perf_counter()
            goes_on = (
                not result.over
                and rounds < max_rounds
                and has_time(
                    left_s=self.deadline_s - now_s,
                    next_s=trials.round_s(running),
                    final_s=FINAL_ROUNDS * self._final_round_s(result.leader),
                    spent_s=now_s - self.start_s,
                    rounds=rounds,
                )
            )
            if not goes_on:
                return ()
            self.progress(f"round {rounds + 1}: {', '.join(running)}")
            return running

        self.progress(f"round 1: {', '.join(trials.running)}")
        trials.rounds(tuple(trials.running), after)

    def _final_round_s(self, chosen: str) -> float:
        """What a round takes that measures the advantage, out of the same time as the others."""
        return self.trials.round_s({chosen, "sync"})

    def _times_s(self) -> dict[str, list[float]]:
        """Seconds per vector step of every block of those that may be chosen."""
        return {
            mode: trial.loops_s
            for mode, trial in self.trials.running.items()
            if mode not in self.timed_only
        }

    def record(self) -> RaceRecord:
        """What came of it; the chosen one's advantage is measured once more."""
        trials = self.trials
        times_s = self._times_s()
        result = standing(times_s, self.stop_loss)
        chosen = next(iter(times_s)) if trials.difference else choose(result, times_s)
        self.progress(f"measuring the advantage of {chosen} again")
        speedup = self._measure_again(chosen, times_s)
        if chosen not in trials.running:  # it failed just now
            self._need_candidates()
            return self.record()
        again = None if speedup is None else ("sync", chosen, speedup)
        if speedup is not None:
            # What looked like an advantage may have been noise.
            all_rounds = compare("sync", times_s["sync"], times_s[chosen]).ratio
            if all_rounds.mid <= 1 + TIE:
                again = ("sync", chosen, all_rounds)
                chosen, speedup = "sync", None
        return RaceRecord(
            chosen=chosen,
            leader=result.leader,
            entrants=self._entrants(result.leader, again),
            out=trials.out,
            num_envs=self.request.num_envs,
            vector_steps=max(trial.vector_steps for trial in trials.running.values()),
            rounds=result.rounds,
            expected_loss=result.expected_loss,
            p_best=result.p_best,
            speedup=speedup,
            compared_steps=trials.compared_steps,
            difference=trials.difference,
            seconds=time.perf_counter() - self.start_s,
        )

    def _entrants(
        self, leader: str, again: tuple[str, str, Interval] | None
    ) -> tuple[Entrant, ...]:
        """What was measured of each that is still there."""
        trials = self.trials.running
        blocks_s = {mode: trial.loops_s for mode, trial in trials.items()}
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
                learner_s=times_s[mode].mid
                * median(block.learner_s / block.total_s for block in trial.blocks),
                blocks_s=tuple(round(block_s, 9) for block_s in blocks_s[mode]),
            )
            for mode, trial in trials.items()
        )

    def _measure_again(self, chosen: str, times_s: dict[str, list[float]]) -> Interval | None:
        """The speed-up over `sync`, measured in new rounds of the two alone.

        The blocks that decided favour the one they chose; these do not. They are added to the times
        of the two, as far as those ran in the same rounds.
        """
        running = self.trials.running
        if chosen == "sync" or "sync" not in running:
            return None
        finalists = {mode: running[mode].again() for mode in ("sync", chosen)}
        round_s = self._final_round_s(chosen)
        for number in range(FINAL_ROUNDS):
            late = time.perf_counter() + round_s > self.deadline_s
            if late and number >= FEWEST_FINAL_ROUNDS:
                break
            self.trials.round(list(finalists.values()), number)
        if not finalists.keys() <= running.keys():  # one has failed
            return None
        common = min(len(times_s["sync"]), len(times_s[chosen]))
        for mode, trial in finalists.items():
            times_s[mode] = times_s[mode][:common] + trial.loops_s
        return compare("sync", finalists["sync"].loops_s, finalists[chosen].loops_s).ratio
