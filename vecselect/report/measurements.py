"""What was measured for a plan, in groups of rows: shared by the reports that are files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.report.units import counted, rate, seconds, share, size
from vecselect.report.verdict import certain, fastest

if TYPE_CHECKING:
    from vecselect.plan import Plan
    from vecselect.selection.race import RaceRecord

Group = tuple[str, list[tuple[str, str]]]


def measurements(plan: Plan) -> list[Group]:
    """A heading and rows each; what was not measured has no group."""
    groups = [
        ("Environment", _environment(plan)),
        ("Step and reset", _steps(plan)),
        ("IPC cost", _ipc(plan)),
        ("Calibration", _calibration(plan)),
        ("Race", _race(plan)),
        ("Learner", _learner(plan)),
        ("Machine", _machine(plan)),
        ("Plan", _plan(plan)),
        ("Versions", sorted(plan.versions.items())),
    ]
    return [(heading, rows) for heading, rows in groups if rows]


def _environment(plan: Plan) -> list[tuple[str, str]]:
    rows = [
        ("environment", plan.env),
        ("sub-environments", str(plan.num_envs)),
        ("autoreset mode", plan.autoreset_mode),
    ]
    if plan.observation_space is not None:
        rows.append(("observation space", plan.observation_space))
    if plan.action_space is not None:
        rows.append(("action space", plan.action_space))
    return rows


def _steps(plan: Plan) -> list[tuple[str, str]]:
    profile = plan.profile
    if profile is None:
        return []
    episode = "no episode ended"
    if profile.episode_steps is not None:
        spread = profile.episode_steps_sd or 0.0
        episode = f"{profile.episode_steps:.0f} steps" + (f" +- {spread:.0f}" if spread else "")
    rows = [
        ("steps timed", f"{profile.steps}; the first took {seconds(profile.first_step_s)}"),
        ("step time, mean", seconds(profile.step_time_s)),
        ("median", seconds(profile.step_time_median_s)),
        ("p95", seconds(profile.step_time_p95_s)),
        ("p99", seconds(profile.step_time_p99_s)),
        ("wait share", share(profile.wait_share)),
        ("cores used by a step", f"{profile.cores_used:.2f}"),
        ("resets timed", f"{profile.resets}; the first took {seconds(profile.first_reset_s)}"),
        ("reset time", f"{seconds(profile.reset_time_s)}, {share(profile.reset_share)} of all"),
        ("episode", episode),
        ("observation", size(profile.observation_bytes)),
        ("action", size(profile.action_bytes)),
        ("benchmark_step", f"{rate(profile.plain_steps_per_s)} steps/s"),
    ]
    if profile.free_share is not None:
        rows.append(("without the interpreter's lock", share(profile.free_share)))
    if profile.memory_bytes is not None:
        rows.append(("memory of one", size(profile.memory_bytes)))
    return rows


def _ipc(plan: Plan) -> list[tuple[str, str]]:
    ipc = plan.ipc
    if ipc is None:
        return []
    spread = f"{seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}"
    return [
        ("observation", f"{seconds(ipc.observation_s)} a round trip; 10-90 %: {spread}"),
        ("pickled", size(ipc.observation_bytes)),
        ("nothing in it", seconds(ipc.tiny_s)),
        (size(ipc.large_bytes), seconds(ipc.large_s)),
        ("line through these", f"{seconds(ipc.per_message_s)} + {_per_kib(ipc.per_byte_s)}"),
        ("how", f"{ipc.rounds} rounds, {ipc.start_method}"),
    ]


def _per_kib(per_byte_s: float) -> str:
    return f"{seconds(per_byte_s * 1024)} per KiB"


def _calibration(plan: Plan) -> list[tuple[str, str]]:
    found, loops = plan.calibration, plan.loops
    if found is None:
        return []
    each = f"{seconds(found.async_message_s)} per sub-environment"
    rows = [
        ("cores side by side", f"{found.effective_cores:.2f}"),
        ("pool, first worker", seconds(found.hand_off_s)),
        ("each further one", seconds(found.worker_s)),
        ("waking a worker", seconds(found.wake_s)),
        ("async", f"{each}, and {seconds(found.async_fixed_s)}"),
    ]
    if loops is not None:
        rows.append(("loop of sync", seconds(loops.sync_s)))
        rows.append(("loop of pool:0", seconds(loops.pool_s)))
    return rows


def _race(plan: Plan) -> list[tuple[str, str]]:
    race = plan.race
    if race is None:
        return []
    rows = [
        ("rounds", f"{race.rounds} of {counted(race.vector_steps, 'vector step')} each"),
        ("took", seconds(race.seconds)),
        ("sub-environments", str(race.num_envs)),
        ("fastest", f"{fastest(plan, race).mode}, {certain(plan, race)}"),
        ("expected loss", share(race.expected_loss)),
        ("same bits", race.difference or _compared(race)),
    ]
    rows += [(f"out: {mode}", why) for mode, why in race.out.items()]
    return rows


def _compared(race: RaceRecord) -> str:
    if race.compared_steps == 0:
        return "not compared: the environment differs from itself from one run to the next"
    return counted(race.compared_steps, "vector step")


def _learner(plan: Plan) -> list[tuple[str, str]]:
    if plan.learner == "none" and plan.learner_s <= 0:
        return []
    rows = [("kind", plan.learner), ("time", f"{seconds(plan.learner_s)} between two steps")]
    if plan.collection_share is not None:
        rows.append(("collecting", f"{share(plan.collection_share)} of the loop"))
    return rows


def _machine(plan: Plan) -> list[tuple[str, str]]:
    machine = plan.machine
    quota = "none" if machine.cores_quota is None else f"{machine.cores_quota:g} cores"
    available = f"{size(machine.memory_available_bytes)} of {size(machine.memory_bytes)}"
    rows = [
        ("usable cores", f"{machine.cores:g}"),
        ("affinity", f"{machine.cores_affinity} of {machine.cores_logical} logical cores"),
        ("cgroup quota", quota),
        ("memory available", available),
        ("processor", machine.cpu),
        ("system", machine.system),
        ("python", machine.python),
        ("start methods", ", ".join(machine.start_methods)),
    ]
    if machine.shm_available_bytes is not None:
        rows.insert(4, ("/dev/shm left", size(machine.shm_available_bytes)))
    if machine.load_1min is not None:
        rows.insert(3, ("load", f"{machine.load_1min:.2f} over 1 min"))
    return rows


def _plan(plan: Plan) -> list[tuple[str, str]]:
    rows = [("made", plan.created)]
    if plan.decided_by != "pin":  # which measures nothing
        rows += [("effort", plan.effort), ("planning took", seconds(plan.planning_s))]
    if plan.key is not None:
        rows.append(("recalled as" if plan.recalled else "remembered as", plan.key))
    if plan.not_stored:
        rows.append(("not remembered", plan.not_stored))
    return rows
