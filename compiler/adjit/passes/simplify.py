"""simplify: the named rules of `rules.py`, and casts of casts.

    %1 = neg %x : f32[3]              =>
    %2 = sub %y, %1 : f32[3]              %2 = add %y, %x : f32[3]

    %1 = cast %x dtype=f64 : f64[3]
    %2 = cast %1 dtype=f32 : f32[3]   =>  users of %2 use %x, which is f32[3]

Does not compute constants (fold does), and does not order operands. A stop_gradient has done its work once the
adjoint is there, and goes: a simplified graph is not to be differentiated again. Rules that are exact on the reals
but not to the bit run only with `allow_inexact`, which users say as `inexact=True`."""

from __future__ import annotations

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.passes.rewrite import Rewriter, rewrite
from adjit.passes.rules import ALL, EXACT


def simplify(graph: Graph, allow_inexact: bool = False) -> Graph:
    """The graph after the rules; `allow_inexact` lets those of `INEXACT_RULES` run too."""
    rules = ALL if allow_inexact else EXACT

    def step(node: Node, rewriter: Rewriter) -> Node | None:
        if node.op.name == "cast":
            return _cast(node, rewriter)
        for rule in rules.candidates(node):
            binding = rule.match(node)
            if binding is not None:
                return rule.build(node, binding, rewriter)
        return None

    return rewrite(graph, step, rules.ops | {"cast"})


def _cast(node: Node, rewriter: Rewriter) -> Node | None:
    (inner,) = node.args
    if inner.type == node.type:
        return inner
    if inner.op.name != "cast" or not _widens(inner.args[0], inner):
        return None
    return rewriter.emit("cast", inner.args[0], **node.attrs)


def _widens(narrow: Node, wide: Node) -> bool:
    """Whether the cast keeps every value, so that what follows may start from `narrow`."""
    one, other = narrow.dtype, wide.dtype
    if one.kind == "b" or one == other:
        return True
    if one.kind == "f":
        return other.kind == "f" and other.itemsize >= one.itemsize
    if other.kind == "f":
        # The mantissa must hold the integer: 11, 24 and 53 bits.
        return one.itemsize < other.itemsize
    if other.kind == "u" and one.kind == "i":
        return False
    return other.itemsize > one.itemsize or (other.itemsize == one.itemsize and one.kind == other.kind)
