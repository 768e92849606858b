"""All that was measured for a decision, as frozen values: what the model takes and a plan keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vecselect.machine import Machine
from vecselect.measure.ipc import IpcProfile
from vecselect.measure.learner import LearnerCost as LearnerCost
from vecselect.measure.step import StepProfile
from vecselect.selection.race import TimingResult
from vecselect.selection.rule import RuleVerdict

CHANCE = 6.0
"""Standard errors that means of equal behaviours never lie apart."""

ROUNDING = 1e-3
"""Share of a mean that is no difference: implementations count with other numbers of digits."""

BUSY_SHARE = 0.25
"""Share of the cores that other programs may keep busy while something is measured."""


@dataclass(frozen=True)
class HandOff:
    """What an exchange with a worker costs here, beside the environments.

    Attributes:
        spun_s: Seconds of one exchange with a worker process that spins while it waits.
        woken_s: Seconds of one exchange with a worker process that has gone to sleep.
        measured: Whether they were measured on a worker of this run, and not assumed.
    """

    spun_s: float = 4e-6
    woken_s: float = 60e-6
    measured: bool = False

    @property
    def worker_s(self) -> float:
        """Seconds that each further worker process adds."""
        return self.spun_s / 3

    @property
    def thread_s(self) -> float:
        """Seconds that each thread adds: 12 us where waking a worker takes 45, on an AMD EPYC."""
        return self.woken_s * 0.2

    @property
    def message_s(self) -> float:
        """Seconds of `async` for each sub-environment: a pickled message and back; 70 us there."""
        return self.woken_s * 1.5


@dataclass(frozen=True)
class LoopCosts:
    """What the loops in the calling process take for a vector step, beside the environments.

    Assumed, not measured: the choice hardly depends on them. Wrong by 2x they cost 0.1 % of the
    throughput.

    Attributes:
        sync_s: The loop of `sync`.
        pool_s: The loop of `pool:0`.
        pool_fixed_s: What of that does not depend on the number of sub-environments.
    """

    sync_s: float
    pool_s: float
    pool_fixed_s: float

    @classmethod
    def of(cls, profile: StepProfile, num_envs: int) -> LoopCosts:
        """The loops over so many sub-environments, by the size of what they return.

        Fitted on an AMD EPYC to replays of CartPole, FrozenLake, HalfCheetah, images of 27 kB,
        dicts of 4 arrays and infos of 8 numbers, 2 to 32 of them: within 1.7x.
        """
        arrays, keys = profile.observation_arrays, profile.info_keys
        bytes_s = num_envs * profile.observation_bytes / 2e10
        each_s, key_s = 0.35e-6 * arrays, 0.3e-6 * keys
        fixed_s = 3e-6 + 2e-6 * arrays
        return cls(
            sync_s=4e-6 + 6e-6 * arrays + num_envs * (0.6e-6 + each_s + 2 * key_s) + 3 * bytes_s,
            pool_s=fixed_s + num_envs * (0.1e-6 + each_s + key_s) + 2 * bytes_s,
            pool_fixed_s=fixed_s,
        )


@dataclass(frozen=True)
class ObservedRun:
    """What real use of one mode showed, means over a run.

    Attributes:
        mode: The mode.
        threads: The threads torch computed with while steps were made; None without torch.
        vector_steps: Vector steps that the means are over.
        inside_s: Seconds inside `step`.
        outside_s: Seconds between the end of one `step` and the beginning of the next.
        other_cores: Cores that threads other than the caller's kept busy in this process during
            `step`.
        busy: Whether other programs held the cores meanwhile.
    """

    mode: str
    threads: int | None
    vector_steps: int
    inside_s: float
    outside_s: float
    other_cores: float = 0.0
    busy: bool = False


@dataclass(frozen=True)
class RayCosts:
    """What a vector step over Ray actors takes beside the environments, and what there is of them.

    Attributes:
        fixed_s: Seconds whatever the number of actors.
        lane_s: Seconds of the calling process for each actor.
        lanes: As many actors as the cluster has room for.
        cores: Cores' worth of work that these do at once.
        env_s: Seconds for each sub-environment, whose observation travels.
    """

    fixed_s: float
    lane_s: float
    lanes: int
    cores: float
    env_s: float = 0.0


@dataclass(frozen=True)
class Behaviour:
    """What random actions lead to in the first vector steps after a reset.

    Over so many sub-environments, each from a reset on and for so many steps: the mean and standard
    deviation of the rewards added up, and of the number of episodes that ended.
    """

    samples: int
    steps: int
    return_mean: float
    return_sd: float
    ends_mean: float
    ends_sd: float

    @property
    def reward(self) -> float:
        """Mean reward of a step."""
        return self.return_mean / self.steps

    @property
    def episode_steps(self) -> float | None:
        """Mean length of an episode, about; None where most are longer than `steps`."""
        return self.steps / self.ends_mean if self.ends_mean >= 1 else None

    def differs(self, other: Behaviour) -> bool:
        """Whether rewards or lengths of episodes differ by more than chance and rounding."""
        pairs = (
            (self.return_mean, self.return_sd, other.return_mean, other.return_sd),
            (self.ends_mean, self.ends_sd, other.ends_mean, other.ends_sd),
        )
        return any(
            abs(mean - other_mean)
            > max(
                CHANCE * math.hypot(sd / self.samples**0.5, other_sd / other.samples**0.5),
                ROUNDING * max(abs(mean), abs(other_mean)),
            )
            for mean, sd, other_mean, other_sd in pairs
        )


@dataclass(frozen=True)
class ImplementationCost:
    """What another implementation of the environment takes, timed with all its sub-environments.

    Attributes:
        mode: Its mode.
        vector_step_s: Seconds of a vector step.
        cores_used: CPU time of all threads of the process over wall time meanwhile.
        behaviour: What random actions lead to in it; None where that was not compared.
        reference: The same of the user's own environment.
    """

    mode: str
    vector_step_s: float
    cores_used: float = 1.0
    behaviour: Behaviour | None = None
    reference: Behaviour | None = None


@dataclass(frozen=True)
class Evidence:
    """All that was measured for one decision.

    Attributes:
        machine: The machine.
        num_envs: The number of sub-environments.
        autoreset_mode: Gymnasium's value of it.
        caller_steps: Whether the calling process may step sub-environments; it may not where it
            keeps a deadline.
        buffers: The parts of the batch; every worker has a slice of each.
        kinds: The kinds of modes that can run the request and may be chosen.
        ruled_out: Kinds that could have, had not what was measured spoken against them.
        foreign_cores: Cores that other programs kept busy while this was measured; 0.0 where the
            system does not tell.
        observation_space: Of one sub-environment, as text; None if unseen.
        action_space: The same.
        profile: What one sub-environment's step costs; None where nothing was measured.
        construct_s: Seconds of building one sub-environment; None where nothing was measured.
        hand_off: What an exchange with a worker costs; None where nothing was measured.
        loops: What the loops cost; None where nothing was measured.
        learners: The learner under each setting of its threads: first as they are set, then with
            one thread, where that was measured.
        ipc: Round trips of an observation through a pipe; only for `effort="rule"`.
        rule: What the ~1 ms rule says; None where nothing was measured.
        ray: What Ray actors cost, where `ray` was allowed.
        implementations: What other implementations take, where they were allowed.
        race: The race that was run; None without one.
        runs: What earlier runs of the same script showed, the latest last.
    """

    machine: Machine
    num_envs: int
    autoreset_mode: str
    caller_steps: bool = True
    buffers: int = 1
    kinds: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()
    foreign_cores: float = 0.0
    observation_space: str | None = None
    action_space: str | None = None
    profile: StepProfile | None = None
    construct_s: float | None = None
    hand_off: HandOff | None = None
    loops: LoopCosts | None = None
    learners: tuple[LearnerCost, ...] = (LearnerCost(),)
    ipc: IpcProfile | None = None
    rule: RuleVerdict | None = None
    ray: RayCosts | None = None
    implementations: tuple[ImplementationCost, ...] = ()
    race: TimingResult | None = None
    runs: tuple[ObservedRun, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether other programs held so much of the cores that little of this is worth keeping."""
        return self.foreign_cores > BUSY_SHARE * self.machine.cores

    @property
    def cores(self) -> float:
        """Cores that workers may count on: those of the machine that no other program has held.

        A program counts as holding a core where it keeps one busy now and the load average of the
        last minute shows it too: a burst does not, another training run does.
        """
        load = self.machine.load_1min
        held = min(self.foreign_cores, self.foreign_cores if load is None else load)
        return max(self.machine.cores - int(held + 0.25), 1.0)
