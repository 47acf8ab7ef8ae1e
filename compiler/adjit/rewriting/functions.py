"""A function becomes one whose control flow `Statements` runs: of the same globals, cells, defaults and name.

Functions of the user's own alone: those of Python, NumPy, adjit and installed packages stay what they are, and so do
classes, generators and coroutines."""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import functools
import operator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from adjit.rewriting import standins
from adjit.rewriting.expressions import RUNTIME, Expressions, at
from adjit.rewriting.facts import Fact
from adjit.rewriting.run import Statements
from adjit.rewriting.source import is_plain, source_of
from adjit.rewriting.statements import BoundInTests, rewritten_definition
from adjit.trace.locate import origin

_CODES: dict[int, tuple[CodeType, CodeType, Statements]] = {}
"""New code by the id of a function's code, which is kept, so that its id is not given to another one."""
_OURS: dict[int, CodeType] = {}
"""Code that was made here."""
_MOST = 10_000


def rewritten(function: Any) -> Any:
    """What is called in the place of a function: where it is the user's, the function with its control flow rewritten.
    Raises TraceError where it has no source."""
    if isinstance(function, FunctionType):
        return _function(function)
    if isinstance(function, MethodType):
        inner = rewritten(function.__func__)
        return function if inner is function.__func__ else MethodType(inner, function.__self__)
    if type(function) is functools.partial:
        inner = rewritten(function.func)
        return function if inner is function.func else functools.partial(inner, *function.args, **function.keywords)
    return _object(function)


def _object(function: Any) -> Any:
    """An object whose class has a `__call__`."""
    method = None if isinstance(function, type) else getattr(type(function), "__call__", None)  # noqa: B004
    if not isinstance(method, FunctionType) or not is_users(method):
        return function
    return MethodType(_function(method), function)


def is_users(function: FunctionType) -> bool:
    """Whether a function is the user's own."""
    return origin(function.__code__.co_filename) == "user"


def _function(function: FunctionType) -> FunctionType:
    code = function.__code__
    if id(code) in _OURS or not is_users(function) or not is_plain(function):
        return function
    known = _CODES.get(id(code))
    if known is None or known[0] is not code:
        if len(_CODES) >= _MOST:
            _CODES.clear()
            _OURS.clear()
        known = _CODES[id(code)] = (code, *_rewritten_code(function))
        _note(known[1])
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    cells[RUNTIME] = CellType(known[2])
    closure = tuple(cells[name] for name in known[1].co_freevars)
    made = FunctionType(known[1], function.__globals__, function.__name__, function.__defaults__, closure)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__ = function.__qualname__
    made.__module__ = function.__module__
    made.__doc__ = function.__doc__
    made.__dict__.update(function.__dict__)
    return made


def _note(code: CodeType) -> None:
    _OURS[id(code)] = code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            _note(each)


def _rewritten_code(function: FunctionType) -> tuple[CodeType, Statements]:
    code = function.__code__
    file = code.co_filename
    source = source_of(function)
    node = BoundInTests().visit(copy.deepcopy(source.node))
    facts: list[Fact] = []
    resolves = functools.partial(_resolves, function)
    around = {*code.co_freevars}
    if isinstance(node, ast.Lambda):
        definition: ast.stmt = ast.Expr(value=Expressions(file, facts, resolves, around).visit(node))
        # Places of lambdas that stand inside of an expression are kept.
        at(definition, node)
    else:
        definition = rewritten_definition(file, node, resolves, facts, around)
    own = {code.co_name, source.owner or ""} - {"", "<lambda>", *code.co_freevars}
    if source.owner is not None:
        # Private names are mangled by the class that they stand in.
        owner = ast.ClassDef(name=source.owner, bases=[], keywords=[], body=[definition], decorator_list=[])
        definition = at(owner, node)
    names = [RUNTIME, *(name for name in code.co_freevars if name != "__class__")]
    if "__class__" in code.co_freevars and source.owner is None:
        names.append("__class__")
    parameters = [ast.arg(arg=name) for name in names]
    args = ast.arguments(posonlyargs=[], args=parameters, kwonlyargs=[], kw_defaults=[], defaults=[])
    # Its own name, and that of its class, are no variables of the function around it.
    ahead = [ast.Global(names=sorted(own))] if own else []
    outer = ast.FunctionDef(name="_adjit_outer", args=args, body=[*ahead, definition], decorator_list=[])
    module = ast.Module(body=[at(outer, node)], type_ignores=[])
    for each in ast.walk(module):
        if hasattr(each, "type_params") or "type_params" in each._fields:
            each.type_params = getattr(each, "type_params", [])  # type: ignore[attr-defined]
    flags = code.co_flags & _FUTURES
    compiled = compile(module, file, "exec", flags=flags, dont_inherit=True)
    found = _code_named(compiled, code.co_name, source.owner)
    return found, Statements(file, facts, rewritten)


_FUTURES = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
"""The flags of code that a file's `from __future__ import` sets."""


def _code_named(code: CodeType, name: str, owner: str | None) -> CodeType:
    """The code of the function in that of the module around it."""
    for title in ["_adjit_outer", *([owner] if owner else []), name]:
        code = next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == title)
    return code


def _resolves(function: FunctionType, callee: ast.expr, names: set[str]) -> bool:
    """Whether what is called is known from the globals, and stays what it is: a function of NumPy, say."""
    path = []
    while isinstance(callee, ast.Attribute):
        path.append(callee.attr)
        callee = callee.value
    if not isinstance(callee, ast.Name) or callee.id in names:
        return False
    found = function.__globals__.get(callee.id, getattr(builtins, callee.id, None))
    for name in reversed(path):
        if not isinstance(found, ModuleType):
            return False
        found = getattr(found, name, None)
    if found is None or standins.of(found) is not found or standins.takes_functions(found):
        return False
    return not isinstance(found, FunctionType | MethodType | functools.partial) or not _is_any_users(found)


def _is_any_users(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return isinstance(function, FunctionType) and is_users(function)
