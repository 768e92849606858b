"""All of the evidence of a plan in groups of rows: what was measured, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.report.units import counted, rate, ratio, seconds, share, size, spread
from vecselect.report.verdict import fastest, is_proven, of_rule

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.plan import Plan
    from vecselect.selection.compare import Interval
    from vecselect.selection.evidence import LearnerCost
    from vecselect.selection.race import RaceRecord

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Group:
    """Rows under a heading."""

    heading: str
    rows: Rows


def groups(plan: Plan) -> tuple[Group, ...]:
    """All of the evidence; what was not measured has no group."""
    evidence = plan.evidence
    found = (
        ("Step and reset of one environment", _step(plan)),
        ("Break-even against the ~1 ms rule", _break_even(plan)),
        ("What would change the answer", _what_if(plan)),
        ("Learner", _learner(plan)),
        ("Race", _race(plan)),
        ("Earlier runs", _earlier_runs(plan)),
        ("Hand-off and loops", _costs(plan)),
        ("Environment", _environment(plan)),
        ("Machine", [*machine_rows(evidence.machine), *_held(plan)]),
        ("Plan", _about_plan(plan)),
        ("Versions", sorted(plan.versions.items())),
    )
    return tuple(Group(heading, tuple(rows)) for heading, rows in found if rows)


def _step(plan: Plan) -> list[tuple[str, str]]:
    profile, built_s = plan.evidence.profile, plan.evidence.construct_s
    if profile is None:
        return []
    episode = "no episode ended"
    if profile.episode_steps is not None:
        off = f" ± {profile.episode_steps_sd:.0f}" if profile.episode_steps_sd else ""
        episode = f"episodes of {profile.episode_steps:.0f}{off} steps"
    threads = f"; {profile.cores_used:.1f} cores" if profile.cores_used > 1.25 else ""
    median, p95, p99 = map(
        seconds,
        (profile.step_time_median_s, profile.step_time_p95_s, profile.step_time_p99_s),
    )
    rows = [
        (
            "step time",
            f"{seconds(profile.step_time_s)}, median {median}, p95 {p95}, p99 {p99}; "
            f"{share(profile.off_cpu_fraction)} off the CPU{threads}",
        ),
        (
            "reset time",
            f"{seconds(profile.reset_time_s)}, {share(profile.reset_share)} of the time; {episode}",
        ),
        (
            "first ones",
            f"step {seconds(profile.first_step_s)}, reset {seconds(profile.first_reset_s)}"
            + ("" if built_s is None else f"; built in {seconds(built_s)}"),
        ),
        ("timed", f"{counted(profile.steps, 'step')}, {counted(profile.resets, 'reset')}"),
        (
            "sizes",
            f"observation {size(profile.observation_bytes)}, action {size(profile.action_bytes)}"
            + ("" if profile.memory_bytes is None else f"; memory {size(profile.memory_bytes)}"),
        ),
        ("benchmark_step", f"{rate(profile.plain_steps_per_s)} steps/s"),
    ]
    if profile.gil_free_fraction is not None:
        rows.append(("without the interpreter's lock", share(profile.gil_free_fraction)))
    return rows


def _break_even(plan: Plan) -> list[tuple[str, str]]:
    """From which step time on a kind of mode pays here, beside the ~1 ms rule."""
    rule = plan.evidence.rule
    rows = [(f"{kind} pays", _pays(at_s)) for kind, at_s in plan.break_even_s.items()]
    if rule is not None:
        rows += [
            ("the rule's line", f"{seconds(rule.threshold_s)} per step, then async"),
            ("this environment", f"{seconds(rule.step_time_s)} per step; {of_rule(plan)}"),
            ("the rule says", f"{rule.mode}. {rule.reason}"),
        ]
    return rows


def _pays(from_s: float | None) -> str:
    if from_s is None:
        return "never here"
    return f"from {seconds(from_s)} per step" if from_s > 0 else "at any step time"


def _what_if(plan: Plan) -> list[tuple[str, str]]:
    return [
        (
            row.change,
            f"the model chooses {row.mode}"
            + ("" if row.speedup is None else f", {ratio(row.speedup)} sync"),
        )
        for row in plan.what_if
    ]


def _learner(plan: Plan) -> list[tuple[str, str]]:
    learners = plan.evidence.learners
    if plan.evidence.hand_off is None and plan.evidence.race is None:
        return []
    if not any(one.seconds > 0 or one.threads for one in learners):
        return [("learner", "none given or seen: all of the loop collects")]
    rows = [
        (_learner_name(one, as_set=index == 0), _learner_text(one))
        for index, one in enumerate(learners)
    ]
    if plan.collection_share is not None:
        rows.append(("collecting", f"{share(plan.collection_share)} of the loop"))
    if plan.learner_threads is not None:
        rows.append(
            (
                "planned for",
                f"{counted(plan.learner_threads, 'learner thread')} while steps are made",
            )
        )
    return rows


def _learner_name(one: LearnerCost, *, as_set: bool) -> str:
    if one.threads is None:
        return "learner"
    return f"with {counted(one.threads, 'thread')}{', as set' if as_set else ''}"


def _learner_text(one: LearnerCost) -> str:
    spin = ""
    if one.spinning_cores > 0:
        cores = f"{one.spinning_cores:.1f} cores"
        spin = f"; its other threads keep {cores} busy for {seconds(one.spin_s)} after it"
    return f"{seconds(one.seconds)} between two steps ({one.kind}){spin}"


def _race(plan: Plan) -> list[tuple[str, str]]:
    race = plan.evidence.race
    if race is None:
        return []
    steps = counted(race.vector_steps, "vector step")
    best = fastest(plan, race).mode if race.entrants else race.leader
    rows = [
        ("rounds", f"{race.rounds} of {steps} each, in {seconds(race.seconds)}"),
        ("sub-environments", str(race.num_envs)),
        ("fastest", f"{best}, {_certain(race, best)}"),
        ("expected loss", share(race.expected_loss)),
        ("same bits", race.difference or counted(race.compared_steps, "vector step")),
    ]
    if race.num_envs != plan.num_envs:  # the table of candidates has no place for these
        sync = race.of("sync")
        rows += [
            (
                one.mode,
                f"{measured_loop(plan, one.mode, one.loop_s)}, "
                f"{rate(race.num_envs / one.loop_s.mid)} env steps/s"
                + (f", {ratio(sync.loop_s.mid / one.loop_s.mid)} sync" if sync else ""),
            )
            for one in race.entrants
        ]
    return [*rows, *((f"out: {mode}", why) for mode, why in race.out.items())]


def _certain(race: RaceRecord, best: str) -> str:
    """How sure it is that the fastest one is the fastest, in words that follow its name."""
    if race.rounds == 1:
        return "in its only round"
    if race.leader != best:
        return f"when measured again; {race.leader} had led the race"
    if not is_proven(race):
        return "perhaps"
    return f"with {'more than 99 %' if race.p_best >= 0.995 else share(race.p_best)} certainty"


def _earlier_runs(plan: Plan) -> list[tuple[str, str]]:
    """What real use of modes showed."""
    rows = []
    for one in plan.evidence.observations:
        threads = "" if one.threads is None else f", {counted(one.threads, 'thread')}"
        others = "" if one.other_cores < 0.05 else f"; {one.other_cores:.1f} cores by other threads"
        busy = "; other programs held cores" if one.busy else ""
        rows.append(
            (
                f"{one.mode}{threads}",
                f"{rate(one.vector_steps)} vector steps of {seconds(one.inside_s)}, "
                f"{seconds(one.outside_s)} between two{others}{busy}",
            )
        )
    return rows


def _costs(plan: Plan) -> list[tuple[str, str]]:
    """What exchanges with workers and the loops take."""
    evidence, rows = plan.evidence, []
    hand_off, loops, ipc, ray = evidence.hand_off, evidence.loops, evidence.ipc, evidence.ray
    if ipc is not None:
        ends = f"{seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}"
        rows += [
            (
                "IPC of an observation",
                f"{seconds(ipc.observation_s)} a round trip (10-90 %: {ends}), "
                f"{size(ipc.observation_bytes)} pickled",
            ),
            (
                "IPC by size",
                f"{seconds(ipc.per_message_s)} + {seconds(ipc.per_byte_s * 1024)} per KiB; "
                f"{counted(ipc.rounds, 'round')}, {ipc.start_method}",
            ),
        ]
    if hand_off is not None:
        how = "measured on a worker of this run" if hand_off.measured else "assumed"
        rows += [
            (
                "hand-off of the pool",
                f"{seconds(hand_off.spun_s)}; {seconds(hand_off.woken_s)} where the worker sleeps; "
                f"{how}",
            ),
            ("each further worker", f"{seconds(hand_off.worker_s)}"),
            ("each thread", f"{seconds(hand_off.thread_s)}"),
            ("message of async", f"{seconds(hand_off.message_s)} per sub-environment"),
        ]
    if loops is not None:
        rows += [
            ("loop of sync", f"{seconds(loops.sync_s)} a vector step"),
            (
                "loop of pool:0",
                f"{seconds(loops.pool_s)}, {seconds(loops.copying_s)} of it copying",
            ),
        ]
    if ray is not None:
        rows.append(
            (
                "Ray",
                f"{seconds(ray.fixed_s)}, {seconds(ray.lane_s)} per actor, {seconds(ray.env_s)} "
                f"per sub-environment; room for {ray.lanes} on {ray.cores:g} cores",
            )
        )
    return rows


def _environment(plan: Plan) -> list[tuple[str, str]]:
    evidence = plan.evidence
    rows = [
        ("environment", plan.env),
        ("sub-environments", str(plan.num_envs)),
        ("autoreset mode", evidence.autoreset_mode),
    ]
    if evidence.observation_space is not None:
        rows.append(("observation space", evidence.observation_space))
    if evidence.action_space is not None:
        rows.append(("action space", evidence.action_space))
    return rows


def machine_rows(machine: Machine) -> Rows:
    """The machine in rows; `vecselect doctor` shows them too."""
    quota = "none" if machine.cores_quota is None else f"{machine.cores_quota:g} cores"
    load = "unknown" if machine.load_1min is None else f"{machine.load_1min:.2f} over 1 min"
    shared = machine.shm_available_bytes
    left = () if shared is None else (("/dev/shm left", size(shared)),)
    return (
        ("usable cores", cores(machine).replace(" usable cores", "")),
        ("logical cores", str(machine.cores_logical)),
        ("affinity", f"{machine.cores_affinity} cores"),
        ("cgroup quota", quota),
        (
            "memory",
            f"{size(machine.memory_available_bytes)} of {size(machine.memory_bytes)} available",
        ),
        *left,
        ("load", load),
        ("start methods", ", ".join(machine.start_methods)),
        ("processor", machine.cpu),
        ("system", machine.system),
        ("python", machine.python),
    )


def _held(plan: Plan) -> Rows:
    """Cores that other programs held meanwhile."""
    held = plan.evidence.foreign_cores
    text = f"{held:.1f} cores busy; {plan.evidence.cores:g} counted on"
    return (("held by others", text),) if held >= 0.05 else ()


def _about_plan(plan: Plan) -> list[tuple[str, str]]:
    rows = [("made", plan.created)]
    if plan.decided_by != "pin":  # which measures nothing
        rows += [("effort", plan.effort), ("planning took", seconds(plan.planning_s))]
    if plan.provisional is not None:
        rows.append(("provisional", plan.provisional))
    if plan.key is not None:
        rows.append(("recalled as" if plan.recalled else "remembered as", plan.key))
    if plan.not_stored is not None:
        rows.append(("not remembered", plan.not_stored))
    return rows


def cores(machine: Machine) -> str:
    """The cores that may be used, and the bound where that is not the processor's own."""
    quota, bound = machine.cores_quota, ""
    if quota is not None and quota <= machine.cores:
        bound = f" (quota {quota:g})"
    elif machine.cores < machine.cores_affinity:
        bound = " (as set)"
    elif machine.cores_affinity < machine.cores_logical:
        bound = " (affinity)"
    return f"{machine.cores:g} usable cores{bound}"


def measured_loop(plan: Plan, mode: str, measured: Interval) -> str:
    """What a loop took, and how far that may be off: `11.2 ms ±1.8 %`.

    What varies within a single block says nothing. `sync` runs once more beside the choice, when
    the advantage is measured again.
    """
    race, time = plan.evidence.race, seconds(measured.mid)
    entrant = race.of(mode) if race else None
    once = entrant is not None and len(entrant.blocks_s) < 2
    if once and not (mode == "sync" and race is not None and race.speedup is not None):
        return time
    return f"{time} {spread(measured)}" if measured.high > measured.low else time
