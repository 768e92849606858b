"""Plans on disk, and what runs with them have shown: a small JSON file for each plan.

    <folder>/plans/<key>.json       a plan, what it is for, and observed runs by script
    <folder>/sweeps/<key>.json      a sweep, which tells how many sub-environments are enough
    <folder>/cache.lock             held while a file is read and written again

A file is written beside its place and moved there whole, so a reader finds the old one or the new
one. JSON only, never pickle: a file must not be able to run code. Trouble with files never stops a
run: what cannot be read is not there, and the next plan takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.errors import warn
from vecselect.modes import Mode
from vecselect.plan import Plan, Sweep, exactly, rebuilt
from vecselect.selection.evidence import ObservedRun

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vecselect.planning.plan_key import Key

MOST_DAYS, MOST_PROVISIONAL_DAYS = 90, 1 / 24
"""After so many days a plan is made anew; sooner where it was made on a busy machine: it counts on
fewer cores, so it may lack the best candidates, which nothing in its runs would show."""

MOST_PLANS = 500
MOST_SCRIPTS = 8
LOCK_WAIT_S = 1.0

ObservedRuns = dict[str, tuple[ObservedRun, ...]]
"""By script, what its runs have shown."""

_warned: set[str] = set()


@dataclass(frozen=True)
class StoredPlan:
    """A plan in the cache, the fields of its key, and what its runs have shown, latest last."""

    key: str
    plan: Plan
    fields: dict[str, Any]
    runs: ObservedRuns
    path: Path

    @property
    def expired(self) -> bool:
        """Whether the plan must be made anew."""
        days = MOST_PROVISIONAL_DAYS if self.plan.provisional else MOST_DAYS
        return _too_old(self.plan.created, days)

    def serves(self, kinds: Collection[str]) -> bool:
        """Whether the plan can be used where these kinds of modes can run and may be chosen.

        One that was made while fewer could is not used.
        """
        kind, evidence = Mode.parse(self.plan.mode).kind, self.plan.evidence
        known = {*evidence.kinds, *evidence.ruled_out}
        return not self.expired and kind in kinds and known.issuperset(kinds)

    def to_dict(self) -> dict[str, Any]:
        """What the file holds: of runs, those of the scripts that ran last."""
        document = dataclasses.asdict(self)
        del document["path"]
        document["runs"] = dict([*document["runs"].items()][-MOST_SCRIPTS:])
        return document


class PlanCache:
    """The plan cache in one folder. Trouble with its files is never raised.

    Args:
        folder: Where it is; by default what `VECSELECT_CACHE_DIR` names, else the user's cache
            folder. It need not exist, and is made when something is saved.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder: Path = _default_folder() if folder is None else Path(folder)

    def recall(self, key: str) -> StoredPlan | None:
        """The plan of a key with what runs have shown, even if it has expired."""
        stored = self._read(key)
        if stored is not None:
            with contextlib.suppress(OSError):
                os.utime(stored.path)  # those not used for longest are removed first
        return stored

    def save(self, key: Key, plan: Plan) -> str | None:
        """Stores a plan in place of what was there; the runs that were observed stay.

        Returns None, or a sentence saying why it could not be stored. Where files cannot be
        written, that is also warned about, once in a process.
        """
        path = self._path(key.digest)
        try:
            with self._held():
                earlier = self._read(key.digest)
                seen = earlier.runs if earlier else {}
                _write(path, StoredPlan(key.digest, plan, key.fields, seen, path).to_dict())
                _evict(path.parent)
        except OSError as error:
            return self._not_written(error)
        except ValueError as error:
            return f"The plan cannot be stored: {error}."
        return None

    def save_sweep(self, key: Key, sweep: Sweep) -> None:
        """Stores a sweep in place of an earlier one; warns, once, where files cannot be written."""
        path = self._path(key.digest, "sweeps")
        try:
            with self._held():
                _write(path, sweep.to_dict())
                _evict(path.parent)
        except OSError as error:
            self._not_written(error)

    def recall_sweep(self, key: Key) -> Sweep | None:
        """The sweep of a key; None where there is none that can be used."""
        try:
            sweep = Sweep.from_json(self._path(key.digest, "sweeps").read_text())
        except (OSError, ValueError):
            return None
        return None if _too_old(sweep.created, MOST_DAYS) else sweep

    def forget_sweeps(self) -> None:
        """Removes all sweeps, as far as that can be."""
        shutil.rmtree(self.folder / "sweeps", ignore_errors=True)

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

    def observe(self, key: str, script: str, run: ObservedRun) -> None:
        """Adds what a run showed, in place of what it showed before of this mode and threads.

        Where the plan is not there any more, or cannot be written, nothing happens.
        """
        with contextlib.suppress(OSError, ValueError), self._held():
            stored = self._read(key)
            if stored is None:
                return
            seen = dict(stored.runs)
            same = (run.mode, run.threads)
            others = [one for one in seen.pop(script, ()) if (one.mode, one.threads) != same]
            seen[script] = (*others, run)
            _write(stored.path, dataclasses.replace(stored, runs=seen).to_dict())

    def forget(self, key: str) -> bool:
        """Removes a plan with its runs; whether there was one that could be removed."""
        try:
            self._path(key).unlink()
        except OSError:
            return False
        return True

    def keys(self) -> list[str]:
        """The keys of all plans, readable or not."""
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(self.folder / "plans"))
            return [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return []

    def entries(self) -> list[StoredPlan]:
        """All plans that are not too old, the newest first; a provisional one may have expired."""
        found = [stored for stored in map(self._read, self.keys()) if stored]
        found = [stored for stored in found if not _too_old(stored.plan.created, MOST_DAYS)]
        return sorted(found, key=lambda stored: stored.plan.created, reverse=True)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Holds a lock on the cache, which ends with the process.

        After a while it goes on without, and so it does where nothing can be locked: other systems,
        file systems without locks.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        until_s = time.monotonic() + LOCK_WAIT_S
        with open(self.folder / "cache.lock", "ab") as file:
            while fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until_s:
                        break
                    time.sleep(0.01)
                except OSError:
                    break
            try:
                yield
            finally:
                if fcntl is not None:
                    with contextlib.suppress(OSError):
                        # For copies of the descriptor too, in a process forked meanwhile.
                        fcntl.flock(file, fcntl.LOCK_UN)

    def _path(self, key: str, folder: str = "plans") -> Path:
        return self.folder / folder / f"{key}.json"

    def _read(self, key: str) -> StoredPlan | None:
        """The plan in a file; None where there is none, or it is damaged."""
        path = self._path(key)
        try:
            if not path.is_file():  # a pipe would have us wait for a writer
                return None
            document = exactly(dict, json.loads(path.read_bytes()))
            plan = Plan.from_json(exactly(dict, document.get("plan")))
            fields = exactly(dict, document.get("fields"))
            runs = rebuilt(ObservedRuns, document.get("runs"))
        except (OSError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        return StoredPlan(key, plan, fields, runs, path)


def _default_folder() -> Path:
    if named := os.environ.get("VECSELECT_CACHE_DIR"):
        return Path(os.path.expanduser(named))
    import platformdirs

    return Path(platformdirs.user_cache_dir("vecselect", appauthor=False))


def _too_old(created: str, most_days: float) -> bool:
    """Whether something was made so many days ago, in the future, or at no time at all."""
    try:
        now = datetime.datetime.now(datetime.timezone.utc)
        age = now - datetime.datetime.fromisoformat(created)
    except (TypeError, ValueError):
        return True
    return not -1 <= age / datetime.timedelta(days=1) < most_days


def _write(path: Path, document: dict[str, Any]) -> None:
    """Puts a file in its place in one move; nobody else may read it, since it tells what one runs.

    Raises `OSError` if it cannot be written, `ValueError` for a number that JSON does not know;
    nothing is left behind then.
    """
    content = json.dumps(document, allow_nan=False).encode()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _evict(folder: Path) -> None:
    """Removes the plans not used for longest beyond so many."""
    with contextlib.suppress(OSError):  # another process removes files too: the next one does it
        files = sorted((file.lstat().st_mtime, file) for file in folder.iterdir())
        for _, file in files[:-MOST_PLANS]:
            file.unlink()
