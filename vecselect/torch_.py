"""torch, where the program has loaded it; it is never imported for our sake."""

from __future__ import annotations

import sys
from typing import Any


def loaded_torch(needed: str = "get_num_threads") -> Any:
    """The torch module if it is loaded, else None.

    Args:
        needed: What it is wanted for: while it is being imported it has not got everything yet.
    """
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, needed) else None


def seed_torch(seed: int) -> None:
    """Gives torch, where an environment has loaded it, a generator unlike that of other children.

    Every process of torch begins with the same seed.
    """
    if torch := loaded_torch("manual_seed"):
        torch.manual_seed(seed)
