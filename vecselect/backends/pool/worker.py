"""The worker's side: a lane that takes commands, and the process that runs it.

A command is a word of 64 bits. The caller writes it into the control block of the arena and gives
the signal `go`; a `REQUEST` has its arguments in the pipe. The worker does it, writes the word back
with a status, and gives the signal `done`.

A process has a lane for each buffer of a batch. All of them share `go`, and each has its own arena,
`done` and pipe: a `Port`. The first lane is what the process is started for; the others are built
when their `Work` comes through their pipes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from gymnasium.vector.utils import batch_space, iterate

from vecselect.backends.pool.arena import Arena, assembled
from vecselect.backends.pool.lane import Lane, LaneFailure
from vecselect.backends.pool.settings import Work, sample_of
from vecselect.backends.specs import difference, draws, facts_of
from vecselect.errors import RequestError, same_instance
from vecselect.learner_threads import seed_torch
from vecselect.process import children, generators, pickling
from vecselect.process.contexts import ParentWatch
from vecselect.process.forkserver import LOOK_S
from vecselect.process.remote_errors import Failed, portable, report_closing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from threading import Event

    import gymnasium as gym

    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.link import Port, Signal
    from vecselect.backends.pool.settings import LaneSpec

    TakeJobs = Callable[[Work, Lane, LaneSpec, Arena, Port, Event], None]

GIVEN, ANSWERED, ENDED = range(3)
"""Words of a worker's control block: the command given last; the one done last, with its status;
whether the worker is to end."""

SILENT, REPLY, FAILED = 0, 1, 2
"""Statuses: all is in the arena; the rest is in the pipe; what stands there is a `Failed`."""

STATUS = 0b11
"""The bits of an answer that hold its status; they are 0 in a command."""

REQUEST, RESET = 0b0100, 0b1000
"""The bits of a command to do what stands in the pipe, or to reset with the arena's seeds and mask;
without both: to step with the arena's actions."""

SLOT_SHIFT, SLOT_BITS = 4, 0b1111
"""Where the slot for observations stands in a command, and how wide."""

FIRST_NUMBER = 1 << 8
"""The number of the first command, in its place in the word; no two commands have the same."""


AT_ONCE_BYTES = 4096
"""A reply of so many bytes fits into an empty pipe on every system."""


class WorkerLane:
    """A lane that takes commands, be it in a process or in a thread.

    Attributes:
        lane: What is stepped.
    """

    def __init__(self, work: Work, spec: LaneSpec, envs: list[gym.Env], arena: Arena) -> None:
        """Makes the lane of a worker, of environments that are built already."""
        self.lane: Lane = Lane(
            envs,
            work.first_row,
            spec,
            arena,
            restart_seeds=work.restart_seeds,
            caught=BaseException,
        )
        self._work, self._spec, self._arena = work, spec, arena
        self._slice = part = slice(work.rows.start, work.rows.stop)
        self._batched_actions = batch_space(spec.action_space, len(envs))
        self._is_plain = arena.plain_actions
        self._action_codes: Any = arena.action_dtypes.data
        # The lane's part of an action leaf, seen as the dtype of a code.
        self._actions_of = functools.cache(lambda index, code: arena.action(index, code)[part])

    def spaces(self) -> tuple[str, list[gym.Space[Any]]]:
        """What is wrong with the spaces, if anything, and the observation spaces if they differ."""
        for row, env in zip(self.lane.rows, self.lane.envs, strict=True):
            if problem := self._spec.mismatch(env, row):
                return problem, []
        if problem := self._unlike_the_callers():
            return problem, []
        if self._spec.same_spaces:
            return "", []
        return "", [env.observation_space for env in self.lane.envs]

    def _unlike_the_callers(self) -> str:
        """A sentence if a sub-environment's spec is not what it is in the caller's process."""
        first = self._work.first_row
        rows = sorted(self._spec.alike.intersection(self.lane.rows))
        built = {row: facts_of(self.lane.envs[row - first]) for row in rows}
        for row, facts in built.items():
            if problem := difference(row, facts, self._spec.facts):
                make = self._work.env_fns[row - first]
                return "" if draws(make, built.values()) else problem
        return ""

    def step(self, slot: int) -> Any:
        """Steps with the actions in the arena.

        Returns:
            What the arena cannot hold: infos and objects; None if there is nothing of it.
        """
        # Copied out of the arena: an environment may keep its action.
        if self._is_plain:
            self.lane.step(self._actions_of(0, self._action_codes[0]).copy(), slot)
        else:
            parts = (self._actions_of(*seen).copy() for seen in enumerate(self._action_codes))
            actions = assembled(self._spec.action_space, parts)
            self.lane.step(iterate(self._batched_actions, actions), slot)
        return self._rest()

    def reset(self, slot: int) -> Any:
        """Resets with the seeds and the mask in the arena, without options; returns as `step`."""
        arena, part = self._arena, self._slice
        seeds = [None if seed < 0 else seed for seed in arena.reset_seeds[part].tolist()]
        self.lane.reset(seeds, None, arena.reset_mask[part].tolist(), slot)
        return self._rest()

    def request(
        self, slot: int, templates: list[Template], name: str, args: tuple[Any, ...]
    ) -> Any:
        """Learns info templates, then calls a method of the lane.

        Args:
            slot: Where observations go.
            templates: What to learn.
            name: Of the method.
            args: Its arguments; for `step` a sequence of actions, or None for those in the arena.
        """
        self.lane.infos.add(templates)
        if name not in ("step", "reset"):
            return getattr(self.lane, name)(*args)
        if args[0] is None:  # of a step: the actions are in the arena
            return self.step(slot)
        getattr(self.lane, name)(*args, slot)
        return self._rest()

    def _rest(self) -> Any:
        """What the last step or reset left that the arena cannot hold; None if nothing."""
        lane = self.lane
        if not lane.infos.rest and not lane.objects:
            return None
        return lane.infos.rest, {path: values[self._slice] for path, values in lane.objects.items()}

    def close(self) -> None:
        """Closes the sub-environments; what one of them raises is written to stderr."""
        try:
            self.lane.close()
        except LaneFailure as failure:
            report_closing(failure.row, failure.__cause__)


