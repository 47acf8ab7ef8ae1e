"""What stands for functions that do not dispatch while a function is traced (`trace/exchange`).

NumPy's creation functions give known arrays, or tracers where an argument is traced. Functions of `math` give Python's
weak floats. `max` and `min` of traced scalars choose by a select.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.ir.builder import Value
from adjit.ir.types import F64
from adjit.trace import functions, table  # noqa: F401  # functions fills the table
from adjit.trace.constructors import seen
from adjit.trace.dispatch import array_function
from adjit.trace.exchange import Exchanged, exchange
from adjit.trace.function import apply
from adjit.trace.functions.calling import wrap_like
from adjit.trace.functions.gamma import gammaln
from adjit.trace.known import holds_traced, settled, shares, wrapped
from adjit.trace.lower import as_tracer, builder, weak_cast
from adjit.trace.refuse import function as refused_function
from adjit.trace.refuse import shape_error, trace_error
from adjit.trace.tracer import array_of, is_python_number, is_tracer, node_of, python_class, shown_as


def _is_in_table(function: Any) -> bool:
    try:
        return function in table.FUNCTIONS or function in table.REFUSED
    except TypeError:
        return False


def _called(original: Any, /, *args: Any, **kwargs: Any) -> Any:
    """A function of the table: by the table where something is traced, be it in a list; else by NumPy."""
    if any(map(is_tracer, (*args, *kwargs.values()))) or holds_traced((args, kwargs)):
        return array_function(original, args, kwargs)
    given, named = settled(args), settled(kwargs)
    result = original(*given, **named)
    # np.asarray of an array from outside is that array, and is not the compiled function's to write.
    return result if shares(result, (given, named)) else wrapped(result)


for _module in (np, np.linalg):
    for _name, _function in vars(_module).items():
        if not isinstance(_function, type | np.ufunc | Exchanged) and _is_in_table(_function):
            exchange(_module, _name, _called)


@exchange(np, "fromiter")
def _fromiter(original: Any, /, iter: Any, dtype: Any, count: int = -1, **kwargs: Any) -> Any:
    items = [item for _, item in zip(range(count), iter, strict=False)] if count >= 0 else list(iter)
    if holds_traced(items):
        return array_function(np.array, (items,), {"dtype": dtype})
    return wrapped(original(items, dtype, count, **kwargs))


@exchange(np, "vectorize")
def _vectorize(original: Any, /, *args: Any, **kwargs: Any) -> Any:
    function = original(*args, **kwargs)
    return _Vectorized(function) if kwargs.get("signature") is None else function


class _Vectorized:
    """`np.vectorize(f)`: `f` of each element, as NumPy calls it, and of each traced one."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not holds_traced((args, kwargs)):
            return wrapped(self._original(*settled(args), **settled(kwargs)))
        if kwargs or self._original.excluded:
            raise trace_error("np.vectorize: `excluded` and keywords are not supported with traced arrays")
        operands = np.broadcast_arrays(*(as_tracer(x) for x in args))
        shape = operands[0].shape
        function = seen(self._original.pyfunc)
        rows = [function(*items) for items in zip(*(x.reshape(-1) for x in operands), strict=True)]
        if not rows:
            raise shape_error("np.vectorize: there is no element, so the type of the result is not known")
        if isinstance(rows[0], tuple):
            return tuple(as_tracer(list(column)).reshape(shape) for column in zip(*rows, strict=True))
        return array_function(np.array, (rows,), {}).reshape(shape) if shape else rows[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@exchange(np, "r_")
def _rows(original: Any, /, key: Any) -> Any:
    return _joined(original, key, "np.r_", lambda parts: np.concatenate([np.atleast_1d(x) for x in parts]))


@exchange(np, "c_")
def _columns(original: Any, /, key: Any) -> Any:
    def joined(parts: list[Any]) -> Any:
        parts = [np.atleast_1d(x) for x in parts]
        return np.concatenate([x[:, None] if x.ndim == 1 else x for x in parts], axis=-1)

    return _joined(original, key, "np.c_", joined)


def _joined(original: Any, key: Any, name: str, join: Callable[[list[Any]], Any]) -> Any:
    if not holds_traced(key):
        return wrapped(original[settled(key)])
    items = key if isinstance(key, tuple) else (key,)
    if any(isinstance(item, str) for item in items):
        raise trace_error(f"{name}: text in the index is not supported with traced values: write np.concatenate")
    if any(map(is_tracer, (bound for item in items if isinstance(item, slice) for bound in _bounds(item)))):
        raise trace_error(f"{name}: a traced bound of a range: write start + np.arange(n) * step")
    plain = np.r_
    parts = [plain[item] if isinstance(item, slice) else as_tracer(item) if isinstance(item, list) else item
             for item in items]  # fmt: skip
    return join(parts)


def _bounds(item: slice) -> tuple[Any, Any, Any]:
    return item.start, item.stop, item.step


# math: Python floats in, Python floats out.


def _float(name: str, x: Any) -> Any:
    """An argument as the Python float that math makes of it."""
    if not is_tracer(x):
        return float(x)
    if x.shape:
        raise refused_function(f"math.{name}", f"only scalars are numbers, and this is {x.type}; write np.{name}")
    return weak_cast(x, F64)


def _rule(name: str, rule: Callable[..., Any]) -> None:
    def replaced(original: Any, /, *args: Any, **kwargs: Any) -> Any:
        args = settled(args)
        if not holds_traced((args, kwargs)):
            return original(*args, **settled(kwargs))
        return _of_python(rule(*(_float(name, x) if not isinstance(x, list | tuple) else x for x in args), **kwargs))

    exchange(math, name, replaced)


def _of_python(result: Any) -> Any:
    """What math gives: Python's floats and bools."""
    if isinstance(result, tuple):
        return tuple(map(_of_python, result))
    return shown_as(result, python_class(result))


_UFUNCS = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atan2": np.arctan2, "atanh": np.arctanh, "cbrt": np.cbrt, "copysign": np.copysign, "cos": np.cos,
    "cosh": np.cosh, "degrees": np.degrees, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "fabs": np.fabs,
    "fmod": np.fmod, "isfinite": np.isfinite, "isinf": np.isinf, "isnan": np.isnan, "log10": np.log10,
    "log1p": np.log1p, "log2": np.log2, "pow": np.power, "radians": np.radians, "sin": np.sin, "sinh": np.sinh,
    "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip


def _logarithm(x: Any, base: Any = None) -> Any:
    return np.log(x) if base is None else np.log(x) / np.log(base)


def _hypotenuse(*xs: Any) -> Any:
    total: Any = 0.0
    for x in xs:
        total = np.hypot(total, x)
    return total


def _distance(p: Any, q: Any) -> Any:
    return _hypotenuse(*(x - y for x, y in zip(p, q, strict=True)))


def _sum(xs: Any) -> Any:
    return sum(_float("fsum", x) for x in xs)


def _is_close(a: Any, b: Any, *, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> Any:
    far = np.maximum(rel_tol * np.maximum(np.fabs(a), np.fabs(b)), abs_tol)
    return (a == b) | (np.isfinite(a) & np.isfinite(b) & (np.fabs(a - b) <= far))


def _log_gamma(x: Any) -> Any:
    b = builder()
    value = Value(b, node_of(x))
    # SciPy's has -inf there.
    return wrap_like(b.select(value.eq(-math.inf), math.inf, gammaln(b, value)), x)


for _name, _ufunc in _UFUNCS.items():
    if hasattr(math, _name):
        _rule(_name, _ufunc)
_rule("log", _logarithm)
_rule("hypot", _hypotenuse)
_rule("dist", _distance)
_rule("fsum", _sum)
_rule("isclose", _is_close)
_rule("ldexp", lambda x, i: x * np.exp2(i))
_rule("modf", lambda x: (x - np.trunc(x), np.trunc(x)))
_rule("erf", lambda x: apply("erf", x))
_rule("lgamma", _log_gamma)


@exchange(math, "prod")
def _product(original: Any, /, iterable: Any, *, start: Any = 1) -> Any:
    items = list(iterable)
    if not holds_traced((items, start)):
        return original(settled(items), start=settled(start))
    for item in items:
        start = start * item
    return start


for _name, _instead in {
    "erfc": "1.0 - math.erf(x)",
    "gamma": "",
    "remainder": "x - y * np.round(x / y)",
    "frexp": "",
    "nextafter": "",
    "ulp": "",
}.items():
    if hasattr(math, _name):

        def _refuse(original: Any, /, *args: Any, name: str = _name, instead: str = _instead) -> Any:
            args = settled(args)
            if not holds_traced(args):
                return original(*args)
            raise refused_function(f"math.{name}", f"write {instead}" if instead else "it has no lowering yet")

        exchange(math, _name, _refuse)


def _extreme(name: str, better: Callable[[Any, Any], Any]) -> None:
    def replaced(original: Any, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs or not args:
            return original(*args, **kwargs)
        items = list(args[0]) if len(args) == 1 else list(args)
        if not items or not holds_traced(items) or any(np.ndim(x) for x in items):
            return original(items)
        # As Python does: the first one stays unless a later one is better, so that NaN is treated alike.
        best = items[0]
        for item in items[1:]:
            best = np.where(better(item, best), item, best)
        if all(isinstance(item, np.ndarray) for item in items):
            # One of them, as Python gives it.
            return array_of(shown_as(best, best.dtype.type), f"one of the arguments of {name}")
        python = all(map(is_python_number, items))
        return shown_as(best, python_class(best) if python else best.dtype.type)

    exchange(builtins, name, replaced)


_extreme("max", lambda x, best: x > best)
_extreme("min", lambda x, best: x < best)
