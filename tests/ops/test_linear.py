"""In which operands an op is linear: what the declarations say, proved by its meaning, and nothing that they miss."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import F64, Array
from adjit.ops.declare import Differentiable
from tests.ops.samples import COMPUTED, Case, cases_of

DIFFERENTIABLE = [name for name in COMPUTED if getattr(OPS[name], "vjp", None) is not None]

LINEAR = {
    "add", "add_windows", "broadcast", "cast", "concatenate", "contract", "cumsum", "div", "flip", "mul", "neg", "pad",
    "reshape", "scatter", "scatter_add", "select", "slice", "sub", "sum", "take", "transpose", "windows",
}  # fmt: skip


def node_of(case: Case) -> Node:
    b = Builder()
    inputs = [b.input(f"x{i}", Array(a.dtype, a.shape)) for i, a in enumerate(case.arrays)]
    return b.emit(case.op, *inputs, **case.attrs)


def cases(name: str) -> list[Case]:
    """Calls in float64, without special values."""
    found = []
    for case in cases_of(name):
        floats = [a for a in case.arrays if a.dtype.kind == "f"]
        if not floats or any(a.dtype != F64 or np.abs(a).max(initial=0) > 50 for a in floats):
            continue
        if node_of(case).dtype.kind == "f" and all(np.isfinite(a).all() for a in floats):
            found.append(case)
    return found


def difference(case: Case, group: Collection[int], attrs: Any, seed: int = 0) -> float:
    """The largest element of f(a x + b y) - a f(x) - b f(y) in the operands of a group, the others held."""
    rng = np.random.default_rng(seed)
    others = {i: rng.uniform(0.3, 2.0, case.arrays[i].shape) for i in group}
    a, b = 0.75, -1.5

    def value(change: Any) -> np.ndarray:
        arrays = [change(x, others[i]) if i in group else x for i, x in enumerate(case.arrays)]
        return np.asarray(OPS[case.op].evaluate(*map(np.asarray, arrays), **attrs), dtype=float)

    with np.errstate(all="ignore"):
        whole = value(lambda x, y: a * x + b * y)
        parts = a * value(lambda x, y: x) + b * value(lambda x, y: y)
    scale = max(1.0, float(np.max(np.abs(parts), initial=0.0)))
    found = np.abs(whole - parts)
    # NaN is a difference.
    return float("inf") if np.isnan(found).any() else float(np.max(found, initial=0.0)) / scale


def rounding(case: Case) -> float:
    """Of sums of a few terms; of a cast to float32, its own."""
    return 1e-6 if case.attrs.get("dtype") == np.dtype(np.float32) else 1e-13


@pytest.mark.parametrize("name", sorted(LINEAR))
def test_what_is_declared_as_linear_is(name: str) -> None:
    op = OPS[name]
    assert isinstance(op, Differentiable)
    assert cases(name)
    for case in cases(name):
        attrs = case.attrs if op.homogeneous is None else op.homogeneous(case.attrs)
        for group in op.linear_in(node_of(case)):
            # A group may have operands that no float flows through.
            assert all(case.arrays[i].dtype.kind == "f" for i in group)
            assert difference(case, group, attrs) <= rounding(case), (str(case), group)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_what_is_not_declared_as_linear_is_not(name: str) -> None:
    """By one operand alone, in some case."""
    op = OPS[name]
    assert isinstance(op, Differentiable)
    declared = {i for case in cases(name) for group in op.linear_in(node_of(case)) for i in group}
    assert bool(declared) == (name in LINEAR)
    most = max(len(case.arrays) for case in cases(name))
    for i in range(most):
        if i in declared or not any(case.arrays[i].dtype == F64 for case in cases(name)):
            continue
        worst = max(difference(case, [i], case.attrs, seed) for case in cases(name) for seed in range(3))
        assert worst > 1e-3, i


def test_an_op_that_is_affine_has_the_attributes_of_its_linear_part() -> None:
    case = Case("pad", (np.ones(2),), {"low": (1,), "high": (0,), "interior": (0,), "value": 2.0})
    assert difference(case, [0], case.attrs) > 1
