"""Attention in tiles is attention by whole arrays: values, gradients, batches, second derivatives, dropout; in memory
that grows with the sequence, and with the same bits for any number of threads."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit.ir.evaluate import evaluate
from tests.trace.check import floats, graph_of

LAYER, TILES = (importlib.import_module(f"adjit.nn.{name}") for name in ("attending", "attending.tiles"))


@dataclass(frozen=True)
class Case:
    """One call: shapes of the axes in front of q, and of k and v; extents; shapes of bias and mask; the rest."""

    lead: tuple[int, ...] = (2,)
    shared: tuple[int, ...] = (2,)
    time: int = 37
    keys: int = 41
    features: int = 3
    size: int = 5
    bias: tuple[int, ...] | None = None
    mask: tuple[int, ...] | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def operands(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """q, k and v, and the bias where there is one."""
        shapes = [(*self.lead, self.time, self.features), (*self.shared, self.keys, self.features)]
        shapes += [(*self.shared, self.keys, self.size), *([self.bias] if self.bias is not None else [])]
        return [floats(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]

    def attention(self, *operands: Any) -> Any:
        """The call."""
        mask = None if self.mask is None else np.random.default_rng(5).random(self.mask) < 0.6
        return nn.attention(*operands[:3], mask, *operands[3:], **dict(self.options))


CAUSAL, DROPPED = ("causal", True), (("dropout", 0.3), ("key", adjit.random.key(3)))

CASES = {
    "one head": Case(lead=(), shared=()),
    "causal": Case(options=(CAUSAL,)),
    "more queries than keys": Case(time=50, keys=18, options=(CAUSAL,)),
    "more keys than queries": Case(time=18, keys=50, options=(CAUSAL,)),
    "whole blocks": Case(time=32, keys=48, options=(CAUSAL,)),
    "one query": Case(time=1),
    "one key": Case(keys=1),
    "groups": Case(lead=(2, 1, 6), shared=(2, 1, 2), options=(CAUSAL,)),
    "many heads": Case(lead=(3, 4), shared=(3, 4), options=(CAUSAL,)),
    "dropout": Case(lead=(2, 4), shared=(2, 2), options=(CAUSAL, *DROPPED)),
    "bias": Case(lead=(2, 4), shared=(2, 2), bias=(2, 4, 37, 41)),
    "bias for all": Case(lead=(2, 4), shared=(2, 2), bias=(37, 41), options=(CAUSAL,)),
    "bias of heads": Case(lead=(2, 4), shared=(2, 2), bias=(4, 37, 41), mask=(2, 1, 1, 41)),
    "bias of keys": Case(lead=(2, 4), shared=(2, 4), bias=(4, 1, 41), mask=(2, 1, 37, 1)),
    "bias of queries": Case(bias=(37, 1)),
    "mask": Case(lead=(2, 4), shared=(2, 2), mask=(2, 4, 37, 41), options=DROPPED),
    "mask of groups": Case(lead=(2, 4), shared=(2, 2), mask=(4, 1, 41), options=(CAUSAL,)),
    "mask of one": Case(lead=(2, 2), shared=(2, 2), mask=(2, 1, 1, 1)),
}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether all attention from now on is in tiles, of 16 by 16."""
    monkeypatch.setattr(TILES, "ATTENTION_BLOCKS", (16, 16))
    return lambda on: monkeypatch.setattr(LAYER, "ATTENTION_SCORES", 0 if on else 1 << 60)


def both(small_tiles: Callable[[bool], None], make: Callable[[], Callable[..., Any]], *args: Any) -> tuple[Any, Any]:
    """What a function that `make` makes gives, in tiles and as a composition."""
    found = []
    for on in (True, False):
        small_tiles(on)
        found.append(make()(*args))
    return found[0], found[1]


def same(found: Any, expected: Any, rtol: float = 1e-10) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(np.abs(b), initial=1e-3))


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str, small_tiles: Callable[[bool], None]) -> None:
    case = CASES[name]
    operands = case.operands()
    weights = floats(*case.lead, case.time, case.size, dtype=np.float64, seed=9)

    def make() -> Callable[..., Any]:
        def loss(*operands: Any) -> Any:
            y = case.attention(*operands)
            return np.sum(y * weights), y

        return adjit.value_and_grad(loss, argnums=tuple(range(len(operands))), has_aux=True)

    ((value, y), slopes), ((expected, y_expected), slopes_expected) = both(small_tiles, make, *operands)
    np.testing.assert_allclose(y, case.attention(*operands), rtol=1e-10, atol=1e-12)
    same([value, y, *slopes], [expected, y_expected, *slopes_expected])


