"""An op on many values of its operands at once, which lie side by side along a first axis.

What becomes of an op follows from its kind and what it declares: an elementwise op stays what it is, a contraction has
one more letter, a reduction its axes one place on, movement says it itself (`lift`)."""

from __future__ import annotations

import string
from collections.abc import Sequence

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.op import Attrs
from adjit.ops.contraction import subscripts_of
from adjit.ops.declare import Contraction, Elementwise, Factoring, Movement, Overlap, Reduction, Sorting


def can_batch(node: Node) -> bool:
    """Whether `batched` knows the op of a node."""
    op = node.op
    if isinstance(op, Contraction):
        return _free_letter(node) != ""
    if isinstance(op, Elementwise):
        # Only a scalar is weak; what has no axes while the result has some is no value for each element.
        return not node.attrs.get("weak") and all(arg.shape == node.shape for arg in node.args)
    return isinstance(op, Reduction | Sorting | Factoring) or (
        isinstance(op, Movement | Overlap) and op.lift is not None
    )


def batched(b: Builder, node: Node, args: Sequence[Node], stacked: Sequence[bool], n: int) -> Node:
    """The op of `node` for each of n values of those args that are `stacked`, with all results stacked likewise.

    The other args have the types of the node's own; at least one is stacked."""
    op = node.op
    if isinstance(op, Contraction):
        letter = _free_letter(node)
        spec = subscripts_of(node)
        for side in (0, 1):
            if stacked[side]:
                spec = spec.with_operand(side, letter + spec.operands[side])
        return b.emit(op, *args, spec=spec.with_result(letter + spec.result))
    spread = [arg if is_stacked else repeated(b, arg, n) for arg, is_stacked in zip(args, stacked, strict=True)]
    return b.emit(op, *spread, **_lifted(node, n))


def summed(b: Builder, node: Node, left: Node, right: Node) -> Node:
    """The sum, over all stacked values, of a contraction both of whose operands are: one contraction."""
    letter = _free_letter(node)
    spec = subscripts_of(node)
    spec = spec.with_operand(0, letter + spec.left).with_operand(1, letter + spec.right)
    return b.emit(node.op, left, right, spec=spec)


def repeated(b: Builder, node: Node, n: int) -> Node:
    """The same value n times along a first axis."""
    shape = (n, *node.shape)
    if node.is_splat:
        return b.splat(node.attrs["value"], node.array_type.with_shape(shape))
    return b.emit("broadcast", node, shape=shape, axes=tuple(range(1, len(shape))))


def _lifted(node: Node, n: int) -> Attrs:
    op, attrs = node.op, node.attrs
    if isinstance(op, Elementwise):
        # Only a scalar is weak.
        return {name: value for name, value in attrs.items() if name != "weak"}
    if isinstance(op, Movement | Overlap):
        assert op.lift is not None
        return op.lift(attrs, n)
    if isinstance(op, Factoring):
        return attrs
    if isinstance(op, Reduction) and "axes" in attrs:
        return {**attrs, "axes": tuple(axis + 1 for axis in attrs["axes"])}
    return {**attrs, "axis": attrs["axis"] + 1}


def _free_letter(node: Node) -> str:
    used = str(subscripts_of(node))
    return next((letter for letter in string.ascii_letters if letter not in used), "")
