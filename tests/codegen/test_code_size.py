"""Code follows distinct bodies, not layers: equal kernels are written once and called with other addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit import functions
from adjit.tuned import ENTRY_LINES


def lowered(layers: int) -> Any:
    """The step of a residual network of tanh layers, 64 wide, with Adam."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        h = x
        for layer in params["layers"]:
            h = h + np.tanh(h @ layer["w"] + layer["b"])
        return np.mean((h @ params["out"] - y) ** 2)

    rng = np.random.default_rng(0)
    params = {
        "layers": [
            {"w": rng.normal(size=(64, 64)).astype(np.float32) / 16, "b": np.zeros(64, np.float32)}
            for _ in range(layers)
        ],
        "out": rng.normal(size=(64, 1)).astype(np.float32),
    }
    step = adjit.training_step(loss, adjit.optim.adam(1e-3))
    x, y = rng.normal(size=(64, 64)).astype(np.float32), np.zeros((64, 1), np.float32)
    state = step.init(params)
    first = step(state, x, y)
    assert step(state, x, y) < first
    (record,) = step.records.values()
    return record.made("code")


def test_24_layers_are_at_most_twice_the_code_of_3() -> None:
    few, many = lowered(3), lowered(24)
    assert many.kernels <= few.kernels + 2
    assert many.instructions <= 2 * few.instructions
    # Every layer has its three products in the plan all the same.
    assert len(many.plan.kernels) - len(few.plan.kernels) == 3 * (24 - 3)


def test_a_long_program_runs_in_functions_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM takes time with the square of the length of a function that it does not optimise."""
    monkeypatch.setattr(functions, "roll", lambda graph: graph)

    def loss(p: Any, x: Any) -> Any:
        h = np.zeros((4, 6))
        for t in range(len(x)):
            h = np.tanh(x[t] @ p["a"] + h @ p["b"])
        return np.mean(h**2)

    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(3, 6)), "b": rng.normal(size=(6, 6)) / 6}
    x = rng.normal(size=(120, 4, 3))
    gradient = adjit.value_and_grad(loss)
    value, _ = gradient(params, x)
    (record,) = gradient.records.values()
    glue = [part for part in record.made("code").llvm.split("\ndefine ")[1:] if "optnone {" in part]
    parts = [part for part in glue if part.startswith("internal i64 @part")]
    assert len(record.made("code").plan.kernels) > 400
    assert len(parts) > 1
    # The last kernel may begin on the last line.
    assert max(part.count("\n") for part in glue) < 1.5 * ENTRY_LINES
    h = np.zeros((4, 6))
    for each in x:
        h = np.tanh(each @ params["a"] + h @ params["b"])
    np.testing.assert_allclose(value, np.mean(h**2), rtol=1e-12)  # sums in another order
