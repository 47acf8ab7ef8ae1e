"""Every function and ufunc of NumPy that dispatches is in the table or refused with a reason; weak values stay weak."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from adjit.ir.types import F32, F64, I32, Array
from adjit.trace import table, trace_flat
from adjit.trace.dispatch import signature_of
from adjit_runtime.errors import TraceError, WideningWarning
from tests.trace.numpy_calls import from_text, sample, traced

MODULES = (np, np.linalg, np.fft)
DISPATCHING = {
    f"{module.__name__}.{name}": f
    for module in MODULES
    for name, f in vars(module).items()
    if hasattr(f, "_implementation") and not name.startswith("_")
}
UFUNCS = {name: f for name, f in vars(np).items() if isinstance(f, np.ufunc)}
NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
LIKE = "arange array asanyarray asarray ascontiguousarray empty eye full identity ones tri zeros"


def test_the_walk_finds_functions() -> None:
    assert len(DISPATCHING) > 200
    assert len(UFUNCS) > 90


@pytest.mark.parametrize("name", sorted(DISPATCHING))
def test_function(name: str) -> None:
    function = DISPATCHING[name]
    assert (function in table.FUNCTIONS) != (function in table.REFUSED)


@pytest.mark.parametrize("name", sorted(UFUNCS))
def test_ufunc(name: str) -> None:
    target = UFUNCS[name]
    assert (target in table.UFUNCS or target in table.GUFUNCS) != (target in table.REFUSED)


def test_arguments_that_a_call_must_have_are_taken() -> None:
    """Under the name that this NumPy gives them: it renames some."""
    for function, implementation in table.FUNCTIONS.items():
        signature, own = signature_of(function), inspect.signature(implementation).parameters.values()
        if signature is None or any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in own):
            continue
        needed = {p.name for p in signature.parameters.values() if p.default is p.empty and p.kind in NAMED}
        assert needed <= {p.name for p in own}, table.name_of(function)


def test_reasons() -> None:
    for reason in table.REFUSED.values():
        assert len(reason) > 10
        assert not reason.endswith(".")


@pytest.mark.parametrize("name", sorted(name for name, f in DISPATCHING.items() if f in table.REFUSED))
def test_refusal_names_the_function_and_the_reason(name: str) -> None:
    function = DISPATCHING[name]
    with pytest.raises(TraceError) as caught:
        trace_flat(
            "f", lambda xs: table.METHODS["__array_function__"](function, (xs[0],), {}), [Array(F64, (2,))], ["x"]
        )
    shown = name.replace("numpy.", "np.")
    assert shown in str(caught.value) or name.rsplit(".", 1)[-1] in str(caught.value)
    assert table.REFUSED[function] in str(caught.value)


@pytest.mark.parametrize("name", LIKE.split())
def test_creation_with_like(name: str) -> None:
    assert getattr(np, name) in table.FUNCTIONS


WEAK = [
    "np.clip(x, 0, 1)", "np.clip(x, None, 1)", "np.round(x)", "np.round(x, 2)", "np.hypot(x, 2)", "np.sinc(x)",
    "np.nan_to_num(x)", "np.square(x)", "np.heaviside(x, 0.5)", "np.maximum(x, 0)", "np.sqrt(x)",
    "np.where(x > 0, x, 1.0)", "np.select([x > 0], [x], 2.0)", "np.modf(x)[0]", "np.divmod(x, 2)[0]", "np.real(x)",
    "np.fix(x)", "np.logaddexp(x, 1.0)", "np.fmax(x, 1)", "np.reciprocal(x)", "np.floor(x)", "np.minimum(1, x)",
]  # fmt: skip


@pytest.mark.parametrize("text", WEAK)
def test_weak_values_stay_weak(text: str) -> None:
    call = from_text(text, "x")
    graph = trace_flat(
        "f", lambda xs: [call(xs[0]), call(xs[0]) * xs[1]], [Array(F64, (), True), Array(F32, (2,))], ["x", "y"]
    ).graph
    assert [str(node.type) for node in graph.outputs] == ["f64[]~", "f32[2]"]


STRONG = [
    "np.sum(x)",
    "np.zeros_like(x)",
    "np.array([x, x], like=x)[0]",
    "np.dot(x, 2.0)",
    "np.stack([x, x])[0]",
    "np.mean(x)",
]


@pytest.mark.parametrize("text", STRONG)
def test_reductions_and_creation_make_strong(text: str) -> None:
    call = from_text(text, "x")
    graph = trace_flat("f", lambda xs: call(xs[0]), [Array(F64, (), True)], ["x"]).graph
    assert str(graph.outputs[0].type) == "f64[]"


ARGUMENTS: list[tuple[str, str]] = [
    ("np.sum(x, out=np.ndarray(()))", "np.sum"), ("np.exp(x, order='F')", "order"), ("np.exp(x, where=x > 0)", "where"),
    ("np.union1d(x, x)", "np.union1d"), ("np.einsum('i->i', x, order='F')", "order"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "named"), ARGUMENTS)
def test_arguments_are_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(TraceError, match=named):
        traced(from_text(text, "x"), sample((4,)))


def test_small_graphs() -> None:
    """What is one op stays one: constants aside, nothing is added for broadcasting or promotion that is not needed."""
    for text, ops in (
        ("np.maximum(x, 0.0)", ["maximum"]),
        ("x @ x", ["contract"]),
        ("np.exp(x)", ["exp"]),
        ("np.sum(x, axis=0)", ["sum"]),
        ("np.mean(x, axis=0)", ["sum", "div"]),
        ("np.where(x > 0, x, 0.0)", ["gt", "select"]),
        ("np.clip(x, -1.0, 1.0)", ["lt", "select", "gt", "select"]),
        ("np.flip(x, 0)", ["flip"]),
        ("np.square(x)", ["mul"]),
    ):
        graph = trace_flat("f", lambda xs, t=text: from_text(t, "x")(xs[0]), [Array(F32, (3, 3))], ["x"]).graph
        assert [node.op.name for node in graph.nodes if not node.is_splat] == ops


def test_integer_promotion_follows_numpy() -> None:
    def types(text: str, dtype: Any) -> str:
        graph = trace_flat("f", lambda xs: from_text(text, "x")(xs[0]), [Array(np.dtype(dtype), (3,))], ["x"]).graph
        return str(graph.outputs[0].type)

    assert types("np.exp(x)", np.int64) == "f64[3]"
    assert types("np.sum(x)", np.uint8) == "u64[]"
    assert types("np.sum(x)", I32) == "i64[]"
    assert types("np.mean(x)", np.uint8) == "f64[]"
    # Up to NumPy 2.0 the floor of an int is a float.
    assert types("np.floor(x)", np.int64) == f"{'i64' if np.floor(np.int64(1)).dtype.kind == 'i' else 'f64'}[3]"


@pytest.mark.parametrize("text", ["np.interp(x, x, np.ones(3))", "np.dot(x, np.ones(3))", "np.stack([x, np.ones(3)])"])
def test_widening_warns(text: str) -> None:
    with pytest.warns(WideningWarning, match="f64"):
        trace_flat("f", lambda xs: from_text(text, "x")(xs[0]), [Array(F32, (3,))], ["x"])
