"""map: a function of each element, stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from tests.control.check import same, scan_of

X = np.random.default_rng(7).standard_normal((6, 3))


def test_one_array() -> None:
    found = same(lambda x: adjit.map(lambda row: np.abs(row)[::-1].cumsum(), x), X)
    assert found.shape == (6, 3)
    node = scan_of(lambda x: adjit.map(lambda row: row * 2, x), X)
    assert (node.attrs["carried"], node.attrs["sliced"]) == (0, 1)


def test_trees_in_and_out() -> None:
    def f(x: Any, w: Any) -> Any:
        def each(args: Any) -> Any:
            a, b = args
            return {"dot": a @ w, "pair": (a * b["scale"], None, 1)}

        return adjit.map(each, (x, {"scale": x[:, 0]}))

    found = same(f, X, X[0])
    assert found["pair"][2].tolist() == [1] * 6


@pytest.mark.parametrize("length", [0, 1])
def test_few_elements(length: int) -> None:
    found = same(lambda x: adjit.map(lambda v: (v.sum(), v > 0, 2, 0.5), x), X[:length])
    assert [leaf.dtype.name for leaf in found] == ["float64", "bool", "int64", "float64"]
    assert found[1].shape == (length, 3)


def test_maps_in_maps() -> None:
    same(lambda x: adjit.map(lambda a: adjit.map(lambda b: a @ b, x), x), X)


def test_where_there_is_no_array() -> None:
    with pytest.raises(adjit.ShapeError, match=r"map: xs has no arrays.*give an array in xs\n"):
        adjit.map(lambda x: x, ())
