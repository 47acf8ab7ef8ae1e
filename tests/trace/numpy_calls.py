"""One call, twice: NumPy on arrays, and traced and evaluated; results agree in value, dtype and shape."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

from adjit.ir.types import Array
from adjit.ir.verify import verify
from adjit.trace import trace_flat
from adjit_runtime.errors import WideningWarning
from tests.both import run_both
from tests.trace.check import pairs


def traced(call: Callable[..., Any], *arrays: Any) -> Any:
    """The results of `call` through the tracer and the evaluator, in the tree that it returns."""
    operands = [np.asarray(x) for x in arrays]
    types = [Array(x.dtype, x.shape) for x in operands]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WideningWarning)
        result = trace_flat("f", lambda xs: call(*xs), types, [f"x{i}" for i in range(len(types))])
    verify(result.graph)
    return optree.tree_unflatten(result.out_tree, run_both(result.graph, *operands))


def quietly(call: Callable[..., Any], *arrays: Any) -> Any:
    """What NumPy gives, without its warnings of empty means and overflow."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arrays)


def check(call: Callable[..., Any], *arrays: Any, rtol: float = 1e-13, rtol32: float = 2e-6, atol: float = 0.0) -> None:
    """NumPy and the trace agree. Tolerances: sums are taken in another order, and libm differs in the last bits."""
    expected = quietly(call, *(np.array(x) for x in arrays))
    found = traced(call, *arrays)
    for have, want in pairs(found, expected):
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(have, want)
            continue
        close = rtol32 if any(np.asarray(x).dtype == np.float32 for x in arrays) else rtol
        np.testing.assert_allclose(have, want, rtol=close, atol=atol, equal_nan=True)


def sample(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Values around zero, of both signs."""
    rng = np.random.default_rng((seed, *shape))
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return rng.integers(0, 2, size=shape).astype(bool)
    low = 0 if np.dtype(dtype).kind == "u" else -9
    return rng.integers(low, 10, size=shape).astype(dtype)


def lacking(text: str) -> str:
    """The first function that a call names and this NumPy does not have, or ""."""
    for path in re.findall(r"\bnp\.([a-zA-Z_][\w.]*)", text):
        try:
            operator.attrgetter(path)(np)
        except AttributeError:
            return f"np.{path}"
    return ""


def from_text(text: str, names: str) -> Callable[..., Any]:
    """The function of `names` (one letter each) that the text of a call says; skips where NumPy is too old for it."""
    absent = lacking(text)
    if absent:
        pytest.skip(f"this NumPy has no {absent}")
    made: Callable[..., Any] = eval(f"lambda {', '.join(names)}: {text}", {"np": np})  # a table of calls in this folder
    return made
