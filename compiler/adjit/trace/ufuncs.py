"""How a call of a ufunc on tracers runs: promotion, broadcasting, `where=`, `dtype=`, `out=`, and a ufunc's methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adjit.ir.types import Array
from adjit.trace import refuse, table
from adjit.trace.chosen import Chosen
from adjit.trace.dispatch import call_by_name
from adjit.trace.handle import c_strides, is_c_ordered
from adjit.trace.known import holds_known, holds_traced, memory, settled, wrapped
from adjit.trace.lower import (
    add_at,
    as_tracer,
    broadcast_shapes,
    cast,
    check_out,
    check_writable,
    convert,
    emit,
    extremum_at,
    reshape,
    select,
    store,
    weak_cast,
)
from adjit.trace.promote import log_weak, resolve, type_of
from adjit.trace.table import method, name_of
from adjit.trace.tracer import Tracer, node_of

_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_ALLOWED = frozenset({"out", "where", "dtype", "casting", "order", "subok", "signature", "sig"})


@method("__array_ufunc__")
def array_ufunc(ufunc: np.ufunc, how: str, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `Tracer.__array_ufunc__` does."""
    if any(isinstance(x, Chosen) for x in inputs):
        return NotImplemented
    if how == "__call__":
        log_weak(name_of(ufunc), inputs)
        return call(ufunc, inputs, kwargs)
    if how == "at":
        return at(ufunc, *inputs)
    if holds_known((inputs, kwargs)):
        inputs, kwargs = settled_call(inputs, kwargs)
        if not holds_traced((inputs, {key: value for key, value in kwargs.items() if key != "out"})):
            return _plainly(name_of(ufunc), getattr(ufunc, how), inputs, kwargs)
    check_alive(inputs)
    if how in ("reduce", "accumulate"):
        return _fold(ufunc, how, inputs, kwargs)
    if how == "outer":
        return outer(ufunc, inputs, kwargs)
    raise refuse.function(f"{name_of(ufunc)}.{how}")


