"""Reverse mode: the adjoint graph, by the chain rule. Graph to graph; the result can be differentiated again.

A contribution to a node's cotangent is a pair (ct, guard): where the guard is false it is dead, and ct arbitrary. So
`where(x > 0, sqrt(x), 0)` has derivative 0 at 0: the NaN that sqrt's rule makes in the dead branch is never added.

- `select(c, a, b)` narrows the guard: a gets (ct, guard and c), b gets (ct, guard and not c).
- Elementwise rules apply to ct and keep the guard; movement applies its index map to both.
- Dead lanes are set to zero only where it is needed: where contributions with different guards meet, at the inputs,
  and before sums, contractions and scatters, which mix lanes.
- A guard is dropped, and its lanes set to zero, where nothing singular lies between the node and the inputs.

The engine knows kinds of ops, never single ones, save `select`, which makes guards, and `stop_gradient`, which blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph, topological
from adjit.ir.node import Node
from adjit.ir.types import I64, is_float
from adjit.ops.contraction import split_spec
from adjit.ops.declare import Elementwise
from adjit_runtime.errors import DTypeError, ShapeError, TraceError


@dataclass(frozen=True, slots=True)
class Cotangent:
    """A cotangent and where it is alive; a guard of None means everywhere."""

    value: Value
    guard: Value | None = None


def vjp(graph: Graph, wrt: Sequence[int]) -> Graph:
    """The vector-Jacobian product of `graph` with respect to the inputs numbered `wrt`.

    Inputs: the graph's, then a cotangent for each float output. Outputs: the graph's, then a gradient for each of
    `wrt`, of its input's shape and dtype. Raises `DTypeError` for an input that is no float and `TraceError` for an
    op without a derivative on the way."""
    b = _continued(graph)
    seeds = []
    for i, node in enumerate(graph.outputs):
        if is_float(node.dtype):
            b.loc = node.loc
            seeds.append((node, b.value(b.input(f"cotangent{i}", node.array_type.strong))))
    gradients = _backward(b, graph, seeds, wrt)
    return _closed(b, f"{graph.name}_vjp", [*graph.outputs, *gradients])


def gradient(graph: Graph, wrt: Sequence[int], output: int = 0) -> Graph:
    """The gradient of one scalar float output; inputs as the graph's, outputs its own and a gradient for each of `wrt`.

    Raises `ShapeError` where the output is no scalar and `DTypeError` where it is no float."""
    node = graph.outputs[output]
    where = f"{node.loc}: " if node.loc is not None else ""
    if not is_float(node.dtype):
        raise DTypeError(f"{where}grad: the function's result is {node.type}; only floats have a gradient")
    if node.shape != ():
        raise ShapeError(
            f"{where}grad: the function's result is {node.type}, not a scalar; take its sum or mean, or use a vjp"
        )
    b = _continued(graph)
    b.loc = node.loc
    seed = b.full(1.0, node.array_type.strong)
    gradients = _backward(b, graph, [(node, seed)], wrt)
    return _closed(b, f"{graph.name}_grad", [*graph.outputs, *gradients])


def _continued(graph: Graph) -> Builder:
    """A builder that goes on where `graph` ended."""
    b = Builder()
    b.inputs.extend(graph.inputs)
    b.nodes.extend(graph.nodes)
    return b


def _closed(b: Builder, name: str, outputs: list[Node]) -> Graph:
    """The graph without dead nodes."""
    inputs = frozenset(b.inputs)
    nodes = tuple(node for node in topological(outputs) if node not in inputs)
    return Graph(name, tuple(b.inputs), nodes, tuple(outputs))


def _backward(b: Builder, graph: Graph, seeds: Sequence[tuple[Node, Value]], wrt: Sequence[int]) -> list[Node]:
    targets = [graph.inputs[i] for i in wrt]
    for node in targets:
        if not is_float(node.dtype):
            raise DTypeError(f"grad: the input {node.attrs['name']} is {node.type}; only floats have a gradient")
    reach = _Reach(graph, targets)
    waiting: dict[Node, list[Cotangent]] = {}
    for node, seed in seeds:
        if node in reach.active:
            waiting.setdefault(node, []).append(Cotangent(seed))
    for node in reversed(graph.nodes):
        if node not in waiting or node not in reach.active:
            continue
        b.loc = node.loc
        total = _total(b, waiting.pop(node))
        if total.guard is not None and node not in reach.singular:
            total = Cotangent(_alive(b, total))
        for arg, contribution in zip(node.args, _contributions(b, node, total, reach), strict=True):
            if contribution is not None and arg in reach.active:
                waiting.setdefault(arg, []).append(contribution)
    gradients = []
    for node in targets:
        b.loc = node.loc
        if node in waiting:
            gradients.append(_alive(b, _total(b, waiting[node])).node)
        else:
            gradients.append(b.splat(0.0, node.array_type.strong))
    return gradients


class _Reach:
    """Which nodes a derivative by the targets flows through, and below which of them it may be singular."""

    def __init__(self, graph: Graph, targets: Sequence[Node]) -> None:
        self.active: set[Node] = set(targets)
        self.singular: set[Node] = set()
        for node in graph.nodes:
            if node.op.name == "stop_gradient" or not is_float(node.dtype):
                continue
            active = [arg for arg in node.args if arg in self.active]
            if not active:
                continue
            self.active.add(node)
            if _is_singular(node) or any(arg in self.singular for arg in active):
                self.singular.add(node)


def _is_singular(node: Node) -> bool:
    """Whether the rule of `node` can make an infinity or a NaN of a finite cotangent."""
    if node.op.name == "mul":
        # By a constant it cannot.
        return not any(arg.is_splat for arg in node.args)
    if node.op.name == "div":
        divisor = node.args[1]
        return not (divisor.is_splat and divisor.attrs["value"] != 0)
    if node.op.kind == "reduction":
        return node.op.name == "prod"
    if node.op.name in ("cumprod", "contract"):
        return True
    return isinstance(node.op, Elementwise) and node.op.singular


def _alive(b: Builder, ct: Cotangent) -> Value:
    """The cotangent with zeros where it is dead."""
    return ct.value if ct.guard is None else b.select(ct.guard, ct.value, 0.0)


def _total(b: Builder, parts: list[Cotangent]) -> Cotangent:
    """The sum of several contributions to one node."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if all(_same(part.guard, first.guard) for part in parts):
        value = first.value
        for part in parts[1:]:
            value = value + part.value
        return Cotangent(value, first.guard)
    value = _alive(b, first)
    for part in parts[1:]:
        value = value + _alive(b, part)
    guards = [part.guard for part in parts]
    if any(guard is None for guard in guards):
        return Cotangent(value)
    guard = guards[0]
    for other in guards[1:]:
        guard = _or(guard, other)
    return Cotangent(value, guard)


