"""How a call of a NumPy function on tracers finds its implementation, and how the arguments are handed over."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adjit.trace import refuse, table
from adjit.trace.known import holds_known, holds_traced, memory, settled, shares, wrapped
from adjit.trace.lower import check_out, store
from adjit.trace.table import Implementation, method, name_of
from adjit.trace.tracer import is_tracer

_ABSENT: Any = object()


@method("__array_function__")
def array_function(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `Tracer.__array_function__` does."""
    return with_known(function, args, kwargs) if holds_known((args, kwargs)) else _traced(function, args, kwargs)


_WRITING = (np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask)
"""Functions that write into their first argument."""


def with_known(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A call with known values among its arguments: by NumPy, unless something else is not known."""
    targets = 1 if function in _WRITING and args and is_tracer(args[0]) else 0
    out = kwargs.get("out")
    given = (*args[:targets], *settled(args[targets:]))
    named = settled({key: value for key, value in kwargs.items() if key != "out"})
    if out is not None:
        named["out"] = out
    if holds_traced((given, named)) or (targets and memory(args[0]) is None):
        return _traced(function, given, named)
    if targets:
        return function(memory(args[0]), *given[1:], **named)
    named.pop("out", None)
    result = function(*given, **named)
    if out is not None:
        return store(out[0] if isinstance(out, tuple) else out, result, name_of(function))
    if not shares(result, (given, named)):
        return wrapped(result)
    if result is not given[0] and function not in table.FUNCTIONS:
        return wrapped(result, readonly=f"the result of {name_of(function)}")
    view = _traced(function, args, kwargs)
    return view if not holds_traced(view) else wrapped(result, readonly=f"the result of {name_of(function)}")


def _traced(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if function in table.FUNCTIONS:
        return call(function, table.FUNCTIONS[function], args, kwargs)
    raise refuse.function(name_of(function), table.REFUSED.get(function, ""))


@functools.cache
def signature_of(function: Any) -> inspect.Signature | None:
    """NumPy's signature of a function, where it tells one."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


@functools.cache
def _parameters(implementation: Implementation) -> tuple[frozenset[str], bool, inspect.Signature]:
    """Names of the parameters, whether there are `*args` or `**kwargs`, and the signature."""
    signature = inspect.signature(implementation)
    kinds = {p.kind for p in signature.parameters.values()}
    variadic = bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
    return frozenset(signature.parameters), variadic, signature


def call(function: Any, implementation: Implementation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call an implementation with the arguments of a call of `function`."""
    names, variadic, own = _parameters(implementation)
    name = name_of(function)
    signature = signature_of(function)
    if variadic or signature is None or any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        out = kwargs.get("out") if "out" not in names else None
        kwargs = {key: value for key, value in kwargs.items() if key != "out" or "out" in names}
        return _with_out(name, out, lambda: _call_plainly(name, implementation, own, args, kwargs))
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise refuse.trace_error(f"{name}: {error}", numpy_too=True) from None
    out = None if "out" in names else bound.pop("out", None)
    given: dict[str, Any] = {}
    for key, value in bound.items():
        parameter = signature.parameters[key]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for extra, item in value.items():
                _hand_over(name, given, names, extra, item, _ABSENT)
        else:
            _hand_over(name, given, names, key, value, parameter.default)
    return _with_out(name, out, lambda: implementation(**given))


def _with_out(name: str, out: Any, compute: Callable[[], Any]) -> Any:
    """Compute, and store the result where `out=` says."""
    out = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if out is None or out is np._NoValue:
        return compute()
    check_out(name, out)
    return store(out, compute(), name)


def call_by_name(name: str, implementation: Implementation, given: Mapping[str, Any]) -> Any:
    """Call an implementation with arguments that are known by name."""
    names, _, _ = _parameters(implementation)
    taken: dict[str, Any] = {}
    for key, value in given.items():
        _hand_over(name, taken, names, key, value, None)
    return implementation(**taken)


def _hand_over(name: str, given: dict[str, Any], names: frozenset[str], key: str, value: Any, default: Any) -> None:
    if value is np._NoValue:
        return
    if key in names:
        given[key] = value
    elif not _is_default(key, value, default):
        raise refuse.function_argument(name, key)


_HARMLESS: dict[str, tuple[Any, ...]] = {
    "order": ("K", "A", "C", None),
    "subok": (True, False),
    "optimize": (True, False, "greedy", "optimal"),
    "casting": ("same_kind",),
    "device": (None, "cpu"),
    "out": (None,),
}
"""Values of arguments that change nothing, whatever NumPy's default."""


def _is_default(name: str, value: Any, default: Any) -> bool:
    if name == "like" or value is default:
        return True
    plain = type(value) in (str, int, bool, type(None))
    return plain and (value in _HARMLESS.get(name, ()) or (type(value) is type(default) and value == default))


def _call_plainly(
    name: str,
    implementation: Implementation,
    own: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """NumPy tells no signature, or the implementation has a variable number of arguments: bind by its own."""
    given = {key: value for key, value in kwargs.items() if value is not np._NoValue}
    keywords = any(p.kind is p.VAR_KEYWORD for p in own.parameters.values())
    for key in [key for key in given if key not in own.parameters and not keywords]:
        if not _is_default(key, given.pop(key), _ABSENT):
            raise refuse.function_argument(name, key)
    try:
        own.bind(*args, **given)
    except TypeError as error:
        raise refuse.trace_error(f"{name}: {error}") from None
    return implementation(*args, **given)
