"""The fork server: a process that starts workers by forking itself, and reaps them.

It has one thread and none of the caller's state, so that forking it is safe, where forking the
caller, with its threads and their locks, is not. It differs from multiprocessing's own in this:

- it runs neither the user's script nor a module that happens to lie in the working folder;
- each worker gets the caller's environment variables, umask and usable cores as they are when it
  is started, before anything is imported in it;
- it imports the modules of environments that the caller has loaded, where those are installed, so
  that workers need not: MuJoCo alone takes 0.1 s;
- it ends with the process that started it, even where a forked sibling of that one lives on, or
  once nobody can ask it any more and its workers have ended;
- it kills the process group of a worker that has ended before it reaps it: until then, no other
  process can have the worker's process id.

`posix` shows who sends what to whom. This module runs in the processes that ask for workers,
`forkserver_main` in the server.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from multiprocessing import resource_tracker, spawn, util
from multiprocessing.forkserver import read_signed
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from vecselect.errors import StartError, refusals_named
from vecselect.process.interrupts import start_with_deferred_interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What numerical libraries read, when they are loaded, to know how many threads to start."""

PRELOADED: tuple[str, ...] = (
    "numpy",
    "gymnasium",
    "vecselect.backends.pool.link",
    "vecselect.backends.pool.worker",
)
"""Modules that the server imports when it starts; what they import, no worker has to."""

LOOK_S = 0.25
"""Seconds between two looks whether a parent is there, where no descriptor tells of its end."""

START, IMPORT = b"s", b"i"
"""Requests: to start a worker, or to import modules. Descriptors come with them."""

IMPORTED = b"+"
"""What the server answers when it has imported modules and may still be forked."""

IMPORT_LIMIT_S = 60.0
"""Seconds that the server may take to import modules, or another one is used."""

INSTALLED_IN = frozenset({"site-packages", "dist-packages"})
"""Folders whose modules do not change while a program runs, as those of the user may."""


@dataclass
class Server:
    """The fork server as its clients see it: the processes that have workers started by it.

    Attributes:
        channel: On which it is asked; shared by all processes that ask the same server.
        pid: Its process id, where it is a child of this process.
        conditions: The `import_conditions` under which it imports modules.
        modules: Those it has imported beside `PRELOADED`.
    """

    channel: socket.socket
    pid: int | None
    conditions: Any
    modules: frozenset[str] = frozenset()

    def has_ended(self) -> bool:
        """Whether it has exited. If it is no child of this process, only a failed request tells."""
        if self.pid is None:
            return False
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # somebody else has waited for it
            return True

    def imports_like_us(self) -> bool:
        """Has it import what `environment_modules` names; False where it cannot, or must not.

        That is so where what it has imported is not what this process would import now.
        """
        new = environment_modules() - self.modules
        if self.conditions != import_conditions():
            return not self.modules
        if not new:
            return True
        self.modules |= new
        ours, theirs = socket.socketpair()
        with ours, contextlib.suppress(OSError):  # it takes too long, or has ended
            with theirs:
                socket.send_fds(self.channel, [IMPORT], [theirs.fileno()])
            ours.settimeout(IMPORT_LIMIT_S)
            ours.sendall("\n".join(sorted(new)).encode())
            ours.shutdown(socket.SHUT_WR)
            return ours.recv(1) == IMPORTED
        return False


lock: threading.RLock = threading.RLock()
_server: Server | None = None
_imports = True
"""Whether servers import modules. None does any more once what one had imported was not what it
would be here: a program may change a variable for each of its vector environments, and a new server
takes longer than an import."""


def running_server() -> Server:
    """The server that this process uses; starts one if none is usable."""
    global _server
    with lock:
        if _server is not None and _server.has_ended():
            forget_server()
        if _server is None:
            _server = _start_server()
        return _server


def _importing_server() -> Server:
    """The server, once it has imported what workers would; where it cannot, one without imports."""
    global _imports
    server = running_server()
    if _imports and not server.imports_like_us():
        _imports = False
        forget_server()
    return running_server()


def ensure_running() -> int | None:
    """Starts the server unless it runs; returns its process id if it is a child of this process."""
    with refusals_named():
        resource_tracker.ensure_running()
        with start_with_deferred_interrupts():
            return running_server().pid


def use_server(server: Server | None) -> None:
    """Sets the server that this process uses; None to start one of its own."""
    global _server
    _server = server


def forget_server() -> None:
    """Drops the current server: the next worker gets a new one, and it exits after its workers."""
    if _server is not None:
        _server.channel.close()
    use_server(None)


