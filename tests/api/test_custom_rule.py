"""`custom_rule`: what users' rules say is what derivatives are, in every mode and composition; and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit

X = np.array([0.3, -0.7, 1.2])


def cubed(x: Any) -> Any:
    return x * x * x


def wrong_jvp(primals: Any, tangents: Any) -> Any:
    """10 x^2 for 3 x^2, so that a test sees whether the rule was taken."""
    (x,), (dx,) = primals, tangents
    return cubed(x), 10.0 * x * x * dx


def wrong_vjp(x: Any) -> Any:
    return cubed(x), lambda g: (20.0 * x * x * g,)


BOTH = adjit.custom_rule(cubed, jvp=wrong_jvp, vjp=wrong_vjp)
FORWARD = adjit.custom_rule(cubed, jvp=wrong_jvp)
REVERSE = adjit.custom_rule(cubed, vjp=wrong_vjp)


def sin_jvp(primals: Any, tangents: Any) -> Any:
    return sin(*primals), cos(*primals) * tangents[0]


def cos_jvp(primals: Any, tangents: Any) -> Any:
    return cos(*primals), -sin(*primals) * tangents[0]


sin = adjit.custom_rule(np.sin, jvp=sin_jvp)
cos = adjit.custom_rule(np.cos, jvp=cos_jvp)


def softplus_vjp(x: Any) -> Any:
    return softplus(x), lambda g: (g * logistic(x),)


def logistic_vjp(x: Any) -> Any:
    y = logistic(x)
    return y, lambda g: (g * y * (1 - y),)


softplus = adjit.custom_rule(lambda x: np.log(1 + np.exp(x)), vjp=softplus_vjp)
logistic = adjit.custom_rule(lambda x: 1 / (1 + np.exp(-x)), vjp=logistic_vjp)


# -- values and modes -------------------------------------------------------------------------------------------------


def test_plain_calls_are_the_function_itself() -> None:
    seen: list[Any] = []

    @adjit.custom_rule(vjp=wrong_vjp)
    def f(x: Any, more: int = 1) -> Any:
        """What it says."""
        seen.append(x)
        return x

    given = object()
    assert f(given) is given
    assert seen == [given]
    assert (f.__name__, f.__doc__, f.__wrapped__(3)) == ("f", "What it says.", 3)
    assert repr(f) == "<custom_rule f>"


def test_values_are_those_of_the_function() -> None:
    for f in (BOTH, FORWARD, REVERSE):
        np.testing.assert_array_equal(adjit.jit(f)(X), cubed(X))
        np.testing.assert_array_equal(adjit.vmap(f)(X), cubed(X))
        np.testing.assert_array_equal(adjit.jvp(f, (X,), (X,))[0], cubed(X))
        np.testing.assert_array_equal(adjit.vjp(f, X)[0], cubed(X))


@pytest.mark.parametrize(("f", "forward", "reverse"), [(BOTH, 10, 20), (FORWARD, 10, 10), (REVERSE, 20, 20)])
def test_each_mode_takes_its_rule_or_the_adjoint_of_the_other(f: Any, forward: float, reverse: float) -> None:
    v = np.array([1.0, 2.0, -1.0])
    np.testing.assert_allclose(adjit.jvp(f, (X,), (v,))[1], forward * X * X * v, rtol=1e-14)
    np.testing.assert_allclose(adjit.linearize(f, X)[1](v), forward * X * X * v, rtol=1e-14)
    np.testing.assert_allclose(adjit.vjp(f, X)[1](v)[0], reverse * X * X * v, rtol=1e-14)
    np.testing.assert_allclose(adjit.jacfwd(f)(X), np.diag(forward * X * X), rtol=1e-14)
    np.testing.assert_allclose(adjit.jacrev(f)(X), np.diag(reverse * X * X), rtol=1e-14)
    np.testing.assert_allclose(adjit.grad(lambda x: (f(x) * v).sum())(X), reverse * X * X * v, rtol=1e-14)


def test_second_derivatives_are_those_of_the_rule() -> None:
    np.testing.assert_allclose(adjit.grad(adjit.grad(REVERSE))(0.5), 40 * 0.5)
    np.testing.assert_allclose(adjit.grad(adjit.grad(FORWARD))(0.5), 20 * 0.5)
    np.testing.assert_allclose(adjit.hessian(lambda x: REVERSE(x).sum())(X), np.diag(40 * X))
    np.testing.assert_allclose(adjit.hessian(lambda x: FORWARD(x).sum())(X), np.diag(20 * X))
    # Forward over reverse: the tangent of what the reverse rule computes.
    np.testing.assert_allclose(adjit.hvp(lambda x: BOTH(x).sum())(X, np.ones(3)), 40 * X)


@pytest.mark.parametrize("order", range(1, 6))
def test_rules_that_call_each_other_have_derivatives_of_any_order(order: int) -> None:
    wanted = [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)][order % 4](0.3)
    reverse: Callable[..., Any] = sin
    forward: Callable[..., Any] = sin
    for _ in range(order):
        reverse = adjit.grad(reverse)
        forward = lambda x, f=forward: adjit.jvp(f, (x,), (1.0,))[1]  # noqa: E731
    np.testing.assert_allclose(reverse(0.3), wanted, rtol=1e-14)
    np.testing.assert_allclose(adjit.jit(forward)(0.3), wanted, rtol=1e-14)


def test_a_rule_takes_the_place_of_a_derivative_that_overflows() -> None:
    assert adjit.grad(softplus)(1000.0) == 1.0
    assert adjit.grad(adjit.grad(softplus))(1000.0) == 0.0
    adjit.check_grads(lambda x: softplus(x).sum(), (X,), order=2)


def test_a_rounded_value_hands_its_gradient_through() -> None:
    """A straight-through estimator: the value of one function, the derivative of another."""
    rounded = adjit.custom_rule(np.round, jvp=lambda primals, tangents: (np.round(primals[0]), tangents[0]))
    found = adjit.grad(lambda w: ((rounded(w) - 1.0) ** 2).sum())(np.array([0.2, 2.9]))
    np.testing.assert_array_equal(found, 2 * (np.array([0.0, 3.0]) - 1.0))


def test_gradients_of_a_cotangent_that_is_clipped() -> None:
    clipped = adjit.custom_rule(lambda x: x, vjp=lambda x: (x, lambda g: (np.clip(g, -1.0, 1.0),)))
    np.testing.assert_array_equal(adjit.grad(lambda x: (clipped(x) * X * 10).sum())(X), np.clip(10 * X, -1, 1))


# -- arguments and results --------------------------------------------------------------------------------------------


def taken(params: Any, rows: Any, power: int, mode: str = "sum", offset: float = 0.5) -> Any:
    assert (mode, type(power), type(offset)) == ("sum", int, float)
    return {"y": params["a"][rows] ** power + offset, "rows": rows + 1}


def taken_vjp(params: Any, rows: Any, power: int, mode: str, offset: float) -> Any:
    def pullback(g: Any) -> Any:
        assert g["rows"].dtype.kind == "i"
        da = np.zeros_like(params["a"])
        da[rows] += g["y"] * power * params["a"][rows] ** (power - 1)
        return {"a": da, "b": None}, None, None, None, None

    return taken(params, rows, power, mode, offset), pullback


def taken_jvp(primals: Any, tangents: Any) -> Any:
    params, rows, power, _, _ = primals
    dparams, drows, dpower, dmode, doffset = tangents
    assert (dpower, dmode, doffset) == (0, None, 0.0)
    assert not np.any(drows)
    dy = dparams["a"][rows] * power * params["a"][rows] ** (power - 1)
    return taken(*primals), {"y": dy, "rows": None}


@pytest.mark.parametrize("rules", [{"vjp": taken_vjp}, {"jvp": taken_jvp}, {"vjp": taken_vjp, "jvp": taken_jvp}])
def test_trees_integers_and_what_is_known(rules: dict[str, Any]) -> None:
    f = adjit.custom_rule(taken, **rules)
    params, rows = {"a": np.arange(1.0, 4.0), "b": np.ones(2)}, np.array([0, 2])

    def loss(params: Any, rows: Any) -> Any:
        return f(params, rows, 3)["y"].sum() + params["b"].sum()

    found = adjit.grad(loss)(params, rows)
    np.testing.assert_array_equal(found["a"], [3.0, 0.0, 27.0])
    np.testing.assert_array_equal(found["b"], np.ones(2))
    value, tangent = adjit.jvp(lambda p: f(p, rows, 3), (params,), (params,))
    np.testing.assert_array_equal(value["rows"], rows + 1)
    np.testing.assert_array_equal(tangent["y"], [3.0, 81.0])
    np.testing.assert_array_equal(tangent["rows"], [0, 0])
    named = adjit.jit(lambda p, r: f(p, rows=r, power=2))(params, rows)
    np.testing.assert_array_equal(named["y"], [1.5, 9.5])


def test_results_are_the_values_that_they_would_be() -> None:
    kinds: list[Any] = []

    def f(x: Any) -> Any:
        return x * 2.0, np.sin(x), 3

    g = adjit.custom_rule(f, jvp=lambda p, t: (f(*p), (t[0] * 2.0, np.cos(p[0]) * t[0], None)))

    def run(x: Any) -> Any:
        kinds.extend(type(y) if y.__class__ is type(y) else y.__class__ for y in g(x))
        return g(x)

    a, b, c = adjit.jit(run)(2.0)
    assert kinds == [float, np.float64, int]
    assert (a, float(b), c) == (4.0, pytest.approx(np.sin(2.0)), 3)


def test_what_is_known_stays_known() -> None:
    seen: list[Any] = []

    @adjit.custom_rule(vjp=lambda n: (n, lambda g: (g,)))
    def f(n: Any) -> Any:
        seen.append(n)
        return n

    assert adjit.jit(lambda x: x * f(2))(1.5) == 3.0
    assert set(map(type, seen)) == {int}


def test_zero_for_none_and_for_results_that_are_not_read() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y, x + y

    ruled = adjit.custom_rule(f, vjp=lambda x, y: (f(x, y), lambda g: (g[0] * y + g[1], None)))
    np.testing.assert_array_equal(adjit.grad(lambda x, y: ruled(x, y)[0].sum(), (0, 1))(X, X + 1), [X + 1, 0 * X])
    np.testing.assert_array_equal(adjit.grad(lambda x, y: ruled(x, y)[1].sum(), (0, 1))(X, X + 1), [0 * X + 1, 0 * X])
    still = adjit.custom_rule(cubed, jvp=lambda p, t: (cubed(*p), None))
    np.testing.assert_array_equal(adjit.grad(lambda x: still(x).sum())(X), 0 * X)


def test_methods_and_keywords() -> None:
    class Scaled:
        scale = 2.0

        @adjit.custom_rule(vjp=lambda self, x: (x * self.scale, lambda g: (None, g * 100.0)))
        def __call__(self, x: Any) -> Any:
            return x * self.scale

    model = Scaled()
    assert (model(3.0), adjit.grad(lambda x: model(x))(3.0)) == (6.0, 100.0)
    assert isinstance(Scaled.__dict__["__call__"], type(BOTH))


# -- what is read from outside ----------------------------------------------------------------------------------------


def scaled_by(w: Any, x: Any) -> Any:
    f = adjit.custom_rule(lambda x: x * w, vjp=lambda x: (x * w, lambda g: (g * w * 7.0,)))
    return f(x).sum()


def test_values_of_enclosing_traces_are_operands() -> None:
    np.testing.assert_array_equal(adjit.grad(scaled_by, 1)(2.0, X), np.full(3, 14.0))
    stopped = adjit.grad(lambda w: scaled_by(adjit.stop_gradient(w), w * np.ones(3)))(2.0)
    assert stopped == 3 * 14.0


def test_rules_read_more_from_outside_than_the_function() -> None:
    """And call it: what both read is handed to each."""

    def f(w: Any, v: Any, x: Any) -> Any:
        def rule(x: Any) -> Any:
            return inner(x), lambda g: (g * w * v,)

        inner = adjit.custom_rule(lambda x: x * w, vjp=rule)
        return adjit.scan(lambda c, _: (inner(c), None), x, length=2)[0]

    assert adjit.grad(f, 2)(2.0, 3.0, 5.0) == 36.0
    assert adjit.jvp(lambda x: f(2.0, 3.0, x), (5.0,), (1.0,))[1] == 36.0
    assert adjit.grad(lambda x: adjit.grad(f, 2)(2.0, 3.0, x) * x)(5.0) == 36.0


def test_a_derivative_by_what_is_read_from_outside_is_refused() -> None:
    with pytest.raises(adjit.TraceError, match=r"lambda reads f64\[\]~ from outside.*make it an argument"):
        adjit.grad(scaled_by, 0)(2.0, X)
    with pytest.raises(adjit.TraceError, match="from outside"):
        adjit.jvp(lambda w: scaled_by(w, X), (2.0,), (1.0,))


def test_large_arrays_in_a_loop() -> None:
    large = np.arange(1000.0)
    dot = adjit.custom_rule(lambda x: x @ large, vjp=lambda x: (x @ large, lambda g: (g * large,)))
    found = adjit.grad(lambda x: adjit.scan(lambda c, _: (c + dot(x), None), 0.0, length=3)[0])(np.ones(1000))
    np.testing.assert_array_equal(found, 3 * large)


# -- composition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [sin, softplus], ids=["jvp", "vjp"])
def test_batches(f: Any) -> None:
    plain = {sin: np.sin, softplus: softplus.__wrapped__}[f]
    np.testing.assert_allclose(adjit.vmap(f)(X), plain(X), rtol=1e-14)
    np.testing.assert_allclose(adjit.vmap(adjit.grad(f))(X), adjit.vmap(adjit.grad(plain))(X), rtol=1e-14)
    # A gradient of a batch goes through rules that are batched; its second derivative, too.
    total = adjit.grad(lambda x: (adjit.vmap(f)(x) ** 2).sum())
    wanted = adjit.grad(lambda x: (plain(x) ** 2).sum())
    np.testing.assert_allclose(total(X), wanted(X), rtol=1e-13)
    np.testing.assert_allclose(adjit.jacfwd(total)(X), adjit.jacfwd(wanted)(X), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(adjit.jacrev(total)(X), adjit.jacrev(wanted)(X), rtol=1e-12, atol=1e-15)
    chunks = adjit.grad(lambda x: adjit.vmap(f, chunk=2)(x).sum())
    np.testing.assert_allclose(chunks(X), adjit.grad(lambda x: plain(x).sum())(X), rtol=1e-14)


def test_a_gradient_by_what_a_batch_shares_is_the_sum() -> None:
    def f(w: Any, x: Any) -> Any:
        return np.tanh(x @ w)

    def rule(w: Any, x: Any) -> Any:
        y = ruled(w, x)
        return y, lambda g: (x[:, None] * (g * (1 - y * y)), w @ (g * (1 - y * y)))

    ruled = adjit.custom_rule(f, vjp=rule)
    rng = np.random.default_rng(0)
    w, xs = rng.normal(size=(3, 2)), rng.normal(size=(4, 3))
    loss = lambda f: lambda w, xs: (adjit.vmap(f, in_axes=(None, 0))(w, xs) ** 2).sum()  # noqa: E731
    for found, wanted in zip(adjit.grad(loss(ruled), (0, 1))(w, xs), adjit.grad(loss(f), (0, 1))(w, xs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
    adjit.check_grads(loss(ruled), (w, xs), order=2)
    nested = adjit.vmap(adjit.vmap(ruled, in_axes=(None, 0)), in_axes=(0, None))(np.stack([w, 2 * w]), xs)
    np.testing.assert_allclose(nested, np.stack([f(w, xs), f(2 * w, xs)]), rtol=1e-14)


def test_loops_branches_and_steps() -> None:
    def looped(x: Any) -> Any:
        return adjit.scan(lambda c, _: (sin(c) + softplus(c) * 0.1, None), x, length=5)[0].sum()

    adjit.check_grads(looped, (X,), order=2)
    unrolled = adjit.jit(lambda x: [x := sin(x) for _ in range(100)][-1].sum())
    np.testing.assert_allclose(unrolled(X), adjit.jit(lambda x: [x := np.sin(x) for _ in range(100)][-1].sum())(X))
    step = adjit.training_step(lambda w, x: (softplus(w * x) ** 2).mean(), adjit.optim.sgd(0.1))
    plain = adjit.training_step(lambda w, x: (softplus.__wrapped__(w * x) ** 2).mean(), adjit.optim.sgd(0.1))
    one, other = step.init(np.ones(3)), plain.init(np.ones(3))
    for _ in range(3):
        np.testing.assert_allclose(step(one, X), plain(other, X), rtol=1e-14)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-14)


def safe_sqrt_vjp(x: Any) -> Any:
    y = np.sqrt(x)
    return y, lambda g: (0.5 * g / y,)


def test_a_branch_that_is_discarded_gives_no_nan() -> None:
    root = adjit.custom_rule(np.sqrt, vjp=safe_sqrt_vjp)

    def f(x: Any) -> Any:
        return np.where(x > 0, root(x), 0.0)

    assert adjit.grad(f)(0.0) == 0.0
    assert adjit.grad(f)(4.0) == 0.25
    assert adjit.grad(adjit.grad(f))(0.0) == 0.0
    assert adjit.jvp(f, (0.0,), (1.0,))[1] == 0.0
    # Zeros are what a rule gets of elements that are dead, and what it makes of them counts while others live.
    np.testing.assert_array_equal(adjit.grad(lambda x: f(x).sum())(np.array([4.0, 0.0])), [0.25, np.nan])


def test_rules_are_traced_once_for_a_signature() -> None:
    traced: list[str] = []

    def rule(x: Any) -> Any:
        traced.append("rule")
        return cubed(x), lambda g: (g,)

    f = adjit.grad(adjit.custom_rule(cubed, vjp=rule))
    for _ in range(3):
        f(1.5)
    assert traced == ["rule"]


# -- what is refused --------------------------------------------------------------------------------------------------


def no_pair(x: Any) -> Any:
    return cubed(x)


def no_function(x: Any) -> Any:
    return cubed(x), x


def short(x: Any) -> Any:
    return cubed(x)[:2], lambda g: (g,)


def other_tree(x: Any) -> Any:
    return [cubed(x)], lambda g: (g,)


def pulling(pullback: Callable[..., Any]) -> Callable[..., Any]:
    def rule(x: Any) -> Any:
        return cubed(x), pullback

    return rule


def bare(g: Any) -> Any:
    return g


def scalar(g: Any) -> Any:
    return (g.sum(),)


def narrow(g: Any) -> Any:
    return (g.astype(np.float32),)


def number(g: Any) -> Any:
    return (1.0,)


def text(g: Any) -> Any:
    return ("g",)


def nested(g: Any) -> Any:
    return ({"x": g},)


REFUSED: list[tuple[Callable[..., Any], type[Exception], str, str]] = [
    (no_pair, adjit.ArgumentError, "the vjp rule of cubed returns (value, pullback), not a traced array", "cubed(x)"),
    (no_function, adjit.ArgumentError, "and pullback is a traced array", "cubed(x), x"),
    (short, adjit.ShapeError, "gives value as f64[2], and the function gives f64[3]", "cubed(x)[:2], lambda"),
    (other_tree, adjit.ArgumentError, "a value of the structure [*], and the function *", "[cubed(x)], lambda"),
    (pulling(bare), adjit.ArgumentError, "not a tuple with a gradient, or None, for each argument: write (g,)", "g"),
    (pulling(scalar), adjit.ShapeError, "gives gradients[0] as f64[], and the argument is f64[3]", "(g.sum(),)"),
    (pulling(narrow), adjit.DTypeError, "gradients[0] as f32[3], and the argument is f64[3]: write .astype(np.float64)",
     "(g.astype(np.float32),)"),
    (pulling(number), adjit.ShapeError, "gradients[0] as a Python float, and the argument is f64[3]: None stands for "
     "zeros", "(1.0,)"),
    (pulling(text), adjit.ArgumentError, "gradients[0] as 'g', which is no array", "('g',)".replace("'", '"')),
    (pulling(nested), adjit.ArgumentError, "gradients of the structure ({'x': *},), and that of the argument is (*,)",
     '({"x": g},)'),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "kind", "message", "line"), REFUSED, ids=[row[2][:40] for row in REFUSED])
def test_errors_name_the_rule_the_leaf_and_the_return(
    rule: Callable[..., Any], kind: type[Exception], message: str, line: str
) -> None:
    f = adjit.custom_rule(cubed, vjp=rule)
    with pytest.raises(kind, match=re.escape(message)) as found:
        adjit.jit(f)(X)
    assert "test_custom_rule.py:" in str(found.value)
    assert f"return {line}" in str(found.value)


def test_errors_of_the_rule_of_forward_mode() -> None:
    def shapes(primals: Any, tangents: Any) -> Any:
        return cubed(*primals), tangents[0][:1]

    with pytest.raises(
        adjit.ShapeError, match=r"the jvp rule of cubed gives tangent as f64\[1\], and the value is f64"
    ):
        adjit.jit(adjit.custom_rule(cubed, jvp=shapes))(X)
    with pytest.raises(adjit.ArgumentError, match=r"returns \(value, tangent\), not None \(a return is missing\?\)"):
        adjit.jit(adjit.custom_rule(cubed, jvp=lambda primals, tangents: None))(X)


def test_rules_that_are_not_linear() -> None:
    squared = adjit.custom_rule(cubed, jvp=lambda p, t: (cubed(*p), t[0] ** 2))
    with pytest.raises(
        adjit.TraceError, match=r"test_custom_rule.*the jvp rule of cubed is not linear in its tangents"
    ):
        adjit.grad(lambda x: squared(x).sum())(X)
    other = adjit.custom_rule(cubed, vjp=lambda x: (cubed(x), lambda g: (g * g,)))
    with pytest.raises(adjit.TraceError, match="the vjp rule of cubed is not linear in its cotangents"):
        adjit.jvp(other, (X,), (X,))


def test_a_rule_that_calls_the_function_with_tangents_has_no_adjoint() -> None:
    def double(x: Any) -> Any:
        return 2.0 * x

    doubled = adjit.custom_rule(double, jvp=lambda p, t: (doubled(*p), doubled(*t)))
    assert adjit.jvp(doubled, (X,), (X,))[1].tolist() == (2 * X).tolist()
    with pytest.raises(adjit.TraceError, match=r"the rule of double calls double itself.*give both rules"):
        adjit.grad(lambda x: doubled(x).sum())(X)
    back = adjit.custom_rule(double, vjp=lambda x: (back(x), lambda g: (back(g),)))
    with pytest.raises(adjit.TraceError, match=r"the rule of double calls double itself.*give both rules"):
        adjit.jvp(back, (X,), (X,))


def test_rules_that_never_end() -> None:
    grown = adjit.custom_rule(lambda x: x.sum(), jvp=lambda p, t: (grown(np.concatenate([p[0], p[0]])), t[0].sum()))
    with pytest.raises(adjit.TraceError, match="rules call <lambda> 8 rules deep, with arguments of other types"):
        adjit.jit(grown)(X)


def test_check_grads_finds_rules_that_are_wrong() -> None:
    for f, mode in ((FORWARD, "fwd"), (REVERSE, "rev"), (BOTH, "fwd"), (BOTH, "rev")):
        with pytest.raises(adjit.DerivativeError):
            adjit.check_grads(f, (X,), order=1, modes=(mode,))


def test_arguments_that_are_no_rules() -> None:
    with pytest.raises(adjit.ArgumentError, match="give a rule, jvp= or vjp= or both"):
        adjit.custom_rule(cubed)
    with pytest.raises(adjit.ArgumentError, match="vjp is a function"):
        adjit.custom_rule(cubed, vjp=3)  # type: ignore[arg-type]
    with pytest.raises(adjit.ArgumentError, match="function is a function"):
        adjit.custom_rule(vjp=wrong_vjp)(3)
    with pytest.raises(adjit.ArgumentError, match="has no argument 'fwd': vjp, a function that returns"):
        adjit.custom_rule(cubed, fwd=wrong_vjp)  # type: ignore[call-arg]
    by_name = adjit.custom_rule(lambda x, *, k=1: x * k, vjp=lambda x: (x, lambda g: (g,)))
    with pytest.raises(adjit.ArgumentError, match="takes k by name alone"):
        adjit.jit(lambda x: by_name(x, k=2))(1.0)
    with pytest.raises(adjit.ArgumentError, match="cubed: missing a required argument"):
        adjit.jit(lambda x: BOTH())(1.0)
    with pytest.raises(adjit.TraceError, match="argument `x`"):
        adjit.jit(lambda x: adjit.custom_rule(lambda x: x.fill(0.0), vjp=wrong_vjp)(x + 1))(X)
