"""A Gymnasium vector environment in the mode that serves best here, and the reason why.

    from vecselect import auto_make_vec

    envs = auto_make_vec("Pendulum-v1", 8)
    print(envs.report)

The names below are loaded when they are first used, so that a worker process which needs one small
module of this package does not pay for all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vecselect.version import __version__

if TYPE_CHECKING:
    from vecselect.errors import (
        ModeUnavailable,
        PlanError,
        ProfileError,
        RequestError,
        StepTimeout,
        VecselectError,
        VecselectWarning,
        WorkerDied,
        WorkerError,
    )
    from vecselect.make import auto_make_vec, available_modes, recommend, sweep
    from vecselect.measure.ipc import IpcProfile, measure_ipc
    from vecselect.measure.step import StepProfile, profile_step
    from vecselect.plan import Plan
    from vecselect.report import Report, SweepReport
    from vecselect.request import pinned
    from vecselect.sweeps import Sweep
    from vecselect.vector_env import AutoVectorEnv

__all__ = [
    "AutoVectorEnv",
    "IpcProfile",
    "ModeUnavailable",
    "Plan",
    "PlanError",
    "ProfileError",
    "Report",
    "RequestError",
    "StepProfile",
    "StepTimeout",
    "Sweep",
    "SweepReport",
    "VecselectError",
    "VecselectWarning",
    "WorkerDied",
    "WorkerError",
    "__version__",
    "auto_make_vec",
    "available_modes",
    "measure_ipc",
    "pinned",
    "profile_step",
    "recommend",
    "sweep",
]

_HOMES = {
    "vecselect.errors": (
        "ModeUnavailable",
        "PlanError",
        "ProfileError",
        "RequestError",
        "StepTimeout",
        "VecselectError",
        "VecselectWarning",
        "WorkerDied",
        "WorkerError",
    ),
    "vecselect.make": ("auto_make_vec", "available_modes", "recommend", "sweep"),
    "vecselect.measure.ipc": ("IpcProfile", "measure_ipc"),
    "vecselect.measure.step": ("StepProfile", "profile_step"),
    "vecselect.plan": ("Plan",),
    "vecselect.report": ("Report", "SweepReport"),
    "vecselect.request": ("pinned",),
    "vecselect.sweeps": ("Sweep",),
    "vecselect.vector_env": ("AutoVectorEnv",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
