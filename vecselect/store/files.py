"""One JSON file of the plan store: written whole or not at all, and checked when read."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
import uuid
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

from vecselect.errors import PlanError, VecselectWarning
from vecselect.store.identity import digest

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
"""Number of the form of the files; that of the plan inside is its own."""

MAX_BYTES = 16 << 20
MAX_MANY_BYTES = 256 << 20
"""The most that is read of a file that holds one plan, and of one that holds many."""

ABANDONED_S = 24 * 3600.0

_warned: set[str] = set()


class Unusable(Exception):
    """A file that is there and cannot be used; the message is the reason."""


def warn_once(path: Path | None, error: Unusable, instead: str) -> None:
    """One warning per process and file."""
    if path is not None and str(path) not in _warned:
        _warned.add(str(path))
        text = f"{path} in vecselect's store cannot be used: {error}. {instead}"
        warnings.warn(text, VecselectWarning, stacklevel=3)


def warn_unwritable(folder: Path, why: str) -> None:
    """One warning per process and folder of plans that cannot be written."""
    if str(folder) not in _warned:
        _warned.add(str(folder))
        text = (
            f"{why} So this is planned anew at every start. Name another folder with "
            "VECSELECT_CACHE_DIR, or do without: use_store=False."
        )
        warnings.warn(text, VecselectWarning, stacklevel=3)


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """A document with its checksum, as it will be when it is read again."""
    document = json.loads(json.dumps(document))
    return {**document, "checksum": digest(document)}


def write(path: Path, document: dict[str, Any], *, durable: bool = True) -> None:
    """Puts a file in its place in one move; leaves nothing behind where that fails.

    It, and folders that are made for it, are the user's alone to read.
    """
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.stem}.{uuid.uuid4().hex}-{os.getpid()}.tmp")
    try:
        with open(beside, "x", encoding="utf-8", opener=_open_for_the_user_alone) as file:
            json.dump(document, file, indent=1)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _open_for_the_user_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read(path: Path) -> Any:
    """What a file holds; None where it, or the folder, is not there or may not be read."""
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unusable("it is no regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError:
        return None
    if len(content) > MAX_BYTES:
        raise Unusable(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unusable("it is damaged, or not written by vecselect") from error
    # JSON may hold the very value that stands for a missing file.
    return {} if document is None else document


def read_at_most(file: BinaryIO, most_bytes: int, name: str) -> str:
    """The text of a file that a user named; some files have no end.

    Args:
        file: Opened for reading.
        most_bytes: A larger file is refused.
        name: What the error calls it.

    Raises:
        PlanError: If it is larger, or no text.
    """
    content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise PlanError(f"{name} is larger than {most_bytes >> 20} MiB, so it holds no plans.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PlanError(f"{name} holds no plans: {error}.") from error


def check(document: Any, form: str, key: str) -> None:
    """Refuses what is not a whole document of a form and key, written by a version like this."""
    if not isinstance(document, dict) or document.get("format") != form:
        raise Unusable("it was not written by vecselect")
    if document.get("schema") != SCHEMA:
        raise Unusable(
            f"it has schema {document.get('schema')!r}, and this version of vecselect reads "
            f"{SCHEMA}"
        )
    if document.get("key") != key:
        raise Unusable(f"it belongs to the key {document.get('key')!r}")
    rest = {name: part for name, part in document.items() if name != "checksum"}
    try:
        fits = document.get("checksum") == digest(rest)
    except RecursionError:
        fits = False
    if not fits:
        raise Unusable("its checksum does not fit what it holds")


def remove_abandoned(folder: Path) -> None:
    """Removes what writers left that were killed long ago."""
    with contextlib.suppress(OSError):
        for file in folder.glob("*.tmp"):
            if time.time() - file.stat().st_mtime > ABANDONED_S:
                file.unlink(missing_ok=True)
