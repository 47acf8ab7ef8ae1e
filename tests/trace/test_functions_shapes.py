"""Shaping, joining, selecting, creating, differences and polynomials: each call against NumPy."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from adjit_runtime.errors import DTypeError, IndexOutOfRange, ShapeError, TraceError
from tests.trace.numpy_calls import check, from_text, lacking, sample, traced

DTYPES = [np.float64, np.float32, np.int64, np.uint8, np.bool_]

MATRIX = [
    "np.reshape(x, (4, 3))", "x.reshape(2, -1)", "np.reshape(x, -1, order='F')", "x.reshape((6, 2), order='F')",
    "np.ravel(x)", "np.ravel(x, order='F')", "x.flatten()", "np.transpose(x)",
    "x.T", "np.transpose(x, (1, 0))", "np.permute_dims(x, (1, 0))", "np.matrix_transpose(x)", "x.mT",
    "np.linalg.matrix_transpose(x)", "np.swapaxes(x, 0, 1)", "x.swapaxes(0, -1)", "np.moveaxis(x, 0, -1)",
    "np.moveaxis(x[None], [0, 1], [-1, 0])", "np.rollaxis(x, 1)", "np.rollaxis(x[None], 0, 3)",
    "np.rollaxis(x[None], 2, 1)", "np.squeeze(x[None, :, None])", "np.squeeze(x[None], axis=0)",
    "np.expand_dims(x, 1)", "np.expand_dims(x, (0, -1))", "np.broadcast_to(x, (2, 3, 4))",
    "np.broadcast_arrays(x, x[0], 1.0)", "np.atleast_1d(x)", "np.atleast_2d(x[0])", "np.atleast_3d(x)",
    "np.atleast_3d(x[0])", "np.atleast_1d(x, x[0, 0])", "np.flip(x)", "np.flip(x, 0)", "np.flip(x, (0, 1))",
    "np.fliplr(x)", "np.flipud(x)", "np.rot90(x)", "np.rot90(x, 2)", "np.rot90(x, -1)", "np.rot90(x, 4)",
    "np.rot90(x, axes=(1, 0))", "np.roll(x, 2)", "np.roll(x, -1, axis=0)", "np.roll(x, (1, 2), axis=(0, 1))",
    "np.roll(x, 7, axis=1)", "np.roll(x, 0, axis=1)", "np.roll(x, 1, axis=(0, 1))", "np.repeat(x, 2)",
    "np.repeat(x, 3, axis=0)", "x.repeat([1, 0, 2], axis=0)", "np.repeat(x, [2, 1, 0, 3], axis=1)",
    "np.repeat(x, 0, axis=1)", "np.repeat(x, np.arange(12))", "np.tile(x, 2)", "np.tile(x, (2, 1, 3))",
    "np.tile(x[0], (2, 2))", "np.resize(x, (2, 3))", "np.resize(x, (5, 4))", "np.meshgrid(x[0], x[:, 0])",
    "np.meshgrid(x[0], x[:, 0], indexing='ij', sparse=True)", "np.meshgrid(x[0], x[0], x[:, 1])",
    "x[np.ix_([0, 2], [1, 3])]", "np.astype(x, np.float64)", "np.copy(x)", "x.copy()", "np.fft.fftshift(x)",
    "np.fft.ifftshift(x, axes=1)", "np.size(x)", "np.ndim(x)", "np.shape(x)", "np.size(x, 1)",
    "np.concatenate([x, x])", "np.concatenate((x, x[:, :1]), axis=1)", "np.concatenate([x, x], axis=None)",
    "np.concat([x, x[:0]], axis=-2)", "np.concatenate([x, np.ones((1, 4))])",
    "np.concatenate([x, x], dtype=np.float64)", "np.stack([x, x])", "np.stack([x, x, x], axis=-1)",
    "np.stack(list(x), axis=1)", "np.vstack([x, x[0]])", "np.hstack([x, x])", "np.hstack([x[0], x[1]])",
    "np.dstack([x, x])", "np.dstack([x[0], x[1]])", "np.column_stack([x[:, 0], x])", "np.block([[x, x], [x, x]])",
    "np.block([x[0], x[1]])", "np.block(x)", "np.block([[x[:, :1], np.ones((3, 2))]])", "np.split(x, 3)",
    "np.split(x, [1, 3], axis=1)", "np.array_split(x, 3, axis=1)", "np.array_split(x, 5)", "np.hsplit(x, 2)",
    "np.vsplit(x, 3)", "np.dsplit(x[None], 2)", "np.unstack(x)", "np.unstack(x, axis=1)", "np.append(x, x)",
    "np.append(x, x[:1], axis=0)", "np.delete(x, 1, axis=0)", "np.delete(x, [0, -1], axis=1)",
    "np.delete(x, slice(0, 12, 2))", "np.insert(x, 1, 0, axis=0)", "np.insert(x, [1, 3], x[:, :2], axis=1)",
    "np.insert(x[0], 2, 5)", "np.insert(x, 0, x[0], axis=0)", "np.insert(x[0], [0, 4], [7, 8])",
    "np.insert(x[0], 1, [7, 8, 9])", "np.pad(x, 1)", "np.pad(x, ((1, 2), (0, 3)))",
    "np.pad(x, (1, 2), constant_values=3)", "np.pad(x, 1, constant_values=((1, 2), (3, 4)))",
    "np.pad(x, 2, mode='edge')", "np.pad(x, (2, 1), mode='reflect')", "np.pad(x, 7, mode='reflect')",
    "np.pad(x, 2, mode='symmetric')", "np.pad(x, 9, mode='symmetric')", "np.pad(x, 2, mode='wrap')",
    "np.pad(x, 9, mode='wrap')", "np.pad(x, 1, mode='maximum')",
    "np.pad(x, ((0, 0), (1, 2)), mode='minimum')", "np.pad(x, 0)", "np.where(x > 1, x, 0)", "np.where(x, x, x[0])",
    "np.where(x[:, :1] > 0, x, x * 2)", "np.select([x > 2, x > 0], [x, x * 2], 5)",
    "np.select([x > 2, x < 1], [x, x + x])", "np.clip(x, 0, 2)", "np.clip(x, None, 1)", "np.clip(x, 1, None)",
    "x.clip(min=1)", "x.clip(max=1)", "np.clip(x, x[0], x[1])", "np.clip(x, min=0, max=1)",
    "np.clip(x, 0, 1, out=np.zeros_like(x))", "np.take(x, [0, 2], axis=1)", "np.take(x, 1)",
    "x.take([[0, -1]], axis=0)", "np.take(x, [13, -2], mode='wrap')", "np.take(x, [13, -2], mode='clip')",
    "np.take_along_axis(x, np.array([[0], [2], [1]]), axis=1)",
    "np.take_along_axis(x, np.argsort(np.arange(3))[:, None] + 0 * np.arange(4), axis=0)",
    "np.take_along_axis(x, np.argmax(x, axis=1, keepdims=True), axis=1)",
    "np.take_along_axis(x, np.array([3, 1]), None)", "np.take(x, np.argmax(x, axis=0), axis=0)",
    "x[np.argmax(x, axis=0), np.arange(4)]", "np.isclose(x, x + 1e-9)", "np.isclose(x, 1)", "np.allclose(x, x)",
    "np.array_equal(x, x)", "np.array_equal(x, x[0])", "np.array_equiv(x, x[0])", "np.array_equal([1, 2], x)",
    "np.isclose([1, 2, 3, 4], x)", "np.isin([1, 2], x)", "np.where([True, False, True, True], x, [1, 2, 3, 4])",
    "np.maximum([1, 2, 3, 4], x)", "np.clip(x, [0, 0, 0, 1], 3)", "np.isin(x, [1, 2])",
    "np.isin(x, [1, 2], invert=True)", "np.isin(x, [])", "np.tril(x)", "np.tril(x, 1)", "np.triu(x)",
    "np.triu(x, -1)", "np.triu(x[None], 1)", "np.tril(x[0])", "np.diag(x)", "np.diag(x, 1)", "np.diag(x, -2)",
    "np.diag(x, 9)", "np.diag(x[0])", "np.diag(x[0], 2)", "np.diag(x[0], -1)", "np.diagflat(x)", "np.diagonal(x)",
    "np.diagonal(x[None], 1, 0, 2)", "x.diagonal(1)", "np.linalg.diagonal(x[None])", "np.zeros_like(x)",
    "np.ones_like(x, dtype=np.int32)", "np.full_like(x, 1)", "np.full_like(x, x[0])", "np.zeros_like(x, shape=(2,))",
    "np.empty_like(x).shape", "np.array([x[0], x[1]], like=x)", "np.array([[x[0, 0], 1], [2, x[1, 1]]], like=x)",
    "np.asarray([x[0], x[1]], like=x)", "np.full((2, 2), x[0, 0], like=x)", "np.zeros((2, 3), like=x)",
    "np.ones(3, like=x)", "np.eye(3, like=x)", "np.arange(3, like=x)", "np.identity(2, like=x)", "np.tri(3, like=x)",
    "np.tril_indices_from(x)", "np.triu_indices_from(x, 1)", "x[np.triu_indices_from(x)]", "np.diff(x, axis=0)",
    "np.diff(x)", "np.diff(x, n=2)", "np.diff(x, prepend=1)", "np.diff(x, append=x[:, :1])", "np.ediff1d(x)",
    "np.isrealobj(x)", "np.ones(2, np.result_type(x, np.float32))", "np.can_cast(x, np.float64)",
]  # fmt: skip


@pytest.mark.parametrize("text", MATRIX)
def test_matrix(text: str) -> None:
    for dtype in DTYPES:
        x = sample((3, 4), dtype)
        call = from_text(text, "x")
        try:
            call(np.array(x))
        except (TypeError, OverflowError, ValueError):
            # NumPy has no difference of bools, no 300 in a uint8: neither have we.
            with pytest.raises((TypeError, OverflowError, ValueError, TraceError)):
                traced(call, x)
            continue
        check(call, x)


EMPTY = [
    "np.reshape(x, (0, 5))", "x.T", "np.flip(x)", "np.roll(x, 1)", "np.tile(x, 2)", "np.repeat(x, 2, axis=0)",
    "np.concatenate([x, x])", "np.stack([x, x])", "np.pad(x, 1)", "np.where(x > 0, x, 1)", "np.clip(x, 0, 1)",
    "np.take(x, [0], axis=1)", "np.tril(x)", "np.diag(x)", "np.diag(x[:, 0])", "np.diff(x)", "np.diff(x, axis=0)",
    "np.split(x, 3, axis=1)", "np.isin(x, [1])", "np.zeros_like(x)", "np.array_equal(x, x)", "np.resize(x, (2, 2))",
    "np.take_along_axis(x, np.zeros((0, 1), int), 1)", "np.diagflat(x)", "np.rot90(x)", "np.trapezoid(x)",
    "np.delete(x, 0, axis=1)", "np.insert(x, 0, 1, axis=1)",
]  # fmt: skip


@pytest.mark.parametrize("text", EMPTY)
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_empty(text: str, dtype: Any) -> None:
    check(from_text(text, "x"), sample((0, 3), dtype))


FLOATS = [
    "np.gradient(x)", "np.gradient(x, axis=0)", "np.gradient(x, 0.5, 2.0)", "np.gradient(x, edge_order=2)",
    "np.gradient(x[0], 0.1)", "np.trapezoid(x)", "np.trapezoid(x, dx=0.5, axis=0)",
    "np.trapezoid(x, x=np.array([0.0, 1.0, 3.0, 4.0]))",
    "np.trapezoid(x, x=np.sort(np.arange(12.0).reshape(3, 4)), axis=1)", "np.unwrap(x * 5)",
    "np.unwrap(x * 5, axis=0)", "np.unwrap(x[0] * 9, discont=4.0)", "np.unwrap(x * 5, period=4)",
    "np.polyval([1.0, 2.0, 3.0], x)", "np.polyval(x[0], x)", "np.polyval(x[0], 2.0)", "np.polyadd(x[0], [1.0, 2.0])",
    "np.polysub([1.0, 2.0], x[0])", "np.polyder(x[0])", "np.polyder(x[0], 2)", "np.polyint(x[0])",
    "np.polyint(x[0], 2, [1, 2])", "np.polyint(x[0], k=3)", "np.vander(x[0])", "np.vander(x[0], 2)",
    "np.vander(x[0], increasing=True)", "np.convolve(x[0], x[:, 0])", "np.convolve(x[0], [1.0, 2.0], 'same')",
    "np.convolve(x[:, 0], x[0], 'valid')", "np.convolve(x[:, 0], x[0], 'same')", "np.correlate(x[0], x[:, 0])",
    "np.correlate(x[0], x[:, 0], 'full')", "np.correlate(x[0], x[:, 0], 'same')",
    "np.correlate(x[:, 0], x[0], 'same')", "np.correlate(x[:2, 0], x[0], 'same')",
    "np.correlate(x[0], x[:2, 0], 'same')", "np.correlate(x[:, 0], x[0], 'full')", "np.correlate(x[:, 0], x[0])",
    "np.correlate(x[:1, 0], x[0], 'same')", "np.correlate(x[0, :3], x[0], 'same')", "np.linspace(x[0], x[1], 5)",
    "np.linspace(x[0, 0], 2.0, 4, endpoint=False)", "np.linspace(x[0], 1, 3, axis=1)", "np.linspace(x[0], x[1], 1)",
    "np.linspace(0, x[0, 0], 5, retstep=True)", "np.logspace(x[0, 0], x[0, 1], 3)",
    "np.logspace(x[0], 1, 3, base=2.0)", "np.interp(x, [-1.0, 0.0, 0.5, 2.0], [1.0, 3.0, -1.0, 4.0])",
    "np.interp(x, [-1.0, 0.0], [1.0, 3.0], left=-5, right=x[0, 0])", "np.interp(x[0], [0.0], [1.0])",
    "np.interp(0.5, [-1.0, 0.0, 2.0], x[0, :3])", "np.interp(x[0], np.cumsum(np.abs(x[1])), x[2])",
    "np.pad(x, 1, constant_values=x[0, 0])", "np.pad(x, 1, constant_values=(x[0, 0], 2.0))",
    "np.pad(x, 2, mode='mean')", "np.array_equal(x * np.nan, x * np.nan, equal_nan=True)",
    "np.isclose(x * np.nan, x * np.nan, equal_nan=True)", "np.clip(x, np.nan, 1.0)", "np.clip(x, x * np.nan, 1.0)",
    "np.clip(x, 1.0, -1.0)", "np.ones(2, np.common_type(x, x))",
]  # fmt: skip


@pytest.mark.parametrize("text", FLOATS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_floats(text: str, dtype: Any) -> None:
    atol = 1e-5 if dtype == np.float32 else 1e-14
    check(from_text(text, "x"), sample((3, 4), dtype), rtol=1e-12, rtol32=1e-5, atol=atol)


def test_copyto() -> None:
    def call(x: Any) -> Any:
        y = x * 2
        np.copyto(y, 1.0)
        z = x * 3
        np.copyto(z, x, where=x > 0)
        return y, z

    check(call, sample((3, 4)))


def test_in_place_nan_to_num() -> None:
    def call(x: Any) -> Any:
        y = x / x
        np.nan_to_num(y, copy=False)
        return y

    check(call, np.array([0.0, 1.0]))


def test_parts_of_a_split_are_views() -> None:
    def call(x: Any) -> Any:
        y = x * 2
        first, _ = np.split(y, 2)
        first += 1
        row, *_ = y
        row *= 3
        np.fliplr(y)[0] = 7
        return y

    check(call, sample((4, 3)))


@pytest.mark.skipif(bool(lacking("np.unstack")), reason="NumPy is too old")
def test_parts_of_unstack_are_views() -> None:
    def call(x: Any) -> Any:
        y = x * 2
        row, *_ = np.unstack(y)
        row *= 3
        return y

    check(call, sample((4, 3)))


def test_pad_takes_a_dict_of_widths() -> None:
    """NumPy does from 2.2 on; the trace with every version."""
    x = sample((3, 4))
    np.testing.assert_array_equal(traced(lambda x: np.pad(x, {1: (1, 2)}), x), np.pad(x, ((0, 0), (1, 2))))


RESHAPE = inspect.signature(np.reshape).parameters


@pytest.mark.parametrize("name", sorted({"shape", "newshape"} & set(RESHAPE)))
def test_reshape_by_the_names_that_numpy_gives_the_shape(name: str) -> None:
    check(lambda x: np.reshape(x, **{name: (2, -1)}, order="F"), sample((3, 4)))


@pytest.mark.skipif("newshape" not in RESHAPE or "shape" not in RESHAPE, reason="this NumPy has one name for the shape")
def test_reshape_takes_the_shape_once() -> None:
    for arguments in ({"shape": 12, "newshape": 12}, {}):
        with pytest.raises(TraceError, match="give the shape once"):
            traced(lambda x, a=arguments: np.reshape(x, **a), sample((3, 4)))


@pytest.mark.skipif("copy" not in RESHAPE, reason="this NumPy's reshape has no `copy`")
def test_reshape_promises_no_view() -> None:
    with pytest.raises(TraceError, match="copy"):
        traced(lambda x: np.reshape(x, (4, 3), copy=False), sample((3, 4)))
    check(lambda x: np.reshape(x, (4, 3), copy=True), sample((3, 4)))


REFUSED = [
    ("np.where(x > 0)", "np.where"), ("np.nonzero(x)", "np.nonzero"), ("np.unique(x)", "np.unique"),
    ("np.union1d(x, x)", "np.union1d"), ("np.fft.fft(x)", "np.fft.fft"),
    ("np.pad(x, 1, mode='linear_ramp')", "linear_ramp"),
    ("np.pad(x, 1, mode='reflect', reflect_type='odd')", "reflect_type"),
    ("np.interp(x, [0.0, 1.0], [0.0, 1.0], period=1.0)", "period"),
    ("np.repeat(x, x.astype(int), axis=0)", "repeats"), ("np.packbits(x)", "np.packbits"),
    ("np.polymul(x[0], x[1])", "np.polymul"), ("np.fill_diagonal(x, 1.0)", "fill_diagonal"),
    ("np.arange(x[0, 0], like=x)", "arange"),
    ("np.geomspace(x[0], 1)", "geomspace"),
    ("np.putmask(x, x > 0, 1.0)", "putmask"),
    ("np.delete(x, x.astype(int)[0, 0])", "obj"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), REFUSED)
def test_refusals(text: str, name: str) -> None:
    with pytest.raises(TraceError, match=name):
        traced(from_text(text, "x"), sample((3, 4)))


def test_errors() -> None:
    for text, match in (
        ("np.concatenate([x, x[:, :2]])", "axis 0"), ("np.stack([x, x[0]])", "shapes differ"),
        ("np.split(x, 2)", "equal parts"), ("np.reshape(x, (5, 5))", "elements"), ("np.squeeze(x, 0)", "size 1"),
        ("np.tile(x, (2,))[0].reshape(9)", "elements"), ("np.moveaxis(x, 0, 5)", "out of bounds"),
        ("np.broadcast_to(x, (2, 2))", "broadcast"), ("np.pad(x, -1)", "negative"),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=match):
            traced(from_text(text, "x"), sample((3, 4)))
    with pytest.raises(DTypeError, match="integers"):
        traced(lambda x: np.take(x, x), sample((3, 4)))
    with pytest.raises(IndexOutOfRange):
        traced(lambda x: np.take(x, [5], axis=0), sample((3, 4)))
    with pytest.raises(IndexOutOfRange):
        traced(lambda x, i: np.take(x, i, axis=0), sample((3, 4)), np.array([1, 3]))
