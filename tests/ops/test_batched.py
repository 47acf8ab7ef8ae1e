"""An op on many values at once gives what it gives for each of them, whichever of its operands are many."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.ir.verify import verify
from adjit.ops.batched import batched, can_batch, summed
from adjit.ops.declare import Contraction
from tests.ops.samples import COMPUTED, Case, cases_of

WITHOUT = {
    "iota": "has no operand",
    "check_index": "an error names the value's turn",
    "check_fits": "an error names the value's turn",
    "check_holds": "an error names the value's turn",
    "take": "an index for each value takes another form of the op",
    "scatter": "an index for each value takes another form of the op",
    "scatter_add": "an index for each value takes another form of the op",
}
N = 3


def cases(name: str) -> list[Case]:
    """A few small ones, of different shapes and attributes."""
    found: dict[Any, Case] = {}
    for case in cases_of(name):
        key = str(case)
        if all(array.size <= 120 for array in case.arrays) and all(array.dtype.kind in "fib" for array in case.arrays):
            found.setdefault(key, case)
    return list(found.values())[:24]


def node_of(case: Case) -> tuple[Builder, Node]:
    b = Builder()
    args = [b.input(f"x{i}", Array(array.dtype, array.shape)) for i, array in enumerate(case.arrays)]
    return b, b.emit(case.op, *args, **case.attrs)


@pytest.mark.parametrize("name", [name for name in COMPUTED if name not in WITHOUT])
def test_many_at_once_are_each_of_them(name: str) -> None:
    for case in cases(name):
        b, node = node_of(case)
        assert can_batch(node), case
        count = len(case.arrays)
        one = b.graph("one", [node])
        for stacked in itertools.product((True, False), repeat=min(count, 3)):
            which = (*stacked, *(True,) * (count - len(stacked)))
            if any(which):
                compare(case, one, node, which)


def compare(case: Case, one: Any, node: Node, which: tuple[bool, ...]) -> None:
    # Rotated, so that the values differ.
    many = [
        np.stack([np.roll(a, turn) for turn in range(N)]) if w else a for a, w in zip(case.arrays, which, strict=True)
    ]
    b = Builder()
    args = [b.input(f"x{i}", Array(array.dtype, array.shape)) for i, array in enumerate(many)]
    graph = b.graph("many", [batched(b, node, args, which, N)])
    verify(graph)
    (found,) = evaluate(graph, *many)
    for turn in range(N):
        (wanted,) = evaluate(one, *(a[turn] if w else a for a, w in zip(many, which, strict=True)))
        close(found[turn], wanted, str((case, which)))


def close(found: np.ndarray, wanted: np.ndarray, text: str) -> None:
    # NumPy's SIMD loops and sums round by the length of what they run over.
    scale = float(np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1.0)) if wanted.dtype.kind == "f" else 0.0
    rtol = 16 * float(np.finfo(wanted.dtype).eps) if wanted.dtype.kind == "f" else 0.0
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * scale, err_msg=text)


def test_a_sum_of_products_is_a_product() -> None:
    for case in cases("contract"):
        b, node = node_of(case)
        left, right = (np.stack([np.roll(a, turn) for turn in range(N)]) for a in case.arrays)
        many = Builder()
        x, y = (many.input(name, Array(a.dtype, a.shape)) for name, a in (("x", left), ("y", right)))
        graph = many.graph("many", [summed(many, node, x, y)])
        verify(graph)
        one = b.graph("one", [node])
        wanted = sum(evaluate(one, left[turn], right[turn])[0] for turn in range(N))
        close(evaluate(graph, left, right)[0], np.asarray(wanted, node.dtype), str(case))


@pytest.mark.parametrize("name", WITHOUT)
def test_what_has_no_such_form_says_so(name: str) -> None:
    for case in cases(name):
        _, node = node_of(case)
        assert not isinstance(node.op, Contraction)
        assert not can_batch(node)


def test_every_op_is_one_or_the_other() -> None:
    assert set(WITHOUT) < set(COMPUTED) <= set(OPS)


def test_a_weak_cast_has_no_such_form() -> None:
    b = Builder()
    x = b.input("x", Array(np.dtype(np.float32)))
    assert not can_batch(b.emit("cast", x, dtype=np.dtype(np.float64), weak=True))
