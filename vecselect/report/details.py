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
    from vecselect.selection.race import RaceRecord

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Group:
    """Rows under a heading."""

    heading: str
    rows: Rows


def groups(plan: Plan) -> tuple[Group, ...]:
    """All of the evidence; what was not measured has no group."""
    machine = (*machine_rows(plan.evidence.machine), *_held(plan))
    found = (
        ("Step and reset of one environment", _step(plan)),
        ("Break-even against the ~1 ms rule", _break_even(plan)),
        ("What would change the answer", _what_if(plan)),
        ("Learner", _learner(plan)),
        ("Race", _race(plan)),
        ("Earlier runs", _earlier_runs(plan)),
        ("Hand-off and loops", tuple(_costs(plan).items())),
        ("Environment", _environment(plan)),
        ("Machine", machine),
        ("Plan", _about_plan(plan)),
        ("Versions", tuple(sorted(plan.versions.items()))),
    )
    return tuple(Group(heading, rows) for heading, rows in found if rows)


def _known(*rows: tuple[str, str | None]) -> Rows:
    """The rows of which something is known."""
    return tuple((name, text) for name, text in rows if text)


def _step(plan: Plan) -> Rows:
    found, built_s = plan.evidence.profile, plan.evidence.construct_s
    if found is None:
        return ()
    times = (found.step_time_median_s, found.step_time_p95_s, found.step_time_p99_s)
    median, p95, p99 = map(seconds, times)
    threads = f"; {found.cores_used:.1f} cores" if found.cores_used > 1.25 else ""
    off = f" ± {found.episode_steps_sd:.0f}" if found.episode_steps_sd else ""
    length = found.episode_steps
    episode = "no episode ended" if length is None else f"episodes of {length:.0f}{off} steps"
    built = "" if built_s is None else f"; built in {seconds(built_s)}"
    memory = "" if found.memory_bytes is None else f"; memory {size(found.memory_bytes)}"
    free = found.gil_free_fraction
    return _known(
        (
            "step time",
            f"{seconds(found.step_time_s)}, median {median}, p95 {p95}, p99 {p99}; "
            f"{share(found.off_cpu_fraction)} off the CPU{threads}",
        ),
        (
            "reset time",
            f"{seconds(found.reset_time_s)}, {share(found.reset_share)} of the time; {episode}",
        ),
        (
            "first ones",
            f"step {seconds(found.first_step_s)}, reset {seconds(found.first_reset_s)}{built}",
        ),
        ("timed", f"{counted(found.steps, 'step')}, {counted(found.resets, 'reset')}"),
        (
            "sizes",
            f"observation {size(found.observation_bytes)}, action {size(found.action_bytes)}"
            f"{memory}",
        ),
        ("benchmark_step", f"{rate(found.plain_steps_per_s)} steps/s"),
        ("without the interpreter's lock", None if free is None else share(free)),
    )


def _break_even(plan: Plan) -> Rows:
    """From which step time on a kind of mode pays here, beside the ~1 ms rule."""
    rule = plan.evidence.rule
    pays = tuple((f"{kind} pays", _pays(at_s)) for kind, at_s in plan.break_even_s.items())
    if rule is None:
        return pays
    return (
        *pays,
        ("the rule's line", f"{seconds(rule.threshold_s)} per step, then async"),
        ("this environment", f"{seconds(rule.step_time_s)} per step; {of_rule(plan)}"),
        ("the rule says", f"{rule.mode}. {rule.reason}"),
    )


def _pays(from_s: float | None) -> str:
    if from_s is None:
        return "never here"
    return f"from {seconds(from_s)} per step" if from_s > 0 else "at any step time"


def _what_if(plan: Plan) -> Rows:
    rows = []
    for row in plan.what_if:
        gain = "" if row.speedup is None else f", {ratio(row.speedup)} sync"
        rows.append((row.change, f"the model chooses {row.mode}{gain}"))
    return tuple(rows)


def _learner(plan: Plan) -> Rows:
    learners, collecting = plan.evidence.learners, plan.collection_share
    if plan.evidence.hand_off is None and plan.evidence.race is None:
        return ()
    if not any(one.seconds > 0 or one.threads for one in learners):
        return (("learner", "none given or seen: all of the loop collects"),)
    rows = []
    for number, one in enumerate(learners):
        name, spin = "learner", ""
        if one.threads is not None:
            name = f"with {counted(one.threads, 'thread')}{'' if number else ', as set'}"
        if one.spinning_cores > 0:
            busy = f"{one.spinning_cores:.1f} cores busy for {seconds(one.spin_s)} after it"
            spin = f"; its other threads keep {busy}"
        rows.append((name, f"{seconds(one.seconds)} between two steps ({one.kind}){spin}"))
    threads = counted(plan.learner_threads or 0, "learner thread")
    return (
        *rows,
        *_known(
            ("collecting", None if collecting is None else f"{share(collecting)} of the loop"),
            ("planned for", f"{threads} while steps are made" if plan.learner_threads else None),
        ),
    )


