"""Which of the things that differ between two situations makes the model choose otherwise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vecselect.selection.situation import Situation


@dataclass(frozen=True)
class Factor:
    """One thing that differs, taken over from another situation.

    Attributes:
        name: The thing, in a few words.
        mode: What the model chooses with it.
    """

    name: str
    mode: str


def factors(first: Situation, second: Situation) -> tuple[Factor, ...]:
    """What the model chooses for the first with one thing of the second at a time.

    Args:
        first: A situation.
        second: Another one.

    Returns:
        Only things that differ.
    """
    replace = dataclasses.replace
    swapped = {
        "the step and reset times": replace(first, profile=second.profile),
        "the number of sub-environments": first.with_num_envs(second.num_envs),
        "the learner": first.with_learner(second.learner_s),
        "the machine": replace(first, machine=second.machine, calibration=second.calibration),
        "spaces and infos": replace(
            first, loops=second.loops.scaled(first.num_envs / second.num_envs)
        ),
        "the modes that can run": replace(first, names=second.names, ray=second.ray),
    }
    return tuple(
        Factor(name, situation.estimate().mode)
        for name, situation in swapped.items()
        if situation != first
    )
