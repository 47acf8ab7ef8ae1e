"""What the graph knows of an op: its name, kind, type rule and meaning in NumPy; and the registry of ops.

`ops/` declares the ops, each with its derivative and lowering, in classes derived from `Op`; engines look at
those. Here is only what printing, parsing, verifying and evaluating need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adjit.ir.types import Array, Type

Attrs = Mapping[str, Any]
"""An op's static parameters: ints, floats, strings, bools, dtypes, tuples of ints, `Data`, `Graph`, `Subscripts`."""

TypeRule = Callable[[tuple[Array, ...], Attrs], Type]
Meaning = Callable[..., Any]
Rule = Callable[..., Any]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Op:
    """One primitive.

    `infer(types, attrs)` gives the result's type or raises `ShapeError` / `DTypeError`;
    `evaluate(*arrays, **attrs)` is the meaning, with NumPy arrays in and out;
    `attr_kinds` names the attributes in the order in which they print, each with its kind:
    "int", "count" (an int from 0 on, which may be left out where it is 0), "ints", "bool", "float", "str", "dtype",
    "scalar", "data", "graph", "rule" (a graph that may be left out), "subscripts".
    `arity` is the number of operands, or None where it varies;
    `axes` says how the axes of operands and result relate (`ir.axes`), or is None where that is no question.
    """

    name: str
    kind: str
    arity: int | None
    infer: TypeRule
    evaluate: Meaning
    attr_kinds: Mapping[str, str] = field(default_factory=dict)
    axes: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<op {self.name}>"


OpT = TypeVar("OpT", bound=Op)

OPS: dict[str, Op] = {}
"""Every op by name."""


def register(op: OpT) -> OpT:
    """Enter an op into the registry; a name is given once."""
    if op.name in OPS:
        raise ValueError(f"op {op.name!r} is declared twice")
    OPS[op.name] = op
    return op
