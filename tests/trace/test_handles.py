"""In-place code means what it means in NumPy, whatever the memory order of the arguments; what could not is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit.trace
from adjit.trace.handle import merges_axes, reshape_strides
from adjit_runtime.errors import DTypeError, ShapeError, TraceError
from tests.trace.check import floats, integers, run, same

X = floats(4, 6, dtype=np.float64)


def views(x: Any) -> Any:
    y = x.copy()
    a = y[1]
    b = y.T
    c = y.reshape(-1)
    d = y[:, ::-2]
    a += 10
    b[0] = 3
    c[5:7] *= 2
    d[0, 0] = -1
    y.T[1:3, ::2][0] = 8
    return y, a, b, c, d


def names(x: Any) -> Any:
    y = x + 1
    z = y
    z += 1
    w = y[...]
    w *= 2
    y = y - 1
    y[0] = 0
    return y, z, w


def scalars(x: Any) -> Any:
    s = x.sum() * 0 + 1
    t = s
    s += 1
    e = x[0, 0]
    f = e
    e *= 2
    return s, t, e, f


def zero_d_views(x: Any) -> Any:
    y = x.copy()
    v = y[0, 0, ...]
    v += 5
    v[...] = v * 2
    v[()] -= 1
    w = y[1, 1:2].reshape(())
    w += 1
    return y, v


def overlaps(x: Any) -> Any:
    y = x.copy()
    y[1:] += y[:-1]
    y[:, 1:] = y[:, :-1]
    y[::-1] += y
    y += y.T[:4, :4].sum()
    y[0] += 1
    y[0, 1] += y[1, 0]
    return y


def outs(x: Any) -> Any:
    y = np.zeros_like(x)
    r = np.add(x, 1, out=y)
    np.multiply(y, 2, out=y[1:3], where=x[1:3] > 0) if y.shape[0] == 2 else np.multiply(y[1:3], 2, out=y[1:3])
    np.subtract(y, x, out=y, where=x > 0)
    r[0] = 4
    return y, r


def broadcasts(x: Any) -> Any:
    y = x.copy()
    b = np.broadcast_to(y[0], x.shape)
    y[0] = 1
    return b + 0, y


def ranks(x: Any) -> Any:
    y = x.copy()
    e = np.expand_dims(y, 1)
    e[:, 0, 2] = 9
    s = y[:1].squeeze(0)
    s[1] = 8
    m = np.moveaxis(y, 0, 1)
    m[3] = 7
    w = y.swapaxes(0, 1)[None]
    w[0, 0] -= 1
    f = np.flip(y, 0)
    f[0, 0] = 100
    y.fill(2) if y.shape[0] == 0 else None
    parts = np.split(y, 2)
    parts[1][0] = 5
    return y, e, m, w, f


def dtypes(x: Any) -> Any:
    y = x.astype(np.float32)
    y += np.float64(1.5)
    y *= x
    n = (x * 10).astype(np.int32)
    n += 1
    n //= 2
    n[0] = 2.7
    m = x > 0
    m &= x < 1
    m[0] = True
    return y, n, m


@pytest.mark.parametrize(
    "function",
    [views, names, scalars, zero_d_views, overlaps, outs, broadcasts, ranks, dtypes],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.filterwarnings("ignore::adjit_runtime.errors.WideningWarning")
def test_programs(function: Callable[[Any], Any], order: Any) -> None:
    if function is overlaps:
        same(function, np.array(floats(4, 4, dtype=np.float64), order=order), exact=False)
    else:
        same(function, np.array(X, order=order))


def test_known_orders_decide_between_view_and_copy() -> None:
    def copied(x: Any) -> Any:
        y = x.copy()
        flat = y.T.reshape(-1)
        strided = y[:, ::2].ravel()
        flat += 1
        strided += 1
        return y, flat, strided

    def kept(x: Any) -> Any:
        y = (x * 2).copy() + 1
        y[1:3].reshape(-1)[0] = 5
        y.reshape(2, 2, 6)[1, 1, 1] = 6
        return y

    same(copied, X)
    same(kept, X)


def test_splitting_an_axis_is_always_a_view() -> None:
    def split(x: Any) -> Any:
        y = x.T + 1
        z = y.reshape(2, 3, 4)
        z[0, 0, 0] = 9
        w = y.reshape(6, 1, 4)
        w[1] = 3
        return y, z

    for order in ("C", "F"):
        same(split, np.array(X, order=order))


def transposed(x: Any) -> Any:
    y = x.T + 1
    z = y.reshape(-1)
    z += 1
    return y


def read_after_write(x: Any) -> Any:
    y = x.T + 1
    z = y.ravel()
    y += 1
    return z


def diagonal(x: Any) -> Any:
    y = x.copy()
    d = np.diagonal(y)
    y += 1
    return d + 0


@pytest.mark.parametrize(
    ("function", "made", "used"),
    [(transposed, "z = y.reshape(-1)", "z += 1"), (read_after_write, "z = y.ravel()", "y += 1"),
     (diagonal, "d = np.diagonal(y)", "y += 1")],
)  # fmt: skip
def test_maybe_views_are_refused_with_both_lines(function: Callable[[Any], Any], made: str, used: str) -> None:
    with pytest.raises(TraceError, match=r"a view or a copy") as info:
        run(function, X)
    assert made in str(info.value)
    assert used in str(info.value)
    assert str(info.value).count("test_handles.py:") >= 2


def test_maybe_views_may_be_read() -> None:
    def flat(x: Any) -> Any:
        return x.reshape(-1) + 1, (x.T * 2).ravel(), x.T.reshape(3, -1)

    for order in ("C", "F"):
        same(flat, np.array(X, order=order))


def in_place_argument(x: Any) -> Any:
    x += 1
    return x


def set_argument(x: Any) -> Any:
    x[0] = 1
    return x


def view_of_argument(x: Any) -> Any:
    y = x[1:]
    y *= 2
    return y


def out_argument(x: Any) -> Any:
    return np.add(x, 1, out=x)


@pytest.mark.parametrize("function", [in_place_argument, set_argument, view_of_argument, out_argument])
def test_arguments_are_not_changed(function: Callable[[Any], Any]) -> None:
    with pytest.raises(TraceError, match=r"x = x \+ v, or x = x\.copy\(\)") as info:
        run(function, X)
    assert "test_handles.py:" in str(info.value)
    assert "argument `x0`" in str(info.value)


def test_closed_over_arrays_are_not_changed() -> None:
    plain = np.zeros((4, 6))

    def add_into(x: Any) -> Any:
        nonlocal plain
        plain += x
        return plain

    def set_into(x: Any) -> Any:
        plain[0] = x[0]
        return plain

    def as_constant(x: Any) -> Any:
        y = adjit.trace.asarray(plain)
        y += x
        return y

    with pytest.raises(TraceError, match="into a plain array"):
        run(add_into, X)
    with pytest.raises(TraceError, match="into a plain array"):
        run(set_into, X)
    with pytest.raises(TraceError, match=r"x\.copy\(\)"):
        run(as_constant, X)


def test_broadcasts_are_read_only() -> None:
    def write(x: Any) -> Any:
        b = np.broadcast_to(x[0] + 1, x.shape)
        b[0] = 1
        return b

    with pytest.raises(TraceError, match="read-only"):
        run(write, X)


def test_scalars_are_immutable() -> None:
    def write(x: Any) -> Any:
        s = x.sum()
        s[...] = 1
        return s

    with pytest.raises(TraceError, match="item assignment"):
        run(write, X)


def test_shapes_and_dtypes_in_place() -> None:
    def grow(x: Any) -> Any:
        y = x[0] + 1
        y += x
        return y

    def widen(n: Any) -> Any:
        m = n + 1
        m += 0.5
        return m

    def place(x: Any) -> Any:
        y = x + 1
        y[0] = x
        return y

    with pytest.raises(ShapeError, match="never grows"):
        run(grow, X)
    with pytest.raises(DTypeError, match="same_kind"):
        run(widen, integers(3))
    with pytest.raises(ShapeError, match=r"x\[\.\.\.\] = value: f.* is written into a place of f"):
        run(place, X)


@pytest.mark.parametrize("seed", range(40))
def test_reshape_strides_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4], size=rng.integers(1, 5)))
    x = np.zeros(tuple(2 * n for n in shape))[tuple(slice(None, 2 * n, int(rng.choice([1, 2]))) for n in shape)]
    x = x[tuple(slice(0, n) for n in shape)].transpose(rng.permutation(len(shape)))
    if rng.random() < 0.5:
        x = x[::-1]
    size = x.size
    new = []
    while size > 1:
        factor = int(rng.choice([n for n in range(1, size + 1) if size % n == 0]))
        new.append(factor)
        size //= factor
    viewed = x.reshape(new)
    found = reshape_strides(x.shape, tuple(s // 8 for s in x.strides), tuple(new))
    assert (found is not None) == np.shares_memory(viewed, x)
    if found is not None:
        wanted = [s // 8 for n, s in zip(viewed.shape, viewed.strides, strict=True) if n > 1]
        assert [s for n, s in zip(new, found, strict=True) if n > 1] == wanted
    if not merges_axes(x.shape, tuple(new)):
        assert np.shares_memory(viewed, x)


class Program:
    """A random program on a list of arrays; the choices depend on shapes alone, so it replays on tracers."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, x: Any, v: Any) -> Any:
        rng = np.random.default_rng(self.seed)
        arrays = [x, v, x + 1, np.multiply(x, v), x.T.copy() if rng.random() < 0.5 else x.T + v.T]
        for _ in range(int(rng.integers(3, 9))):
            a = arrays[int(rng.integers(len(arrays)))]
            if rng.random() < 0.55:
                arrays.append(derived(rng, a))
            else:
                written(rng, arrays[2 + int(rng.integers(len(arrays) - 2))], a)
        return [a + 0 for a in arrays]


