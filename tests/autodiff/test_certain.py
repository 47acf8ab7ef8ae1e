"""Conditions that no value decides: known where they hold somewhere along axes, so that guards end there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit.autodiff import certain
from adjit.autodiff.certain import is_everywhere
from adjit.ir.builder import Builder, Value
from adjit.ir.types import I64, Array

F64 = np.dtype(np.float64)


def numbered(b: Builder, shape: tuple[int, ...], axis: int) -> Value:
    return b.value(b.iota(shape=shape, axis=axis, dtype=I64).node)


def causal(b: Builder, rows: int, columns: int) -> Value:
    seen: Value = numbered(b, (rows, columns), 1) <= numbered(b, (rows, columns), 0)
    return seen


def strict(b: Builder, rows: int, columns: int) -> Value:
    seen: Value = numbered(b, (rows, columns), 1) < numbered(b, (rows, columns), 0)
    return seen


def repeated(b: Builder, rows: int, columns: int) -> Value:
    seen: Value = b.transpose(b.broadcast(causal(b, rows, columns), shape=(3, 2, rows, columns), axes=(2, 3)),
                              axes=(2, 3, 0, 1))  # fmt: skip
    return seen


def of_a_value(b: Builder, rows: int, columns: int) -> Value:
    return causal(b, rows, columns) & (b.value(b.input("x", Array(F64, (rows, columns)))) > 0)


@pytest.mark.parametrize(
    ("made", "rows", "columns", "along", "wanted"),
    [
        (causal, 5, 5, (0,), True), (causal, 5, 5, (1,), True), (causal, 5, 5, (0, 1), True), (causal, 5, 5, (), False),
        (causal, 1, 1, (), True), (causal, 5, 3, (0,), True), (causal, 3, 5, (0,), False), (causal, 3, 5, (1,), True),
        (strict, 5, 5, (0,), False), (strict, 5, 5, (1,), False), (strict, 5, 5, (0, 1), True),
        (causal, 5, 0, (1,), False), (causal, 0, 5, (1,), True), (repeated, 5, 5, (1,), True),
        (repeated, 5, 5, (0, 3), True), (repeated, 5, 5, (2, 3), False), (of_a_value, 5, 5, (0, 1), False),
    ],
)  # fmt: skip
def test_what_holds_somewhere(
    made: Callable[..., Value], rows: int, columns: int, along: tuple[int, ...], wanted: bool
) -> None:
    assert is_everywhere(made(Builder(), rows, columns).node, along) is wanted


def test_what_takes_long_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What repeats a condition does not count; its own elements and nodes do."""
    condition = repeated(Builder(), 8, 8).node
    monkeypatch.setattr(certain, "CERTAIN_ELEMENTS", 64)
    assert is_everywhere(condition, (1,))
    monkeypatch.setattr(certain, "CERTAIN_ELEMENTS", 63)
    assert not is_everywhere(condition, (1,))
    monkeypatch.setattr(certain, "CERTAIN_ELEMENTS", 64)
    monkeypatch.setattr(certain, "CERTAIN_NODES", 4)
    assert not is_everywhere(condition, (1,))


def joined_attention(x: Any, w: Any) -> Any:
    """Normalised rows are divided by what may be 0, so that guards would go on through the products."""
    h = nn.layer_norm(x @ w)
    q, k, v = h.reshape(2, 5, 3, 2, 4).transpose(2, 0, 3, 1, 4)
    return np.sum(nn.attention(q, k, v, causal=True) ** 2)


def test_a_causal_mask_guards_no_queries_and_no_keys() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 6)), rng.normal(size=(6, 24))
    gradient = adjit.grad(joined_attention, argnums=(0, 1))
    gradient(x, w)
    names = [node.op.name for node in gradient.ir("adjoint").nodes]
    assert "any" not in names
    # Queries, keys and values are views of one value, which gets its cotangent in one piece.
    assert "pad" not in names
    assert names.count("concatenate") == 1
    adjit.check_grads(joined_attention, (x, w))
