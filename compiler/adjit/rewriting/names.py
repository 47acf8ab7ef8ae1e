"""Which names a piece of source binds, reads, and changes in place.

Functions and classes inside are scopes of their own: what they read of the names around them counts as read where they
are defined."""

from __future__ import annotations

import ast
from collections.abc import Iterable

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

_CHANGING = frozenset(
    {
        "add", "append", "clear", "extend", "fill", "insert", "partition", "pop", "put", "remove", "reverse",
        "setdefault", "sort", "update",
    }
)  # fmt: skip
"""Methods that change what they belong to."""
_FILLING = frozenset({"at", "copyto", "place", "put", "putmask", "fill_diagonal"})
"""Functions that change their first argument."""


def bound(nodes: Iterable[ast.AST]) -> dict[str, int]:
    """The names that source binds in its own scope, each with the line where it does so first."""
    found: dict[str, int] = {}
    waiting = list(nodes)[::-1]
    while waiting:
        node = waiting.pop()
        for name in _bound_by(node):
            found.setdefault(name, node.lineno)  # type: ignore[attr-defined]
        if isinstance(node, Comprehension):
            inner = [each for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
            waiting += [each.target for each in inner]
        elif not isinstance(node, Scope | ast.ClassDef):
            waiting += list(ast.iter_child_nodes(node))[::-1]
    return found


def _bound_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names if alias.name != "*"]
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [node.name] if node.name else []
    if isinstance(node, ast.MatchMapping):
        return [node.rest] if node.rest else []
    return []


def declared(nodes: Iterable[ast.stmt], kind: type[ast.Global] | type[ast.Nonlocal]) -> set[str]:
    """The names that a scope declares to be those of another one."""
    return {name for node in _own(nodes) if isinstance(node, kind) for name in node.names}


def parameters(args: ast.arguments) -> list[str]:
    """The names of all parameters."""
    more = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
    return [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, *more)]


def reads(node: ast.AST | None) -> set[str]:
    """The names that source reads, of its own scope or scopes around it."""
    if node is None:
        return set()
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.AugAssign):
        target = {node.target.id} if isinstance(node.target, ast.Name) else reads(node.target)
        return target | reads(node.value)
    if isinstance(node, Comprehension):
        targets = {name for each in node.generators for name in bound([each.target])}
        return (_of_children(node) - targets) | reads(node.generators[0].iter)
    if isinstance(node, Scope):
        return _of_scope(node)
    return _of_children(node)


def _of_children(node: ast.AST) -> set[str]:
    return set().union(*map(reads, ast.iter_child_nodes(node)))


def _of_scope(node: Scope) -> set[str]:
    """What a function reads of the names around it, and what its defaults and decorators read."""
    body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
    statements = [each for each in body if isinstance(each, ast.stmt)]
    own = {*parameters(node.args), *bound(body)} - declared(statements, ast.Nonlocal)
    inside = set().union(*map(reads, body)) | declared(statements, ast.Nonlocal)
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return (inside - own) | reads(node.args) | set().union(*map(reads, decorators))


def captured(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that functions inside read, which may do so at any time."""
    return {name for node in _own(nodes) if isinstance(node, Scope) for name in _of_scope(node)}


def changed(nodes: Iterable[ast.AST]) -> set[str]:
    """The names whose values source changes in place, as far as its text tells."""
    return {name for node in _own(nodes) for target in _changed_by(node) if (name := _base(target))}


def _changed_by(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return [node]
    if isinstance(node, ast.AugAssign):
        return [node.target]
    if not isinstance(node, ast.Call):
        return []
    found = [each.value for each in node.keywords if each.arg == "out"]
    if isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
        found.append(node.func.value)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _FILLING:
        found += node.args[:1]
    return found


def _base(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _own(nodes: Iterable[ast.AST]) -> list[ast.AST]:
    """The nodes of a scope; those of scopes inside are left out, but not these themselves."""
    found = []
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, Scope | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return found