def pick(rng: Any, n: int) -> Any:
    """An index of an axis of `n`."""
    kind = rng.integers(4)
    if kind == 0 and n:
        return int(rng.integers(-n, n))
    start, stop = sorted(int(i) for i in rng.integers(0, n + 1, 2))
    return slice(start, stop) if kind == 1 else slice(None, None, -1) if kind == 2 else slice(start, None, 2)


def derived(rng: Any, a: Any) -> Any:
    """Another array: a view, a copy, or either."""
    kind = int(rng.integers(12))
    if kind == 0:
        return a.copy()
    if kind == 1:
        return a * 2 - 1
    if kind == 2:
        return a.T
    if kind == 3:
        return a.reshape(-1)
    if kind == 4:
        return a.ravel()
    if kind == 5 and a.ndim:
        return a[(*(pick(rng, n) for n in a.shape), ...)]
    if kind == 6 and a.ndim and a.shape[0] % 2 == 0:
        return a.reshape(2, -1) if a.size else a
    if kind == 7:
        return a[None]
    if kind == 8 and a.ndim > 1:
        return a.swapaxes(0, -1)
    if kind == 9:
        return a + a.T.sum()
    if kind == 10 and a.ndim and a.shape[0]:
        return a[[0, -1]]
    if kind == 11 and a.ndim > 1:
        return a.transpose(tuple(int(i) for i in rng.permutation(a.ndim)))
    return a[...]