@pytest.mark.parametrize("name", ["groups", "dropout", "bias of heads"])
def test_every_transformation(name: str, small_tiles: Callable[[bool], None]) -> None:
    case = CASES[name]
    operands = case.operands()
    changes = [floats(*x.shape, dtype=np.float64, seed=20 + i) for i, x in enumerate(operands)]
    numbers = tuple(range(len(operands)))

    def loss(*operands: Any) -> Any:
        return np.sum(np.sin(case.attention(*operands)))

    def tangent() -> Callable[..., Any]:
        return adjit.jit(lambda *both: adjit.jvp(case.attention, both[: len(numbers)], both[len(numbers) :]))

    def forward_over_reverse() -> Callable[..., Any]:
        gradient = adjit.grad(lambda *x: loss(*x), argnums=numbers)
        return adjit.jit(lambda *both: adjit.jvp(gradient, both[: len(numbers)], both[len(numbers) :])[1])

    def reverse_over_reverse() -> Callable[..., Any]:
        gradient = adjit.grad(lambda *x: loss(*x), argnums=numbers)

        def slope(*both: Any) -> Any:
            found = gradient(*both[: len(numbers)])
            return sum(np.sum(a * b) for a, b in zip(found, both[len(numbers) :], strict=True))

        return adjit.grad(slope, argnums=numbers)

    for make in (tangent, forward_over_reverse, reverse_over_reverse):
        same(*both(small_tiles, make, *operands, *changes), rtol=1e-9)


def test_a_batch(small_tiles: Callable[[bool], None]) -> None:
    case = CASES["causal"]
    many = [np.stack([x, 2 * x, -x]) for x in case.operands()]

    def make() -> Callable[..., Any]:
        return adjit.vmap(adjit.value_and_grad(lambda q, k, v: np.sum(case.attention(q, k, v) ** 2), argnums=(0, 1, 2)))

    (value, slopes), (expected, slopes_expected) = both(small_tiles, make, *many)
    same([value, *slopes], [expected, *slopes_expected])


def test_single_precision_and_operands_of_two(small_tiles: Callable[[bool], None]) -> None:
    case = CASES["causal"]
    operands = case.operands(np.float32)
    small_tiles(True)
    found = adjit.jit(lambda *x: case.attention(*x))(*operands)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, case.attention(*operands), rtol=1e-5, atol=1e-6)
    mixed = adjit.jit(lambda *x: case.attention(*x))(*operands[:2], operands[2].astype(np.float64))
    assert mixed.dtype == np.float64


def test_queries_that_see_nothing_and_infinite_scores(small_tiles: Callable[[bool], None]) -> None:
    q, k, v = Case(lead=(), shared=(), time=40, keys=40).operands()
    mask = np.ones((40, 40), bool)
    mask[[3, 20]] = False

    def make() -> Callable[..., Any]:
        return adjit.value_and_grad(lambda q, k, v: np.sum(nn.attention(q, k, v, mask) ** 2), argnums=(0, 1, 2))

    (value, slopes), (expected, slopes_expected) = both(small_tiles, make, q, k, v)
    same([value, *slopes], [expected, *slopes_expected])
    np.testing.assert_array_equal(slopes[0][[3, 20]], 0)
    # Bias -inf hides a key as a mask does; a NaN stays where it is.
    bias = np.where(mask, 0.0, -np.inf)
    small_tiles(True)
    found = adjit.jit(lambda q, k, v: nn.attention(q, k, v, bias=bias))(q, k, v)
    np.testing.assert_allclose(found, nn.attention(q, k, v, mask), rtol=1e-12)
    q[7, 0] = np.nan
    found = adjit.jit(lambda q, k, v: nn.attention(q, k, v, mask))(q, k, v)
    np.testing.assert_array_equal(np.isnan(found).any(1), np.arange(40) == 7)


@pytest.mark.parametrize("heads", [1, 8])
def test_memory_grows_with_the_sequence_alone(heads: int) -> None:
    def arena(time: int) -> int:
        q = np.zeros((heads, time, 8), np.float32)
        gradient = adjit.grad(lambda q, k, v: np.sum(nn.attention(q, k, v, causal=True)), argnums=(0, 1, 2))
        found = re.search(r"arena (\d+) bytes", str(gradient.ir("plan", q, q, q)))
        assert found is not None
        return int(found[1])

    small, large = arena(1024), arena(4096)
    assert large < 4.2 * small
    assert large < heads * 4096 * 4096


@pytest.mark.parametrize("heads", [1, 8])
def test_the_same_bits_for_any_number_of_threads(heads: int) -> None:
    q, k, v = (floats(heads, 600, 16, seed=i) for i in range(3))
    gradient = adjit.grad(lambda q, k, v: np.sum(nn.attention(q, k, v, causal=True) ** 2), argnums=(0, 1, 2))
    found = []
    try:
        for count in (1, 2, 3):
            adjit.set_threads(count)
            found.append(gradient(q, k, v))
    finally:
        adjit.set_threads(None)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_calls_alike_are_traced_once(small_tiles: Callable[[bool], None]) -> None:
    small_tiles(True)
    q, k, _ = CASES["causal"].operands()
    mask = np.ones((37, 41), bool)

    def several(q: Any, k: Any) -> Any:
        again = nn.attention(nn.attention(q, k, k), k, k)
        first = nn.attention(again, k, k, mask)
        mask[:, 5:] = False
        return first + nn.attention(again, k, k, mask)

    graph = graph_of(several, q, k)
    bodies = [node.attrs["body"] for node in graph.nodes if node.op.name == "call"]
    # An array that is known may change, as the mask does.
    assert [bodies.index(body) for body in bodies] == [0, 0, 2, 3]
    found = evaluate(graph, q, k)[0]
    mask[:] = True
    np.testing.assert_allclose(found, several(q, k), rtol=1e-10)
