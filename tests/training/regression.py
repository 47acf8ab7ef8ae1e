"""A small network that several models of a test are, and its data."""

from __future__ import annotations

from typing import Any

import numpy as np

K = 3
RATES = np.array([0.03, 0.1, 0.2])
X = np.random.default_rng(1).normal(size=(20, 4))
Y = np.sin(X).sum(axis=1)
SHARED_DATA = (0, None, None)


def loss(p: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ p["w"] + p["b"])
    return np.mean((h @ p["v"] * p["scale"] - y) ** 2)


def params(seed: int, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(seed)
    made = {"w": rng.normal(size=(4, 5)), "b": np.zeros(5), "v": rng.normal(size=5), "scale": np.float64(0.5 + seed)}
    return {name: np.asarray(value, dtype) for name, value in made.items()}
