"""The processes of a pool's workers: started once for all buffers, watched and ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vecselect.backends.pool.link import Memory, Port, Signal, new_memory
from vecselect.process import contexts, pickling
from vecselect.process.forkserver import THREAD_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from vecselect.backends.pool.lane import Work

SERVE = "vecselect.backends.pool.worker:serve"
"""What a worker process runs, by name: it is imported there, once variables are set."""


class Host:
    """A worker process, which has a lane for each buffer.

    It stands for its process, of which it knows the exit code after that was closed too.

    Attributes:
        process: The process.
        go: Given by the caller when there is something to do, for whichever lane.
        ports: The caller's ends, one for each buffer.
        controls: The control blocks of its lanes.
        lost: Why it was ended, where one of its lanes was to be replaced.
    """

    def __init__(self, process: BaseProcess, go: Signal, ports: Sequence[Port]) -> None:
        self.process = process
        self.go = go
        self.ports = ports
        self.controls: list[Any] = []
        self.lost: Exception | None = None
        self._exitcode: int | None = None
        self._is_closed = False

    @property
    def exitcode(self) -> int | None:
        """The exit code of the process; None if it runs."""
        if self._exitcode is None and not self._is_closed:
            self._exitcode = self.process.exitcode
        return self._exitcode

    def join(self, timeout_s: float) -> None:
        """Waits for the end of the process."""
        if not self._is_closed:
            self.process.join(timeout_s)

    def terminate(self) -> None:
        """Tells the system to end the process."""
        if not self._is_closed:
            self.process.terminate()

    def kill(self) -> None:
        """Kills the process."""
        if not self._is_closed:
            self.process.kill()

    def hang_up(self) -> None:
        """Closes what led to it; twice does nothing."""
        self.forget_names()
        for port in self.ports:
            port.pipe.close()

    def close(self) -> None:
        """Closes what led to it, and the process too once that has ended; twice does nothing."""
        self.hang_up()
        if self.exitcode is not None and not self._is_closed:
            self._is_closed = True
            self.process.close()

    def send(self, work: Work) -> None:
        """Has it build the lane of one more buffer."""
        self.ports[work.buffer or 0].pipe.send_bytes(pickling.dumps(work))
        self.go.give()

    def forget_names(self) -> None:
        """Removes the names of the semaphores, which the worker has opened or will never need."""
        for signal in (self.go, *(port.done for port in self.ports)):
            signal.forget_name()


class Hosts:
    """The worker processes that all buffers of a batch share.

    Attributes:
        memories: The block of memory that each buffer shares with them.
    """

    def __init__(self, buffers: int = 1, first: Host | None = None) -> None:
        """Has none yet.

        Args:
            buffers: The number of buffers.
            first: The process that is to be the first worker, where one was started to profile.
        """
        if first is None:
            self.memories: list[Memory] = [new_memory() for _ in range(buffers)]
        else:
            self.memories = [port.memory for port in first.ports]
        self._running = {} if first is None else {0: first}

    def get(self, index: int) -> Host | None:
        """The process of a worker; None if it was not started, or has ended."""
        host = self._running.get(index)
        return host if host is not None and host.exitcode is None else None

    def start(
        self,
        context: BaseContext,
        task: Any,
        *,
        index: int,
        daemon: bool,
        threads: int,
        serve: str = SERVE,
        more: tuple[Any, ...] = (),
    ) -> Host:
        """Starts the process of a worker, which takes up its task by itself.

        Args:
            context: Of multiprocessing.
            task: What it begins with: see `worker.serve`.
            index: Of the worker.
            daemon: Whether it is a daemon, which may not start processes itself.
            threads: Threads that its numerical libraries may start, where the user has not told
                them.
            serve: What it runs, by name: `worker.serve`, or what takes more arguments.
            more: These arguments.

        Raises:
            StartError: If the system refuses that.
        """
        go = Signal(context)
        ours: list[Port] = []
        theirs: list[Port] = []
        variables = {key: str(threads) for key in THREAD_VARIABLES if key not in os.environ}
        try:
            for memory in self.memories:
                done, ends = Signal(context), context.Pipe()
                for side, pipe in zip((ours, theirs), ends, strict=True):
                    side.append(Port(memory, done, pipe))
            process = context.Process(  # type: ignore[attr-defined]
                target=contexts.run_with_variables,
                args=(variables, serve, pickling.dumps(task), go, theirs, *more),
                name=f"vecselect-pool-{index}",
                daemon=daemon,
            )
            host = Host(process, go, ours)
            process.start()
        except BaseException:
            for signal in (go, *(port.done for port in ours)):
                signal.forget_name()
            for port in ours:
                port.pipe.close()
            raise
        finally:
            for port in theirs:
                port.pipe.close()
        self._running[index] = host
        return host
