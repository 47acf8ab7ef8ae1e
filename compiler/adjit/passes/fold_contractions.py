"""fold_contractions: transposes and broadcasts around a contraction become letters of its index expression.

    %0 = transpose %w axes=(1,0) : f32[8,2]            =>
    %1 = contract %x, %0 [ik,kj->ij] : f32[4,8]            %1 = contract %x, %w [ik,jk->ij] : f32[4,8]

    %1 = contract %x, %y [bik,bkj->bij] : f32[9,4,8]   =>
    %2 = sum %1 axes=(0) : f32[4,8]                        %2 = contract %x, %y [bik,bkj->ij] : f32[4,8]

    %0 = broadcast %x shape=(4,8,2) axes=(0,2)         =>
    %1 = broadcast %y shape=(4,8,2) axes=(1,2)
    %2 = mul %0, %1 : f32[4,8,2]
    %3 = sum %2 axes=(2) : f32[4,8]                        %3 = contract %x, %y [ac,bc->ab] : f32[4,8]

The products that are summed stay the same; the order in which they are is the plan's. So a broadcast along a letter
that is summed stays (its sum would move to the other operand), and so does a sum over a letter of one operand. A
result that has other readers is left alone: the contraction would be made twice."""

from __future__ import annotations

import string

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.subscripts import Subscripts
from adjit.ops.contraction import subscripts_of
from adjit.passes.rewrite import Rewriter, rewrite

LETTERS = string.ascii_letters


def fold_contractions(graph: Graph) -> Graph:
    """The graph with movement folded into contractions."""
    return rewrite(graph, _step, ("contract", "transpose", "sum"))


def _step(node: Node, rewriter: Rewriter) -> Node | None:
    name = node.op.name
    if name == "contract":
        return _operand(node, 0, rewriter) or _operand(node, 1, rewriter)
    if name not in ("transpose", "sum"):
        return None
    inner = node.args[0].op.name
    if inner not in ("contract", "mul") or rewriter.is_shared(node.args[0]):
        return None
    if inner == "mul":
        return _sum_of_products(node, rewriter) if name == "sum" else None
    return _transposed(node, rewriter) if name == "transpose" else _summed(node, rewriter)


def _operand(node: Node, side: int, rewriter: Rewriter) -> Node | None:
    moved = node.args[side]
    spec = subscripts_of(node)
    if moved.op.name == "transpose":
        mine = spec.operands[side]
        before = "".join(mine[moved.attrs["axes"].index(axis)] for axis in range(len(mine)))
        return _contract(node, side, moved.args[0], spec.with_operand(side, before), rewriter)
    if moved.op.name == "broadcast":
        return _broadcast_operand(node, side, spec, rewriter)
    return None


def _broadcast_operand(node: Node, side: int, spec: Subscripts, rewriter: Rewriter) -> Node | None:
    """Drop the letters along which the operand is constant: those of the other operand it does not need, and its own
    come back by a broadcast of the result."""
    moved = node.args[side]
    mine, other, result = spec.operands[side], spec.operands[1 - side], spec.result
    copied = [letter for axis, letter in enumerate(mine) if axis not in moved.attrs["axes"]]
    dropped = {letter for letter in copied if letter in result}
    if not dropped:
        return None
    own = {letter for letter in dropped if letter not in other}
    kept = [axis for axis, letter in enumerate(mine) if letter not in dropped]
    spec = spec.with_operand(side, "".join(mine[axis] for axis in kept))
    spec = spec.with_result("".join(letter for letter in result if letter not in own))
    narrow = rewriter.emit(
        "broadcast",
        moved.args[0],
        shape=tuple(moved.shape[axis] for axis in kept),
        axes=tuple(kept.index(axis) for axis in moved.attrs["axes"]),
    )
    if len(kept) == len(moved.attrs["axes"]):
        narrow = moved.args[0]
    product = _contract(node, side, narrow, spec, rewriter)
    axes = tuple(axis for axis, letter in enumerate(result) if letter not in own)
    return rewriter.emit("broadcast", product, shape=node.shape, axes=axes) if own else product


def _contract(node: Node, side: int, operand: Node, spec: Subscripts, rewriter: Rewriter) -> Node:
    args = (operand, node.args[1]) if side == 0 else (node.args[0], operand)
    return rewriter.emit("contract", *args, spec=spec)


def _transposed(node: Node, rewriter: Rewriter) -> Node:
    (product,) = node.args
    spec = subscripts_of(product)
    transposed = "".join(spec.result[axis] for axis in node.attrs["axes"])
    return rewriter.emit("contract", *product.args, spec=spec.with_result(transposed))


def _summed(node: Node, rewriter: Rewriter) -> Node | None:
    (product,) = node.args
    spec = subscripts_of(product)
    result = spec.result
    both = {axis for axis in node.attrs["axes"] if result[axis] in spec.batch}
    if not both:
        return None
    kept = "".join(letter for axis, letter in enumerate(result) if axis not in both)
    product = rewriter.emit("contract", *product.args, spec=spec.with_result(kept))
    rest = tuple(kept.index(result[axis]) for axis in node.attrs["axes"] if axis not in both)
    return rewriter.emit("sum", product, axes=rest) if rest else product


def _sum_of_products(node: Node, rewriter: Rewriter) -> Node | None:
    """A matrix product that was written with broadcasts: each factor lacks an axis that the other has."""
    (product,) = node.args
    shape, summed = product.shape, set(node.attrs["axes"])
    everywhere = tuple(range(len(shape)))
    factors = [arg.args[0] if arg.op.name == "broadcast" else arg for arg in product.args]
    axes = [arg.attrs["axes"] if arg.op.name == "broadcast" else everywhere for arg in product.args]
    one, other = (set(of) for of in axes)
    if one | other != set(everywhere) or not summed <= one & other or one <= other or other <= one or not summed:
        return None
    if len(shape) > len(LETTERS) or any(shape[axis] == 1 for axis in one ^ other):
        return None
    left, right = ("".join(LETTERS[axis] for axis in of) for of in axes)
    result = "".join(LETTERS[axis] for axis in everywhere if axis not in summed)
    return rewriter.emit("contract", *factors, spec=Subscripts(left, right, result))
