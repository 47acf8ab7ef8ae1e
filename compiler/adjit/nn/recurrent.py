"""Recurrent layers: `rnn`, `gru`, `lstm`, each one loop over time.

The products of the inputs with their weights are one product for all times, ahead of the loop; a turn has one product,
of the state, for all gates. So the gradients of both weights are sums over turns that the compiler takes together.

    x             (time, batch, inputs), with `batch_first` (batch, time, inputs); there may be any number of axes of a
                  batch, also none
    state         what the loop starts from: (batch, features), for `lstm` a pair of such; None: zeros
    reverse       from the last time to the first; outputs stand where their inputs do
    lengths       (batch,) integers: how much of the time each sequence has. What comes after leaves the state as it is,
                  and the outputs there are 0; with `reverse` a sequence starts at its own end
    params        {"input": {"w": (inputs, gates * features), "b"}, "hidden": {"w": (features, gates * features), "b"}};
                  each "b" may be left out. Gates stand in PyTorch's order
    returns       (outputs, last state): the state of each time, as x (the h of an LSTM), and that after the last one
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.control import scan
from adjit.nn.activations import sigmoid, tanh
from adjit.nn.dense import affine
from adjit.nn.operands import dtype_of, numbers, of_shape, parameters, positions, same_shape
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "input": "x", "inputs": "x", "hx": "state", "h_0": "state", "h0": "state", "initial_state": "state",
    "initial_carry": "state", "initial_h": "state", "time_major": "batch_first, which is the opposite",
    "go_backwards": "reverse", "seq_lengths": "lengths", "sequence_length": "lengths", "sequence_lengths": "lengths",
    "nonlinearity": "activation", "hidden_size": "the sizes are those of params", "return_sequences": "it returns both",
    "bidirectional": "call it twice, once with reverse=True, and join the outputs",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def rnn(
    params: Any,
    x: Any,
    state: Any = None,
    *,
    activation: Callable[[Any], Any] = tanh,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
) -> tuple[Any, Any]:
    """h = activation(x W + b + h U + c) over time: (outputs, the last h).

    Arguments, shapes and results are those of this module (one gate); `nn.init.rnn` makes params. Raises ArgumentError
    for params of other names, ShapeError where shapes do not fit, and IndexOutOfRange for lengths beyond the time.
    Source: Elman 1990.

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> outputs, h = nn.rnn(nn.init.rnn(3, 4, key=random.key(0)), np.ones((5, 2, 3), np.float32))
    >>> outputs.shape, h.shape
    ((5, 2, 4), (2, 4))
    """
    checks.function("rnn: activation", activation)

    def turn(h: tuple[Any, ...], product: Any, recur: Callable[[Any], Any]) -> tuple[Any, ...]:
        total = product + recur(h[0])
        return (same_shape("rnn: what activation gives", activation(total), total),)

    outputs, (h,) = _run("rnn", 1, turn, params, x, _states("rnn", state, 1), batch_first, reverse, lengths)
    return outputs, h


@public(_KNOWN)
def gru(
    params: Any,
    x: Any,
    state: Any = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
) -> tuple[Any, Any]:
    """Gated recurrent units over time: (outputs, the last h).

    r, z = sigmoid(x W + b + h U + c), n = tanh(x W + b + r (h U + c)), h = (1 - z) n + z h, each with its third of the
    columns of W and U (in the order r, z, n). Arguments, shapes and results are those of this module (three gates);
    `nn.init.gru` makes params. Raises ArgumentError for params of other names, ShapeError where shapes do not fit, and
    IndexOutOfRange for lengths beyond the time. Source: Cho et al. 2014, in the form of PyTorch and cuDNN.

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> outputs, h = nn.gru(nn.init.gru(3, 4, key=random.key(0)), np.ones((5, 2, 3), np.float32))
    >>> outputs.shape, h.shape
    ((5, 2, 4), (2, 4))
    """

    def turn(h: tuple[Any, ...], product: Any, recur: Callable[[Any], Any]) -> tuple[Any, ...]:
        own = recur(h[0])
        size = np.shape(own)[-1] // 3
        r = sigmoid(product[..., :size] + own[..., :size])
        z = sigmoid(product[..., size : 2 * size] + own[..., size : 2 * size])
        n = tanh(product[..., 2 * size :] + r * own[..., 2 * size :])
        return ((1.0 - z) * n + z * h[0],)

    outputs, (h,) = _run("gru", 3, turn, params, x, _states("gru", state, 1), batch_first, reverse, lengths)
    return outputs, h


@public(_KNOWN)
def lstm(
    params: Any,
    x: Any,
    state: Any = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
) -> tuple[Any, tuple[Any, Any]]:
    """Long short-term memory over time: (outputs, (the last h, the last c)).

    i, f, o = sigmoid(x W + b + h U + c'), g = tanh(x W + b + h U + c'), c = f c + i g, h = o tanh(c), each with its
    fourth of the columns of W and U (in the order i, f, g, o). Arguments, shapes and results are those of this module
    (four gates); `state` is a pair (h, c), and `nn.init.lstm` makes params. Raises ArgumentError for params of other
    names, ShapeError where shapes do not fit, and IndexOutOfRange for lengths beyond the time. Source: Hochreiter,
    Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000 for f.

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> outputs, (h, c) = nn.lstm(nn.init.lstm(3, 4, key=random.key(0)), np.ones((5, 2, 3), np.float32))
    >>> outputs.shape, h.shape, c.shape
    ((5, 2, 4), (2, 4), (2, 4))
    """

    def turn(carry: tuple[Any, ...], product: Any, recur: Callable[[Any], Any]) -> tuple[Any, ...]:
        h, c = carry
        gates = product + recur(h)
        size = np.shape(gates)[-1] // 4
        i, f = sigmoid(gates[..., :size]), sigmoid(gates[..., size : 2 * size])
        g, o = tanh(gates[..., 2 * size : 3 * size]), sigmoid(gates[..., 3 * size :])
        c = f * c + i * g
        return o * tanh(c), c

    outputs, (h, c) = _run("lstm", 4, turn, params, x, _states("lstm", state, 2), batch_first, reverse, lengths)
    return outputs, (h, c)


Turn = Callable[[tuple[Any, ...], Any, Callable[[Any], Any]], tuple[Any, ...]]
"""The states before a turn, the product of its inputs, and the product of a state: the states after it, h first."""


def _run(
    name: str,
    gates: int,
    turn: Turn,
    params: Any,
    x: Any,
    states: tuple[Any, ...],
    batch_first: bool,
    reverse: bool,
    lengths: Any,
) -> tuple[Any, tuple[Any, ...]]:
    found = parameters(f"{name}: params", params, ("input", "hidden"))
    x = numbers(f"{name}: x", x)
    if np.ndim(x) < 2:
        raise ShapeError(f"{name}: x is (time, batch, inputs), not of shape {np.shape(x)}")
    axis = np.ndim(x) - 2 if checks.flag(f"{name}: batch_first", batch_first) else 0
    x = np.moveaxis(x, axis, 0)
    time, batch = np.shape(x)[0], np.shape(x)[1:-1]
    size = _features(name, found["hidden"], gates)
    products = affine(name, "params['input']", found["input"], x, outputs=gates * size)

    def recur(h: Any) -> Any:
        return affine(name, "params['hidden']", found["hidden"], h, "state")

    start = _starts(name, states, (*batch, size), np.result_type(dtype_of(products), dtype_of(found["hidden"]["w"])))
    ends = None if lengths is None else _ends(name, lengths, batch, time)

    def step(carry: tuple[Any, ...], element: tuple[Any, Any]) -> tuple[tuple[Any, ...], Any]:
        product, i = element
        after = turn(carry, product, recur)
        if ends is None:
            return after, after[0]
        runs = i < ends
        after = tuple(np.where(runs, new, old) for new, old in zip(after, carry, strict=True))
        return after, np.where(runs, after[0], 0.0)

    backward = checks.flag(f"{name}: reverse", reverse)
    last, outputs = scan(step, start, (products, np.arange(time)), reverse=backward)
    return np.moveaxis(outputs, 0, axis), last


def _features(name: str, hidden: Any, gates: int) -> int:
    """The number of features of the state, which the product of the state has `gates` times."""
    w = parameters(f"{name}: params['hidden']", hidden, ("w",), ("b",))["w"]
    shape = np.shape(numbers(f"{name}: params['hidden']['w']", w))
    if len(shape) != 2 or shape[1] != gates * shape[0]:
        times = f"{gates} * " if gates > 1 else ""
        raise ShapeError(f"{name}: params['hidden']['w'] is (features, {times}features), not of shape {shape}")
    return int(shape[0])


def _states(name: str, state: Any, count: int) -> tuple[Any, ...]:
    if state is None:
        return (None,) * count
    if count == 1:
        return (state,)
    if not isinstance(state, tuple | list) or len(state) != count:
        raise ArgumentError(f"{name}: state is a pair (h, c), not {checks.shown(state)}")
    return tuple(state)


def _starts(name: str, states: tuple[Any, ...], shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, ...]:
    """The states ahead of the first turn, in the dtype that all have after it."""
    why = "the axes of a batch, and the features"
    given = [
        None if h is None else of_shape(f"{name}: state", numbers(f"{name}: state", h), shape, why) for h in states
    ]
    dtype = np.result_type(dtype, *(dtype_of(h) for h in given if h is not None))
    return tuple(np.zeros(shape, dtype) if h is None else h.astype(dtype) for h in given)


def _ends(name: str, lengths: Any, batch: tuple[int, ...], time: int) -> Any:
    found = positions(f"{name}: lengths", lengths, time + 1, 0, "a length")
    return np.expand_dims(of_shape(f"{name}: lengths", found, batch, "one for each sequence of the batch"), -1)
