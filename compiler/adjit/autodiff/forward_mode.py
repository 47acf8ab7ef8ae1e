"""Forward mode: the graph with a tangent beside each value that moves. Graph to graph; can be differentiated again.

    %y = sin %x               %y = sin %x
                        =>    %0 = cos %x
                              %dy = mul %dx, %0

- What is linear in an operand is applied to its tangent, with its linear part where attributes make it affine.
- The rule of an elementwise op in reverse is a product with the derivative, whichever way that goes.
- The few ops that are neither have a rule `jvp`.
- Loops carry tangents beside values (`tangents`); a call does what its rules say (`calls`).

A tangent that is zero everywhere has no node. A branch that `select` discards is discarded in the tangent, too, so that
no NaN comes of it. The engine knows kinds of ops and what they declare, save `stop_gradient`, which blocks.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from adjit.autodiff.calls import pushed
from adjit.autodiff.reach import Reach
from adjit.autodiff.reverse import vjp
from adjit.autodiff.tangents import Pushed, through_loop
from adjit.ir.builder import ITEM, Builder, Value
from adjit.ir.graph import Graph, closed, copy_node
from adjit.ir.node import Node
from adjit.ir.types import Tuple, is_float
from adjit.ops.declare import Called, Differentiable, Elementwise, Groups, Indexing
from adjit_runtime.errors import DTypeError, TraceError


def jvp(graph: Graph, wrt: Sequence[int], joint: bool = True) -> Graph:
    """The Jacobian-vector product of `graph` with respect to the inputs numbered `wrt`.

    Inputs: the graph's, then a tangent for each of `wrt`. Outputs: the graph's, then a tangent for each float output,
    zeros where none flows. With `joint` a loop takes its tangents along; otherwise they have a loop of their own, so
    that the graph's outputs do not wait for tangents. Raises `DTypeError` for an input that is no float and
    `TraceError` for an op without a derivative on the way."""
    for i in wrt:
        node = graph.inputs[i]
        if not is_float(node.dtype):
            raise DTypeError(f"jvp: the input {node.attrs['name']} is {node.type}; only floats have a tangent")
    floats = [i for i, node in enumerate(graph.outputs) if is_float(node.dtype)]
    reach = Reach(graph, [graph.inputs[i] for i in wrt])
    return _pushed(graph, reach, wrt, floats, joint)


def _pushed(graph: Graph, reach: Reach, wrt: Sequence[int], outputs: Sequence[int], joint: bool) -> Graph:
    """With a tangent for each of the inputs `wrt`, and one for each of `outputs`."""
    forward = _Forward(graph, reach, joint)
    b = forward.b
    for i in wrt:
        node = graph.inputs[i]
        b.loc = node.loc
        forward.tangents[node] = b.value(b.input(f"tangent_{node.attrs['name']}", node.array_type.strong))
    for node in graph.nodes:
        b.loc = node.loc
        forward.enter(node)
    found = [forward.new.get(node, node) for node in graph.outputs]
    for i in outputs:
        node = graph.outputs[i]
        tangent = forward.tangents.get(node)
        found.append(b.splat(0.0, node.array_type.strong) if tangent is None else tangent.node)
    return closed(f"{graph.name}_jvp", b.inputs, b.nodes, found)


class _Forward:
    """A walk from inputs to outputs. `new` has nodes in whose places others have come, `tangents` those that move."""

    def __init__(self, graph: Graph, reach: Reach, joint: bool) -> None:
        self.b = Builder.after(graph)
        # They are kept one by one, so that checks stay in their order.
        self.b.nodes.clear()
        self.new: dict[Node, Node] = {}
        self.tangents: dict[Node, Value] = {}
        self._loops: dict[Node, list[Pushed]] = {}
        self._reach = reach
        self._joint = joint

    def enter(self, node: Node) -> None:
        """Find a node's image, and its tangent."""
        if isinstance(node.type, Tuple):
            self._enter_loop(node)
        elif node.op is ITEM and node.args[0] in self._loops:
            self.new[node], pushed = self._loops[node.args[0]][node.attrs["index"]]
            if pushed is not None:
                self.tangents[node] = self.b.value(pushed)
        else:
            image = self._copy(node)
            if node in self._reach.active:
                tangent = tangent_of(self.b, node, image, [self.tangents.get(arg) for arg in node.args])
                if tangent is not None:
                    self.tangents[node] = tangent

    def _copy(self, node: Node) -> Node:
        if not any(arg in self.new for arg in node.args):
            return self.b.keep(node)
        image = self.new[node] = self.b.keep(copy_node(node, [self.new.get(arg, arg) for arg in node.args]))
        return image

    def _enter_loop(self, node: Node) -> None:
        image = self._copy(node)
        tangents = [self.tangents.get(arg) for arg in node.args]
        if not any(tangents) or node not in self._reach.active:
            return
        if isinstance(node.op, Called):
            self._loops[node] = pushed(self.b, image, tangents, vjp)
            return
        if node not in self._reach.bodies:
            raise _without_derivative(node)
        push = functools.partial(_pushed, joint=self._joint)
        self._loops[node] = through_loop(self.b, image, tangents, self._reach.bodies[node], push, joint=self._joint)


