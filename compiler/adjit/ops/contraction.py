"""contract: sums of products of two operands by an index expression, `ik,kj->ij`.

A letter stands at most once in each operand and in the result. A letter of the result stands in an operand; a letter
that is summed stands in both (one that stands in a single operand is summed before, by `sum`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from adjit.ir.axes import Relation, along
from adjit.ir.builder import Builder, Value
from adjit.ir.node import Node
from adjit.ir.op import Attrs, register
from adjit.ir.subscripts import Subscripts
from adjit.ir.types import Array, dtype_name
from adjit.ops.declare import Contraction
from adjit_runtime.errors import DTypeError, ShapeError


def subscripts_of(contraction: Node) -> Subscripts:
    """Which axes a contraction multiplies, sums and keeps."""
    spec: Subscripts = contraction.attrs["spec"]
    return spec


def sizes_of(contraction: Node) -> dict[str, int]:
    """The extent of each of its letters."""
    x, y = contraction.args
    return subscripts_of(contraction).sizes(x.shape, y.shape)


def extents_of(contraction: Node) -> tuple[int, int, int, int]:
    """How many products there are of how many rows, columns and sums: batch, m, n, k."""
    spec, sizes = subscripts_of(contraction), sizes_of(contraction)
    batch, m, n, k = (math.prod(sizes[c] for c in part) for part in (spec.batch, spec.rows, spec.columns, spec.summed))
    return batch, m, n, k


def _contract_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    spec: Subscripts = attrs["spec"]
    left, right, result = spec.left, spec.right, spec.result
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


def _evaluate_contract(x: np.ndarray, y: np.ndarray, *, spec: Subscripts) -> np.ndarray:
    # optimize=True goes through BLAS, whose sums are as accurate as ours.
    return np.asarray(np.einsum(str(spec), x, y, optimize=True), dtype=x.dtype)


def _contract_vjp(b: Builder, g: Value, z: Value, x: Value, y: Value, spec: Subscripts) -> tuple[Value, Value]:
    left, right, result = spec.left, spec.right, spec.result
    return (
        b.contract(g, y, spec=Subscripts(result, right, left)),
        b.contract(x, g, spec=Subscripts(left, result, right)),
    )


def _contract_axes(shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...], attrs: Attrs) -> Relation:
    spec: Subscripts = attrs["spec"]
    dims = spec.result + spec.summed
    sizes = spec.sizes(*shapes)
    operands = tuple(along([dims.index(c) for c in own]) for own in spec.operands)
    return Relation(operands, tuple(sizes[c] for c in spec.summed))


contract = register(
    Contraction(
        name="contract", kind="contraction", arity=2, infer=_contract_type, attr_kinds={"spec": "subscripts"},
        axes=_contract_axes, evaluate=_evaluate_contract, vjp=_contract_vjp, singular=True,
    )
)  # fmt: skip
