"""Every rewrite rule is proved: it fires, both sides have the same bits where it is exact, and SymPy agrees."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
from sympy.logic.boolalg import Boolean

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.builder import Builder
from adjit.ir.equal import equal
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import DTYPE_NAMES, Array
from adjit.ir.verify import verify
from adjit.passes.pattern import Pattern, Rule, RuleSet
from adjit.passes.rewrite import Rewriter, rewrite
from adjit.passes.rules import INEXACT_RULES, RULES
from adjit.passes.simplify import simplify

DTYPES = {"b": ("bool",), "i": ("i32", "i64", "i8"), "u": ("u8", "u64"), "f": ("f32", "f64")}
FLOATS = (np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, 0.5, -2.0, 3.1, -7.3, 1e-40, 1e30, -1e30)
CONSTANT_SAMPLES = (2.0, 0.5, -4.0, 3.0, -0.7, 1e-3, 2.0**-126, 2.0**100, 2.0**-140, np.inf, 0.0, -0.0)
ALL_RULES = RULES + INEXACT_RULES


def samples(dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind == "f":
        tiny = np.finfo(dtype).smallest_subnormal
        return np.concatenate([np.array(FLOATS, dtype), [tiny, np.finfo(dtype).max], rng.normal(size=20)]).astype(dtype)
    info = np.iinfo(dtype)
    return np.array([info.min, info.max, 0, 1, 2, 3, 100, info.min + 1, info.max - 1], dtype)


def side(b: Builder, pattern: Pattern, leaves: dict[str, Node], like: Array) -> Node:
    """A pattern as nodes: numbers take the type of their neighbours."""
    if pattern.letter:
        return leaves[pattern.letter]
    if pattern.number is not None:
        return b.splat(pattern.number, like)
    if pattern.compute is not None:
        names = pattern.compute.__code__.co_varnames[: pattern.compute.__code__.co_argcount]
        return b.splat(pattern.compute(*(leaves[name].attrs["value"] for name in names)), like)
    made = {i: side(b, arg, leaves, like) for i, arg in enumerate(pattern.args) if arg.letter or arg.op}
    values = [node.array_type for i, node in made.items() if not (pattern.op == "select" and i == 0)]
    inner = values[0] if values else like
    types = [like.with_dtype(np.dtype(bool)) if pattern.op == "select" and i == 0 else inner for i in range(3)]
    args = [made[i] if i in made else side(b, arg, leaves, types[i]) for i, arg in enumerate(pattern.args)]
    return b.emit(pattern.op, *args)


def as_pattern(right: Any) -> Pattern:
    return right if isinstance(right, Pattern) else Pattern(number=right)


def graphs(
    rule: Rule, dtype: np.dtype, constants: dict[str, float]
) -> tuple[Graph, Callable[[], Graph], list[np.ndarray]]:
    """Both sides as graphs with the variables for inputs (the right one on demand, as `when` may exclude it), and
    inputs in all combinations."""
    right = as_pattern(rule.right)
    letters = sorted((rule.left.letters() | right.letters()) - set("cd"))
    columns = [samples(np.dtype(bool) if letter in "pq" else dtype) for letter in letters]
    rows = list(itertools.product(*columns))
    if len(rows) > 20_000:
        rows = [rows[i] for i in np.random.default_rng(1).choice(len(rows), 20_000, replace=False)]
    inputs = [np.array([row[i] for row in rows], column.dtype) for i, column in enumerate(columns)]

    def graph_of(pattern: Pattern, like: Array) -> Graph:
        b = Builder()
        leaves = {
            letter: b.input(letter, Array(column.dtype, column.shape))
            for letter, column in zip(letters, inputs, strict=True)
        }
        leaves |= {letter: b.splat(value, like) for letter, value in constants.items()}
        return b.graph("side", [side(b, pattern, leaves, like)])

    left = graph_of(rule.left, Array(dtype, (len(rows),)))
    return left, lambda: graph_of(right, left.outputs[0].array_type), inputs


def cases() -> list[Any]:
    found = []
    for rule in ALL_RULES:
        letters = rule.left.letters()
        names = [name for kind in rule.kinds for name in DTYPES[kind]] if letters & set("xyz") else ["bool"]
        found += [pytest.param(rule, name, id=f"{rule.name}-{name}") for name in names if accepted(rule.left, name)]
    return found


def accepted(pattern: Pattern, dtype: str) -> bool:
    """Whether the ops that read x take the dtype (`not` takes no float, `lt` no bool)."""
    if not pattern.op:
        return True
    if any(arg.letter in tuple("xyz") for arg in pattern.args) and pattern.op != "select":
        return DTYPE_NAMES[dtype].kind in getattr(OPS[pattern.op], "accepts", "biuf")
    return all(accepted(arg, dtype) for arg in pattern.args)


def applied(rule: Rule, graph: Graph) -> Graph:
    """`graph` after this rule alone."""
    rules = RuleSet((rule,))

    def step(node: Node, rewriter: Rewriter) -> Node | None:
        for candidate in rules.candidates(node):
            binding = candidate.match(node)
            if binding is not None:
                return candidate.build(node, binding, rewriter)
        return None

    return rewrite(graph, step)


def constants_of(rule: Rule) -> list[dict[str, float]]:
    letters = sorted(rule.left.letters() & set("cd"))
    return [dict(zip(letters, row, strict=True)) for row in itertools.product(CONSTANT_SAMPLES, repeat=len(letters))]


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind != "f":
        return a == b
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


@pytest.mark.parametrize(("rule", "name"), cases())
def test_a_rule_keeps_the_bits(rule: Rule, name: str) -> None:
    dtype = DTYPE_NAMES[name]
    fired = 0
    for constants in constants_of(rule):
        left, right, inputs = graphs(rule, dtype, constants)
        rewritten = applied(rule, left)
        verify(rewritten)
        if rewritten is left:
            assert rule.when is not None, "the rule does not fire on its own left side"
            continue
        fired += 1
        if rule.name.startswith("pow") and dtype.kind == "i":
            inputs = [np.clip(values, -(2**6), 2**6) for values in inputs]
        (before,), (after,), (meant,) = (evaluate(g, *inputs) for g in (left, rewritten, right()))
        assert same_bits(after, meant).all(), "the rewritten graph is not the right side"
        if not rule.exact:
            continue
        if rule.ulps:
            # NumPy's pow is no exact rounding itself: specials are the same, the rest within some ULPs.
            special = ~(np.isfinite(before) & np.isfinite(after)) | (before == 0) | (after == 0)
            assert same_bits(before, after)[special].all()
            # Below the normal numbers a ULP is no measure of pow's own error.
            normal = ~special & (np.abs(after) >= np.finfo(dtype).tiny)
            np.testing.assert_array_max_ulp(before[normal], after[normal], maxulp=rule.ulps)
            continue
        wrong = ~same_bits(before, after)
        assert not wrong.any(), [(*(v[wrong][0] for v in inputs), before[wrong][0], after[wrong][0], constants)]
    assert fired


@pytest.mark.parametrize("rule", INEXACT_RULES, ids=lambda rule: rule.name)
def test_an_inexact_rule_runs_only_where_it_is_allowed(rule: Rule) -> None:
    constants = dict.fromkeys(sorted(rule.left.letters() & set("cd")), 3.0)
    left, right, _ = graphs(rule, DTYPE_NAMES["f64"], constants)
    assert applied(rule, left) is not left
    kept = [node.op.name for node in simplify(left).nodes if not node.is_splat]
    assert kept == [node.op.name for node in left.nodes if not node.is_splat]
    allowed = simplify(left, allow_inexact=True)
    verify(allowed)
    assert equal(allowed, simplify(right(), allow_inexact=True))
    assert not equal(allowed, left)


@pytest.mark.parametrize("name", ["f32", "f64"])
@pytest.mark.parametrize("rule", INEXACT_RULES, ids=lambda rule: rule.name)
def test_an_inexact_rule_agrees_to_rounding(rule: Rule, name: str) -> None:
    """On numbers of ordinary size."""
    dtype = DTYPE_NAMES[name]
    letters = sorted(rule.left.letters() & set("cd"))
    rng = np.random.default_rng(0)
    for row in itertools.product((2.0, 0.5, -4.0, 3.0, -0.7, 1e-3), repeat=len(letters)):
        left, _, inputs = graphs(rule, dtype, dict(zip(letters, row, strict=True)))
        rewritten = applied(rule, left)
        assert rewritten is not left
        inputs = [rng.uniform(0.5, 2.0, values.shape).astype(dtype) for values in inputs]
        (before,), (after,) = (evaluate(graph, *inputs) for graph in (left, rewritten))
        # Some roundings of the largest number on the way.
        np.testing.assert_allclose(after, before, rtol=4 * np.finfo(dtype).eps, atol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("name", "dtype", "constants"),
    [
        ("div_const", "f32", (0.0,)), ("div_const", "f32", (-0.0,)), ("div_const", "f32", (np.inf,)),
        ("div_const", "f32", (np.nan,)), ("div_const", "f32", (1e-40,)), ("div_const", "f32", (3e38,)),
        ("div_const", "f64", (1e-310,)), ("mul_mul_const", "f32", (1e30, 1e30)),
        ("mul_mul_const", "f32", (1e-30, 1e-30)), ("mul_mul_const", "f32", (0.0, 3.0)),
        ("add_add_const", "f32", (3e38, 3e38)), ("add_add_const", "f32", (np.inf, -np.inf)),
    ],
)  # fmt: skip
def test_an_inexact_rule_computes_normal_constants_alone(name: str, dtype: str, constants: tuple[float, ...]) -> None:
    """x / 3e38 is no product with a subnormal number, which has few digits, or counts as zero."""
    rule = next(rule for rule in INEXACT_RULES if rule.name == name)
    left, _, _ = graphs(rule, DTYPE_NAMES[dtype], dict(zip("cd", constants, strict=False)))
    assert applied(rule, left) is left
    fine, _, _ = graphs(rule, DTYPE_NAMES[dtype], dict(zip("cd", (1e3, 1e-3), strict=False)))
    assert applied(rule, fine) is not fine


# -- SymPy ------------------------------------------------------------------------------------------------------------


def symbolic(pattern: Pattern, symbols: dict[str, Any]) -> Any:
    """A side as a SymPy expression."""
    if pattern.letter:
        return symbols[pattern.letter]
    if pattern.number is not None:
        return sympy.nsimplify(pattern.number)
    if pattern.compute is not None:
        names = pattern.compute.__code__.co_varnames[: pattern.compute.__code__.co_argcount]
        # The conditional of `div_const` asks whether c is zero; a symbol that may not be is not.
        return pattern.compute(*(symbols[name] for name in names))
    meaning = getattr(OPS[pattern.op], "symbolic", None)
    return meaning(*(symbolic(arg, symbols) for arg in pattern.args))


def has_meaning(pattern: Pattern) -> bool:
    if not pattern.op:
        return not isinstance(pattern.number, bool) and abs(pattern.number or 0) != np.inf
    return getattr(OPS[pattern.op], "symbolic", None) is not None and all(has_meaning(arg) for arg in pattern.args)


def over_the_reals(rule: Rule) -> bool:
    return bool(set(rule.kinds) & set("f")) and has_meaning(rule.left) and has_meaning(as_pattern(rule.right))


@pytest.mark.parametrize("rule", [rule for rule in ALL_RULES if over_the_reals(rule)], ids=lambda rule: rule.name)
def test_sympy_proves_a_rule(rule: Rule) -> None:
    facts = {"positive": True} if rule.positive else {"real": True}
    symbols = {letter: sympy.Symbol(letter, **facts) for letter in "xyz"}
    symbols |= {letter: sympy.Symbol(letter, real=True, nonzero=True) for letter in "cd"}
    symbols |= {letter: sympy.Symbol(letter) for letter in "pq"}
    left = symbolic(rule.left, symbols)
    right = symbolic(as_pattern(rule.right), symbols)
    if left.has(sympy.Piecewise) or right.has(sympy.Piecewise):
        for truth in itertools.product((sympy.true, sympy.false), repeat=2):
            chosen = dict(zip((symbols["p"], symbols["q"]), truth, strict=True))
            assert sympy.simplify(left.subs(chosen) - right.subs(chosen)) == 0
        return
    if isinstance(left, Boolean):
        assert sympy.Equivalent(left, right) == sympy.true
        return
    assert sympy.simplify(left - right) == 0


def test_few_rules_are_out_of_sympys_reach() -> None:
    """Truths written out, bits and infinities have no meaning over the reals; for all others there is a proof."""
    unproved = {rule.name for rule in ALL_RULES if not over_the_reals(rule) and "f" in rule.kinds}
    assert unproved == {
        "maximum_lowest", "minimum_highest", "lt_self", "gt_self", "eq_true", "eq_false", "ne_true", "ne_false",
        "and_true", "or_true", "xor_true", "and_not", "or_not", "select_true", "select_false", "select_is",
        "select_is_not", "select_and", "select_or",
    }  # fmt: skip


def test_rule_names_are_unique() -> None:
    names = [rule.name for rule in ALL_RULES]
    assert len(names) == len(set(names))
