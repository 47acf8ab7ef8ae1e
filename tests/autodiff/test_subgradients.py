"""The derivative where there is none, by the rules that the documentation gives; compiled and evaluated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from tests.both import run_both
from tests.trace.numpy_calls import from_text

NAN, INF = np.nan, np.inf

CASES: list[tuple[str, list[float], list[float]]] = [
    # maximum and minimum: half each at a tie.
    ("np.maximum(x, 1.0)", [0.0, 1.0, 2.0], [0.0, 0.5, 1.0]),
    ("np.minimum(x, 1.0)", [0.0, 1.0, 2.0], [1.0, 0.5, 0.0]),
    ("np.maximum(x, x)", [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]),
    ("np.maximum(x, -x)", [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]),
    ("np.maximum(x, 0.0)", [-0.0, 0.0, -1.0], [0.5, 0.5, 0.0]),
    ("np.fmax(x, 1.0)", [0.0, 1.0, 2.0], [0.0, 0.5, 1.0]),
    # Reductions: split equally among the ties.
    ("np.max(x)", [3.0, 1.0, 3.0], [0.5, 0.0, 0.5]),
    ("np.max(x)", [3.0, 3.0, 3.0], [1 / 3] * 3),
    ("np.min(x)", [3.0, 1.0, 1.0], [0.0, 0.5, 0.5]),
    ("np.ptp(x)", [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]),
    ("np.max(np.stack([x, x]))", [1.0, 0.0, 1.0], [0.5, 0.0, 0.5]),
    ("np.linalg.norm(x, np.inf)", [3.0, -3.0, 1.0], [0.5, -0.5, 0.0]),
    ("np.maximum.accumulate(x)[-1]", [1.0, 2.0, 0.0], [0.0, 1.0, 0.0]),
    # Kinks at 0.
    ("np.abs(x)", [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
    ("np.sign(x)", [-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]),
    ("np.linalg.norm(x)", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ("np.linalg.norm(x, 1)", [0.0, -1.0, 1.0], [0.0, -1.0, 1.0]),
    ("np.hypot(x, 0.0)", [0.0, -2.0, 2.0], [0.0, -1.0, 1.0]),
    ("np.std(x)", [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]),
    ("np.sqrt(x)", [0.0, 1.0, 4.0], [INF, 0.5, 0.25]),
    ("np.heaviside(x, 0.5)", [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]),
    ("np.floor(x)", [0.5, 1.0, 1.5], [0.0, 0.0, 0.0]),
    # Bounds count as inside.
    ("np.clip(x, -1.0, 1.0)", [-1.0, 1.0, 1.5], [1.0, 1.0, 0.0]),
    ("np.clip(x, None, 1.0)", [-9.0, 1.0, 1.5], [1.0, 1.0, 0.0]),
    ("x.clip(min=0.0)", [-9.0, 0.0, 1.5], [0.0, 1.0, 1.0]),
    # Powers.
    ("x**0.0", [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]),
    ("x**1", [0.0, -1.0, 2.0], [1.0, 1.0, 1.0]),
    ("x**2", [0.0, -1.0, 2.0], [0.0, -2.0, 4.0]),
    ("x**2.0", [0.0, -1.0, 2.0], [0.0, -2.0, 4.0]),
    ("2.0**x", [0.0, 1.0, 2.0], [np.log(2.0), 2 * np.log(2.0), 4 * np.log(2.0)]),
    ("np.power(0.0, x)", [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
    # Products with zeros.
    ("np.prod(x)", [0.0, 3.0, 4.0], [12.0, 0.0, 0.0]),
    ("np.prod(x)", [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]),
    ("np.cumprod(x)[-1]", [0.0, 3.0, 4.0], [12.0, 0.0, 0.0]),
]


@pytest.mark.parametrize(("text", "x", "expected"), CASES)
def test_subgradient(text: str, x: list[float], expected: list[float]) -> None:
    call = from_text(text, "x")
    function: Any = adjit.grad(lambda v: np.sum(call(v)))
    with np.errstate(all="ignore"):
        (found,) = run_both(function.ir("adjoint", np.array(x)), np.array(x))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_relu_is_zero_at_zero() -> None:
    found = adjit.grad(lambda x: np.sum(nn.relu(x)))(np.array([-1.0, 0.0, -0.0, 2.0]))
    assert found.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_nan_passes_through_values() -> None:
    x = np.array([NAN, 1.0, -2.0])
    for text in ("np.max(x)", "np.min(x)", "np.maximum(x, 0.0)", "np.minimum(0.0, x)", "np.clip(x, -1.0, 1.0)"):
        call = from_text(text, "x")
        np.testing.assert_array_equal(adjit.jit(call)(x), call(x), text)


@pytest.mark.parametrize(
    ("x", "expected"),
    [([1.0, 3.0, 3.0], (1, 0)), ([NAN, 3.0, NAN], (0, 0)), ([3.0, NAN, -1.0], (1, 1)), ([-0.0, 0.0, 0.0], (0, 0))],
)
def test_arg_extrema_take_the_first(x: list[float], expected: tuple[int, int]) -> None:
    found = adjit.jit(lambda v: (np.argmax(v), np.argmin(v)))(np.array(x))
    assert tuple(map(int, found)) == expected
