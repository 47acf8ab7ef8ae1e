"""Recurrent layers against loops in NumPy: all lengths, orders and batches, second derivatives, refusals.

Values and gradients of every argument are in `test_against_torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from tests.nn.derivatives import run_trees
from tests.trace.check import floats

States = tuple[np.ndarray, ...]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def rnn_turn(params: Any, x: np.ndarray, states: States) -> States:
    return (np.tanh(x @ params["input"]["w"] + params["input"]["b"] + states[0] @ params["hidden"]["w"]),)


def gru_turn(params: Any, x: np.ndarray, states: States) -> States:
    (h,) = states
    r, z, n = np.split(x @ params["input"]["w"] + params["input"]["b"], 3, axis=-1)
    own = np.split(h @ params["hidden"]["w"] + params["hidden"]["b"], 3, axis=-1)
    z = sigmoid(z + own[1])
    return ((1 - z) * np.tanh(n + sigmoid(r + own[0]) * own[2]) + z * h,)


def lstm_turn(params: Any, x: np.ndarray, states: States) -> States:
    h, c = states
    total = x @ params["input"]["w"] + params["input"]["b"] + h @ params["hidden"]["w"]
    i, f, g, o = np.split(total, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


LAYERS: dict[str, tuple[Any, Any, int, Any]] = {
    "rnn": (nn.rnn, nn.init.rnn, 1, rnn_turn),
    "gru": (nn.gru, nn.init.gru, 1, gru_turn),
    "lstm": (nn.lstm, nn.init.lstm, 2, lstm_turn),
}
every = pytest.mark.parametrize("name", LAYERS)


def made(name: str, dtype: Any = np.float64) -> Any:
    """Parameters of 2 inputs and 3 features, whose biases are no zeros."""
    params = LAYERS[name][1](2, 3, key=0, dtype=dtype)
    for i, layer in enumerate(params.values()):
        if "b" in layer:
            layer["b"] = floats(*layer["b"].shape, dtype=dtype, seed=i)
    return params


def by_loops(
    name: str, params: Any, x: np.ndarray, states: States, lengths: Any = None, reverse: bool = False
) -> tuple[np.ndarray, States]:
    """One sequence (time, inputs) at a time."""
    turn = LAYERS[name][3]
    outputs = np.zeros((*x.shape[:2], 3))
    last = tuple(s.copy() for s in states)
    for row in range(x.shape[1]):
        mine = tuple(s[row] for s in states)
        times = range(len(x) if lengths is None else lengths[row])
        for t in reversed(times) if reverse else times:
            mine = turn(params, x[t, row], mine)
            outputs[t, row] = mine[0]
        for whole, own in zip(last, mine, strict=True):
            whole[row] = own
    return outputs, last


def starts(name: str, batch: int, seed: int = 4) -> States:
    return tuple(floats(batch, 3, dtype=np.float64, seed=seed + i) for i in range(LAYERS[name][2]))


def given(states: States) -> Any:
    return states if len(states) == 2 else states[0]


@every
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_lengths_and_orders(name: str, reverse: bool, lengths: Any) -> None:
    layer, params, x, states = LAYERS[name][0], made(name), floats(4, 3, 2, dtype=np.float64), starts(name, 3)
    expected, last = by_loops(name, params, x, states, lengths, reverse)
    sizes = () if lengths is None else (np.array(lengths),)

    def whole(p: Any, x: Any, h: Any, *n: Any) -> Any:
        return layer(p, x, h, reverse=reverse, lengths=n[0] if n else None)

    outputs, after = run_trees(whole, params, x, given(states), *sizes)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11, atol=1e-13)
    for have, want in zip(after if name == "lstm" else (after,), last, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-13)
    swapped, _ = layer(params, np.swapaxes(x, 0, 1), given(states), batch_first=True, reverse=reverse, lengths=lengths)
    np.testing.assert_allclose(np.swapaxes(swapped, 0, 1), expected, rtol=1e-11, atol=1e-13)


@every
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,)])
@pytest.mark.parametrize("time", [0, 1, 3])
def test_batches_and_times(name: str, batch: tuple[int, ...], time: int) -> None:
    layer, params, x = LAYERS[name][0], made(name, np.float32), floats(time, *batch, 2)
    outputs, last = layer(params, x)
    assert (outputs.dtype, outputs.shape) == (np.float32, (time, *batch, 3))
    states = tuple(np.zeros((int(np.prod(batch)), 3)) for _ in range(LAYERS[name][2]))
    flat = x.reshape(time, -1, 2) if x.size else np.zeros((time, int(np.prod(batch)), 2))
    expected, after = by_loops(name, params, flat, states)
    np.testing.assert_allclose(outputs, expected.reshape(outputs.shape), rtol=1e-4, atol=1e-6)
    for have, want in zip(last if name == "lstm" else (last,), after, strict=True):
        assert have.dtype == np.float32
        np.testing.assert_allclose(have, want.reshape(*batch, 3), rtol=1e-4, atol=1e-6)
    compiled, _ = adjit.jit(layer)(params, x)
    np.testing.assert_allclose(compiled, outputs, rtol=1e-4, atol=1e-6)


@every
def test_second_derivatives(name: str) -> None:
    layer, params = LAYERS[name][0], made(name)
    adjit.check_grads(lambda p, x: layer(p, x)[0], (params, floats(2, 1, 2, dtype=np.float64)), modes="rev")


@every
def test_batches_by_vmap(name: str) -> None:
    layer, params = LAYERS[name][0], made(name)
    x = floats(5, 3, 2, dtype=np.float64)
    found = adjit.vmap(lambda x: layer(params, x)[0], in_axes=1, out_axes=1)(x)
    np.testing.assert_allclose(found, layer(params, x)[0], rtol=1e-11)


def test_another_activation_and_no_bias() -> None:
    params = nn.init.rnn(2, 3, bias=False, key=0, dtype=np.float64)
    x = floats(4, 1, 2, dtype=np.float64)
    h = np.zeros((1, 3))
    for row in x:
        h = np.maximum(row @ params["input"]["w"] + h @ params["hidden"]["w"], 0)
    np.testing.assert_allclose(nn.rnn(params, x, activation=nn.relu)[1], h, rtol=1e-12)


def test_a_sequence_goes_on_where_it_stopped() -> None:
    params, x = made("lstm"), floats(5, 2, 2, dtype=np.float64)
    whole, end = nn.lstm(params, x)
    first, state = nn.lstm(params, x[:2])
    rest, last = nn.lstm(params, x[2:], state)
    np.testing.assert_allclose(np.concatenate([first, rest]), whole, rtol=1e-12)
    for have, want in zip(last, end, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12)


PARAMS, X = nn.init.lstm(2, 3, key=0), floats(4, 3, 2)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.lstm(PARAMS, X[..., :1]), ShapeError, "has not 2 inputs along its last axis"),
    (lambda: nn.lstm(PARAMS, X[0, 0]), ShapeError, r"x is \(time, batch, inputs\), not of shape \(2,\)"),
    (lambda: nn.lstm(PARAMS, X, np.zeros((3, 3))), ArgumentError, r"state is a pair \(h, c\)"),
    (lambda: nn.lstm(PARAMS, X, (np.zeros((3, 3)), np.zeros(3))), ShapeError, r"state has the shape \(3,\)"),
    (lambda: nn.gru(PARAMS, X), ShapeError, r"\(features, 3 \* features\), not of shape \(3, 12\)"),
    (lambda: nn.rnn(PARAMS, X), ShapeError, r"\(features, features\), not of shape \(3, 12\)"),
    (lambda: nn.lstm({"input": PARAMS["input"]}, X), ArgumentError, "params has no 'hidden'"),
    (
        lambda: nn.lstm({**PARAMS, "input": nn.init.dense(2, 5, key=0)}, X),
        ShapeError, r"params\['input'\]\['w'\] is \(inputs, 12\), not of shape \(2, 5\)",
    ),
    (lambda: nn.lstm(PARAMS, X, lengths=[1, 5, 2]), IndexOutOfRange, "lengths: a length 5 is out of bounds"),
    (lambda: nn.lstm(PARAMS, X, lengths=[1, -1, 2]), IndexOutOfRange, "lengths"),
    (lambda: nn.lstm(PARAMS, X, lengths=[1, 2]), ShapeError, "one for each sequence of the batch"),
    (lambda: nn.lstm(PARAMS, X, lengths=[1.0, 2.0, 3.0]), DTypeError, "lengths are integers"),
    (
        lambda: nn.rnn(nn.init.rnn(2, 3, key=0), X, activation=lambda x: x[:1]),
        ShapeError, "what activation gives has the shape",
    ),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
