"""How planning may go about it: effort, budget, learner and what may be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vecselect.errors import RequestError, unknown
from vecselect.measure.learner import check_learner
from vecselect.plan_checks import EFFORTS
from vecselect.request import need_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BUDGETS_S = {"rule": 1.5, "measure": 1.0, "race": 10.0}
"""Seconds by effort after which nothing new is begun."""

ALLOWABLE = ("native", "ray")
"""Kinds of modes that are chosen only where the user allows them: `native` is another
implementation, `ray` needs a cluster, or starts one."""


@dataclass(frozen=True)
class PlanningOptions:
    """What the user said about planning.

    Attributes:
        effort: How much measuring is allowed.
        budget_s: Seconds after which planning starts nothing new.
        learner: What happens between two vector steps: a callable, seconds, or None.
        learner_threads: Threads that the learner has while steps are made: None as they are set,
            a number, or `"auto"` to let the plan choose between that and one.
        allow: Kinds of modes that may be chosen beside those that run the user's environments.
        use_store: Whether plans are remembered and recalled.
        fresh: Whether to plan anew although a plan is remembered, which the new one replaces.
        progress: Told in a few words what is being done.
    """

    effort: str = "measure"
    budget_s: float = BUDGETS_S["measure"]
    learner: Any = None
    learner_threads: int | Literal["auto"] | None = None
    allow: tuple[str, ...] = ()
    use_store: bool = True
    fresh: bool = False
    progress: Callable[[str], None] = lambda text: None


def read_planning_options(
    *,
    effort: str,
    budget_s: float | None,
    learner: Any,
    learner_threads: int | str | None,
    allow: Iterable[str],
    use_store: bool,
    progress: Callable[[str], None] = lambda text: None,
    fresh: bool = False,
) -> PlanningOptions:
    """Checks what the user said about planning.

    Raises:
        RequestError: If something asked for cannot be.
    """
    if effort not in EFFORTS:
        raise RequestError(unknown("effort", effort, EFFORTS))
    need_seconds("budget_s", budget_s)
    if isinstance(allow, str) and allow in ALLOWABLE:
        raise RequestError(f"allow is {allow!r}; give the modes as a tuple: allow=({allow!r},).")
    allowed = (allow,) if isinstance(allow, str) else tuple(allow)
    for mode in allowed:
        if mode not in ALLOWABLE:
            raise RequestError(unknown("mode to allow", mode, ALLOWABLE))
    check_learner(learner)
    return PlanningOptions(
        effort=effort,
        budget_s=BUDGETS_S[effort] if budget_s is None else float(budget_s),
        learner=learner,
        learner_threads=_read_threads(learner_threads),
        allow=tuple(sorted(set(allowed))),
        use_store=use_store,
        fresh=fresh,
        progress=progress,
    )


def _read_threads(threads: int | str | None) -> int | Literal["auto"] | None:
    """A number of threads of at least 1, `"auto"` or None."""
    if threads is None or threads == "auto":
        return threads  # type: ignore[return-value]
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise RequestError(
            f"learner_threads is {threads!r}; give a whole number of at least 1, 'auto' to let the "
            "plan choose, or leave it out to keep torch's threads as they are."
        )
    return threads
