"""contract: sums of products of two operands by an index expression, `ik,kj->ij`.

A letter stands at most once in each operand and in the result. A letter of the result stands in an operand; a letter
that is summed stands in both (one that stands in a single operand is summed before, by `sum`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.ir.op import Attrs, register
from adjit.ir.types import Array, dtype_name
from adjit.ops.declare import Contraction
from adjit_runtime.errors import DTypeError, ShapeError


def split_spec(spec: str) -> tuple[str, str, str]:
    """`ik,kj->ij` as its three parts."""
    operands, result = spec.split("->")
    left, right = operands.split(",")
    return left, right, result


def _contract_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    spec = attrs["spec"]
    left, right, result = split_spec(spec)
    x, y = types
    if x.dtype != y.dtype:
        raise DTypeError(f"contract: dtypes differ, {x} and {y}; cast one with .astype")
    if x.dtype.kind not in "iuf":
        raise DTypeError(f"contract: does not take {dtype_name(x.dtype)}")
    sizes: dict[str, int] = {}
    for letters, operand in ((left, x), (right, y)):
        if len(letters) != operand.ndim or len(set(letters)) != len(letters):
            raise ShapeError(f"contract {spec}: {letters!r} does not name the axes of {operand}")
        for letter, n in zip(letters, operand.shape, strict=True):
            if sizes.setdefault(letter, n) != n:
                raise ShapeError(f"contract {spec}: inner dimensions differ, {x} and {y}: {sizes[letter]} is not {n}")
    if len(set(result)) != len(result) or not set(result) <= set(left) | set(right):
        raise ShapeError(f"contract {spec}: {result!r} is no result")
    if (set(left) ^ set(right)) - set(result):
        raise ShapeError(f"contract {spec}: a letter of one operand only is not in the result")
    return Array(x.dtype, tuple(sizes[letter] for letter in result))


def _evaluate_contract(x: Any, y: Any, *, spec: str) -> np.ndarray:
    # optimize=True goes through BLAS, whose sums are as accurate as ours.
    return np.asarray(np.einsum(spec, x, y, optimize=True), dtype=x.dtype)


def _contract_vjp(b: Any, g: Any, z: Any, x: Any, y: Any, spec: str) -> tuple[Any, Any]:
    left, right, result = split_spec(spec)
    return (
        b.contract(g, y, spec=f"{result},{right}->{left}"),
        b.contract(x, g, spec=f"{left},{result}->{right}"),
    )


contract = register(
    Contraction(
        name="contract", kind="contraction", arity=2, infer=_contract_type, attr_kinds={"spec": "str"},
        evaluate=_evaluate_contract, vjp=_contract_vjp,
    )
)  # fmt: skip
