"""The notation of rewrite rules: `Rule("neg_neg", neg(neg(x)), x)`, and how a rule is matched.

`x`, `y`, `z` stand for any value, `p`, `q` for truth values, `c`, `d` for splat constants; the same letter twice is
the same node (or, for `c` and `d`, any constant). A number is a splat of exactly that value: 0.0 is not -0.0. Both
orders of the operands of commutative ops are tried. On the right, `const(f)` is the constant that `f` computes from
the values of `c` and `d`; a number has the type of its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adjit.ir.node import Node, same_bits
from adjit.ir.types import BOOL, Array
from adjit.passes.rewrite import Rewriter

COMMUTATIVE = frozenset({"add", "mul", "and", "or", "xor", "eq", "ne"})
"""x op y is y op x to the bit, up to which NaN it is (np.maximum is not here: it takes one zero or the other)."""

Binding = dict[str, Node]


@dataclass(frozen=True, eq=False)
class Pattern:
    """A side of a rule: an op of patterns, a letter, a number, or a computed constant."""

    op: str = ""
    args: tuple[Pattern, ...] = ()
    letter: str = ""
    number: float | bool | None = None
    compute: Callable[..., Any] | None = None

    def __add__(self, other: Operand) -> Pattern:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Pattern:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Pattern:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Pattern:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Pattern:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Pattern:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Pattern:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Pattern:
        return apply("div", other, self)

    def accepts(self, tag: Tag) -> bool:
        """Whether a node of this tag may match."""
        if self.number is not None:
            return tag == _number_tag(self.number)
        if self.letter in CONSTANTS:
            return not isinstance(tag, str)
        return not self.op or tag == self.op

    def numbers(self) -> set[float]:
        """The numbers in it."""
        return {self.number} if self.number is not None else {n for arg in self.args for n in arg.numbers()}

    def letters(self) -> set[str]:
        """The letters in it."""
        return {self.letter} if self.letter else {letter for arg in self.args for letter in arg.letters()}


Operand = Pattern | float | int | bool

CONSTANTS = frozenset("cd")
TRUTHS = frozenset("pq")

x, y, z, p, q, c, d = (Pattern(letter=letter) for letter in "xyzpqcd")


def apply(op: str, *args: Operand) -> Pattern:
    """`op` of patterns and numbers."""
    return Pattern(op=op, args=tuple(arg if isinstance(arg, Pattern) else Pattern(number=arg) for arg in args))


def op(name: str) -> Callable[..., Pattern]:
    """The op as a function of patterns."""
    return lambda *args: apply(name, *args)


def const(compute: Callable[..., Any]) -> Pattern:
    """A constant computed from the constants `c` and `d`, by the names of the function's parameters."""
    return Pattern(compute=compute)


@dataclass(frozen=True, eq=False)
class Rule:
    """`left` is rewritten to `right` where x is of one of the dtype `kinds` and `when(binding)` holds.

    `exact` rules give the same bits, on NaN (any NaN is NaN), zeros and infinities too. `ulps` is for ops whose NumPy
    value is itself no exact rounding: how far apart the two sides may lie. `positive` says where SymPy proves it.
    """

    name: str
    left: Pattern
    right: Operand
    kinds: str = "biuf"
    when: Callable[[Mapping[str, Node]], bool] | None = None
    exact: bool = True
    ulps: int = 0
    positive: bool = False

    def match(self, node: Node) -> Binding | None:
        """What the letters stand for at `node`, or None."""
        binding: Binding = {}
        if not _match(self.left, node, binding):
            return None
        operand = binding.get("x")
        if operand is not None and operand.dtype.kind not in self.kinds:
            return None
        if self.when is not None and not self.when(binding):
            return None
        return binding

    def build(self, node: Node, binding: Binding, rewriter: Rewriter) -> Node:
        """The right side in place of `node`."""
        right = self.right if isinstance(self.right, Pattern) else Pattern(number=self.right)
        return _build(right, binding, rewriter, node.array_type)


