"""What a gradient keeps of a loop, as users say it in `checkpoint=`: a number of carries, "sqrt", "all", or bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from adjit.ops.loops import MOST_TURNS
from adjit.trace.refuse import located
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Kept:
    """So many carries of `loop`, or as many as `nbytes` have room for, or the square root of the turns."""

    loop: str
    number: int | None = None
    nbytes: int | None = None
    text: str = ""

    def count(self, turns: int, carry: int) -> int:
        """How many carries, of so many bytes each, are kept of that many turns, which are one at least."""
        number = math.isqrt(max(turns, 1) - 1) + 1 if self.number is None else self.number
        if self.nbytes is not None:
            # One place more is for what is not to be kept.
            number = self.nbytes // max(carry, 1) - 1
            if number < 1:
                raise located(
                    ArgumentError,
                    f"{self.loop}: checkpoint={self.text!r} is less than a gradient can do with: a carry has {carry} "
                    f"bytes, and two of them have room in {2 * carry}B",
                )
        return min(number, max(turns, 1))


def kept_of(loop: str, checkpoint: Any, turns: int = 0) -> Kept | None:
    """What `checkpoint=` asks of a loop; None for what its gradient needs of each turn, or what it keeps of turns
    without number. `turns` may be MOST_TURNS, and is of no matter else."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str) and checkpoint in ("all", "sqrt"):
        if turns == MOST_TURNS:
            raise located(
                ArgumentError,
                f"{loop}: checkpoint={checkpoint!r} is of a most number of turns, and there is none: give max_steps=, "
                'a number of carries, or bytes as in "64MB"',
            )
        return None if checkpoint == "all" else Kept(loop)
    nbytes = checks.bytes_in(checkpoint) if isinstance(checkpoint, str) else None
    if nbytes is not None:
        return Kept(loop, nbytes=nbytes, text=checkpoint)
    ways = 'a number of carries, "sqrt", "all", or bytes as in "64MB"'
    if isinstance(checkpoint, str | float):
        raise located(ArgumentError, f"{loop}: checkpoint is {checks.shown(checkpoint)}, where it is {ways}")
    return Kept(loop, checks.integer(f"{loop}: checkpoint, {ways},", checkpoint, 1))
