"""Every sentence that a plan says: why this mode, and what else its reader should know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecselect.modes import KINDS, Mode
from vecselect.plan import Note
from vecselect.selection.candidates import why_not_enough_memory
from vecselect.selection.race import smallest_enough

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.measure.step import StepProfile
    from vecselect.plan import Plan
    from vecselect.selection.evidence import Evidence, ImplementationCost
    from vecselect.selection.model import Choice
    from vecselect.selection.overlap import Overlap
    from vecselect.selection.race import Timed, TimingResult
    from vecselect.selection.rule import RuleVerdict

LOUD, WORTH_SAYING = 1.3, 1.1
"""Advice that makes the loop this many times as fast is a warning, or else a note."""

RESET_SHARE = 0.1

NOTES = {
    "learner-threads": (
        "The learner's {now} occupy cores that the environments could use: {mode} with {threads} "
        "while steps are made is predicted to give {gain} the throughput of the rollout. Write "
        'learner_threads="auto" in the call, and "with envs.collecting():" around the rollout.'
    ),
    "overlap": "{text}",
    "machine-busy": "{text}",
    "resets": (
        "Resets take {share:.0%} of the time of one environment: if they took none, it would make "
        "{gain:.2f} times as many steps."
    ),
    "rule-against-costs": (
        'By the costs measured here {mode} would be faster; effort="measure" decides by those.'
    ),
    "not-raced": (
        "No race was run: the environment holds {what}, which a second one may not be able to "
        "hold beside it. The choice is by prediction."
    ),
    "race-lost": (
        "The race failed: {why}. The choice is by prediction; run one environment alone to see "
        "what ended it."
    ),
    "bits-differ": (
        "The modes returned different results for the same seeds and actions ({difference}): the "
        "environment is not deterministic, or draws from generators that are not its own."
    ),
    "not-repeatable": (
        "The environment returns different results for the same seed and actions, so nothing "
        "tells whether the candidates agree with each other: only their times decide."
    ),
    "implementation-differs": (
        "{kind} does not behave as {env} does: random actions lead to a mean reward of "
        "{theirs.reward:.4g} instead of {own.reward:.4g}, and to episodes of {lengths} steps, in "
        "the {own.steps} steps after each of {own.samples} resets. What is trained in one may "
        "fail in the other."
    ),
    "implementation-left-out": "{kind} was allowed, but it is left out: {why}.",
    "learner-stand-in": (
        "torch is loaded, so a small network stood in for your learner; learner=your_function "
        "measures your own, and later starts use what earlier runs of this script have shown."
    ),
    "not-together": (
        "The environment holds {what}, so modes were timed one after another and not in turns: if "
        "the load of the machine changed meanwhile, that is in the comparison."
    ),
    "timing-lost": "Timing was cut short: {why}. What was measured before stands.",
}
"""What notes say, by codes that stay the same from version to version."""

DRAWS = 'it {draws}, and drawing in two threads at once may be unsafe; mode="{kind}" pins it anyway'
RULE_KNOWS_TWO = 'effort="rule" chooses between sync and async only; pin this mode to use it'
NATIVE_NOT_ALLOWED = (
    'another implementation of the environment; allow=("native",) lets it be chosen'
)
NO_BUFFERS = "it cannot step some sub-environments without the others, which buffers=2 needs"
NOT_ONE_BY_ONE = "it cannot step each sub-environment independently, which batch_size needs"
NO_TIME = (
    "building and timing it takes about {seconds:.2g} s, too much of the {budget_s:g} s that the "
    "sweep may take"
)
"""Why a mode is not chosen or timed, as words that follow its name."""

RULE = " The ~1 ms rule (async for longer steps, else sync)"
NO_OTHER = "It is the only mode that can run it."
WITHOUT_PROCESSES = (
    "It cannot be measured or run in another process: {why}. If steps wait (for a simulator, say), "
    'mode="thread" lets them wait at the same time.'
)


def note(code: str, *, loud: bool = False, **values: Any) -> Note:
    """A note of `NOTES` with its values."""
    return Note(code, NOTES[code].format(**values), loud=loud)


# Why this mode


def reason_of_pin(source: str) -> str:
    """Why a pinned mode was chosen."""
    return f"{source} pins it; nothing was measured."


def reason_of_failure(mode: str, why: str) -> str:
    """Why `sync` runs where the mode that was chosen could not be built."""
    return f"{mode} was chosen, but {why}. So sync runs in its place."


def reason_of_model(choice: Choice, rule: RuleVerdict | None) -> str:
    """Why the model, or what earlier runs showed, leads to this choice."""
    best = choice.best
    if len({forecast.mode for forecast in choice.forecasts}) == 1:
        return "It is the only candidate."
    sync = choice.of("sync", best.threads)
    threads = ""
    if best.threads != choice.forecasts[0].threads:  # those as they are set
        threads = f", with {_threads(best.threads)} for the learner while steps are made"
    if best.mode == "sync" or sync is None:
        seen = "In earlier runs none was faster, and no" if best.observed else "No"
        text = f"{seen} other candidate is predicted to be faster{threads}."
    elif best.observed:
        ratio = sync.loop_s / best.loop_s
        text = f"Measured in earlier runs; about {ratio:.2g} times the throughput of sync{threads}."
    elif not Mode.parse(best.mode).runs_users_environments:
        ratio = sync.loop_s / best.loop_s
        text = (
            f"Timed at about {ratio:.2g} times the throughput predicted for sync{threads}. It is "
            "another implementation of the environment, with other random numbers."
        )
    else:
        low, high = sync.loop_s / best.loop.high, sync.loop_s / best.loop.low
        learner = ", learner included" if best.learner_s else ""
        text = f"Predicted {low:.3g}-{high:.3g} times the throughput of sync{learner}{threads}."
    return text + _rule_beside(best.mode, rule)


def _times(gain: float) -> str:
    """A predicted gain; how far it goes beyond 10 depends on what no prediction gets right."""
    return f"{gain:.1f} times" if gain <= 10 else "more than 10 times"


def _threads(number: int | None) -> str:
    return "1 thread" if number == 1 else f"{number or ''} threads".strip()


def _rule_beside(mode: str, rule: RuleVerdict | None) -> str:
    """Says whether the ~1 ms rule agrees."""
    if rule is None:
        return ""
    if mode == rule.mode:
        return f"{RULE} agrees."
    return f"{RULE} says {rule.mode}: it knows only these two, and neither cores nor learner."


def reason_of_rule(verdict: RuleVerdict, mode: str, skipped: str | None) -> str:
    """Why the rule leads to this choice; `skipped` says why the rule's own mode cannot run."""
    if mode == verdict.mode:
        return verdict.reason
    return f"The rule says {verdict.mode}, but {skipped}."


