"""Loops whose turns come one after the other: `scan`.

%2 = scan %c, %x, %w length=100 carried=1 sliced=1 body=graph @step(%c: f64[3], %x: f64[2], %w: f64[2,3]) -> ... {
  ...
  return %new, %y
} : (f64[3], f64[100,4])
%3 = item %2 index=0 : f64[3]        # what the last turn carries
%4 = item %2 index=1 : f64[100,4]    # the %y of all turns
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.ir.evaluate import evaluate
from adjit.ir.op import Attrs, register
from adjit.ir.types import Array, Tuple, Type
from adjit.ops.declare import Binding, Bodied
from adjit_runtime.errors import DTypeError, ShapeError


def _scan_type(types: tuple[Array, ...], attrs: Attrs) -> Type:
    body, length, carried, sliced = (attrs[name] for name in ("body", "length", "carried", "sliced"))
    if length < 0:
        raise ShapeError(f"scan: a length of {length}")
    if len(types) != len(body.inputs) or min(carried, sliced) < 0 or carried + sliced > len(types):
        raise ShapeError(f"scan: {len(types)} operands for a body with {len(body.inputs)} inputs")
    if len(body.outputs) < carried or body.updates:
        raise ShapeError(f"scan: a body with {len(body.outputs)} outputs that carries {carried}")
    for i, (outer, node) in enumerate(zip(types, body.inputs, strict=True)):
        inner = node.array_type
        shape = (length, *inner.shape) if carried <= i < carried + sliced else inner.shape
        if (outer.dtype, outer.shape) != (inner.dtype, shape):
            error = ShapeError if outer.shape != shape else DTypeError
            raise error(f"scan: operand {i} is {outer}, the body takes {inner} of each of {length} turns")
    for i, (before, after) in enumerate(zip(body.inputs[:carried], body.outputs, strict=False)):
        if before.type != after.type:
            raise DTypeError(f"scan: what is carried at {i} is {before.type} before a turn and {after.type} after it")
    stacked = [node.array_type for node in body.outputs[carried:]]
    return Tuple(
        (
            *(node.array_type for node in body.outputs[:carried]),
            *(Array(t.dtype, (length, *t.shape)) for t in stacked),
        )
    )


def _evaluate_scan(
    *arrays: Any, body: Any, length: int, carried: int = 0, sliced: int = 0, reverse: bool = False
) -> tuple[np.ndarray, ...]:
    now = list(arrays[:carried])
    parts, whole = arrays[carried : carried + sliced], arrays[carried + sliced :]
    stacked = [np.empty((length, *node.shape), node.dtype) for node in body.outputs[carried:]]
    for i in reversed(range(length)) if reverse else range(length):
        made = evaluate(body, *now, *(array[i] for array in parts), *whole)
        now = made[:carried]
        for array, value in zip(stacked, made[carried:], strict=True):
            array[i] = value
    return (*now, *stacked)


def _entering(attrs: Attrs) -> tuple[Binding, ...]:
    carried, sliced = attrs["carried"], attrs["sliced"]
    hows = ["carried"] * carried + ["part"] * sliced
    hows += ["whole"] * (len(attrs["body"].inputs) - len(hows))
    return tuple(Binding(i, how) for i, how in enumerate(hows))


def _leaving(attrs: Attrs) -> tuple[Binding, ...]:
    carried = attrs["carried"]
    return tuple(Binding(i, "carried" if i < carried else "part") for i in range(len(attrs["body"].outputs)))


scan = register(
    Bodied(
        name="scan", kind="scan", arity=None, infer=_scan_type, evaluate=_evaluate_scan,
        attr_kinds={"length": "int", "carried": "count", "sliced": "count", "reverse": "bool", "body": "graph"},
        entering=_entering, leaving=_leaving,
    )
)  # fmt: skip
"""`body` for each of `length` turns, one after the other; in `reverse` the last one comes first.

Operands, and inputs of the body: `carried` values, of exactly the type that the body gives for them; `sliced` arrays
with an element (`[i]`) for each turn; what all turns read. Results: the last values that are carried (the first ones
where there are no turns), then what the body gives beside, one for each turn, stacked: that of turn i at `[i]`, in
whichever order they come."""
