"""What the user says about planning and about a sweep: effort, budget, learner, modes."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from vecselect.errors import RequestError, unknown
from vecselect.modes import Mode, allowable
from vecselect.request import AUTO, is_seconds, need_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGETS_S = {"rule": 1.5, "measure": 1.0, "race": 10.0}
"""Seconds by effort after which nothing new is begun."""

EFFORTS = tuple(BUDGETS_S)
"""How much measuring is allowed; a plan of a later one serves a request for an earlier one."""

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""The numbers of sub-environments that a sweep has where none are named."""

SWEEP_BUDGET_S = 25.0


@dataclass(frozen=True)
class PlanningOptions:
    """What the user says about planning, as `auto_make_vec` and `recommend` take it.

    Raises:
        RequestError: If something asked for cannot be.
    """

    effort: str = "measure"
    budget_s: float | None = None
    learner: Any = None
    learner_threads: int | str | None = None
    allow: Iterable[str] = ()
    use_store: bool = True
    fresh: bool = False
    progress: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        """Checks all of it."""
        allow, threads = self.allow, self.learner_threads
        if self.effort not in EFFORTS:
            raise RequestError(unknown("effort", self.effort, EFFORTS))
        need_seconds("budget_s", self.budget_s)
        if isinstance(allow, str) and allow in allowable():
            raise RequestError(
                f"allow is {allow!r}; give the modes as a tuple: allow=({allow!r},)."
            )
        allowed = (allow,) if isinstance(allow, str) else tuple(allow)
        for mode in allowed:
            if mode not in allowable():
                raise RequestError(unknown("mode to allow", mode, allowable()))
        object.__setattr__(self, "allow", allowed)
        check_learner(self.learner)
        whole = isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1
        if not (whole or threads in (None, "auto")):
            raise RequestError(
                f"learner_threads is {threads!r}; give a whole number of at least 1, 'auto' to let "
                "the plan choose, or leave it out to keep torch's threads as they are."
            )

    @property
    def limit_s(self) -> float:
        """Seconds after which planning starts nothing new."""
        return BUDGETS_S[self.effort] if self.budget_s is None else float(self.budget_s)

    def served_by(self, effort: str) -> bool:
        """Whether a plan made with that effort is as good as one made with this effort."""
        return EFFORTS.index(effort) >= EFFORTS.index(self.effort)


def check_learner(given: Any) -> None:
    """Raises `RequestError` for what is neither a callable nor a number of seconds."""
    if not (given is None or callable(given) or is_seconds(given)):
        raise RequestError(
            f"learner is {given!r}; give a callable that takes the batch of observations, or the "
            "seconds that your loop spends between two steps, such as 0.001."
        )


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
class SweepOptions:
    """What the user says about a sweep, as `vecselect.sweep` takes it; checked when it is read.

    Numbers are in order, the smallest first, and modes the simpler ones first; where modes are to
    be proposed there are none.
    """

    num_envs: tuple[int, ...]
    modes: tuple[str, ...]
    budget_s: float
    learner: Any
    progress: Callable[[SweepProgress], None]
    use_store: bool = True

    @classmethod
    def read(
        cls, num_envs: Any, modes: Iterable[str] | None, budget_s: float | None, **others: Any
    ) -> SweepOptions:
        """Checks what the user says; raises `RequestError` if something asked for cannot be."""
        need_seconds("budget_s", budget_s)
        check_learner(others["learner"])
        budget_s = SWEEP_BUDGET_S if budget_s is None else float(budget_s)
        return cls(_read_sizes(num_envs), _read_modes(modes), budget_s, **others)


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
                "modes contains 'auto', which is not a mode; leave modes out to have them proposed."
            )
        Mode.parse(str(mode), or_auto=False)
    if not named:
        raise RequestError("modes is empty; name some, or leave it out to have them proposed.")
    return tuple(sorted(named, key=lambda mode: Mode.parse(mode).rank()))
