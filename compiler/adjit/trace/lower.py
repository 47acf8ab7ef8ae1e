"""The vocabulary in which the function table is written: IR ops on tracers, with NumPy's broadcasting and promotion.

Operands are tracers, arrays, NumPy or Python scalars. What is a view in NumPy is a view here (`reshape`, `transpose`,
`getitem`, `flip`, `expand_dims`, `squeeze`, `broadcast_to`); the rest gives arrays of their own.

    values   operands, constants, casts, promotion, new arrays
    views    paths to an array
    writes   changes in place
"""

from adjit.trace.promote import type_of
from adjit.trace.tracer import is_tracer
from adjit.trace.values import (
    active,
    as_tracer,
    broadcast_shapes,
    builder,
    c_ordered,
    cast,
    common,
    concatenate,
    constant,
    convert,
    dtype_of,
    elementwise,
    emit,
    full,
    iota,
    lift,
    normalize_axes,
    normalize_axis,
    pad,
    promote,
    select,
    shape_of,
    slice_,
    strong,
    weak_cast,
)
from adjit.trace.views import (
    broadcast_to,
    copy,
    expand_dims,
    flip,
    full_shape,
    getitem,
    maybe_view,
    ravel,
    reshape,
    squeeze,
    transpose,
)
from adjit.trace.writes import add_at, check_out, check_writable, extremum_at, setitem, store

__all__ = [
    "active", "add_at", "as_tracer", "broadcast_shapes", "broadcast_to", "builder", "c_ordered", "cast", "check_out",
    "check_writable", "common", "concatenate", "constant", "convert", "copy", "dtype_of", "elementwise", "emit",
    "expand_dims", "extremum_at", "flip", "full", "full_shape", "getitem", "iota", "is_tracer", "lift", "maybe_view",
    "normalize_axes", "normalize_axis", "pad", "promote", "ravel", "reshape", "select", "setitem", "shape_of", "slice_",
    "squeeze", "store", "strong", "transpose", "type_of", "weak_cast",
]  # fmt: skip
