"""The evidence of a plan in words: the verdict, and all that was measured, as names and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.report.units import counted, rate, seconds, share, size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecselect.machine import Machine
    from vecselect.plan import Plan
    from vecselect.selection.evidence import ObservedRun
    from vecselect.selection.race import Interval

CLOSE = 0.05
"""Candidates within this of each other may well change places."""

DECIDED_BY = {
    "rule": "by the ~1 ms rule",
    "model": "by prediction",
    "race": "by a race",
    "observed": "by what earlier runs showed",
    "elimination": "the only mode that can run it here",
}

Rows = tuple[tuple[str, str], ...]
"""Names, and what there is to say of each."""


def verdict(plan: Plan) -> str:
    """What decided, and how sure that is."""
    if plan.decided_by == "pin":
        return f"pinned by {plan.pinned_by}"
    by, race = DECIDED_BY[plan.decided_by], plan.evidence.race
    if plan.decided_by == "race" and race is not None:
        # One block tells no spread, and a choice among other results is none of speed.
        if race.rounds < 2:
            return f"{by} of one round"
        return by if race.difference else by + _sure(plan, "measured")
    if plan.decided_by == "model":
        others = any(one.threads not in (None, plan.threads) for one in plan.candidates)
        as_set = others and plan.learner_threads is None
        threads = " with the learner's threads as they are set" if as_set else ""
        return f"{by}{_sure(plan, 'predicted')}{threads}"
    return by


def _sure(plan: Plan, known: str) -> str:
    """Whether another candidate may well be faster, by figures of one kind."""
    ours: Interval | None = getattr(plan.chosen, known, None)
    rivals: dict[str, Interval] = {
        one.mode: getattr(one, known)
        for one in plan.candidates
        if getattr(one, known) and not one.skipped and one.mode != plan.mode
        if one.threads in (None, plan.threads)
    }
    if ours is None or not rivals:
        return ""
    best = min(rivals, key=lambda mode: rivals[mode].mid)
    if rivals[best].mid <= (1 + CLOSE) * ours.mid:
        return f"; {best} may be as fast"
    sure = "likely" if any(one.low <= ours.high for one in rivals.values()) else "clearly"
    return f", {sure} the fastest"


def evidence_of(plan: Plan) -> tuple[tuple[str, Rows], ...]:
    """All that was measured, and what follows from it: headings, and what is under each."""
    return (
        ("One sub-environment", _profile(plan)),
        ("Step time from which on other modes beat sync", _break_even(plan)),
        ("Learner: what the loop does between two vector steps", _learner(plan)),
        ("Race", _race(plan)),
        ("Earlier runs", earlier_runs(plan.evidence.runs)),
        ("Costs of communication", _costs(plan)),
        ("Machine", machine_rows(plan.evidence.machine)),
        ("Plan", _about_plan(plan)),
    )


def _known(*rows: tuple[str, str | float | None]) -> Rows:
    """The rows of which something is known."""
    return tuple((name, str(text)) for name, text in rows if text)


def _profile(plan: Plan) -> Rows:
    evidence, found = plan.evidence, plan.evidence.profile
    spaces = _known(
        ("observation space", evidence.observation_space),
        ("action space", evidence.action_space),
        ("autoreset mode", evidence.autoreset_mode),
    )
    if found is None:
        return spaces
    length = found.episode_steps
    episode = "no episode ended" if length is None else f"episodes of {length:.0f} steps"
    threads = f"; computes on {found.cores_used:.1f} cores" if found.cores_used > 1.25 else ""
    return _known(
        (
            "step time",
            f"{seconds(found.step_time_s)}, median {seconds(found.step_time_median_s)}, "
            f"99 % below {seconds(found.step_time_p99_s)}, of {counted(found.steps, 'step')}",
        ),
        ("of that", f"{share(found.off_cpu_fraction)} waiting, off the CPU{threads}"),
        ("without Python's lock", "yes" if found.gil_free else None),
        (
            "reset time",
            f"{seconds(found.reset_time_s)}, {share(found.reset_share)} of the time; {episode}",
        ),
        ("built in", evidence.construct_s and seconds(evidence.construct_s)),
        ("memory", found.memory_bytes and size(found.memory_bytes)),
        ("observation", size(found.observation_bytes)),
        ("benchmark_step", f"{rate(found.plain_steps_per_s)} steps/s, as Gymnasium measures it"),
        *spaces,
    )


def _break_even(plan: Plan) -> Rows:
    """From which step time on a kind of mode pays here, beside the ~1 ms rule."""
    rule, rows = plan.evidence.rule, []
    for kind, from_s in plan.break_even_s.items():
        text = "never" if from_s is None else seconds(from_s) if from_s > 0 else "any step time"
        rows.append((kind, text))
    if rule is not None:
        rows.append(("by the ~1 ms rule", f"async from {seconds(rule.threshold_s)} on"))
        rows.append(("this environment", f"{seconds(rule.step_time_s)}, resets included"))
        rows.append(("so the rule says", f"{rule.mode}. {rule.reason}"))
    return tuple(rows)


def _learner(plan: Plan) -> Rows:
    learners, collecting = plan.evidence.learners, plan.collection_share
    if plan.evidence.hand_off is None and plan.evidence.race is None:
        return ()
    if not any(one.seconds > 0 or one.threads for one in learners):
        return (("time", "none: no learner was given or seen"),)
    rows = []
    for one in learners:
        threads = counted(one.threads, "thread") if one.threads else "time"
        text = f"{seconds(one.seconds)} ({one.source})"
        if one.spinning_cores > 0:
            busy = f"{one.spinning_cores:.1f} cores busy for {seconds(one.spin_s)} after it"
            text += f"; its other threads keep {busy}"
        rows.append((threads, text))
    if collecting is not None:
        text = f"{share(collecting)} of the loop: a faster mode shortens no more than that"
        rows.append(("inside step", text))
    return tuple(rows)


def _race(plan: Plan) -> Rows:
    race = plan.evidence.race
    if race is None:
        return ()
    steps = counted(max((one.vector_steps for one in race.entrants), default=0), "vector step")
    return (
        ("rounds", f"{race.rounds} of {steps} each, in {seconds(race.seconds)}"),
        ("same results", race.difference or f"yes, over {race.compared_steps} vector steps"),
    )


def earlier_runs(runs: Iterable[ObservedRun]) -> Rows:
    """What real use of modes showed; `vecselect explain` shows it of a stored plan too."""
    rows = []
    for one in runs:
        threads = "" if one.threads is None else f", {counted(one.threads, 'thread')}"
        others = "" if one.other_cores < 0.05 else f"; {one.other_cores:.1f} cores by other threads"
        steps = f"{rate(one.vector_steps)} vector steps of {seconds(one.inside_s)}"
        busy = "; other programs held cores" if one.busy else ""
        text = f"{steps}, {seconds(one.outside_s)} between two{others}{busy}"
        rows.append((f"{one.mode}{threads}", text))
    return tuple(rows)


def _costs(plan: Plan) -> Rows:
    """What exchanges with workers take; the loops around them are in the plan's JSON."""
    evidence = plan.evidence
    hand_off, ipc, ray = evidence.hand_off, evidence.ipc, evidence.ray
    rows = []
    if hand_off is not None:
        how = "measured" if hand_off.measured else "assumed"
        woken = f"{seconds(hand_off.woken_s)} where it sleeps"
        each = seconds(hand_off.message_s)
        rows += [
            ("pool, hand-off", f"{seconds(hand_off.spun_s)} to a worker and back, {woken}; {how}"),
            ("async, message", f"{each} to a process and back, for each sub-environment; assumed"),
        ]
    if ipc is not None:
        trip = f"{seconds(ipc.observation_s)} through a pipe and back"
        rows.append(("an observation", f"{trip}, {size(ipc.observation_bytes)} pickled"))
    if ray is not None:
        each = f"{seconds(ray.lane_s)} per actor, {seconds(ray.env_s)} per sub-environment"
        room = f"room for {counted(ray.lanes, 'actor')} on {ray.cores:g} cores"
        rows.append(("ray", f"{seconds(ray.fixed_s)}, {each}; {room}"))
    for one in evidence.implementations:
        text = f"{seconds(one.vector_step_s)} per vector step, timed"
        if one.behaviour is not None and one.reference is not None:
            ours, theirs = one.reference.reward, one.behaviour.reward
            text += f"; mean reward {theirs:.4g}, {ours:.4g} in your environment"
        rows.append((one.mode, text))
    return tuple(rows)


