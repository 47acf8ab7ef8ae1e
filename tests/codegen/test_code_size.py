"""Code follows distinct bodies, not layers: equal kernels are written once and called with other addresses."""

from __future__ import annotations

from typing import Any

import numpy as np

import adjit


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
    return record.lowered


def test_24_layers_are_at_most_twice_the_code_of_3() -> None:
    few, many = lowered(3), lowered(24)
    assert many.kernels <= few.kernels + 2
    assert many.instructions <= 2 * few.instructions
    # Every layer has its three products in the plan all the same.
    assert len(many.plan.kernels) - len(few.plan.kernels) == 3 * (24 - 3)