def reason_of_race(race: TimingResult, mode: str, rule: RuleVerdict | None) -> str:
    """Why a race leads to its choice."""
    ours = race.speedup(mode)
    if ours is not None:
        text = (
            f"Measured in a race: {ours.mid:.2f} times the throughput of sync (95 %: "
            f"{ours.low:.2f}-{ours.high:.2f})."
        )
    elif race.difference is not None:
        text = "Other modes returned other results in the race, so sync is kept."
    else:
        gains = {
            one.mode: gain.mid
            for one in race.entrants
            if (gain := race.speedup(one.mode, mode)) is not None
        }
        text = "It was the only one left in the race."
        if gains:
            second = max(gains, key=gains.__getitem__)
            text = f"Next in the race was {second}, with {gains[second]:.2f} times its throughput."
    return text + _rule_beside(mode, rule)


# What else to know


def of_machine(evidence: Evidence, *, remembered: bool) -> tuple[str | None, list[Note]]:
    """Why a plan should soon be made anew, None if it should not; and a note on other programs."""
    cores, counted = evidence.machine.cores, evidence.cores
    text = f"Other programs kept {evidence.foreign_cores:.1f} of {cores:g} cores busy"
    if counted < cores:
        text += f", so this plan counts on {counted:g}."
    else:
        text += " while this was measured."
    if not evidence.busy:
        return None, [note("machine-busy", text=text)] if counted < cores else []
    until = "It is not remembered: the next start measures again."
    if remembered:
        until = "This plan expires after an hour."
    return text, [note("machine-busy", text=f"{text} {until}")]


def of_profile(profile: StepProfile) -> list[Note]:
    """That resets take long, where they do."""
    share = profile.reset_share
    return [note("resets", share=share, gain=1 / (1 - share))] if share > RESET_SHARE else []


def of_rule(verdict: RuleVerdict) -> list[Note]:
    """Where the costs that were measured speak against the rule."""
    if verdict.async_s is None:
        return []
    predicted = "async" if verdict.async_s < verdict.sync_s else "sync"
    return [note("rule-against-costs", mode=predicted)] if predicted != verdict.mode else []


def of_learner(kind: str) -> list[Note]:
    """That a small network stood in for the learner."""
    return [note("learner-stand-in")] if kind == "stand-in" else []


def of_race(race: TimingResult) -> list[Note]:
    """That candidates differ, or that nothing tells."""
    if race.difference is not None:
        return [note("bits-differ", difference=race.difference)]
    untold = race.compared_steps == 0 and len(race.entrants) > 1
    return [note("not-repeatable")] if untold else []


def of_threads(choice: Choice, *, quiet: bool = True) -> list[Note]:
    """What one thread for the learner would give, where the plan may not count on it.

    It is a warning only where the machine was `quiet`: beside other programs threads that wait for
    each other look many times as slow as they are.
    """
    best = choice.best
    other = min(choice.forecasts, key=lambda forecast: forecast.loop_s)
    gain = best.loop_s / other.loop_s
    if other.threads == best.threads or gain < WORTH_SAYING:
        return []
    values = {"now": _threads(best.threads), "threads": _threads(other.threads)}
    values |= {"mode": other.mode, "gain": _times(gain)}
    return [note("learner-threads", loud=quiet and gain >= LOUD, **values)]


