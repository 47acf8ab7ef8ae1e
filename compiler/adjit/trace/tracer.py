"""Tracer: what stands for an array while a function is traced; a handle (root, path) with NumPy's protocols.

What a tracer can do stands in the table, by name; here is how Python and NumPy come to it, and what is refused because
a tracer has no values. `isinstance` answers as for the value that a tracer stands for, as `__class__` is that value's;
so what must know tracers asks `is_tracer` first. 0-d tracers are a class of their own, because Python takes whatever
has `__getitem__` for iterable. Tracers are made by `trace.lower` alone.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from adjit.ir.node import Loc, Node
from adjit.ir.types import Array
from adjit.trace import refuse, table
from adjit.trace.context import current_trace
from adjit.trace.handle import Step, Strides
from adjit.trace.locate import locate
from adjit.trace.root import Root

_WRITING = frozenset({"put", "setfield"})
"""Methods of ndarray that write into it, and that tracers whose values are known have."""


class Tracer:
    """An array of a traced function. `x.shape`, `x.dtype`, operators, indexing, methods and NumPy functions work."""

    __slots__ = ("_adjit_made", "_adjit_node", "_adjit_path", "_adjit_plain", "_adjit_root", "_adjit_scalar",
                 "_adjit_shown", "_adjit_strides", "_adjit_type", "_adjit_version")  # fmt: skip

    _adjit_root: Root
    _adjit_path: tuple[Step, ...]
    _adjit_type: Array
    _adjit_node: Node | None
    _adjit_plain: np.ndarray | None
    _adjit_version: int
    _adjit_strides: Strides | None
    _adjit_scalar: bool
    _adjit_shown: type
    _adjit_made: Loc | None

    def __init__(self) -> None:
        raise TypeError("a tracer is made by tracing")

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The class of the value: np.ndarray, np.float64 and its kin, or float, int, bool for numbers of Python."""
        return self._adjit_shown

    @property
    def type(self) -> Array:
        """Dtype, shape, and whether it is weak."""
        return self._adjit_type

    @property
    def shape(self) -> tuple[int, ...]:
        return self._adjit_type.shape

    @shape.setter
    def shape(self, shape: Any) -> NoReturn:
        raise refuse.trace_error("the shape of a traced array cannot be set: write x = x.reshape(shape)")

    @property
    def dtype(self) -> np.dtype:
        return self._adjit_type.dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> NoReturn:
        raise refuse.trace_error("the dtype of a traced array cannot be set: write x = x.astype(dtype)")

    @property
    def ndim(self) -> int:
        return len(self._adjit_type.shape)

    @property
    def size(self) -> int:
        return self._adjit_type.size

    def __getattr__(self, name: str) -> Any:
        if name in table.METHODS:
            return functools.partial(table.METHODS[name], self)
        if name in table.PROPERTIES:
            return table.PROPERTIES[name](self)
        plain = plain_of(self)
        if plain is not None and not name.startswith("__array_"):
            return getattr(self._writable(plain) if name in _WRITING else read_only(plain), name)
        if name in table.UNSUPPORTED_ATTRIBUTES:
            raise refuse.attribute(name, table.UNSUPPORTED_ATTRIBUTES[name])
        raise AttributeError(f"a traced array has no attribute {name!r}")

    def _writable(self, plain: np.ndarray) -> np.ndarray:
        note_write(self)
        return plain

    # NumPy's protocols.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return table.METHODS["__array_ufunc__"](ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return table.METHODS["__array_function__"](func, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        plain = plain_of(self)
        if plain is None:
            raise refuse.as_array(node_of(self))
        # Read-only: what code in C writes into this array would be lost.
        return read_only(np.array(plain, dtype=dtype))

    # What needs a value.

    def __bool__(self) -> bool:
        plain = plain_of(self)
        if plain is None:
            raise refuse.truth(node_of(self))
        return bool(plain)

    def __float__(self) -> float:
        plain = plain_of(self)
        if plain is None:
            raise refuse.number(node_of(self), "float")
        return float(plain)

    def __int__(self) -> int:
        plain = plain_of(self)
        if plain is None:
            raise refuse.number(node_of(self), "int")
        return int(plain)

    def __complex__(self) -> complex:
        plain = plain_of(self)
        if plain is None:
            raise refuse.number(node_of(self), "complex")
        return complex(plain)

    def __index__(self) -> int:
        plain = plain_of(self)
        if plain is None:
            raise refuse.index(node_of(self))
        return operator.index(plain)

    def __round__(self, digits: int | None = None) -> Any:
        return _whole(np.round, self) if digits is None else like_python(np.round(self, digits), self)

    def __trunc__(self) -> Any:
        return _whole(np.trunc, self)

    def __floor__(self) -> Any:
        return _whole(np.floor, self)

    def __ceil__(self) -> Any:
        return _whole(np.ceil, self)

    def __hash__(self) -> int:
        plain = plain_of(self)
        if plain is None:
            raise refuse.hashing(node_of(self))
        return hash(plain)

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = plain_of(self)
        if plain is None:
            raise refuse.pickling(node_of(self))
        return plain.__reduce_ex__(protocol)

    def __contains__(self, item: Any) -> bool:
        plain = plain_of(self)
        if plain is None:
            raise refuse.truth(node_of(self))
        return item in plain

    def __format__(self, spec: str) -> str:
        plain = plain_of(self)
        if plain is not None:
            return format(plain, spec)
        if spec:
            raise refuse.formatting(node_of(self))
        return repr(self)

    def __repr__(self) -> str:
        plain = plain_of(self)
        if plain is not None:
            return repr(plain)
        made = f" from {self._adjit_made}" if self._adjit_made is not None else ""
        return f"<traced {self._adjit_type}{made}>"

    def __str__(self) -> str:
        plain = plain_of(self)
        return repr(self) if plain is None else str(plain)

    # Sequence.

    def __len__(self) -> int:
        return self._adjit_type.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(self._adjit_type.shape[0])])

    def __getitem__(self, key: Any) -> Any:
        return table.METHODS["__getitem__"](self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        table.METHODS["__setitem__"](self, key, value)

    def __delitem__(self, key: Any) -> NoReturn:
        raise refuse.trace_error("elements of an array cannot be deleted: write np.delete or a slice", numpy_too=True)

    def __copy__(self) -> Any:
        return table.METHODS["copy"](self)

    def __deepcopy__(self, memo: Any) -> Any:
        return table.METHODS["copy"](self)

    # Operators.

    def __add__(self, other: Any) -> Any:
        return _binary(np.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _binary(np.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return _binary(np.subtract, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _binary(np.subtract, other, self)

    def __mul__(self, other: Any) -> Any:
        return _binary(np.multiply, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _binary(np.multiply, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _binary(np.true_divide, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _binary(np.true_divide, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _binary(np.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _binary(np.floor_divide, other, self)

    def __mod__(self, other: Any) -> Any:
        return _binary(np.remainder, self, other)

    def __rmod__(self, other: Any) -> Any:
        return _binary(np.remainder, other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if modulo is not None:
            raise refuse.trace_error("pow with a modulus is not supported on traced arrays: write (x ** y) % m")
        return _binary(np.power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _binary(np.power, other, self)

    def __matmul__(self, other: Any) -> Any:
        return _binary(np.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _binary(np.matmul, other, self)

    def __and__(self, other: Any) -> Any:
        return _binary(np.bitwise_and, self, other)

    def __rand__(self, other: Any) -> Any:
        return _binary(np.bitwise_and, other, self)

    def __or__(self, other: Any) -> Any:
        return _binary(np.bitwise_or, self, other)

    def __ror__(self, other: Any) -> Any:
        return _binary(np.bitwise_or, other, self)

    def __xor__(self, other: Any) -> Any:
        return _binary(np.bitwise_xor, self, other)

    def __rxor__(self, other: Any) -> Any:
        return _binary(np.bitwise_xor, other, self)

    def __lshift__(self, other: Any) -> Any:
        return _binary(np.left_shift, self, other)

    def __rlshift__(self, other: Any) -> Any:
        return _binary(np.left_shift, other, self)

    def __rshift__(self, other: Any) -> Any:
        return _binary(np.right_shift, self, other)

    def __rrshift__(self, other: Any) -> Any:
        return _binary(np.right_shift, other, self)

    def __lt__(self, other: Any) -> Any:
        return _compare(np.less, self, other)

    def __le__(self, other: Any) -> Any:
        return _compare(np.less_equal, self, other)

    def __gt__(self, other: Any) -> Any:
        return _compare(np.greater, self, other)

    def __ge__(self, other: Any) -> Any:
        return _compare(np.greater_equal, self, other)

    def __eq__(self, other: Any) -> Any:
        return _compare(np.equal, self, other)

    def __ne__(self, other: Any) -> Any:
        return _compare(np.not_equal, self, other)

    def __neg__(self) -> Any:
        return _unary(np.negative, self)

    def __pos__(self) -> Any:
        return _unary(np.positive, self)

    def __abs__(self) -> Any:
        return _unary(np.absolute, self)

    def __invert__(self) -> Any:
        return _unary(np.invert, self)


class ArrayTracer(Tracer):
    """A tracer of one dimension or more: operators such as += change it in place, as in NumPy."""

    __slots__ = ()

    def __iadd__(self, other: Any) -> Any:
        return _in_place(np.add, self, other)

    def __isub__(self, other: Any) -> Any:
        return _in_place(np.subtract, self, other)

    def __imul__(self, other: Any) -> Any:
        return _in_place(np.multiply, self, other)

    def __itruediv__(self, other: Any) -> Any:
        return _in_place(np.true_divide, self, other)

    def __ifloordiv__(self, other: Any) -> Any:
        return _in_place(np.floor_divide, self, other)

    def __imod__(self, other: Any) -> Any:
        return _in_place(np.remainder, self, other)

    def __ipow__(self, other: Any, modulo: Any = None) -> Any:
        return _in_place(np.power, self, other)

    def __imatmul__(self, other: Any) -> Any:
        return _in_place(np.matmul, self, other)

    def __iand__(self, other: Any) -> Any:
        return _in_place(np.bitwise_and, self, other)

    def __ior__(self, other: Any) -> Any:
        return _in_place(np.bitwise_or, self, other)

    def __ixor__(self, other: Any) -> Any:
        return _in_place(np.bitwise_xor, self, other)

    def __ilshift__(self, other: Any) -> Any:
        return _in_place(np.left_shift, self, other)

    def __irshift__(self, other: Any) -> Any:
        return _in_place(np.right_shift, self, other)


class ViewTracer(ArrayTracer):
    """A 0-d view, such as x[0, ...]: changed in place like an array, not iterable."""

    __slots__ = ()

    def __iter__(self) -> NoReturn:
        raise refuse.iteration(node_of(self))

    def __len__(self) -> NoReturn:
        raise refuse.iteration(node_of(self))


class ScalarTracer(Tracer):
    """A 0-d tracer. Like NumPy's scalars it is immutable: `s += 1` gives `s` another value. It is not iterable."""

    __slots__ = ()

    def __iter__(self) -> NoReturn:
        raise refuse.iteration(node_of(self))

    def __len__(self) -> NoReturn:
        raise refuse.iteration(node_of(self))


# Python's own errors name the class, and users know it by what it stands for.
for _kind, _shown in (
    (Tracer, "traced array"),
    (ArrayTracer, "traced array"),
    (ViewTracer, "traced array"),
    (ScalarTracer, "traced scalar"),
):
    _kind.__name__ = _kind.__qualname__ = _shown


def make(root: Root, path: tuple[Step, ...], node: Node, strides: Strides | None, scalar: bool) -> Tracer:
    """A tracer whose value is `node` now."""
    tracer = blank(root, path, node.array_type, scalar)
    tracer._adjit_node = node
    tracer._adjit_plain = None
    tracer._adjit_version = root.version
    tracer._adjit_strides = strides
    tracer._adjit_made = root.trace.builder.loc if node.loc is None else node.loc
    return tracer


def blank(root: Root, path: tuple[Step, ...], type: Array, scalar: bool) -> Tracer:
    """A tracer of that type without a value."""
    kind = ArrayTracer if type.shape else ScalarTracer if scalar else ViewTracer
    tracer = object.__new__(kind)
    tracer._adjit_root = root
    tracer._adjit_path = path
    tracer._adjit_type = type
    tracer._adjit_scalar = scalar and not type.shape
    tracer._adjit_shown = np.dtype(type.dtype).type if tracer._adjit_scalar else np.ndarray
    return tracer


def plain_of(tracer: Tracer) -> np.ndarray | None:
    """The values of a tracer as the memory that it has, where they are known."""
    return tracer._adjit_plain if tracer._adjit_root.plain is not None else None


def note_write(tracer: Tracer) -> None:
    """Say that the memory of a known tracer is written now. Raises TraceError in the body of a loop outside of which
    the array was made: the body is traced once, and runs several times."""
    root = tracer._adjit_root
    part = root.trace.part_inside()
    if part:
        raise refuse.write_in_part(part)
    root.written_at(locate())


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def _whole(rounded: Any, x: Any) -> Any:
    """Python's integer of a traced number, computed as NumPy's int64."""
    if x.shape:
        raise refuse.number(node_of(x), "int")
    whole = rounded(x)
    return shown_as(whole if whole.dtype.kind in "iu" else whole.astype(np.int64), int)


def fresh(node: Node, strides: Strides | None = None, readonly: str = "") -> Tracer:
    """A tracer with memory of its own; 0-d ones are scalars."""
    trace = current_trace()
    if trace is None:
        raise refuse.trace_error("a traced value is made outside a trace")
    return make(Root(trace, node, readonly), (), node, strides, scalar=True)


_PYTHON: dict[str, type] = {"b": bool, "i": int, "f": float}
_OF_PYTHON = frozenset(_PYTHON.values())


def showing(tracer: Tracer, kind: type) -> Tracer:
    """The tracer, new and nobody else's yet, as one of a value of that class."""
    tracer._adjit_shown = kind
    return tracer


def array_of(tracer: Tracer, readonly: str = "") -> Tracer:
    """The tracer, or where it is a scalar, an array without dimensions of its value, which is changed in place unless
    `readonly` says whose it is."""
    if not tracer._adjit_scalar:
        return tracer
    node = node_of(tracer)
    return make(fresh(node, readonly=readonly)._adjit_root, (), node, (), scalar=False)


def shown_as(tracer: Tracer, kind: type) -> Tracer:
    """The value of a tracer without dimensions as one of that class: another tracer, as others may hold this one."""
    return tracer if tracer._adjit_shown is kind else showing(fresh(node_of(tracer)), kind)


def python_class(tracer: Tracer) -> type:
    """Python's class of the value: float, int or bool."""
    return _PYTHON[tracer._adjit_type.dtype.kind]


def python_number(tracer: Tracer) -> Tracer:
    """A new weak tracer as one of Python's float, int or bool."""
    return showing(tracer, python_class(tracer))


def is_python_number(x: Any) -> bool:
    """Whether `x` is a Python number, or stands for one: an argument, or what Python's operators made of such."""
    return type(x) in _OF_PYTHON or (isinstance(x, Tracer) and x._adjit_shown in _OF_PYTHON)


def like_python(result: Any, *operands: Any) -> Any:
    """What an operator gave, as Python's number where all its operands are; NumPy's functions give NumPy's scalars."""
    if isinstance(result, Tracer) and result._adjit_type.weak and all(map(is_python_number, operands)):
        return python_number(result)
    return result


def maybe_of(tracer: Tracer) -> Loc | None:
    """Where the handle became a view or a copy; None where it is certain."""
    return next((step.maybe for step in tracer._adjit_path if step.maybe is not None), None)


def node_of(tracer: Tracer) -> Node:
    """The value of a tracer now, as a node of the current trace."""
    root = tracer._adjit_root
    trace = root.trace
    current = current_trace()
    plain = plain_of(tracer)
    if plain is not None and current is not None:
        return current.constant(plain, locate())
    if not trace.alive:
        raise refuse.ended(trace.name, tracer._adjit_made)
    node = tracer._adjit_node
    if node is None or tracer._adjit_version != root.version:
        node = _reread(tracer, root)
    if current is trace:
        return node
    if current is None or not trace.encloses(current):
        raise refuse.foreign(trace)
    return current.capture(node, trace)


def _reread(tracer: Tracer, root: Root) -> Node:
    maybe = maybe_of(tracer)
    if maybe is not None:
        raise refuse.maybe_read(maybe, root.written)
    root.trace.builder.loc = locate()
    node = root.read(tracer._adjit_path)
    tracer._adjit_node = node
    tracer._adjit_version = root.version
    return node


def localize(tracer: Tracer) -> Tracer:
    """The tracer, or where it belongs to an enclosing trace and is not known, one of the current trace that stands for
    it."""
    return tracer if plain_of(tracer) is not None else made_local(tracer)


def made_local(tracer: Tracer) -> Tracer:
    """The same of one that is known: what is computed from it and traced values belongs to the current trace."""
    if tracer._adjit_root.trace is current_trace() and tracer._adjit_root.trace.alive:
        return tracer
    node = node_of(tracer)
    local = fresh(node, tracer._adjit_strides, readonly="a value that the function closes over")
    return showing(local, tracer._adjit_shown)


def is_tracer(x: object) -> bool:
    """Whether `x` stands for an array of a function that is being traced."""
    return isinstance(x, Tracer)


def _binary(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    return table.METHODS["binary operator"](ufunc, x, y)


def _compare(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    return table.METHODS["comparison operator"](ufunc, x, y)


def _unary(ufunc: np.ufunc, x: Any) -> Any:
    return table.METHODS["unary operator"](ufunc, x)


def _in_place(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    return table.METHODS["in-place operator"](ufunc, x, y)
