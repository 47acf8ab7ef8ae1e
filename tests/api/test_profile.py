"""profile, explain and machine: every kernel is there, with the user's lines; they print as text, tables and HTML."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import machine as machine_function
from adjit import nn, optim
from adjit.machine import SIZES


def loss(params: Any, x: Any, labels: Any) -> Any:
    h = nn.relu(x @ params["w1"] + params["b1"])
    return nn.cross_entropy(h @ params["w2"], labels)


@pytest.fixture
def trained() -> tuple[Any, Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(40, 64)), "b1": np.zeros(64), "w2": rng.normal(size=(64, 10))}
    step = adjit.training_step(loss, optim.adam(1e-3))
    return step, step.init(params), rng.normal(size=(48, 40)), rng.integers(0, 10, 48)


def test_a_profile_has_a_row_for_each_kernel(trained: Any) -> None:
    step, state, x, labels = trained
    before = state.params["w1"].copy()
    profile = step.profile(state, x, labels, steps=20)
    kernels = [line for line in str(step.ir("plan")).splitlines() if line.startswith("kernel")]
    assert [row.number for row in profile.rows] == list(range(len(kernels)))
    np.testing.assert_allclose(sum(row.share for row in profile.rows), 1.0)
    np.testing.assert_allclose(sum(row.seconds for row in profile.rows), profile.seconds)
    # The state is not trained by it.
    np.testing.assert_array_equal(state.params["w1"], before)
    assert state.step == 0
    product = next(row for row in profile.rows if row.what == "product 48x64x40 f64")
    assert product.work.flops > 2 * 48 * 64 * 40
    assert product.work.nbytes >= 8 * (48 * 40 + 40 * 64 + 48 * 64)
    assert any(str(loc).startswith("test_profile.py:") for loc in product.locs)


def test_its_text_rich_and_html(trained: Any) -> None:
    step, state, x, labels = trained
    profile = step.profile(state, x, labels, steps=5)
    lines = str(profile).splitlines()
    assert lines[0].startswith("loss: ")
    assert lines[1].split() == ["kernel", "what", "lines", "us", "share", "bytes", "GB/s", "GFLOP/s", "of", "limit"]
    assert len(lines) == len(profile.rows) + 2
    assert "test_profile.py:" in str(profile)
    assert profile.to_html().count("<tr>") == len(profile.rows) + 1
    assert profile._repr_html_() == profile.to_html()
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=200, record=True, file=io.StringIO())
    console.print(profile)
    assert "product 48x64x40 f64" in console.export_text()


def test_functions_have_profiles_too() -> None:
    f = adjit.jit(lambda x, i: np.cumsum(np.tanh(x[i]), axis=0))
    x, i = np.ones((20, 30)), np.arange(15)
    profile = f.profile(x, i, calls=3)
    assert {row.what.split()[0] for row in profile.rows} >= {"checkrange", "running", "loop"}
    with pytest.raises(IndexError, match="index 20 is out of bounds"):
        f.profile(x, i + 6, calls=1)
    small = adjit.jit(lambda x: x * 2.0)
    assert [row.what for row in small.profile(np.ones(3), calls=3).rows] == ["straight line of 2"]
    grown = adjit.value_and_grad(lambda w, x: np.mean(np.tanh(x @ w)))
    wide = grown.profile(np.ones((8, 4)), np.ones((20000, 8)), calls=2)
    assert any("tiles of" in row.what for row in wide.rows)


def test_explain_gives_reasons(trained: Any) -> None:
    step, state, x, labels = trained
    step(state, x, labels)
    text = str(step.explain())
    assert "kernel 0: " in text
    assert "test_profile.py:" in text
    for reason in (
        "operations on each finished block of the product",
        "reads it as a matrix",
        "Checks an index before anything of the state is written.",
        "On one thread: too little work to share.",
        "not in tiles of rows",
        "48 rows: fewer than 4 tiles of 24.",
    ):
        assert reason in text, (reason, text)
    assert step.explain().to_html().startswith("<dl><dt>kernel 0")
    assert str(step.explain(state, x, labels)) == text


def test_explain_threads_and_tiles() -> None:
    big = adjit.jit(lambda x, y: np.tanh(x @ y))
    assert "Large enough for the threads of the pool" in str(big.explain(np.ones((256, 256)), np.ones((256, 256))))
    tall = adjit.value_and_grad(lambda w, x: np.mean(np.tanh(x @ w)))
    text = str(tall.explain(np.ones((8, 4)), np.ones((40000, 8))))
    assert "Runs tile by tile over the rows" in text
    assert "groups of tiles run on the threads" in text
    long = adjit.jit(lambda x: np.prod(np.exp(x)))
    assert "one long reduction" in str(long.explain(np.ones(100_000)))
    thick = adjit.value_and_grad(lambda w, x: np.mean(np.tanh(x @ w)))
    text = str(thick.explain(np.ones((512, 512)), np.ones((600, 512))))
    assert "matrices of 4096 KB would be read, or added up, once for each tile" in text


def test_nothing_is_compiled_yet() -> None:
    with pytest.raises(adjit.ArgumentError, match="has not been compiled yet"):
        adjit.jit(lambda x: x).explain()


def test_machine() -> None:
    found = machine_function()
    assert set(found.gflops) == {"float32", "float64"}
    assert min(found.gflops.values()) > 0
    rates = [found.read[size] for size in SIZES]
    assert rates == sorted(rates, reverse=True)
    assert found.bandwidth(1) == rates[0]
    assert found.bandwidth(1e12) == rates[-1]
    assert found.limit(1e9, 0.0, 4) == pytest.approx(1 / found.gflops["float32"])
    assert found.limit(0.0, 1e9, 4) == pytest.approx(1 / rates[-1])
    assert found.target.cpu in str(found)
    assert "GFLOP/s on one core" in str(found)
    assert json.dumps(found.gflops)
