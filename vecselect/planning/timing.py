"""Timing modes in turns, for a race and for a sweep: build them, run rounds, close them.

    (mode, num_envs) ...
    | each that fits into time and memory    built, compared, warmed up: Trials.add
    | rounds, one block of each              selection.race.still_running says who runs on
    v
    TimingResult

A race is that with one number of sub-environments, a sweep with several: all are alive together and
take turns, so that nothing that changes meanwhile falls on one of them alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from vecselect.backends.base import backend_of
from vecselect.errors import ProfileError
from vecselect.learner_threads import loaded_torch
from vecselect.machine import read_machine, tree_bytes, why_no_room
from vecselect.measure.learner import read_learner
from vecselect.measure.trial import Trials
from vecselect.modes import Mode
from vecselect.planning import explain
from vecselect.process import children, contexts, forkserver
from vecselect.process.generators import untouched_generators
from vecselect.process.isolated import run_isolated
from vecselect.selection.candidates import needed_bytes
from vecselect.selection.model import start_up_s
from vecselect.selection.race import Timed, TimingResult, still_running, times_beside

if TYPE_CHECKING:
    from collections.abc import Callable

    import gymnasium as gym

    from vecselect.measure.probe import Probe
    from vecselect.request import Request

    Id = tuple[str, int]

BLOCK_S = 0.05
MAX_ROUNDS = 20
"""Seconds that a block of the fastest mode takes, and rounds at the most."""

SWEEP_BLOCK_S = 0.02
SWEEP_ROUNDS = 8
"""Of several numbers, which make longer rounds: the same, and the rounds that the best modes make
at least, so that the numbers can be compared."""

VECTOR_STEPS = 10
"""Vector steps that a mode makes at least: compared, and to warm up."""

REHEARSE_LIMIT_S = 1.0
"""An environment that takes longer to build is not built once more only to load its modules."""

COST_SHARE = 0.5
"""Share of the time left that building one more mode may take, and of all the time that building
may: rounds take the rest."""


@dataclass(frozen=True)
class TimingTask:
    """What is to be timed; `run` and `run_isolated` do it.

    Attributes:
        request: With the largest number of sub-environments.
        which: Modes and numbers of sub-environments: the smaller numbers first, and of those the
            simpler modes.
        learner: What happens between two vector steps, as the user gave it.
        budget_s: Seconds after which no mode is built and no further round begun.
        probe: What one sub-environment takes; None to build all, whether there is room or not.
        block_s: Seconds that a block of the fastest mode takes.
    """

    request: Request
    which: tuple[Id, ...]
    learner: Any
    action_space: gym.Space[Any] | None
    budget_s: float
    probe: Probe | None = None
    block_s: float = BLOCK_S
    max_rounds: int = MAX_ROUNDS

    def run_isolated(
        self,
        say: Callable[[str], None],
        keep: Callable[[TimingResult], None] = lambda found: None,
    ) -> TimingResult:
        """The same as `run` in a process of its own, unless the learner and its threads are here.

        Args:
            say: Told in a few words what is being done.
            keep: Given now and then all that was found so far.

        Raises:
            IsolatedLost: If that process ends before it has told all.
            Exception: As in `run`.
        """

        def progress(message: str | TimingResult) -> None:
            if isinstance(message, str):
                say(message)
            else:
                keep(message)

        here = callable(self.learner) or loaded_torch() is not None
        here = here or self.request.native is not None
        if here or children.why_no_children() or self.request.why_not_sent:
            return self.run(progress=progress)
        start_method = self.request.vector_kwargs.get("context")
        return run_isolated(self.run, self.budget_s, start_method, progress=progress)

    def run(self, *, progress: Callable[[str | TimingResult], None]) -> TimingResult:
        """Builds all, runs rounds until it is known which is best, and closes everything.

        Args:
            progress: Told in a few words what is being done, and now and then all that was found.

        Raises:
            Exception: What building the first mode raised, if none could be built.
            ProfileError: If none of them could be stepped, or the learner failed.
        """
        with untouched_generators(), Trials(self.block_s) as trials:
            running = _Running(self, trials, progress)
            running.build()
            running.rounds()
            return running.found()


class _Running:
    """One call of `TimingTask.run`."""

    def __init__(
        self, timing: TimingTask, trials: Trials, progress: Callable[[str | TimingResult], None]
    ) -> None:
        self.start_s = time.perf_counter()
        self.deadline_s = self.start_s + timing.budget_s
        self.timing = timing
        self.trials = trials
        self.progress = progress
        self.number = 0
        self.slowdown = 1.0
        self.skipped: dict[Id, str] = {}
        self.memory_bytes: dict[Id, int] = {}
        self.base_bytes, self.server_bytes = _taken_before(timing)
        self.taken_bytes = self.base_bytes + self.server_bytes

    def build(self) -> None:
        """Builds, compares and warms up all that fit into the time and the memory."""
        timing, trials = self.timing, self.trials
        for mode, count in timing.which:
            which = mode, count
            if (why := self.why_not(which)) is not None:
                self.skipped[which] = why
                continue
            self.progress(f"building {mode} x {count}")
            learner = read_learner(timing.learner, count, timing.action_space)
            trials.add(which, partial(_build, timing.request, Mode.parse(mode), count), learner)
            before_bytes, self.taken_bytes = self.taken_bytes, tree_bytes()
            self.memory_bytes[which] = self.base_bytes + max(self.taken_bytes - before_bytes, 0)
            if _has_processes(mode):
                self.memory_bytes[which] += self.server_bytes
            self.progress(self.found())  # the process may be lost with the next one
        self.need_some()
        trials.set_blocks()

    def why_not(self, which: Id) -> str | None:
        """Why there is no time or no memory for one more, if so; never of the first one."""
        probe, (mode, count) = self.timing.probe, which
        if probe is None or not self.trials.running:
            return None
        parsed, left_s = Mode.parse(mode), self.deadline_s - time.perf_counter()
        lanes = parsed.lanes(count, self.timing.request.caller_steps)
        each_s = probe.construct_s + probe.profile.reset_time_s
        takes_s = -(-count // lanes) * (each_s + VECTOR_STEPS * probe.profile.step_time_s)
        takes_s += start_up_s(parsed, count, read_machine().cores)
        if takes_s > min(COST_SHARE * left_s, left_s - COST_SHARE * self.timing.budget_s):
            return explain.no_time_for(takes_s, self.timing.budget_s)
        takes_bytes = needed_bytes(parsed, count, probe.profile)
        return why_no_room(takes_bytes, read_machine().memory_available_bytes)

    def need_some(self) -> None:
        """Raises what has gone wrong if nothing is left."""
        trials = self.trials
        if trials.running:
            return
        errors = list(trials.errors.values())
        if not trials.built:
            raise errors[0]  # a pin of that mode would have raised it too
        last = errors[-1]
        raise ProfileError(
            f"Every mode failed while {self.timing.request.label} was timed; the last one raised "
            f"{type(last).__name__}: {last}"
        ) from last

    def rounds(self) -> None:
        """Rounds, until nobody can get ahead any more or the time is over."""
        names = list(self.trials.running)
        while names:
            self.progress(f"round {self.number + 1}: {', '.join(f'{m} x {n}' for m, n in names)}")
            expected_s, start_s = self.trials.round_s(names), time.perf_counter()
            self.trials.round(names, self.number)
            self.number += 1
            # The warm-up tells how long one takes beside another, and the round how long that is.
            self.slowdown = (time.perf_counter() - start_s) / max(expected_s, 1e-9)
            self.need_some()
            self.progress(self.found())
            names = self.next_round()

    def next_round(self) -> list[Id]:
        """Who runs in the next round; nobody if there is none."""
        by_number = self.blocks_s()
        names = [
            (mode, count)
            for count, blocks_s in by_number.items()
            for mode in still_running(blocks_s)
        ]
        several = len(by_number) > 1
        known = len(names) == len(by_number) and not (several and self.number < SWEEP_ROUNDS)
        late = time.perf_counter() + self.slowdown * self.trials.round_s(names) > self.deadline_s
        return [] if known or late or self.number >= self.timing.max_rounds else names

    def blocks_s(self) -> dict[int, dict[str, list[float]]]:
        """Seconds per vector step of every block, by number of sub-environments and mode."""
        found: dict[int, dict[str, list[float]]] = {}
        for (mode, count), trial in self.trials.running.items():
            found.setdefault(count, {})[mode] = trial.loops_s or [trial.step_s]
        return found

    def found(self) -> TimingResult:
        """All that is known so far; of those that have run no round, what the warm-up took."""
        trials, entrants = self.trials, []
        times_s = {count: times_beside(blocks_s) for count, blocks_s in self.blocks_s().items()}
        for which in self.timing.which:
            mode, count = which
            trial = trials.running.get(which)
            if trial is None:
                why = trials.why_out(which) or self.skipped.get(which)
                entrants += [Timed(mode, count, skipped=why)] if why else []
                continue
            loop_s = times_s[count][mode]
            shares = [block.learner_s / block.total_s for block in trial.blocks] or [0.0]
            timed = Timed(
                mode,
                count,
                loop_s=loop_s,
                learner_s=loop_s.mid * median(shares),
                blocks_s=tuple(round(s, 9) for s in trial.loops_s or [trial.step_s]),
                vector_steps=trial.vector_steps,
                memory_bytes=self.memory_bytes.get(which),
            )
            entrants.append(timed)
        return TimingResult(
            entrants=tuple(entrants),
            rounds=self.number,
            compared_steps=trials.compared_steps,
            difference=trials.difference,
            seconds=time.perf_counter() - self.start_s,
        )


def _build(request: Request, mode: Mode, num_envs: int) -> Any:
    request = dataclasses.replace(request, env_fns=request.env_fns[:num_envs])
    return backend_of(mode.kind).build(request, mode)


def _taken_before(timing: TimingTask) -> tuple[int, int]:
    """Bytes taken before anything is built, and those of a fork server beside them."""
    if timing.probe is not None and timing.probe.construct_s < REHEARSE_LIMIT_S:
        # What the environment's modules take counts for all modes, not for the first one alone.
        with contextlib.suppress(Exception):  # each mode says for itself what is wrong
            timing.request.env_fns[0]().close()
    base_bytes = tree_bytes()
    method = timing.request.vector_kwargs.get("context") or contexts.start_methods()[0]
    if method != "forkserver" or not any(_has_processes(mode) for mode, _ in timing.which):
        return base_bytes, 0
    # Every mode with processes needs this server, not only the one that is built first.
    forkserver.ensure_running()
    return base_bytes, max(tree_bytes() - base_bytes, 0)


def _has_processes(mode: str) -> bool:
    return Mode.parse(mode).processes(1) > 0
