"""A small network and its data, as users write them."""

from __future__ import annotations

from typing import Any

import numpy as np


def predict(params: Any, x: Any) -> Any:
    h = np.maximum(x @ params["w1"] + params["b1"], 0.0)
    return h @ params["w2"] + params["b2"]


def loss(params: Any, x: Any, y: Any) -> Any:
    return np.mean((predict(params, x) - y) ** 2)


def make_params(seed: int = 0, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(size=(3, 8)).astype(dtype),
        "b1": rng.normal(size=8).astype(dtype),
        "w2": rng.normal(size=(8, 2)).astype(dtype),
        "b2": np.zeros(2, dtype),
    }


def data(rows: int = 37, dtype: Any = np.float64, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    y = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    return x.astype(dtype), y.astype(dtype)
