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
    """

    effective_cores: float
    hand_off_s: float = 0.0
    worker_s: float = 0.0
    wake_s: float = 0.0
    async_message_s: float = 0.0
    async_fixed_s: float = 0.0
    seconds: float = 0.0


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
class LoopCosts:
    """What the loops in the calling process take for a vector step, beside the environments.

    Attributes:
        sync_s: The loop of `sync`.
        pool_s: The loop of `pool:0`.
        pool_fixed_s: What of that does not depend on the number of sub-environments.
    """

    sync_s: float
    pool_s: float
    pool_fixed_s: float
