"""The evidence of a plan in words: how sure the choice is, and all that was measured, as facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.modes import Mode
from vecselect.report.units import (
    all_printable,
    counted,
    rate,
    ratio,
    seconds,
    share,
    size,
    spread,
)
from vecselect.selection.compare import compare
from vecselect.selection.race import TIE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecselect.machine import Machine
    from vecselect.plan import Plan
    from vecselect.selection.compare import Interval
    from vecselect.selection.evidence import Observation
    from vecselect.selection.race import Entrant, RaceRecord

CLOSE = 0.05
"""Candidates predicted within this of each other may well change places."""

LIKELIER = 0.5
"""With a smaller probability nobody is called the fastest."""

Rows = tuple[tuple[str, str], ...]
"""Names, and what there is to say of each."""


def how_sure(plan: Plan) -> str:
    """What decided, and how sure that is."""
    race, rule = plan.evidence.race, plan.evidence.rule
    if plan.decided_by == "race" and race is not None:
        start = "by a short race" if race.rounds == 1 else "by a race"
        fewer = "" if race.num_envs == plan.num_envs else f" of {race.num_envs} sub-environments"
        return f"{start}{fewer}, {_sure_of_race(plan, race)}"
    if plan.decided_by == "model":
        return f"by prediction, {_sure_of_prediction(plan)}"
    if plan.decided_by == "observed":
        seen = next((o for o in plan.evidence.observations[::-1] if o.mode == plan.mode), None)
        if seen is None:
            return "predicted from what earlier runs of other modes showed"
        return f"by earlier runs, {rate(seen.vector_steps)} vector steps of them in this mode"
    if plan.decided_by == "rule" and rule is not None:
        return f"by the ~1 ms rule, {_sure_of_rule(plan)}"
    return f"pinned by {plan.pinned_by}" if plan.decided_by == "pin" else "the only mode left"


def _sure_of_prediction(plan: Plan) -> str:
    """Whether another candidate may well be faster."""
    ours = plan.chosen.predicted if plan.chosen else None
    others = {
        one.mode: one.predicted
        for one in plan.candidates
        if one.predicted and not one.skipped and one.mode != plan.mode
        if one.threads in (None, plan.threads)
    }
    if ours is None or not others:
        return "the only candidate"
    close = [mode for mode in others if others[mode].mid <= (1 + CLOSE) * ours.mid]
    if close:
        close = sorted(close, key=lambda mode: others[mode].mid)
        return f"close to {' and '.join(close[:2])}"
    return "likely" if any(other.mid <= ours.high for other in others.values()) else "clear"


def _sure_of_rule(plan: Plan) -> str:
    """How far from the ~1 ms rule's line the step time lies."""
    rule = plan.evidence.rule
    assert rule is not None
    if rule.near_line:
        return "close to the line"
    factor = max(rule.step_time_s / rule.threshold_s, rule.threshold_s / rule.step_time_s)
    side = "above" if rule.step_time_s > rule.threshold_s else "below"
    return f"clear: {ratio(factor)} {side} the line of {seconds(rule.threshold_s)}"


def _sure_of_race(plan: Plan, race: RaceRecord) -> str:
    if race.difference is not None and race.chosen == "sync":
        return "kept, since the results differ"
    chosen, leader = race.of(race.chosen), race.of(race.leader)
    if chosen is None or not [one for one in _choosable(plan, race) if one is not chosen]:
        return "the only one left"
    if race.chosen != race.leader:
        return _not_leading(race, chosen, leader)
    best = _fastest(plan, race)
    if best.mode != chosen.mode:
        return f"close to {best.mode}"
    if race.rounds == 1:
        return "the fastest in its only round"
    if not _is_proven(race):
        return "perhaps the fastest"
    # A race never makes it a certainty.
    word = "clearly" if race.p_best >= 0.99 else "likely" if race.p_best >= 0.9 else "perhaps"
    chance = "" if race.p_best >= 0.995 else f" ({share(race.p_best)})"
    return f"{word}{chance} the fastest"


def _not_leading(race: RaceRecord, chosen: Entrant, leader: Entrant | None) -> str:
    """Why the choice is not the one that led the race."""
    if leader is None:
        return f"instead of {race.leader}"
    raced = compare(chosen.mode, chosen.blocks_s, leader.blocks_s).ratio.mid
    simpler = Mode.parse(chosen.mode).rank() < Mode.parse(leader.mode).rank()
    if raced <= 1 + TIE and simpler:
        return f"within 5 % of the fastest and simpler than {leader.mode}"
    if chosen.loop_s.mid < leader.loop_s.mid:
        return f"ahead of {leader.mode} when measured again"
    if chosen.loop_s.mid <= (1 + TIE) * leader.loop_s.mid:
        return f"within 5 % of {leader.mode} when measured again"
    return f"kept, not surely beaten by {leader.mode}"


def _is_proven(race: RaceRecord) -> bool:
    """Whether what a race says of its leader stands on more than a round that may have been luck.

    The advantage as measured again must be one, with 95 % certainty.
    """
    likely = race.rounds > 1 and race.p_best >= LIKELIER
    return likely and (race.speedup is None or race.speedup.low > 1)


def _choosable(plan: Plan, race: RaceRecord) -> list[Entrant]:
    """The entrants that could have been chosen; what was only timed could not."""
    skipped = {one.mode for one in plan.candidates if one.skipped}
    return [one for one in race.entrants if one.mode not in skipped or one.mode == race.chosen]


