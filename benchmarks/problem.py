"""A problem: the arrays of one workload, the same for every side, and what a limit of the machine would be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """One workload's arrays. `params` are trained; `data` is what each step takes; `hyper` numbers of the optimiser.

    `optimizer` is "adam", "adamw", "momentum" or "sgd", or "" where value and gradients are all that is wanted.
    `rows` are the rows of a batch, 0 for all; batches are taken as they lie, what is left over is dropped. `flops` and
    `bytes` of a step bound it from below, 0 for unknown; `working_set` is the bytes that it touches again and again.
    `loop_steps` are the steps of one call of a loop, a multiple of `batches`. Sides agree if their losses differ by at
    most `tolerance`, relative. `sides` are those that have the workload, where others need not be asked."""

    params: Any
    data: Arrays
    hyper: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    bytes: float = 0.0
    working_set: float = 0.0
    tolerance: float = 1e-4
    optimizer: str = ""
    rows: int = 0
    loop_steps: int = 0
    sides: tuple[str, ...] = ()

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return len(next(iter(self.data.values()))) // self.rows if self.rows else 1

    def in_turn(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of an epoch over and over, as views of the data."""
        rows = self.rows or len(next(iter(self.data.values()), ()))
        begins = range(0, self.batches * rows, rows) if rows else [0]
        return itertools.cycle([tuple(array[b : b + rows] for array in self.data.values()) for b in begins])

    @property
    def double(self) -> bool:
        """Whether the arrays are float64."""
        return bool(leaves(self.params)[0].dtype == np.float64)


def leaves(tree: Any) -> list[Any]:
    """What stands in dicts, by sorted names, in lists, tuples and dataclasses, in their order; of anything else, it."""
    if isinstance(tree, dict):
        return [leaf for name in sorted(tree) for leaf in leaves(tree[name])]
    if is_dataclass(tree):
        tree = [getattr(tree, one.name) for one in fields(tree)]
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [tree]
