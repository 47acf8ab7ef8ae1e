"""Where a statement goes on, and which names are live there: may be read before they are bound anew."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

from adjit.rewriting.names import bound, reads

LoopStatement = ast.While | ast.For
Live = frozenset[str]

FALL, RETURN, BREAK, CONTINUE = "fall", "return", "break", "continue"


def ways(statements: Sequence[ast.stmt]) -> frozenset[str]:
    """How a block may end: it falls through, or jumps; an error is no way."""
    found: set[str] = set()
    for statement in statements:
        each = _ways(statement)
        found |= each - {FALL}
        if FALL not in each:
            return frozenset(found)
    return frozenset({*found, FALL})


def _ways(node: ast.stmt) -> frozenset[str]:
    jumps = {ast.Return: RETURN, ast.Break: BREAK, ast.Continue: CONTINUE}
    if type(node) in jumps:
        return frozenset({jumps[type(node)]})
    if isinstance(node, ast.Raise):
        return frozenset()
    if isinstance(node, ast.If):
        return ways(node.body) | ways(node.orelse)
    if isinstance(node, LoopStatement):
        inside = ways(node.body)
        endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and bool(node.test.value)
        after = frozenset() if endless else ways(node.orelse)
        return after | (inside & {RETURN}) | ({FALL} if BREAK in inside else frozenset())
    return _of_block(node)


def _of_block(node: ast.stmt) -> frozenset[str]:
    if isinstance(node, ast.With):
        return ways(node.body)
    if isinstance(node, ast.Try | ast.TryStar):
        handled = frozenset().union(*(ways(handler.body) for handler in node.handlers))
        return ways([*node.body, *node.orelse]) | handled | (ways(node.finalbody) - {FALL})
    if isinstance(node, ast.Match):
        return frozenset({FALL}).union(*(ways(case.body) for case in node.cases))
    return frozenset({FALL})


@dataclass(frozen=True, eq=False)
class Liveness:
    """The names that are live after each statement, and at the head and the exits of each loop."""

    after: dict[ast.stmt, Live] = field(default_factory=dict)
    head: dict[LoopStatement, Live] = field(default_factory=dict)
    done: dict[LoopStatement, Live] = field(default_factory=dict)


def liveness(statements: Sequence[ast.stmt]) -> Liveness:
    """Of the statements of a function."""
    found = _Walk(Liveness())
    found.block(statements, frozenset(), {RETURN: frozenset()})
    return found.of


@dataclass(frozen=True, eq=False)
class _Walk:
    """A walk over statements, the last one first."""

    of: Liveness

    def block(self, statements: Sequence[ast.stmt], live: Live, jumps: dict[str, Live]) -> Live:
        """What is live ahead of a block, where `live` is so after it and `jumps` where a jump leads."""
        for statement in reversed(statements):
            self.of.after[statement] = live
            live = self._ahead(statement, live, jumps)
        return live

    def _ahead(self, node: ast.stmt, live: Live, jumps: dict[str, Live]) -> Live:
        if isinstance(node, ast.Return | ast.Break | ast.Continue):
            target = {ast.Return: RETURN, ast.Break: BREAK, ast.Continue: CONTINUE}[type(node)]
            return jumps.get(target, frozenset()).union(reads(node))
        if isinstance(node, ast.Raise):
            return jumps.get("raise", frozenset()).union(reads(node))
        if isinstance(node, ast.If):
            return self.block(node.body, live, jumps) | self.block(node.orelse, live, jumps) | reads(node.test)
        if isinstance(node, LoopStatement):
            return self._loop(node, live, jumps)
        if isinstance(node, ast.With):
            inside = self.block(node.body, live, jumps)
            return (inside - _bound_surely(node)) | frozenset().union(*map(reads, node.items))
        if isinstance(node, ast.Try | ast.TryStar):
            return self._try(node, live, jumps)
        if isinstance(node, ast.Match):
            cases = [
                self.block(case.body, live, jumps) | reads(case.pattern) | reads(case.guard) for case in node.cases
            ]
            return live.union(reads(node.subject), *cases)
        return (live - _bound_surely(node)) | reads(node)

    def _loop(self, node: LoopStatement, live: Live, jumps: dict[str, Live]) -> Live:
        done = self.block(node.orelse, live, jumps)
        ahead = done | (reads(node.test) if isinstance(node, ast.While) else frozenset())
        target = frozenset(bound([node.target])) if isinstance(node, ast.For) else frozenset()
        while True:
            inside = self.block(node.body, ahead, {**jumps, BREAK: live, CONTINUE: ahead}) - target
            if inside <= ahead:
                break
            ahead |= inside
        self.of.head[node], self.of.done[node] = ahead, done
        return ahead | (reads(node.iter) if isinstance(node, ast.For) else frozenset())

    def _try(self, node: ast.Try | ast.TryStar, live: Live, jumps: dict[str, Live]) -> Live:
        last = self.block(node.finalbody, live, jumps)
        jumps = {name: names | last for name, names in jumps.items()}
        handled = last.union(
            *(self.block(each.body, last, jumps) | reads(each.type) for each in node.handlers),
        )
        # Each statement of the body may be the last one that runs.
        jumps = {**jumps, "raise": handled | jumps.get("raise", frozenset())}
        inside = self.block([*node.body, *node.orelse], last | handled, jumps)
        return inside | handled


def _bound_surely(node: ast.stmt) -> set[str]:
    """The names that a statement binds whatever happens."""
    if isinstance(node, ast.With):
        return set(bound([item.optional_vars for item in node.items if item.optional_vars is not None]))
    if isinstance(node, ast.Assign | ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Delete):
        return set(bound([node]))
    return set(bound([node.target])) if isinstance(node, ast.AnnAssign) and node.value is not None else set()
