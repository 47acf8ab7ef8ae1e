"""Methods and attributes of ndarray on tracers: the function of NumPy of the same name, or what is special to a method.

What a tracer refuses, and what it does not have at all, stands here with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.trace import lower, refuse, table
from adjit.trace.handle import is_c_ordered
from adjit.trace.known import settled, wrapped
from adjit.trace.table import attribute, method
from adjit.trace.tracer import Tracer, node_of, plain_of

_SAME_NAME = (
    "all", "any", "argmax", "argmin", "argpartition", "argsort", "choose", "compress", "cumprod", "cumsum", "diagonal",
    "dot", "max", "mean", "min", "nonzero", "prod", "repeat", "searchsorted", "std", "sum", "swapaxes", "take",
    "trace", "var",
)  # fmt: skip


def _by_name(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def call(x: Tracer, *args: Any, **kwargs: Any) -> Any:
        return function(x, *args, **kwargs)

    return call


for _name in _SAME_NAME:
    method(_name)(_by_name(_name))

method("__getitem__")(lower.getitem)
method("__setitem__")(lower.setitem)


@method("copy")
def _copy(x: Tracer, order: str = "C") -> Any:
    if order not in ("C", "K", "A"):
        raise refuse.function_argument("x.copy", "order")
    copied = lower.copy(x)
    if order != "C" and not is_c_ordered(x.shape, x._adjit_strides):
        copied._adjit_strides = None
    return copied


@method("astype")
def _astype(
    x: Tracer, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    dtype = np.dtype(dtype)
    plain = plain_of(x)
    if plain is not None:
        return wrapped(plain.astype(dtype, order, casting, subok, copy)) if copy or x.dtype != dtype else x  # type: ignore[call-overload]
    if order == "F":
        raise refuse.function_argument("x.astype", "order")
    if not np.can_cast(x.dtype, dtype, casting=casting):  # type: ignore[arg-type]
        raise refuse.dtype_error(f"astype: {x.type} cannot be cast to {dtype} under the rule {casting!r}")
    if x.dtype == dtype and not x.type.weak:
        return _copy(x, order) if copy else x
    return lower.cast(x, dtype)


def _shape_of_call(name: str, args: tuple[Any, ...]) -> Any:
    if not args:
        raise refuse.trace_error(f"x.{name}() misses its shape", numpy_too=True)
    return args[0] if len(args) == 1 else args


@method("reshape")
def _reshape(x: Tracer, *shape: Any, order: str | None = "C", copy: bool | None = None) -> Any:
    if copy is False:
        raise refuse.function_argument("x.reshape", "copy")
    return lower.reshape(lower.copy(x) if copy else x, _shape_of_call("reshape", shape), order)


@method("ravel")
def _ravel(x: Tracer, order: str | None = "C") -> Any:
    return lower.ravel(x, order)


@method("flatten")
def _flatten(x: Tracer, order: str | None = "C") -> Any:
    return lower.reshape(lower.copy(x), (-1,), order) if order != "F" else lower.copy(lower.ravel(x, "F"))


@method("transpose")
def _transpose(x: Tracer, *axes: Any) -> Any:
    if not axes or axes == (None,):
        return lower.transpose(x)
    return lower.transpose(x, axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes)


@method("squeeze")
def _squeeze(x: Tracer, axis: Any = None) -> Any:
    if axis is None:
        return lower.squeeze(x, tuple(i for i, n in enumerate(x.shape) if n == 1))
    return lower.squeeze(x, lower.normalize_axes(axis, x.ndim))


@method("clip")
def _clip(x: Tracer, min: Any = None, max: Any = None, out: Any = None, **kwargs: Any) -> Any:
    return np.clip(x, min, max, out=out, **kwargs)


@method("round")
def _round(x: Tracer, decimals: int = 0, out: Any = None) -> Any:
    return np.round(x, decimals, out=out)


@method("conj", "conjugate")
def _conjugate(x: Tracer) -> Any:
    # NumPy gives a real array itself.
    return x


@method("fill")
def _fill(x: Tracer, value: Any) -> None:
    x[...] = value


@method("sort")
def _sort(x: Tracer, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> None:
    lower.check_writable(x)
    x[...] = np.sort(x, axis=axis, kind=kind, order=order, stable=stable)


@method("partition")
def _partition(x: Tracer, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None) -> None:
    lower.check_writable(x)
    x[...] = np.partition(x, kth, axis=axis, kind=kind, order=order)  # type: ignore[call-overload]


@method("view")
def _view(x: Tracer, dtype: Any = None, type: Any = None) -> Any:
    if type is not None or (dtype is not None and np.dtype(dtype) != x.dtype):
        raise refuse.attribute("view", "bits cannot be read as another type: write x.astype(dtype) for the values")
    return x[...]


attribute("T")(lambda x: lower.transpose(x))
attribute("real")(lambda x: x)
attribute("imag")(lambda x: np.zeros_like(x))
attribute("itemsize")(lambda x: x.dtype.itemsize)
attribute("nbytes")(lambda x: x.type.nbytes)
attribute("device")(lambda x: "cpu")


@attribute("mT")
def _matrix_transpose(x: Tracer) -> Any:
    if x.ndim < 2:
        raise refuse.shape_error(f"matrix transpose with ndim < 2 is undefined: {x.type}")
    return lower.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@method("item")
def _item(x: Tracer, *args: Any) -> Any:
    plain = plain_of(x)
    if plain is None:
        raise refuse.number(node_of(x), "float")
    return plain.item(*settled(args))


@method("tolist")
def _tolist(x: Tracer) -> Any:
    plain = plain_of(x)
    if plain is None:
        raise refuse.number(node_of(x), "list")
    return plain.tolist()


_MEMORY = "a traced array has no memory of its own yet"
table.UNSUPPORTED_ATTRIBUTES.update(
    {
        "_set_dtype": "write x = x.astype(dtype)",
        "_set_shape": "write x = x.reshape(shape)",
        "base": _MEMORY,
        "byteswap": _MEMORY,
        "ctypes": _MEMORY,
        "data": _MEMORY,
        "dump": "it has no values yet: return it and save the result",
        "dumps": "it has no values yet: return it and save the result",
        "flags": _MEMORY,
        "flat": "write x.reshape(-1)",
        "getfield": "bits cannot be read as another type: write x.astype(dtype)",
        "put": "write x.reshape(-1)[indices] = values on a copy, or x[i, j] = values",
        "resize": "the shape of an array is fixed: write np.pad or np.concatenate",
        "setfield": "bits cannot be written as another type",
        "setflags": _MEMORY,
        "strides": _MEMORY,
        "to_device": "everything is on the CPU",
        "tobytes": "it has no values yet: return it and take the bytes of the result",
        "tofile": "it has no values yet: return it and save the result",
        "itemset": "write x[i] = value",
        "newbyteorder": _MEMORY,
        "ptp": "write np.max(x) - np.min(x)",
        "tostring": "it has no values yet: return it and take the bytes of the result",
    }
)

_OFFER = "NumPy would read memory that is not there"
table.ABSENT_ATTRIBUTES.update(
    {
        "__array_finalize__": "for subclasses of ndarray",
        "__array_interface__": _OFFER,
        "__array_namespace__": "the namespace is numpy itself",
        "__array_priority__": "__array_ufunc__ stands above it",
        "__array_struct__": _OFFER,
        "__array_wrap__": "for subclasses of ndarray",
        "__buffer__": _OFFER,
        "__class_getitem__": "for annotations of ndarray",
        "__dlpack__": _OFFER,
        "__dlpack_device__": _OFFER,
        "__setstate__": "tracers are not pickled",
    }
)
