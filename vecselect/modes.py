"""A mode as a value: a way to run sub-environments, with a number of workers where it has one.

No other module parses the text of a mode, such as `"pool:3"`.
"""

from __future__ import annotations

import functools
import math
import pkgutil
from dataclasses import dataclass
from typing import Any

from vecselect.errors import RequestError, unknown

FEW_WORKERS = 3
"""The caller wakes so many workers in less time than it takes one of them to begin and to answer:
some 0.2 us for each against 1 or 2."""

CROWD = 2
"""With more workers per core than this, a pool has most of them only to wait; see `Mode.rank`."""


@dataclass(frozen=True)
class Kind:
    """The properties of a kind of mode that are known without running it.

    Attributes:
        backend: Its backend class as `module:Class`; see `backends.base.Backend`.
        cost: Its cost function as `module:function`, which predicts a vector step; see
            `selection.model.predict`. Without one it runs only where it is pinned or allowed.
        workers: What its workers are, if its name may be followed by a number of them.
        each: Whether each sub-environment has a worker of its own.
        processes: Whether its workers are processes of this machine.
        caller_steps: Whether the calling process steps a slice beside the workers.
        users_environments: Whether it runs the user's own environments, and so equals `sync` bit
            for bit.
        on_request: Whether it is chosen only where the user allows it, as what needs a cluster;
            always so where it does not run the user's own environments.
        shares_interpreter: Whether its workers share the caller's interpreter and its lock. They
            are considered only where steps wait or release the lock, and may not draw at a time.
        one_by_one: Whether its workers step each sub-environment independently, as `batch_size`
            needs.
        start_s: Seconds that its first worker takes to start, or each where each sub-environment
            has one of its own, which start side by side on the cores.
        further_start_s: Seconds of each further worker.
    """

    backend: str
    cost: str | None = None
    workers: str | None = None
    each: bool = False
    processes: bool = False
    caller_steps: bool = True
    users_environments: bool = True
    on_request: bool = False
    shares_interpreter: bool = False
    one_by_one: bool = False
    start_s: float = 0.0
    further_start_s: float = 0.0

    def __post_init__(self) -> None:
        """Sets `on_request` where it does not run the user's own environments."""
        if not self.users_environments:
            object.__setattr__(self, "on_request", True)


KINDS = {
    "sync": Kind("vecselect.backends.sync:Sync", "vecselect.selection.model:sync_parts"),
    "pool": Kind(
        "vecselect.backends.pool.backend:Pool",
        "vecselect.selection.model:pool_parts",
        workers="worker processes",
        processes=True,
        one_by_one=True,
        start_s=0.12,
        further_start_s=0.014,  # from a fork server that has imported Gymnasium
    ),
    "thread": Kind(
        "vecselect.backends.thread:Thread",
        "vecselect.selection.model:thread_parts",
        workers="threads",
        shares_interpreter=True,
        one_by_one=True,
        start_s=2e-4,
        further_start_s=2e-4,
    ),
    "async": Kind(
        "vecselect.backends.async_env:Async",
        "vecselect.selection.model:async_parts",
        each=True,
        processes=True,
        start_s=0.12,
    ),
    "native": Kind(
        "vecselect.backends.native:Native",
        "vecselect.selection.model:implementation_parts",
        users_environments=False,
    ),
    "envpool": Kind(
        "vecselect.backends.envpool:EnvPool",
        "vecselect.selection.model:implementation_parts",
        workers="threads",
        caller_steps=False,
        users_environments=False,
    ),
    "ray": Kind(
        "vecselect.backends.ray.backend:Ray",
        "vecselect.selection.model:ray_parts",
        workers="actors",
        caller_steps=False,
        on_request=True,
        start_s=3.0,
    ),
}
"""The registry of modes: every kind, those first that are simpler to run and to debug."""


def allowable() -> tuple[str, ...]:
    """The kinds that are chosen only where the user allows them."""
    return tuple(kind for kind, about in KINDS.items() if about.on_request)


@functools.cache
def load(name: str) -> Any:
    """What a `module:attribute` of the registry names."""
    return pkgutil.resolve_name(name)