def written(rng: Any, target: Any, source: Any) -> None:
    """An in-place change."""
    kind = int(rng.integers(5))
    key = (*(pick(rng, n) for n in target.shape), ...)
    if kind == 0:
        target[key] = 3
    elif kind == 1:
        target[key] += 1
    elif kind == 2:
        target *= 2
    elif kind == 3 and source.shape == target.shape:
        target += source
    elif target.ndim and target.shape[0]:
        target[0] = target[-1] * 2


SEEDS = 600


def test_random_programs() -> None:
    """Whatever the memory order of the arguments, a program that is not refused gives NumPy's values."""
    refused = 0
    base = (integers(2, 4).astype(np.float64), integers(2, 4, seed=1).astype(np.float64))
    for seed in range(SEEDS):
        program = Program(seed)
        try:
            found = run(lambda x, v, program=program: program(x, v), *base)
        except TraceError as error:
            if "a view or a copy" not in str(error) and "argument" not in str(error):
                raise
            refused += 1
            continue
        for layout in range(3):
            expected = program(*(_laid_out(a, layout) for a in base))
            for have, want in zip(found, expected, strict=True):
                np.testing.assert_array_equal(have, want, err_msg=f"seed {seed}, layout {layout}")
    assert refused < SEEDS * 0.5


def _laid_out(a: np.ndarray, layout: int) -> np.ndarray:
    """The values of `a` in C order, in Fortran's, or in neither."""
    if layout == 0:
        return a.copy()
    if layout == 1:
        return np.asfortranarray(a)
    spread = np.zeros((a.shape[0] * 2, a.shape[1] * 2))
    spread[::2, ::2] = a
    return spread[::2, ::2]
