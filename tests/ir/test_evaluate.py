"""The evaluator: NumPy's values with exact types, checked inputs, callbacks and breakpoints."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.evaluate import evaluate, evaluate_all
from adjit.ir.node import Node
from adjit.ir.op import OPS, Op
from adjit.ir.text import parse
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, InternalError, ShapeError

LOSS = parse("""\
graph @loss(%w: f32[2,8], %x: f32[4,2]) -> f32[] {
  %0 = contract %x, %w [ik,kj->ij] : f32[4,8]  # model.py:12
  %1 = maximum %0, 0.0 : f32[4,8]              # model.py:12
  %2 = sum %1 axes=(0,1) : f32[]               # other.py:12
  %3 = mul %w, 0.5 : f32[2,8]                  # model.py:14
  return %2
  update %w = %3
}
""")
RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(2, 8)).astype(np.float32), RNG.normal(size=(4, 2)).astype(np.float32)


def test_values_are_numpys() -> None:
    (loss,) = evaluate(LOSS, W, X)
    np.testing.assert_allclose(loss, np.sum(np.maximum(X @ W, 0)), rtol=1e-6)  # einsum may sum in another order
    assert loss.dtype == np.float32
    assert loss.shape == ()


def test_updates_are_given_by_name() -> None:
    before = W.copy()
    result = evaluate_all(LOSS, W, X)
    assert list(result.updates) == ["w"]
    np.testing.assert_array_equal(result.updates["w"], W * np.float32(0.5))
    np.testing.assert_array_equal(W, before)


def test_results_are_the_callers_own() -> None:
    graph = parse("""\
graph @f(%x: f32[3]) -> (f32[3], f32[2,3]) {
  %0 = broadcast %x shape=(2,3) axes=(1) : f32[2,3]
  return %x, %0
}""")
    x = np.ones(3, np.float32)
    same, wide = evaluate(graph, x)
    same[:], wide[0] = 5, 7
    np.testing.assert_array_equal(x, np.ones(3))
    np.testing.assert_array_equal(wide[1], np.ones(3))


def test_the_callback_sees_every_node() -> None:
    seen: list[tuple[str, Any]] = []
    evaluate(LOSS, W, X, callback=lambda node, value: seen.append((node.op.name, value.shape)))
    assert seen == [("contract", (4, 8)), ("maximum", (4, 8)), ("sum", ()), ("mul", (2, 8))]


@pytest.mark.parametrize(
    ("line", "ops"),
    [("model.py:12", ["contract", "maximum"]), (12, ["contract", "maximum", "sum"]), (14, ["mul"]), (1, [])],
)
def test_a_breakpoint_stops_before_each_node_of_the_line(line: str | int, ops: list[str]) -> None:
    stops: list[tuple[str, set[str]]] = []
    evaluate(LOSS, W, X, breakpoint=line, on_break=lambda node, values: stops.append((node.op.name, set(values))))
    assert [op for op, _ in stops] == ops
    if line == "model.py:12":
        # %x is dead by then: the contraction was its last reader.
        assert [names for _, names in stops] == [{"%w", "%x"}, {"%w", "%0"}]


def test_a_breakpoint_opens_the_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: calls.append(1))
    evaluate(LOSS, W, X, breakpoint="model.py:14")
    assert calls == [1]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((W,), ArgumentError, r"@loss takes 2 inputs \(w, x\), not 1"),
        ((W.T, X), ShapeError, r"input w has the shape \(8, 2\), the graph wants f32\[2,8\]"),
        ((W, X.astype(np.float64)), DTypeError, r"input x is f64, the graph wants f32\[4,2\]"),
        ((W, 1.0), ShapeError, r"input x has the shape \(\)"),
    ],
)
def test_inputs_are_checked(inputs: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate(LOSS, *inputs)


def test_python_scalars_fit_scalars() -> None:
    graph = parse("graph @f(%t: i64[]~, %s: f32[]) -> (i64[]~, f32[]) {\n  return %t, %s\n}")
    t, s = evaluate(graph, 3, 2)
    assert (t.dtype, s.dtype) == (np.int64, np.float32)
    with pytest.raises(DTypeError, match=r"input t is the float 3\.5"):
        evaluate(graph, 3.5, 2)


def test_an_index_out_of_range_raises() -> None:
    graph = parse("graph @f(%i: i64[]) -> i64[] {\n  %0 = check_index %i size=3 axis=0 : i64[]\n  return %0\n}")
    assert evaluate(graph, -1)[0] == 2
    with pytest.raises(IndexOutOfRange, match="index 3 is out of bounds for axis 0 with size 3"):
        evaluate(graph, 3)


def test_no_warning_reaches_the_user() -> None:
    graph = parse("""\
graph @f(%x: f32[2]) -> (f32[2], f32[]) {
  %0 = div %x, 0.0 : f32[2]
  %1 = sum %0 axes=(0) : f32[]
  return %0, %1
}""")
    values, total = evaluate(graph, np.array([1, -1], np.float32))
    assert list(values) == [np.inf, -np.inf]
    assert np.isnan(total)


def test_dead_values_are_freed() -> None:
    graph = parse("""\
graph @f(%x: f32[1000]) -> f32[1000] {
  %0 = exp %x : f32[1000]
  %1 = tanh %0 : f32[1000]
  %2 = neg %1 : f32[1000]
  return %2
}""")
    alive: list[int] = []
    values: list[weakref.ref[np.ndarray]] = []

    def look(node: Node, value: np.ndarray) -> None:
        values.append(weakref.ref(value))
        gc.collect()
        alive.append(sum(ref() is not None for ref in values))

    evaluate(graph, np.ones(1000, np.float32), callback=look)
    assert max(alive) <= 2


def test_an_op_that_breaks_its_type_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Op(name="wrong", kind="x", arity=1, infer=lambda types, attrs: types[0], evaluate=lambda x: x.astype("f8"))
    monkeypatch.setitem(OPS, "wrong", wrong)
    graph = parse("graph @f(%x: f32[2]) -> f32[2] {\n  %0 = wrong %x : f32[2]\n  return %0\n}")
    with pytest.raises(InternalError, match=r"wrong at None gives f64\[2\], where its type rule says f32\[2\]"):
        evaluate(graph, np.ones(2, np.float32))
