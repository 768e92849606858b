"""What the modes themselves cost, as measured over environments that cost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vecselect.machine import Machine

CROWDED = 0.55
"""Share of the cores below which those that work at once are too few: two siblings of one physical
core do about 0.6 of two cores' work, and less than that means that others use them."""


@dataclass(frozen=True)
class Calibration:
    """What this machine takes for a hand-off and for a message; environments play no part in it.

    Attributes:
        effective_cores: Cores' worth of work that it does at once.
        hand_off_s: What the first worker of a pool adds to a vector step.
        worker_s: What each further worker adds.
        wake_s: What it adds if the workers sleep while they wait.
        async_message_s: Seconds of a vector step of `async` per sub-environment.
        async_fixed_s: Seconds of a vector step of `async` whatever their number.
        seconds: How long measuring this took.
        thread_s: Seconds of a vector step of `thread` per thread besides the caller's.
    """

    effective_cores: float
    hand_off_s: float = 0.0
    worker_s: float = 0.0
    wake_s: float = 0.0
    async_message_s: float = 0.0
    async_fixed_s: float = 0.0
    seconds: float = 0.0
    thread_s: float = 0.0


@dataclass(frozen=True)
class RayCosts:
    """What a vector step over Ray actors takes beside the environments, and what there is of them.

    Attributes:
        fixed_s: Seconds whatever the number of lanes.
        lane_s: Seconds of the calling process for each lane.
        lanes: As many as the cluster has room for.
        cores: Cores' worth of work that these do at once.
        env_s: Seconds for each sub-environment, whose observation travels.
    """

    fixed_s: float
    lane_s: float
    lanes: int
    cores: float
    env_s: float = 0.0


HAND_OFF_MOST_S = 1e-4
"""No hand-off takes this long between two processes that both have a core."""


def is_disturbed(calibration: Calibration, machine: Machine) -> bool:
    """Whether a calibration tells more of what else ran than of the machine."""
    crowded = is_crowded(calibration.effective_cores, machine)
    return crowded or (machine.cores >= 2 and calibration.hand_off_s > HAND_OFF_MOST_S)


def is_crowded(effective_cores: float, machine: Machine) -> bool:
    """Whether so few cores worked side by side that others must have used them meanwhile."""
    return effective_cores < CROWDED * machine.cores


@dataclass(frozen=True)
class LoopShare:
    """What a loop takes for a vector step, and what of that is known to go where.

    Attributes:
        total_s: All of it.
        infos_s: Gathering infos.
        copying_s: Copying the batch of observations for the caller.
    """

    total_s: float = 0.0
    infos_s: float = 0.0
    copying_s: float = 0.0


@dataclass(frozen=True)
class LoopCosts:
    """What the loops in the calling process take for a vector step, beside the environments.

    Attributes:
        sync_s: The loop of `sync`.
        pool_s: The loop of `pool:0`.
        pool_fixed_s: What of that does not depend on the number of sub-environments.
        sync_infos_s: What of `sync_s` gathering infos takes.
        sync_copying_s: What of it copying the batch of observations takes.
        pool_infos_s: The same of `pool_s`.
        pool_copying_s: The same of `pool_s`.
    """

    sync_s: float
    pool_s: float
    pool_fixed_s: float
    sync_infos_s: float = 0.0
    sync_copying_s: float = 0.0
    pool_infos_s: float = 0.0
    pool_copying_s: float = 0.0

    @property
    def sync(self) -> LoopShare:
        """The loop of `sync`."""
        return _share(self.sync_s, self.sync_infos_s, self.sync_copying_s)

    def pool(self, lanes: float = 1.0) -> LoopShare:
        """The loop of a pool.

        Args:
            lanes: How many do the work for their sub-environments side by side.
        """
        total_s = self._fixed_s + (self.pool_s - self._fixed_s) / lanes
        infos_s = self.pool_infos_s * (total_s / self.pool_s if self.pool_s else 1.0)
        return _share(total_s, infos_s, self.pool_copying_s)

    @property
    def _fixed_s(self) -> float:
        """The same as `pool_fixed_s`, or all there is: noise may make the part the larger one."""
        return min(self.pool_fixed_s, self.pool_s)

    def scaled(self, factor: float) -> LoopCosts:
        """The loops of so many times as many sub-environments."""
        pool_s = self._fixed_s + (self.pool_s - self._fixed_s) * factor
        return LoopCosts(
            sync_s=self.sync_s * factor,
            pool_s=pool_s,
            pool_fixed_s=self._fixed_s,
            sync_infos_s=self.sync_infos_s * factor,
            sync_copying_s=self.sync_copying_s * factor,
            pool_infos_s=self.pool_infos_s * factor,
            pool_copying_s=self.pool_copying_s * factor,
        )


def _share(total_s: float, infos_s: float, copying_s: float) -> LoopShare:
    """A loop, where the parts were measured apart from the whole and may come to more."""
    infos_s = min(infos_s, total_s)
    return LoopShare(total_s, infos_s, min(copying_s, total_s - infos_s))
