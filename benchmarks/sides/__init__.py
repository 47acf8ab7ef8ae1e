"""One module for each side: `build(name, problem)` gives a `Side` for a workload, or None where it has none.

Every side computes the same from the same arrays, as that library's users write it at its best; gradients by hand where
a side has no automatic ones. `MODULES` names the library of each side: what has to be installed, and what is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.problem import Problem, leaves


@dataclass(frozen=True)
class Side:
    """`step()` makes one step and returns the loss as the library has it; where nothing is trained it returns the value
    and the gradients by parameter's name, of a kind of call what was called for. `loop(n)` makes n steps in one call, n
    a multiple of the problem's batches, and returns the last loss, where the side has such a thing. `nodes()` are those
    of the graph that was traced and of the one with its gradients, of a side with graphs that are counted."""

    step: Callable[[], Any]
    loop: Callable[[int], Any] | None = None
    arena_bytes: Callable[[], int] = lambda: 0
    nodes: Callable[[], tuple[int, int]] = lambda: (0, 0)


MODULES: dict[str, str] = {
    "adjit": "adjit",
    "numpy": "numpy",
    "torch": "torch",
    "torch_compile": "torch",
    "jax": "jax",
    "pytensor": "pytensor",
    "numba": "numba",
    "autograd": "autograd",
}
PEERS: tuple[str, ...] = tuple(name for name in MODULES if name != "adjit")
RATED: tuple[str, ...] = tuple(name for name in PEERS if name != "autograd")
"""Those beside the rates of steps."""
CALLED: tuple[str, ...] = ("jax", "autograd")
"""Those beside first calls and kinds of calls: what people differentiate NumPy's functions with."""
LOOPS: tuple[str, ...] = ("jax", "numba")
"""Peers with a compiled loop over steps."""


CACHED: tuple[str, ...] = ("adjit", "jax")
"""Those of them, and adjit, that can keep compiled code for later processes."""


def build(side: str, name: str, problem: Problem) -> Side | None:
    """Import a side and let it build a workload; None where it has no such workload."""
    built: Side | None = importlib.import_module(f"benchmarks.sides.{side}").build(name, problem)
    return built


def as_number(result: Any) -> float:
    """The loss or value of a step's result, of anything else the sum of its first array. Waits for it where the library
    works asynchronously."""
    return float(np.sum(np.asarray(leaves(result)[0])))


def observed(result: Any) -> list[float]:
    """Numbers that agree between sides if results do: value, and each gradient against a fixed direction; the same of
    each array of a result that is no value.

    The direction changes sign and size from element to element, so that neither a wrong sign nor a wrong order passes.
    The norm of each array is compared as well."""
    arrays = leaves(result)
    numbers = [as_number(result)]
    if isinstance(result, tuple) or (len(arrays) == 1 and np.ndim(arrays[0]) == 0):
        arrays = arrays[1:]
    for array in arrays:
        flat = np.asarray(array, np.float64).ravel()
        norm = float(np.linalg.norm(flat))
        # The direction's part may be nearly 0 by chance; the norm added keeps relative differences meaningful.
        direction = np.cos(np.arange(len(flat)) + 0.5)
        numbers += [norm, norm + float(flat @ direction) / float(np.linalg.norm(direction))]
    return numbers
