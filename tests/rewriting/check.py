"""Helpers: a function compiled with control_flow=True gives what it gives in plain Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

import adjit


def same(function: Callable[..., Any], *calls: tuple[Any, ...]) -> Any:
    """Compiled once and called with each of some arguments; gives the compiled function."""
    compiled = adjit.jit(function, control_flow=True)
    for args in calls:
        expected = function(*optree.tree_map(_copied, args))
        agree(compiled(*args), expected)
    return compiled


def _copied(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def agree(found: Any, expected: Any) -> None:
    """The same trees and, but for rounding, values, of the same kinds of numbers."""
    leaves, tree = optree.tree_flatten(found)
    wanted, expected_tree = optree.tree_flatten(expected)
    assert tree == expected_tree
    for have, want in zip(map(np.asarray, leaves), map(np.asarray, wanted), strict=True):
        assert have.shape == want.shape
        # Functions differ from libm's in the last bits.
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)


def refused(function: Callable[..., Any], *args: Any) -> str:
    """The text of the error that a compiled call raises, without the names of folders."""
    with pytest.raises(adjit.AdjitError) as caught:
        adjit.jit(function, control_flow=True)(*args)
    return str(caught.value)


def line_of(function: Callable[..., Any], text: str) -> int:
    """The line of a function's source that has a text."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)
