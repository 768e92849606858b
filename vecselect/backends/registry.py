"""Every backend by the kind of mode that it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vecselect.modes import KINDS, load

if TYPE_CHECKING:
    from vecselect.backends.base import Backend


class Backends(Mapping[str, "Backend"]):
    """The backends of `modes.KINDS`, each loaded and made when it is first used."""

    def __init__(self) -> None:
        self._made: dict[str, Backend] = {}

    def __getitem__(self, kind: str) -> Backend:
        """The backend of a kind."""
        name = KINDS[kind].backend
        if name not in self._made:
            self._made[name] = load(name)()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """The kinds in the order of the registry."""
        return iter(KINDS)

    def __len__(self) -> int:
        """The number of kinds."""
        return len(KINDS)


BACKENDS = Backends()
"""Every backend by its kind, the simpler ones first."""