@dataclass(frozen=True)
class Mode:
    """One way to run the sub-environments of a vector environment.

    Attributes:
        kind: One of `KINDS`.
        workers: Workers beside the calling process; None for kinds that have no such number, and
            where the number is left to the backend.
    """

    kind: str
    workers: int | None = None

    @classmethod
    def parse(cls, text: str) -> Mode:
        """Reads a mode as users write it: `"sync"`, `"pool"`, `"pool:3"`.

        Raises:
            RequestError: If there is no such mode.
        """
        kind, colon, number = text.partition(":")
        if kind not in KINDS:
            counted = [f"{known}:K" for known, about in KINDS.items() if about.workers]
            raise RequestError(unknown("mode", text, [*KINDS, *counted]))
        if not colon:
            return cls(kind)
        if KINDS[kind].workers is None:
            raise RequestError(f"Mode {text!r} has a number of workers, but {kind!r} takes none.")
        if not (number.isdecimal() and number.isascii() and len(number) < 10):
            raise RequestError(
                f"Mode {text!r}: {number!r} is no number of workers, as in '{kind}:2'."
            )
        if int(number) == 0 and not KINDS[kind].caller_steps:
            raise RequestError(f"Mode {text!r}: {kind} needs at least 1 worker, as in '{kind}:1'.")
        return cls(kind, int(number))

    def __str__(self) -> str:
        """The mode as `parse` reads it."""
        return self.kind if self.workers is None else f"{self.kind}:{self.workers}"

    @property
    def in_caller_alone(self) -> bool:
        """Whether all sub-environments are stepped one after another in the calling thread."""
        kind = KINDS[self.kind]
        if kind.workers is not None:
            return self.workers == 0
        return kind.users_environments and not kind.each

    @property
    def runs_users_environments(self) -> bool:
        """Whether it runs the user's own environments, and so equals `sync` bit for bit."""
        return KINDS[self.kind].users_environments

    def rank(self, cores: float = math.inf) -> tuple[int, int]:
        """A key that sorts modes, the simpler ones first.

        A pool with more than two workers for each of the cores comes after threads: every process
        takes memory, descriptors and time to start, only to wait.
        """
        order = list(KINDS)
        place = 2 * order.index(self.kind)
        if KINDS[self.kind].processes and (self.workers or 0) > CROWD * max(cores, 1.0):
            place = 2 * order.index("async") + 1
        return place, self.workers or 0

    def processes(self, num_envs: int) -> int:
        """The processes it starts for so many sub-environments, whatever the number of buffers."""
        kind = KINDS[self.kind]
        if not kind.processes:
            return 0
        return num_envs if kind.each else (self.workers or 0)

    def lanes(self, num_envs: int, caller_steps: bool = True) -> int:
        """The slices that are stepped side by side, at most one for each sub-environment."""
        kind = KINDS[self.kind]
        if kind.each:
            return num_envs
        if kind.workers is None:
            return 1
        beside = caller_steps and kind.caller_steps
        return min(max((self.workers or 0) + beside, 1), num_envs)

    def why_not(self, num_envs: int, caller_steps: bool = True, buffers: int = 1) -> str | None:
        """Why there is no work for so many workers, and what to pin instead; None if there is.

        Every worker has a slice of each buffer; the calling process one of its own where it may.
        """
        if self.workers is None:
            return None
        kind = KINDS[self.kind]
        caller_steps = caller_steps and kind.caller_steps
        smallest = num_envs // buffers
        most = smallest - caller_steps
        if self.workers < fewest_workers(caller_steps):
            return (
                "it steps everything in the calling process, which must be free to keep a "
                "deadline, or to go on while a buffer steps; use "
                f"'{self.kind}:1' to '{self.kind}:{most}'"
            )
        if self.workers > most:
            envs = "1 sub-environment" if smallest == 1 else f"{smallest} sub-environments"
            each = f" for each of {buffers} buffers" if buffers > 1 else ""
            beside = " beside the calling process" if caller_steps else ""
            return (
                f"it has {self.workers} {kind.workers}{each}, and {envs} can keep no more than "
                f"{most} busy{beside}; use '{self.kind}:{most}'"
            )
        return None


def fewest_workers(caller_steps: bool = True) -> int:
    """The fewest workers there can be: one at least where the calling process steps nothing."""
    return 0 if caller_steps else 1


def usual_workers(lanes: int, num_envs: int, caller_steps: bool = True) -> int:
    """The number of workers for so many lanes, limited by the number of sub-environments."""
    count = min(lanes - caller_steps, num_envs - caller_steps)
    return max(count, fewest_workers(caller_steps))


def slices(num_envs: int, workers: int, caller_steps: bool = True) -> list[range]:
    """The rows of each worker, the caller's first: contiguous, of lengths that differ by one.

    Where one slice is longer and there are few workers it is the caller's: a worker would begin it
    later, and all wait for its answer. Beside many workers, or where some of them have as much to
    do, the caller gets none of the longer slices: it wakes them all before its own, and gathers the
    results. Where it keeps a deadline its slice is empty: whatever ends a step that takes too long
    must be outside of it.
    """
    lanes = workers + caller_steps
    shortest, longer = divmod(num_envs, lanes)
    lengths = [shortest] * (lanes - longer) + [shortest + 1] * longer
    if longer == 1 and caller_steps and workers <= FEW_WORKERS:
        lengths.reverse()
    found, start = [] if caller_steps else [range(0)], 0
    for length in lengths:
        found.append(range(start, start + length))
        start += length
    return found
