"""Random graphs for property tests: every kind of op, small shapes with 0, 1 and odd sizes, several results."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph
from adjit.ir.types import BOOL, F32, F64, I64, Array

SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 17, 33)
UNARY = ("neg", "abs", "exp", "tanh", "sigmoid", "sin", "cos", "erf", "arctan")
BINARY = ("add", "sub", "mul", "maximum", "minimum")


class GraphMaker:
    """Grows one graph; `choose` picks by a seeded generator, so a failing graph can be made again.

    With `small` it is one that may become a straight line: few elements, no positions and no running sums."""

    def __init__(self, seed: int, dtype: np.dtype = F64, empty: bool = True, small: bool = False) -> None:
        self.choose = random.Random(seed)
        self.dtype = dtype
        self.empty = empty and not small
        self.small = small
        self.b = Builder()
        self.values: list[Value] = []
        for i in range(self.choose.randint(1, 3)):
            shape = tuple(self.size() for _ in range(self.choose.randint(0, 3)))
            self.values.append(self.b.value(self.b.input(f"x{i}", Array(dtype, shape))))

    def size(self) -> int:
        """One extent; rarely 0."""
        if self.empty and self.choose.random() < 0.02:
            return 0
        return self.choose.choice(SIZES[:6] if self.small else SIZES)

    def pick(self, condition: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """A float value made so far; recent ones are likelier."""
        fitting = [v for v in self.values if v.dtype == self.dtype and condition(v)]
        if not fitting:
            return None
        return fitting[max(self.choose.randrange(len(fitting)), self.choose.randrange(len(fitting)))]

    def grow(self) -> None:
        """Add one op, where a fitting operand is found."""
        steps = (self.unary, self.binary, self.binary, self.reduce, self.move, self.contract, self.select)
        step = self.choose.choice(steps if self.small else (*steps, self.index, self.run))
        result = step()
        if result is not None and np.prod(result.shape, dtype=int) <= (100 if self.small else 20_000):
            self.values.append(result)

    def unary(self) -> Value | None:
        x = self.pick()
        return None if x is None else getattr(self.b, self.choose.choice(UNARY))(x)

    def _like(self, x: Value) -> Value:
        """A value of the shape of `x`: an earlier one, a broadcast one, or a constant."""
        same = self.pick(lambda v: v.shape == x.shape)
        if same is not None and self.choose.random() < 0.7:
            return same
        for axis, n in enumerate(x.shape):
            row = self.pick(lambda v, n=n: v.shape == (n,))
            if row is not None:
                return self.b.broadcast(row, shape=x.shape, axes=(axis,))
        return self.b.full(self.choose.uniform(-2, 2), x)

    def binary(self) -> Value | None:
        x = self.pick()
        if x is None:
            return None
        y = self._like(x)
        if self.choose.random() < 0.2:
            return x / (self.b.abs(y) + 0.5)
        return getattr(self.b, self.choose.choice(BINARY))(x, y)

    def reduce(self) -> Value | None:
        x = self.pick(lambda v: len(v.shape) > 0)
        if x is None:
            return None
        axes = tuple(sorted(self.choose.sample(range(len(x.shape)), self.choose.randint(1, len(x.shape)))))
        names = ("sum", "sum", "max", "min", "prod") if 0 not in x.shape else ("sum",)
        scaled = self.b.tanh(x)
        result = getattr(self.b, self.choose.choice(names))(scaled, axes=axes)
        if self.choose.random() < 0.5:
            kept = tuple(i for i in range(len(x.shape)) if i not in axes)
            return scaled - self.b.broadcast(result, shape=x.shape, axes=kept)
        return result

    def move(self) -> Value | None:
        x = self.pick(lambda v: len(v.shape) > 0)
        if x is None:
            return None
        b, shape, rank = self.b, x.shape, len(x.shape)
        kind = self.choose.randrange(7)
        if kind == 0:
            return b.transpose(x, axes=tuple(self.choose.sample(range(rank), rank)))
        if kind == 1:
            return b.flip(x, axes=(self.choose.randrange(rank),))
        if kind == 2:
            start = tuple(self.choose.randint(0, n) for n in shape)
            stop = tuple(self.choose.randint(i, n) for i, n in zip(start, shape, strict=True))
            if not self.empty and any(i == j for i, j in zip(start, stop, strict=True)):
                return None
            return b.slice(x, start=start, stop=stop, step=tuple(self.choose.randint(1, 3) for _ in shape))
        if kind == 3:
            gap = self.choose.random() < 0.3
            return b.pad(
                x,
                low=tuple(self.choose.randint(0, 2) for _ in shape),
                high=tuple(self.choose.randint(0, 2) for _ in shape),
                interior=tuple(self.choose.randint(0, 2) if gap else 0 for _ in shape),
                value=self.choose.choice((0.0, 1.5)),
            )
        if kind == 4:
            axis = self.choose.randrange(rank)
            return b.concatenate(x, self._like(x), axis=axis)
        if kind == 5:
            return b.reshape(x, shape=self._refactored(shape))
        n = self.choose.choice((2, 3, 5))
        at = self.choose.randint(0, rank)
        wide = (*shape[:at], n, *shape[at:])
        return b.broadcast(x, shape=wide, axes=tuple(i for i in range(rank + 1) if i != at))

    def _refactored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        total = int(np.prod(shape, dtype=int))
        if total == 0 or self.choose.random() < 0.3:
            return (total,)
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        d = self.choose.choice(divisors)
        return (d, total // d) if self.choose.random() < 0.7 else (total // d, 1, d)

    def contract(self) -> Value | None:
        x = self.pick(lambda v: len(v.shape) == 2)
        if x is None:
            return None
        y = self.pick(lambda v: len(v.shape) == 2 and x.shape[1] in v.shape)
        if y is x or y is None:
            return self.b.contract(
                x, x, spec=self.choose.choice(("ik,jk->ij", "ki,kj->ij", "ik,jk->ji", "ij,ij->", "ij,ij->i"))
            )
        return self.b.contract(x, y, spec="ik,kj->ij" if y.shape[0] == x.shape[1] else "ik,jk->ij")

    def select(self) -> Value | None:
        x = self.pick()
        if x is None:
            return None
        y = self._like(x)
        return self.b.select(x > y, x * 0.5, y)

    def index(self) -> Value | None:
        x = self.pick(lambda v: len(v.shape) > 0 and 0 not in v.shape)
        if x is None:
            return None
        axis = self.choose.randrange(len(x.shape))
        n = x.shape[axis]
        count = self.choose.choice((1, 2, 5))
        places = np.array([self.choose.randrange(-n, n) for _ in range(count)], dtype=np.int64)
        at = self.b.check_index(self.b.value(self.b.array(places)), size=n, axis=axis)
        taken = self.b.take(x, at, axis=axis)
        kind = self.choose.randrange(3)
        if kind == 0:
            return taken
        if kind == 1:
            return self.b.scatter_add(x, at, self.b.tanh(taken), axis=axis)
        return self.b.scatter(x, at, taken * 2.0, axis=axis)

    def run(self) -> Value | None:
        x = self.pick(lambda v: len(v.shape) > 0 and 0 not in v.shape)
        if x is None:
            return None
        axis = self.choose.randrange(len(x.shape))
        if self.choose.random() < 0.3:
            position = self.choose.choice((self.b.argmax, self.b.argmin))(x, axis=axis)
            return self.b.cast(position, dtype=self.dtype)
        return self.b.cumsum(self.b.tanh(x), axis=axis, reverse=self.choose.random() < 0.5)

    def graph(self, steps: int, outputs: int = 3) -> Graph:
        """Grow and close."""
        for _ in range(steps):
            self.grow()
        results = [v.node for v in self.choose.sample(self.values, min(outputs, len(self.values)))]
        return self.b.graph("random", results)


class LoopMaker(GraphMaker):
    """Grows graphs with loops among other ops: some carry sums, some what they get, some what a turn makes of it;
    values are stacked, read twice, or not at all."""

    depth = 0

    def grow(self) -> None:
        if self.choose.random() < 0.3:
            self.loop()
        elif not self.depth and self.choose.random() < 0.2:
            self.layer()
        else:
            super().grow()

    def layer(self) -> None:
        """A loop over rows that matrices fit, of which some are sums of products."""
        n, k, m = (self.choose.choice((2, 3, 5)) for _ in range(3))
        shapes = ((m,), (k, m), (n, k), (n, m), (k, m), (m, m), (m,))
        values = [self.b.value(self.b.input("v", Array(self.dtype, shape))) for shape in shapes]
        self.scan(values[:2], values[2:4], values[4:], n)

    def loop(self) -> None:
        """A loop over what there is."""
        sliced = [v for v in (self.pick(lambda v: len(v.shape) > 0) for _ in range(2)) if v is not None]
        length = sliced[0].shape[0] if sliced else self.choose.choice((0, 1, 3))
        sliced = [v for v in sliced if v.shape[0] == length and length < 9]
        length = length if sliced else min(length, 3)
        if sliced and self.choose.random() < 0.3:
            sliced.append(self.repeated(length))
        picked = [self.pick() for _ in range(self.choose.randint(1, 5))]
        others = [v for v in picked if v is not None and np.prod(v.shape, dtype=int) < 300]
        cut = self.choose.randint(0, len(others))
        self.scan(others[:cut], sliced, others[cut:], length)

    def scan(self, carried: list[Value], sliced: list[Value], wholes: list[Value], length: int) -> None:
        """Add a scan and some of its results, of one that need not take all turns what it carries."""
        stops, counted = self.choose.random() < 0.15, self.choose.random() < 0.2
        reverse = not stops and self.choose.random() < 0.5
        if stops:
            carried = [self.b.full(self.choose.random() < 0.9, Array(BOOL, ())), *carried]
        body = _BodyMaker(self, carried, sliced, wholes).graph_of_turn()
        operands = [v.node for v in (*carried, *sliced, *wholes)]
        if counted:
            operands.append(self.b.splat(self.choose.randint(-1, length + 1), Array(I64, ())))
        made = self.b.emit(
            "scan", *operands, length=length, carried=len(carried), sliced=len(sliced), body=body, reverse=reverse,
            stops=stops, counted=counted,
        )  # fmt: skip
        for index in range(len(carried) if stops or counted else len(body.outputs)):
            if self.choose.random() < 0.7:
                self.values.append(self.b.value(self.b.emit("item", made, index=index)))

    def repeated(self, length: int) -> Value:
        """The same for each turn."""
        row = self.pick(lambda v: np.prod(v.shape, dtype=int) < 300)
        if row is None:
            return self.b.full(0.25, Array(self.dtype, (length, 2)))
        if self.choose.random() < 0.5:
            return self.b.full(0.5, Array(self.dtype, (length, *row.shape)))
        shape = (length, *row.shape)
        return self.b.broadcast(row, shape=shape, axes=tuple(range(1, len(shape))))


class BranchMaker(LoopMaker):
    """Grows graphs with branches among other ops: loops of one turn or none, two of which may be opposite."""

    def grow(self) -> None:
        if self.choose.random() < 0.5:
            self.branch()
        else:
            super().grow()

    def branch(self) -> None:
        """A branch, and often the opposite one, of light work on what there is."""
        given = [
            v for v in (self.pick(lambda v: 0 < np.prod(v.shape, dtype=int) < 300) for _ in range(3)) if v is not None
        ]
        scalar = self.pick(lambda v: not v.shape)
        if not given or scalar is None:
            return
        taken = scalar < self.choose.uniform(-1.0, 2.0)
        carried, turns = given[: self.choose.randint(1, len(given))], [self.b.cast(taken, dtype=I64)]
        if self.choose.random() < 0.7:
            turns.append(self.b.cast(~taken, dtype=I64))
        elif self.choose.random() < 0.3:
            turns = [self.b.full(self.choose.randint(-1, 3), Array(I64, ()))]
        results = carried
        for count in turns:
            results = self.side(results, given, count)
        self.values += results

    def side(self, carried: list[Value], wholes: list[Value], count: Value) -> list[Value]:
        """What a branch gives."""
        b = Builder()
        before, read = ([b.value(b.input(name, v.type)) for v in of] for name, of in (("c", carried), ("x", wholes)))
        outputs = [self.choose.choice((b.tanh, b.neg, lambda x: 0.5 * x + x))(self.choose.choice((c, x))).node
                   for c, x in zip(before, read, strict=False)]  # fmt: skip
        body = b.graph("side", [*outputs, read[-1].node])
        operands = [v.node for v in (*carried, *wholes, count)]
        made = self.b.emit(
            "scan", *operands, length=1, carried=len(carried), sliced=0, body=body, reverse=False, counted=True
        )
        return [self.b.value(self.b.emit("item", made, index=i)) for i in range(len(carried))]


class _BodyMaker(LoopMaker):
    """Grows the body of a loop of `around`, for operands of these values."""

    def __init__(self, around: LoopMaker, carried: list[Value], sliced: list[Value], wholes: list[Value]) -> None:
        self.choose, self.dtype, self.empty, self.small = around.choose, around.dtype, around.empty, around.small
        self.depth = around.depth + 1
        self.b = Builder()
        types = [v.type for v in carried] + [v.type.with_shape(v.shape[1:]) for v in sliced] + [v.type for v in wholes]
        self.given = [self.b.value(self.b.input(f"x{i}", type)) for i, type in enumerate(types)]
        self.values = [*self.given] or [self.b.full(0.5, Array(self.dtype, ()))]
        self.carried = self.given[: len(carried)]
        self.weights = self.given[len(carried) + len(sliced) :]

    def grow(self) -> None:
        if self.depth > 1:
            GraphMaker.grow(self)
        elif self.choose.random() < 0.3:
            self.multiply()
        else:
            super().grow()

    def multiply(self) -> None:
        """A product with what all turns read."""
        weight = self.choose.choice(self.weights) if self.weights else None
        if weight is None or len(weight.shape) != 2:
            return
        x = self.pick(lambda v: len(v.shape) > 0 and v.shape[-1] == weight.shape[0])
        if x is not None and len(x.shape) <= 2:
            rows = "i"[: len(x.shape) - 1]
            self.values.append(self.b.contract(self.b.tanh(x), weight, spec=f"{rows}k,kj->{rows}j"))

    def graph_of_turn(self) -> Graph:
        for _ in range(self.choose.randint(2, 8)):
            self.grow()
        outputs = [self.carry_on(carry) for carry in self.carried]
        outputs += self.choose.sample(self.values, min(3, len(self.values)))
        return self.b.graph("turn", [v.node for v in outputs])

    def carry_on(self, carry: Value) -> Value:
        """What a turn makes of what it gets."""
        if carry.dtype == BOOL:
            x = self.pick(lambda v: not v.shape)
            return carry if x is None else x < self.choose.uniform(-0.5, 1.0)
        kind = self.choose.randrange(5)
        if kind == 0:
            return carry
        if kind == 1:
            return self.b.tanh(self._like(carry)) + 0.5 * carry
        x = self.pick(lambda v: len(v.shape) > 0)
        if kind > 2 and len(carry.shape) == 2:
            m, n = carry.shape
            left, right = (self.pick(lambda v, size=size: v.shape == (size,)) for size in (m, n))
            if left is not None and right is not None:
                return carry + self.b.contract(self.b.tanh(left), self.b.tanh(right), spec="i,j->ij")
        if x is not None and carry.shape == x.shape[1:]:
            return carry + self.b.sum(self.b.tanh(x), axes=(0,))
        return carry + self.b.tanh(self._like(carry))


def arrays(graph: Graph, seed: int) -> list[np.ndarray]:
    """Operands for a graph's inputs."""
    rng = np.random.default_rng(seed)
    made = []
    for node in graph.inputs:
        if node.dtype.kind == "f":
            made.append(rng.normal(size=node.shape).astype(node.dtype))
        elif node.dtype.kind == "b":
            made.append(rng.integers(0, 2, size=node.shape).astype(np.bool_))
        else:
            made.append(rng.integers(-5, 5, size=node.shape).astype(node.dtype))
    return made


__all__ = ["F32", "F64", "I64", "GraphMaker", "LoopMaker", "arrays"]
