"""The rewrite rules of `simplify`, each on one line: name, left side, right side, where it holds.

Every rule is proved by tests/passes/test_rules.py: both sides on NaN, zeros, infinities and random values, bit for
bit where the rule is exact, and by SymPy on the reals where the ops have a symbolic meaning.

Not here, as they are wrong: x + 0.0 is not x (-0.0 + 0.0 is 0.0), x * 0.0 is not 0.0 (NaN), -(x - y) is not y - x
(the sign of zero), 1 - select is no select. And never: select(p, x * y, 0) is not select(p, x, 0) * y, because y may
be infinite where p is false.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from adjit.ir.node import Node
from adjit.passes.pattern import Rule, RuleSet, c, const, d, op, p, q, x, y, z

neg, abs_, select, cast = op("neg"), op("abs"), op("select"), op("cast")
and_, or_, xor, not_ = op("and"), op("or"), op("xor"), op("not")
eq, ne, lt, le, gt, ge = op("eq"), op("ne"), op("lt"), op("le"), op("gt"), op("ge")
maximum, minimum, pow_, sqrt, exp, log = op("maximum"), op("minimum"), op("pow"), op("sqrt"), op("exp"), op("log")
floor_divide, remainder, stop_gradient = op("floor_divide"), op("remainder"), op("stop_gradient")
shift_left, shift_right = op("shift_left"), op("shift_right")
INF = float("inf")


def _power_of_two(binding: Mapping[str, Node]) -> bool:
    """Whether dividing by c is multiplying by 1/c to the bit: both are powers of two, and normal."""
    value = float(binding["c"].attrs["value"])
    smallest = -126 if binding["c"].dtype.itemsize == 4 else -1022
    if not math.isfinite(value) or value == 0:
        return False
    mantissa, exponent = math.frexp(value)
    return abs(mantissa) == 0.5 and smallest < exponent - 1 < -smallest


def _is_normal(value: float, binding: Mapping[str, Node]) -> bool:
    """Whether a constant that is computed neither overflows nor loses digits in the dtype of c."""
    limits = np.finfo(binding["c"].dtype)
    return float(limits.smallest_normal) <= abs(value) <= float(limits.max)


def _value(binding: Mapping[str, Node], letter: str) -> float:
    return float(binding[letter].attrs["value"])


def _has_inverse(binding: Mapping[str, Node]) -> bool:
    c = _value(binding, "c")
    return c != 0 and _is_normal(1 / c, binding)


def _have_product(binding: Mapping[str, Node]) -> bool:
    return _is_normal(_value(binding, "c") * _value(binding, "d"), binding)


def _have_sum(binding: Mapping[str, Node]) -> bool:
    total = _value(binding, "c") + _value(binding, "d")
    return total == 0 or _is_normal(total, binding)


RULES = (
    # Sums.
    Rule("add_zero", x + 0, x, "iu"),
    Rule("add_negative_zero", x + -0.0, x, "f"),
    Rule("add_zero_twice", (x + 0.0) + 0.0, x + 0.0, "f"),
    Rule("sub_zero", x - 0, x, "iuf"),
    Rule("sub_self", x - x, 0, "iu"),
    Rule("zero_sub", 0 - x, neg(x), "i"),
    Rule("negative_zero_sub", -0.0 - x, neg(x), "f"),
    Rule("add_neg", x + neg(y), x - y, "if"),
    Rule("sub_neg", x - neg(y), x + y, "if"),
    Rule("neg_neg", neg(neg(x)), x, "if"),
    Rule("neg_sub", neg(x - y), y - x, "i"),
    # Products and quotients.
    Rule("mul_one", x * 1, x, "iuf"),
    Rule("mul_minus_one", x * -1, neg(x), "if"),
    Rule("mul_zero", x * 0, 0, "iu"),
    Rule("neg_mul_const", neg(x * c), x * const(lambda c: -c), "f"),
    Rule("mul_neg_const", neg(x) * c, x * const(lambda c: -c), "f"),
    Rule("mul_neg_neg", neg(x) * neg(y), x * y, "if"),
    Rule("mul_abs_abs", abs_(x) * abs_(x), x * x, "if"),
    Rule("div_one", x / 1, x, "f"),
    Rule("div_power_of_two", x / c, x * const(lambda c: 1 / c), "f", when=_power_of_two),
    Rule("div_neg_neg", neg(x) / neg(y), x / y, "f"),
    Rule("neg_div_const", neg(x / c), x / const(lambda c: -c), "f"),
    Rule("div_neg_const", neg(x) / c, x / const(lambda c: -c), "f"),
    Rule("floor_divide_one", floor_divide(x, 1), x, "iu"),
    Rule("remainder_one", remainder(x, 1), 0, "iu"),
    # Powers. NumPy's own `x ** 2` squares; `np.power` on floats is no exact rounding, and neither is our pow.
    Rule("pow_zero", pow_(x, 0), 1, "iuf"),
    Rule("pow_one", pow_(x, 1), x, "iuf"),
    Rule("pow_two", pow_(x, 2), x * x, "iu"),
    Rule("pow_two_float", pow_(x, 2), x * x, "f", ulps=1),
    Rule("pow_three", pow_(x, 3), (x * x) * x, "f", ulps=2),
    Rule("pow_four", pow_(x, 4), (x * x) * (x * x), "f", ulps=2),
    Rule("pow_minus_one", pow_(x, -1), 1 / x, "f", ulps=1),
    # Signs, extrema, rounding.
    Rule("abs_neg", abs_(neg(x)), abs_(x), "if"),
    Rule("abs_abs", abs_(abs_(x)), abs_(x), "iuf"),
    Rule("maximum_self", maximum(x, x), x, "iuf"),
    Rule("minimum_self", minimum(x, x), x, "iuf"),
    Rule("maximum_lowest", maximum(x, -INF), x, "f"),
    Rule("minimum_highest", minimum(x, INF), x, "f"),
    Rule("shift_left_zero", shift_left(x, 0), x, "iu"),
    Rule("shift_right_zero", shift_right(x, 0), x, "iu"),
    Rule("stop_gradient", stop_gradient(x), x),
    # Comparisons.
    Rule("eq_self", eq(x, x), True, "biu"),
    Rule("ne_self", ne(x, x), False, "biu"),
    Rule("lt_self", lt(x, x), False, "iuf"),
    Rule("gt_self", gt(x, x), False, "iuf"),
    Rule("le_self", le(x, x), True, "iu"),
    Rule("ge_self", ge(x, x), True, "iu"),
    Rule("not_eq", not_(eq(x, y)), ne(x, y)),
    Rule("not_ne", not_(ne(x, y)), eq(x, y)),
    Rule("not_lt", not_(lt(x, y)), ge(x, y), "iu"),
    Rule("not_le", not_(le(x, y)), gt(x, y), "iu"),
    Rule("not_gt", not_(gt(x, y)), le(x, y), "iu"),
    Rule("not_ge", not_(ge(x, y)), lt(x, y), "iu"),
    Rule("eq_true", eq(p, True), p),
    Rule("eq_false", eq(p, False), not_(p)),
    Rule("ne_true", ne(p, True), not_(p)),
    Rule("ne_false", ne(p, False), p),
    # Logic and bits.
    Rule("not_not", not_(not_(x)), x, "biu"),
    Rule("and_self", and_(x, x), x, "biu"),
    Rule("or_self", or_(x, x), x, "biu"),
    Rule("xor_self", xor(x, x), 0, "biu"),
    Rule("and_zero", and_(x, 0), 0, "biu"),
    Rule("or_zero", or_(x, 0), x, "biu"),
    Rule("xor_zero", xor(x, 0), x, "biu"),
    Rule("and_true", and_(p, True), p),
    Rule("or_true", or_(p, True), True),
    Rule("xor_true", xor(p, True), not_(p)),
    Rule("and_not", and_(p, not_(p)), False),
    Rule("or_not", or_(p, not_(p)), True),
    # Selects.
    Rule("select_true", select(True, x, y), x),
    Rule("select_false", select(False, x, y), y),
    Rule("select_same", select(p, x, x), x),
    Rule("select_not", select(not_(p), x, y), select(p, y, x)),
    Rule("select_then_select", select(p, select(p, x, y), z), select(p, x, z)),
    Rule("select_else_select", select(p, x, select(p, y, z)), select(p, x, z)),
    Rule("select_is", select(p, True, False), p),
    Rule("select_is_not", select(p, False, True), not_(p)),
    Rule("select_and", select(p, q, False), and_(p, q)),
    Rule("select_or", select(p, True, q), or_(p, q)),
)
"""Exact rules: these always run. Where several match, the first one does."""

INEXACT_RULES = (
    Rule("add_zero_float", x + 0.0, x, "f", exact=False),  # -0.0 + 0.0 is 0.0
    Rule("zero_sub_float", 0.0 - x, neg(x), "f", exact=False),  # 0.0 - 0.0 is 0.0
    Rule("neg_sub_float", neg(x - y), y - x, "f", exact=False),  # the sign of zero
    Rule("sub_self_float", x - x, 0.0, "f", exact=False),  # inf - inf is NaN
    Rule("add_sub", (x + y) - y, x, "f", exact=False),
    Rule("mul_zero_float", x * 0.0, 0.0, "f", exact=False),  # NaN, and the sign of zero
    Rule("div_self", x / x, 1.0, "f", exact=False),  # 0 / 0 is NaN
    Rule("div_const", x / c, x * const(lambda c: 1 / c), "f", when=_has_inverse, exact=False),
    Rule("mul_mul_const", (x * c) * d, x * const(lambda c, d: c * d), "f", when=_have_product, exact=False),
    Rule("add_add_const", (x + c) + d, x + const(lambda c, d: c + d), "f", when=_have_sum, exact=False),
    Rule("pow_half", pow_(x, 0.5), sqrt(x), "f", exact=False),  # pow(-0.0, 0.5) is 0.0, pow(-inf, 0.5) is inf
    Rule("sqrt_square", sqrt(x * x), abs_(x), "f", exact=False),  # x * x may overflow
    Rule("log_exp", log(exp(x)), x, "f", exact=False),
    Rule("exp_log", exp(log(x)), x, "f", exact=False, positive=True),
)
"""Rules of the reals that rounding, overflow or NaN break: only where the user allowed them, with `inexact`. Constants
that they compute are normal numbers."""

EXACT = RuleSet(RULES)
ALL = RuleSet(RULES + INEXACT_RULES)