def _same(a: Value | None, b: Value | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and a.node is b.node)


def _or(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return None
    return a if a.node is b.node else a | b


def _and(a: Value | None, b: Value) -> Value:
    return b if a is None else a & b


# -- rules by kind --------------------------------------------------------------------------------------------------


def _contributions(b: Builder, node: Node, ct: Cotangent, reach: _Reach) -> list[Cotangent | None]:
    """What `node` hands to each of its operands."""
    args = [b.value(arg) for arg in node.args]
    if node.op.name == "select":
        return _through_select(b, args, ct, reach)
    rule = getattr(node.op, "vjp", None)
    if rule is None:
        reason = getattr(node.op, "exempt", "") or "none is declared"
        where = f"{node.loc}: " if node.loc is not None else ""
        raise TraceError(f"{where}{node.op.name} has no derivative: {reason}; adjit.stop_gradient(x) leaves it out")
    mixes = node.op.name == "broadcast" or node.op.kind in ("contraction", "running", "gather", "scatter")
    g = _alive(b, ct) if mixes else ct.value
    values = rule(b, g, b.value(node), *args, **node.attrs)
    guards = _guards(b, node, args, ct.guard, reach)
    return [None if value is None else Cotangent(value, guard) for value, guard in zip(values, guards, strict=True)]


def _through_select(b: Builder, args: list[Value], ct: Cotangent, reach: _Reach) -> list[Cotangent | None]:
    """Each branch is alive where it is chosen; zeros at once where nothing below can be singular."""
    condition = args[0]
    result: list[Cotangent | None] = [None]
    for branch, chosen in ((args[1], condition), (args[2], None)):
        if branch.node not in reach.active:
            result.append(None)
            continue
        if branch.node in reach.singular:
            test = chosen if chosen is not None else ~condition
            result.append(Cotangent(ct.value, _and(ct.guard, test)))
            continue
        value = _alive(b, ct)
        kept = b.select(condition, value, 0.0) if chosen is not None else b.select(condition, b.full(0.0, value), value)
        result.append(Cotangent(kept))
    return result


def _guards(b: Builder, node: Node, args: list[Value], guard: Value | None, reach: _Reach) -> list[Value | None]:
    """The guard of each operand's contribution."""
    kind, name = node.op.kind, node.op.name
    if kind == "contraction":
        return _contraction_guards(b, node, args, guard, reach)
    if guard is None:
        return [None] * len(args)
    if kind == "elementwise":
        return [guard] * len(args)
    if kind == "reduction":
        axes = node.attrs["axes"]
        shape = node.args[0].shape
        kept = tuple(i for i in range(len(shape)) if i not in axes)
        return [b.broadcast(guard, shape=shape, axes=kept)]
    if name == "broadcast":
        axes = tuple(i for i in range(len(node.shape)) if i not in node.attrs["axes"])
        return [b.any(guard, axes=axes) if axes else guard]
    if kind == "running":
        counted = b.cumsum(b.cast(guard, dtype=I64), axis=node.attrs["axis"], reverse=not node.attrs["reverse"])
        return [counted > 0]
    if kind == "gather":
        axis = node.attrs["axis"]
        nowhere = b.full(0, args[0].type.with_dtype(I64))
        return [b.scatter_add(nowhere, args[1], b.cast(guard, dtype=I64), axis=axis) > 0, None]
    if kind == "scatter":
        return [guard, None, b.take(guard, args[1], axis=node.attrs["axis"])]
    if name == "slice":
        start, step = node.attrs["start"], node.attrs["step"]
        ends = (i + (n - 1) * s + 1 if n else i for i, n, s in zip(start, node.shape, step, strict=True))
        high = tuple(n - end for n, end in zip(node.args[0].shape, ends, strict=True))
        return [b.pad(guard, low=start, high=high, interior=tuple(s - 1 for s in step), value=False)]
    moved: Any = getattr(node.op, "vjp", None)
    return list(moved(b, guard, guard, *args, **node.attrs))


def _contraction_guards(
    b: Builder, node: Node, args: list[Value], guard: Value | None, reach: _Reach
) -> list[Value | None]:
    """An operand's element is dead where all that it meets is: where the result is, or where the other operand was
    set to zero by a guard of an earlier derivative."""
    left, right, result = split_spec(node.attrs["spec"])
    letters = (left, right)
    found: list[Value | None] = []
    for own, arg in enumerate(args):
        if arg.node not in reach.singular:
            found.append(None)
            continue
        total: Value | None = None
        if guard is not None:
            total = _spread_any(b, guard, result, letters[own], arg.shape)
        mask = _zeroing_mask(b, args[1 - own])
        if mask is not None:
            total = _and(total, _spread_any(b, mask, letters[1 - own], letters[own], arg.shape))
        found.append(total)
    return found


def _zeroing_mask(b: Builder, operand: Value) -> Value | None:
    """The condition of an operand of the form select(mask, x, 0)."""
    node = operand.node
    if node.op.name != "select" or not node.args[2].is_splat or node.args[2].attrs["value"] != 0:
        return None
    return b.value(node.args[0])


def _spread_any(b: Builder, guard: Value, letters: str, wanted: str, shape: tuple[int, ...]) -> Value:
    """`guard` with axes `letters` as one with axes `wanted`: any over those that go, spread over those that come."""
    gone = tuple(i for i, c in enumerate(letters) if c not in wanted)
    value = b.any(guard, axes=gone) if gone else guard
    left = [c for c in letters if c in wanted]
    order = sorted(left, key=wanted.index)
    if order != left:
        value = b.transpose(value, axes=tuple(left.index(c) for c in order))
    if len(order) == len(wanted):
        return value
    spread: Value = b.broadcast(value, shape=shape, axes=tuple(wanted.index(c) for c in order))
    return spread
