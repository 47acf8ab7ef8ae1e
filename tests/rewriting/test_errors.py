"""Errors name both lines, and point at the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from tests.rewriting.check import line_of, refused

LIST: list[int] = []
NUMBER = 0
PLAIN = np.zeros(3)


def unbound(x):
    if x > 0:
        y = x
    else:
        z = x
    return y, z


def other_shape(x):
    if x.sum() > 0:
        y = x
    else:
        y = x[:2]
    return y


def other_dtype(x):
    if x.sum() > 0:
        return x
    return x.astype(np.float32)


def other_structure(x):
    if x.sum() > 0:
        return x, x
    return x


def no_result(x):
    if x.sum() > 0:
        return x


def strings(x):
    if x.sum() > 0:
        mode = "a"
    else:
        mode = "b"
    return mode


def grows_in_branch(x):
    out = []
    for i in range(3):
        if x[i] > 0:
            out.append(x[i])  # noqa: PERF401
    return out


def grows_in_loop(x, n):
    out = []
    for i in range(n):
        out.append(x[i])  # noqa: PERF401
    return out


def starts_as_none(x, n):
    best = None
    for i in range(n):
        if best is None or x[i] > best:
            best = x[i]
    return best


def other_type_in_loop(x, n):
    total = np.zeros(3, np.float32)
    i = 0
    while i < n:
        total = total + np.float64(1) * x[0]
        i += 1
    return total


def unbound_before(x, n):
    for i in range(n):
        y = x * i
    return y


def binds_a_global(x):
    global NUMBER
    if x.sum() > 0:
        NUMBER = 1
    return x


def changes_a_global(x):
    if x.sum() > 0:
        LIST.append(1)
    return x


class Holder:
    """An object with a number."""

    def __init__(self) -> None:
        self.value = 0


def changes_an_object(x):
    holder = Holder()
    if x.sum() > 0:
        holder.value = 1
    return x


def asserts_with_a_value(x):
    assert x.sum() > 0, x
    return x


def raises_with_a_value(x):
    if x.sum() > 0:
        raise ValueError(f"it is {x.sum()}")
    return x


class Twice(ValueError):
    pass


def raises_its_own(x):
    if x.sum() > 0:
        raise Twice("text")
    return x


def raises_in_try(x):
    try:
        if x.sum() > 0:
            raise ValueError("text")
    except ValueError:
        return 2 * x
    return x


def asserts_in_try(x):
    try:
        assert x.sum() > 0
    except AssertionError:
        return 2 * x
    return x


def raises_in_each_turn(x, n):
    for _ in range(n):
        raise ValueError("text")
    return x


def recursive(x):
    return x if x.sum() > 9 else recursive(x + 1)


def writes_an_argument(x):
    if x.sum() > 0:
        x[0] = 1.0
    return x


def writes_a_plain_array(x):
    plain = PLAIN
    if x.sum() > 0:
        plain[0] = 1.0
    return plain


def shares(x):
    a = x.copy()
    b = a
    if x.sum() > 0:
        a[0] = 1.0
    return a, b[0] if x.sum() > 0 else a[0]


def shares_here(x):
    a = x.copy()
    b = a
    total = 0.0
    if x.sum() > 0:
        a[0] = 1.0
        total = b.sum()
    return total


def shares_in_loop(x, n):
    a = x.copy()
    best = x.copy()
    for _ in range(n):
        a[0] += 1
        best = a
    return best


def reads_an_alias(x, n):
    a = x.copy()
    b = a
    total = 0.0
    for i in range(n):
        a[0] += 1
        total += b[i]
    return total


def goes_over_what_it_changes(x, n):
    a = x.copy()
    total = 0.0
    for v in a:
        if total > n:
            break
        a *= 2.0
        total += v
    return total


def several_truths(x):
    if x > 0:
        return x
    return -x


def inside(x):
    if x.sum() > 0:
        y = x @ np.ones(7)
    else:
        y = 0.0
    return y


def steps(x, n):
    total = 0.0
    for i in range(0, 3, n):
        total += x[i]
    return total


X = np.array([1.0, 2.0, 3.0])

REFUSED: list[tuple[Callable[..., Any], tuple[Any, ...], str, list[str], str]] = [
    (unbound, (1.0,), "x > 0", ["y = x"], "y is bound in line {0} and not in the other side"),
    (other_shape, (X,), "if x", ["y = x\n", "y = x[:2]"], "y is f64[3] in line {0} and f64[2] in line {1}"),
    (other_dtype, (X,), "if x", ["return x\n", "astype"], "returned is f64[3] in line {0} and f32[3] in line {1}"),
    (other_structure, (X,), "if x", ["x, x", "return x\n"], "(array, array) in line {0} and array in line {1}"),
    (no_result, (X,), "if x", ["return x\n"], "array in line {0} and None in line"),
    (strings, (X,), "if x", ['"a"', '"b"'], "mode is str in line {0} and str in line {1}"),
    (grows_in_branch, (X,), "if x", ["append"], "write into an array of the full size in place of append"),
    (grows_in_loop, (X, 2), "for i", ["append"], "write into an array of the full size in place of append"),
    (starts_as_none, (X, 2), "for i", ["best = x[i]"], "best is None before a turn of a traced loop"),
    (other_type_in_loop, (X, 2), "while i", ["total = total"], "total is bound in line {0}"),
    (unbound_before, (1.0, 2), "for i", ["y = x * i"], "bound in the loop (line {0})"),
    (binds_a_global, (X,), "if x", [], "NUMBER is a global variable"),
    (changes_a_global, (X,), "if x", [], "LIST (list) is changed in an if"),
    (changes_an_object, (X,), "if x", [], "holder (Holder) is changed in an if"),
    (asserts_with_a_value, (X,), "assert x", [], "the text of an error under a traced condition has a traced value"),
    (raises_with_a_value, (X,), "raise V", [], "the text of an error under a traced condition has a traced value"),
    (raises_its_own, (X,), "raise T", [], "Twice is raised under a traced condition: a program raises exceptions of"),
    (raises_in_try, (X,), "raise V", [], "where a handler (try) may catch it, and a program catches none"),
    (asserts_in_try, (X,), "assert x", [], "where a handler (try) may catch it, and a program catches none"),
    (raises_in_each_turn, (X, 2), "raise V", [], "an error is raised in each run of this loop"),
    (recursive, (X,), "recursive(x + 1)", [], "calls itself under a traced condition"),
    (writes_an_argument, (X,), "x[0] =", [], "the argument `x` would be changed in place"),
    (writes_a_plain_array, (X,), "if x", [], "plain is a plain array from outside"),
    (shares_here, (X,), "if x", [], "a and b share memory"),
    (shares_in_loop, (X, 2), "for _", ["best = a"], "share memory after a turn of a traced loop (line {0})"),
    (reads_an_alias, (X, 2), "for i", [], "a and b share memory"),
    (goes_over_what_it_changes, (X, 2), "for v", [], "a and what the loop goes over share memory"),
    (several_truths, (X,), "if x", [], "the truth of a traced bool[3]"),
    (inside, (X,), "x @", [], "matmul: inner dimensions differ"),
    (steps, (X, 1), "range(0", [], "range: the step is known"),
]


@pytest.mark.filterwarnings("ignore::adjit.WideningWarning")
@pytest.mark.parametrize(("function", "args", "at", "lines", "text"), REFUSED, ids=[row[0].__name__ for row in REFUSED])
def test_errors_name_lines(
    function: Callable[..., Any], args: tuple[Any, ...], at: str, lines: list[str], text: str
) -> None:
    found = refused(function, *args)
    assert text.format(*(line_of(function, each) for each in lines)) in found
    assert f"test_errors.py:{line_of(function, at)}: " in found
    # The globals are as they were, and so is what the function returns to plain Python.
    assert LIST == []
    assert NUMBER == 0


def test_an_alias_that_is_read_behind_sees_the_change() -> None:
    a, first = adjit.jit(shares, control_flow=True)(X)
    assert a.tolist() == [1.0, 2.0, 3.0]
    assert first == 1.0


def test_an_error_of_values_tells_line_and_turn() -> None:
    def total(x, n):
        found = 0.0
        for i in range(n):
            if i > 1:
                found += x[i]
        return found

    compiled = adjit.jit(total, control_flow=True)
    assert compiled(X, 3) == 3.0
    line = line_of(total, "found += x[i]")
    with pytest.raises(adjit.IndexOutOfRange, match=rf"test_errors.py:{line}: index 3 .*in turn 3 of the loop"):
        compiled(X, 5)


def test_tracebacks_show_the_users_lines() -> None:
    def fails(x):
        if x > 0:
            return {}["missing"]
        return x

    with pytest.raises(KeyError) as caught:
        adjit.jit(fails, control_flow=True)(1.0)
    last = caught.traceback[-1]
    assert (last.path.name, last.lineno + 1) == ("test_errors.py", line_of(fails, "missing"))


def test_code_without_source_is_refused() -> None:
    scope: dict[str, Any] = {}
    exec("def f(x):\n    return x if x > 0 else -x\n", scope)
    with pytest.raises(adjit.TraceError, match=r"the source of f \(<string>:1\) is not to be had: .* made by exec"):
        adjit.jit(scope["f"], control_flow=True)
    calls = adjit.jit(lambda x: scope["f"](x), control_flow=True)
    with pytest.raises(adjit.TraceError, match="write the function into a file"):
        calls(1.0)


def test_functions_that_are_no_users_stay_as_they_are() -> None:
    # fmt: off
    first, second = adjit.jit(np.sin, control_flow=True), adjit.jit(lambda x: abs(x), control_flow=True)
    # fmt: on
    assert float(first(0.0)) == 0.0
    assert float(second(-1.0)) == 1.0


def test_refusals_without_the_switch_tell_of_it() -> None:
    for function, args in ((several_truths, (1.0,)), (unbound_before, (1.0, 2)), (other_type_in_loop, (X, 2))):
        with pytest.raises(adjit.TraceError, match="control_flow=True"):
            adjit.jit(function)(*args)


def test_generators_are_left_alone() -> None:
    def positive(x):
        for v in x:
            if v > 0:
                yield v

    with pytest.raises(adjit.TraceError, match=f"test_errors.py:{line_of(positive, 'if v')}: the truth of"):
        adjit.jit(lambda x: sum(positive(x)), control_flow=True)(X)


def test_the_switch_is_a_bool() -> None:
    with pytest.raises(adjit.ArgumentError, match="jit: control_flow"):
        adjit.jit(several_truths, control_flow="yes")
