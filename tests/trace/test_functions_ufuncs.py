"""Elementwise functions: every ufunc on every dtype and on edge values, against NumPy; SciPy's against SciPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.special

from adjit.trace import table
from adjit.trace.functions.special import RULES
from adjit_runtime.errors import DTypeError, TraceError
from adjit_runtime.program import WIDE
from tests.trace.numpy_calls import check, from_text, quietly, sample, traced

DTYPES = [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_]
UFUNCS = sorted({f.__name__: f for f in vars(np).values() if isinstance(f, np.ufunc) and f.signature is None}.items())
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 1e-310, 1e300, -7.0, 2.0])


def _lacks_code(target: np.ufunc, xs: tuple[np.ndarray, ...]) -> bool:
    """Whether NumPy computes in a dtype that no machine code exists for. In a narrow one it may look at operands."""
    loop = target.resolve_dtypes((*(x.dtype for x in xs), *(None,) * target.nout))
    lacking = {dtype.name for dtype in loop} - {"bool", "uint8", "int32", "int64", "uint64", "float32", "float64"}
    return any(dtype.name in lacking for dtype in loop[target.nin :]) or not lacking <= set(WIDE)


@pytest.mark.parametrize(("name", "target"), UFUNCS)
def test_ufunc(name: str, target: np.ufunc) -> None:
    if target in table.REFUSED:
        with pytest.raises(TraceError, match=name):
            traced(lambda *xs: target(*xs), *[sample((3,), np.int64)] * target.nin)
        return
    for dtype in DTYPES:
        xs = [sample((3, 4), dtype, seed=i) for i in range(target.nin)]
        if name == "ldexp":
            xs[1] = sample((3, 4), np.int32)
        if name == "power" and np.dtype(dtype).kind == "i":
            xs[1] = np.abs(xs[1])
        _against_numpy(target, *xs)


def _against_numpy(target: np.ufunc, *xs: np.ndarray) -> None:
    try:
        quietly(target, *xs)
    except TypeError:
        with pytest.raises(DTypeError):
            traced(lambda *ys: target(*ys), *xs)
        return
    if _lacks_code(target, xs):
        with pytest.raises(DTypeError):
            traced(lambda *ys: target(*ys), *xs)
        return
    check(lambda *ys: target(*ys), *xs)


@pytest.mark.parametrize(("name", "target"), [pair for pair in UFUNCS if pair[1] not in table.REFUSED])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_edges(name: str, target: np.ufunc, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        values = SPECIAL.astype(dtype)
    if target.nin == 1:
        xs = [values]
    else:
        pairs = np.array(list(itertools.product(values, values)), dtype=dtype)
        xs = [pairs[:, 0], pairs[:, 1]]
    if name == "ldexp":
        xs[1] = np.where(np.isfinite(xs[1]), np.clip(xs[1], -9, 9), 0).astype(np.int32)
    _against_numpy(target, *xs)


TEXTS = [
    "np.round(x)", "np.round(x, 2)", "np.round(x, -1)", "x.round(1)", "np.fix(x)", "np.sinc(x)", "np.isposinf(x)",
    "np.isneginf(x)", "np.real(x)", "np.imag(x)", "np.isreal(x)", "np.iscomplex(x)", "np.nan_to_num(x)",
    "np.nan_to_num(x, nan=1.5, posinf=2.5, neginf=-3.5)", "np.divmod(x, 3)", "divmod(x, 2.5)", "np.modf(x)",
    "np.multiply.outer(x, x)", "np.maximum(x, 0)", "np.minimum(0.5, x)", "np.hypot(x, 2)", "np.logaddexp(x, x)",
    "np.heaviside(x, 0.5)", "np.arctan2(x, 2.0)", "np.copysign(x, -1.0)", "np.logical_or(x, x > 1)",
    "np.logical_not(x)", "np.fmax(x, np.nan)", "np.fmin(np.inf, x)", "np.exp(np.ones(3)[:, None, None] * x)",
    "np.sqrt(np.abs(x), out=x.copy())", "np.exp(x, where=x > 0, out=np.zeros_like(x))",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_texts(text: str, dtype: Any) -> None:
    for x in (sample((3, 4), dtype) * 20, sample((), dtype), sample((0, 2), dtype)):
        if ("ones(3)" in text or "out=" in text) and not x.shape:
            continue
        # sinc near a whole number loses what sin loses.
        check(from_text(text, "x"), x, atol=1e-7 if dtype == np.float32 else 1e-16)


@pytest.mark.parametrize("text", ["np.round(x)", "np.round(x, -1)", "np.fix(x)", "np.nan_to_num(x)", "np.real(x)"])
def test_integers(text: str) -> None:
    check(from_text(text, "x"), np.array([-15, 14, 5, 25, 0]))


def test_floor_divide_by_zero_and_integer_extremes() -> None:
    low = np.iinfo(np.int64).min
    x, y = np.array([5, -5, low, low, 7]), np.array([0, 0, -1, 3, -2])
    for text in ("x // y", "x % y", "np.fmod(x, y)", "np.divmod(x, y)", "np.maximum(x, y)", "np.reciprocal(x)"):
        check(from_text(text, "xy"), x, y)


@pytest.mark.parametrize("name", sorted(RULES))
def test_scipy(name: str) -> None:
    target = getattr(scipy.special, name)
    for dtype in (np.float64, np.float32):
        xs = [np.abs(sample((4, 5), dtype, seed=i)) for i in range(target.nin)]
        if name == "logit":
            xs = [x / 4 for x in xs]
        # x log(x / y) - x + y cancels where x is near y.
        check(lambda *ys: target(*ys), *xs, rtol=1e-12, atol=1e-6 if dtype == np.float32 else 1e-15)
        xs = [np.tile(np.array([0, 1, 2, -1, np.inf, np.nan], dtype), 6)]
        if target.nin == 2:
            xs.append(np.repeat(np.array([0, 1, 2, -1, np.inf, np.nan], dtype), 6))
        check(lambda *ys: target(*ys), *xs, rtol=1e-12)


def test_other_functions_of_scipy_are_refused() -> None:
    with pytest.raises(TraceError, match="gamma"):
        traced(lambda x: scipy.special.gamma(x), sample((3,)))
