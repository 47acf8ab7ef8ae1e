"""Expressions in which `and`, `or`, `not`, `a if b else c`, chained comparisons, `in`, calls and subscripts
become calls of `_adjit`. An operand that may not be evaluated is given as a function of no arguments.

    a and b          =>   _adjit.and_(a, lambda: b)
    a < b < c        =>   _adjit.compare(a, ('<', lambda: b), ('<', lambda: c))
    table[i]         =>   _adjit.item(table, i)
    helper(x)        =>   _adjit.call(helper)(x)

Functions of NumPy, of Python and of packages are called as before."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TypeVar

from adjit.rewriting.facts import Branch, Fact, Side
from adjit.rewriting.source import place_of

RUNTIME = "_adjit"
NodeT = TypeVar("NodeT", bound=ast.AST)

_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


def at(node: NodeT, old: ast.AST) -> NodeT:
    """The node, of which all that has no place stands where `old` does."""
    for each in ast.walk(node):
        if "lineno" in each._attributes and not hasattr(each, "lineno"):
            ast.copy_location(each, old)
    return node


def name(text: str) -> ast.Name:
    """A name that is read."""
    return ast.Name(id=text, ctx=ast.Load())


def runtime(method: str) -> ast.expr:
    """A function of what runs in the place of control flow."""
    return ast.Attribute(value=name(RUNTIME), attr=method, ctx=ast.Load())


def call(method: str, *args: ast.expr) -> ast.Call:
    """A call of such a function."""
    return ast.Call(func=runtime(method), args=list(args), keywords=[])


def thunk(body: ast.expr) -> ast.expr:
    """A function of no arguments that gives the value of an expression."""
    args = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Lambda(args=args, body=body)


def _stays(node: ast.AST) -> bool:
    """Whether an expression binds names, or waits, and so is nothing that may move into a function."""
    return any(isinstance(each, ast.NamedExpr | ast.Yield | ast.YieldFrom | ast.Await) for each in ast.walk(node))


class Expressions(ast.NodeTransformer):
    """`resolves(callee, names)` says whether a callee is one that needs no look when it is called."""

    def __init__(
        self, file: str, facts: list[Fact], resolves: Callable[[ast.expr, set[str]], bool], names: set[str]
    ) -> None:
        self.file = file
        self.facts = facts
        self.resolves = resolves
        self.names = names

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """`and`, `or`."""
        if _stays(node):
            return self.generic_visit(node)
        first, *others = [self.visit(each) for each in node.values]
        method = "and_" if isinstance(node.op, ast.And) else "or_"
        return at(call(method, first, *map(thunk, others)), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """`not`."""
        self.generic_visit(node)
        return at(call("not_", node.operand), node) if isinstance(node.op, ast.Not) else node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """`a if b else c`."""
        if _stays(node):
            return self.generic_visit(node)
        sides = (Side({"": node.body.lineno}, {"": frozenset({""})}, node.body.lineno),
                 Side({"": node.orelse.lineno}, {"": frozenset({""})}, node.orelse.lineno))  # fmt: skip
        none: frozenset[str] = frozenset()
        self.facts.append(Branch(place_of(self.file, node), sides, frozenset({""}), none, none, "if expression"))
        number = ast.Constant(value=len(self.facts) - 1)
        test, body, orelse = map(self.visit, (node.test, node.body, node.orelse))
        return at(call("choose", number, test, thunk(body), thunk(orelse)), node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Chains of comparisons, and `in`."""
        kinds = [type(op) for op in node.ops]
        if _stays(node) or (len(kinds) == 1 and kinds[0] not in (ast.In, ast.NotIn)):
            return self.generic_visit(node)
        pairs = [
            ast.Tuple(elts=[ast.Constant(value=_OPERATORS[kind]), thunk(self.visit(each))], ctx=ast.Load())
            for kind, each in zip(kinds, node.comparators, strict=True)
        ]
        return at(call("compare", self.visit(node.left), *pairs), node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """An element at a place that may be traced."""
        self.generic_visit(node)
        known = all(isinstance(each, ast.Constant | ast.Slice | ast.expr_context) for each in ast.walk(node.slice))
        if known or isinstance(node.slice, ast.Slice) or not isinstance(node.ctx, ast.Load):
            return node
        holds = any(isinstance(each, ast.Slice | ast.Starred) for each in ast.walk(node.slice))
        return node if holds else at(call("item", node.value, node.slice), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Calls of what may be the user's."""
        known = self.resolves(node.func, self.names)
        self.generic_visit(node)
        if not known:
            node.func = at(call("call", node.func), node.func)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """A function of an expression."""
        names = self.names
        self.names = names | {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
        if not _stays(node.body):
            node.body = self.visit(node.body)
        self.names = names
        node.args = self.generic_visit(node.args)  # type: ignore[assignment]
        return node

    def iterable(self, node: ast.expr) -> ast.expr:
        """What a `for` goes over: enumerate, zip and reversed of what has elements with numbers has such, too."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
            return self.visit(node)  # type: ignore[no-any-return]
        if node.func.id in {"enumerate", "zip", "reversed"} - self.names:
            args = [each if isinstance(each, ast.Starred) else self.iterable(each) for each in node.args]
            function = at(call("along", node.func), node.func)
            return at(ast.Call(func=function, args=args, keywords=[]), node)
        return self.visit(node)  # type: ignore[no-any-return]
