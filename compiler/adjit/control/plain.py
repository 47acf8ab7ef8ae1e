"""A loop outside of a trace is Python's over NumPy arrays, so that a debugger steps through it.

Gives the types that the traced loop gives: what is carried is brought to its settled type, and the first turn runs
again where that changed. Arrays that are carried are copies, so that a body that writes into them changes neither the
caller's, nor what an earlier turn stacked; elements of `xs` are read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.control import carry
from adjit.control.call import Call, Tree, type_of_leaf
from adjit.control.traced import empty
from adjit.ir.types import Array
from adjit.trace.promote import check_fits
from adjit.trace.tracer import read_only
from adjit_runtime.errors import OutOfMemory

_PYTHON: dict[str, type] = {"b": bool, "i": int, "f": float, "c": complex}


def run(call: Call) -> tuple[Any, Any]:
    """(carry, ys) after all turns."""
    types = [type_of_leaf(leaf) for leaf in call.init.leaves]
    order = range(call.length)[:: -1 if call.reverse else 1]
    if not order:
        return _no_turns(call)
    types, after, first = _first(call, types, order[0])
    stacked = [first]
    for turn, i in enumerate(order[1:], 1):
        after, y = _turn(call, _carried(call, after.leaves, types), i)
        types = carry.settled_later(call, types, after)
        carry.check_same(call, turn, first, y)
        stacked.append(y)
    return call.init.of(_carried(call, after.leaves, types)), _stacked(call, stacked)


def run_while(call: Call) -> Any:
    """The carry after the last turn of a loop that goes on as long as `call.goes_on` says, and `call.length` turns at
    most. Without any turn it is init."""
    assert call.goes_on is not None
    types = [type_of_leaf(leaf) for leaf in call.init.leaves]
    values = _carried(call, call.init.leaves, types)
    turn = 0
    while call.goes_on(call.init.of([_to_read(value) for value in values])) and turn < call.length:
        if not turn:
            types, after, _ = _first(call, types, 0)
        else:
            after, _ = _turn(call, values, turn)
            types = carry.settled_later(call, types, after)
        values = _carried(call, after.leaves, types)
        turn += 1
    return call.init.of(values)


def _no_turns(call: Call) -> tuple[Any, Any]:
    """What a loop gives whose body never runs; the types of what is stacked are those of a trace."""
    if call.counter is not None:
        return call.init.of(_carried(call, call.init.leaves, list(map(type_of_leaf, call.init.leaves)))), None
    types, spec, ys = empty(call)
    found = Tree("y", [np.empty((0, *type.shape), type.dtype) for type in ys], spec)
    return call.init.of(_carried(call, call.init.leaves, types)), found.of(found.leaves)


def _first(call: Call, types: list[Array], i: int) -> tuple[list[Array], Tree, Tree]:
    """The types of the carry, and what the first turn gives for one of these types."""
    while True:
        after, y = _turn(call, _carried(call, call.init.leaves, types), i)
        wanted = carry.settled(call, types, after)
        if wanted == types:
            return types, after, y
        types = wanted


def _turn(call: Call, leaves: list[Any], i: int) -> tuple[Tree, Tree]:
    """What a turn gives; y as copies, which later turns do not write into."""
    x: Any = call.xs.of([_element(leaf, i) for leaf in call.xs.leaves]) if call.counter is None else call.counter[i]
    new, y = call.turn(call.init.of(leaves), x)
    found = carry.results(call, y, "y")
    copies = [np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in found.leaves]
    return carry.results(call, new, "carry"), Tree("y", copies, found.spec)


def _element(leaf: Any, i: int) -> Any:
    return _to_read(leaf[i])


def _to_read(value: Any) -> Any:
    return read_only(value) if isinstance(value, np.ndarray) else value


def _carried(call: Call, leaves: Sequence[Any], types: Sequence[Array]) -> list[Any]:
    """Leaves as the next turn takes them: of these types, and arrays of their own where init has arrays."""
    given = zip(leaves, types, call.init.leaves, strict=True)
    return [_converted(leaf, type, isinstance(first, np.ndarray)) for leaf, type, first in given]


def _converted(leaf: Any, type: Array, is_array: bool) -> Any:
    if type.weak:
        return _PYTHON[type.dtype.kind](leaf)
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        check_fits(leaf, type.dtype)
    array = np.array(leaf, dtype=type.dtype, order="C")
    return array if is_array else array[()]


def _stacked(call: Call, ys: list[Tree]) -> Any:
    if call.reverse:
        ys.reverse()
    try:
        leaves = [
            np.stack([np.asarray(leaf) for leaf in column]) for column in zip(*(y.leaves for y in ys), strict=True)
        ]
    except MemoryError:
        raise OutOfMemory(f"{call.loop}: there is no memory for what {len(ys)} turns stack") from None
    return ys[0].of(leaves)
