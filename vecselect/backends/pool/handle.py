"""The caller's side of one worker, whatever that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gymnasium.error import ClosedEnvironmentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.server import Sample, Terms

    Greeting = tuple[str, list[gym.Space]]
    """What is wrong with its spaces, if anything, and these spaces where they may differ."""

CLOSE_LIMIT_S = 4.0
"""How long workers may take to end, all together, before they are ended, or left behind."""

PENDING = object()
"""What `collect` returns where the time ran out."""


@dataclass(frozen=True)
class Raised:
    """What `collect` returns where a sub-environment raised.

    Attributes:
        error: What it raised, with a note of which one it was.
    """

    error: BaseException


class Handle(Protocol):
    """One worker as the caller sees it. It has one command at a time.

    It begins a command when it is given that, or when the starter lets all workers go.

    Attributes:
        index: Of the worker.
        rows: Indices of its sub-environments.
        outstanding: Whether a command was given whose end has not been seen.
        ended: Whether it was told to end.
        news: Info templates to tell it of with the next command.
        envs: Its sub-environments, where they live in the calling process.
    """

    index: int
    rows: range
    outstanding: bool
    ended: bool
    news: list[Template]
    envs: Sequence[gym.Env]

    def built(self, timeout_s: float | None = None) -> None:
        """Waits until the worker has built its sub-environments.

        Raises:
            StepTimeout: If it does not within the time limit.
            WorkerDied: If it ends instead.
            Exception: What a factory raised.
        """

    def sample(self) -> Sample:
        """What the first of its sub-environments, which are built, says of itself."""

    def settle(self, terms: Terms, arena: Arena) -> None:
        """Has it make a lane of its sub-environments; from then on it takes commands."""

    def greeting(self) -> Greeting:
        """What the worker, which has a lane, says of its spaces.

        Raises:
            WorkerDied: If it has ended instead.
            Exception: What an environment raised.
        """

    def step(self, buffer: int) -> None:
        """Begins a step with the actions in the arena; observations go into that buffer."""

    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the news; `request` sends it."""

    def request(self, data: Any, buffer: int = 0) -> None:
        """Begins what `packed` made."""

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun.

        Args:
            deadline_s: Gives the seconds that are left; waits as long as it takes by default.
            look_around: Called now and then while waiting long; raises to end the waiting. By
                default it is seen whether this worker is alive.

        Returns:
            The worker's reply, None if all is in the arena, a `Raised`, or `PENDING` if the time
            ran out.

        Raises:
            WorkerDied: If it has died.
        """

    def read_info(self, info: Any) -> dict[str, Any]:
        """An info that it replied with."""

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Takes in, and lets go of, what an interrupted command still owes.

        Returns:
            `PENDING` if the time ran out before.
        """

    def has_died(self) -> bool:
        """Whether it has died."""

    def check(self) -> None:
        """Raises WorkerDied if it has died, ClosedEnvironmentError if it was told to end."""

    def kill(self) -> None:
        """Ends it at once; asked only where workers are replaced."""

    def name(self) -> str:
        """The worker and what it runs, as the beginning of a sentence."""


def closed_meanwhile() -> ClosedEnvironmentError:
    """What a call ends with whose vector environment is closed before it returns."""
    return ClosedEnvironmentError(
        "The vector environment was closed during this call, by another thread or by a signal's "
        "handler."
    )


def which_runs(rows: range) -> str:
    """What a worker runs, in words that follow its name: `which runs sub-environments 0-3,`."""
    first, last = rows[0], rows[-1]
    ran = f" {first}" if first == last else f"s {first}-{last}"
    return f"which runs sub-environment{ran},"
