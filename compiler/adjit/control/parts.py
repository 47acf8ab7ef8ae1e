"""An array that a turn reads at its counter's place is an operand that is read in parts.

    scan %c, %i, %x length=9 carried=1 sliced=1 body=(%c, %i, %x) {       %p = slice %x start=(1) stop=(10)
      %0 = add %i, 1                                                      scan %c, %p carried=1 sliced=1
      %1 = check_index %0 size=10 axis=0                             =>     body=(%c, %p) {
      %2 = take %x, %1 axis=0                                               %0 = add %c, %p
      %3 = add %c, %2                                                     }
    }

Counters are `sliced` operands of evenly spaced integers; what a body makes of one by sums, differences and products
with constants is one, too, where it fits its dtype in each turn. Checks that hold in each turn go. So the gradient of
the array is stacked, and not summed over arrays of its whole size. Does not know positions that are sums with what an
enclosing loop counts: write x[j][i] for x[j, i]."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from adjit.control.operands import Operands, new_input
from adjit.ir.builder import Builder
from adjit.ir.graph import closed, copy_node, topological
from adjit.ir.node import Node
from adjit.ir.types import I64, Array


@dataclass(frozen=True, slots=True)
class Progression:
    """Integers of a dtype, `start` in turn 0, `start + step` in turn 1, and so on."""

    start: int
    step: int
    dtype: np.dtype

    def ends(self, length: int) -> tuple[int, int]:
        """The smallest and the largest of `length` > 0."""
        last = self.start + (length - 1) * self.step
        return min(self.start, last), max(self.start, last)

    def fits(self, length: int) -> bool:
        """Whether the dtype holds all of them."""
        low, high = self.ends(length)
        limits = np.iinfo(self.dtype)
        return bool(limits.min <= low and high <= limits.max)


def progression_of(array: np.ndarray) -> Progression | None:
    """The integers of an array of one dimension, where they are evenly spaced."""
    if array.dtype.kind not in "iu" or array.ndim != 1 or not array.size:
        return None
    start = int(array[0])
    # Of one integer any step is right; one that is 0 counts nothing.
    step = int(array[1]) - start if array.size > 1 else 1
    found = Progression(start, step, array.dtype.newbyteorder("="))
    # Beyond int64 differences wrap; there is no counting there.
    if not (min(array[0], array[-1]) >= -(2**63) and max(array[0], array[-1]) < 2**63 and found.fits(array.size)):
        return None
    return found if bool(np.all(np.diff(array.astype(np.int64)) == step)) else None


def read_in_parts(b: Builder, operands: Operands, counters: Mapping[int, Progression]) -> Operands:
    """`operands` with more that are sliced; `counters` says which of the sliced ones count. What is cut out of arrays
    goes to `b`."""
    if not operands.length or not counters:
        return operands
    return _Rewriting(b, operands, counters).result()


class _Rewriting:
    """A walk over a body: what each node counts, and which arrays outside it reads."""

    def __init__(self, b: Builder, operands: Operands, counters: Mapping[int, Progression]) -> None:
        self.outer = b
        self.operands = operands
        self.inner = Builder()
        inputs = operands.body.inputs
        self.new: dict[Node, Node] = dict(zip(inputs, inputs, strict=True))
        self.counts = {operands.sliced_inputs[i]: found for i, found in counters.items()}
        self.outside = dict(zip(operands.whole_inputs, operands.whole, strict=True))
        self.parts: dict[tuple[Node, int, Progression], tuple[Node, Node]] = {}

    def result(self) -> Operands:
        """The loop with the body of the walk."""
        old = self.operands
        for node in old.body.nodes:
            self.new[node] = self._node(node)
        found = list(self.parts.values())
        split = len(old.carried) + len(old.sliced)
        inputs = [*old.body.inputs[:split], *(part for part, _ in found), *old.body.inputs[split:]]
        outputs = [self.new[node] for node in old.body.outputs]
        body = closed(old.body.name, inputs, dict.fromkeys(self.inner.nodes), outputs)
        return replace(old, body=body, sliced=(*old.sliced, *(array for _, array in found)))

    def _node(self, node: Node) -> Node:
        """The node in the new body."""
        count = self._count(node)
        if count is not None:
            self.counts[node] = count
        self.inner.loc = node.loc
        if node.op.name == "check_index" and count is not None:
            return self._checked(node)
        if node.op.name == "take":
            found = self._part(node)
            if found is not None:
                return found
        return self.inner.keep(copy_node(node, [self.new[arg] for arg in node.args]))

    def _count(self, node: Node) -> Progression | None:
        """What a node counts."""
        if not isinstance(node.type, Array) or node.type.shape or node.type.dtype.kind not in "iu":
            return None
        if node.is_splat:
            return Progression(int(node.attrs["value"]), 0, node.dtype)
        rule = _RULES.get(node.op.name)
        given = [self.counts[arg] for arg in node.args if arg in self.counts]
        if rule is None or len(given) != len(node.args):
            return None
        found = rule(node, *given, length=self.operands.length)
        if found is None:
            return None
        count = Progression(*found, node.dtype)
        return count if count.fits(self.operands.length) else None

    def _checked(self, node: Node) -> Node:
        """An index that is right in each turn, without the check."""
        (arg,) = node.args
        found = self.new[arg]
        b = self.inner
        if found.type != node.type:
            found = b.emit("cast", found, dtype=I64)
        back = self.counts[node].start - self.counts[arg].start
        return b.emit("add", found, b.splat(back, node.array_type)) if back else found

    def _part(self, node: Node) -> Node | None:
        """The input that stands for what is taken of an array outside at a counter's place."""
        array, index = node.args
        count = self.counts.get(index)
        if count is None or node.attrs.get("batch", 0):
            return None
        axis = node.attrs["axis"]
        low, high = count.ends(self.operands.length)
        if not 0 <= low <= high < array.shape[axis] or (not count.step and self.operands.length > 1):
            return None
        base = self._moved_out(array)
        if base is None:
            return None
        key = base, axis, count
        if key not in self.parts:
            self.outer.loc = node.loc
            part = new_input(self.operands.body, "part", node.array_type, len(self.parts))
            self.parts[key] = part, self._cut(base, axis, count)
        return self.parts[key][0]

    def _moved_out(self, array: Node) -> Node | None:
        """The array outside that a node of the body is, or a part or an order of one that is the same in each turn."""
        needed: dict[Node, None] = {}
        waiting = [array]
        while waiting:
            node = waiting.pop()
            if node in self.outside or node.is_splat:
                continue
            if not _is_movable(node):
                return None
            needed[node] = None
            waiting += node.args
        for node in topological([array]):
            if node.is_splat and node not in self.outside:
                self.outside[node] = self.outer.splat(node.attrs["value"], node.array_type)
            elif node in needed:
                self.outside[node] = self.outer.keep(copy_node(node, [self.outside[arg] for arg in node.args]))
        return self.outside[array]

    def _cut(self, base: Node, axis: int, count: Progression) -> Node:
        """The parts of an array that the turns read, side by side along axis 0."""
        b = self.outer
        low, high = count.ends(self.operands.length)
        step = abs(count.step) or 1
        if (low, high + 1, step) != (0, base.shape[axis], 1):
            rank = range(len(base.shape))
            start = tuple(low if i == axis else 0 for i in rank)
            stop = tuple(high + 1 if i == axis else base.shape[i] for i in rank)
            base = b.emit("slice", base, start=start, stop=stop, step=tuple(step if i == axis else 1 for i in rank))
        if count.step < 0:
            base = b.emit("flip", base, axes=(axis,))
        others = [i for i in range(len(base.shape)) if i != axis]
        return b.emit("transpose", base, axes=(axis, *others)) if axis else base


