"""Environments that draw, and why two of them are not safe in two threads of one process.

Gymnasium's own environments draw with pygame. `pygame.gfxdraw.filled_polygon` keeps what it works
on in one place for the whole process and lets the interpreter's lock go meanwhile: two threads
spoil each other's frames. And the first frame of all sets pygame up, for everybody.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

_PYGAME = tuple(f"gymnasium.envs.{name}." for name in ("box2d", "classic_control", "toy_text"))
"""Where the modules of environments lie that draw with pygame."""

_ALWAYS = ("gymnasium.envs.box2d.car_racing",)
"""Those whose observations are drawn, whether they are shown or not."""


def why_not_drawn(modules: list[str], render_mode: str | None) -> str | None:
    """One sentence if an environment is known to be unsafe in several threads, else None.

    Args:
        modules: Names of the modules of its class and of what that derives from.
        render_mode: How it renders.
    """
    if any(module.startswith(_ALWAYS) for module in modules):
        what = "its observations are drawn by pygame"
    elif render_mode is not None and any(module.startswith(_PYGAME) for module in modules):
        what = f"with render_mode={render_mode!r} it draws by pygame"
    else:
        return None
    return f"{what}, whose state all threads share: frames would differ from run to run"


def may_draw(observation_space: spaces.Space, render_mode: str | None) -> str | None:
    """What speaks for it that an environment draws, as words that follow "it"; else None.

    Args:
        observation_space: Of one environment.
        render_mode: How it renders.
    """
    if render_mode is not None:
        return f"renders (render_mode={render_mode!r})"
    return "returns images" if _has_image(observation_space) else None


def _has_image(space: spaces.Space) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_image, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_has_image, space.spaces))
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) >= 3 or (len(space.shape) == 2 and space.dtype == np.uint8)
