"""Random numbers that a trace would freeze: drawn once while the function is traced, they would be the same for ever.

While any trace is open, the functions of `np.random` and `random` are exchanged for ones that refuse where a trace is
open in their own thread and are what they were in others; `exchanged` makes and ends that by C code alone, so that no
interrupt leaves them behind. Generators that the function can see (`seen_generators`) are looked at before and after:
their methods cannot be exchanged. A generator made inside of a known seed gives the same numbers in every call of the
plain function, too, and is no business of ours."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import operator
import pickle
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import numpy as np

from adjit.ir.node import Loc
from adjit.trace import refuse
from adjit.trace.context import current_trace
from adjit.trace.locate import origin
from adjit_runtime import fork
from adjit_runtime.errors import TraceError
from adjit_runtime.guard import held

ResultT = TypeVar("ResultT")

_UNIFORM, _NORMAL = "adjit.random.uniform(key, shape)", "adjit.random.normal(key, shape)"
_PERMUTATION = "adjit.random.permutation(key, n) outside, and pass the positions as an argument"
_INTEGERS = "np.floor(adjit.random.uniform(key, shape) * n)"
_INSTEAD: dict[str, str] = {
    **dict.fromkeys(("rand", "random", "random_sample", "ranf", "uniform"), _UNIFORM),
    **dict.fromkeys(("normal", "standard_normal", "randn", "gauss", "normalvariate"), _NORMAL),
    **dict.fromkeys(("permutation", "shuffle", "choice", "choices"), _PERMUTATION),
    **dict.fromkeys(("randint", "randrange", "random_integers"), _INTEGERS),
    **dict.fromkeys(("bytes", "randbytes", "getrandbits"), "adjit.random.bits(key, shape)"),
    **dict.fromkeys(("exponential", "standard_exponential", "expovariate"), f"-np.log1p(-{_UNIFORM})"),
    **dict.fromkeys(("lognormal", "lognormvariate"), f"np.exp({_NORMAL})"),
    **dict.fromkeys(("seed", "set_state", "setstate", "default_rng"), "adjit.random.key(seed) outside"),
    "binomial": "adjit.random.bernoulli(key, p, shape)",
}
"""What to write in place of a function, by its name."""


def _refusal(name: str) -> str:
    instead = _INSTEAD.get(name.rpartition(".")[2], f"what {_UNIFORM} or {_NORMAL} make")
    return (
        f"{name} would be called once, while the function is traced, and every later call would use the same numbers: "
        f"give the function an argument `key` and write {instead}; or draw outside and pass the numbers as an argument"
    )


class _Refusing:
    """A function of a module of random numbers: it refuses inside a trace of its own thread."""

    def __init__(self, name: str, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self.name = name
        self.original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_trace() is not None and not _is_seeded(self.name, args, kwargs) and not _is_of_python():
            raise refuse.trace_error(_refusal(self.name))
        return self.original(*args, **kwargs)


def _is_seeded(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a generator is made of a known seed."""
    return name == "np.random.default_rng" and (*args, kwargs.get("seed"))[0] is not None


def _is_of_python() -> bool:
    """Whether the standard library calls, for a name of a file or a pause: its numbers are none of the function's."""
    return origin(sys._getframe(2).f_code.co_filename) == "standard"


_HARMLESS = frozenset({"get_state", "getstate"})


class _Drawing:
    """What draws: every function that is exchanged, by its name for a user, the names of its module, and its own there;
    of each module its names, and what stands there while a trace is open (True) and otherwise (False); and of each
    class of generators how its state is read."""

    def __init__(self) -> None:
        modules = (
            ("np.random", np.random, [*np.random.__all__, "ranf", "sample"], np.random.mtrand._rand),
            ("random", random, random.__all__, random._inst),
        )
        self.exchanged = tuple(itertools.chain(*itertools.starmap(_names, modules)))
        self.tables: tuple[tuple[dict[str, Any], dict[bool, dict[str, Any]]], ...] = tuple(
            (vars(module), {True: {}, False: {}}) for _, module, _, _ in modules
        )
        self.states: dict[type, Callable[[Any], Any]] = {
            np.random.Generator: lambda g: g.bit_generator.state,
            np.random.RandomState: lambda g: g.get_state(legacy=False),
            random.Random: random.Random.getstate,
        }


def _names(
    prefix: str, module: ModuleType, names: list[str], shared: object
) -> Iterator[tuple[str, dict[str, Any], str]]:
    for name in dict.fromkeys(names):
        function = getattr(module, name, None)
        draws = getattr(function, "__self__", None) is shared or name in ("default_rng", "seed", "ranf", "sample")
        if draws and name not in _HARMLESS:
            yield f"{prefix}.{name}", vars(module), name


_DRAWING: dict[None, _Drawing] = {}


def drawing() -> _Drawing:
    """The process's one, made for the first trace: NumPy imports np.random when it is asked for, which takes some
    milliseconds."""
    return _DRAWING.get(None) or _DRAWING.setdefault(None, _Drawing())


_OPEN: dict[object, int] = {}
"""One object for each trace that is open, and its thread."""


def _look() -> None:
    """Note what the modules have now: a user, or a test, may have put something else there."""
    tables = {id(names): table for names, table in drawing().tables}
    for shown, names, name in drawing().exchanged:
        table, now = tables[id(names)], names[name]
        if not isinstance(now, _Refusing) and table[False].get(name) is not now:
            table[False][name], table[True][name] = now, _Refusing(shown, now)