def _is_movable(node: Node) -> bool:
    """Whether a node of what is outside may stand outside: it is no more work there, and reads no more."""
    if not node.args:
        return False
    if node.op.kind in ("movement", "gather"):
        return node.array_type.size <= node.args[0].array_type.size
    return not node.shape and node.dtype.kind in "iu"


_Steps = tuple[int, int] | None


def _linear(combine: Callable[[int, int], int]) -> Callable[..., _Steps]:
    def rule(node: Node, x: Progression, y: Progression, length: int) -> _Steps:
        return combine(x.start, y.start), combine(x.step, y.step)

    return rule


def _product(node: Node, x: Progression, y: Progression, length: int) -> _Steps:
    if x.step and y.step:
        return None
    return x.start * y.start, x.start * y.step + x.step * y.start


def _index(node: Node, x: Progression, length: int) -> _Steps:
    """A checked index counts from the front; one that is wrong in some turn, or is from either end, is not known."""
    size = node.attrs["size"]
    low, high = x.ends(length)
    if low >= 0 and high < size:
        return x.start, x.step
    return (x.start + size, x.step) if -size <= low and high < 0 else None


def _same(node: Node, x: Progression, length: int) -> _Steps:
    return x.start, x.step


_RULES: dict[str, Callable[..., _Steps]] = {
    "add": _linear(operator.add),
    "sub": _linear(operator.sub),
    "mul": _product,
    "neg": lambda node, x, length: (-x.start, -x.step),
    "cast": _same,
    "check_fits": _same,
    "check_index": _index,
}
"""Start and step of what a node counts, from what its operands count."""
