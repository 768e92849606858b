"""The ~1 ms rule: `async` when one step takes longer than that, `sync` when it takes less.

The rule is folklore about one implementation, a process and a pickled message per environment. It
has no source in Gymnasium itself; it is kept because it is widely told, with the prediction and the
break-even of this machine printed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.measure.ipc import IpcProfile
    from vecselect.measure.step import StepProfile

THRESHOLD_S = 1e-3
MOSTLY_WAITING = 0.5
"""From this off-CPU fraction on, a step is bound by waiting rather than by computing."""


@dataclass(frozen=True)
class RuleVerdict:
    """What the ~1 ms rule says, and what the measured numbers predict.

    Attributes:
        mode: `sync` or `async`.
        reason: One sentence saying why.
        threshold_s: The rule's threshold, in seconds per step.
        step_time_s: Mean seconds of one step, its share of resets included: what is compared.
        sync_s: Predicted seconds of one vector step in `sync`.
        async_s: The same in `async`; None where round trips were not measured.
        break_even_s: The step time from which on `async` pays with the IPC cost measured here;
            None where it never does, or round trips were not measured.
    """

    mode: str
    reason: str
    threshold_s: float
    step_time_s: float
    sync_s: float
    async_s: float | None
    break_even_s: float | None


def apply_rule(
    profile: StepProfile, machine: Machine, num_envs: int, ipc: IpcProfile | None = None
) -> RuleVerdict:
    """Applies the ~1 ms rule.

    Its predictions are `sync: n t` and `async: n c + max(t, n u / min(n, cores))`, with n
    sub-environments, step time t of which u is computing, and IPC cost c: the messages pass one
    after another through the caller, and the computing shares the cores. The break-even is the t at
    which the two are equal.
    """
    step_s = profile.mean_step_with_resets_s
    computing = 1.0 - profile.off_cpu_fraction
    lanes = min(float(num_envs), machine.cores)
    waits = profile.off_cpu_fraction >= MOSTLY_WAITING
    # Seconds of one vector step, per second of step time, once the hand-offs are paid for.
    share = max(1.0, num_envs * computing / max(lanes, 1e-9))
    pays = share < num_envs
    break_even_s = async_s = None
    if ipc is not None:
        async_s = num_envs * ipc.observation_s + share * step_s
        if pays:
            break_even_s = ipc.observation_s * num_envs / (num_envs - share)

    if num_envs == 1:
        mode, reason = "sync", "There is one sub-environment, so nothing can run beside it."
    elif not pays or (machine.cores < 2 and not waits):
        mode = "sync"
        reason = (
            f"Steps compute all the time, and {machine.cores:g} usable core(s) cannot run two at "
            "once."
        )
    elif step_s > THRESHOLD_S:
        mode = "async"
        reason = (
            "One step takes longer than the rule's threshold, so a process for each environment "
            "pays."
        )
    else:
        mode = "sync"
        reason = (
            "One step takes less than the rule's threshold, so messages to other processes would "
            "cost more than they save."
        )
    return RuleVerdict(
        mode=mode,
        reason=reason,
        threshold_s=THRESHOLD_S,
        step_time_s=step_s,
        sync_s=num_envs * step_s,
        async_s=async_s,
        break_even_s=break_even_s,
    )
