"""Sub-environments that are profiled in a process of their own, which ends after that."""

from vecselect.measure.step import Extent
from vecselect.planning.first_worker import profiled
from vecselect.request import Request

SHORT = Extent(steps=1, episodes=0, span_s=0.02, warm_up_steps=1)


def probed(env_fn, **options):
    """What a first worker finds; it is told to end whatever comes."""
    return profiled(Request("probed", (env_fn,), vector_kwargs=options), SHORT, 0.05)
