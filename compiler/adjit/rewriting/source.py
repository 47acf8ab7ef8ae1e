"""The syntax tree of a function, out of the file that it was read from, with its lines and columns.

Python knows of a function the file, the first line, and for each instruction line and columns; the tree is that of the
definition which holds them all. What has no source, or another one than when it was imported, is refused."""

from __future__ import annotations

import ast
import inspect
import linecache
from dataclasses import dataclass
from types import CodeType, FunctionType

from adjit.ir.node import Loc
from adjit_runtime.errors import TraceError

Definition = ast.FunctionDef | ast.Lambda

_TREES: dict[str, tuple[int, ast.Module]] = {}
_MOST_TREES = 256


@dataclass(frozen=True, slots=True)
class Source:
    """The definition of a function, and the name of the class that it stands in, which mangles its private names."""

    node: Definition
    owner: str | None


def source_of(function: FunctionType) -> Source:
    """Raises TraceError where there is no source of the function."""
    code = function.__code__
    tree = _tree(function)
    found = [each for each in _definitions(tree) if _starts_at(each.node, code)]
    held = [each for each in found if _holds(each.node, code)]
    if len(held) != 1:
        raise _refusal(
            function,
            "several functions stand in its line: give each a line of its own"
            if held
            else "it is not what stands there now: import it anew where the file was changed",
        )
    return held[0]


def _tree(function: FunctionType) -> ast.Module:
    file = function.__code__.co_filename
    lines = linecache.getlines(file, function.__globals__)
    if not lines:
        raise _refusal(
            function,
            "there is none: it was made by exec, or typed where Python keeps no source; write the function into a file",
        )
    text = "".join(lines)
    known = _TREES.get(file)
    if known is not None and known[0] == hash(text):
        return known[1]
    try:
        tree = ast.parse(text, file)
    except SyntaxError:
        raise _refusal(function, "the file is no text that Python reads: import it anew") from None
    if len(_TREES) >= _MOST_TREES:
        _TREES.clear()
    _TREES[file] = hash(text), tree
    return tree


def _definitions(tree: ast.Module) -> list[Source]:
    """All functions of a module."""
    found = []
    waiting: list[tuple[ast.AST, str | None]] = [(tree, None)]
    while waiting:
        node, owner = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            found.append(Source(node, owner))
        inner = node.name if isinstance(node, ast.ClassDef) else owner
        waiting += [(child, inner) for child in ast.iter_child_nodes(node)]
    return found


def _starts_at(node: Definition, code: CodeType) -> bool:
    name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
    # The first line of a function is that of its first decorator.
    decorators = [] if isinstance(node, ast.Lambda) else [each.lineno for each in node.decorator_list]
    return name == code.co_name and min([node.lineno, *decorators]) == code.co_firstlineno


def _holds(node: Definition, code: CodeType) -> bool:
    """Whether a definition has the parameters of the code, and each of its instructions a place in it."""
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    # (Private names are mangled.)
    if [name.rpartition("__")[2] for name in names] != [name.rpartition("__")[2] for name in code.co_varnames[:count]]:
        return False
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    for line, _, column, _ in code.co_positions():
        if line is None or line == code.co_firstlineno < node.lineno:
            continue
        if line > end[0] or line < start[0]:
            return False
        if isinstance(node, ast.Lambda) and column is not None and not start <= (line, column) <= end and column:
            return False
    return True


def place_of(file: str, node: ast.AST) -> Loc:
    """Where a piece of source stands."""
    line, column = node.lineno, node.col_offset  # type: ignore[attr-defined]
    end = node.end_col_offset if node.end_lineno == line else None  # type: ignore[attr-defined]
    return Loc(file, line, column, end)


def is_plain(function: FunctionType) -> bool:
    """Whether a function runs when it is called, as generators and coroutines do not."""
    return not function.__code__.co_flags & (
        inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
    )


def _refusal(function: FunctionType, reason: str) -> TraceError:
    code = function.__code__
    return TraceError(
        f"control_flow: the source of {function.__qualname__} ({code.co_filename}:{code.co_firstlineno}) is not to be "
        f"had: {reason}; or write np.where, adjit.cond and adjit.while_loop, and leave control_flow out"
    )
