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
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import Attrs, register
from adjit.ir.types import BOOL, I64, Array, Tuple, Type
from adjit.ops.declare import Binding, Bodied
from adjit_runtime.errors import DTypeError, ShapeError

MOST_TURNS = 1 << 62
"""A length that is no bound: that of a loop which stops by itself."""


def known_turns(length: int) -> int:
    """The turns that a loop may have at most; of one without bound none but the first is known."""
    return length if length < MOST_TURNS else 1


def _scan_type(types: tuple[Array, ...], attrs: Attrs) -> Type:
    body, length, carried, sliced = (attrs[name] for name in ("body", "length", "carried", "sliced"))
    if not 0 <= length <= MOST_TURNS:
        raise ShapeError(f"scan: a length of {length}")
    if attrs.get("ranged", False) and not attrs.get("counted", False):
        raise ShapeError("scan: a loop that is ranged is counted")
    if attrs.get("counted", False):
        ranged = attrs.get("ranged", False)
        if not types or (types[-1].dtype, types[-1].shape) != (I64, (2,) if ranged else ()):
            what = "a range of turns, i64[2]" if ranged else "a number of turns, i64[]"
            raise DTypeError(f"scan: the last operand of a loop that is counted is {what}")
        types = types[:-1]
    counts = attrs.get("stops", False) or attrs.get("counted", False)
    if 0 < attrs.get("checkpoints", 0) < length - 1 and counts and (sliced or len(body.outputs) > carried):
        raise ShapeError(
            "scan: a loop whose number of turns is not known, with fewer checkpoints than turns, has neither parts nor "
            "stacked results"
        )
    if len(types) != len(body.inputs) or min(carried, sliced) < 0 or carried + sliced > len(types):
        raise ShapeError(f"scan: {len(types)} operands for a body with {len(body.inputs)} inputs")
    if len(body.outputs) < carried or body.updates:
        raise ShapeError(f"scan: a body with {len(body.outputs)} outputs that carries {carried}")
    if attrs.get("stops", False) and (not carried or attrs.get("reverse", False) or not _is_flag(body.inputs[0].type)):
        raise DTypeError("scan: the first value that a loop which stops carries is bool[], and it goes forwards")
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


def _is_flag(type: Type) -> bool:
    return type == Array(BOOL, ())


def _evaluate_scan(
    *arrays: np.ndarray,
    body: Graph,
    length: int,
    carried: int = 0,
    sliced: int = 0,
    reverse: bool = False,
    stops: bool = False,
    counted: bool = False,
    ranged: bool = False,
    checkpoints: int = 0,
    closed: bool = False,
    stretches: bool = False,
) -> tuple[np.ndarray, ...]:
    first, count = _turns(arrays[-1]) if counted else (0, length)
    count = min(count, length)
    operands = arrays[: len(body.inputs)]
    now = list(operands[:carried])
    parts, whole = operands[carried : carried + sliced], operands[carried + sliced :]
    stacked = [np.zeros((length, *node.shape), node.dtype) for node in body.outputs[carried:]]
    at = first
    while at < count and not (stops and not now[0]):
        i = first + count - 1 - at if reverse else at
        made = evaluate(body, *now, *(array[i] for array in parts), *whole)
        now = made[:carried]
        for array, value in zip(stacked, made[carried:], strict=True):
            array[i] = value
        at += 1
    return (*now, *stacked)


def _turns(operand: Any) -> tuple[int, int]:
    """The first turn and the one after the last, of the operand that says so."""
    first, end = (0, operand) if np.ndim(operand) == 0 else operand
    return max(int(first), 0), int(end)


def _entering(attrs: Attrs) -> tuple[Binding, ...]:
    carried, sliced = attrs["carried"], attrs["sliced"]
    hows = ["carried"] * carried + ["part"] * sliced
    hows += ["whole"] * (len(attrs["body"].inputs) - len(hows))
    return tuple(Binding(i, how) for i, how in enumerate(hows))


def _leaving(attrs: Attrs) -> tuple[Binding, ...]:
    carried = attrs["carried"]
    return tuple(Binding(i, "carried" if i < carried else "part") for i in range(len(attrs["body"].outputs)))


def _deciding(attrs: Attrs) -> tuple[int, ...]:
    first = (0,) if attrs.get("stops", False) else ()
    return (*first, len(attrs["body"].inputs)) if attrs.get("counted", False) else first


scan = register(
    Bodied(
        name="scan", kind="scan", arity=None, infer=_scan_type, evaluate=_evaluate_scan,
        attr_kinds={"length": "int", "carried": "count", "sliced": "count", "reverse": "bool", "stops": "bool",
                    "counted": "bool", "ranged": "bool", "checkpoints": "count", "closed": "bool",
                    "stretches": "bool", "body": "graph"},
        entering=_entering, leaving=_leaving, deciding=_deciding,
    )
)  # fmt: skip
"""`body` for each of `length` turns, one after the other; in `reverse` the last one comes first.

Operands, and inputs of the body: `carried` values, of exactly the type that the body gives for them; `sliced` arrays
with an element (`[i]`) for each turn; what all turns read. Results: the last values that are carried (the first ones
where there are no turns), then what the body gives beside, one for each turn, stacked: that of turn i at `[i]`, in
whichever order they come.

One that is `counted` has one operand more, the last, how many turns there are: from turn 0 on, `length` at most. One
that `stops` ends ahead of the turn for which the first value that it carries, a bool, is false. What is stacked for
turns that do not run is arbitrary. One that is `ranged`, too, has i64[2] there: the first turn that runs, and the one
after the last.

`checkpoints`, `closed` and `stretches` say nothing of the results. With `checkpoints` reverse mode keeps so many of
the states that a loop carries, the first one among them, and computes all else that it needs of the turns again; 0
leaves to it what is kept of each turn. What is computed in a loop that is `closed` is computed in it. A turn of
`stretches` goes through several turns of one and the same loop, by loops in it that do the same or are ranged, and tell
errors the number."""


def runs_all(node: Node) -> bool:
    """Whether each turn of a loop runs, whatever its operands are: what its body computes of invariants may be computed
    ahead of it."""
    return not (node.attrs.get("counted", False) or node.attrs.get("stops", False))


def is_closed(node: Node) -> bool:
    """Whether what a loop computes is not to be computed around it: it was there already, and is computed again so that
    it need not be kept. Such a loop is not taken apart, and no invariant of it is computed ahead."""
    return bool(node.attrs.get("closed", False))


def may_stack(node: Node) -> bool:
    """Whether a loop may have values of all of its turns as results, or read such, that it did not have: not one that
    has checkpoints so as to do without."""
    return not node.attrs.get("checkpoints", 0)


def marks(node: Node, *names: str) -> dict[str, Any]:
    """Those of the attributes of a loop that it has, and that are not what they are when left out."""
    return {name: node.attrs[name] for name in names if node.attrs.get(name, False)}