def machine_rows(machine: Machine) -> Rows:
    """The machine in rows; `vecselect doctor` shows them too."""
    quota, load, shared = machine.cores_quota, machine.load_1min, machine.shm_available_bytes
    limit = "no quota" if quota is None else f"a quota of {quota:g}"
    available = f"{size(machine.memory_available_bytes)} of {size(machine.memory_bytes)} available"
    logical = f"{machine.cores_logical} logical cores, {machine.cores_affinity} by affinity"
    return _known(
        ("usable cores", f"{machine.cores:g}{_bound(machine)}"),
        ("of", f"{logical}, {limit}"),
        ("load", "unknown" if load is None else f"{load:.2f} over 1 min"),
        ("memory", available),
        ("/dev/shm", None if shared is None else f"{size(shared)} left"),
        ("processor", machine.cpu),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("start methods", ", ".join(machine.start_methods)),
    )


def cores(machine: Machine) -> str:
    """The cores that may be used, and the bound where that is not the processor's own."""
    bound = _bound(machine)
    return f"{machine.cores:g} usable {'core' if machine.cores == 1 else 'cores'}{bound}"


def _bound(machine: Machine) -> str:
    """In brackets what bounds the usable cores, where that is not the processor's own."""
    whole = machine.cores_bound == "affinity" and machine.cores_affinity >= machine.cores_logical
    return "" if whole else f" ({machine.cores_bound})"


def _about_plan(plan: Plan) -> Rows:
    held, pinned = plan.evidence.foreign_cores, plan.decided_by == "pin"  # which measures nothing
    versions = ", ".join(f"{name} {version}" for name, version in sorted(plan.versions.items()))
    busy = f"{held:.1f} cores busy meanwhile; {plan.evidence.cores:g} counted on"
    return _known(
        ("made", plan.created),
        ("effort", None if pinned else f"{plan.effort}, {seconds(plan.planning_s)}"),
        ("other programs", busy if held >= 0.05 else None),
        ("provisional", plan.provisional),
        ("recalled as" if plan.recalled else "remembered as", plan.key),
        ("not remembered", plan.not_stored),
        ("with", versions),
    )
