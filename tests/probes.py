"""Sub-environments that are profiled in a process of their own, which ends after that."""

from vecselect.measure.step import Extent
from vecselect.planning.first_worker import FirstWorker

SHORT = Extent(steps=1, episodes=0, span_s=0.02, warm_up_steps=1)


def probed(env_fn, *, budget_s=0.05, extent=SHORT, **options):
    """What a first worker finds; it is told to end whatever comes."""
    first = FirstWorker(env_fn, extent=extent, budget_s=budget_s, **options)
    try:
        return first.profile()
    finally:
        first.end()
