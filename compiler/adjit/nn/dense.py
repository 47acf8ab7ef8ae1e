"""Layers of one product or one lookup, and what connects them: `dense`, `embedding`, `residual`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.nn.operands import numbers, of_shape, operand, parameters, positions
from adjit.trace import apply, is_tracer, mark_table
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "input": "x", "inputs": "x", "weight": "params is a dict with 'w' and 'b'",
    "bias": "params is a dict with 'w' and 'b'",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def dense(params: Any, x: Any) -> Any:
    """x @ w + b: a linear layer, also called fully connected.

    params  {"w": (inputs, outputs), "b": (outputs,)}, as `nn.init.dense` makes them; "b" may be left out
    x       (..., inputs)
    Returns (..., outputs), of the dtype that both have together

    Raises ArgumentError for params of other names and ShapeError where shapes do not fit.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.dense({"w": np.array([[1.0], [2.0]]), "b": np.array([0.5])}, np.array([[3.0, 4.0]])).tolist()
    [[11.5]]
    """
    return affine("dense", "params", params, operand("dense: x", x))


def affine(name: str, where: str, params: Any, x: Any, of: str = "x", outputs: int | None = None) -> Any:
    """`dense` as a part of another layer, whose errors say where its parameters are; `outputs` is what it must give."""
    found = parameters(f"{name}: {where}", params, ("w",), ("b",))
    w = numbers(f"{name}: {where}['w']", found["w"])
    if np.ndim(w) != 2 or (outputs is not None and np.shape(w)[1] != outputs):
        right = "outputs" if outputs is None else outputs
        raise ShapeError(f"{name}: {where}['w'] is (inputs, {right}), not of shape {np.shape(w)}")
    if np.ndim(x) == 0 or np.shape(x)[-1] != np.shape(w)[0]:
        raise ShapeError(f"{name}: {of} of shape {np.shape(x)} has not {np.shape(w)[0]} inputs along its last axis")
    y = x @ w
    if found["b"] is None:
        return y
    return y + of_shape(f"{name}: {where}['b']", found["b"], np.shape(w)[1:], f"w has the shape {np.shape(w)}")


@public({"params": "table", "weight": "table", "input": "ids", "x": "ids", "indices": "ids"})
def embedding(table: Any, ids: Any, sparse: bool = False) -> Any:
    """table[ids]: a row for each number.

    table   (count, features, ...), as `nn.init.embedding` makes it
    ids     integers of any shape
    sparse  a training step changes those rows of the table alone that were looked up, and makes no gradient of the
            table's size. The table is a parameter of the loss as it is, and is used by such lookups alone, outside of
            loops; the optimiser is `sgd` without momentum, `adagrad` or one that says `sparse` itself; weight decay,
            l1 and l2 leave the table out. Rows of one number are summed before they are clipped or squared, so the
            result is that of sparse=False, but for how the norm of clip_norm is rounded. Elsewhere it changes nothing
    Returns the shape of `ids` with that of a row behind it, dtype of `table`. Its derivative is a sum of rows

    Raises DTypeError for what are no integers, and IndexOutOfRange for one that is negative or not below count: none
    counts from the end. ArgumentError for a sparse table that is computed; a step raises it where rows alone cannot be
    updated.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.embedding(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([1, 1, 0])).tolist()
    [[2.0, 3.0], [2.0, 3.0], [0.0, 1.0]]
    """
    table = operand("embedding: table", table)
    if np.ndim(table) == 0:
        raise ShapeError("embedding: table is (count, features), not a number")
    found = positions("embedding: ids of table", ids, np.shape(table)[0], 0, "id")
    if checks.flag("embedding: sparse", sparse) and is_tracer(table) and not mark_table(table):
        raise ArgumentError(
            "embedding: sparse=True takes a parameter as it is, and this table is computed: look rows up first, and "
            "compute with these, or leave sparse=True out"
        )
    if is_tracer(table) or is_tracer(found):
        return apply("take", table, found, axis=0)
    return np.take(np.asarray(table), found, axis=0)


@public({"fn": "f", "layer": "f", "inputs": "x"})
def residual(f: Callable[..., Any], x: Any, *args: Any) -> Any:
    """x + f(x, *args): what the layers f compute is added to what they are given.

    Both have one shape, which is that of the result. Raises ShapeError where f changes it. Source: He, Zhang, Ren, Sun
    2016.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.residual(np.square, np.array([1.0, 3.0])).tolist()
    [2.0, 12.0]
    """
    x = operand("residual: x", x)
    y = operand("residual: what f gives", checks.function("residual: f", f)(x, *args))
    if np.shape(y) != np.shape(x):
        raise ShapeError(f"residual: f gives the shape {np.shape(y)} for x of shape {np.shape(x)}")
    return x + y
