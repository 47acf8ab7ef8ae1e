"""Which integers count evenly, and where what is made of them does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.control.operands import Operands
from adjit.control.parts import Progression, progression_of, read_in_parts
from adjit.ir.builder import Builder
from adjit.ir.types import F64, I64, Array
from adjit.ir.verify import verify
from tests.control.check import ops, same, scan_of

EVEN: list[tuple[Any, str, tuple[int, int] | None]] = [
    ([0, 1, 2], "int64", (0, 1)),
    ([5, 3, 1, -1], "int32", (5, -2)),
    ([4, 4, 4], "int64", (4, 0)),
    ([7], "uint8", (7, 1)),
    ([250, 251], "uint8", (250, 1)),
    ([3, 2, 1, 0], "uint8", (3, -1)),
    ([0, 1, 3], "int64", None),
    ([], "int64", None),
    ([0.0, 1.0], "float64", None),
    ([False, True], "bool", None),
    ([[0, 1]], "int64", None),
    ([-(2**63), 2**63 - 1], "int64", None),
    ([0, 2**64 - 1], "uint64", None),
]


@pytest.mark.parametrize(("values", "dtype", "expected"), EVEN, ids=str)
def test_integers_that_are_evenly_spaced(values: Any, dtype: str, expected: tuple[int, int] | None) -> None:
    found = progression_of(np.array(values, dtype))
    assert (None if found is None else (found.start, found.step)) == expected
    if expected is not None:
        same(lambda x: adjit.scan(lambda c, i: (c + i, i), x, np.array(values, dtype)), np.array(values[0], dtype))


def test_counters_that_wrap_are_read_by_value() -> None:
    table = np.arange(256.0)

    def f(table: Any) -> Any:
        def turn(c: Any, i: Any) -> Any:
            return c + table[i + np.uint8(10)], None

        return adjit.scan(turn, 0.0, np.arange(240, 250, dtype=np.uint8))[0]

    with np.errstate(over="ignore"):
        same(f, table)
    assert "take" in ops(scan_of(f, table).attrs["body"])


def test_a_graph() -> None:
    inner, outer = Builder(), Builder()
    carry, i, x = inner.input("c", Array(F64)), inner.input("i", Array(I64)), inner.input("x", Array(F64, (4, 10)))
    at = inner.emit("check_index", inner.emit("sub", inner.splat(9, Array(I64)), i), size=10, axis=1)
    column = inner.emit("take", x, at, axis=1)
    inner.emit("check_index", i, size=3, axis=0)
    body = inner.graph("body", [inner.emit("add", carry, inner.emit("sum", column, axes=(0,)))])
    start, counter, array = (outer.input(name, node.array_type) for name, node in (("a", carry), ("b", i), ("c", x)))
    operands = Operands(body, (start,), (counter,), (array,), 6)
    found = read_in_parts(outer, operands, {0: Progression(2, 1, I64)})
    verify(found.body)
    assert ops(found.body) == ["sum", "add"]
    assert [str(node.type) for node in found.body.inputs] == ["f64[]", "i64[]", "f64[4]", "f64[4,10]"]
    assert [str(node.type) for node in found.sliced] == ["i64[]", "f64[6,4]"]
    cut, turned, rows = outer.nodes
    assert (cut.attrs["start"], cut.attrs["stop"]) == ((0, 2), (4, 8))
    assert (turned.attrs, rows.attrs) == ({"axes": (1,)}, {"axes": (1, 0)})
    # Without turns, or a counter, nothing changes.
    assert read_in_parts(outer, operands, {}) is operands
    none = Operands(body, (start,), (counter,), (array,), 0)
    assert read_in_parts(outer, none, {0: Progression(2, 1, I64)}) is none
