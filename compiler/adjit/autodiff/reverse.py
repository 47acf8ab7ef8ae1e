"""Reverse mode: the adjoint graph, by the chain rule. Graph to graph; the result can be differentiated again.

A contribution to a node's cotangent is a pair (ct, guard): where the guard is false it is dead, and ct arbitrary. So
`where(x > 0, sqrt(x), 0)` has derivative 0 at 0: the NaN that sqrt's rule makes in the dead branch is never added.

- `select(c, a, b)` narrows the guard: a gets (ct, guard and c), b gets (ct, guard and not c).
- Elementwise rules apply to ct and keep the guard; movement applies its index map to both.
- Dead lanes are set to zero only where it is needed: where contributions with different guards meet, at the inputs,
  and before sums, contractions and scatters, which mix lanes.
- What a rule that mixes lanes multiplies by is shielded: an element all of whose uses are dead does not reach it, as
  zero times NaN is NaN. One that an alive result uses as well stays, as that result shows it.
- A rule that users gave takes zeros for what is dead; what it gives is dead where all that it was given is.
- A guard is dropped, and its lanes set to zero, where nothing singular lies between the node and the inputs: singular
  is a rule that makes anything but zero of a zero cotangent, whatever number, infinity or NaN the values are.

The engine knows kinds of ops and what they declare, never single ones, save `select`, which makes guards, and
`stop_gradient`, which blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from adjit.autodiff.calls import backward
from adjit.autodiff.certain import is_everywhere
from adjit.autodiff.cotangent import Cotangent, alive, both
from adjit.autodiff.loops import through_loop
from adjit.autodiff.reach import Reach
from adjit.autodiff.signs import is_finite
from adjit.autodiff.walk import Walk
from adjit.ir.axes import relation_of
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph, computed
from adjit.ir.node import Node
from adjit.ir.types import I64, is_float
from adjit.ops.contraction import subscripts_of
from adjit.ops.declare import Called, Differentiable, Elementwise
from adjit_runtime.errors import DTypeError, ShapeError, TraceError


def vjp(graph: Graph, wrt: Sequence[int]) -> Graph:
    """The vector-Jacobian product of `graph` with respect to the inputs numbered `wrt`.

    Inputs: the graph's, then a cotangent for each float output. Outputs: the graph's, then a gradient for each of
    `wrt`, of its input's shape and dtype. Raises `DTypeError` for an input that is no float and `TraceError` for an
    op without a derivative on the way."""
    walk = _walk(graph, wrt)
    for i, node in enumerate(graph.outputs):
        if is_float(node.dtype):
            walk.b.loc = node.loc
            walk.seed(node, Cotangent(walk.b.value(walk.b.input(f"cotangent{i}", node.array_type.strong))))
    return _adjoint(walk, f"{graph.name}_vjp", wrt)


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
    walk = _walk(graph, wrt)
    walk.b.loc = node.loc
    walk.seed(node, Cotangent(walk.b.full(1.0, node.array_type.strong)))
    return _adjoint(walk, f"{graph.name}_grad", wrt)


def _walk(graph: Graph, wrt: Sequence[int]) -> Walk:
    targets = [graph.inputs[i] for i in wrt]
    for node in targets:
        if not is_float(node.dtype):
            raise DTypeError(f"grad: the input {node.attrs['name']} is {node.type}; only floats have a gradient")
    return Walk(graph, Reach(graph, targets), _contributions)


def _adjoint(walk: Walk, name: str, wrt: Sequence[int]) -> Graph:
    """The graph of what it gave and the gradients, without dead nodes."""
    walk.run()
    b = walk.b
    gradients = []
    for i in wrt:
        node = walk.graph.inputs[i]
        b.loc = node.loc
        total = walk.total(node)
        gradients.append(b.splat(0.0, node.array_type.strong) if total is None else alive(b, total).node)
    _, outputs = walk.closed([*walk.graph.outputs, *gradients])
    return Graph(name, tuple(b.inputs), computed(outputs, b.inputs), outputs)


# -- rules by kind --------------------------------------------------------------------------------------------------


def _contributions(walk: Walk, node: Node, cts: Sequence[Cotangent | None]) -> list[Cotangent | None]:
    """What `node` hands to each of its operands, of the cotangents of its results."""
    if node in walk.reach.bodies:
        return through_loop(walk, node, cts)
    if isinstance(node.op, Called):
        return backward(walk, node, cts, vjp)
    op = node.op
    if node.op.name != "select" and (not isinstance(op, Differentiable) or op.vjp is None):
        reason = (isinstance(op, Differentiable) and op.exempt) or "none is declared"
        where = f"{node.loc}: " if node.loc is not None else ""
        raise TraceError(f"{where}{op.name} has no derivative: {reason}; adjit.stop_gradient(x) leaves it out")
    (ct,) = cts
    assert ct is not None
    return _through_one(walk.b, node, ct, walk.reach)


def _through_one(b: Builder, node: Node, ct: Cotangent, reach: Reach) -> list[Cotangent | None]:
    """The same of an op with one result."""
    args = [b.value(arg) for arg in node.args]
    if node.op.name == "select":
        return _through_select(b, args, ct, reach)
    op = node.op
    assert isinstance(op, Differentiable)
    assert op.vjp is not None
    g = alive(b, ct) if ct.guard is not None and _spreads(node) else ct.value
    values = op.vjp(b, g, b.value(node), *_shielded(b, node, args, ct), **node.attrs)
    guards = _guards(b, node, args, ct, reach)
    holds = ct.holds and _hands_nan_through(node)
    return [
        None if value is None else Cotangent(value, guard, holds and guard is not None)
        for value, guard in zip(values, guards, strict=True)
    ]


def _spreads(node: Node) -> bool:
    """Whether the rule adds up cotangents of several elements."""
    relation = relation_of(node)
    return relation is None or relation.spreads


def _through_select(b: Builder, args: list[Value], ct: Cotangent, reach: Reach) -> list[Cotangent | None]:
    """Each branch is alive where it is chosen; zeros at once where nothing below can be singular."""
    condition = args[0]
    known = ct.guard is None or ct.holds
    result: list[Cotangent | None] = [None]
    for branch, chosen in ((args[1], condition), (args[2], None)):
        if branch.node not in reach.active:
            result.append(None)
            continue
        if branch.node in reach.singular:
            test = chosen if chosen is not None else ~condition
            holds = known and chosen is None and _excludes_nan(condition.node, branch.node)
            result.append(Cotangent(ct.value, both(ct.guard, test), holds))
            continue
        value = alive(b, ct)
        kept = b.select(condition, value, 0.0) if chosen is not None else b.select(condition, b.full(0.0, value), value)
        result.append(Cotangent(kept))
    return result


def _excludes_nan(condition: Node, value: Node) -> bool:
    """Whether `condition`, where true, compares `value` with another: NaN is not smaller, larger or equal."""
    if condition.op.name == "or":
        return all(_excludes_nan(arg, value) for arg in condition.args)
    if condition.op.name not in ("lt", "le", "gt", "ge", "eq"):
        return False
    return any(_is_nan_with_it_alone(value, arg) for arg in condition.args)


def _is_nan_with_it_alone(value: Node, arg: Node) -> bool:
    """Whether a value is NaN nowhere but where `arg` is: it is that, or takes numbers in its place."""
    while value is not arg:
        if value.op.name != "select":
            return False
        chosen, other = value.args[1:]
        if other.is_splat:
            chosen, other = other, chosen
        if not chosen.is_splat or chosen.attrs["value"] != chosen.attrs["value"]:
            return False
        value = other
    return True


def _hands_nan_through(node: Node) -> bool:
    """Whether a NaN in any operand is seen in all results that it has part in, and each element has a result."""
    if isinstance(node.op, Elementwise):
        return _is_nan_of_nan(node.op)
    if node.op.kind == "contraction":
        # What meets zeros of a guard is dead for another reason.
        return not any(_is_zeroed(arg) for arg in node.args)
    if node.op.kind not in ("reduction", "running", "movement"):
        return False
    relation = relation_of(node)
    return relation is not None and relation.keeps_all


@functools.cache
def _is_nan_of_nan(op: Elementwise) -> bool:
    """Whether a function is NaN wherever one of its operands is, by trial: 1 and 0 to the power NaN are where pow is
    not. False for ops with attributes."""
    if op.attr_kinds or op.arity is None or "f" not in op.accepts:
        return False
    values = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.inf, -np.inf, np.nan])
    points = np.stack(np.meshgrid(*[values] * op.arity)).reshape(op.arity, -1)
    results = op.evaluate(*points)
    return bool(results.dtype.kind == "f" and np.isnan(results[np.isnan(points).any(axis=0)]).all())


def _shielded(b: Builder, node: Node, args: list[Value], ct: Cotangent) -> list[Value]:
    """The operands as a rule that mixes lanes may see them: neutral where all that they have part in is dead."""
    if ct.guard is None or ct.holds:
        return args
    if node.op.kind == "contraction":
        spec = subscripts_of(node)
        return [
            arg if is_finite(arg.node) else _shielded_by(b, ct.guard, spec.result, own, arg)
            for own, arg in zip(spec.operands, args, strict=True)
        ]
    if node.op.name == "cumprod":
        return [b.select(_any_after(b, node, ct.guard), args[0], 1.0)]
    return args


def _shielded_by(b: Builder, guard: Value, letters: str, own: str, arg: Value) -> Value:
    meets = _spread_any(b, guard, letters, own, arg.shape)
    return arg if meets is None else b.select(meets, arg, 0.0)


def _any_after(b: Builder, node: Node, guard: Value) -> Value:
    """Where a running sum or product adds up something that is alive."""
    counted = b.cumsum(b.cast(guard, dtype=I64), axis=node.attrs["axis"], reverse=not node.attrs["reverse"])
    alive: Value = counted > 0
    return alive


def _guards(b: Builder, node: Node, args: list[Value], ct: Cotangent, reach: Reach) -> list[Value | None]:
    """The guard of each operand's contribution."""
    kind, guard = node.op.kind, ct.guard
    if kind == "contraction":
        return _contraction_guards(b, node, args, ct, reach)
    if guard is None:
        return [None] * len(args)
    if kind == "elementwise":
        return [guard] * len(args)
    if kind == "reduction":
        axes = node.attrs["axes"]
        shape = node.args[0].shape
        kept = tuple(i for i in range(len(shape)) if i not in axes)
        return [b.broadcast(guard, shape=shape, axes=kept)]
    if kind == "running":
        return [_any_after(b, node, guard)]
    if kind == "gather":
        if args[0].node not in reach.singular:
            # What is dead is zero by now, as elements are mixed; that is all that it is asked for.
            return [None, None]
        nowhere = b.full(0, args[0].type.with_dtype(I64))
        return [b.scatter_add(nowhere, args[1], b.cast(guard, dtype=I64), **node.attrs) > 0, None]
    if kind == "scatter":
        return [guard, None, b.take(guard, args[1], **node.attrs)]
    if kind == "factoring":
        return [_any_of_matrix(b, guard, len(args[0].shape) - 2, arg) for arg in args]
    # Movement and sorting: their derivative moves conditions as it moves numbers.
    assert isinstance(node.op, Differentiable)
    assert node.op.vjp is not None
    return list(node.op.vjp(b, guard, guard, *args, **node.attrs))


