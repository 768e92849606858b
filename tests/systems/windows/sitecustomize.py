"""What Windows lacks: see `lacking`."""

import atexit
import contextlib
import mmap
import os
import select
import signal
import socket
import sys
import tempfile

import psutil  # noqa: F401 (it has what it needs, as it would there)

sys.path.insert(1, os.path.dirname(os.path.dirname(__file__)))
import lacking

sys.modules["fcntl"] = sys.modules["resource"] = None
lacking.take_away(select, "poll epoll")
lacking.take_away(signal, "SIGKILL SIGCHLD SIGALRM SIGSTOP pthread_sigmask setitimer")

from multiprocessing import heap, popen_fork  # noqa: E402

heap.Arena._dir_candidates = []
popen_fork.Popen.kill = popen_fork.Popen.terminate
lacking.take_away(os, "fork forkpty getpgid getpgrp killpg register_at_fork setpgid setsid waitid")
lacking.take_away(os, "memfd_create pidfd_open posix_fallocate sched_yield statvfs getloadavg")
lacking.take_away(os, "sched_getaffinity sched_setaffinity sysconf eventfd")
lacking.take_away(socket, "send_fds recv_fds")
lacking.hide_files("/dev/fd")
lacking.start_methods("spawn")


class Mapping(mmap.mmap):
    """A mapping that may have a name, by which other processes find it."""

    def __new__(cls, fileno, length, *arguments, tagname=None, **named):
        if tagname is None:
            return super().__new__(cls, fileno, length, *arguments, **named)
        path = os.path.join(tempfile.gettempdir(), f"mapping-{tagname}")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            atexit.register(os.unlink, path)
        with open(path, "r+b") as file:
            file.truncate(max(length, os.fstat(file.fileno()).st_size))
            return super().__new__(cls, file.fileno(), length)


mmap.mmap = Mapping
lacking.take_away(mmap, "MAP_SHARED MAP_PRIVATE MAP_ANON MAP_ANONYMOUS PROT_READ PROT_WRITE")