def of_overlap(found: Overlap | None, *, sure: bool = True) -> list[Note]:
    """What it would bring to step some sub-environments while the learner works on others.

    It is no warning unless that is `sure`: the learner is known and not assumed, and nothing else
    held the cores while this was measured.
    """
    if found is None:
        return []
    parts, gain = [], found.buffers
    if found.buffers >= WORTH_SAYING:
        parts.append(
            f"buffers=2 is predicted to give {_times(found.buffers)} the throughput of the "
            "rollout: one half of the batch steps while the learner works on the other "
            "(envs.buffers)."
        )
    # It costs being repeatable, so it must bring more.
    if found.first_finished >= LOUD * max(found.buffers, 1.0):
        gain = found.first_finished
        parts.append(
            f"batch_size=num_envs // 4 is predicted to give {_times(found.first_finished)} the "
            "throughput of lockstep: those that have finished do not wait for the slowest "
            "(envs.recv and envs.send), but which ones form a batch differs from run to run."
        )
    if not parts:
        return []
    return [note("overlap", loud=sure and gain >= LOUD, text=" ".join(parts))]


def too_large(evidence: Evidence, modes: tuple[Mode, ...]) -> dict[str, str]:
    """By kind that could run and is not among the candidates, why it would not fit into memory."""
    profile = evidence.profile
    assert profile is not None
    found = {}
    for kind in {*evidence.kinds} - {mode.kind for mode in modes}:
        mode = Mode(kind, 1 if KINDS[kind].workers else None)
        if (why := why_not_enough_memory(mode, profile, evidence)) is not None:
            found[kind] = f"{why}; fewer sub-environments may fit"
    return found


def of_implementations(env: str, costs: Sequence[ImplementationCost]) -> list[Note]:
    """That another implementation leads elsewhere than the environment, where it does."""
    notes = []
    for kind, one in {Mode.parse(one.mode).kind: one for one in costs}.items():
        theirs, own = one.behaviour, one.reference
        if theirs is None or own is None or not theirs.differs(own):
            continue
        lengths = [
            f"over {found.steps}" if found.episode_steps is None else f"{found.episode_steps:.4g}"
            for found in (theirs, own)
        ]
        values = {"kind": kind, "env": env, "theirs": theirs, "own": own}
        values["lengths"] = " instead of ".join(lengths)
        notes.append(note("implementation-differs", loud=True, **values))
    return notes


# What a sweep says


def of_sweep(by_number: dict[int, Timed], *, whole: bool) -> str:
    """Which number of sub-environments to take; `by_number` holds the mode to take for each."""
    found = smallest_enough(by_number)
    interrupted = "" if whole else "It was interrupted: this is not the whole sweep. "
    if found is None:
        return f"{interrupted}Nothing was measured."
    most = max(by_number.values(), key=lambda one: one.per_s)
    number = "1 sub-environment" if found.num_envs == 1 else f"{found.num_envs} sub-environments"
    text = f"Take {number} in mode {found.mode}: {found.per_s:,.0f} env steps/s"
    if most is not found:
        share = found.per_s / most.per_s
        text += f", which is {share:.0%} of the most ({most.per_s:,.0f} with {most.num_envs})"
    else:
        more = ", and more may give more" if found.num_envs == max(by_number) != 1 else ""
        text += f", which is the most{more}"
    held = "" if found.memory_bytes is None else f"; it takes {found.memory_bytes / 1e6:.0f} MB"
    return f"{interrupted}{text}{held}."


# What a run says of its plan


def wrong_recall(plan: Plan, planned_s: float, step_s: float) -> str:
    """That the first vector steps take much longer, or shorter, than a recalled plan counts on."""
    return (
        f"The remembered plan for {plan.env} counts on vector steps of {planned_s * 1e3:.3g} ms, "
        f"but they take {step_s * 1e3:.3g} ms: something has changed since. The next start plans "
        "anew; envs.retune() does so now, and needs a reset."
    )


def never_collecting(plan: Plan, threads: int | None) -> str:
    """That the learner computes with other threads, as far as known, than the plan counts on."""
    now = "as before" if threads is None else f"with {threads} threads"
    return (
        f"The plan for {plan.env} counts on {plan.learner_threads} thread(s) for the learner while "
        f"steps are made, but it computes {now}: the loop has never entered envs.collecting(). "
        'Write "with envs.collecting():" around the rollout, or leave learner_threads out.'
    )


def slower_than_planned(plan: Plan, planned_s: float, step_s: float, span_s: float) -> str:
    """That vector steps have long been slower than planned."""
    return (
        f"For {span_s:.0f} s vector steps of {plan.env} have taken {step_s * 1e3:.3g} ms, where "
        f"the plan counted on {planned_s * 1e3:.3g} ms. Mode {plan.mode!r} stays; envs.retune() "
        "changes it if another has become better, and needs a reset then."
    )