def environment_modules() -> frozenset[str]:
    """Names of the installed modules with registered environments that are loaded here."""
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None:
        return frozenset()
    points = [spec.entry_point for spec in list(gymnasium.registry.values())]
    names = {point.partition(":")[0] for point in points if isinstance(point, str)}
    found = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return frozenset(
        name for name, file in found.items() if file and INSTALLED_IN & set(PurePath(file).parts)
    )


def import_conditions() -> tuple[Any, ...]:
    """What importing a module depends on, except `THREAD_VARIABLES`, which the server sets."""
    variables = {key: value for key, value in os.environ.items() if key not in THREAD_VARIABLES}
    return variables, list(sys.path), os.getcwd()


def start_worker(
    start: int, status: tuple[int, int], tracker: int, inherited: Sequence[int]
) -> int:
    """Has the server start a worker; returns the worker's process id.

    Args:
        start: Descriptor of the pipe that the worker reads from; closed here.
        status: Descriptors of the two ends of the pipe through which the server tells its process
            id, and its exit code later; the second one is closed here.
        tracker: Descriptor of the resource tracker's pipe.
        inherited: Descriptors that the worker itself uses.
    """
    try:
        with lock:
            server = _importing_server()
            files = [status[1], start, tracker, server.channel.fileno(), *inherited]
            socket.send_fds(server.channel, [START], files)
    except ConnectionError:
        raise _lost(server) from None
    finally:  # the end of the server shows only where nobody else holds its end of the status pipe
        close_files(start, status[1])
    try:
        pid = int(read_signed(status[0]))
    except EOFError:
        raise _lost(server) from None
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def _lost(server: Server) -> StartError:
    """Drops a server that has exited, and returns the error to raise."""
    how = "has ended"
    with contextlib.suppress(ChildProcessError):
        if server.pid is not None:
            how += f" with code {os.waitstatus_to_exitcode(os.waitpid(server.pid, 0)[1])}"
    with lock:
        if server is _server:
            forget_server()
    return StartError(
        f"A worker process cannot be started: the fork server, which starts them, {how}. What "
        'it wrote to stderr says why; vector_kwargs={"context": "spawn"} does without it.'
    )


def _start_server() -> Server:
    """Starts a server."""
    ours, theirs = socket.socketpair()
    owner = open_own_pidfd()
    # With `-c`, the working folder comes first on `sys.path`: a `random.py` there would be taken
    # for the library's.
    code = (
        f"import sys; sys.path[:] = {preparation('')['sys_path']!r}; "
        "from vecselect.process.forkserver_main import main; "
        f"main({theirs.fileno()}, {owner}, {PRELOADED!r})"
    )
    program: Any = spawn.get_executable()
    arguments = [program, *util._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]
    files = [file for file in (theirs.fileno(), owner) if file >= 0]
    try:
        pid = util.spawnv_passfds(program, arguments, files)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        close_files(owner)
    util.Finalize(None, forget_server, exitpriority=-100)
    return Server(ours, pid, import_conditions())


def open_own_pidfd() -> int:
    """A descriptor that becomes readable when this process exits; -1 where the system has none."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(os.getpid())
    return -1


def close_files(*files: int) -> None:
    """Closes descriptors; ignores negative ones, which mean none."""
    for file in files:
        if file >= 0:
            os.close(file)


def preparation(name: str) -> dict[str, Any]:
    """What a new process needs first: multiprocessing's data, variables, umask, cores."""
    data = without_script(spawn.get_preparation_data(name))
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return {**data, "environ": dict(os.environ), "umask": _umask(), "cores": cores}


def without_script(data: dict[str, Any]) -> dict[str, Any]:
    """Preparation data without the user's script: what the script defines is pickled by value."""
    script = ("init_main_from_name", "init_main_from_path")
    return {key: value for key, value in data.items() if key not in script}


def _umask() -> int | None:
    """This process's umask; None where reading it would change it."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        if found := re.search(r"^Umask:\s*(\d+)", file.read(), re.MULTILINE):
            return int(found[1], 8)
    return None


def reap(pid: int, block: bool) -> int | None:
    """Kills what is left in the process group of a child that has exited, then reaps the child.

    Until a process is reaped, no other process can have its number.
    """
    if hasattr(os, "waitid"):
        options = os.WEXITED | os.WNOWAIT | (0 if block else os.WNOHANG)
        if os.waitid(os.P_PID, pid, options) is None:
            return None
        with contextlib.suppress(OSError):  # it may lead no group
            os.killpg(pid, signal.SIGKILL)
    ended, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _after_fork_in_child() -> None:
    """In a forked process: forgets the server, which belongs to the parent."""
    global lock
    lock = threading.RLock()
    forget_server()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