def tangent_of(b: Builder, node: Node, image: Node, tangents: Sequence[Value | None]) -> Value | None:
    """The tangent of `image`, which stands for `node`, from those of its operands; None where it is zero."""
    moving = [i for i, tangent in enumerate(tangents) if tangent is not None]
    if not moving:
        return None
    op = node.op
    if not isinstance(op, Differentiable) or (op.vjp is None and op.jvp is None):
        raise _without_derivative(node)
    terms: list[Value | None] = []
    for group in _whole_groups(op, node, tangents):
        terms.append(_linear(b, op, image, group, tangents))
        moving = [i for i in moving if i not in group]
    if moving:
        terms += _by_rule(b, op, image, moving, tangents)
    found = [term for term in terms if term is not None]
    return functools.reduce(operator.add, found) if found else None


def _linear(
    b: Builder, op: Differentiable, image: Node, group: Sequence[int], tangents: Sequence[Value | None]
) -> Value:
    """The op, applied to the tangents of a group of operands."""
    if isinstance(op, Indexing) and op.adds and tangents[group[-1]] is None:
        first = tangents[group[0]]
        assert first is not None
        return first
    operands = []
    for i, arg in enumerate(image.args):
        tangent = tangents[i]
        if i in group:
            operands.append(b.splat(0.0, arg.array_type.strong) if tangent is None else tangent.node)
        else:
            operands.append(arg)
    attrs = image.attrs if op.homogeneous is None else op.homogeneous(image.attrs)
    return b.value(b.emit(op, *operands, **attrs))


def _by_rule(
    b: Builder, op: Differentiable, image: Node, moving: Sequence[int], tangents: Sequence[Value | None]
) -> list[Value | None]:
    y, xs = b.value(image), [b.value(arg) for arg in image.args]
    if op.jvp is not None:
        return [op.jvp(b, tangents, y, *xs, **image.attrs)]
    if not isinstance(op, Elementwise) or op.vjp is None:
        raise _without_derivative(image)
    return [op.vjp(b, tangents[i], y, *xs, **image.attrs)[i] for i in moving]


def _whole_groups(op: Differentiable, node: Node, tangents: Sequence[Value | None]) -> Groups:
    """The groups of operands that the op is applied to. Where part of one stands still, the rule of an elementwise op
    has no zeros to add."""
    return tuple(
        group
        for group in op.linear_in(node)
        if any(tangents[i] is not None for i in group)
        and not (isinstance(op, Elementwise) and any(tangents[i] is None for i in group))
    )


def _without_derivative(node: Node) -> TraceError:
    op = node.op
    reason = (isinstance(op, Differentiable) and op.exempt) or "none is declared"
    where = f"{node.loc}: " if node.loc is not None else ""
    return TraceError(f"{where}{op.name} has no derivative: {reason}; adjit.stop_gradient(x) leaves it out")
