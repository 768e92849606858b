"""Plans remembered on disk: one small JSON file each, so that no lock is needed.

    <folder>/plans/<key>.json       a plan, what it was made for, and what real use showed
    <folder>/machines/<key>.json    what was measured of the machine alone

A file is written beside its place and moved there whole, so a reader finds the old one or the new
one and never a part. Whatever is wrong with a file or the folder, planning goes on without it.
JSON only, never pickle: a folder that several people share must not be able to run code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.errors import PlanError
from vecselect.plan import Plan
from vecselect.plan_checks import EFFORTS
from vecselect.store.files import (
    SCHEMA,
    Unusable,
    check,
    read,
    remove_abandoned,
    sealed,
    warn_once,
    write,
)
from vecselect.store.identity import digest
from vecselect.values import rebuilt
from vecselect.watching import Observed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Observed", "PlanStore", "StoredPlan"]

FORMAT, FORMAT_MANY, FORMAT_MACHINE = "vecselect-plan", "vecselect-plans", "vecselect-machine"

_KEY = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class StoredPlan:
    """One entry of the store.

    Attributes:
        key: Its key, the hash of `fields`.
        plan: The plan.
        fields: What must be the same for the plan to be used again, readable.
        observed: What real use showed; None while nobody has said.
        path: The file.
    """

    key: str
    plan: Plan
    fields: dict[str, Any]
    observed: Observed | None
    path: Path


class PlanStore:
    """The plan store in one folder.

    Args:
        folder: Where it is; by default what `VECSELECT_CACHE_DIR` names, else the user's cache
            folder. It need not exist, and is made when something is saved.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = _default_folder() if folder is None else Path(folder)

    def load(self, key: str) -> StoredPlan | None:
        """The stored plan of a key.

        Returns:
            The entry; None where there is none, or none that can be used. A file that is there and
            cannot be used is warned about once.
        """
        try:
            return self._open(key)
        except Unusable as error:
            warn_once(self._path("plans", key), error, "What it was for is planned again.")
        return None

    def save(
        self,
        key: str,
        plan: Plan,
        fields: Mapping[str, Any],
        observed: Observed | None = None,
    ) -> str | None:
        """Stores a plan in place of what was there.

        Args:
            key: What `key_of(fields)` gives.
            plan: The plan.
            fields: What `plan_key_fields` gave.
            observed: What real use showed.

        Returns:
            None, or a sentence saying why it could not be stored.
        """
        path = self._path("plans", key)
        if path is None:
            return f"The plan could not be stored: {key!r} is no key."
        remove_abandoned(path.parent)
        try:
            write(path, _document(key, plan, fields, observed))
        except OSError as error:
            return f"The plan could not be stored in {path.parent}: {error.strerror or error}."
        return None

    def note_observed(self, key: str, observed: Observed) -> None:
        """Adds to an entry what real use showed. Where that cannot be, nothing happens."""
        path = self._path("plans", key)
        with contextlib.suppress(OSError):
            before = os.stat(path) if path is not None else None
            entry = self._quietly(key)
            if entry is None or before is None:
                return
            # Somebody may have planned anew or forgotten the plan meanwhile: theirs stands.
            if _same_file(before, os.stat(entry.path)):
                document = _document(key, entry.plan, entry.fields, observed)
                write(entry.path, document, durable=False)

    def entries(self) -> list[StoredPlan]:
        """All plans that can be read, the newest first."""
        found = []
        for key in self._keys():
            entry = self.load(key)
            if entry is not None:
                with contextlib.suppress(OSError):
                    found.append((entry.plan.created, os.stat(entry.path).st_mtime_ns, entry))
        return [entry for *_, entry in sorted(found, key=lambda item: item[:2], reverse=True)]

    def resolve(self, prefix: str) -> str:
        """The one key that begins with a prefix, whether its file can be read or not.

        Raises:
            PlanError: If there is none, or more than one.
        """
        keys = [key for key in self._keys() if prefix and key.startswith(prefix)]
        if prefix in keys:
            return prefix
        if not keys:
            raise PlanError(
                f"No stored plan has a key that begins with {prefix!r}; "
                "`vecselect plans list` shows the keys there are."
            )
        if len(keys) > 1:
            raise PlanError(
                f"{len(keys)} stored plans have keys that begin with {prefix!r}: "
                f"{', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}. Give more of the key."
            )
        return keys[0]

    def find(self, key_prefix: str) -> StoredPlan:
        """The one plan whose key begins with a prefix.

        Raises:
            PlanError: If there is none, more than one, or it cannot be read.
        """
        key = self.resolve(key_prefix)
        try:
            entry = self._open(key)
        except Unusable as error:
            raise PlanError(
                f"The stored plan {key} cannot be used: {error}. "
                f"`vecselect plans forget {key}` removes it."
            ) from error
        if entry is None:
            raise PlanError(f"The file of the stored plan {key} cannot be opened.")
        return entry

    def forget(self, prefix: str | None) -> list[str]:
        """Removes every plan whose key begins with a prefix, readable or not.

        Args:
            prefix: The beginning of the keys; None for all plans, and for what was measured of the
                machine too.

        Returns:
            The keys that were removed.

        Raises:
            OSError: If a file cannot be removed.
        """
        keys = self._keys()
        if prefix in keys:
            keys = [prefix]
        elif prefix is not None:
            keys = [key for key in keys if prefix and key.startswith(prefix)]
        for key in keys:
            (self.folder / "plans" / f"{key}.json").unlink(missing_ok=True)
        if prefix is None:
            for path in (self.folder / "machines").glob("*.json"):
                path.unlink(missing_ok=True)
        return keys

    def export_json(self, keys: Iterable[str] | None = None) -> str:
        """Plans as one JSON document, for `import_json` on this or another machine.

        Args:
            keys: Beginnings of the keys to export; None for all that can be read.

        Raises:
            PlanError: If a key names no plan, or more than one.
        """
        entries = self.entries() if keys is None else [self.find(key) for key in keys]
        plans = [_document(one.key, one.plan, one.fields, one.observed) for one in entries]
        return json.dumps({"format": FORMAT_MANY, "schema": SCHEMA, "plans": plans}, indent=2)

    def import_json(self, text: str) -> tuple[list[str], list[tuple[str, str]]]:
        """Stores the plans of a document that `export_json` wrote.

        All are checked before the first is stored. The machine is part of the key, so plans of
        other machines may be stored too: they are found on such a machine only.

        Args:
            text: The document.

        Returns:
            The keys that were stored, and the refused ones, each with why: it is damaged, or a plan
            made with more effort is here already.

        Raises:
            PlanError: If the text is no such document.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"This is no export of vecselect: {error}.") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT_MANY:
            raise PlanError("This is no export of vecselect; `vecselect plans export` writes one.")
        if data.get("schema") != SCHEMA or not isinstance(data.get("plans"), list):
            raise PlanError(
                f"The export has schema {data.get('schema')!r}; this version of vecselect reads "
                f"{SCHEMA}. Export again with a version like this one."
            )
        sound, refused = [], []
        for number, document in enumerate(data["plans"], 1):
            key = document.get("key") if isinstance(document, dict) else None
            name = key if isinstance(key, str) else f"plan {number}"
            try:
                sound.append(self._read_plan(document, name, belonging=True))
            except Unusable as error:
                refused.append((name, str(error)))
        stored = []
        for entry in sound:
            here = self._quietly(entry.key)
            if here is not None and _effort(here.plan) > _effort(entry.plan):
                effort = EFFORTS[_effort(here.plan)]
                refused.append((entry.key, f"a plan made with more effort ({effort}) is here"))
            elif why := self.save(entry.key, entry.plan, entry.fields, entry.observed):
                refused.append((entry.key, why))
            else:
                stored.append(entry.key)
        return stored, refused

    def load_calibration(self, key: str) -> dict[str, Any] | None:
        """What was stored about a machine; None where there is nothing that can be used."""
        path = self._path("machines", key)
        try:
            document = None if path is None else read(path)
            if document is None:
                return None
            check(document, FORMAT_MACHINE, key)
            data = document.get("data")
            if not isinstance(data, dict):
                raise Unusable("it holds no data")
        except Unusable as error:
            warn_once(path, error, "The machine is measured again.")
            return None
        return data

    def save_calibration(self, key: str, data: Mapping[str, Any]) -> None:
        """Stores what was measured of a machine. Where that cannot be, nothing happens."""
        path = self._path("machines", key)
        if path is None:
            return
        remove_abandoned(path.parent)
        document = {"format": FORMAT_MACHINE, "schema": SCHEMA, "key": key, "data": dict(data)}
        with contextlib.suppress(OSError):
            write(path, sealed(document))

    def _keys(self) -> list[str]:
        with contextlib.suppress(OSError):
            files = [Path(name) for name in os.listdir(self.folder / "plans")]
            stems = [file.stem for file in files if file.suffix == ".json"]
            return sorted(stem for stem in stems if _KEY.fullmatch(stem))
        return []

    def _path(self, kind: str, key: str) -> Path | None:
        """The file of a key; None for what is no key, such as a way out of the folder."""
        return self.folder / kind / f"{key}.json" if _KEY.fullmatch(key) else None

    def _open(self, key: str) -> StoredPlan | None:
        """The entry of a key; None if there is none.

        Raises:
            Unusable: If its file is there and cannot be used.
        """
        path = self._path("plans", key)
        document = None if path is None else read(path)
        return None if document is None else self._read_plan(document, key)

    def _quietly(self, key: str) -> StoredPlan | None:
        with contextlib.suppress(Unusable):
            return self._open(key)
        return None

    def _read_plan(self, document: Any, key: str, *, belonging: bool = False) -> StoredPlan:
        """The entry of a document that should have a key.

        `belonging` says whether the key must be that of the fields, which whoever saves sees to.
        """
        check(document, FORMAT, key)
        path = self._path("plans", key)
        fields = document.get("fields")
        if path is None or not isinstance(fields, dict):
            raise Unusable("it does not say what it is for")
        if belonging and digest(fields)[:16] != key:
            raise Unusable("its key is not that of what it is for")
        try:
            plan = Plan.from_json(json.dumps(document.get("plan")))
        except PlanError as error:
            raise Unusable(str(error).rstrip(".")) from error
        return StoredPlan(key, plan, fields, _observed(document.get("observed")), path)


def _default_folder() -> Path:
    if named := os.environ.get("VECSELECT_CACHE_DIR"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vecselect", appauthor=False))


def _document(
    key: str, plan: Plan, fields: Mapping[str, Any], observed: Observed | None
) -> dict[str, Any]:
    return sealed(
        {
            "format": FORMAT,
            "schema": SCHEMA,
            "key": key,
            "fields": dict(fields),
            "observed": None if observed is None else dataclasses.asdict(observed),
            "plan": json.loads(plan.to_json()),
        }
    )


def _observed(data: Any) -> Observed | None:
    if data is None:
        return None
    try:
        observed: Observed = rebuilt(Observed, data)
    except (TypeError, ValueError) as error:
        raise Unusable("what real use showed cannot be read from it") from error
    return observed


def _effort(plan: Plan) -> int:
    """How much measuring a plan rests on, as a rank."""
    return EFFORTS.index(plan.effort)


def _same_file(first: os.stat_result, second: os.stat_result) -> bool:
    return (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)
