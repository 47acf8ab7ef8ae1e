"""Helpers: a function traced and evaluated gives what NumPy gives for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optree

import adjit.ops  # noqa: F401  # fills the registry of ops
from adjit.ir.graph import Graph
from adjit.ir.types import Array
from adjit.ir.verify import verify
from adjit.trace import Traced, trace_flat
from adjit.trace.promote import type_of
from tests.both import run_both


def trace_of(function: Callable[..., Any], *types: Array) -> Traced:
    """`function` traced for arguments of these types, named x0, x1, ..."""
    names = [f"x{i}" for i in range(len(types))]
    traced = trace_flat(function.__name__, lambda tracers: function(*tracers), types, names)
    verify(traced.graph)
    return traced


def graph_of(function: Callable[..., Any], *args: Any) -> Graph:
    """`function` traced for arguments like these."""
    return trace_of(function, *map(type_of, args)).graph


def run(function: Callable[..., Any], *args: Any) -> Any:
    """`function` by way of its graph; a pytree of arrays."""
    traced = trace_of(function, *map(type_of, args))
    outputs = run_both(traced.graph, *args)
    return optree.tree_unflatten(traced.out_tree, outputs)


def pairs(found: Any, expected: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The arrays of two results, which have the same tree, dtypes and shapes."""
    leaves, tree = optree.tree_flatten(found)
    wanted, expected_tree = optree.tree_flatten(expected)
    assert tree == expected_tree
    for have, want in zip(leaves, map(np.asarray, wanted), strict=True):
        assert have.dtype == want.dtype, f"dtype {have.dtype}, NumPy has {want.dtype}"
        assert have.shape == want.shape, f"shape {have.shape}, NumPy has {want.shape}"
        yield have, want


def same(function: Callable[..., Any], *args: Any, exact: bool = True) -> None:
    """The graph gives the dtype, shape and values that NumPy gives; `exact` to the bit."""
    with np.errstate(all="ignore"):
        expected = function(*(np.array(x) if isinstance(x, np.ndarray) else x for x in args))
    found = run(function, *args)
    for have, want in pairs(found, expected):
        if exact:
            np.testing.assert_array_equal(have, want)
        else:
            # The order of sums is not NumPy's.
            np.testing.assert_allclose(have, want, rtol=1e-5 if have.dtype == np.float32 else 1e-12, atol=1e-12)


def floats(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Standard normal values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def integers(*shape: int, dtype: Any = np.int64, low: int = -9, high: int = 10, seed: int = 0) -> np.ndarray:
    """Integers in [low, high)."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
