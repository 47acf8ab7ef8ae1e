"""profile, explain and machine: every kernel is there, with the user's lines; they print as text, tables and HTML."""

from __future__ import annotations

import importlib
import io
import json
import re
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import machine as machine_function
from adjit import nn, optim
from adjit.machine import SIZES

machine_module = importlib.import_module("adjit.machine")


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
    assert repr(profile) == str(profile)
    assert "median of 5" in lines[0]
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
    assert str(step.explain(state, x, labels)) == repr(step.explain()) == text


def test_explain_loops() -> None:
    def recursion(x: Any) -> Any:
        y = x[0]
        for i in range(1, 200):
            y = np.tanh(0.5 * y) * x[i]
        last, _ = adjit.scan(lambda c, row: (np.cos(c * row), None), np.ones(400), np.ones((9, 400)) * y)
        return np.sum(last)

    text = str(adjit.jit(recursion).explain(np.ones(200)))
    assert "A loop of 198 turns" in text or "A loop of 199 turns" in text
    assert "stay in registers, with the 1 value that it carries." in text
    assert "A loop of 9 turns, one after the other, each 1 kernel." in text
    assert "reads it in a loop" in text
    # The loop that the function has is not one that was rolled up.
    rolled = text.split("rolled up\n")[1]
    assert "test_profile.py:" in rolled
    assert "a loop of 19" in rolled
    assert "a loop of 9 turns" not in rolled


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


def measured(monkeypatch: pytest.MonkeyPatch, factors: list[float]) -> list[float]:
    """Measurements that give these shares of the right numbers, one after another."""
    monkeypatch.setattr(machine_module, "_MEASURED", {})
    monkeypatch.setattr(machine_module, "_LATEST", {})
    rest = iter(factors)
    seen: list[float] = []

    def peaks(target: Any) -> dict[str, float]:
        seen.append(next(rest))
        return {"float32": 100.0 * seen[-1], "float64": 50.0 * seen[-1]}

    monkeypatch.setattr(machine_module, "_measure_peaks", peaks)
    monkeypatch.setattr(machine_module, "_measure_reading", lambda target: dict.fromkeys(SIZES, 10.0 * seen[-1]))
    return seen


@pytest.mark.parametrize("cached", ["0", "1"])
def test_what_was_measured_twice_alike_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, cached: str) -> None:
    monkeypatch.setenv("ADJIT_CACHE", cached)
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    seen = measured(monkeypatch, [0.5, 0.98, 1.0, 0.7, 0.7])
    found = machine_function()
    assert (seen, found.gflops["float32"], found.disturbed) == ([0.5, 0.98, 1.0], 100.0, False)
    assert machine_function() == found
    if cached == "1":
        machine_module._MEASURED.clear()
        assert machine_function() == found
    assert len(seen) == 3
    assert machine_function(remeasure=True).gflops["float32"] == 70.0
    assert machine_function().gflops["float32"] == 70.0
    assert len(seen) == 5


def test_what_was_disturbed_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    seen = measured(monkeypatch, [0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 0.95, 1.0])
    found = machine_function()
    assert (len(seen), found.gflops["float64"], found.disturbed) == (6, 50.0, True)
    assert "measured while something else ran" in repr(found)
    # A profile makes do with it; whoever asks gets a new one.
    assert machine_module.latest() == found
    assert len(seen) == 6
    assert not machine_function().disturbed
    assert not machine_module.latest().disturbed
    assert len(seen) == 8
    with pytest.raises(adjit.ArgumentError, match="machine: remeasure is True or False, not 'yes'"):
        machine_function("yes")  # type: ignore[arg-type]


def test_what_terminals_and_notebooks_show(trained: Any) -> None:
    step, state, x, labels = trained
    history = step.run(state, (x, labels), batch_size=16, epochs=4)
    first, last = (re.escape(f"{history.losses[i]:.6g}") for i in (0, -1))
    assert re.fullmatch(f"<history of 12 steps: loss {first} first, {last} last, lowest .* at \\d+>", repr(history))
    assert repr(adjit.History(np.empty(0))) == "<history of no steps>"
    assert "lowest nan" in repr(adjit.History(np.full(3, np.nan)))
    assert history._repr_html_().count("<polyline") == 1
    assert "<svg" not in adjit.History(np.array([1.0, np.nan]))._repr_html_()
    assert adjit.History(np.ones(1000))._repr_html_().count(",") == 200 + 2
    assert "<td>params.w1</td><td>f64[40,64]</td>" in state._repr_html_().replace("float64", "f64")
    assert "12" in repr(state)
    state.close()
    assert state._repr_html_() == "<p>&lt;state of loss, closed&gt;</p>"
    graph = step.ir("trace")
    assert repr(graph) + "\n" == str(graph)
    assert graph._repr_html_().startswith("<pre>graph @loss(")
    x = adjit.jit(lambda x: [x := x + 1 for _ in range(200)])
    x(1.0)
    lines = repr(x.ir("trace")).splitlines()
    assert len(lines) == 61
    assert re.fullmatch(r"\.\.\. and \d+ more lines; print\(graph\) shows all", lines[-1])
