"""What a traced function gave back: a pytree of arrays and numbers, for a gradient one scalar, of a loss with a state
the new state, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import optree

from adjit.ir.types import is_float
from adjit.trace import is_tracer, lower
from adjit.trace.promote import type_of
from adjit.trace.returned import returned
from adjit.trace.values import sample
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, ShapeError
from adjit_runtime.guests import tree_flatten
from adjit_runtime.trees import LeafType, flatten, leaf_names

E = TypeVar("E", bound=AdjitError)


def checked(function: Any, result: Any) -> Any:
    """The result of a function, whose leaves can be results of a program; ArgumentError for another."""
    try:
        leaves, _ = tree_flatten(result)
    except RecursionError:
        # Whoever flattens it next says so.
        return result
    for leaf in leaves:
        if not (is_tracer(leaf) or isinstance(leaf, bool | int | float | complex) or hasattr(leaf, "dtype")):
            raise returned(
                ArgumentError,
                function.__wrapped__,
                f"{function.__name__} returns {_shown(leaf)}{'' if leaf is result else ' in its result'}; a compiled "
                "function returns arrays and numbers, in dicts, lists and tuples: return the rest from a function "
                "around it",
            )
    return result


def unpack_aux(function: Any, result: Any, what: str = "value") -> tuple[Any, Any]:
    """(value, aux) of what a function returned; aux is None where there is none."""
    if not function.has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise returned(
            ArgumentError,
            function.__wrapped__,
            f"{function.kind}: with has_aux=True {function.__name__} returns ({what}, aux), not {_shown(result)}",
        )
    return result[0], result[1]


def check_differentiable(function: Any, value: Any) -> None:
    """Raise DTypeError where a leaf of what a function returned is no float."""
    for leaf in tree_flatten(value)[0]:
        type = type_of(leaf)
        if not is_float(type.dtype):
            raise returned(
                DTypeError,
                function.__wrapped__,
                f"{function.kind}: {function.__name__} returns {type}; only floats have a derivative: return the rest "
                "as aux, with has_aux=True",
            )


def split_aux(function: Any, result: Any) -> tuple[Any, Any]:
    """(loss, aux) of what a loss returned; aux is None where there is none. The loss is one float."""
    value, aux = unpack_aux(function, result, "loss")
    hint = "" if function.has_aux else "; if it returns (loss, aux), pass has_aux=True"
    if hasattr(function, "has_state"):
        hint += f"{'; ' if function.has_aux else ', and '}if a new state stands beside the loss, state=True"
    check_scalar(function, value, hint)
    return value, aux


def split_state(function: Any, result: Any) -> tuple[Any, Any, Any]:
    """(loss, aux, new state) of what a loss with a state returned; aux is None where there is none."""
    form = "(loss, (new state, aux))" if function.has_aux else "(loss, new state)"
    pair = result[1] if function.has_aux and isinstance(result, tuple) and len(result) == 2 else result
    if not (isinstance(pair, tuple) and len(pair) == 2):
        what = f"(loss, {_shown(pair)})" if pair is not result else _shown(result)
        options = "state=True and has_aux=True" if function.has_aux else "state=True"
        raise returned(
            ArgumentError,
            function.__wrapped__,
            f"{function.kind}: with {options} {function.__name__} returns {form}, not {what}",
        )
    check_scalar(function, result[0], "")
    return (result[0], pair[1], pair[0]) if function.has_aux else (result[0], None, result[1])


def renewed(
    function: Any, spec: optree.PyTreeSpec, types: Sequence[LeafType], names: Sequence[str], new: Any
) -> list[Any]:
    """The leaves of a new state, which have the types of those that they replace: a Python number takes it."""
    leaves, found = flatten(new)
    where = f"{function.kind}: {function.__name__} returns a new state"

    def error(kind: type[E], text: str) -> E:
        return returned(kind, function.__wrapped__, f"{where} {text}")

    if found != spec:
        other = leaf_names(found, "model_state")
        notes = [f"{name} is missing" for name in names if name not in other][:1]
        notes += [f"{name} is new" for name in other if name not in names][:1]
        what = f" ({', '.join(notes)})" if notes else ""
        raise error(
            ArgumentError,
            f"of another structure than the one that it was given{what}: "
            "return what came in, in the same dicts, lists and tuples",
        )
    fitting = []
    for name, leaf, type in zip(names, leaves, types, strict=True):
        if not (is_tracer(leaf) or isinstance(leaf, bool | int | float) or hasattr(leaf, "dtype")):
            raise error(ArgumentError, f"in which {name} is {_shown(leaf)}, not an array or a number")
        now = type_of(leaf)
        if now.shape != type.shape:
            raise error(ShapeError, f"in which {name} has shape {now.shape}, and had {type.shape}: shapes stay")
        if now.dtype != type.dtype and not (now.weak and np.result_type(type.dtype, sample(now)) == type.dtype):
            raise error(
                DTypeError,
                f"in which {name} is {now}, and was {type}: dtypes stay, as in x.astype(np.{type.dtype.name})",
            )
        fitting.append(lower.cast(leaf, type.dtype))
    return fitting


def check_scalar(function: Any, value: Any, hint: str) -> None:
    """Raise where a loss is not one float; the `hint` says how a loss with more is told."""
    name, kind = function.__name__, function.kind
    if not (is_tracer(value) or isinstance(value, float | int) or hasattr(value, "dtype")):
        raise returned(
            ArgumentError, function.__wrapped__, f"{kind}: {name} returns one scalar, not {_shown(value)}{hint}"
        )
    type = type_of(value)
    if type.shape:
        raise returned(
            ShapeError,
            function.__wrapped__,
            f"{kind}: {name} returns {type}, and a gradient is that of one scalar: return its np.sum or np.mean "
            "(docs/gotchas.md has the Jacobian of a vector)",
        )
    if not is_float(type.dtype):
        raise returned(DTypeError, function.__wrapped__, f"{kind}: {name} returns {type}; only floats have a gradient")


def _shown(x: Any) -> str:
    if isinstance(x, str | bytes):
        return f"{checks.kind(x)}, {checks.shown(x)}"
    return checks.kind(x) + (f" of {len(x)}" if isinstance(x, tuple | list | dict) else "")