def close_all(envs: Sequence[gym.Env], first_row: int) -> None:
    """Closes sub-environments that never got into a lane; says which of them raised in it."""
    for row, env in enumerate(envs, first_row):
        try:
            env.close()
        except Exception as error:
            report_closing(row, error)


class _Ended(Exception):
    """The process is to end: the parent says so, has gone, or was told what could not be built."""


def serve(
    work: bytes, go: Signal, ports: Sequence[Port], take_jobs: TakeJobs | None = None
) -> None:
    """Runs in the process: builds lanes and does what the parent asks for until the end.

    Args:
        work: A pickled `Work`, or a task whose `run` gives one when it is done.
        go: Taken for every command.
        ports: One for each buffer.
        take_jobs: Takes the place of taking commands, where sub-environments step independently.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle.

    def wake() -> None:
        for _ in range(2):  # one may belong to a command that the parent was about to give
            go.give()

    watch = ParentWatch(wake)
    hosted = _Hosted(go, ports, watch.gone)
    try:
        hosted.begin(work, take_jobs)
    except (EOFError, ConnectionError, _Ended):  # or the parent has hung up
        pass
    finally:
        hosted.close()
        watch.end_orphan()


class _Hosted:
    """The lanes of a worker process, one for each buffer that has sent it work."""

    def __init__(self, go: Signal, ports: Sequence[Port], orphaned: Event) -> None:
        self._go = go
        self._ports = ports
        self._orphaned = orphaned
        self._lanes: list[WorkerLane] = []
        self._controls: list[Any] = []

    def close(self) -> None:
        """Closes every lane."""
        for lane in self._lanes:
            lane.close()

    def begin(self, data: bytes, take_jobs: TakeJobs | None) -> None:
        """Builds the first lane, and takes commands until the process is to end: see `serve`."""
        go, port, profiled = self._go, self._ports[0], None
        try:
            task = pickling.loads(data)
            children.prepare_child(task.global_seed)
            if not isinstance(task, Work):  # something to do before it becomes a worker
                found = task.run(go, port.done, port.pipe)
                if found is None:
                    return
                task, profiled = found
                generators.seed_generators(task.global_seed)
        except BaseException as error:
            _tell(port.pipe, Failed(0, "its constructor", portable(error)))
            return
        lane, spec, arena = self._built(task, profiled)
        del profiled
        number = task.buffer or 0
        if take_jobs is None:
            looks = [partial(self._join, number) for number in range(len(self._ports))]
            self._looks: list[Callable[[], bool]] = [*looks]
            self._looks[number] = self._answering(number, lane)
            self._take_commands(task.tries)
            return
        take_jobs(task, lane.lane, spec, arena, self._ports[number], self._orphaned)

    def _built(
        self, task: Work, profiled: gym.Env | None = None
    ) -> tuple[WorkerLane, LaneSpec, Arena]:
        """Builds a lane, and tells the parent how that goes.

        None of its sub-environments may be the instance that was profiled here.
        """
        port = self._ports[task.buffer or 0]
        row, envs = task.first_row, []
        try:
            for make in task.env_fns:
                envs.append(make())
                if profiled is not None and envs[-1].unwrapped is profiled:
                    raise RequestError(same_instance(0, row))
                row += 1
            row = task.first_row
            seed_torch(task.global_seed)
            _tell(port.pipe, sample_of(envs[0]) if task.gives_sample else None)
            spec = _received(port.pipe, self._orphaned)
            if spec is not None:
                arena = Arena(spec.layout, port.memory.mapped(spec.layout.size_bytes()))
                port.memory.forget_descriptor()
                lane = WorkerLane(task, spec, envs, arena)
                _tell(port.pipe, lane.spaces())
        except BaseException as error:
            _tell(port.pipe, Failed(row, "its constructor", portable(error)))
            for env in envs:
                env.close()
            raise _Ended from None
        if spec is None:
            close_all(envs, task.first_row)
            raise _Ended
        self._lanes.append(lane)
        self._controls.append(arena.control[task.index].data)
        return lane, spec, arena

    def _join(self, number: int) -> bool:
        """Builds the lane of one more buffer where that has sent its work; returns whether."""
        pipe = self._ports[number].pipe
        if not pipe.poll():
            return False
        work = pickling.loads(pipe.recv_bytes())
        if work is None:
            raise _Ended
        lane, _, _ = self._built(work)
        self._looks[number] = self._answering(number, lane)
        return True

    def _take_commands(self, tries: int) -> None:
        """Answers commands until it is told to end."""
        acquire, wait, looks = self._go.acquire, self._go.wait, self._looks
        while True:
            if not acquire(False):
                wait(tries)  # without a limit: another thread watches the parent, and gives it too
            served = False
            for look in looks:  # each lane in turn, so that none has to wait for long
                if look():
                    served = True
            # Else woken to end, or given twice: the parent did not know that it was given.
            if not served and (
                self._orphaned.is_set() or any(control[ENDED] for control in self._controls)
            ):
                return

    def _answering(self, number: int, lane: WorkerLane) -> Callable[[], bool]:
        """Makes what does the next command of a lane, and returns whether there was one."""
        control, port = self._controls[-1], self._ports[number]
        pipe, release, step = port.pipe, port.done.release, lane.step
        answered = 0

        def look() -> bool:
            nonlocal answered
            word = control[GIVEN]
            if word == answered:
                return False
            slot = word >> SLOT_SHIFT & SLOT_BITS
            try:
                if word & REQUEST:
                    reply = lane.request(slot, *pickling.loads(pipe.recv_bytes()))
                elif word & RESET:
                    reply = lane.reset(slot)
                else:
                    reply = step(slot)
            except LaneFailure as failure:
                reply = failed_there(failure)
            answered = word
            if reply is None:
                control[ANSWERED] = word
                release()
            else:
                packed = packed_reply(lane.lane, reply)
                control[ANSWERED] = word + (FAILED if isinstance(reply, Failed) else REPLY)
                release()
                # After the signal: a full pipe waits for the parent, which may wait for the lane of
                # another buffer meanwhile.
                if len(packed) > AT_ONCE_BYTES and len(self._ports) > 1:
                    threading.Thread(target=_send, args=(pipe, packed), daemon=True).start()
                else:
                    pipe.send_bytes(packed)
            return True

        return look


def _tell(pipe: Connection, value: Any) -> None:
    """Says how building goes."""
    _send(pipe, pickling.dumps_importable(value))


def _send(pipe: Connection, data: bytes) -> None:
    """Sends a message; a parent that has hung up, or was killed, has no use for it."""
    with contextlib.suppress(OSError):
        pipe.send_bytes(data)


def _received(pipe: Connection, orphaned: Event) -> LaneSpec | None:
    """Waits for what all lanes have in common; None if this one is to end instead."""
    while not orphaned.is_set():
        if pipe.poll(LOOK_S):  # in periods: a forked sibling may hold the other end open
            try:
                return pickling.loads(pipe.recv_bytes())  # type: ignore[no-any-return]
            except (EOFError, ConnectionError):
                return None
    return None


def failed_there(failure: LaneFailure) -> Failed:
    """What a sub-environment of a worker raised, as the caller gets it.

    Raises:
        SystemExit: If it was that, which ends the worker.
    """
    error = failure.__cause__
    assert error is not None
    if isinstance(error, SystemExit):
        raise error from None
    return Failed(failure.row, failure.phase, portable(error), failure.when)


def packed_reply(lane: Lane, reply: Any) -> bytes:
    """A reply as bytes; what cannot be pickled becomes an error that can."""
    try:
        return pickling.dumps_importable(reply)
    except Exception as error:
        row = next(itertools.chain(lane.infos.rows_that_cannot_be_pickled(), lane.rows))
        return pickling.dumps(Failed(row, "sending its answer", portable(error)))
