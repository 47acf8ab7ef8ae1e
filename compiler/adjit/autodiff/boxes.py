"""A value between zeros along several axes, which is what slices of slices give an array back, added at its indices.

    %0 = pad %g low=(2) high=(97)     %1 = reshape %0 shape=(100,1)     %2 = pad %1 low=(0,1) high=(0,2)

is the box of %g from (2, 1) on: `scatter_add` at the indices 2 * 4 + 1, 3 * 4 + 1, ... of the elements in C order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adjit.autodiff.scattered import reshaped
from adjit.ir.axes import is_linear, without_ones
from adjit.ir.builder import Builder, Value
from adjit.ir.node import Node
from adjit.ir.types import I64, Array


@dataclass(frozen=True, slots=True)
class Box:
    """`value` in an array from `first` on, an index of elements in C order; `steps` are those of its axes."""

    value: Node
    first: int
    steps: tuple[int, ...]

    def added_to(self, b: Builder, total: Value) -> Value:
        """`total` and the value at its place."""
        shape = self.value.shape
        at = b.full(self.first, Array(I64, shape))
        for axis, (n, step) in enumerate(zip(shape, self.steps, strict=True)):
            if n > 1:
                at = at + b.iota(shape=shape, axis=axis, dtype=I64) * step
        flat = b.scatter_add(reshaped(b, total, (total.node.array_type.size,)), at, b.value(self.value), axis=0)
        return reshaped(b, flat, total.shape)


def box_of(node: Node) -> Box | None:
    """What `node` puts between zeros; None where it does not."""
    steps = tuple(math.prod(node.shape[i + 1 :]) for i in range(len(node.shape)))
    first, found = 0, False
    while True:
        gaps = node.attrs.get("interior")
        if gaps is not None and not any(gaps) and node.attrs["value"] == 0:
            first += sum(low * step for low, step in zip(node.attrs["low"], steps, strict=True))
            found = True
        elif is_linear(node) and without_ones(node.shape) == without_ones(node.args[0].shape):
            left = [step for step, n in zip(steps, node.shape, strict=True) if n != 1]
            steps = tuple(left.pop(0) if n != 1 else 0 for n in node.args[0].shape)
        else:
            return Box(node, first, steps) if found else None
        node = node.args[0]
