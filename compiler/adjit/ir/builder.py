"""Builder makes typed nodes in order; Value is the notation in which derivative and rewrite rules are written.

In a rule `b` is a `Builder` and `x`, `y`, `g` are `Value`s: `g * (1 - y * y)`, `b.select(c, g, 0.0)`,
`b.sum(g, axes=(0,))`. A method of the builder is an op of the registry by its name; operands go by position,
attributes by keyword, subscripts as text. A Python number beside a Value becomes a splat constant of the Value's type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc, Node
from adjit.ir.op import OPS, Op, register
from adjit.ir.subscripts import Subscripts
from adjit.ir.types import F64, Array, Tuple, Type
from adjit_runtime.errors import ShapeError

SMALL_CONSTANT = 16
"""An array constant of up to this many elements is written out in the text."""


def _declared(types: tuple[Array, ...], attrs: Mapping[str, Any]) -> Type:
    raise TypeError("inputs and constants carry their types")


def _constant(*, value: Any = None, data: Data | None = None) -> Any:
    raise TypeError("the evaluator binds constants by the node's type")


def _item_type(types: tuple[Type, ...], attrs: Mapping[str, Any]) -> Type:
    (of,) = types
    if not isinstance(of, Tuple):
        raise TypeError("item of a node that is no tuple")
    index: int = attrs["index"]
    if not 0 <= index < len(of.items):
        raise IndexError(f"item {index} of {of}")
    return of.items[index]


INPUT = register(
    Op(name="input", kind="leaf", arity=0, infer=_declared, evaluate=_constant, attr_kinds={"name": "str"})
)
CONSTANT = register(
    Op(
        name="constant",
        kind="leaf",
        arity=0,
        infer=_declared,
        evaluate=_constant,
        attr_kinds={"value": "scalar", "data": "data"},
    )
)
ITEM = register(
    Op(
        name="item",
        kind="tuple",
        arity=1,
        infer=_item_type,
        evaluate=lambda values, *, index: values[index],
        attr_kinds={"index": "int"},
    )
)


def _check_size(name: str, type: Array) -> None:
    if type.problem:
        raise ShapeError(f"{name}: {type.problem}")


Number = float | int | bool | np.generic


class Builder:
    """Makes nodes, infers their types and keeps them in order. `loc` is what the next nodes carry."""

    def __init__(self, loc: Loc | None = None) -> None:
        self.loc = loc
        self.inputs: list[Node] = []
        self.nodes: list[Node] = []
        self._data = 0
        self._names: set[str] = set()

    @classmethod
    def after(cls, graph: Graph) -> Builder:
        """A builder that goes on where `graph` ended."""
        b = cls()
        b.inputs.extend(graph.inputs)
        b.nodes.extend(graph.nodes)
        b._names.update(node.attrs["name"] for node in graph.inputs)
        return b

    def emit(self, op: Op | str, *args: Node, **attrs: Any) -> Node:
        """Make a node; raises what the op's type rule raises, and ShapeError for a result that is too big."""
        op = OPS[op] if isinstance(op, str) else op
        if op.arity is not None and len(args) != op.arity:
            raise TypeError(f"{op.name} takes {op.arity} operands, not {len(args)}")
        type = op.infer(tuple(arg.type for arg in args), attrs)  # type: ignore[misc]
        for array in (type,) if isinstance(type, Array) else type.items:
            _check_size(op.name, array)
        node = Node(op, args, attrs, type, self.loc)
        self.nodes.append(node)
        return node

    def input(self, name: str, type: Type) -> Node:
        """A new input; a number after its name tells it from an earlier one of that name."""
        given, count = name, 0
        while name in self._names:
            count += 1
            name = f"{given}_{count}"
        self._names.add(name)
        node = Node(INPUT, (), {"name": name}, type, self.loc)
        self.inputs.append(node)
        return node

    def splat(self, value: Number, type: Array) -> Node:
        """A constant with `value` in every element, rounded to the dtype; raises ShapeError where it is too big."""
        _check_size("constant", type)
        if value.__class__ is float and type.dtype == F64:
            scalar = value
        else:
            with np.errstate(all="ignore"):
                scalar = np.asarray(value).astype(type.dtype).item()
        node = Node(CONSTANT, (), {"value": scalar}, type, self.loc)
        self.nodes.append(node)
        return node

    def array(self, array: np.ndarray, name: str | None = None) -> Node:
        """An array constant; kept by reference to a read-only copy."""
        if name is None:
            name = f"c{self._data}"
            self._data += 1
        node = Node(CONSTANT, (), {"data": Data.of(array, name)}, Array(array.dtype, array.shape), self.loc)
        self.nodes.append(node)
        return node

    def keep(self, node: Node) -> Node:
        """Enter a node made elsewhere, whose args are already here."""
        self.nodes.append(node)
        return node

    def inline(self, graph: Graph, args: Sequence[Node]) -> list[Node]:
        """Copy the nodes of `graph` with `args` for its inputs; returns the nodes of its outputs."""
        new = dict(zip(graph.inputs, args, strict=True))
        for node in graph.nodes:
            # A constant, too: one graph may be copied into another twice.
            new[node] = self.keep(Node(node.op, tuple(new[arg] for arg in node.args), node.attrs, node.type, node.loc))
        return [new[node] for node in graph.outputs]

    def graph(self, name: str, outputs: Iterable[Node], updates: Iterable[tuple[Node, Node]] = ()) -> Graph:
        """Close the graph."""
        return Graph(name, tuple(self.inputs), tuple(self.nodes), tuple(outputs), tuple(updates))

    def value(self, node: Node) -> Value:
        """`node` in the notation of rules."""
        return Value(self, node)

    def full(self, value: Number, like: Value | Array) -> Value:
        """A splat constant as a Value."""
        return Value(self, self.splat(value, like if isinstance(like, Array) else like.type.strong))

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name.startswith("_") or name not in OPS:
            raise AttributeError(name)
        op = OPS[name]

        def apply(*operands: Value | Number, **attrs: Any) -> Value:
            if op.attr_kinds.get("spec") == "subscripts":
                attrs["spec"] = Subscripts.of(attrs["spec"])
            if not operands:
                return Value(self, self.emit(op, **attrs))
            like = next(x for x in operands if isinstance(x, Value) and not (name == "select" and x is operands[0]))
            values = [x if isinstance(x, Value) else self.full(x, like) for x in operands]
            return Value(self, self.emit(op, *(value.node for value in values), **attrs))

        return apply


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A node together with the builder that its users go to; has Python's operators."""

    builder: Builder
    node: Node

    @property
    def type(self) -> Array:
        """The node's array type."""
        return self.node.array_type

    @property
    def shape(self) -> tuple[int, ...]:
        """The node's shape."""
        return self.node.shape

    @property
    def dtype(self) -> np.dtype:
        """The node's dtype."""
        return self.node.dtype

    def _binary(self, op: str, other: Operand, swap: bool = False) -> Value:
        other = other if isinstance(other, Value) else self.builder.full(other, self)
        a, b = (other, self) if swap else (self, other)
        return Value(self.builder, self.builder.emit(op, a.node, b.node))

    def __add__(self, other: Operand) -> Value:
        return self._binary("add", other)

    def __radd__(self, other: Operand) -> Value:
        return self._binary("add", other, swap=True)

    def __sub__(self, other: Operand) -> Value:
        return self._binary("sub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Operand) -> Value:
        return self._binary("mul", other)

    def __rmul__(self, other: Operand) -> Value:
        return self._binary("mul", other, swap=True)

    def __truediv__(self, other: Operand) -> Value:
        return self._binary("div", other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary("div", other, swap=True)

    def __neg__(self) -> Value:
        return Value(self.builder, self.builder.emit("neg", self.node))

    def __and__(self, other: Operand) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Operand) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Operand) -> Value:
        return self._binary("xor", other)

    def __invert__(self) -> Value:
        return Value(self.builder, self.builder.emit("not", self.node))

    def __lt__(self, other: Operand) -> Value:
        return self._binary("lt", other)

    def __le__(self, other: Operand) -> Value:
        return self._binary("le", other)

    def __gt__(self, other: Operand) -> Value:
        return self._binary("gt", other)

    def __ge__(self, other: Operand) -> Value:
        return self._binary("ge", other)

    def eq(self, other: Operand) -> Value:
        """Element-wise equality; `==` stays identity, as Values are compared by identity."""
        return self._binary("eq", other)

    def ne(self, other: Operand) -> Value:
        """Element-wise inequality."""
        return self._binary("ne", other)


Operand = Value | float | int | bool | np.generic
