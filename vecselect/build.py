"""From a plan to the vector environment, and back to planning where the plan turns out wrong."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import TYPE_CHECKING

from vecselect.backends.base import backend_of
from vecselect.backends.pool.backend import Pool
from vecselect.errors import ProfileError, RequestError, warn
from vecselect.learner_threads import set_learner_threads
from vecselect.measure.clock import ForeignLoad
from vecselect.measure.learner import measure_learner
from vecselect.measure.probe import space_text
from vecselect.modes import Mode
from vecselect.partly_stepped import BufferedAutoVectorEnv, FirstFinishedAutoVectorEnv
from vecselect.planning import explain
from vecselect.planning.cache import PlanCache
from vecselect.planning.planner import prepare
from vecselect.process import generators
from vecselect.process.generators import untouched_generators
from vecselect.selection.evidence import BUSY_SHARE
from vecselect.vector_env import AutoVectorEnv

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.plan import Plan
    from vecselect.planning.first_worker import FirstWorker
    from vecselect.request import PlanningOptions, Request

LOOK_S = 0.05
"""For so long other programs are looked at where a learner takes another time than before."""


def build_planned(request: Request, options: PlanningOptions) -> AutoVectorEnv:
    """Plans and builds; plans anew where a remembered plan is of another environment or learner."""
    envs, plan = _built(request, *prepare(request, options, builds=True))
    spaces = space_text(envs.single_observation_space), space_text(envs.single_action_space)
    planned = plan.evidence.observation_space, plan.evidence.action_space
    try:
        another = plan.recalled and (spaces != planned or _is_another_learner(envs, plan, options))
    except BaseException:  # Ctrl-C in the learner
        envs.close()
        raise
    if plan.key is not None and another:
        envs.close()
        PlanCache().forget(plan.key)
        envs, plan = _built(request, *prepare(request, options, builds=True))
    return _wrapped(envs, plan, request, options)


def _is_another_learner(envs: VectorEnv, plan: Plan, options: PlanningOptions) -> bool:
    """Whether a callable learner fails, or its time differs from that in a remembered plan.

    It is given observations drawn from the space: the vector environment must not be reset for it.
    Beside other programs that hold cores its time tells nothing: the plan stays, and what runs have
    shown with it.
    """
    learner, threads = options.learner, options.learner_threads
    stored = plan.evidence.learners[0]
    if not callable(learner) or stored.source != "callable":
        return False
    options.progress("timing the learner")
    given = threads if isinstance(threads, int) else None
    load = ForeignLoad()
    with set_learner_threads(given), untouched_generators():
        try:
            batch = copy.deepcopy(envs.observation_space).sample()
            cost, *_ = measure_learner(learner, plan.num_envs, None, batch, one_thread=False)
        except (ProfileError, NotImplementedError):  # the latter of spaces that draw nothing
            return True  # measured for a new plan, it says how it fails
    if cost.like(stored):
        return False
    time.sleep(LOOK_S)
    return load.cores() <= BUSY_SHARE * plan.evidence.machine.cores


def _wrapped(
    envs: VectorEnv, plan: Plan, request: Request, options: PlanningOptions
) -> AutoVectorEnv:
    def rebuild(better: Plan | None) -> tuple[VectorEnv, Plan]:
        if better is None:
            anew = dataclasses.replace(options, fresh=True)
            return _built(request, *prepare(request, anew, builds=True))
        mode = Mode.parse(better.mode)
        return backend_of(mode.kind).build(request, mode), better

    facade = AutoVectorEnv if request.buffers == 1 else BufferedAutoVectorEnv
    if request.batch_size is not None:
        facade = FirstFinishedAutoVectorEnv
    try:
        return facade(envs, plan, rebuild)
    except BaseException:
        envs.close()
        raise


def _built(request: Request, planned: Plan, first: FirstWorker | None) -> tuple[VectorEnv, Plan]:
    """The vector environment that a plan decides on, or `sync` where that fails unpinned."""
    plan, mode = planned, Mode.parse(planned.mode)
    try:
        if first is not None:
            envs: VectorEnv = Pool().build(request, mode, first=first.host)
        else:
            envs = backend_of(mode.kind).build(request, mode)
    except BaseException as error:
        if first is not None:
            first.end()
        able = {one.mode for one in plan.candidates if one.skipped is None}
        refused = isinstance(error, (OSError, EOFError, RequestError))
        if not refused or plan.pinned_by is not None or mode.kind == "sync" or "sync" not in able:
            raise
        try:
            envs = backend_of("sync").build(request, Mode("sync"))
        except Exception:  # so it was not the mode
            raise error from None
        plan = _in_its_place(plan, f"it failed when it was built: {error}")
    generators.note_environment_made()
    if plan is not planned:
        if planned.key is not None:  # the next start may find the mode able to run
            PlanCache().forget(planned.key)
        try:
            warn(plan.reason)
        except BaseException:  # warnings may be errors
            envs.close()
            raise
    return envs, plan


def _in_its_place(plan: Plan, why: str) -> Plan:
    """The plan for `sync` after the chosen mode could not be built."""
    return dataclasses.replace(
        plan,
        mode="sync",
        reason=explain.reason_of_failure(plan.mode, why),
        decided_by="elimination",
        candidates=tuple(
            dataclasses.replace(one, skipped=why) if one.mode == plan.mode else one
            for one in plan.candidates
        ),
        key=None,
        recalled=False,
    )
