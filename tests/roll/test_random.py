"""Random recurrences: rolled, they hold and give the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adjit.ir.evaluate import evaluate
from adjit.ir.verify import verify
from adjit.roll import roll
from tests.trace.check import graph_of

TURNS = 24


class Recurrence:
    """States of one shape, each turn computed from earlier ones, slices that move, and numbers, as a seed says."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.wide = bool(self.rng.integers(2))
        self.states = int(self.rng.integers(1, 4))
        self.lags = int(self.rng.integers(1, 4))
        self.terms = [[self._term() for _ in range(self.rng.integers(1, 4))] for _ in range(self.states)]
        self.odd = {int(i): int(self.rng.integers(3)) for i in self.rng.integers(0, TURNS, self.rng.integers(0, 3))}
        self.uses = self.rng.integers(0, 6, 3).tolist()
        self.inner = int(self.rng.integers(1, 4)) if self.rng.integers(4) == 0 else 0

    def _term(self) -> tuple[Any, ...]:
        kind = self.rng.choice(
            ["state", "state", "row", "column", "window", "back", "number", "turn", "element", "read"]
        )
        step, at = int(self.rng.integers(1, 3)), int(self.rng.integers(0, 3))
        return str(kind), step, at, int(self.rng.integers(self.states)), int(self.rng.integers(1, self.lags + 1))

    def _value(self, term: tuple[Any, ...], i: int, x: Any, m: Any, past: list[list[Any]]) -> Any:
        kind, step, at, state, lag = term
        match kind:
            case "state":
                return past[state][-lag]
            case "row":
                return m[step * i + at, 1:3]
            case "column":
                return m[:2, i + at]
            case "window":
                return x[step * i + at : step * i + at + 2]
            case "back":
                return x[60 - step * i : 62 - step * i]
            case "number":
                return 0.5
            case "turn":
                return 0.1 * i + at
            case "element":
                return m[i, i + at] if step == 2 else x[i * step + at]
        return x[at]

    def __call__(self, x: Any, m: Any) -> Any:
        past = [[x[j + k] if not self.wide else x[j + k : j + k + 2] for k in range(3)] for j in range(self.states)]
        for i in range(TURNS):
            for j, terms in enumerate(self.terms):
                total = past[j][-1]
                for term in terms:
                    total = total * 0.5 + self._fit(self._value(term, i, x, m, past))
                for _ in range(self.inner):
                    total = np.tanh(total) + 0.25
                past[j].append(total)
            if i in self.odd:
                j = self.odd[i] % self.states
                past[j][-1] = np.sin(past[j][-1])
        return [self._used(use, past[i % self.states]) for i, use in enumerate(self.uses)]

    def _fit(self, value: Any) -> Any:
        shape = np.shape(value)
        if self.wide or not shape:
            return value
        return np.sum(value)

    def _used(self, use: int, values: list[Any]) -> Any:
        match use:
            case 0:
                return values[-1]
            case 1:
                return np.stack(values)
            case 2:
                return np.stack(values[::-1], axis=-1)
            case 3:
                return np.stack(values[4:20:2]) + values[7]
            case 4:
                return sum(values)
        return values[len(values) // 2], np.stack([value * 2 for value in values[5:]])


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_random_recurrences(seed: int) -> None:
    function = Recurrence(seed)
    rng = np.random.default_rng(seed)
    x, m = rng.normal(size=80), rng.normal(size=(60, 40))
    graph = graph_of(lambda x, m: flat(function(x, m)), x, m)
    new = roll(graph, 12)
    verify(new)
    for found, wanted in zip(evaluate(new, x, m), evaluate(graph, x, m), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert found.tobytes() == wanted.tobytes(), str(new)


def flat(values: Any) -> list[Any]:
    """Lists and tuples as one list."""
    return [leaf for value in values for leaf in (value if isinstance(value, tuple) else (value,))]
