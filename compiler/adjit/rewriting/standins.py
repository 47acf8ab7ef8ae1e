"""Functions of Python that look at values, and what is called in their place in rewritten code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.control import fori_loop
from adjit.rewriting.sequences import counted_range
from adjit.rewriting.truth import both, one_of, truth
from adjit.trace import is_tracer
from adjit.trace.known import is_known
from adjit.trace.locate import is_skipped


def of(function: Any) -> Any:
    """What stands in for a function: itself, mostly."""
    try:
        return _STANDINS.get(function, function)
    except TypeError:
        # It has no hash.
        return function


def takes_functions(function: Any) -> bool:
    """Whether a function calls those that it is given: adjit's own do, and `map`."""
    if function in (map, filter, functools.reduce):
        return True
    code = getattr(function, "__code__", None)
    return code is not None and is_skipped(code.co_filename) and function.__module__.partition(".")[0] == "adjit"


def is_open(value: Any) -> bool:
    """Whether a value is traced, and not known."""
    return is_tracer(value) and not is_known(value)


def _extreme(plain: Callable[..., Any], better: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`max` or `min`: of equals the first one, as in Python."""

    def found(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and is_open(args[0]) and args[0].ndim == 1 and args[0].size and not kwargs:
            x = args[0]
            return fori_loop(1, x.size, lambda i, best: np.where(better(x[i], best), x[i], best)[()], x[0])
        items = list(args[0]) if len(args) == 1 else list(args)
        if kwargs or not any(map(is_open, items)):
            return plain(items, **kwargs) if items or kwargs else plain(*args)
        best = items[0]
        for each in items[1:]:
            best = _chosen(better(each, best), each, best)
        return best

    return found


def _chosen(holds: Any, a: Any, b: Any) -> Any:
    flag = truth(holds)
    if not is_tracer(flag):
        return a if flag else b
    return np.where(flag, a, b)[()]


def _same(value: Any) -> Any:
    return value


def _all(items: Any) -> Any:
    found: Any = True
    for each in items:
        found = truth(both(found, functools.partial(_same, each)))
        if found is False:
            return False
    return found


def _any(items: Any) -> Any:
    found: Any = False
    for each in items:
        found = truth(one_of(found, functools.partial(_same, each)))
        if found is True:
            return True
    return found


def _bool(*args: Any) -> Any:
    return truth(args[0]) if args and is_open(args[0]) else bool(*args)


_STANDINS: dict[Any, Callable[..., Any]] = {
    max: _extreme(max, lambda a, b: a > b),
    min: _extreme(min, lambda a, b: a < b),
    any: _any,
    all: _all,
    bool: _bool,
    range: counted_range,
}