def exchanged(function: Callable[..., ResultT], *args: Any) -> ResultT:
    """`function(*args)`, which traces, while the modules refuse."""
    _look()
    token = object()
    begin = _settling(functools.partial(_OPEN.__setitem__, token, threading.get_ident()))
    end = _settling(functools.partial(_OPEN.pop, token, None))
    return held(begin, end, function, *args)


def _settling(change: Callable[[], Any]) -> Callable[[], Any]:
    """Change `_OPEN`, and give each module the names that are right then: a function that can be called once, of C code
    alone. No bytecode, so neither an interrupt nor another thread, comes between its steps."""
    steps = [map(operator.call, (change,))]
    for names, table in drawing().tables:
        is_open = map(bool, itertools.repeat(_OPEN, 1))
        steps.append(map(names.update, map(table.__getitem__, is_open)))
    # A deque of no length runs an iterator to its end.
    return functools.partial(deque, itertools.chain(*steps), 0)


def _forget_others() -> None:
    """A child process has none of the other threads, which would have ended their traces."""
    for token, thread in list(_OPEN.items()):
        if thread != threading.get_ident():
            _settling(functools.partial(_OPEN.pop, token, None))()


fork.in_child(_forget_others)


# -- generators that a function can see -------------------------------------------------------------------------------


def watched(function: Callable[..., Any], trace: Callable[..., ResultT], *args: Any) -> ResultT:
    """`trace(*args)`, which traces the function. Raises TraceError where a generator that the function can see was
    drawn from meanwhile: closed over, global, a default, or an attribute of what is, in the helpers that it calls too.
    """
    known = [(name, generator, _state(generator)) for name, generator in seen_generators(function)]
    result = trace(*args)
    for name, generator, before in known:
        if _state(generator) != before:
            code = getattr(function, "__code__", None)
            loc = Loc(code.co_filename, code.co_firstlineno) if code is not None else None
            raise refuse.located(TraceError, _refusal(f"a method of the generator `{name}`"), loc)
    return result


def _state(generator: Any) -> bytes:
    return pickle.dumps(next(read for kind, read in drawing().states.items() if isinstance(generator, kind))(generator))


def seen_generators(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """The generators that a function's code can name, with that name."""
    generators = tuple(drawing().states)
    found: dict[int, tuple[str, Any]] = {}
    seen: set[tuple[int, frozenset[str]]] = set()
    waiting: list[_Part] = [("", function, frozenset())]
    while waiting and len(seen) < _MOST_PARTS:
        name, value, names = waiting.pop()
        if (id(value), names) in seen:
            continue
        seen.add((id(value), names))
        if isinstance(value, generators):
            found[id(value)] = name, value
        waiting += _parts(name, value, names)
    return list(found.values())


_Part = tuple[str, Any, frozenset[str]]
"""A name, a value, and the attributes of it that code may name."""


def _parts(name: str, value: Any, names: frozenset[str]) -> list[_Part]:
    """What a value can name further: of a function its globals, closure, defaults and self; of an object its attributes
    and methods that the code names; of a small container its items."""
    if isinstance(value, functools.partial):
        return [(name, part, names) for part in (value.func, *value.args, *value.keywords.values())]
    if isinstance(value, dict) and len(value) <= _MOST_ITEMS:
        return [(f"{name}[{key!r}]", item, names) for key, item in value.items()]
    if isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS:
        return [(f"{name}[{i}]", item, names) for i, item in enumerate(value)]
    if isinstance(value, MethodType | BuiltinMethodType):
        # A method of a generator, too: `normal = rng.normal`.
        function = getattr(value, "__func__", None)
        return [(name, value.__self__, names | _names_of(function)), (name, function, names)]
    held = getattr(value, "__dict__", None)
    if isinstance(value, type | ModuleType) or not isinstance(held, dict):
        return []
    parts = [(name, held[key], names) for key in _BEHIND if key in held]
    if isinstance(value, FunctionType):
        return [*parts, *_of_function(value)]
    methods = [method for key in names if (method := inspect.getattr_static(type(value), key, None)) is not None]
    more = names.union(*map(_names_of, methods))
    parts += [(name, value, more), *((name, method, names) for method in methods)]
    return [*parts, *((f"{name}.{key}", held[key], names) for key in names if key in held)]


def _names_of(function: Any) -> frozenset[str]:
    """The names in the code of a function, or of one that a decorator put something around."""
    for key in ("fget", *_BEHIND):
        function = getattr(function, key, function) if not isinstance(function, FunctionType) else function
    return _names_in(function.__code__) if isinstance(function, FunctionType) else frozenset()


_MOST_PARTS = 2000
_MOST_ITEMS = 100
_BEHIND = ("__wrapped__", "__func__", "__self__")
"""Where decorators and bound functions keep what they stand for."""


def _of_function(function: FunctionType) -> list[tuple[str, Any, frozenset[str]]]:
    if origin(function.__code__.co_filename) != "user":
        return []
    names = _names_in(function.__code__)
    parts = [(name, function.__globals__[name], names) for name in names if name in function.__globals__]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            parts.append((name, cell.cell_contents, names))
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return parts + [("a default", value, names) for value in defaults]


def _names_in(code: CodeType) -> frozenset[str]:
    """The globals and attributes that code names, with the functions inside of it."""
    inner = (_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)
