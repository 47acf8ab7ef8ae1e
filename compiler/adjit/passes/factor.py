"""factor: sums of contractions that share an operand become one contraction of a sum, and sums over rows come first.

    %1 = contract %h, %x [ab,ac->bc] : f32[32,32]
    %2 = contract %h, %y [ab,ac->bc] : f32[32,32]    =>  %1 = mul 0.5, %x : f32[1024,32]
    %3 = add %1, %2 : f32[32,32]                         %2 = mul 0.5, %y : f32[1024,32]
                                                         %3 = add %1, %2 : f32[1024,32]
                                                         %4 = contract %h, %3 [ab,ac->bc] : f32[32,32]
                                                         %5 = mul 2.0, %4 : f32[32,32]

    %1 = contract %w, %x [ab,bc->ac] : f32[8,1000]       %1 = sum %x axes=(1) : f32[4]
    %2 = sum %1 axes=(1) : f32[8]                    =>  %2 = contract %w, %1 [ab,b->a] : f32[8]

Gradients of what is used several times, and derivatives of derivatives, are sums of the first kind. Gradients of what
every row has in common ahead of a product are of the second, also with `neg` or a factor between. Where terms are read
by nothing else, each contraction that goes saves its multiplications and its result, for one addition an element.
Halves, so that x + y does not overflow where the sum of products does not: exact, but for the last bit of subnormal
numbers. Other roundings differ as with another order of a sum; a sum over rows may leave the range where its products
with small numbers do not."""

from __future__ import annotations

import functools
import operator
from collections import Counter

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node, substitute_roots
from adjit.ir.node import Node
from adjit.ir.subscripts import Subscripts
from adjit.ops.contraction import subscripts_of

Key = tuple[Node, Subscripts, tuple[int, ...]]


def factor(graph: Graph) -> Graph:
    """The graph with shared operands taken out of its sums of floats."""
    uses = Counter(arg for node in graph.nodes for arg in node.args)
    uses.update(graph.roots)
    inner = {arg for node in graph.nodes if _is_sum(node) for arg in node.args if _is_sum(arg) and uses[arg] == 1}
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    changed = False
    for node in graph.nodes:
        made: Node | None = None
        if _is_sum(node) and node not in inner:
            terms = _terms(node, inner)
            groups = _groups(terms, uses)
            if groups:
                made = _rewritten(Builder(node.loc), terms, groups, new)
        elif node.op.name == "sum" and node.dtype.kind == "f":
            made = _summed_first(node, uses, new)
        changed |= made is not None
        new[node] = made or copy_node(node, [new[arg] for arg in node.args])
    return substitute_roots(graph, new) if changed else graph


def _summed_first(node: Node, uses: Counter[Node], new: dict[Node, Node]) -> Node | None:
    """A sum over free letters of a contraction as a contraction of sums, or None."""
    b = Builder(node.loc)
    (at,) = node.args
    between: list[Node] = []
    while uses[at] == 1 and (at.op.name == "neg" or (at.op.name == "mul" and at.args[0].is_splat)):
        between.append(at)
        at = at.args[-1]
    if at.op.kind != "contraction" or uses[at] > 1 or 0 in at.shape:
        return None
    spec = subscripts_of(at)
    summed = {spec.result[axis] for axis in node.attrs["axes"]}
    free = {c for c in summed if c not in spec.batch}
    # The rest, letters of both operands, are the business of fold_contractions.
    if not free or free != summed:
        return None
    operands = []
    for arg, own in zip(at.args, spec.operands, strict=True):
        axes = tuple(axis for axis, c in enumerate(own) if c in free)
        operands.append(b.emit("sum", new[arg], axes=axes) if axes else new[arg])
    total = b.emit("contract", *operands, spec=spec.without(free))
    for step in reversed(between):
        others = [b.splat(arg.attrs["value"], total.array_type) for arg in step.args[:-1]]
        total = b.emit(step.op, *others, total)
    return total


def _is_sum(node: Node) -> bool:
    return node.op.name == "add" and node.dtype.kind == "f"


def _terms(node: Node, inner: set[Node]) -> list[Node]:
    """The terms of a sum of sums, in order; a loop with its own stack."""
    found: list[Node] = []
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if at is node or at in inner:
            waiting.extend(reversed(at.args))
        else:
            found.append(at)
    return found


def _groups(terms: list[Node], uses: Counter[Node]) -> list[tuple[Key, list[Node]]]:
    """Terms that share an operand, the largest groups first; each term is in one group at most."""
    candidates = [t for t in dict.fromkeys(terms) if t.op.kind == "contraction" and uses[t] == 1]
    by_key: dict[Key, list[Node]] = {}
    for term in candidates:
        for side in (0, 1):
            members = by_key.setdefault(_key(term, side), [])
            if term not in members:
                members.append(term)
    taken: set[Node] = set()
    groups = []
    for key, members in sorted(by_key.items(), key=lambda item: -len(item[1])):
        free = [term for term in members if term not in taken]
        if len(free) > 1:
            groups.append((key, free))
            taken.update(free)
    return groups


def _key(term: Node, side: int) -> Key:
    """The operand on one side, the contraction with that operand first and letters by order, the other's shape."""
    spec = subscripts_of(term)
    return term.args[side], (spec if side == 0 else spec.swapped()).renamed(), term.args[1 - side].shape


def _rewritten(b: Builder, terms: list[Node], groups: list[tuple[Key, list[Node]]], new: dict[Node, Node]) -> Node:
    """The sum again, each group at the place of its first term."""
    first = {members[0]: (key, members) for key, members in groups}
    gone = {term for _, members in groups for term in members[1:]}
    total: Node | None = None
    for term in terms:
        if term in gone:
            continue
        value = new[term]
        if term in first:
            (shared, spec, _), members = first[term]
            others = [m.args[1] if _key(m, 0)[:2] == (shared, spec) else m.args[0] for m in members]
            part = 0.5 ** (len(others) - 1).bit_length()
            summed = functools.reduce(operator.add, [part * b.value(new[other]) for other in others])
            value = (1 / part * b.value(b.emit("contract", new[shared], summed.node, spec=spec))).node
        total = value if total is None else b.emit("add", total, value)
    assert total is not None
    return total
