"""Random programs: what no author of a benchmark chose. `drawn(seed, operations)` is the same program on every side."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy

Pick = Callable[..., Any]


def drawn(seed: int, operations: int) -> Callable[[Any, Any], Any]:
    """A random program of so many operations on arrays of odd sizes; `seed` alone says which."""

    def function(np: Any, p: Any) -> Any:
        choose = random.Random(seed)
        values = [p[name] for name in sorted(p)]
        unused = set(range(len(values)))

        def pick(dimensions: int = 0) -> Any:
            """One of enough dimensions; later ones are likelier."""
            fitting = [i for i, value in enumerate(values) if len(value.shape) >= dimensions]
            at = max(choose.choice(fitting), choose.choice(fitting))
            unused.discard(at)
            return values[at]

        for _ in range(operations):
            unused.add(len(values))
            values.append(OPERATIONS[choose.randrange(len(OPERATIONS))](np, choose, pick))
        return sum(np.mean(np.tanh(values[i])) for i in sorted(unused))

    return function


def _unary(np: Any, choose: random.Random, pick: Pick) -> Any:
    return getattr(np, choose.choice(("sin", "cos", "tanh", "arctan")))(pick())


def _binary(np: Any, choose: random.Random, pick: Pick) -> Any:
    """Of what has one shape, or of an array and the mean of another."""
    x, y = pick(), pick()
    y = y if x.shape == y.shape else np.mean(y)
    return choose.choice((np.add, np.subtract, np.multiply, np.maximum, lambda x, y: x / (2.0 + y * y)))(x, y)


def _selected(np: Any, choose: random.Random, pick: Pick) -> Any:
    x = pick()
    return np.where(x > choose.uniform(-0.5, 0.5), x * x, np.sin(x))


def _reduced(np: Any, choose: random.Random, pick: Pick) -> Any:
    x = pick(1)
    axis = choose.randrange(len(x.shape))
    return np.sum(x, axis=axis, keepdims=choose.random() < 0.5) / x.shape[axis]


def _product(np: Any, choose: random.Random, pick: Pick) -> Any:
    x = pick(2)
    while len(x.shape) > 2:
        x = x[0]
    return x @ (x.T @ x) / (x.shape[0] * x.shape[1])


def _sliced(np: Any, choose: random.Random, pick: Pick) -> Any:
    x = pick(1)
    return x[1:] if x.shape[0] > 3 else np.concatenate([x, 0.5 * x])


def _spread(np: Any, choose: random.Random, pick: Pick) -> Any:
    x, rows = pick(1), pick(1)
    while len(rows.shape) > 1:
        rows = rows[0]
    while len(x.shape) > 1:
        x = x[0]
    return x[:, None] * rows[None, :]


def _gathered(np: Any, choose: random.Random, pick: Pick) -> Any:
    x = pick(1)
    return x[numpy.array([choose.randrange(x.shape[0]) for _ in range(min(x.shape[0] + 1, 20))])]


OPERATIONS = (_unary, _unary, _binary, _binary, _binary, _selected, _reduced, _product, _sliced, _spread, _gathered)


def arrays() -> dict[str, numpy.ndarray]:
    """The arrays that programs begin with."""
    rng = numpy.random.default_rng(0)
    return {
        name: rng.uniform(-1.0, 1.0, shape) for name, shape in zip("abcd", ((5, 7), (7,), (3, 4, 5), ()), strict=True)
    }
