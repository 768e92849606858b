"""The case's side of the harness: what runs in the process of its own."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from tests.faults.census import MARK, describe, descriptors, helpers, marked, name_own
from vecselect import contexts, forkserver

PRELOADED = ["gymnasium", "tests.faults.envs"]


def run(target, arguments, folder, inside):
    """Runs a case: the first thing in its process.

    Args:
        target: `module:function`.
        arguments: Of the function, as JSON.
        folder: For the result.
        inside: Whether the census inside of the process is taken.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    forkserver.PRELOADED += tuple(PRELOADED)
    name_own()
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    function = getattr(function, "body", function)
    if int(inside):
        resource_tracker.ensure_running()
        contexts.ensure_fork_server()
    before = descriptors()
    result = {"error": None}
    try:
        result["value"] = function(**json.loads(arguments))
    except (Exception, pytest.fail.Exception):
        result["error"] = traceback.format_exc()
    if int(inside):
        gc.collect()
        until_s = time.monotonic() + 1.0
        while (left := _others()) and time.monotonic() < until_s:
            time.sleep(0.02)
        after = descriptors()
        zombies = [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
        result["children"] = left + [f"zombie {one.pid}" for one in zombies]
        result["descriptors"] = sorted(after[one] for one in after.keys() - before.keys())
    Path(folder, "result.json").write_text(json.dumps(result, default=str))


def _others():
    mark = os.environ[MARK].rpartition("/")[2]
    kept = helpers()
    return [describe(one) for one in marked(mark, os.getsid(0)) if one.pid not in kept]


if __name__ == "__main__":
    run(*sys.argv[1:])