def settled_call(inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with known values in place of their tracers; `out` is written and stays."""
    return settled(inputs), {key: value if key == "out" else settled(value) for key, value in kwargs.items()}


def _plainly(name: str, function: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call on known values, by NumPy."""
    out = kwargs.pop("out", None)
    if out is None:
        return wrapped(function(*inputs, **kwargs))
    targets = out if isinstance(out, tuple) else (out,)
    for target in targets:
        if target is not None:
            check_out(name, target)
    if kwargs.get("where", True) is not True:
        # NumPy keeps what stands in `out` where the condition is false.
        kwargs["out"] = tuple(None if t is None else np.array(settled(t)) for t in targets)
    result = function(*inputs, **kwargs)
    return _stored(name, result, targets, str(kwargs.get("casting", "same_kind")))


def check_alive(inputs: tuple[Any, ...]) -> None:
    """Refuse tracers whose trace has ended before anything else."""
    for x in inputs:
        if isinstance(x, Tracer):
            node_of(x)


def call(ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """`ufunc(*inputs, **kwargs)`."""
    if holds_known((inputs, kwargs)):
        inputs, kwargs = settled_call(inputs, kwargs)
        if not holds_traced((inputs, {key: value for key, value in kwargs.items() if key != "out"})):
            return _plainly(name_of(ufunc), ufunc, inputs, kwargs)
    check_alive(inputs)
    name = name_of(ufunc)
    if ufunc in table.REFUSED:
        raise refuse.function(name, table.REFUSED[ufunc])
    if ufunc not in table.UFUNCS and ufunc not in table.GUFUNCS and not any(find(ufunc) for find in table.LATE):
        raise refuse.function(name, "it has no lowering yet; docs/functions.md has those that do")
    out, where, dtype = _keywords(name, ufunc, kwargs)
    # Refused before anything is computed, whatever else is wrong.
    for target in out or ():
        if target is not None:
            check_out(name, target)
    if ufunc in table.GUFUNCS:
        result = table.GUFUNCS[ufunc](*inputs)
        if dtype is not None:
            result = cast(result, dtype)
    else:
        result = _elementwise(ufunc, inputs, dtype)
    if where is not True:
        result = _masked(name, where, result, out)
    return result if out is None else _stored(name, result, out, str(kwargs.get("casting", "same_kind")))


def _keywords(name: str, ufunc: np.ufunc, kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...] | None, Any, Any]:
    unknown = [key for key in kwargs if key not in _ALLOWED]
    if unknown:
        raise refuse.function_argument(name, unknown[0])
    for key in ("signature", "sig"):
        if kwargs.get(key) is not None:
            raise refuse.function_argument(name, key)
    if kwargs.get("casting", "same_kind") not in ("same_kind", "safe", "unsafe"):
        raise refuse.function_argument(name, "casting")
    if kwargs.get("order", "K") == "F":
        raise refuse.function_argument(name, "order")
    out = kwargs.get("out")
    if out is not None and not isinstance(out, tuple):
        out = (out,)
    if out is not None and all(target is None for target in out):
        out = None
    dtype = kwargs.get("dtype")
    return out, kwargs.get("where", True), None if dtype is None else np.dtype(dtype)


def _elementwise(ufunc: np.ufunc, inputs: tuple[Any, ...], dtype: np.dtype | None) -> Any:
    operands = [as_tracer(x) if isinstance(x, list | tuple) else x for x in inputs]
    types = [_operand_type(ufunc, x) for x in operands]
    decided = _decided_comparison(ufunc, operands, types)
    if decided is not None:
        return decided
    dtypes = resolve(ufunc, types, dtype)
    shape = broadcast_shapes(name_of(ufunc), *types)
    weak = all(type.weak for type in types) and dtype is None
    strides = _order(operands, shape)
    lifted = [convert(x, d, shape, weak) for x, d in zip(operands, dtypes, strict=False)]
    implementation = table.UFUNCS[ufunc]
    result = emit(implementation, *lifted) if isinstance(implementation, str) else implementation(*lifted)
    if isinstance(result, tuple):
        return tuple(_finished(r, d, strides) for r, d in zip(result, dtypes[ufunc.nin :], strict=True))
    return _finished(result, dtypes[ufunc.nin], strides)


def _operand_type(ufunc: np.ufunc, x: Any) -> Array:
    if x is None or isinstance(x, str | bytes):
        if ufunc in _COMPARISONS:
            raise refuse.identity(x)
        raise refuse.trace_error(f"{name_of(ufunc)}: {x!r} is no array and no number", numpy_too=True)
    return type_of(x)


def _order(operands: list[Any], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """C order where every operand has it."""
    for x in operands:
        if isinstance(x, Tracer):
            known = is_c_ordered(x.type.shape, x._adjit_strides)
        else:
            known = not isinstance(x, np.ndarray) or x.flags.c_contiguous
        if not known:
            return None
    return c_strides(shape)


def _finished(result: Tracer, dtype: np.dtype, strides: tuple[int, ...] | None) -> Tracer:
    if result.type.dtype != dtype:
        result = weak_cast(result, dtype) if result.type.weak else cast(result, dtype)
    if not result._adjit_path:
        result._adjit_strides = strides
    return result


def _decided_comparison(ufunc: np.ufunc, operands: list[Any], types: list[Array]) -> Tracer | None:
    """A Python integer outside the range of an integer array: the answer is the same for every element."""
    if ufunc not in _COMPARISONS or len(operands) != 2:
        return None
    for at, (number, other) in enumerate(((operands[0], types[1]), (operands[1], types[0]))):
        if type(number) is not int or other.dtype.kind not in "iu" or other.weak:
            continue
        bounds = np.iinfo(other.dtype)
        if bounds.min <= number <= bounds.max:
            continue
        inside = bounds.min
        beyond = inside + 1 if number > bounds.max else inside - 1
        answer = bool(ufunc(beyond, inside) if at == 0 else ufunc(inside, beyond))
        return as_tracer(np.full(other.shape, answer))
    return None


def _masked(name: str, where: Any, result: Any, out: tuple[Any, ...] | None) -> Any:
    """`where=`: elements that are left out keep the value of `out`."""
    results = result if isinstance(result, tuple) else (result,)
    if out is None or any(target is None for target in out):
        raise refuse.trace_error(
            f"{name}: where= without out= leaves elements undefined: write out=np.zeros_like(x), or np.where"
        )
    chosen = tuple(select(where, cast(r, o.type.dtype), o) for r, o in zip(results, out, strict=True))
    return chosen if isinstance(result, tuple) else chosen[0]


def _stored(name: str, result: Any, out: tuple[Any, ...], casting: str) -> Any:
    if isinstance(result, tuple):
        pairs = zip(result, out, strict=True)
        return tuple(r if o is None else store(o, r, name, casting) for r, o in pairs)
    return store(out[0], result, name, casting)


def _fold(ufunc: np.ufunc, how: str, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """`ufunc.reduce` and `ufunc.accumulate`, by the table."""
    name = f"{name_of(ufunc)}.{how}"
    registry = table.REDUCES if how == "reduce" else table.ACCUMULATES
    if ufunc not in registry:
        raise refuse.function(name)
    order = ("array", "axis", "dtype", "out", "keepdims", "initial", "where")
    given = {**dict(zip(order, inputs, strict=False)), **kwargs}
    out = given.pop("out", None)
    target = out[0] if isinstance(out, tuple) else out
    if target is not None:
        check_out(name, target)
    result = call_by_name(name, registry[ufunc], given)
    return result if target is None else store(target, result, name)


def outer(ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """`ufunc.outer(x, y)`: every element of x with every one of y."""
    x, y = (as_tracer(i) if isinstance(i, list | tuple) else i for i in inputs)
    ndim = type_of(y).ndim
    if ndim:
        x = reshape(as_tracer(x), (*type_of(x).shape, *(1,) * ndim))
    return call(ufunc, (x, y), kwargs)


def at(ufunc: np.ufunc, target: Any, key: Any, *operand: Any) -> None:
    """`ufunc.at`: np.add.at and np.subtract.at add once for each time that an element is named; np.maximum.at and
    np.minimum.at."""
    name = f"{name_of(ufunc)}.at"
    key, operand = settled(key), settled(operand)
    if not isinstance(target, Tracer):
        check_alive((target, key, *operand))
        if not holds_traced((key, operand)):
            return ufunc.at(target, key, *operand)
        raise refuse.plain_out(name)
    check_alive((target, *operand))
    plain = None if holds_traced((key, operand)) else memory(target)
    if plain is not None:
        return ufunc.at(plain, key, *operand)
    check_writable(target)
    if ufunc not in (np.add, np.subtract, np.maximum, np.minimum) or len(operand) != 1:
        raise refuse.function(name, "np.add.at, np.subtract.at, np.maximum.at and np.minimum.at are")
    if ufunc in (np.maximum, np.minimum):
        extremum_at(target, key, operand[0], ufunc is np.maximum)
        return
    value = operand[0] if ufunc is np.add else np.negative(as_tracer(operand[0]))
    add_at(target, key, value)