def _race(plan: Plan) -> Rows:
    race = plan.evidence.race
    if race is None:
        return ()
    steps = counted(race.vector_steps, "vector step")
    best = fastest(plan, race).mode if race.entrants else race.leader
    rows = [
        ("rounds", f"{race.rounds} of {steps} each, in {seconds(race.seconds)}"),
        ("sub-environments", str(race.num_envs)),
        ("fastest", f"{best}, {_certain(race, best)}"),
        ("expected loss", share(race.expected_loss)),
        ("same bits", race.difference or counted(race.compared_steps, "vector step")),
        *((f"out: {mode}", why) for mode, why in race.out.items()),
    ]
    if race.num_envs != plan.num_envs:  # the table of candidates has no place for these
        sync = race.of("sync")
        for one in race.entrants:
            per_s = rate(race.num_envs / one.loop_s.mid)
            gain = f", {ratio(sync.loop_s.mid / one.loop_s.mid)} sync" if sync else ""
            loop = measured_loop(plan, one.mode, one.loop_s)
            rows.append((one.mode, f"{loop}, {per_s} env steps/s{gain}"))
    return tuple(rows)


def _certain(race: RaceRecord, best: str) -> str:
    """How sure it is that the fastest one is the fastest, in words that follow its name."""
    if race.rounds == 1:
        return "in its only round"
    if race.leader != best:
        return f"when measured again; {race.leader} had led the race"
    if not is_proven(race):
        return "perhaps"
    return f"with {'more than 99 %' if race.p_best >= 0.995 else share(race.p_best)} certainty"


def _earlier_runs(plan: Plan) -> Rows:
    """What real use of modes showed."""
    rows = []
    for one in plan.evidence.observations:
        threads = "" if one.threads is None else f", {counted(one.threads, 'thread')}"
        others = "" if one.other_cores < 0.05 else f"; {one.other_cores:.1f} cores by other threads"
        steps = f"{rate(one.vector_steps)} vector steps of {seconds(one.inside_s)}"
        busy = "; other programs held cores" if one.busy else ""
        text = f"{steps}, {seconds(one.outside_s)} between two{others}{busy}"
        rows.append((f"{one.mode}{threads}", text))
    return tuple(rows)


def _costs(plan: Plan) -> dict[str, str]:
    """What exchanges with workers and the loops take."""
    evidence, rows = plan.evidence, {}
    hand_off, loops, ipc, ray = evidence.hand_off, evidence.loops, evidence.ipc, evidence.ray
    if ipc is not None:
        ends = f"{seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}"
        rows["IPC of an observation"] = (
            f"{seconds(ipc.observation_s)} a round trip (10-90 %: {ends}), "
            f"{size(ipc.observation_bytes)} pickled"
        )
        rows["IPC by size"] = (
            f"{seconds(ipc.per_message_s)} + {seconds(ipc.per_byte_s * 1024)} per KiB; "
            f"{counted(ipc.rounds, 'round')}, {ipc.start_method}"
        )
    if hand_off is not None:
        how = "measured on a worker of this run" if hand_off.measured else "assumed"
        woken = f"{seconds(hand_off.woken_s)} where the worker sleeps"
        rows["hand-off of the pool"] = f"{seconds(hand_off.spun_s)}; {woken}; {how}"
        rows["each further worker"] = seconds(hand_off.worker_s)
        rows["each thread"] = seconds(hand_off.thread_s)
        rows["message of async"] = f"{seconds(hand_off.message_s)} per sub-environment"
    if loops is not None:
        copying = f"{seconds(loops.copying_s)} of it copying"
        rows["loop of sync"] = f"{seconds(loops.sync_s)} a vector step"
        rows["loop of pool:0"] = f"{seconds(loops.pool_s)}, {copying}"
    if ray is not None:
        rows["Ray"] = (
            f"{seconds(ray.fixed_s)}, {seconds(ray.lane_s)} per actor, {seconds(ray.env_s)} per "
            f"sub-environment; room for {counted(ray.lanes, 'actor')} on {ray.cores:g} cores"
        )
    return rows


def _environment(plan: Plan) -> Rows:
    evidence = plan.evidence
    return _known(
        ("environment", plan.env),
        ("sub-environments", str(plan.num_envs)),
        ("autoreset mode", evidence.autoreset_mode),
        ("observation space", evidence.observation_space),
        ("action space", evidence.action_space),
    )


def machine_rows(machine: Machine) -> Rows:
    """The machine in rows; `vecselect doctor` shows them too."""
    quota, load, shared = machine.cores_quota, machine.load_1min, machine.shm_available_bytes
    available = f"{size(machine.memory_available_bytes)} of {size(machine.memory_bytes)} available"
    return _known(
        ("usable cores", cores(machine).replace(" usable cores", "")),
        ("logical cores", str(machine.cores_logical)),
        ("affinity", f"{machine.cores_affinity} cores"),
        ("cgroup quota", "none" if quota is None else f"{quota:g} cores"),
        ("memory", available),
        ("/dev/shm left", None if shared is None else size(shared)),
        ("load", "unknown" if load is None else f"{load:.2f} over 1 min"),
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


def _about_plan(plan: Plan) -> Rows:
    pinned = plan.decided_by == "pin"  # which measures nothing
    return _known(
        ("made", plan.created),
        ("effort", None if pinned else plan.effort),
        ("planning took", None if pinned else seconds(plan.planning_s)),
        ("provisional", plan.provisional),
        ("recalled as" if plan.recalled else "remembered as", plan.key),
        ("not remembered", plan.not_stored),
    )


def cores(machine: Machine) -> str:
    """The cores that may be used, and the bound where that is not the processor's own."""
    whole = machine.cores_bound == "affinity" and machine.cores_affinity >= machine.cores_logical
    bound = "" if whole else f" ({machine.cores_bound})"
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
