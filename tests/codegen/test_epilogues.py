"""What rides on a product: arrays beside it, at widths that are whole vectors or not, whole blocks or parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.codegen import cuts, products
from adjit_runtime.target import host_target


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "k"), [(300, 256, 20), (301, 300, 7), (64, 1040, 300), (257, 263, 600), (3, 70, 9)])
def test_arrays_beside_a_product(m: int, n: int, k: int, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w, p, q = (rng.normal(size=shape).astype(dtype) for shape in ((m, k), (k, n), (m, n), (m, n)))
    row, column = rng.normal(size=n).astype(dtype), rng.normal(size=(m, 1)).astype(dtype)
    found = []
    for near in (1, 1 << 40):
        monkeypatch.setattr(products, "EPILOGUE_PREFETCH_BYTES", dict.fromkeys((16, 32), near))
        f = adjit.jit(lambda *a: np.maximum((a[0] @ a[1]) * a[2] + a[3] + a[4], a[5]) - a[2])
        found.append(f(x, w, p, q, row, column))
        np.testing.assert_array_equal(f(x, w, p, q, row, column), found[0])
    exact = np.maximum((x.astype(float) @ w.astype(float)) * p + q + row, column) - p
    scale = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found[0], exact, rtol=scale, atol=scale * 10)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(64, 64, 64), (96, 70, 33), (1, 3, 5), (7, 300, 64), (90, 512, 20), (64, 130, 70), (96, 0, 3)]
)
def test_sums_of_rows_in_a_product(
    m: int, n: int, k: int, dtype: Any, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x, w, v = (rng.normal(size=shape).astype(dtype) for shape in ((m, k), (k, n), (m, n)))

    def f(x: Any, w: Any, v: Any) -> Any:
        d = (x @ w) * v + v
        return d, np.sum(d, axis=0), np.max(d, axis=0)

    adjit.set_threads(1)
    alone = adjit.jit(f)(x, w, v)
    monkeypatch.setattr(cuts, "PARALLEL_FLOPS", 1)
    adjit.set_threads(threads)
    try:
        program = adjit.jit(f)
        found = program(x, w, v)
        assert n == 0 or program.ir("plan").count("\nkernel") == 1
    finally:
        adjit.set_threads(None)
    for a, b in zip(found, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    d = (x.astype(float) @ w.astype(float)) * v + v
    scale = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found[0], d, rtol=scale, atol=scale)
    np.testing.assert_allclose(found[1], d.sum(0), rtol=scale, atol=scale * 10)
    np.testing.assert_allclose(found[2], d.max(0), rtol=scale, atol=scale)


@pytest.mark.parametrize("layers", [(300, 320), (290, 333)])
def test_an_update_in_the_product_of_its_gradient(layers: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(70, layers[0])), rng.normal(size=(70, layers[1]))
    step = adjit.training_step(lambda w, x, d: np.sum((x @ w) * d), adjit.optim.adam(1e-2))
    state = step.init(np.zeros(layers))
    m = v = w = np.zeros(layers)
    for t in range(1, 4):
        step(state, x, d)
        g = x.T @ d
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 1e-2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(state.params, w, rtol=1e-12)  # sums in another order


@pytest.mark.parametrize("cpu", ["", "haswell"])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_of_a_batch_in_scratch_memory(cpu: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that only its epilogue reads is made in blocks; those of later matrices lay beyond their memory."""
    if cpu:
        if not host_target().masks:
            pytest.skip("this machine has no wider vectors")
        monkeypatch.setenv("ADJIT_CPU", cpu)
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((900, 32, 20), (900, 20, 32)))
    f = adjit.jit(lambda a, b: (a @ b).astype(np.float64))
    adjit.set_threads(threads)
    try:
        found = f(a, b)
    finally:
        adjit.set_threads(None)
    np.testing.assert_allclose(found, a.astype(float) @ b, rtol=1e-4, atol=1e-4)
    assert "(32,1) scratch" in f.ir("plan")
