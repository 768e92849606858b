"""Plans on disk, and what runs with them have shown: a small JSON file for each plan.

    <folder>/plans/<digest>.json    a plan, what it is for, and observed runs by script
    <folder>/sweeps/<digest>.json   a sweep, which tells how many sub-environments are enough
    <folder>/cache.lock             held while a file is read and written again
    <folder>/planning-<host>.lock   held by the one start that may measure

A file is written beside its place and moved there whole, so a reader finds the old one or the new
one. JSON only, never pickle: a file must not be able to run code. What is read is held against the
request like anything a user writes. Trouble with files never stops a run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.errors import PlanError, RequestError, warn
from vecselect.modes import KINDS, Mode
from vecselect.plan import Plan
from vecselect.planning.plan_key import Key
from vecselect.selection.evidence import ObservedRun
from vecselect.sweeps import Sweep
from vecselect.values import exactly, read_at_most, rebuilt

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

FORMAT, SCHEMA = "vecselect-plan", 1

MOST_DAYS, MOST_PROVISIONAL_DAYS = 90, 7
"""After so many days a plan is made anew; sooner where it was made on a busy machine."""

MOST_PLANS = 500
MOST_SCRIPTS = 8
MOST_BYTES = 4 << 20
ABANDONED_S = 24 * 3600.0
LOCK_WAIT_S = 1.0

ObservedRuns = dict[str, tuple[ObservedRun, ...]]
"""By script, what its runs have shown."""

_DIGEST = re.compile(r"[0-9a-f]{16}")
_warned: set[str] = set()


@dataclass(frozen=True)
class StoredPlan:
    """A plan in the cache, the fields of its key, and what its runs have shown, latest last."""

    key: str
    plan: Plan
    fields: dict[str, Any]
    runs: ObservedRuns
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """What the file holds: of runs, those of the scripts that ran last."""
        document = dataclasses.asdict(self)
        del document["path"]
        document["runs"] = dict([*document["runs"].items()][-MOST_SCRIPTS:])
        return {"format": FORMAT, "schema": SCHEMA, **document}


class PlanCache:
    """The plan cache in one folder. Trouble with its files is never raised.

    Args:
        folder: Where it is; by default what `VECSELECT_CACHE_DIR` names, else the user's cache
            folder. It need not exist, and is made when something is saved.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder: Path = _default_folder() if folder is None else Path(folder)

    def recall(self, key: Key | str, *, kinds: Collection[str] | None = None) -> StoredPlan | None:
        """The plan of a key, or of its digest, if it can still be used; a damaged one is removed.

        Args:
            key: The key.
            kinds: The kinds of modes that can run the request and may be chosen before anything is
                measured; None to leave that unchecked. A plan that was made while fewer could is
                not used, and stays, as one that has expired does: what runs have shown is with it.
        """
        path = self._path(key)
        try:
            stored = _read(path)
        except PlanError:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except OSError:
            return None
        if _expired(stored.plan) is not None:
            return None
        if kinds is not None:
            kind, evidence = Mode.parse(stored.plan.mode).kind, stored.plan.evidence
            if kind not in kinds or not {*kinds} <= {*evidence.kinds, *evidence.ruled_out}:
                return None
        with contextlib.suppress(OSError):
            os.utime(path)  # those not used for longest are removed first
        return stored

    def save(self, key: Key, plan: Plan) -> str | None:
        """Stores a plan in place of what was there; the runs that were observed stay.

        Returns None, or a sentence saying why it could not be stored. Where files cannot be
        written, that is also warned about, once in a process.
        """
        seen: ObservedRuns = {}
        try:
            with self._held():
                with contextlib.suppress(OSError, PlanError):
                    seen = _read(self._path(key)).runs
                stored = StoredPlan(key.digest, plan, key.fields, seen, self._path(key))
                # What could not be recalled is not stored.
                _stored(json.loads(json.dumps(stored.to_dict())), stored.path)
                if (why := _expired(plan)) is not None:
                    raise PlanError(why)
                _write(stored.path, stored.to_dict())
                _evict(stored.path.parent)
        except OSError as error:
            return self._not_written(error)
        except (PlanError, ValueError) as error:
            return f"The plan cannot be stored: {str(error).rstrip('.')}."
        return None

    def save_sweep(self, key: Key, sweep: Sweep) -> None:
        """Stores a sweep in place of an earlier one; warns, once, where files cannot be written."""
        try:
            with self._held():
                path = self._path(key, "sweeps")
                _write(path, sweep.to_dict())
                _evict(path.parent)
        except OSError as error:
            self._not_written(error)

    def recall_sweep(self, key: Key) -> Sweep | None:
        """The sweep of a key; None where there is none that can be used."""
        try:
            sweep = Sweep.from_json(_content(self._path(key, "sweeps")).decode())
            return sweep if _too_old(sweep.created, MOST_DAYS) is None else None
        except (OSError, PlanError, TypeError, ValueError):
            return None

    def forget_sweeps(self) -> None:
        """Removes all sweeps, as far as that can be."""
        with contextlib.suppress(OSError), os.scandir(self.folder / "sweeps") as found:
            for file in found:
                with contextlib.suppress(OSError):
                    os.unlink(file.path)

    def _not_written(self, error: OSError) -> str:
        """Why nothing can be stored; warned about once in a process."""
        why = f"The plan cache {self.folder} cannot be written: {error.strerror or error}."
        if str(self.folder) not in _warned:
            _warned.add(str(self.folder))
            warn(
                f"{why} Every start will plan anew: set VECSELECT_CACHE_DIR to a folder that can "
                "be written, or pass use_store=False, which ends this warning."
            )
        return why

    def runs(self, key: Key | str, script: str) -> tuple[ObservedRun, ...]:
        """What runs of a script have shown, whether or not their plan can still be used."""
        with contextlib.suppress(OSError, PlanError):
            return _read(self._path(key)).runs.get(script, ())
        return ()

    def observe(self, key: Key | str, script: str, run: ObservedRun) -> None:
        """Adds what a run showed, in place of what it showed before of this mode and threads.

        Where the plan is not there any more, or cannot be written, nothing happens.
        """
        path = self._path(key)
        with contextlib.suppress(OSError, PlanError, ValueError), self._held():
            stored = _read(path)
            seen = dict(stored.runs)
            same = (run.mode, run.threads)
            others = [one for one in seen.pop(script, ()) if (one.mode, one.threads) != same]
            seen[script] = (*others, run)
            stored = dataclasses.replace(stored, runs=seen)
            _write(path, stored.to_dict())

    def forget(self, key: Key | str) -> bool:
        """Removes a plan with its runs; whether there was one that could be removed."""
        try:
            self._path(key).unlink()
        except OSError:
            return False
        return True

    def keys(self) -> list[str]:
        """The digests of all plans, readable or not."""
        with contextlib.suppress(OSError):
            names = [name.removesuffix(".json") for name in os.listdir(self.folder / "plans")]
            return sorted(name for name in names if _DIGEST.fullmatch(name))
        return []

    def entries(self) -> list[StoredPlan]:
        """All plans that could be recalled, the newest first."""
        found = []
        for key in self.keys():
            with contextlib.suppress(OSError, PlanError):
                found.append(_read(self._path(key)))
        found = [stored for stored in found if _expired(stored.plan) is None]
        return sorted(found, key=lambda stored: stored.plan.created, reverse=True)

    @contextlib.contextmanager
    def planning_lock(self) -> Iterator[bool]:
        """Holds a lock among the starts on this machine that plan at the same time.

        Yields whether this start may measure: not while another one does; True where nothing can
        be locked.
        """
        host = re.sub(r"[^\w-]", "-", platform.node())[:64]
        with _locked(self.folder / f"planning-{host}.lock") as held:
            yield held

    def _held(self) -> contextlib.AbstractContextManager[bool]:
        return _locked(self.folder / "cache.lock", LOCK_WAIT_S)

    def _path(self, key: Key | str, folder: str = "plans") -> Path:
        """The file of a key; for what is no digest, such as a way out of the folder, of none."""
        digest = key.digest if isinstance(key, Key) else key
        return self.folder / folder / f"{digest if _DIGEST.fullmatch(digest) else 'none'}.json"


