"""Terms become a graph of scalars of one dtype, with derivatives by forward or reverse mode on that graph.

Sums and products are trees, so that errors grow with the logarithm of their length; what is subtracted is subtracted,
and what has a negative power divided by. Small whole powers are products, which all powers of a term share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import gradient
from adjit.formulas.heads import LOGIC, RELATIONS, RULES
from adjit.formulas.terms import LEAF, NUMBER, TRUTH, Term, Terms
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph, computed
from adjit.ir.node import Node
from adjit.ir.types import BOOL, Array
from adjit_runtime.errors import ArgumentError

MOST_FACTORS = 16
"""Powers up to this one are products, of which each factor may lose half of the last bit."""

OPERATORS = ("Add", "Mul", "Pow", "Piecewise")
KNOWN = frozenset((*OPERATORS, *RULES, *RELATIONS, *LOGIC))
"""The heads that have a meaning."""


def graph_of(terms: Terms, names: Sequence[str], wrt: Sequence[int], dtype: np.dtype) -> Graph:
    """Inputs: a scalar of `dtype` for each leaf. Outputs: the roots, then for each leaf of `wrt` the derivatives of all
    roots by it."""
    graph = _Building(terms, names, dtype).graph()
    if not wrt:
        return graph
    if any(output.dtype == BOOL for output in graph.outputs):
        raise ArgumentError("from_sympy: wrt: a truth value has no derivative, and one of the expressions is one")
    derivatives = _by_leaves(graph, wrt) if len(wrt) < len(graph.outputs) else _by_roots(graph, wrt)
    outputs = (*graph.outputs, *derivatives)
    return Graph(graph.name, graph.inputs, computed(outputs, graph.inputs), outputs)


def _by_leaves(graph: Graph, wrt: Sequence[int]) -> list[Node]:
    """Forward mode, once for each leaf."""
    found: list[Node] = []
    for i in wrt:
        b = Builder()
        pushed = jvp(graph, [i])
        one = b.splat(1.0, graph.inputs[i].array_type)
        found += b.inline(pushed, [*graph.inputs, one])[len(graph.outputs) :]
    return found


def _by_roots(graph: Graph, wrt: Sequence[int]) -> list[Node]:
    """Reverse mode, once for each root."""
    rows = []
    for output in graph.outputs:
        alone = Graph(graph.name, graph.inputs, computed((output,), graph.inputs), (output,))
        rows.append(gradient(alone, wrt).outputs[1:])
    return [row[i] for i in range(len(wrt)) for row in rows]


class _Building:
    """A graph under way: the Value of each term, and powers that were made as products."""

    def __init__(self, terms: Terms, names: Sequence[str], dtype: np.dtype) -> None:
        self.terms = terms
        self.b = Builder()
        self.type = Array(dtype)
        self.leaves = [self.b.value(self.b.input(name, self.type)) for name in names]
        self.values: list[Value | None] = []
        self.powers: dict[tuple[int, int], Value] = {}
        self.subtracted: dict[int, Value] = {}

    def graph(self) -> Graph:
        """The graph of all terms that the roots need."""
        operators: dict[str, Callable[[Term], Value | None]] = {
            LEAF: lambda term: self.leaves[int(term.value or 0)],
            # Made where it is an operand: most are exponents and factors.
            NUMBER: lambda term: None,
            TRUTH: lambda term: self.b.full(bool(term.value), Array(BOOL)),
            "Add": self.sum, "Mul": self.product, "Pow": self.power, "Piecewise": self.piecewise,
        }  # fmt: skip
        for term in self.terms.items:
            make = operators.get(term.head, self.function)
            self.values.append(make(term))
        outputs = tuple(self.value(root).node for root in self.terms.roots)
        inputs = tuple(self.b.inputs)
        return Graph("formula", inputs, computed(outputs, inputs), outputs)

    def constant(self, value: float) -> Value:
        """A number in the dtype of the graph."""
        return self.b.full(value, self.type)

    def value(self, term: int) -> Value:
        """A term that was made."""
        found = self.values[term]
        if found is None:
            found = self.values[term] = self.constant(self.number(term) or 0.0)
        return found

    def as_float(self, term: int) -> Value:
        """A term as a number; 1 and 0 for truths."""
        value = self.value(term)
        return value if value.dtype != BOOL else self.b.value(self.b.emit("cast", value.node, dtype=self.type.dtype))

    def as_truth(self, term: int) -> Value:
        """A term as a truth; of a number whether it is not 0."""
        value = self.value(term)
        return value if value.dtype == BOOL else value.ne(0.0)

    def number(self, term: int) -> float | None:
        """The value of a term that is a number."""
        found = self.terms.items[term]
        return float(found.value or 0.0) if found.head == NUMBER else None

    def function(self, term: Term) -> Value:
        """What the table has."""
        if term.head in LOGIC:
            made: Value = LOGIC[term.head](self.b, *map(self.as_truth, term.args))
            return made
        if term.head in RELATIONS:
            truths = all(self.value(arg).dtype == BOOL for arg in term.args)
            made = RELATIONS[term.head](self.b, *map(self.as_truth if truths else self.as_float, term.args))
            return made
        made = RULES[term.head](self.b, *map(self.as_float, term.args))
        return made

    # -- operators ----------------------------------------------------------------------------------------------------

    def sum(self, term: Term) -> Value:
        """A tree of sums and differences."""
        level = [self.signed(arg) for arg in term.args]
        while len(level) > 1:
            pairs = [_added(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[2 * len(pairs) :]
        negative, value = level[0]
        return -value if negative else value

    def signed(self, term: int) -> tuple[bool, Value]:
        """Whether a term of a sum is subtracted, and what is added or subtracted."""
        found, number = self.terms.items[term], self.number(term)
        if number is not None:
            return number < 0, self.constant(abs(number))
        if found.head == "Mul" and (self.number(found.args[0]) or 0.0) < 0:
            if term not in self.subtracted:
                self.subtracted[term] = self.product(found, negated=True)
            return True, self.subtracted[term]
        return False, self.as_float(term)

    def product(self, term: Term, negated: bool = False) -> Value:
        """A tree of products, over another one; a factor 1 / n divides."""
        factor, above, below = -1.0 if negated else 1.0, list[Value](), list[Value]()
        for arg in term.args:
            found, number = self.terms.items[arg], self.number(arg)
            exponent = self.number(found.args[1]) if found.head == "Pow" else None
            if isinstance(found.value, Fraction):
                below.append(self.constant(float(found.value.denominator)))
                factor *= found.value.numerator
            elif number is not None:
                factor *= number
            elif exponent is not None and exponent < 0:
                below.append(self.raised(found.args[0], -exponent))
            else:
                above.append(self.as_float(arg))
        value = _multiplied(above) if above else self.constant(factor)
        if above and abs(factor) != 1.0:
            value = value * factor
        elif above and factor == -1.0:
            value = -value
        return value / _multiplied(below) if below else value

    def power(self, term: Term) -> Value:
        """Of E and 2 the exponential; of a number or a term to a number what `raised` makes of it."""
        base, exponent = term.args
        number = self.number(exponent)
        if number is not None:
            return self.raised(base, number) if number >= 0 else 1.0 / self.raised(base, -number)
        y, of = self.as_float(exponent), self.number(base)
        if of == math.e:
            made: Value = self.b.exp(y)
        elif of == 2.0:
            made = self.b.exp2(y)
        else:
            made = self.b.pow(self.as_float(base), y)
        return made

    def raised(self, base: int, exponent: float) -> Value:
        """A term to a positive number: a product, a root, or the op."""
        x = self.as_float(base)
        if exponent.is_integer() and exponent <= MOST_FACTORS:
            return self.whole_power(base, x, int(exponent))
        made: Value = self.b.sqrt(x) if exponent == 0.5 else self.b.pow(x, self.constant(exponent))
        return made

    def whole_power(self, base: int, x: Value, n: int) -> Value:
        """x to the n by squares."""
        if n <= 1:
            return x if n else self.constant(1.0)
        if (base, n) not in self.powers:
            made = self.whole_power(base, x, n // 2 if n % 2 == 0 else n - 1)
            self.powers[base, n] = made * (made if n % 2 == 0 else x)
        return self.powers[base, n]

    def piecewise(self, term: Term) -> Value:
        """The value of the first condition that holds; NaN where none does."""
        pairs = list(zip(term.args[::2], term.args[1::2], strict=True))
        last = self.terms.items[pairs[-1][1]]
        value = self.as_float(pairs.pop()[0]) if last.head == TRUTH and last.value else self.constant(math.nan)
        for chosen, condition in reversed(pairs):
            value = self.b.select(self.as_truth(condition), self.as_float(chosen), value)
        return value


def _added(left: tuple[bool, Value], right: tuple[bool, Value]) -> tuple[bool, Value]:
    """The sum of two terms that are added or subtracted."""
    (minus_left, x), (minus_right, y) = left, right
    if minus_left == minus_right:
        return minus_left, x + y
    return False, (y - x if minus_left else x - y)


def _multiplied(factors: Sequence[Value]) -> Value:
    level = list(factors)
    while len(level) > 1:
        pairs = [level[i] * level[i + 1] for i in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]
