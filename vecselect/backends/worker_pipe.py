"""The pipe to a worker process: a message passes whole or not at all, and a death is named."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from vecselect import machine
from vecselect.errors import WorkerDied
from vecselect.process import children
from vecselect.process.interrupts import DeferredInterrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection


class WorkerPipe:
    """The caller's end of a pipe to a worker process."""

    def __init__(self, connection: Connection, process: Any, name: Callable[[], str]) -> None:
        """Takes over one end of a pipe.

        Args:
            connection: The end.
            process: The worker's process.
            name: Gives the worker's name, as the beginning of a sentence.
        """
        self.connection = connection
        self.process = process
        self._name = name
        self._lock = threading.Lock()  # held while a message is sent or received
        self._torn = False

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Sends or receives one message within this context; Ctrl-C is raised at its end.

        Where another exception, as a signal's handler raises it, breaks the message off, the worker
        is ended: it would take the next message for the rest of this one. Raises `WorkerDied` if
        the worker has ended.
        """
        if self._torn:
            raise self.ended()
        try:
            with self._lock, DeferredInterrupts(self._tear):
                yield
        except (EOFError, OSError):
            self.process.join(children.END_GRACE_S)
            raise self.ended() from None

    def _tear(self) -> None:
        self._torn = True
        with contextlib.suppress(ValueError):  # it was ended meanwhile
            self.process.kill()

    def death(self) -> WorkerDied | None:
        """How the worker ended; None if it runs."""
        return self.ended() if self._torn or self.process.exitcode is not None else None

    def ended(self) -> WorkerDied:
        """How the worker ended, of which it is known that it has, or will at once."""
        code = self.process.exitcode
        how = f"{children.how_it_ended(code)}.{machine.memory_picture(code)}"
        if self._torn:
            how = (
                "was ended, because an exception (such as one raised by a signal handler) "
                "interrupted a message to or from it, and the rest of it would have been misread."
            )
        return WorkerDied(f"{self._name()} {how}")

    def close_unless_in_use(self, last: bytes | None = None) -> None:
        """Closes it, with a last message, unless whoever closes interrupts another message."""
        if self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    if last is not None:
                        self.connection.send_bytes(last)
            finally:
                self._lock.release()
                self.connection.close()
