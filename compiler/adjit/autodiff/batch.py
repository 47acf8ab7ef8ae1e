"""Batching: a graph for many values of some of its inputs at once. Graph to graph; the result is an ordinary graph.

    graph @f(%x: f64[3], %w: f64[3,4]) {           graph @f_batch(%x: f64[9,3], %w: f64[3,4]) {
      %0 = contract %x, %w [i,ij->j] : f64[4]   =>   %0 = contract %x, %w [ai,ij->aj] : f64[9,4]
      %1 = tanh %0 : f64[4]                          %1 = tanh %0 : f64[9,4]
      return %1                                      return %1
    }                                              }

What depends on a batched input has the batch as axis 0, everything else stays as it is. A loop stays one loop: its body
is batched, and of what it carries whatever depends on the batch in any turn. Only one whose number of turns differs
from value to value runs for one value after the other, each to its own end. The engine knows kinds of ops and what they
declare (`ops.batched`, `Bodied`), never single ones. The rules of a call are batched with it; a gradient by what is the
same for all values is their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from adjit.ir.builder import INPUT, ITEM, Builder
from adjit.ir.graph import Graph, closed, copy_node
from adjit.ir.node import Node
from adjit.ir.types import BOOL, Tuple
from adjit.ops.batched import batched, repeated
from adjit.ops.calls import closed_call, floats_of
from adjit.ops.declare import Bodied, Called, Movement
from adjit_runtime.errors import InternalError

Flags = tuple[bool, ...]


class Batched(NamedTuple):
    """A graph that was batched, and which of its outputs have the batch as axis 0; the others do not depend on it."""

    graph: Graph
    outputs: Flags


def batch(graph: Graph, axes: Sequence[int | None], size: int) -> Batched:
    """`graph` for `size` values of those inputs whose axis is not None: input i has them along its axis `axes[i]`."""
    if graph.updates:
        raise InternalError(f"@{graph.name}: a graph with updates of state was to be batched")
    walk = _Walk(size)
    for node, axis in zip(graph.inputs, axes, strict=True):
        walk.enter(node, axis)
    walk.visit(graph)
    flags = tuple(node in walk.batched for node in graph.outputs)
    outputs = [walk.new[node] for node in graph.outputs]
    return Batched(closed(f"{graph.name}_batch", walk.b.inputs, walk.b.nodes, outputs), flags)


def placed(found: Batched, axes: Sequence[int | None], size: int) -> Graph:
    """The graph with the batch of output i along `axes[i]`, of one that does not depend on it as well; None leaves an
    output as it is."""
    b = Builder()
    b.inputs.extend(found.graph.inputs)
    b.nodes.extend(found.graph.nodes)
    outputs = []
    for node, flag, axis in zip(found.graph.outputs, found.outputs, axes, strict=True):
        b.loc = node.loc
        if axis is None:
            outputs.append(node)
        elif flag:
            outputs.append(moved(b, node, 0, axis))
        else:
            outputs.append(moved(b, repeated(b, node, size), 0, axis))
    return b.graph(found.graph.name, outputs)


def moved(b: Builder, node: Node, axis: int, to: int) -> Node:
    """`node` with an axis at another place, the others in their order."""
    if axis == to:
        return node
    order = [i for i in range(len(node.shape)) if i != axis]
    order.insert(to, axis)
    return b.emit("transpose", node, axes=tuple(order))


def depends(graph: Graph, inputs: Sequence[bool]) -> Flags:
    """Which outputs of a graph depend on those inputs."""
    found = {node for node, flag in zip(graph.inputs, inputs, strict=True) if flag}
    results: dict[Node, dict[int, bool]] = {}
    for node in graph.nodes:
        flags = [arg in found for arg in node.args]
        if node.op is ITEM:
            if node.args[0] in found or results.get(node.args[0], {}).get(node.attrs["index"]):
                found.add(node)
        elif isinstance(node.op, Bodied):
            _, outputs, _ = _through(node, flags)
            results[node] = {at: flag for (at, _), flag in zip(node.op.leaving(node.attrs), outputs, strict=True)}
        elif any(flags):
            found.add(node)
    return tuple(node in found for node in graph.outputs)


def _through(loop: Node, operands: Sequence[bool]) -> tuple[Flags, Flags, bool]:
    """Which inputs of a loop's body depend on those of its operands in any turn, and which of the body's outputs; and
    whether the number of turns does, and with it all results."""
    assert isinstance(loop.op, Bodied)
    entering, body = loop.op.entering(loop.attrs), loop.attrs["body"]
    inputs = tuple(operands[binding.at] for binding in entering)
    while True:
        outputs = depends(body, inputs)
        grown = tuple(
            flag or (binding.how == "carried" and outputs[i])
            for i, (binding, flag) in enumerate(zip(entering, inputs, strict=True))
        )
        if grown == inputs:
            break
        inputs = grown
    carried = {binding.at for binding in entering if binding.how == "carried"}
    if any(inputs[at] if at in carried else operands[at] for at in loop.op.deciding(loop.attrs)):
        return inputs, (True,) * len(outputs), True
    return inputs, tuple(inputs[i] if i in carried else flag for i, flag in enumerate(outputs)), False


@dataclass(eq=False, slots=True)
class _Owner:
    """A call whose rules are being batched, which can stand elsewhere, and which of its operands have the batch. What
    calls it in its rules may have the batch in more of them: then the rules are batched anew."""

    node: Node
    flags: list[bool]


Owners = tuple[_Owner, ...]


class _Walk:
    """One walk over a graph: the image of each node, and the nodes whose image has the batch as axis 0."""

    def __init__(self, size: int, owners: Owners = ()) -> None:
        self.size = size
        self._owners = owners
        self.b = Builder()
        self.new: dict[Node, Node] = {}
        self.batched: set[Node] = set()
        self._repeated: dict[Node, Node] = {}
        self._places: dict[Node, list[int | None]] = {}

    def enter(self, node: Node, axis: int | None) -> None:
        """An input, with the batch along that axis."""
        type = node.array_type
        if axis is not None:
            type = type.with_shape((*type.shape[:axis], self.size, *type.shape[axis:]))
        image = Node(INPUT, (), node.attrs, type, node.loc)
        self.b.loc = node.loc
        self.b.inputs.append(image)
        self.new[node] = image if axis is None else moved(self.b, image, axis, 0)
        if axis is not None:
            self.batched.add(node)

    def visit(self, graph: Graph) -> None:
        """Make the images of all nodes."""
        for node in graph.nodes:
            self.b.loc = node.loc
            if node.op is ITEM:
                self._visit_item(node)
            elif not any(arg in self.batched for arg in node.args):
                self.new[node] = self.b.keep(copy_node(self._alone(node), [self.new[arg] for arg in node.args]))
            elif isinstance(node.op, Bodied):
                self.new[node] = self._loop(node)
            elif isinstance(node.op, Called):
                self.new[node] = self._call(node)
            else:
                self.new[node] = self._rule(node)(self, node)
                self.batched.add(node)

    def _alone(self, node: Node) -> Node:
        """The node, as it can stand where nothing is batched."""
        return closed_call(node, [owner.node for owner in self._owners])

    def of_all(self, node: Node) -> Node:
        """The image of a node with the batch as axis 0: for one that does not depend on it, repeated."""
        if node in self.batched:
            return self.new[node]
        if node not in self._repeated:
            self._repeated[node] = repeated(self.b, self.new[node], self.size)
        return self._repeated[node]

    # -- rules by kind ------------------------------------------------------------------------------------------------

    def _rule(self, node: Node) -> Callable[[_Walk, Node], Node]:
        rule = _RULES.get(node.op.kind)
        if rule is None:
            raise InternalError(f"{node.op.name}: nothing says how an op of the kind {node.op.kind} is batched")
        return rule

    def _by_declaration(self, node: Node) -> Node:
        if isinstance(node.op, Movement) and node.op.lift is None:
            raise InternalError(f"{node.op.name}: its declaration does not say how it is batched (lift)")
        args = [self.new[arg] for arg in node.args]
        return batched(self.b, node, args, [arg in self.batched for arg in node.args], self.size)

    def _check(self, node: Node) -> Node:
        first, *others = node.args
        for other in others:
            if other in self.batched and (other.dtype, other.shape) != (BOOL, ()):
                raise InternalError(f"{node.op.name}: what is asked of a batch is one bool of each, not {other.type}")
        # What must be true of each must be true of all.
        asked = [
            self.b.emit("all", self.new[other], axes=(0,)) if other in self.batched else self.new[other]
            for other in others
        ]
        return self.b.emit(node.op, self.of_all(first), *asked, **node.attrs)

    def _gather(self, node: Node) -> Node:
        x, index = node.args
        b, attrs = self.b, node.attrs
        axis, shared = attrs["axis"], attrs.get("batch", 0)
        if x not in self.batched:
            # The batch goes after the axes that both have, and comes out at the place of the axis that is taken from.
            taken = b.emit(node.op, self.new[x], moved(b, self.new[index], 0, shared), **attrs)
            return moved(b, taken, axis, 0)
        if index not in self.batched and not shared:
            return b.emit(node.op, self.new[x], self.new[index], **{**attrs, "axis": axis + 1})
        return b.emit(node.op, self.new[x], self.of_all(index), **{**attrs, "axis": axis + 1, "batch": shared + 1})

    def _scatter(self, node: Node) -> Node:
        x, index, update = node.args
        axis, shared = node.attrs["axis"], node.attrs.get("batch", 0)
        attrs = {**node.attrs, "axis": axis + 1}
        if index not in self.batched and not shared:
            return self.b.emit(node.op, self.of_all(x), self.new[index], self.of_all(update), **attrs)
        attrs["batch"] = shared + 1
        return self.b.emit(node.op, self.of_all(x), self.of_all(index), self.of_all(update), **attrs)

    # -- loops --------------------------------------------------------------------------------------------------------

    def _loop(self, loop: Node) -> Node:
        """The loop with a batched body; notes where its results have the batch."""
        assert isinstance(loop.op, Bodied)
        entering, leaving = loop.op.entering(loop.attrs), loop.op.leaving(loop.attrs)
        inputs, outputs, differs = _through(loop, [arg in self.batched for arg in loop.args])
        if differs:
            return self._one_by_one(loop)
        operands = [self.new[arg] for arg in loop.args]
        for (at, how), node, flag in zip(entering, loop.attrs["body"].inputs, inputs, strict=True):
            if not flag:
                continue
            operands[at] = self.of_all(loop.args[at])
            if how == "part":
                if len(node.shape) == len(loop.args[at].shape):
                    raise InternalError(f"{loop.op.name}: a loop over rows was to be batched")
                operands[at] = moved(self.b, operands[at], 0, 1)
        places: list[int | None] = [None] * len(leaving)
        for (at, how), flag in zip(leaving, outputs, strict=True):
            if flag and how not in ("carried", "part"):
                raise InternalError(f"{loop.op.name}: a result that is {how} was to be batched")
            places[at] = (1 if how == "part" else 0) if flag else None
        self._places[loop] = places
        body = _body(loop.attrs["body"], inputs, outputs, self.size, self._owners)
        return self.b.emit(loop.op, *operands, **{**loop.attrs, "body": body})

    def _one_by_one(self, loop: Node) -> Node:
        """A loop over the values of the batch, in which the loop is as it was."""
        args = sorted(dict.fromkeys(loop.args), key=lambda arg: arg not in self.batched)
        inner = Builder(loop.loc)
        new = {arg: inner.input("x", arg.array_type.strong) for arg in args}
        node = inner.emit(loop.op, *(new[arg] for arg in loop.args), **self._alone(loop).attrs)
        assert isinstance(loop.type, Tuple)
        count = len(loop.type.items)
        body = inner.graph("value", [inner.emit(ITEM, node, index=i) for i in range(count)])
        self._places[loop] = [0] * count
        return self.b.emit(
            "scan", *(self.new[arg] for arg in args), length=self.size, carried=0,
            sliced=sum(arg in self.batched for arg in args), reverse=False, body=body,
        )  # fmt: skip

    # -- calls --------------------------------------------------------------------------------------------------------

    def _call(self, node: Node) -> Node:
        """The call with a batched body and batched rules; all its results have the batch."""
        self._places[node] = [0] * len(node.attrs["body"].outputs)
        flags = [arg in self.batched for arg in node.args]
        up = node.attrs.get("up", 0)
        if up:
            owner = self._owners[-up]
            owner.flags[:] = [a or b for a, b in zip(owner.flags, flags, strict=True)]
            attrs = {**node.attrs, "body": self._called(node.attrs["body"], tuple(owner.flags))}
        else:
            owner = _Owner(self._alone(node), flags)
            attrs = self._rules(node, owner)
        operands = [
            self.of_all(arg) if flag else self.new[arg] for arg, flag in zip(node.args, owner.flags, strict=True)
        ]
        return self.b.emit(node.op, *operands, **attrs)

    def _called(self, body: Graph, inputs: Flags) -> Graph:
        return _body(body, inputs, (True,) * len(body.outputs), self.size, self._owners)

    def _rules(self, node: Node, owner: _Owner) -> dict[str, Any]:
        """The attributes of the batched call."""
        while True:
            flags = tuple(owner.flags)
            attrs = {**node.attrs, "body": self._called(node.attrs["body"], flags)}
            if "jvp" in attrs:
                attrs["jvp"] = self._forward(node, owner)
            if "fwd" in attrs:
                attrs["fwd"], attrs["bwd"] = self._reverse(node, owner)
            if tuple(owner.flags) == flags:
                return attrs

    def _forward(self, node: Node, owner: _Owner) -> Graph:
        rule: Graph = node.attrs["jvp"]
        tangents = [owner.flags[i] for i in _arguments(node)]
        inputs = (*owner.flags, *tangents)
        return _body(rule, inputs, (True,) * len(rule.outputs), self.size, (*self._owners, owner))

    def _reverse(self, node: Node, owner: _Owner) -> tuple[Graph, Graph]:
        fwd, bwd = node.attrs["fwd"], node.attrs["bwd"]
        owners, results = (*self._owners, owner), len(node.attrs["body"].outputs)
        inputs = tuple(owner.flags)
        kept = depends(fwd, inputs)[results:]
        made = _body(fwd, inputs, (*(True,) * results, *kept), self.size, owners)
        given = (*kept, *(True,) * (len(bwd.inputs) - len(kept)))
        back = _body(bwd, given, (True,) * len(bwd.outputs), self.size, owners)
        return made, _summed(back, [owner.flags[i] for i in _arguments(node)])

    def _visit_item(self, node: Node) -> None:
        """A result of a loop or of a call."""
        (loop,) = node.args
        index = node.attrs["index"]
        axis = self._places[loop][index] if loop in self._places else None
        image = self.b.emit(ITEM, self.new[loop], index=index)
        self.new[node] = image if axis is None else moved(self.b, image, axis, 0)
        if axis is not None:
            self.batched.add(node)


def _arguments(call: Node) -> list[int]:
    """The numbers of the operands that have a gradient."""
    return floats_of(call.attrs["body"].inputs[: call.attrs["given"]])


def _summed(graph: Graph, flags: Sequence[bool]) -> Graph:
    """With the sum over the batch in place of those outputs that have no flag."""
    b = Builder.after(graph)
    outputs = [
        node if flag else b.emit("sum", node, axes=(0,)) for node, flag in zip(graph.outputs, flags, strict=True)
    ]
    return b.graph(graph.name, outputs)


def _body(body: Graph, inputs: Flags, outputs: Flags, size: int, owners: Owners = ()) -> Graph:
    """A body with the batch as axis 0 of these inputs and outputs."""
    walk = _Walk(size, owners)
    for node, flag in zip(body.inputs, inputs, strict=True):
        walk.enter(node, 0 if flag else None)
    walk.visit(body)
    made = [walk.of_all(node) if flag else walk.new[node] for node, flag in zip(body.outputs, outputs, strict=True)]
    return closed(body.name, walk.b.inputs, walk.b.nodes, made)


_RULES: dict[str, Callable[[_Walk, Node], Node]] = {
    **dict.fromkeys(
        (
            "elementwise",
            "movement",
            "contraction",
            "overlap",
            "reduction",
            "argreduction",
            "running",
            "sorting",
            "factoring",
        ),
        _Walk._by_declaration,
    ),
    "check": _Walk._check,
    "gather": _Walk._gather,
    "scatter": _Walk._scatter,
}
