"""All that the cost model goes by, and what it would say if one thing were different."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.selection.candidates import thread_counts, worker_counts
from vecselect.selection.estimate import estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.machine import Machine
    from vecselect.measure.step import StepProfile
    from vecselect.selection.costs import Calibration, LoopCosts, RayCosts
    from vecselect.selection.estimate import Estimate


@dataclass(frozen=True)
class Situation:
    """An environment on a machine, in a loop.

    Attributes:
        profile: The record of one sub-environment.
        calibration: What a hand-off and a message cost on the machine.
        loops: What the loops cost with this environment's spaces.
        machine: The machine.
        num_envs: The number of sub-environments.
        learner_s: Seconds of the learner between two vector steps.
        names: Modes that come into question, without parameters: `sync`, `pool`.
        ray: What actors cost, where they come into question.
        caller_steps: Whether the calling process may step a slice of its own.
    """

    profile: StepProfile
    calibration: Calibration
    loops: LoopCosts
    machine: Machine
    num_envs: int
    learner_s: float = 0.0
    names: tuple[str, ...] = ("sync", "pool", "async", "thread")
    ray: RayCosts | None = None
    caller_steps: bool = True

    def modes(self) -> list[str]:
        """The candidates: modes with the parameters worth considering."""
        modes = []
        for name in self.names:
            if name in ("pool", "thread"):
                counts = worker_counts if name == "pool" else thread_counts
                found = counts(self.num_envs, self.machine, self.profile, self.caller_steps)
                modes += [f"{name}:{count}" for count in found]
            elif name == "ray":
                most = min(self.ray.lanes, self.num_envs) if self.ray else 0
                modes += [f"ray:{count}" for count in sorted({most // 2, most} - {0})]
            else:
                modes.append(name)
        return modes

    def estimate(self, modes: Sequence[str] | None = None) -> Estimate:
        """What the cost model says of the candidates, or of some of them."""
        return estimate(
            self.modes() if modes is None else modes,
            self.profile,
            self.calibration,
            self.loops,
            self.num_envs,
            self.learner_s,
            self.machine.cores,
            self.ray,
            self.caller_steps,
        )

    def with_num_envs(self, num_envs: int) -> Situation:
        """The same with another number of sub-environments."""
        loops = self.loops.scaled(num_envs / self.num_envs)
        return dataclasses.replace(self, num_envs=num_envs, loops=loops)

    def with_cores(self, cores: int) -> Situation:
        """The same on a machine with other cores, as good as those of this one."""
        each = min(self.calibration.effective_cores / self.machine.cores, 1.0)
        return dataclasses.replace(
            self,
            machine=dataclasses.replace(self.machine, cores=float(cores)),
            calibration=dataclasses.replace(self.calibration, effective_cores=each * cores),
        )

    def with_learner(self, learner_s: float) -> Situation:
        """The same with another learner."""
        return dataclasses.replace(self, learner_s=learner_s)

    def with_step_time(self, step_time_s: float) -> Situation:
        """The same with steps and resets of another length, in the shape that the record has."""
        factor = step_time_s / self.profile.mean_step_with_resets_s
        profile = dataclasses.replace(
            self.profile,
            step_time_s=self.profile.step_time_s * factor,
            reset_time_s=self.profile.reset_time_s * factor,
            step_times_s=tuple(time_s * factor for time_s in self.profile.step_times_s),
            reset_times_s=tuple(time_s * factor for time_s in self.profile.reset_times_s),
        )
        return dataclasses.replace(self, profile=profile)


@dataclass(frozen=True)
class Change:
    """What the model would choose if one thing were different.

    Attributes:
        what: The thing, in a few words.
        mode: The mode it would choose then.
        speedup: Its throughput over that of `sync` then; None where `sync` is no candidate.
    """

    what: str
    mode: str
    speedup: float | None


MORE_CORES = 4
LEARNER_S = 2e-3
MORE_ENVS = 4


def changes(situation: Situation) -> tuple[Change, ...]:
    """What would, or would not, change the choice: cores, the learner, sub-environments, steps.

    Args:
        situation: As it is now.
    """
    cores = max(int(situation.machine.cores), 1) * MORE_CORES
    num_envs = situation.num_envs * MORE_ENVS
    step_s = situation.profile.mean_step_with_resets_s
    asked = [
        (f"{cores} cores", situation.with_cores(cores)),
        (f"{num_envs} sub-environments", situation.with_num_envs(num_envs)),
        ("10x the step time", situation.with_step_time(step_s * 10)),
    ]
    if situation.learner_s < LEARNER_S:
        asked.insert(1, ("a learner of 2 ms", situation.with_learner(LEARNER_S)))
    else:
        asked.insert(1, ("no learner", situation.with_learner(0.0)))
    return tuple(_change(what, other) for what, other in asked)


def _change(what: str, situation: Situation) -> Change:
    found = situation.estimate()
    sync, ours = found.of("sync"), found.of(found.mode)
    speedup = None
    if sync is not None and ours is not None:
        speedup = (sync.mid + situation.learner_s) / (ours.mid + situation.learner_s)
    return Change(what, found.mode, speedup)