def _any_of_matrix(b: Builder, guard: Value, lead: int, arg: Value) -> Value:
    """Where anything of a matrix is alive, behind `lead` axes: each element has part in all of them."""
    axes = tuple(range(lead, len(guard.shape)))
    whole = b.any(guard, axes=axes) if axes else guard
    found: Value = b.broadcast(whole, shape=arg.shape, axes=tuple(range(lead)))
    return found


def _contraction_guards(b: Builder, node: Node, args: list[Value], ct: Cotangent, reach: Reach) -> list[Value | None]:
    """An operand's element is dead where all that it meets is: where the result is, or where the other operand was
    set to zero by a guard of an earlier derivative."""
    spec = subscripts_of(node)
    found: list[Value | None] = []
    for own, arg in enumerate(args):
        if not reach.matters(arg.node, ct.holds and _hands_nan_through(node)):
            found.append(None)
            continue
        total: Value | None = None
        if ct.guard is not None:
            total = _spread_any(b, ct.guard, spec.result, spec.operands[own], arg.shape)
        mask = _zeroing_mask(b, args[1 - own])
        if mask is not None:
            meets = _spread_any(b, mask, spec.operands[1 - own], spec.operands[own], arg.shape)
            total = total if meets is None else both(total, meets)
        found.append(total)
    return found


def _zeroing_mask(b: Builder, operand: Value) -> Value | None:
    """The condition of an operand of the form select(mask, x, 0)."""
    return b.value(operand.node.args[0]) if _is_zeroed(operand.node) else None


def _is_zeroed(node: Node) -> bool:
    return node.op.name == "select" and node.args[2].is_splat and node.args[2].attrs["value"] == 0


def _spread_any(b: Builder, guard: Value, letters: str, wanted: str, shape: tuple[int, ...]) -> Value | None:
    """`guard` with axes `letters` as one with axes `wanted`: any over those that go, spread over those that come. None
    where it is known to hold everywhere then."""
    gone = tuple(i for i, c in enumerate(letters) if c not in wanted)
    if is_everywhere(guard.node, gone):
        return None
    value = b.any(guard, axes=gone) if gone else guard
    left = [c for c in letters if c in wanted]
    order = sorted(left, key=wanted.index)
    if order != left:
        value = b.transpose(value, axes=tuple(left.index(c) for c in order))
    if len(order) == len(wanted):
        return value
    spread: Value = b.broadcast(value, shape=shape, axes=tuple(wanted.index(c) for c in order))
    return spread
