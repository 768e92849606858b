"""A Gymnasium vector environment in the mode that serves best here, and the reason why.

    from vecselect import auto_make_vec

    envs = auto_make_vec("Pendulum-v1", 8)
    print(envs.report)

All but errors is loaded when it is first used, so that a worker process which needs one small
module of this package does not pay for all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
from vecselect.version import __version__

if TYPE_CHECKING:
    from vecselect.make import auto_make_vec, available_modes, recommend, sweep
    from vecselect.measure.ipc import IpcProfile, measure_ipc
    from vecselect.measure.step import StepProfile, profile_step
    from vecselect.plan import Plan, Sweep
    from vecselect.report import Report, SweepReport
    from vecselect.request import pinned
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

_NAMES = {
    "make": ("auto_make_vec", "available_modes", "recommend", "sweep"),
    "measure.ipc": ("IpcProfile", "measure_ipc"),
    "measure.step": ("StepProfile", "profile_step"),
    "plan": ("Plan", "Sweep"),
    "report": ("Report", "SweepReport"),
    "request": ("pinned",),
    "vector_env": ("AutoVectorEnv",),
}
"""By module, what is loaded at its first use."""


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"vecselect.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
