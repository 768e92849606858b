"""The process that profiles one sub-environment and then becomes the pool's first worker.

    caller                                  process
    FirstWorker(...)          start -->     builds one sub-environment, steps it, closes it
    profile()            <-- phases, Probe
    exchange(...)         signals <-->      answers, nothing else
    host.send(work)           Work -->      builds its slice, and serves: see `worker`
    or end()                  None -->      ends

What the environment does there, be it a crash, a hang or a change of global state, cannot harm the
caller.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.processes import Host, Hosts
from vecselect.errors import ProfileError, StepTimeout
from vecselect.factory import note_shown
from vecselect.learner_threads import library_threads
from vecselect.machine import read_machine
from vecselect.measure.probe import TELL_PERIOD_S, ProfileTask
from vecselect.process import children, contexts, generators, pickling
from vecselect.process.isolated import Child, ChildEnded
from vecselect.process.remote_errors import Failed, raised_in_building
from vecselect.selection.evidence import HandOff

if TYPE_CHECKING:
    from vecselect.measure.probe import Probe
    from vecselect.measure.step import Extent
    from vecselect.request import Request

CALL_LIMIT_S = 30.0
"""Seconds that a reset or a step may take."""

CONSTRUCT_LIMIT_S = 120.0
"""Seconds that building may take, which may load assets or start a simulator."""

SPUN_EXCHANGES = 400
WOKEN_EXCHANGES = 24
EXCHANGE_LIMIT_S = 4e-3
"""Seconds after which no further exchange of a kind is made."""

TOGETHER = 2.0
MORE_LOOKS = 5
"""Exchanges that take so many times what they usually take are timed again, up to so often: this
process and the other one share a core until the scheduler moves one, a few of its ticks later."""

ANSWER_LIMIT_S = 2.0
"""Seconds within which the process answers, or is not used: it closes the sub-environment first."""

FAR_OFF = 4.0
"""What is measured counts up to so many times, and from such a part, of what it usually takes."""


class FirstWorker:
    """A process that profiles a sub-environment, from the caller's side."""

    def __init__(self, request: Request, extent: Extent, budget_s: float) -> None:
        """Starts it; it begins to build and step by itself.

        Args:
            request: What was asked for.
            extent: How long to step it.
            budget_s: Seconds after which no further step is begun.

        Raises:
            StartError: If the system refuses to start a process.
        """
        self._has_begun = False  # whether it has said anything
        self._deadlines_s = {key: request.vector_kwargs[key] for key in request.deadlines}
        # Of a list of callables the last one: where one of them records, it is the first.
        env_fn = request.env_fns[0 if request.spec is not None else -1]
        # What a step may compute in, as far as there are cores for them.
        threads = max(min(library_threads(), int(read_machine().cores)), 1)
        self.host: Host = Host(
            contexts.get_context(request.vector_kwargs.get("context")),
            Hosts(request.buffers).memories,
            ProfileTask(env_fn, extent, budget_s, generators.child_seed(), threads),
            index=0,
            daemon=bool(request.vector_kwargs.get("daemon", False)),
            threads=1,
        )
        self._done, self._pipe = self.host.ports[0].done, self.host.ports[0].pipe

    def profile(self) -> Probe:
        """Waits for what stepping the sub-environment costs.

        Raises:
            Exception: What building the environment raised.
            StepTimeout: If a call does not return within the deadline that the user has set.
            ProfileError: If it raises later (its exception is chained), its process dies, or a call
                does not return within the limit that holds without a deadline.
        """
        child = Child(self.host.process, self._pipe)
        phase = "its constructor"
        until_s, too_late = self._deadline(phase)
        while True:
            if not child.wait(max(until_s - time.monotonic(), 0.0)):
                child.kill()
                raise too_late
            try:
                message: Any = child.receive()
            except ChildEnded as ended:
                raise ProfileError(
                    f"The environment's process {ended} in {phase} while it was being measured. "
                    "Run one environment alone to see why."
                ) from None
            if isinstance(message, Failed):  # the environment could not be loaded there
                message = "not built", message.error
            topic, value = message
            self._has_begun = True
            if topic == "phase":
                if value != "its constructor":  # which is to be over in time with the start
                    phase = value
                    until_s, too_late = self._deadline(phase)
            elif topic == "failed":
                text, error = value
                raise ProfileError(text) from error.rebuilt()
            elif topic == "not built":
                raise raised_in_building(value)
            else:
                self.host.forget_names()
                found: Probe = value
                note_shown(found.warned)
                return found

    def _deadline(self, phase: str) -> tuple[float, Exception]:
        """When a call that begins now must have returned, and what is raised where it has not."""
        builds = phase == "its constructor"
        key = "start_timeout_s" if builds else "step_timeout_s"
        given_s = self._deadlines_s.get(key)
        allowed_s = given_s or (CONSTRUCT_LIMIT_S if builds else CALL_LIMIT_S)
        within = f"{allowed_s:g} s" if given_s is None else f"{key}={given_s:g}"
        error = ProfileError if given_s is None else StepTimeout
        # Not every step is told of.
        until_s = time.monotonic() + allowed_s + (0.0 if builds else TELL_PERIOD_S)
        return until_s, error(
            f"The environment did not return from {phase} within {within} while it was being "
            f"measured; its process was ended. If it needs longer, give a larger {key}, as in "
            f'vector_kwargs={{"{key}": {10 * allowed_s:g}}}, or pin a mode, which skips measuring: '
            'auto_make_vec(..., mode="pool:1").'
        )

    def measure_hand_off(self) -> HandOff | None:
        """Times empty exchanges with this process, awake and asleep; some 5 ms in all.

        Returns:
            An empty list if the process does not answer.
        """
        usual = HandOff()
        for _ in range(1 + MORE_LOOKS):
            spun_s = self._exchanges(SPUN_EXCHANGES, tries=2000)
            if not spun_s or _faster_quarter(spun_s) <= TOGETHER * usual.spun_s:
                break
        woken_s = self._exchanges(WOKEN_EXCHANGES, tries=0)
        if not spun_s or not woken_s:
            return None
        spun, woken = (
            min(max(_faster_quarter(times_s), usual_s / FAR_OFF), usual_s * FAR_OFF)
            for times_s, usual_s in ((spun_s, usual.spun_s), (woken_s, usual.woken_s))
        )
        return HandOff(spun, woken, measured=True)

    def _exchanges(self, count: int, tries: int) -> list[float]:
        """Seconds of so many exchanges, both sides sleeping after so many tries.

        An empty list if the process does not answer.
        """
        go, done, clock = self.host.go, self._done, time.perf_counter
        limit_s = clock() + ANSWER_LIMIT_S

        def left_s() -> float:
            return limit_s - clock()

        times_s: list[float] = []
        try:
            self._pipe.send_bytes(pickling.dumps(("exchange", tries)))
            if not done.take(0, self._need_alive, left_s):
                return []
            until_s = clock() + EXCHANGE_LIMIT_S
            while not times_s or (len(times_s) < count and clock() < until_s):
                start_s = clock()
                go.give()
                if not done.take(tries, self._need_alive, left_s):
                    return []
                times_s.append(clock() - start_s)
            self._pipe.send_bytes(pickling.dumps("enough"))
            go.give()
        except ConnectionError:
            return []
        return times_s

    def _need_alive(self) -> None:
        """Raises `ConnectionError` if the process has ended."""
        if self.host.exitcode is not None:
            raise ConnectionError

    def end(self) -> None:
        """Has it end, without waiting for that; twice does nothing."""
        host, pipe = self.host, self._pipe
        if pipe.closed:
            return
        with contextlib.suppress(OSError):  # it has ended already
            if not self._has_begun and not pipe.poll():
                # It is being started, and would complain of the names that are gone. Nothing of
                # the user's runs there yet.
                host.kill()
        with contextlib.suppress(OSError):  # here too
            pipe.send_bytes(pickling.dumps(None))
        host.hang_up()
        children.end_in_background([host])


def _faster_quarter(times_s: list[float]) -> float:
    """What the faster quarter takes at the most: other programs only ever add time."""
    return sorted(times_s)[len(times_s) // 4]


def profiled(request: Request, extent: Extent, budget_s: float) -> Probe:
    """Profiles one sub-environment in a process that ends after that.

    Arguments and errors are those of `FirstWorker` and of its `profile`.
    """
    first = FirstWorker(request, extent, budget_s)
    try:
        return first.profile()
    finally:
        first.end()
