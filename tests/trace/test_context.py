"""Traces inside traces: captures, inlining, `apply`; the graph's form; locations on every node."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adjit.ir.evaluate import evaluate
from adjit.ir.types import F32, F64, I64, Array
from adjit.ir.verify import verify
from adjit.trace import apply, current_trace, inline, is_tracer, trace_flat
from adjit_runtime.errors import DTypeError, ShapeError, TraceError
from tests.trace.check import floats, run, trace_of

V = Array(F32, (3,))


def test_outputs_are_a_pytree_and_plain_leaves_constants() -> None:
    def model(x: Any) -> Any:
        return {"loss": x.sum(), "aux": (x, 2.5, 3, True, np.float32(1), np.arange(3)), "none": None}

    traced = trace_of(model, V)
    assert [str(node.type) for node in traced.graph.outputs] == [
        "f32[3]", "f64[]~", "i64[]~", "bool[]~", "f32[]", "i64[3]", "f32[]",
    ]  # fmt: skip
    assert traced.captures == []


def test_inputs_keep_names_and_types() -> None:
    traced = trace_flat("f", lambda args: args[1], [V, Array(F64, (), True)], ["w", "t"])
    assert [(node.attrs["name"], str(node.type)) for node in traced.graph.inputs] == [("w", "f32[3]"), ("t", "f64[]~")]
    assert traced.graph.outputs == (traced.graph.inputs[1],)
    assert traced.graph.nodes == ()


def test_dead_code_is_not_in_the_graph() -> None:
    def model(x: Any) -> Any:
        np.exp(x)
        return x + 1

    assert len([node for node in trace_of(model, V).graph.nodes if node.op.name != "constant"]) == 1


def test_every_node_has_the_users_place() -> None:
    def model(x: Any, w: Any) -> Any:
        h = np.maximum(x @ w, 0.0)
        h = h - np.mean(h, axis=0)
        h[0] = 1
        return (
            np.sum(h * 2)
            / 3
        )  # fmt: skip

    traced = trace_of(model, Array(F32, (4, 3)), Array(F32, (3, 5)))
    first = model.__code__.co_firstlineno
    lines = {node.loc.line - first for node in traced.graph.nodes if node.loc is not None}
    assert all(node.loc is not None and node.loc.file == __file__ for node in traced.graph.nodes)
    assert lines == {1, 2, 3, 5}
    contract = next(node for node in traced.graph.nodes if node.op.name == "contract")
    source = Path(__file__).read_text(encoding="utf-8").splitlines()[contract.loc.line - 1]
    assert source[contract.loc.column : contract.loc.end_column] == "x @ w"


def test_captures_of_an_enclosing_trace() -> None:
    def outer(x: Any, y: Any) -> Any:
        z = x * 2
        view = z[1:]
        inner = trace_flat("inner", lambda args: args[0] * z + view.sum() + y[0] + z, [V], ["a"])
        z[0] = 5
        assert [node.attrs["name"] for node in inner.graph.inputs] == ["a", "capture0", "capture1", "capture2"]
        assert all(map(is_tracer, inner.captures))
        verify(inner.graph)
        return inline(inner.graph, [x, *inner.captures])[0], z

    x, y = floats(3), floats(3, seed=1)
    found, z = run(outer, x, y)
    before = x * 2
    np.testing.assert_allclose(found, x * before + before[1:].sum() + y[0] + before, rtol=1e-6)
    assert z[0] == 5


def test_captures_through_two_levels() -> None:
    def outer(x: Any) -> Any:
        def middle(args: list[Any]) -> Any:
            inner = trace_flat("inner", lambda a: a[0] + x, [V], ["a"])
            return inline(inner.graph, [args[0], *inner.captures])

        traced = trace_flat("middle", middle, [V], ["m"])
        assert len(traced.graph.inputs) == 2
        return inline(traced.graph, [x * 3, *traced.captures])

    np.testing.assert_allclose(run(outer, floats(3))[0], floats(3) * 4, rtol=1e-6)


def test_an_outer_value_cannot_be_changed_inside() -> None:
    def outer(x: Any) -> Any:
        z = x + 0

        def inner(args: list[Any]) -> Any:
            nonlocal z
            z += args[0]
            return z

        return trace_flat("inner", inner, [V], ["a"]).graph.outputs

    with pytest.raises(TraceError, match=r"closes over would be changed in place"):
        trace_of(outer, V)


def test_views_of_outer_values_inside() -> None:
    def outer(x: Any) -> Any:
        inner = trace_flat("inner", lambda a: (x.T.reshape(-1)[::2], x[1:], x[0, 0]), [V], ["a"])
        assert len(inner.captures) == 1
        return inline(inner.graph, [np.zeros(3, np.float32), *inner.captures])

    x = floats(3, 4)
    for have, want in zip(run(outer, x), (x.T.reshape(-1)[::2], x[1:], x[0, 0]), strict=True):
        np.testing.assert_array_equal(have, want)


def test_a_tracer_in_another_thread() -> None:
    errors: list[BaseException] = []

    def model(x: Any) -> Any:
        def work() -> None:
            try:
                x + 1
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x

    # What the thread caught is raised again when the trace ends.
    with pytest.raises(TraceError, match="another thread") as info:
        trace_of(model, V)
    assert info.value is errors[0]


def test_threads_trace_apart() -> None:
    results: list[Any] = []

    def work() -> None:
        results.extend(len(trace_of(lambda x: x * 2 + 1, V).graph.nodes) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert len(set(results)) == 1


def test_the_stack_is_clean_after_an_error() -> None:
    def broken(x: Any) -> Any:
        raise ValueError

    with pytest.raises(ValueError):
        trace_of(broken, V)
    assert current_trace() is None


def test_inline_checks_its_arguments() -> None:
    graph = trace_of(lambda x: x + 1, V).graph
    with pytest.raises(ShapeError, match=r"@<lambda>: the input %x0 is f32\[3\], not f32\[4\]"):
        run(lambda x: inline(graph, [x]), floats(4))
    with pytest.raises(DTypeError, match="f64"):
        run(lambda x: inline(graph, [x]), floats(3, dtype=np.float64))
    with pytest.raises(TraceError, match="takes 1 arguments, not 2"):
        run(lambda x: inline(graph, [x, x]), floats(3))


def test_apply() -> None:
    x = floats(3)
    np.testing.assert_array_equal(apply("add", x, 1), x + 1)
    np.testing.assert_allclose(run(lambda x: apply("sigmoid", x), x), 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_allclose(apply("sigmoid", x), 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_array_equal(run(lambda x: apply("mul", x, np.float32(2)), x), x * 2)
    np.testing.assert_array_equal(apply("sum", x[None], axes=(0,)), x)
    np.testing.assert_array_equal(run(lambda x: apply("sum", x, axes=(0,)), x[None]), x)
    np.testing.assert_array_equal(run(lambda x: apply("select", x > 0, x, 0), x), np.where(x > 0, x, 0))
    assert apply("sigmoid", 0.0) == 0.5
    bits = apply("random_bits", np.int64(3), np.arange(4))
    np.testing.assert_array_equal(run(lambda n: apply("random_bits", 3, n), np.arange(4)), bits)


def test_constants_of_one_object_are_one_node() -> None:
    table = floats(100)

    def model(x: Any) -> Any:
        for _ in range(5):
            x = x + table
        return x

    nodes = trace_of(model, Array(F32, (100,))).graph.nodes
    assert [node.op.name for node in nodes] == ["constant"] + ["add"] * 5


def test_evaluation_of_weak_inputs() -> None:
    graph = trace_of(lambda t: np.arange(3) * t, Array(I64, (), True)).graph
    np.testing.assert_array_equal(evaluate(graph, 4)[0], [0, 4, 8])
