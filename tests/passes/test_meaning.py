"""Each pass by itself leaves the meaning of a graph: random graphs, and their gradients, evaluated before and after."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.graphs import BranchMaker, GraphMaker, LoopMaker, arrays

from adjit.autodiff.reverse import vjp
from adjit.ir.builder import Value
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.verify import verify
from adjit.passes.flatten_branches import flatten_branches
from adjit.passes.pipeline import OF_LOOPS, PIPELINE, optimize

BLOCK = 25


class Moves(GraphMaker):
    """Grows graphs of movement of movement, with sums and choices between."""

    def grow(self) -> None:
        step = self.choose.choice((self.move, self.move, self.move, self.move, self.sum, self.beside, self.select))
        result = step()
        if result is not None and result.dtype == self.dtype and np.prod(result.shape, dtype=int) <= 2000:
            self.values.append(result)

    def beside(self) -> Value | None:
        """A value padded with zeros plus one that is padded where the first one ends, overlaps, or leaves a gap."""
        x = self.pick(lambda v: len(v.shape) > 0)
        if x is None:
            return None
        axis = self.choose.randrange(len(x.shape))
        n, spread = x.shape[axis], self.choose.choice((0, 0, 0, 1))
        width, start = n + (n - 1) * spread, max(0, n + self.choose.randint(-1, 2))
        length = max(width, start + n)

        def place(low: int, size: int, spread: int) -> Value:
            at = [(low, length - low - size, spread) if i == axis else (0, 0, 0) for i in range(len(x.shape))]
            lows, highs, interiors = zip(*at, strict=True)
            return self.b.pad(x, low=lows, high=highs, interior=interiors, value=0.0)

        return place(0, width, spread) + place(start, n, 0)

    def sum(self) -> Value | None:
        """Two values of one shape, added."""
        x = self.pick()
        y = None if x is None else self.pick(lambda v: v.shape == x.shape and v is not x)
        return None if x is None or y is None else x + y


def signed(graph: Graph, seed: int) -> list[np.ndarray]:
    """Operands of both signs, a third of them zeros."""
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(a.shape) < 0.3, np.copysign(0.0, a), a) for a in arrays(graph, seed)]


def passed(graph: Graph, inputs: list[np.ndarray], exact: bool) -> Counter[str]:
    """Which passes change a graph that goes through all of them, none of which changes what it gives."""
    changes: Counter[str] = Counter()
    wanted = evaluate(graph, *inputs)
    for step in PIPELINE:
        after = step(graph)
        verify(after)
        changes[step.__name__] += after is not graph
        for found, want in zip(evaluate(after, *inputs), wanted, strict=True):
            if exact:
                same = (found == want) & (np.signbit(found) == np.signbit(want)) | (np.isnan(found) & np.isnan(want))
                assert same.all(), f"{step.__name__} changes a bit of\n{graph}\nin\n{after}"
            else:
                # Sums are taken in another order.
                scale = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
                text = f"{step.__name__} changes\n{graph}\ninto\n{after}"
                np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12 * scale, err_msg=text)
        graph = after
    return changes


@pytest.mark.parametrize("first", range(0, 300, BLOCK))
def test_movement_keeps_its_bits(first: int) -> None:
    changes: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        graph = Moves(seed, empty=False).graph(12, outputs=4)
        changes += passed(graph, signed(graph, seed), exact=True)
    assert changes["compose_moves"] >= 5
    assert changes["join_pads"]


@pytest.mark.parametrize("first", range(0, 150, BLOCK))
def test_gradients_of_movement_keep_their_values(first: int) -> None:
    changes: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        graph = Moves(seed, empty=False).graph(16, outputs=3)
        adjoint = vjp(graph, range(len(graph.inputs)))
        changes += passed(adjoint, signed(adjoint, seed), exact=False)
    assert changes["compose_moves"] >= 5


@pytest.mark.parametrize("first", range(0, 150, BLOCK))
def test_gradients_keep_their_values(first: int) -> None:
    changes: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        graph = GraphMaker(seed, empty=False).graph(10, outputs=2)
        adjoint = vjp(graph, range(len(graph.inputs)))
        changes += passed(adjoint, arrays(adjoint, seed), exact=False)
    assert changes["simplify"] >= 5


@pytest.mark.parametrize("first", range(0, 75, BLOCK))
def test_loops_keep_their_values(first: int) -> None:
    changes: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        graph = LoopMaker(seed, empty=False).graph(8, outputs=4)
        inputs = arrays(graph, seed)
        changes += passed(graph, inputs, exact=False)
        after = optimize(graph)
        verify(after)
        for found, want in zip(evaluate(after, *inputs), evaluate(graph, *inputs), strict=True):
            scale = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
            np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-11 * scale, err_msg=f"{graph}\nto\n{after}")
    assert all(changes[step.__name__] for step in OF_LOOPS - {flatten_branches}), changes


@pytest.mark.parametrize("first", range(0, 75, BLOCK))
def test_branches_keep_their_values(first: int) -> None:
    changes: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        graph = BranchMaker(seed, empty=False).graph(8, outputs=4)
        inputs = arrays(graph, seed)
        changes += passed(graph, inputs, exact=False)
        after = optimize(graph)
        verify(after)
        for found, want in zip(evaluate(after, *inputs), evaluate(graph, *inputs), strict=True):
            scale = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
            np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-11 * scale, err_msg=f"{graph}\nto\n{after}")
    assert changes["flatten_branches"] >= 5
