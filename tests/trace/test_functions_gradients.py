"""Compositions have the right derivative at the edges: ties, zeros, infinities."""

from __future__ import annotations

import numpy as np
import pytest

from adjit.ir.evaluate import evaluate
from adjit.ir.types import F64, Array
from adjit.trace import trace_flat
from tests.trace.numpy_calls import from_text

reverse = pytest.importorskip("adjit.autodiff.reverse")

GRADIENTS: list[tuple[str, list[float], list[float]]] = [
    ("np.hypot(x[0], x[1])", [0.0, 0.0], [0.0, 0.0]),
    ("np.hypot(x[0], x[1])", [3.0, 4.0], [0.6, 0.8]),
    ("np.hypot(x[0], x[1])", [3e300, 4e300], [0.6, 0.8]),
    ("np.logaddexp(x[0], x[1])", [-np.inf, 0.0], [0.0, 1.0]),
    ("np.logaddexp(x[0], x[1])", [np.inf, np.inf], [0.5, 0.5]),
    ("np.logaddexp(x[0], x[1])", [-np.inf, -np.inf], [0.5, 0.5]),
    ("np.logaddexp(x[0], x[1])", [1000.0, 1000.0], [0.5, 0.5]),
    ("np.logaddexp.reduce(x)", [-np.inf, -np.inf], [0.0, 0.0]),
    ("np.logaddexp.reduce(x)", [0.0, -np.inf], [1.0, 0.0]),
    ("np.logaddexp.reduce(x)", [800.0, 800.0], [0.5, 0.5]),
    ("np.linalg.norm(x)", [0.0, 0.0], [0.0, 0.0]),
    ("np.linalg.norm(x)", [3.0, -4.0], [0.6, -0.8]),
    ("np.sum(np.clip(x, -1.0, 1.0))", [1.0, 2.0], [1.0, 0.0]),
    ("np.sum(np.sinc(x))", [0.0, 0.5], [0.0, -4 / np.pi]),
    ("np.sum(np.modf(x)[0])", [-2.0, 1.5], [1.0, 1.0]),
    ("np.sum(np.round(x, 1))", [0.3, 1.5], [0.0, 0.0]),
    ("np.max(x)", [2.0, 2.0], [0.5, 0.5]),
    ("np.nansum(x)", [np.nan, 2.0], [0.0, 1.0]),
    ("np.nanmean(x)", [np.nan, 2.0], [0.0, 1.0]),
    ("np.sum(np.nan_to_num(x))", [np.nan, 2.0], [0.0, 1.0]),
    ("np.fmax(x[0], x[1])", [np.nan, 2.0], [0.0, 1.0]),
    ("np.prod(x)", [0.0, 3.0], [3.0, 0.0]),
]


@pytest.mark.parametrize(("text", "x", "expected"), GRADIENTS)
def test_gradients_at_edges(text: str, x: list[float], expected: list[float]) -> None:
    call = from_text(text, "x")
    graph = trace_flat("f", lambda xs: call(xs[0]), [Array(F64, (2,))], ["x"]).graph
    *_, found = evaluate(reverse.gradient(graph, [0]), np.array(x))
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-300)
