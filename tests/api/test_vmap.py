"""`vmap`: against a loop of Python, and composed with everything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import random
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph

RNG = np.random.default_rng(0)
W, B, X = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=(5, 3))


def affine(w: Any, x: Any) -> Any:
    return np.tanh(x @ w)


def looped(function: Callable[..., Any], in_axes: tuple[Any, ...], *args: Any) -> Any:
    """The stacked results of a loop of Python; `in_axes` has an axis or None for each argument."""
    size = next(np.shape(x)[axis] for x, axis in zip(args, in_axes, strict=True) if axis is not None)
    results = [
        function(*(x if axis is None else np.take(x, i, axis=axis) for x, axis in zip(args, in_axes, strict=True)))
        for i in range(size)
    ]
    return optree.tree_map(lambda *leaves: np.stack(leaves), *results)


def close(found: Any, wanted: Any) -> None:
    leaves, tree = optree.tree_flatten(found)
    others, expected = optree.tree_flatten(wanted)
    assert tree == expected
    for have, want in zip(leaves, others, strict=True):
        assert (np.asarray(have).dtype, np.shape(have)) == (np.asarray(want).dtype, np.shape(want))
        # Sums are taken in another order, and functions differ from libm's in the last bits.
        np.testing.assert_allclose(have, want, rtol=1e-5 if np.asarray(want).dtype == np.float32 else 1e-12, atol=1e-13)


def loops(graph: Graph) -> list[Any]:
    return [node for node in graph.nodes if node.op.name == "scan"]


# -- axes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_axes", [(None, 0), (None, -2), (0, None), (1, 0), (2, 1), (-1, -1)])
def test_each_axis(in_axes: tuple[Any, ...]) -> None:
    args = []
    for array, axis in zip((W, X[0]), in_axes, strict=True):
        args.append(array if axis is None else np.stack([array * (i + 1) for i in range(5)], axis=axis))
    close(adjit.vmap(affine, in_axes=in_axes)(*args), looped(affine, in_axes, *args))


@pytest.mark.parametrize("out_axes", [0, 1, 2, -1, -2, -3])
def test_each_axis_of_a_result(out_axes: int) -> None:
    found = adjit.vmap(lambda x: np.outer(x, x[:2]), out_axes=out_axes)(X)
    close(found, np.moveaxis(np.stack([np.outer(x, x[:2]) for x in X]), 0, out_axes))


def test_an_integer_is_for_all_arguments() -> None:
    close(adjit.vmap(np.multiply, in_axes=1)(X, X), np.stack([x * x for x in X.T]))


def test_axes_in_trees() -> None:
    def f(params: Any, x: Any) -> Any:
        return {"y": x @ params["w"] + params["b"], "sum": (np.sum(params["w"]), params["b"] * 2)}

    many = {"w": np.stack([W, 2 * W], axis=2), "b": B}
    mapped = adjit.vmap(f, in_axes=({"w": 2, "b": None}, None), out_axes={"y": 1, "sum": (0, None)})
    found = mapped(many, X)
    close(found["y"], np.stack([X @ W + B, X @ (2 * W) + B], axis=1))
    close(found["sum"], (np.array([np.sum(W), np.sum(2 * W)]), B * 2))
    # The upper part of a tree, and lists for tuples.
    close(adjit.vmap(lambda pair, x: pair["a"][0] + pair["a"][1] + x, in_axes=[{"a": 0}, None])({"a": (X, X)}, B[:3]),
          2 * X + B[:3])  # fmt: skip


@dataclass
class Layer:
    w: Any
    b: Any


def test_dataclasses_are_trees() -> None:
    layers = Layer(np.stack([W, -W]), np.stack([B, B]))
    mapped = adjit.vmap(lambda layer, x: x @ layer.w + layer.b, in_axes=(0, None))
    close(mapped(layers, X), np.stack([X @ W + B, -X @ W + B]))
    close(adjit.vmap(lambda layer, x: x @ layer.w + layer.b, in_axes=(Layer(0, None), None))(Layer(layers.w, B), X),
          np.stack([X @ W + B, -X @ W + B]))  # fmt: skip


def test_keyword_and_static_arguments() -> None:
    def f(x: Any, power: int, *, scale: Any) -> Any:
        return x**power * scale

    mapped = adjit.vmap(f, static_argnames="power")
    close(mapped(X, 2, scale=np.arange(5.0)), X**2 * np.arange(5.0)[:, None])
    close(mapped(X, power=3, scale=np.arange(5.0)), X**3 * np.arange(5.0)[:, None])
    close(adjit.vmap(f, in_axes=(1, None), static_argnums=1)(X, 2, scale=np.arange(3.0)), (X**2 * np.arange(3.0)).T)


@pytest.mark.parametrize("size", [0, 1])
def test_small_batches(size: int) -> None:
    found = adjit.vmap(affine, in_axes=(None, 0))(W, X[:size])
    assert found.shape == (size, 4)
    close(found, np.tanh(X[:size] @ W))


def test_results_that_are_the_same_for_all() -> None:
    found = adjit.vmap(lambda x: (1.5, B, x), out_axes=(0, 1, 0))(X)
    close(found, (np.full(5, 1.5), np.stack([B] * 5, axis=1), X))
    close(adjit.vmap(lambda x: (np.sum(B), x), out_axes=(None, 0))(X), (np.sum(B), X))


def test_dtypes_are_those_of_a_loop() -> None:
    def f(x: Any) -> Any:
        return x * 2, np.sum(x), x[0], x.astype(np.float32) / 3

    for dtype in (np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_):
        x = (np.arange(6).reshape(3, 2) % 2).astype(dtype)
        close(adjit.vmap(f)(x), looped(f, (0,), x))
    # Of these there is data, and no arithmetic.
    for dtype in (np.float16, np.int16):
        x = np.arange(6).reshape(3, 2).astype(dtype)
        close(adjit.vmap(lambda x: x.astype(np.float32) / 3)(x), x.astype(np.float32) / 3)


# -- composed -------------------------------------------------------------------------------------------------------


def loss(params: Any, x: Any, y: Any) -> Any:
    hidden = np.maximum(x @ params["w1"] + params["b1"], 0)
    logits = np.tanh(hidden) @ params["w2"] + params["b2"]
    shifted = logits - np.max(logits)
    return np.log(np.sum(np.exp(shifted))) - shifted[y]


def network(seed: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    params = {"w1": rng.normal(size=(6, 8)), "b1": rng.normal(size=8), "w2": rng.normal(size=(8, 3)), "b2": np.zeros(3)}
    return params, rng.normal(size=(7, 6)), rng.integers(0, 3, 7)


def test_gradients_of_each_example() -> None:
    params, x, y = network()
    found = adjit.vmap(adjit.grad(loss), in_axes=(None, 0, 0))(params, x, y)
    single = adjit.grad(loss)
    rows = [single(params, x[i], int(y[i])) for i in range(7)]
    close(found, optree.tree_map(lambda *leaves: np.stack(leaves), *rows))
    value, gradients = adjit.vmap(adjit.value_and_grad(loss), in_axes=(None, 0, 0))(params, x, y)
    close(value, np.array([adjit.jit(loss)(params, x[i], int(y[i])) for i in range(7)]))
    close(gradients, found)


def test_a_gradient_of_a_batch_is_the_sum_of_those_of_each() -> None:
    params, x, y = network()
    whole = adjit.grad(lambda p: np.sum(adjit.vmap(loss, in_axes=(None, 0, 0))(p, x, y)))(params)
    each = adjit.vmap(adjit.grad(loss), in_axes=(None, 0, 0))(params, x, y)
    close(whole, optree.tree_map(lambda g: np.sum(g, axis=0), each))


def test_second_derivatives() -> None:
    cube = adjit.vmap(adjit.grad(adjit.grad(lambda x: np.sin(x) * x**2)))
    x = np.linspace(-1, 1, 7)
    close(cube(x), (2 - x**2) * np.sin(x) + 4 * x * np.cos(x))
    # A Hessian: the gradient of each element of the gradient.
    quadratic = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])
    slope = adjit.grad(lambda x: np.sum(x @ quadratic @ x) / 2)
    rows = adjit.vmap(lambda e, x: adjit.grad(lambda x: np.sum(slope(x) * e))(x), in_axes=(0, None))
    close(rows(np.eye(3), X[0]), quadratic)


def test_nested() -> None:
    pairs = adjit.vmap(adjit.vmap(lambda x, y: np.sum((x - y) ** 2), in_axes=(None, 0)), in_axes=(0, None))
    found = pairs(X, 2 * X[:4])
    close(found, np.sum((X[:, None] - 2 * X[None, :4]) ** 2, axis=-1))
    # With the inner batch made of the outer one's value, and other axes.
    found = adjit.vmap(lambda m: adjit.vmap(lambda column, k: column * k, in_axes=(1, 0), out_axes=1)(m, m[0]))(
        np.stack([W, W + 1])
    )
    close(found, np.stack([m * m[0] for m in (W, W + 1)]))


def test_inside_of_jit_and_with_what_it_closes_over() -> None:
    @adjit.jit
    def f(w: Any, x: Any) -> Any:
        half = w / 2
        return adjit.vmap(lambda row: np.sum(row @ half) + adjit.jit(np.max)(row))(x)

    close(f(W, X), np.sum(X @ W / 2, axis=1) + np.max(X, axis=1))
    close(adjit.vmap(adjit.jit(affine), in_axes=(None, 0))(W, X), np.tanh(X @ W))


def test_a_training_step() -> None:
    params, x, y = network()

    def mean(params: Any, x: Any, y: Any) -> Any:
        return np.mean(adjit.vmap(loss, in_axes=(None, 0, 0))(params, x, y))

    def by_hand(params: Any, x: Any, y: Any) -> Any:
        hidden = np.tanh(np.maximum(x @ params["w1"] + params["b1"], 0))
        logits = hidden @ params["w2"] + params["b2"]
        shifted = logits - np.max(logits, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - shifted[np.arange(7), y])

    trained = []
    for function in (mean, by_hand):
        step = adjit.training_step(function, adjit.optim.sgd(0.1))
        state = step.init(params)
        losses = [float(step(state, x, y)) for _ in range(5)]
        trained.append((np.array(losses), optree.tree_map(np.array, dict(state.params))))
    close(*trained)


def test_in_place_code_and_indices() -> None:
    def f(x: Any, i: Any) -> Any:
        out = np.zeros(4)
        out[i] = x[i]
        out[1:3] += x[:2]
        x = x.copy()
        x[-1] = out[i]
        return out, x, x[[i, 0]], np.argmax(x), np.cumsum(x)

    x, i = RNG.normal(size=(6, 4)), np.array([0, 3, 1, -1, 2, 2])
    for axes in ((0, 0), (None, 0), (0, None)):
        args = [array if axis == 0 else array[0] for array, axis in zip((x, i), axes, strict=True)]
        close(adjit.vmap(f, in_axes=axes)(*args), looped(f, axes, *args))
    with pytest.raises(adjit.IndexOutOfRange, match="index 4 is out of bounds for axis 0 with size 4"):
        adjit.vmap(f)(x, np.array([0, 3, 1, 4, 2, 2]))


def test_random_numbers_are_those_of_the_keys() -> None:
    keys = np.array(random.split(random.key(3), 4))
    found = adjit.vmap(lambda key: random.uniform(key, (5,)))(keys)
    np.testing.assert_array_equal(found, np.stack([random.uniform(key, (5,)) for key in keys]))
    shared = adjit.vmap(lambda key, x: random.uniform(key, (2,)) + x, in_axes=(None, 0))(keys[0], np.zeros(3, "f"))
    np.testing.assert_array_equal(shared, np.stack([random.uniform(keys[0], (2,))] * 3))


def test_linear_algebra() -> None:
    a = RNG.normal(size=(4, 3, 3)) + 4 * np.eye(3)
    b = RNG.normal(size=(4, 3))
    close(adjit.vmap(lambda a, b: np.einsum("ij,j->i", a, b))(a, b), np.einsum("nij,nj->ni", a, b))
    close(adjit.vmap(lambda a: (np.trace(a), a.T @ a, np.diag(a)))(a),
          looped(lambda a: (np.trace(a), a.T @ a, np.diag(a)), (0,), a))  # fmt: skip


def test_as_a_decorator_and_a_method() -> None:
    @adjit.vmap(in_axes=(None, 0))
    def f(k: Any, x: Any) -> Any:
        """Doc."""
        return k * x

    assert (f.__name__, f.__doc__) == ("f", "Doc.")
    close(f(2.0, X), 2 * X)
    assert f.signatures() == ["k: f64[]~, x: f64[5,3]"]
    assert str(f.ir("trace").outputs[0].type) == "f64[3]"
    assert str(f.ir("batch").outputs[0].type) == "f64[5,3]"


# -- chunks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_chunks(chunk: int) -> None:
    params, x, y = network()
    found = adjit.vmap(loss, in_axes=(None, 0, 0), chunk=chunk)(params, x, y)
    close(found, adjit.vmap(loss, in_axes=(None, 0, 0))(params, x, y))
    gradients = adjit.vmap(adjit.grad(loss), in_axes=(None, 0, 0), chunk=chunk)
    close(gradients(params, x, y), adjit.vmap(adjit.grad(loss), in_axes=(None, 0, 0))(params, x, y))
    assert len(loops(gradients.ir("batch"))) == (chunk < 7)


def test_chunks_of_other_axes_and_shared_results() -> None:
    mapped = adjit.vmap(lambda x, w: (x @ w, np.sum(w)), in_axes=(1, None), out_axes=(1, None), chunk=2)
    close(mapped(X.T, W), ((X @ W).T, np.sum(W)))


def test_a_chunk_bounds_what_is_computed_at_once() -> None:
    mapped = adjit.vmap(lambda x: np.sum(np.tanh(np.outer(x, x))), chunk=2)
    x = RNG.normal(size=(8, 100))
    close(mapped(x), np.array([np.sum(np.tanh(np.outer(row, row))) for row in x]))
    (loop,) = loops(mapped.ir("batch"))
    assert max(node.array_type.size for node in loop.attrs["body"].nodes) == 2 * 100 * 100
    found = evaluate(mapped.ir("batch"), x)
    close(found[0], mapped(x))


# -- errors ---------------------------------------------------------------------------------------------------------


def test_sizes_agree() -> None:
    message = (
        "vmap: affine was called with 3 values of w, along axis 0, and 5 of x, along axis 0: a batch is of one size"
    )
    with pytest.raises(adjit.ShapeError, match=re.escape(message)):
        adjit.vmap(affine)(W, X)
    message = "vmap: f was called with 5 values of tree.a, along axis 0, and 3 of tree.b.0, along axis 1"

    def f(tree: Any) -> Any:
        return tree["a"]

    with pytest.raises(adjit.ShapeError, match=re.escape(message)):
        adjit.vmap(f, in_axes=({"a": 0, "b": [1]},))({"a": X, "b": [X]})


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"in_axes": None}, adjit.ArgumentError, "no argument of affine has a batch (in_axes=None)"),
    ({"in_axes": (None, None)}, adjit.ArgumentError, "no argument of affine has a batch (in_axes=(None, None))"),
    ({"in_axes": (None,)}, adjit.ArgumentError, "in_axes is (None,), with an entry for each positional argument, and"),
    ({"in_axes": (None, 2)}, adjit.ShapeError, "x of affine is f64[5,3], which has no axis 2"),
    ({"in_axes": (None, -3)}, adjit.ShapeError, "x of affine is f64[5,3], which has no axis -3"),
    ({"in_axes": (None, True)}, adjit.ArgumentError, "in_axes has True, where an axis is an integer, or None"),
    ({"in_axes": (None, 0.5)}, adjit.ArgumentError, "in_axes has 0.5, where an axis is an integer, or None"),
    ({"out_axes": {"a": "b"}}, adjit.ArgumentError, "out_axes has 'b', where an axis is an integer, or None"),
    ({"in_axes": (None, (0, 1))}, adjit.ArgumentError, "does not fit argument 1 of affine, which is *: give one axis"),
    ({"in_axes": {"x": 0}}, adjit.ArgumentError, "in_axes is an integer, or a tuple with an entry for each position"),
    ({"in_axes": "x"}, adjit.ArgumentError, "in_axes has 'x', where an axis is an integer, or None"),
    ({"in_axes": (None, 0), "out_axes": None}, adjit.ArgumentError, "out_axes is None for the result of affine, which"),
    ({"in_axes": (None, 0), "out_axes": 2}, adjit.ShapeError, "the result of affine is f64[4] for each value of the"),
    ({"in_axes": (None, 0), "out_axes": (0, 0)}, adjit.ArgumentError, "out_axes is (0, 0), which does not fit the re"),
    ({"chunk": 0}, adjit.ArgumentError, "vmap: chunk"),
    ({"chunk": 2.5}, adjit.ArgumentError, "vmap: chunk"),
    ({"in_dims": 0}, adjit.ArgumentError, "it is 'in_axes' here"),
    ({"chunk_size": 3}, adjit.ArgumentError, "it is 'chunk' here"),
]


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_refused(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        adjit.vmap(affine, **given)(W, X)


def test_a_number_has_no_axis() -> None:
    def f(x: Any, k: Any) -> Any:
        return x * k

    with pytest.raises(adjit.ShapeError, match="k of f is a number, and is mapped along axis 0: give in_axes=None"):
        adjit.vmap(f)(X, 2.0)
    with pytest.raises(adjit.ShapeError, match=r"k of f is f64\[\], without axes"):
        adjit.vmap(f)(X, k=np.float64(2))


def test_errors_inside_have_the_line() -> None:
    def f(x: Any) -> Any:
        return x @ np.ones(4)

    with pytest.raises(adjit.ShapeError, match=r"test_vmap\.py:\d+: matmul: inner dimensions differ"):
        adjit.vmap(f)(X)


# -- loops ----------------------------------------------------------------------------------------------------------


def recursion(w: Any, xs: Any) -> Any:
    def turn(h: Any, x: Any) -> tuple[Any, Any]:
        h = np.tanh(w @ h + x)
        return h, np.sum(h)

    return adjit.scan(turn, np.zeros(3), xs)


def test_a_batch_of_loops() -> None:
    w, xs = RNG.normal(size=(2, 3, 3)), RNG.normal(size=(2, 6, 3))
    for axes in ((None, 0), (0, None), (0, 0), (2, 1)):
        args = [
            array[0] if axis is None else np.moveaxis(array, 0, axis) for array, axis in zip((w, xs), axes, strict=True)
        ]
        mapped = adjit.vmap(recursion, in_axes=axes)
        close(mapped(*args), looped(recursion, axes, *args))
        assert len(loops(mapped.ir("batch"))) == 1


def test_a_loop_of_batches() -> None:
    xs = RNG.normal(size=(4, 5, 3))

    @adjit.jit
    def f(w: Any, xs: Any) -> Any:
        def turn(total: Any, rows: Any) -> tuple[Any, Any]:
            each = adjit.vmap(lambda row: np.sum(np.tanh(w @ row)) + total[0])(rows)
            return total + np.sum(each), each

        return adjit.scan(turn, np.zeros(2), xs)

    w = RNG.normal(size=(3, 3))
    total, stacked = np.zeros(2), []
    for rows in xs:
        stacked.append(np.sum(np.tanh(rows @ w.T), axis=1) + total[0])
        total = total + np.sum(stacked[-1])
    close(f(w, xs), (total, np.stack(stacked)))


def test_a_batch_of_counted_loops_in_place() -> None:
    def body(i: Any, x: Any) -> Any:
        x[i] = x[i - 1] * 0.5 + x[i]
        return x

    x = RNG.normal(size=(4, 7))
    close(
        adjit.vmap(lambda row: adjit.fori_loop(1, 7, body, row))(x),
        np.stack([adjit.fori_loop(1, 7, body, r.copy()) for r in x]),
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_a_gradient_of_chunks(chunk: int) -> None:
    params, x, y = network()

    def total(chunk: int | None) -> Any:
        mapped = adjit.vmap(loss, in_axes=(None, 0, 0), chunk=chunk)
        return adjit.grad(lambda params: np.sum(mapped(params, x, y)))(params)

    close(total(chunk), total(None))


def test_gradients_of_loops_of_a_batch() -> None:
    w, xs = RNG.normal(size=(3, 3)), RNG.normal(size=(4, 6, 3))

    def last(w: Any, xs: Any) -> Any:
        return np.sum(recursion(w, xs)[0])

    each = adjit.vmap(adjit.grad(last), in_axes=(None, 0))(w, xs)
    close(each, np.stack([adjit.grad(last)(w, row) for row in xs]))
    close(adjit.grad(lambda w: np.sum(adjit.vmap(last, in_axes=(None, 0))(w, xs)))(w), np.sum(each, axis=0))


def test_chunks_in_chunks_of_a_second_derivative() -> None:
    def f(x: Any, k: Any) -> Any:
        return np.sum(np.sin(x * k) * x)

    def curvature(x: Any, k: Any) -> Any:
        slope = adjit.grad(f)
        return adjit.vmap(lambda e: adjit.grad(lambda x: np.sum(slope(x, k) * e))(x), chunk=2)(np.eye(3))

    ks = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
    found = adjit.vmap(adjit.vmap(curvature, in_axes=(None, 0), chunk=2), in_axes=(0, None), chunk=3)(X[:4], ks)
    u = X[:4, None] * ks[None, :, None]
    diagonal = 2 * ks[None, :, None] * np.cos(u) - ks[None, :, None] ** 2 * X[:4, None] * np.sin(u)
    close(found, diagonal[..., None] * np.eye(3))


def test_a_function_without_results() -> None:
    assert adjit.vmap(lambda x: {}, chunk=2)(X) == {}