class RuleSet:
    """Rules found by a node's op and dtype and the ops and values of its args: most nodes find none, by one look into
    a table."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.ops = frozenset(rule.left.op for rule in rules)
        self._numbers = frozenset(number for rule in rules for number in rule.left.numbers())
        self._found: dict[tuple[Any, ...], tuple[Rule, ...]] = {}

    def candidates(self, node: Node) -> tuple[Rule, ...]:
        """The rules that may match."""
        if node.op.name not in self.ops:
            return ()
        args = node.args
        tags: list[Tag] = []
        for arg in args:
            name = arg.op.name
            if name != "constant":
                tags.append(name)
            elif "value" in arg.attrs:
                value = arg.attrs["value"]
                tags.append(_number_tag(value) if value in self._numbers else ())
            else:
                tags.append("data")
        key = (node.op.name, args[-1].dtype.kind, *tags)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = tuple(
                rule for rule in self.rules if _fits(rule, node.op.name, args[-1].dtype.kind, tags)
            )
        return found


Tag = str | tuple[float, ...]
"""Of an arg: its op; or where it is a splat, its value and sign if a rule knows the value, else nothing."""


def _number_tag(value: float) -> Tag:
    return (float(value), math.copysign(1, value))


def _fits(rule: Rule, op: str, kind: str, tags: list[Tag]) -> bool:
    left = rule.left
    if left.op != op or len(left.args) != len(tags):
        return False
    # The args of all other ops, and a select's last one, have the dtype of x.
    if kind not in rule.kinds and op != "not" and "x" in left.letters():
        return False
    orders = (tags, tags[::-1]) if op in COMMUTATIVE else (tags,)
    return any(all(arg.accepts(tag) for arg, tag in zip(left.args, order, strict=True)) for order in orders)


def _match(pattern: Pattern, node: Node, binding: Binding) -> bool:
    if pattern.letter:
        return _match_letter(pattern.letter, node, binding)
    if pattern.number is not None:
        # True is no pattern for 1.0: a select between 1.0 and 0.0 is no bool.
        fits = node.dtype == BOOL or not isinstance(pattern.number, bool)
        return node.is_splat and fits and same_bits(node.attrs["value"], pattern.number)
    if node.op.name != pattern.op or len(node.args) != len(pattern.args):
        return False
    kept = dict(binding)
    if all(_match(sub, arg, binding) for sub, arg in zip(pattern.args, node.args, strict=True)):
        return True
    if pattern.op not in COMMUTATIVE:
        return False
    binding.clear()
    binding.update(kept)
    return all(_match(sub, arg, binding) for sub, arg in zip(pattern.args, node.args[::-1], strict=True))


def _match_letter(letter: str, node: Node, binding: Binding) -> bool:
    if letter in CONSTANTS and not node.is_splat:
        return False
    if letter in TRUTHS and node.dtype.kind != "b":
        return False
    return binding.setdefault(letter, node) is node


def _build(pattern: Pattern, binding: Binding, rewriter: Rewriter, like: Array) -> Node:
    if pattern.letter:
        return binding[pattern.letter]
    if pattern.number is not None:
        return rewriter.splat(pattern.number, like)
    if pattern.compute is not None:
        code = pattern.compute.__code__
        values = [binding[name].attrs["value"] for name in code.co_varnames[: code.co_argcount]]
        return rewriter.splat(pattern.compute(*values), like)
    made: dict[int, Node] = {}
    for i, arg in enumerate(pattern.args):
        if arg.number is None and arg.compute is None:
            made[i] = _build(arg, binding, rewriter, like)
    # A select's condition says nothing of the type of its branches.
    branches = [node for i, node in made.items() if not (pattern.op == "select" and i == 0)]
    inner = branches[0].array_type if branches else like
    inner = Array(inner.dtype, inner.shape, like.weak)
    args = [made[i] if i in made else _build(arg, binding, rewriter, inner) for i, arg in enumerate(pattern.args)]
    return rewriter.emit(pattern.op, *args)
