"""NumPy 2's promotion: the dtypes that a ufunc computes in, for strong operands and for weak ones.

`ufunc.resolve_dtypes` answers with the types int and float for weak values. A float32 or less that becomes float64 is
NumPy's result and one warning for each line; a dtype that no code exists for is an error that names the cast to write.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, COMPILED_DTYPES, F64, I64, Array, dtype_name
from adjit.trace import refuse
from adjit.trace.context import current_trace
from adjit.trace.locate import locate
from adjit.trace.table import name_of
from adjit_runtime import checks
from adjit_runtime.errors import WeakOverflowError, WideningWarning
from adjit_runtime.program import is_narrow, wide_dtype

_LOG = logging.getLogger("adjit.trace")

Kind = Any
"""A dtype, or one of the Python types int and float for a weak value."""

_WEAK_TYPES = {"b": BOOL, "i": int, "f": float}
_WEAK_ARRAYS = {bool: Array(BOOL, (), True), int: Array(I64, (), True), float: Array(F64, (), True)}


def type_of(x: Any) -> Array:
    """The type of an operand: a tracer, an array, a NumPy or Python scalar."""
    traced = getattr(x, "_adjit_type", None)
    if traced is not None:
        return traced  # type: ignore[no-any-return]
    weak = _WEAK_ARRAYS.get(type(x))
    if weak is not None:
        return weak
    if isinstance(x, np.ndarray) and not checks.computes_plainly(x):
        raise refuse.trace_error(f"a constant of class {type(x).__name__}: {checks.own_rules(x)}")
    if isinstance(x, np.ndarray | np.generic):
        return Array(x.dtype.newbyteorder("="), x.shape)
    if isinstance(x, bool | int | float):
        return _WEAK_ARRAYS[next(base for base in (bool, int, float) if isinstance(x, base))]
    if isinstance(x, complex):
        raise refuse.no_code("complex numbers are not supported: compute with the real and imaginary parts")
    raise refuse.trace_error(f"{checks.kind(x)} is no array and no number, so it cannot meet a traced array")


def kinds_of(types: Sequence[Array]) -> tuple[Kind, ...]:
    """What `resolve_dtypes` takes for the operands; Python's bool is NumPy's."""
    if all(type.weak for type in types):
        # Beside each other Python's integers would be compared as objects.
        return tuple(type.dtype for type in types)
    return tuple(_WEAK_TYPES[type.dtype.kind] if type.weak else type.dtype for type in types)


@functools.lru_cache(maxsize=4096)
def _resolved(ufunc: np.ufunc, kinds: tuple[Kind, ...], dtype: np.dtype | None) -> tuple[np.dtype, ...]:
    operands = (*kinds, *(None,) * ufunc.nout)
    if dtype is None:
        return ufunc.resolve_dtypes(operands)
    return ufunc.resolve_dtypes(operands, signature=(*(None,) * ufunc.nin, *(dtype,) * ufunc.nout))


def resolve(ufunc: np.ufunc, types: Sequence[Array], dtype: np.dtype | None = None) -> tuple[np.dtype, ...]:
    """The dtypes of the operands and then of the results of a ufunc; raises DTypeError where there are none."""
    name = name_of(ufunc)
    try:
        dtypes = _resolved(ufunc, kinds_of(types), dtype)
    except TypeError as error:
        raise refuse.dtype_error(f"{name}: {' and '.join(map(str, types))}: {error}") from None
    results = dtypes[ufunc.nin :]
    if not any(is_narrow(result) for result in results):
        # Comparisons, and what else gives another dtype than it computes in: the wider one has the same values.
        dtypes = (*map(wide_dtype, dtypes[: ufunc.nin]), *results)
    for result in dtypes:
        check_dtype(name, result, types)
    if any(result == F64 for result in dtypes[ufunc.nin :]):
        widened(name, types, F64)
    return dtypes


def check_dtype(op: str, dtype: np.dtype, operands: Sequence[Any] = ()) -> None:
    """Raise DTypeError where no machine code exists for a dtype; the text names op, types and the cast to write."""
    if dtype in COMPILED_DTYPES:
        return
    types = [x if isinstance(x, Array) else type_of(x) for x in operands]
    found = f" of {' and '.join(map(str, types))}" if types else ""
    cast = {"f": "np.float32", "c": "np.float64 (the real part)", "u": "np.uint8 or np.int64"}.get(
        dtype.kind, "np.int32"
    )
    raise refuse.no_code(
        f"{op}{found} is {dtype_name(dtype)} in NumPy, which no machine code exists for "
        f"(bool, uint8, int32, int64, float32, float64 have it): write x.astype({cast})"
    )


def widened(op: str, operands: Iterable[Any], result: np.dtype) -> None:
    """Warn, once for each line of a trace, where the operands of a float64 result are float32 or less."""
    types = [x if isinstance(x, Array) else type_of(x) for x in operands]
    if result != F64 or all(type.weak for type in types):
        return
    strong = [type for type in types if not type.weak]
    narrow = [type for type in strong if type.dtype.kind == "f" and type.dtype.itemsize < 8]
    if not narrow and not any(type.dtype == F64 for type in strong):
        # uint8 / 255: no float64 among the operands, yet the result is one.
        narrow = [type for type in strong if type.dtype.kind in "iu" and type.dtype.itemsize < 8]
    trace, loc = current_trace(), locate()
    if not narrow or trace is None or loc is None or (loc.file, loc.line) in trace.warned:
        return
    trace.warned.add((loc.file, loc.line))
    text = (
        f"{loc}: {op}: {' and '.join(map(str, types))} give f64 in NumPy; to stay narrow write .astype(np.float32), or "
        f"use a Python number in place of a NumPy scalar{refuse.show(loc)}"
    )
    warnings.warn_explicit(text, WideningWarning, loc.file, loc.line)


def log_weak(op: str, operands: Iterable[Any]) -> None:
    """Log where an elementwise function of weak values alone stays weak; NumPy would give a strong float64."""
    if _LOG.isEnabledFor(logging.DEBUG) and all(type_of(x).weak for x in operands):
        _LOG.debug("%s: %s of Python numbers alone stays weak", locate(), op)


def check_fits(value: int, dtype: np.dtype) -> None:
    """Raise WeakOverflowError where a Python integer does not fit the dtype of the array that it meets."""
    if dtype.kind not in "iu":
        return
    bounds = np.iinfo(dtype)
    if not bounds.min <= value <= bounds.max:
        raise refuse.located(
            WeakOverflowError, f"Python integer {value} out of bounds for {dtype.name}: cast the array with .astype"
        )
