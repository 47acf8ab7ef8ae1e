"""What NumPy makes inside a trace is known until something traced is written into it, and gradients go through it."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit_runtime.errors import ShapeError, TraceError
from tests.trace.check import floats, run, same

X = np.array([0.3, 0.7, 1.1])
OUTSIDE = np.arange(12.0).reshape(3, 4)


def runge_kutta(p: Any) -> Any:
    def rhs(t: Any, y: Any) -> Any:
        return np.array([y[1], -p[0] * math.sin(y[0]) - p[1] * y[1] * math.cos(t)])

    ts = np.linspace(0, 1, 6)
    ys = np.zeros((len(ts), 2))
    ys[0] = [0.5, 0.0]
    for i in range(1, len(ts)):
        h, y = ts[i] - ts[i - 1], ys[i - 1]
        k1 = rhs(ts[i - 1], y)
        k2 = rhs(ts[i - 1] + h / 2, y + h / 2 * k1)
        ys[i] = y + h * k2
    return np.sum(ys**2)


def views(x: Any) -> Any:
    a = np.zeros((3, 4))
    row, column, flat = a[1], a.T[2], a.reshape(-1)
    row[1] = 5.0
    assert a[1, 1] == 5.0
    assert flat[5] == 5.0
    row[0] = x[0]
    column[1:] = x[1:]
    flat[-1] = x[2] * 2
    a[0] += x[0]
    a[:, 1] *= 3
    return np.sum(a**2) + np.sum(row) * np.sum(column)


def values_as_python_needs_them(x: Any) -> Any:
    n, b, m = np.array([2, 1, 0]), np.ones((2, 2)), np.eye(3)
    m[0, 1] = x[0]
    b[b > 0] = 4.0
    assert b.sum() == 16
    assert float(b[0, 0]) == 4
    assert len(n) == 3
    assert list(n) == n.tolist() == [2, 1, 0]
    assert 2 in n
    assert f"{n[0]:03d}" == "002"
    assert str(n) == "[2 1 0]"
    if np.any(n > 1):
        x = x * 2
    s = np.zeros(n.shape)
    for k, i in enumerate(n):
        s[k] = x[i]
    one = np.array(1)
    return (
        np.sum(m @ s * np.array([1, 2, 3])) + x[n][0] + x.reshape(np.array([3, 1])).sum() + np.take(x, n).sum()
        + x[one] + x[:one][0] + np.sum(np.zeros(one + 1)) + sum(x[i] for i in range(one))
    )  # fmt: skip


def masks(x: Any) -> Any:
    m = np.zeros(3, bool)
    m[1] = True
    return np.sum(x[m]) + np.sum(np.where(m, x, 0.0)) + 2 * np.sum(x[~m])


def results_of_numpy(x: Any) -> Any:
    a = np.diag([1.0, 2.0, 3.0])
    a[0, 1] = x[0]
    a[np.arange(3), np.arange(3)] += x
    b = np.tile([1.0, 2.0], (3, 1))
    b[:, 0] = x
    c = np.concatenate([np.ones(2), np.zeros(1)])
    c[2] = x[2]
    g = np.sin(np.arange(3.0)) + 1
    g[1] = x[1]
    p, q = np.meshgrid(np.arange(3.0), np.arange(2.0))
    p[0] = x
    return np.sum(a**2) + np.sum(b**3) + np.sum(c**2) + np.sum(g) + np.sum(p * q)


def copies_of_what_lies_outside(x: Any) -> Any:
    a, b, c = np.array(OUTSIDE), np.copy(OUTSIDE), np.zeros_like(OUTSIDE)
    a[0, 0], b[1], c[2] = x[0], x[1], x[2]
    return np.sum(a * b + c)


def lists(x: Any) -> Any:
    return (
        np.mean([x[0], x[1]]) + np.dot([x[0], 1.0], [x[1], 2.0]) + np.max([x[0], x[2]])
        + np.sum([x, 2 * x], axis=0)[0] + np.linalg.norm([x[0], x[1]]) + np.stack([x[0], x[1]]).sum()
        + np.sum(np.array([[x[0], 1.0], [2, x[1]]]) @ np.array((x[1], 2)))
    )  # fmt: skip


def functions_of_math(x: Any) -> Any:
    return (
        math.hypot(x[0], x[1]) + math.log(x[0], 2) + math.pow(x[0], 2) + math.fsum([x[0], x[1]])
        + math.prod([x[0], x[2]]) + math.dist([x[0], x[1]], [0.0, 0.0]) + math.erf(x[1]) + math.degrees(x[0])
        + sum(map(math.sin, x)) + math.modf(x[2])[0] + math.atan2(x[0], x[1]) + math.ldexp(x[0], 2) + math.sqrt(4.0)
    )  # fmt: skip


def built_ins(x: Any) -> Any:
    return (
        max(x[0], x[1], 0.5) * min(x) + abs(-x[1]) + min(0.2, x[0]) + max([v * v for v in x]) + max(3, 4)
        + x[math.floor(x[2])] + 0 * round(x[2], 1) + int(max(np.array([1, 2])))
    )  # fmt: skip


def names_of_numpy(x: Any) -> Any:
    zeros, xp = np.zeros, np
    a, b, c = zeros(3), xp.zeros(3), functools.partial(np.zeros, 3)
    d = np.zeros(
        shape=(3,),
    )
    e = c()
    a[0], b[1], d[1], e[2] = x[0], x[1], x[1], x[2]
    return np.sum((a + b + d + e) ** 2)


def tridiagonal(x: Any) -> Any:
    n = len(x)
    b, c, d = 2 + x, np.empty(n), np.empty(n)
    c[0], d[0] = -1 / b[0], 1 / b[0]
    for i in range(1, n):
        m = b[i] + c[i - 1]
        c[i], d[i] = -1 / m, (1 + d[i - 1]) / m
    o = np.zeros(n)
    o[-1] = d[-1]
    for i in range(n - 2, -1, -1):
        o[i] = d[i] - c[i] * o[i + 1]
    return np.sum(o)


def unsupported_functions_of_known_values(x: Any) -> Any:
    order, found = np.argsort(np.array([3.0, 1.0, 2.0])), np.unique(np.array([1, 1, 2]))
    inverse = np.linalg.inv(np.diag([1.0, 2.0, 4.0]))
    return np.sum(x[order] * np.arange(3)) + found[0] + np.sum(x * inverse.diagonal())


def conversions(x: Any) -> Any:
    x = np.atleast_1d(np.asanyarray(np.asarray(x, dtype=np.float64)))
    z = np.ascontiguousarray(x).copy()
    z[0] = 2 * x[1]
    return np.sum(z * x) + np.sum(np.fromiter((v * v for v in x), float)) + np.sum(np.vectorize(lambda t: t * t)(x))


def writers(x: Any) -> Any:
    h, k, o, p, q = np.zeros(2), np.zeros(2, int), np.empty(3), np.zeros(3), np.zeros((3, 3))
    np.add.at(h, np.array([0, 1, 1]), x)
    np.add.at(k, [0, 0, 1], 1)
    np.multiply(x, 2, out=o)
    np.copyto(p, 1.0)
    np.add(p, 1, out=p, where=np.array([True, False, True]))
    np.fill_diagonal(q, 2.0)
    q += np.arange(3)
    q.sort(axis=0)
    q.put([0], [0.5])
    q[1].partition(1)
    return np.sum(h**2 * k) + np.sum(o * p) + np.sum(q @ x)


def joined(x: Any) -> Any:
    return np.sum(np.r_[0.0, x, x[0], [x[1], 2.0], 0:3] ** 2) + np.sum(np.c_[x, x * 2] @ np.array([1.0, 2.0]))


def inner_gradients(x: Any) -> Any:
    w = np.arange(3.0)
    first = adjit.grad(lambda y: np.sum(w * y**2) + w[1])(x)
    return np.sum(first) + np.sum(adjit.grad(lambda y: np.sum(np.array([y[0] ** 2, y[1] * y[0]])))(x))


PROGRAMS = [
    runge_kutta, views, values_as_python_needs_them, masks, results_of_numpy, copies_of_what_lies_outside, lists,
    functions_of_math, built_ins, names_of_numpy, tridiagonal, unsupported_functions_of_known_values, conversions,
    writers, joined,
]  # fmt: skip


def slope(f: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    h = 1e-6 * np.eye(len(x))
    return np.array([(f(x + d) - f(x - d)) / 2e-6 for d in h])


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_as_people_write_them(program: Callable[..., Any]) -> None:
    value, gradient = adjit.value_and_grad(program)(X)
    np.testing.assert_allclose(value, program(X), rtol=1e-12)
    # Central differences lose half of the digits.
    np.testing.assert_allclose(gradient, slope(program, X), rtol=1e-6, atol=1e-7)


def test_known_arrays_in_a_gradient_within() -> None:
    def expected(x: np.ndarray) -> float:
        return float(2 * np.sum(np.arange(3.0) * x) + 3 * x[0] + x[1] - x[0] + x[0])

    np.testing.assert_allclose(adjit.jit(inner_gradients)(X), expected(X) - X[0] + X[0], rtol=1e-12)


def test_dtypes_and_shapes_are_numpys() -> None:
    def program(x: Any) -> Any:
        a = np.zeros(3, np.float32)
        a[0] = x[0]
        b = np.array([x[0], 1, True])
        c = np.array([[1, 2], [3, 4]])
        d = c / 2
        d[0, 0] = x[1]
        return a, b, c, d, np.full((2, 2), x[0]), np.array(3), np.arange(4, dtype=np.int32), c.astype(np.float32).T

    same(program, floats(3, dtype=np.float64))


def test_dtypes_without_code_stay_plain() -> None:
    def program(x: Any) -> Any:
        a = np.zeros(3, complex)
        a[0] = 2j
        names = np.array(["a", "b"])
        assert type(a) is np.ndarray
        assert type(names) is np.ndarray
        return x * abs(a[0])

    assert run(program, X).tolist() == (X * 2).tolist()


def test_plain_code_gets_plain_values() -> None:
    def program(x: Any) -> Any:
        n = np.arange(3)
        assert np.arange(9.0)[n].tolist() == [0, 1, 2]
        assert OUTSIDE[n].shape == (3, 4)
        assert pickle.loads(pickle.dumps(n)).tolist() == [0, 1, 2]
        assert n.flags.c_contiguous
        assert n.tobytes() == np.arange(3).tobytes()
        twin = copy.deepcopy(n)
        twin[0] = 7
        assert n[0] == 0
        # What C code would write into a copy would be lost.
        assert memoryview(np.ndarray.__array__(n.__array__())).readonly is not False
        return x[n]

    run(program, X)


def test_what_a_trace_made_lives_on_in_a_cache() -> None:
    kept: dict[int, Any] = {}

    def weights(n: int) -> Any:
        if n not in kept:
            kept[n] = np.arange(1.0, n + 1)
        return kept[n]

    def program(x: Any) -> Any:
        return np.sum(x * weights(len(x)))

    for f in (adjit.jit(program), adjit.jit(lambda x: program(2 * x) / 2)):
        np.testing.assert_allclose(f(X), np.sum(X * [1, 2, 3]))
    assert float(np.sum(weights(3))) == 6
    assert (weights(3) * 2).tolist() == [2, 4, 6]
    assert type(weights(3).copy()) is np.ndarray


def test_arrays_from_outside_stay_refused_for_writing() -> None:
    def write(x: Any) -> Any:
        same_one = np.asarray(OUTSIDE)
        same_one[0, 0] = x[0]
        return same_one

    with pytest.raises(TraceError, match=r"np\.array\(a\)"):
        run(write, X)
    with pytest.raises(TraceError, match=r"x = x\.copy\(\)"):
        run(lambda x: x.__setitem__(0, 1.0), X)


def test_a_read_only_view_stays_one() -> None:
    def write(x: Any) -> Any:
        np.broadcast_to(np.zeros(3), (2, 3))[0] = x
        return x

    with pytest.raises((TraceError, ValueError), match="read-only"):
        run(write, X)


def test_a_large_buffer_is_no_constant_of_its_size() -> None:
    def program(x: Any) -> Any:
        buffer = np.zeros(1_000_000)
        buffer[0] = x[0]
        return buffer

    text = adjit.jit(program).ir("trace", X)
    assert str(text).count("data") == 0


def test_names_that_were_imported_one_by_one_are_named() -> None:
    from numpy import array

    with pytest.raises(TraceError, match=r"from numpy import .*np\.array"):
        run(lambda x: array([x[0], x[1]]), X)


def test_indexing_by_a_range() -> None:
    same(lambda w: (w[range(4)], w[range(3, 0, -1)], w[range(0)]), floats(5))


def test_windows_that_slide() -> None:
    windows = np.lib.stride_tricks.sliding_window_view
    same(lambda x: (windows(x, 3), windows(x, (2,), axis=0) * 2, np.mean(windows(x, 4), axis=-1)), floats(6))
    same(lambda x: (windows(x, (2, 3)), windows(x, 2, axis=1), windows(x, (2, 2), axis=(0, 0))), floats(4, 5))
    for call in (lambda x: windows(x, 7), lambda x: windows(x, (2, 2)), lambda x: windows(x, -1)):
        with pytest.raises(ShapeError):
            run(call, floats(6))


def test_elements_chosen_by_a_traced_mask() -> None:
    def relu(x: Any, a: Any) -> Any:
        z = x * 2
        z[z < 0] = z[z < 0] * a
        z[z > 1] *= 3
        mask = z > 0.5
        z[mask] = a * np.sqrt(z[mask]) - 1
        return z, np.sum(z[z > 0] ** 2), z[z > 0].mean(), np.mean(z[z > 0]), z[z > 0].sum()

    same(relu, floats(9, dtype=np.float64), np.float64(0.1), exact=False)
    x = np.array([-1.0, 0.5, 2.0])
    np.testing.assert_allclose(adjit.grad(lambda x: np.sum(np.log(x[x > 0])))(x), [0, 2, 0.5])

    def other_mask(x: Any) -> Any:
        z = x.copy()
        z[z < 0] = z[z > 0]
        return z

    refused: list[Callable[..., Any]] = [
        other_mask, lambda x: x[x > 0], lambda x: x + x[x > 0], lambda x: x[x > 0].max(), lambda x: len(x[x > 0]),
        lambda x: x[x > 0] + x[x < 0], lambda x: np.sort(x[x > 0]), lambda x: [*x[x > 0]],
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(TraceError, match=r"indexed by a traced boolean mask"):
            run(call, x)


def test_not_of_scalars() -> None:
    same(lambda x: (~np.isnan(x), ~(x > 0)), np.float64(0.5))
    assert not adjit.jit(lambda x: ~(x > 0))(0.5)
    assert adjit.jit(lambda x: ~np.isnan(x))(0.5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.float16(x[0]), r"np\.float16 has no machine code.*np\.float32\(x\)"),
        (lambda x: OUTSIDE.dot(x), r"write plain @ x"),
        (lambda x: x[x > 0], r"x = np\.where\(mask, x \* a, x\)"),
        (lambda x: np.where(x > 0), r"use np\.where\(condition, x, y\)"),
        (lambda x: np.nonzero(x), r"np\.where\(mask, x, 0\)"),
        (lambda x: np.extract(x > 0, x), r"np\.where\(mask, x, 0\)"),
        (lambda x: np.place(x, x > 0, 1.0), r"x = np\.where\(mask, value, x\)"),
        (lambda x: math.gamma(x[0]), r"math\.gamma is not supported"),
        (lambda x: math.sin(x), r"math\.sin .*np\.sin"),
        (lambda x: np.r_["0,2", x], r"np\.concatenate"),
    ],
)
def test_refusals_say_what_to_write(call: Callable[..., Any], text: str) -> None:
    with pytest.raises(TraceError, match=text):
        run(call, floats(4, dtype=np.float64))
