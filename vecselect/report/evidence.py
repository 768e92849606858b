"""The evidence of a plan in words: the verdict, and all that was measured, as names and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.report.units import counted, rate, seconds, share, size
from vecselect.selection.race import TIE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecselect.machine import Machine
    from vecselect.plan import Plan
    from vecselect.selection.evidence import ObservedRun
    from vecselect.selection.race import TimingResult

CLOSE = 0.05
"""Candidates predicted within this of each other may well change places."""

Rows = tuple[tuple[str, str], ...]
"""Names, and what there is to say of each."""


def verdict(plan: Plan) -> str:
    """What decided, and how sure that is."""
    race, rule = plan.evidence.race, plan.evidence.rule
    if plan.decided_by == "race" and race is not None:
        return _of_race(plan, race)
    if plan.decided_by == "model":
        return _of_prediction(plan)
    if plan.decided_by == "observed":
        seen = next((o for o in plan.evidence.runs[::-1] if o.mode == plan.mode), None)
        if seen is None:
            return "predicted from what earlier runs in other modes showed"
        steps = f"{rate(seen.vector_steps)} vector steps observed in earlier runs"
        return f"by {steps}, at {seconds(seen.inside_s)}"
    if plan.decided_by == "rule" and rule is not None:
        line = ", close to its threshold" if rule.near_line else ""
        return f"by the ~1 ms rule{line}: a step takes {seconds(rule.step_time_s)}"
    if plan.decided_by == "pin":
        return f"pinned by {plan.pinned_by}"
    return "the only mode that can run it here"


def _of_prediction(plan: Plan) -> str:
    """Whether another candidate may well be faster."""
    ours = plan.chosen.predicted if plan.chosen else None
    others = {
        one.mode: one.predicted
        for one in plan.candidates
        if one.predicted and not one.skipped and one.mode != plan.mode
        if one.threads in (None, plan.threads)
    }
    if ours is None or not others:
        return "by elimination"
    threads = ""
    if plan.learner_threads is None and any(
        one.threads not in (None, plan.threads) for one in plan.candidates
    ):
        threads = " with the learner's threads as they are set"
    close = [mode for mode in others if others[mode].mid <= (1 + CLOSE) * ours.mid]
    if close:
        close = sorted(close, key=lambda mode: others[mode].mid)
        return f"by prediction; {' or '.join(close[:2])} may be as fast{threads}"
    sure = "likely" if any(other.low <= ours.high for other in others.values()) else "clearly"
    return f"by prediction, {sure} the fastest{threads}"


def _of_race(plan: Plan, race: TimingResult) -> str:
    """What a race says of its choice; that it is the fastest only where that is more than luck."""
    by = "by a race" if race.rounds > 1 else "by a race of one round"
    if race.difference is not None:
        return f"{by}: kept, since other modes return different results"
    skipped = {one.mode for one in plan.candidates if one.skipped}
    loops = {one.mode: one.loop_s for one in race.entrants if one.mode not in skipped}
    ours = loops.pop(plan.mode, None)
    rivals = {mode: loop for mode, loop in loops.items() if loop is not None}
    if ours is None or not rivals:
        return f"{by}, the only one left"
    best = min(rivals, key=lambda mode: rivals[mode].mid)
    if rivals[best].mid < ours.mid:
        return f"{by}, simpler than {best} and within {TIE * 100:g} % of it"
    if race.rounds > 1 and all(loop.low > ours.mid for loop in rivals.values()):
        return f"{by}, clearly the fastest"
    return f"{by}, perhaps the fastest"


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


def _known(*rows: tuple[str, str | None]) -> Rows:
    """The rows of which something is known."""
    return tuple((name, text) for name, text in rows if text)


def _profile(plan: Plan) -> Rows:
    evidence, found = plan.evidence, plan.evidence.profile
    spaces = _known(
        ("observation space", evidence.observation_space),
        ("action space", evidence.action_space),
        ("autoreset mode", evidence.autoreset_mode),
    )
    if found is None:
        return spaces
    length, off = found.episode_steps, found.episode_steps_sd
    around = f" ± {off:.0f}" if off else ""
    episode = "no episode ended" if length is None else f"episodes of {length:.0f}{around} steps"
    threads = f"; computes on {found.cores_used:.1f} cores" if found.cores_used > 1.25 else ""
    built = "" if evidence.construct_s is None else f", built in {seconds(evidence.construct_s)}"
    memory = "" if found.memory_bytes is None else f", memory {size(found.memory_bytes)}"
    free = found.gil_free_fraction
    return _known(
        (
            "step time",
            f"{seconds(found.step_time_s)}, median {seconds(found.step_time_median_s)}, "
            f"99 % below {seconds(found.step_time_p99_s)}, of {counted(found.steps, 'step')}",
        ),
        ("of that", f"{share(found.off_cpu_fraction)} waiting, off the CPU{threads}"),
        ("without Python's lock", None if free is None else share(free)),
        (
            "reset time",
            f"{seconds(found.reset_time_s)}, {share(found.reset_share)} of the time; {episode}",
        ),
        (
            "size",
            f"observation {size(found.observation_bytes)}, action {size(found.action_bytes)}"
            f"{memory}{built}",
        ),
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
        line = seconds(rule.threshold_s)
        rows += [
            ("by the ~1 ms rule", f"async from {line} on: a process and a message per step pay"),
            ("this environment", f"{seconds(rule.step_time_s)}, resets included"),
            ("so the rule says", f"{rule.mode}. {rule.reason}"),
        ]
    return tuple(rows)


def _learner(plan: Plan) -> Rows:
    learners, collecting = plan.evidence.learners, plan.collection_share
    if plan.evidence.hand_off is None and plan.evidence.race is None:
        return ()
    if not any(one.seconds > 0 or one.threads for one in learners):
        return (("time", "none: no learner was given or seen"),)
    rows = []
    for number, one in enumerate(learners):
        name, spin = "time", ""
        if one.threads is not None:
            name = f"with {counted(one.threads, 'thread')}{'' if number else ', as set'}"
        if one.spinning_cores > 0:
            busy = f"{one.spinning_cores:.1f} cores busy for {seconds(one.spin_s)} after it"
            spin = f"; its other threads keep {busy}"
        rows.append((name, f"{seconds(one.seconds)} ({one.source}){spin}"))
    if collecting is not None:
        text = f"{share(collecting)} of the loop: a faster mode shortens no more than that"
        rows.append(("inside step", text))
    return tuple(rows)


def _race(plan: Plan) -> Rows:
    race = plan.evidence.race
    if race is None:
        return ()
    steps = counted(max(one.vector_steps for one in race.entrants), "vector step")
    return (
        ("rounds", f"{race.rounds} of {steps} each, in {seconds(race.seconds)}"),
        ("same results", race.difference or f"yes, over {race.compared_steps} vector steps"),
        *((f"{one.mode} left out", one.skipped) for one in race.entrants if one.skipped),
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
        ends = f"{seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}"
        trip = f"{seconds(ipc.observation_s)} through a pipe and back (10-90 %: {ends})"
        rows.append(("an observation", f"{trip}, {size(ipc.observation_bytes)} pickled"))
    if ray is not None:
        each = f"{seconds(ray.lane_s)} per actor, {seconds(ray.env_s)} per sub-environment"
        room = f"room for {counted(ray.lanes, 'actor')} on {ray.cores:g} cores"
        rows.append(("ray", f"{seconds(ray.fixed_s)}, {each}; {room}"))
    for one in evidence.implementations:
        compared = "behaviour not compared"
        if one.behaviour is not None and one.reference is not None:
            compared = (
                f"mean reward {one.behaviour.reward:.4g}, "
                f"{one.reference.reward:.4g} in your environment"
            )
        rows.append((one.mode, f"{seconds(one.vector_step_s)} per vector step, timed; {compared}"))
    return tuple(rows)


def machine_rows(machine: Machine) -> Rows:
    """The machine in rows; `vecselect doctor` shows them too."""
    quota, load, shared = machine.cores_quota, machine.load_1min, machine.shm_available_bytes
    limit = "no quota" if quota is None else f"a quota of {quota:g}"
    available = f"{size(machine.memory_available_bytes)} of {size(machine.memory_bytes)} available"
    return _known(
        ("usable cores", f"{machine.cores:g}{_bound(machine)}"),
        (
            "of",
            f"{machine.cores_logical} logical cores, {machine.cores_affinity} by affinity, {limit}",
        ),
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
