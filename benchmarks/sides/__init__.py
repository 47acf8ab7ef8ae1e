"""One module for each side: `build(name, problem)` gives a `Side` for a workload, or None where it has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """`step()` makes one step and returns the loss (for `elementwise` and `gmm` the value); `loop(n)` makes n steps in
    one call and returns the last loss, where the side has such a thing."""

    step: Callable[[], float]
    loop: Callable[[int], float] | None = None
    arena_bytes: int = 0
