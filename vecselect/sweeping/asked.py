"""What the user said about a sweep."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from vecselect.errors import RequestError
from vecselect.measure.learner import check_learner
from vecselect.modes import Mode
from vecselect.pins import AUTO
from vecselect.request import need_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""The numbers of sub-environments that a sweep has where none are named."""

BUDGET_S = 25.0


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep has come.

    Attributes:
        text: What is being done, in a few words.
        share: The share of its time that is over, from 0 to 1.
        left_s: Seconds that are left, at the most.
    """

    text: str
    share: float
    left_s: float


@dataclass(frozen=True)
class SweepAsked:
    """What the user said about a sweep.

    Attributes:
        num_envs: The numbers of sub-environments, the smallest first.
        modes: The modes named, the simpler ones first; empty where they are to be proposed.
        budget_s: Seconds after which nothing new is begun.
        learner: What happens between two vector steps: a callable, seconds, or None.
        progress: Told how far it has come.
    """

    num_envs: tuple[int, ...]
    modes: tuple[str, ...]
    budget_s: float
    learner: Any
    progress: Callable[[SweepProgress], None]


def read_sweep_asked(
    num_envs: Any,
    modes: Iterable[str] | None,
    budget_s: float | None,
    learner: Any,
    progress: Callable[[SweepProgress], None],
) -> SweepAsked:
    """Checks what the user said about a sweep.

    Raises:
        RequestError: If something asked for cannot be.
    """
    need_seconds("budget_s", budget_s)
    check_learner(learner)
    return SweepAsked(
        num_envs=_read_sizes(num_envs),
        modes=_read_modes(modes),
        budget_s=BUDGET_S if budget_s is None else float(budget_s),
        learner=learner,
        progress=progress,
    )


def _read_sizes(num_envs: Any) -> tuple[int, ...]:
    """The numbers of sub-environments, each once, the smallest first."""
    given = [num_envs] if isinstance(num_envs, SupportsIndex) else num_envs
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise RequestError(
            f"num_envs is {num_envs!r}; give the numbers of sub-environments to sweep over, such "
            "as (1, 2, 4, 8)."
        )
    sizes = set()
    for one in given:
        if isinstance(one, bool) or not isinstance(one, SupportsIndex) or operator.index(one) < 1:
            raise RequestError(
                f"num_envs holds {one!r}; each must be a whole number of at least 1, such as "
                "(1, 2, 4, 8)."
            )
        sizes.add(operator.index(one))
    if not sizes:
        raise RequestError("num_envs is empty; at least one number of sub-environments is needed.")
    return tuple(sorted(sizes))


def _read_modes(modes: Iterable[str] | None) -> tuple[str, ...]:
    """The modes named, each once, the simpler ones first."""
    if modes is None:
        return ()
    if isinstance(modes, str):
        raise RequestError(f"modes is {modes!r}; give the modes as a tuple: modes=({modes!r},).")
    named = tuple(dict.fromkeys(modes))
    for mode in named:
        if mode == AUTO:
            raise RequestError(
                "modes holds 'auto', which is a choice and no mode; leave modes out to have them "
                "proposed."
            )
        Mode.parse(str(mode), or_auto=False)
    if not named:
        raise RequestError("modes is empty; name some, or leave it out to have them proposed.")
    return tuple(sorted(named, key=lambda mode: Mode.parse(mode).rank()))