def _fastest(plan: Plan, race: RaceRecord) -> Entrant:
    """The fastest of those that could have been chosen and ran to the end, as the table shows it.

    What was measured again after the race counts too, so it need not be the one that led.
    """
    entrants = _choosable(plan, race)
    to_the_end = [one for one in entrants if len(one.blocks_s) >= race.rounds]
    return min(to_the_end or entrants or race.entrants, key=lambda one: one.loop_s.mid)


def sentence_of_race(plan: Plan) -> str | None:
    """Who was the fastest, and how many times as fast as each of the others, with 95 % intervals.

    Returns:
        None where no race was run with two entrants or more.
    """
    race = plan.evidence.race
    if race is None or len(race.entrants) < 2:
        return None
    # The figures of the report's table: each stands in its measured ratio to these.
    best, choosable = _fastest(plan, race), {one.mode for one in _choosable(plan, race)}
    texts = []
    for other in sorted(race.entrants, key=lambda one: one.loop_s.mid):
        if other.mode != best.mode:
            theirs = other.loop_s
            mid, low, high = (s / best.loop_s.mid for s in (theirs.mid, theirs.low, theirs.high))
            timed = "" if other.mode in choosable else ", which was only timed"
            texts.append(f"{mid:.2f} ({low:.2f}-{high:.2f}) times as fast as {other.mode}{timed}")
    listed = f"{', '.join(texts[:-1])} and {texts[-1]}" if texts[1:] else texts[0]
    return all_printable(f"{best.mode} ran {listed}.")


def evidence_of(plan: Plan) -> tuple[tuple[str, Rows], ...]:
    """All that was measured, and what follows from it: headings, and what is under each."""
    found = (
        ("Step and reset of one environment", _step(plan)),
        ("Break-even against the ~1 ms rule", _break_even(plan)),
        ("What would change the answer", _what_if(plan)),
        ("Learner", _learner(plan)),
        ("Race", _race(plan)),
        ("Earlier runs", earlier_runs(plan.evidence.observations)),
        ("Hand-off and loops", _costs(plan)),
        ("Environment", _environment(plan)),
        ("Machine", (*machine_rows(plan.evidence.machine), *_held(plan))),
        ("Plan", _about_plan(plan)),
        ("Versions", tuple(sorted(plan.versions.items()))),
    )
    return tuple((heading, rows) for heading, rows in found if rows)


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
    rule, pays = plan.evidence.rule, []
    for kind, from_s in plan.break_even_s.items():
        text = "never here" if from_s is None else "at any step time"
        if from_s is not None and from_s > 0:
            text = f"from {seconds(from_s)} per step"
        pays.append((f"{kind} pays", text))
    if rule is None:
        return tuple(pays)
    return (
        *pays,
        ("the rule's line", f"{seconds(rule.threshold_s)} per step, then async"),
        ("this environment", f"{seconds(rule.step_time_s)} per step; {_sure_of_rule(plan)}"),
        ("the rule says", f"{rule.mode}. {rule.reason}"),
    )


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
    rows = [
        ("rounds", f"{race.rounds} of {steps} each, in {seconds(race.seconds)}"),
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


def earlier_runs(observations: Iterable[Observation]) -> Rows:
    """What real use of modes showed; `vecselect plans show` shows it too."""
    rows = []
    for one in observations:
        threads = "" if one.threads is None else f", {counted(one.threads, 'thread')}"
        others = "" if one.other_cores < 0.05 else f"; {one.other_cores:.1f} cores by other threads"
        steps = f"{rate(one.vector_steps)} vector steps of {seconds(one.inside_s)}"
        busy = "; other programs held cores" if one.busy else ""
        text = f"{steps}, {seconds(one.outside_s)} between two{others}{busy}"
        rows.append((f"{one.mode}{threads}", text))
    return tuple(rows)


def _costs(plan: Plan) -> Rows:
    """What exchanges with workers and the loops take."""
    evidence, rows = plan.evidence, []
    hand_off, loops, ipc, ray = evidence.hand_off, evidence.loops, evidence.ipc, evidence.ray
    if ipc is not None:
        ends = f"{seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}"
        trip = f"{seconds(ipc.observation_s)} a round trip (10-90 %: {ends})"
        by_size = f"{seconds(ipc.per_message_s)} + {seconds(ipc.per_byte_s * 1024)} per KiB"
        rows += [
            ("IPC of an observation", f"{trip}, {size(ipc.observation_bytes)} pickled"),
            ("IPC by size", f"{by_size}; {counted(ipc.rounds, 'round')}, {ipc.start_method}"),
        ]
    if hand_off is not None:
        how = "measured on a worker of this run" if hand_off.measured else "assumed"
        woken = f"{seconds(hand_off.woken_s)} where the worker sleeps"
        rows += [
            ("hand-off of the pool", f"{seconds(hand_off.spun_s)}; {woken}; {how}"),
            ("each further worker", seconds(hand_off.worker_s)),
            ("each thread", seconds(hand_off.thread_s)),
            ("message of async", f"{seconds(hand_off.message_s)} per sub-environment"),
        ]
    if loops is not None:
        copying = f"{seconds(loops.copying_s)} of it copying"
        rows += [
            ("loop of sync", f"{seconds(loops.sync_s)} a vector step"),
            ("loop of pool:0", f"{seconds(loops.pool_s)}, {copying}"),
        ]
    if ray is not None:
        each = f"{seconds(ray.lane_s)} per actor, {seconds(ray.env_s)} per sub-environment"
        room = f"room for {counted(ray.lanes, 'actor')} on {ray.cores:g} cores"
        rows.append(("Ray", f"{seconds(ray.fixed_s)}, {each}; {room}"))
    return tuple(rows)


def _environment(plan: Plan) -> Rows:
    evidence = plan.evidence
    return _known(
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