def _default_folder() -> Path:
    if named := os.environ.get("VECSELECT_CACHE_DIR"):
        return Path(os.path.expanduser(named))
    import platformdirs

    return Path(platformdirs.user_cache_dir("vecselect", appauthor=False))


def _stored(document: Any, path: Path) -> StoredPlan:
    """The plan in a document; PlanError if it is damaged, impossible, or not that of this file."""
    try:
        if exactly(dict, document).get("format") != FORMAT or document.get("schema") != SCHEMA:
            raise PlanError("it was not written by a version of vecselect like this one")
        fields = exactly(dict, document.get("fields"))
        key = Key.of(fields).digest
        if document.get("key") != key or path.stem != key:
            raise PlanError("its key is not that of what it is for")
        plan = Plan.from_json(exactly(dict, document.get("plan")))
        runs = rebuilt(ObservedRuns, document.get("runs"))
        _check(plan, fields)
        for one in (one for ones in runs.values() for one in ones):
            Mode.parse(one.mode)
    except (RequestError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PlanError(str(error)) from error
    return StoredPlan(key, plan, fields, runs, path)


def _check(plan: Plan, fields: dict[str, Any]) -> None:
    """Raises unless a plan can be that of the request that it is for."""
    evidence, num_envs = plan.evidence, exactly(int, fields.get("num_envs"))
    caller_steps = exactly(bool, fields.get("caller_steps"))
    buffers = exactly(int, fields.get("buffers", 1))
    shape = evidence.num_envs, evidence.caller_steps, evidence.buffers
    if not 1 <= buffers <= num_envs or shape != (num_envs, caller_steps, buffers):
        raise PlanError("it is for another request")
    profile = evidence.profile
    if evidence.hand_off is not None and None in (profile, evidence.loops):
        raise PlanError("it is no plan that vecselect makes")
    known = {*evidence.kinds, *evidence.ruled_out} <= {*KINDS}
    if Mode.parse(plan.mode).kind not in evidence.kinds or not known:
        raise PlanError(f"{plan.mode} could not be chosen")
    if why := Mode.parse(plan.mode).why_not(num_envs, caller_steps, buffers):
        raise PlanError(why)
    most_threads = max(os.cpu_count() or 1, evidence.machine.cores_logical)
    asked = fields.get("learner_threads")
    if plan.learner_threads not in (None, asked, *range(1, most_threads + 1)):
        raise PlanError(f"the learner cannot have {plan.learner_threads} threads")
    _expired(plan)


def _expired(plan: Plan) -> str | None:
    """Why a plan must be made anew, if it must."""
    return _too_old(plan.created, MOST_PROVISIONAL_DAYS if plan.provisional else MOST_DAYS)


def _too_old(created: str, most_days: int) -> str | None:
    """Says so of what was made so many days ago, or in the future; raises if that is no date."""
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(created)
    if -1 <= age.days < most_days:
        return None
    return f"it was made on {created[:10]} and holds for {most_days} days"


def _read(path: Path) -> StoredPlan:
    """The plan in a file; raises `OSError` or `PlanError`."""
    content = _content(path)
    try:
        return _stored(json.loads(content), path)
    except (ValueError, RecursionError) as error:
        raise PlanError(str(error)) from error


def _content(path: Path) -> bytes:
    # Opening a pipe would otherwise wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        return read_at_most(file, MOST_BYTES, str(path))


def _write(path: Path, document: dict[str, Any]) -> None:
    """Puts a file in its place in one move; nobody else may read it, since it tells what one runs.

    Raises `OSError` if it cannot be written; nothing is left behind then.
    """
    content = json.dumps(document, allow_nan=False).encode()
    path.parent.mkdir(mode=0o700, exist_ok=True)  # the one above is made with the lock
    beside = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _evict(folder: Path) -> None:
    """Removes the plans not used for longest beyond so many, and what killed writers left."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        files = []
        for file in found:
            with contextlib.suppress(OSError):  # another process has removed it, or it is damaged
                files.append((file.stat(follow_symlinks=False).st_mtime, file.path))
        files.sort()
        now_s = time.time()
        plans = [path for _, path in files if path.endswith(".json")]
        left = [path for at, path in files if path.endswith(".tmp") and now_s - at > ABANDONED_S]
        for path in plans[:-MOST_PLANS] + left:
            with contextlib.suppress(OSError):
                os.unlink(path)


@contextlib.contextmanager
def _locked(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Holds a lock on a file, which ends with the process; yields False if another one holds it.

    True where nothing can be locked: other systems, file systems without locks, a folder that
    cannot be written.
    """
    descriptor, held = None, True
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        held = fcntl is None or _lock(descriptor, time.monotonic() + wait_s)
    except OSError:
        pass
    try:
        yield held
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                if fcntl is not None:
                    # For copies of the descriptor too, in a process forked meanwhile.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock(descriptor: int, limit_s: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= limit_s:
                return False
            time.sleep(0.01)
