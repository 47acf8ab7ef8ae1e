"""Products, contractions and norms: each call against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjit_runtime.errors import DTypeError, ShapeError, TraceError
from tests.trace.numpy_calls import check, from_text, sample, traced

ATOL = {np.float64: 1e-14, np.float32: 1e-5}

MATMUL = [
    ((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (6, 4, 5)), ((1, 3, 4), (2, 4, 5)), ((2, 3, 4), (1, 4, 5)), ((3, 4), (2, 6, 4, 5)),
    ((1, 1, 3, 4), (1, 4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((3, 0), (0, 5)), ((0, 4), (4, 5)),
    ((1, 1), (1, 1)), ((5, 1, 3, 4), (1, 6, 4, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), MATMUL)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_])
def test_matmul(left: tuple[int, ...], right: tuple[int, ...], dtype: Any) -> None:
    check(lambda x, y: x @ y, sample(left, dtype), sample(right, dtype), atol=ATOL.get(dtype, 0))
    check(lambda x, y: np.linalg.matmul(x, y), sample(left, dtype), sample(right, dtype), atol=ATOL.get(dtype, 0))


DOTS = [
    ("np.dot(x, y)", (3, 4), (4, 5)), ("np.dot(x, y)", (4,), (4,)), ("np.dot(x, y)", (2, 3, 4), (5, 4, 2)),
    ("np.dot(x, y)", (), (3,)), ("np.dot(x, 2.0)", (3,), ()), ("x.dot(y)", (2, 3, 4), (4,)),
    ("np.dot(x, y)", (4,), (5, 4, 2)), ("np.inner(x, y)", (3, 4), (5, 4)), ("np.inner(x, y)", (4,), (4,)),
    ("np.inner(x, y)", (2, 3, 4), (4,)), ("np.inner(x, y)", (), (4,)), ("np.vdot(x, y)", (2, 3), (3, 2)),
    ("np.outer(x, y)", (3,), (4,)), ("np.outer(x, y)", (2, 2), (3,)), ("np.linalg.outer(x, y)", (3,), (4,)),
    ("np.tensordot(x, y)", (2, 3, 4), (3, 4, 5)), ("np.tensordot(x, y, axes=1)", (2, 3), (3, 4)),
    ("np.tensordot(x, y, axes=0)", (2, 3), (4,)),
    ("np.tensordot(x, y, axes=([0, 2], [1, 0]))", (2, 3, 4), (4, 2, 5)),
    ("np.tensordot(x, y, axes=(1, -1))", (2, 3), (4, 3)), ("np.linalg.tensordot(x, y, axes=1)", (2, 3), (3, 4)),
    ("np.kron(x, y)", (2, 3), (3, 2)), ("np.kron(x, y)", (2,), (3, 2)), ("np.kron(x, y)", (2, 3, 2), (4,)),
    ("np.vecdot(x, y)", (2, 3), (2, 3)), ("np.vecdot(x, y)", (2, 1, 3), (4, 3)),
    ("np.linalg.vecdot(x, y, axis=0)", (3, 2), (3, 2)), ("np.matvec(x, y)", (2, 3, 4), (4,)),
    ("np.matvec(x, y)", (2, 3, 4), (2, 4)), ("np.vecmat(x, y)", (3,), (2, 3, 4)),
    ("np.vecmat(x, y)", (2, 3), (3, 4)), ("np.cross(x, y)", (4, 3), (4, 3)), ("np.cross(x, y)", (3,), (4, 3)),
    ("np.cross(x, y, axis=0)", (3, 4), (3, 4)), ("np.cross(x, y, axisc=0)", (4, 3), (4, 3)),
    ("np.linalg.cross(x, y)", (4, 3), (4, 3)), ("np.linalg.multi_dot([x, y, x])", (3, 4), (4, 3)),
    ("np.linalg.multi_dot([x[0], y])", (3, 4), (4, 3)), ("np.linalg.multi_dot([x, y, x, y[:, 0]])", (3, 4), (4, 3)),
    ("np.matmul(x, y, out=np.zeros_like(x @ y))", (3, 4), (4, 2)),
    ("np.dot(x, y, out=np.zeros_like(x @ y))", (3, 4), (4, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "left", "right"), DOTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_products(text: str, left: tuple[int, ...], right: tuple[int, ...], dtype: Any) -> None:
    check(from_text(text, "xy"), sample(left, dtype), sample(right, dtype, seed=1), atol=ATOL.get(dtype, 0))


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij,kj->ki", (2, 3), (4, 3)),
    ("ij,ij->", (2, 3), (2, 3)), ("ij,ij->ij", (2, 3), (2, 3)), ("ij,ij->j", (2, 3), (2, 3)),
    ("i,j->ij", (3,), (4,)), ("i,i", (3,), (3,)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)), ("...ij,...jk", (3, 4), (2, 4, 5)),
    ("...i,...i->...", (2, 3), (4, 2, 3)), ("ii,i->i", (3, 3), (3,)), ("iji,j->i", (3, 2, 3), (2,)),
    ("ij,kl->jl", (2, 3), (4, 5)), ("ij,kl->", (2, 3), (4, 5)), ("ij,k->ik", (2, 3), (4,)),
    ("ab,ba->", (2, 3), (3, 2)), ("i...,i...->...", (3, 2), (3, 4, 2)), (",ij->ij", (), (2, 3)),
    ("ij,->ji", (2, 3), ()), (" i j , j k -> i k ", (2, 3), (3, 4)), ("BA,AC", (2, 3), (3, 4)),
    ("ij,ij->ij", (1, 3), (2, 3)), ("ij,jk->ik", (2, 1), (3, 4)), ("...,...", (2, 3), (3,)),
    ("ij,jk->ik", (0, 3), (3, 4)), ("ij,jk->ik", (2, 0), (0, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "left", "right"), EINSUMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_])
def test_einsum_of_two(spec: str, left: tuple[int, ...], right: tuple[int, ...], dtype: Any) -> None:
    x, y = sample(left, dtype), sample(right, dtype, seed=1)
    check(lambda x, y: np.einsum(spec, x, y), x, y, atol=ATOL.get(dtype, 0))


EINSUMS_OF_ONE = [
    ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->i", (2, 3)), ("ij", (2, 3)), ("ji", (2, 3)), ("ii->i", (3, 3)),
    ("ii", (3, 3)), ("ii->", (3, 3)), ("iij->j", (3, 3, 2)), ("iii->i", (3, 3, 3)), ("ijij->ij", (2, 3, 2, 3)),
    ("...ii->...i", (2, 3, 3)), ("...ij->...ji", (2, 3, 4)), ("i...->...", (2, 3, 4)), ("...", (2, 3)),
    ("ijkk->ji", (2, 3, 4, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "shape"), EINSUMS_OF_ONE)
def test_einsum_of_one(spec: str, shape: tuple[int, ...]) -> None:
    check(lambda x: np.einsum(spec, x), sample(shape), atol=1e-14)


@pytest.mark.parametrize("optimize", [False, True, "greedy", "optimal"])
def test_einsum_of_many(optimize: Any) -> None:
    x, y, z = sample((3, 4)), sample((4, 5)), sample((5, 2))
    for spec in ("ij,jk,kl->il", "ij,jk,kl", "ij,jk,kl->", "ij,jk,kl->ijl", "ij,jk,kl->kj"):
        check(lambda x, y, z, s=spec: np.einsum(s, x, y, z, optimize=optimize), x, y, z, rtol=1e-12, atol=1e-13)
    check(lambda x, y: np.einsum("ij,jk,ij,jk,i->k", x, y, x, y, x[:, 0], optimize=optimize), x, y, rtol=1e-12)
    check(lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [2, 0]), x, y, atol=1e-14)
    check(lambda x, y: np.einsum(x, [0, 1], y, [1, 2]), x, y, atol=1e-14)
    check(lambda x, y: np.einsum(x, [..., 0, 1], y, [1, 30]), x, y, atol=1e-14)
    check(lambda x, y: np.einsum("ij,jk->ik", x, y, dtype=np.float64), x.astype(np.float32), y.astype(np.int32))
    with pytest.raises(DTypeError, match="safe"):
        traced(lambda x, y: np.einsum("ij,jk->ik", x, y, dtype=np.float32), x, y)
    assert np.einsum_path("ij,jk", x, y)[0] == traced_path(x, y)


def traced_path(x: np.ndarray, y: np.ndarray) -> Any:
    found: list[Any] = []
    traced(lambda x, y: found.append(np.einsum_path("ij,jk", x, y)[0]) or x, x, y)
    return found[0]


BAD_EINSUMS = [
    ("ij,jk->ik", (2, 3), (4, 5)), ("ij,jk->iz", (2, 3), (3, 4)), ("ij,jk->ii", (2, 3), (3, 4)),
    ("ijk,jk->i", (2, 3), (3, 4)), ("ii,i->i", (1, 3), (3,)), ("i,j,k", (2,), (3,)), ("i$,j", (2,), (3,)),
    ("...ij,jk->ik", (5, 2, 3), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "left", "right"), BAD_EINSUMS)
def test_bad_einsum(spec: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r".*"):
        np.einsum(spec, sample(left), sample(right))
    with pytest.raises(ShapeError, match="einsum"):
        traced(lambda x, y: np.einsum(spec, x, y), sample(left), sample(right))


NORMS = [
    "np.linalg.norm(x)", "np.linalg.norm(x, axis=0)", "np.linalg.norm(x, axis=-1, keepdims=True)",
    "np.linalg.norm(x, keepdims=True)", "np.linalg.norm(x, 1, axis=0)", "np.linalg.norm(x, 2, axis=1)",
    "np.linalg.norm(x, np.inf, axis=1)", "np.linalg.norm(x, -np.inf, axis=1)", "np.linalg.norm(x, 0, axis=1)",
    "np.linalg.norm(x, 3, axis=1)", "np.linalg.norm(x, 'fro')", "np.linalg.norm(x, 1)", "np.linalg.norm(x, -1)",
    "np.linalg.norm(x, np.inf)", "np.linalg.norm(x, -np.inf, keepdims=True)", "np.linalg.norm(x, 1, axis=(1, 0))",
    "np.linalg.norm(x, 'fro', axis=(0, 1), keepdims=True)", "np.linalg.norm(x[0], 1)",
    "np.linalg.norm(x[0], np.inf)", "np.linalg.vector_norm(x)", "np.linalg.vector_norm(x, axis=0, ord=1)",
    "np.linalg.matrix_norm(x)", "np.linalg.matrix_norm(x, ord=1, keepdims=True)", "np.trace(x)", "np.trace(x, 1)",
    "x.trace(-1)", "np.linalg.trace(x)", "np.linalg.matrix_power(x[:, :3], 5)",
    "np.linalg.matrix_power(x[:, :3], 0)", "np.linalg.matrix_power(x[:, :3], 1)",
]  # fmt: skip


@pytest.mark.parametrize("text", NORMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_norms(text: str, dtype: Any) -> None:
    check(from_text(text, "x"), sample((3, 4), dtype), rtol=1e-12, rtol32=1e-5, atol=ATOL.get(dtype, 0))


def test_errors() -> None:
    with pytest.raises(ShapeError, match="4 is not 5"):
        traced(lambda x, y: x @ y, sample((3, 4)), sample((5, 2)))
    with pytest.raises(ShapeError, match="do not broadcast"):
        traced(lambda x, y: x @ y, sample((2, 3, 4)), sample((3, 4, 2)))
    with pytest.raises(TraceError, match="no norm of a matrix"):
        traced(lambda x: np.linalg.norm(x, 3), sample((3, 4)))
    for call in ("eig(x)", "eigvals(x)"):
        with pytest.raises(TraceError, match="complex"):
            traced(from_text(f"np.linalg.{call}", "x"), sample((3, 3)))
