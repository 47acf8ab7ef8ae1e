"""A function's tree, in which each piece of control flow becomes a call of what decides when it runs.

    if x > 0:               def _adjit_then0():
        y = x                   nonlocal y
    else:                       y = x
        return 0       =>       _adjit_value = ...
    ...                     def _adjit_else0(): ...
                            _adjit.if_(0, x > 0, _adjit_then0, _adjit_else0)

Bodies are functions over the same variables, which `_adjit` reads and sets through their cells. A jump (return, break,
continue) sets a flag, and what stands after it moves into the side of the branch that does not jump, or is guarded by
the flag. Lines and columns stay. Statements in classes, generators and coroutines stay as they are."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adjit.rewriting.expressions import Expressions, at, call, name, thunk
from adjit.rewriting.facts import RETURNED, VALUE, Branch, Fact, Loop, Side
from adjit.rewriting.flow import BREAK, CONTINUE, FALL, RETURN, Live, Liveness, liveness, ways
from adjit.rewriting.names import bound, captured, changed, declared, parameters
from adjit.rewriting.source import place_of

NOTHING: Live = frozenset()


@dataclass(frozen=True, slots=True)
class _Jumps:
    """The flags of the loop that a block is in, and what is live where its jumps lead."""

    flags: dict[str, str] = field(default_factory=dict)
    live: dict[str, Live] = field(default_factory=dict)


class Rewriting:
    """The statements of one function. `facts` collects what is known of its constructs, and of those of functions in
    it."""

    def __init__(self, file: str, node: ast.FunctionDef, resolves: Callable[[ast.expr, set[str]], bool],
                 facts: list[Fact], around: set[str]) -> None:  # fmt: skip
        self.file = file
        self.node = node
        self.resolves = resolves
        self.facts = facts
        self.globals = declared(node.body, ast.Global)
        self.free = declared(node.body, ast.Nonlocal)
        own = {*parameters(node.args), *bound(node.body)} - self.globals - self.free
        self.names = own | around
        self.locals = own
        self.escaping = (frozenset(captured(node.body)) & own) | self.free
        self.live: Liveness = liveness(node.body)
        self.flagged = any(RETURN in ways([each]) and not isinstance(each, ast.Return) for each in node.body)
        self.flags: set[str] = {RETURNED, VALUE} if self.flagged else set()
        # How many statements with handlers the one that is being rewritten is in.
        self.guards = 0

    def body(self) -> list[ast.stmt]:
        """The new statements of the function."""
        statements = list(self.node.body)
        if not self.flagged:
            made = self.block(statements, NOTHING, _Jumps())
            return [*self._bindings(), *made]
        last = statements[-1]
        if FALL in ways(statements):
            end = ast.Return(value=None)
            end.lineno = end.end_lineno = last.end_lineno or last.lineno
            end.col_offset, end.end_col_offset = last.col_offset, last.end_col_offset
            statements.append(end)
            self.live.after[end] = NOTHING
        flags = {RETURN: RETURNED}
        made = self.block(statements, NOTHING, _Jumps(flags, {RETURN: NOTHING}))
        start = self._set(RETURNED, False, self.node.body[0])
        result = at(ast.Return(value=name(VALUE)), last)
        return [*self._bindings(), start, *made, result]

    def _bindings(self) -> list[ast.stmt]:
        """A statement that never runs, by which names that bodies bind alone are variables of the function."""
        names = sorted((self.locals | self.flags) - set(parameters(self.node.args)))
        if not names:
            return []
        targets: list[ast.expr] = [ast.Name(id=each, ctx=ast.Store()) for each in names]
        never = ast.If(
            test=ast.Constant(value=False),
            body=[ast.Assign(targets=targets, value=ast.Constant(value=None))],
            orelse=[],
        )
        return [at(never, self.node.body[0])]

    # -- blocks --------------------------------------------------------------------------------------------------------

    def block(self, statements: Sequence[ast.stmt], live: Live, jumps: _Jumps) -> list[ast.stmt]:
        """New statements for a block, after which `live` is live."""
        made: list[ast.stmt] = []
        for number, statement in enumerate(statements):
            rest = list(statements[number + 1 :])
            if isinstance(statement, ast.Return | ast.Break | ast.Continue):
                return [*made, *self._jump(statement, jumps)]
            if isinstance(statement, ast.If) and ways([statement]) != {FALL} and rest:
                moved = self._moved(statement, rest)
                if moved is not None:
                    return [*made, *self._if(*moved, statement, live, jumps)]
            made += self._statement(statement, jumps)
            left = ways([statement]) - {FALL}
            if left and rest:
                return [*made, *self._guarded(rest, left, live, jumps)]
        return made

    def _moved(self, node: ast.If, rest: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]] | None:
        """Both sides, where one jumps always, so that what stands after it belongs to the other."""
        if FALL not in ways(node.body):
            return node.body, [*node.orelse, *rest]
        if node.orelse and FALL not in ways(node.orelse):
            return [*node.body, *rest], node.orelse
        return None

    def _jump(self, node: ast.Return | ast.Break | ast.Continue, jumps: _Jumps) -> list[ast.stmt]:
        if not isinstance(node, ast.Return):
            return [self._set(jumps.flags[BREAK if isinstance(node, ast.Break) else CONTINUE], True, node)]
        value = None if node.value is None else self._expression(node.value)
        if not self.flagged:
            return [at(ast.Return(value=value), node)]
        target: list[ast.expr] = [ast.Name(id=VALUE, ctx=ast.Store())]
        kept = at(ast.Assign(targets=target, value=value or ast.Constant(value=None)), node)
        return [kept, self._set(RETURNED, True, node)]

    def _set(self, flag: str, value: bool, node: ast.AST) -> ast.stmt:
        return at(ast.Assign(targets=[ast.Name(id=flag, ctx=ast.Store())], value=ast.Constant(value=value)), node)

    def _guarded(self, rest: list[ast.stmt], left: frozenset[str], live: Live, jumps: _Jumps) -> list[ast.stmt]:
        """What stands after a statement that may have jumped."""
        flags = sorted(jumps.flags[way] for way in left)
        test = call("no", *map(name, flags))
        first = rest[0]
        ahead = [self._set(flag, False, first) for flag in flags]
        gone = NOTHING.union(*(jumps.live[way] for way in left))
        return self._branch(at(test, first), (rest, []), first, live, jumps, ahead, gone)

    # -- statements ----------------------------------------------------------------------------------------------------

    def _statement(self, node: ast.stmt, jumps: _Jumps) -> list[ast.stmt]:
        live = self.live.after[node]
        if isinstance(node, ast.If):
            return self._if(node.body, node.orelse, node, live, jumps)
        if isinstance(node, ast.While | ast.For):
            return self._loop(node, jumps)
        if isinstance(node, ast.With):
            items = [self._expression(item) for item in node.items]
            return [at(ast.With(items=items, body=self.block(node.body, live, jumps)), node)]
        if isinstance(node, ast.Try | ast.TryStar):
            return [self._try(node, live, jumps)]
        if isinstance(node, ast.Match):
            cases = [
                at(ast.match_case(pattern=case.pattern, guard=case.guard,
                                  body=self.block(case.body, live, jumps) or [ast.Pass()]), node)
                for case in node.cases
            ]  # fmt: skip
            return [at(ast.Match(subject=self._expression(node.subject), cases=cases), node)]
        if isinstance(node, ast.FunctionDef):
            return [self._function(node)]
        if isinstance(node, ast.Assert):
            message = ast.Constant(value=None) if node.msg is None else node.msg
            text = thunk(self._expression(message))
            test = call("assert_", self._expression(node.test), text, ast.Constant(value=self.guards > 0))
            checked = ast.If(test=name("__debug__"), body=[ast.Expr(value=test)], orelse=[])
            return [at(checked, node)]
        if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef):
            return [node]
        if isinstance(node, ast.Raise):
            return self._raise(node)
        return [self._expression(node)]

    def _raise(self, node: ast.Raise) -> list[ast.stmt]:
        raised = thunk(self._expression(node.exc)) if node.exc is not None and not self.guards else ast.Constant(None)
        return [at(ast.Expr(value=call("raise_", raised)), node), self._expression(node)]

    def _try(self, node: ast.Try | ast.TryStar, live: Live, jumps: _Jumps) -> ast.stmt:
        self.guards += 1
        body = self.block(node.body, live, jumps)
        self.guards -= 1
        left = ways(node.body) - {FALL}
        orelse = (
            self._guarded(node.orelse, left, live, jumps)
            if left and node.orelse
            else self.block(node.orelse, live, jumps)
        )
        handlers = [
            at(ast.ExceptHandler(type=each.type, name=each.name, body=self.block(each.body, live, jumps)), each)
            for each in node.handlers
        ]
        last = self.block(node.finalbody, live, jumps)
        return at(type(node)(body=body, handlers=handlers, orelse=orelse, finalbody=last), node)

    def _function(self, node: ast.FunctionDef) -> ast.stmt:
        """A function in the function."""
        made = rewritten_definition(self.file, node, self.resolves, self.facts, self.names)
        made.decorator_list = [self._expression(each) for each in node.decorator_list]
        return made

    def _expression(self, node: Any) -> Any:
        return Expressions(self.file, self.facts, self.resolves, self.names).visit(node)

    # -- branches ------------------------------------------------------------------------------------------------------

    def _if(
        self, body: list[ast.stmt], orelse: list[ast.stmt], node: ast.If, live: Live, jumps: _Jumps
    ) -> list[ast.stmt]:
        return self._branch(self._expression(node.test), (body, orelse), node, live, jumps)

    def _branch(
        self,
        test: ast.expr,
        sides: tuple[list[ast.stmt], list[ast.stmt]],
        node: ast.stmt,
        live: Live,
        jumps: _Jumps,
        ahead: Sequence[ast.stmt] = (),
        gone: Live | None = None,
    ) -> list[ast.stmt]:
        """A branch. `ahead` runs ahead of its first side, `gone` is live after a second side that is empty."""
        number = self._new()
        ends = [self._ends(side, live, jumps) for side in sides]
        if gone is not None:
            ends[1] = {"": gone}
        lines = [self._lines(side, jumps) for side in sides]
        lines[0].update((flag, node.lineno) for each in ahead for flag in bound([each]))
        place = node.test if isinstance(node, ast.If) else node
        starts = [side[0].lineno if side else node.lineno for side in sides]
        flags = frozenset(jumps.flags.values()) | ({VALUE} if self.flagged else NOTHING)
        every = sides[0] + sides[1]
        self.facts[number] = Branch(
            place_of(self.file, place),
            (Side(lines[0], ends[0], starts[0]), Side(lines[1], ends[1], starts[1])),
            NOTHING.union(*ends[0].values(), *ends[1].values(), flags, self.escaping),
            frozenset(changed(every)),
            frozenset(bound(every)) & self.globals,
        )
        names = (f"_adjit_then{number}", f"_adjit_else{number}")
        blocks = (
            [*ahead, *self.block(sides[0], live, jumps)],
            self.block(sides[1], live, jumps),
        )
        made = [self._body(each, block, node) for each, block in zip(names, blocks, strict=True)]
        # What locates errors is the call, so it stands where the test does.
        run = ast.Expr(value=at(call("if_", ast.Constant(value=number), test, *map(name, names)), place))
        return [*made, at(run, node)]

    def _ends(self, side: Sequence[ast.stmt], live: Live, jumps: _Jumps) -> dict[str, Live]:
        """What is live after a side: where it falls to, or jumps to by a flag."""
        found = {"" if way == FALL else jumps.flags.get(way, way): way for way in ways(side)}
        return {flag: live if way == FALL else jumps.live.get(way, NOTHING) for flag, way in found.items()}

    def _lines(self, side: Sequence[ast.stmt], jumps: _Jumps) -> dict[str, int]:
        """The names that a side binds, ours as well."""
        found = bound(side)
        for kind, way in ((ast.Return, RETURN), (ast.Break, BREAK), (ast.Continue, CONTINUE)):
            lines = [each.lineno for statement in side for each in ast.walk(statement) if isinstance(each, kind)]
            if lines and way in jumps.flags:
                found[jumps.flags[way]] = lines[0]
                if way == RETURN:
                    found[VALUE] = lines[0]
        return found

    def _body(self, title: str, block: list[ast.stmt], node: ast.stmt, item: str = "") -> ast.stmt:
        """A function of a block, over the variables of the function that it stands in."""
        names = set(bound(block)) - {each for each in bound(block) if each.startswith(_FUNCTIONS)} - {item}
        ahead: list[ast.stmt] = []
        if names & self.globals:
            ahead.append(ast.Global(names=sorted(names & self.globals)))
        if names - self.globals:
            ahead.append(ast.Nonlocal(names=sorted(names - self.globals)))
        args = ast.arguments(posonlyargs=[], args=[ast.arg(arg=item)] if item else [], kwonlyargs=[], kw_defaults=[],
                             defaults=[])  # fmt: skip
        made = ast.FunctionDef(name=title, args=args, body=[*ahead, *block] or [ast.Pass()], decorator_list=[])
        return at(made, node)

    # -- loops ---------------------------------------------------------------------------------------------------------

    def _loop(self, node: ast.While | ast.For, jumps: _Jumps) -> list[ast.stmt]:
        number = self._new()
        inside = ways(node.body)
        own = {way: f"_adjit_{way}{number}" for way in (BREAK, CONTINUE) if way in _all_ways(node.body)}
        self.flags.update(own.values())
        after, head = self.live.after[node], self.live.head[node]
        flags = {**own, **({RETURN: RETURNED} if self.flagged else {})}
        within = _Jumps(flags, {BREAK: after, CONTINUE: head, RETURN: NOTHING})
        returns = RETURN in _all_ways(node.body) and self.flagged
        ending = [*([own[BREAK]] if BREAK in own else []), *([RETURNED] if returns else [])]
        self.facts[number] = self._fact(node, ending)
        block = self.block(node.body, head, within)
        if CONTINUE in own:
            block.insert(0, self._set(own[CONTINUE], False, node.body[0]))
        made: list[ast.stmt] = [self._set(own[BREAK], False, node)] if BREAK in own else []
        made += self._turns(node, number, block)
        left = (inside & {RETURN}) | (frozenset({BREAK}) if BREAK in own else NOTHING)
        if not node.orelse:
            return made
        if not left:
            return [*made, *self.block(node.orelse, after, jumps)]
        guards = _Jumps({**jumps.flags, **({BREAK: own[BREAK]} if BREAK in own else {})}, {**jumps.live, BREAK: after})
        return [*made, *self._guarded(node.orelse, left, after, guards)]

    def _turns(self, node: ast.While | ast.For, number: int, block: list[ast.stmt]) -> list[ast.stmt]:
        title = f"_adjit_body{number}"
        if isinstance(node, ast.While):
            tested = f"_adjit_test{number}"
            test = at(ast.Return(value=self._expression(node.test)), node.test)
            run = call("while_", ast.Constant(value=number), name(tested), name(title))
            made = [self._body(tested, [test], node), self._body(title, block, node)]
            return [*made, at(ast.Expr(value=at(run, node.test)), node)]
        item = "_adjit_item"
        target = at(ast.Assign(targets=[node.target], value=name(item)), node.target)
        iterable = Expressions(self.file, self.facts, self.resolves, self.names).iterable(node.iter)
        run = call("for_", ast.Constant(value=number), iterable, name(title))
        return [self._body(title, [target, *block], node, item), at(ast.Expr(value=at(run, node.iter)), node)]

    def _fact(self, node: ast.While | ast.For, ending: list[str]) -> Loop:
        pieces: list[ast.AST] = [*node.body, node.test if isinstance(node, ast.While) else node.target]
        lines = {**bound(pieces), **self._lines(node.body, _Jumps({RETURN: RETURNED} if self.flagged else {}))}
        lines.update((flag, node.lineno) for flag in ending)
        live = self.live.head[node] | self.live.done[node] | self.live.after[node] | self.escaping
        word = "while" if isinstance(node, ast.While) else "for"
        place = node.test if isinstance(node, ast.While) else node.iter
        outer = frozenset(lines) & self.globals
        return Loop(word, place_of(self.file, place), lines, live, tuple(ending), frozenset(changed(pieces)), outer)

    def _new(self) -> int:
        self.facts.append(None)  # type: ignore[arg-type]
        return len(self.facts) - 1


class BoundInTests(ast.NodeTransformer):
    """Loops whose test binds names, so that these are variables of the body.

    while (x := f()) > 0:        while True:
        body                =>       if not (x := f()) > 0:
                                         break
                                     body
    """

    def visit_While(self, node: ast.While) -> ast.AST:
        """One loop; what stands in its `else` runs ahead of that break."""
        self.generic_visit(node)
        if not bound([node.test]):
            return node
        ended = ast.If(test=ast.UnaryOp(op=ast.Not(), operand=node.test), body=[*node.orelse, ast.Break()], orelse=[])
        made = ast.While(test=ast.Constant(value=True), body=[at(ended, node.test), *node.body], orelse=[])
        return at(made, node)


_FUNCTIONS = ("_adjit_then", "_adjit_else", "_adjit_test", "_adjit_body")


def _all_ways(body: Sequence[ast.stmt]) -> frozenset[str]:
    """The jumps that stand in a body, reachable or not."""
    found: set[str] = set()
    waiting: list[tuple[ast.AST, bool]] = [(each, True) for each in body]
    while waiting:
        node, own = waiting.pop()
        kinds = {ast.Break: BREAK, ast.Continue: CONTINUE}
        if type(node) in kinds and own:
            found.add(kinds[type(node)])  # type: ignore[index]
        if isinstance(node, ast.Return):
            found.add(RETURN)
        if isinstance(node, ast.While | ast.For):
            waiting += [(each, False) for each in node.body] + [(each, own) for each in node.orelse]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += [(each, own) for each in ast.iter_child_nodes(node)]
    return frozenset(found)


def rewritten_definition(
    file: str,
    node: ast.FunctionDef,
    resolves: Callable[[ast.expr, set[str]], bool],
    facts: list[Fact],
    around: set[str],
) -> ast.FunctionDef:
    """A definition with new statements; its decorators are left out."""
    made = ast.FunctionDef(**{each: getattr(node, each) for each in node._fields})
    ast.copy_location(made, node)
    made.decorator_list = []
    if not is_generator(node):
        made.body = Rewriting(file, node, resolves, facts, around).body()
    return made


def is_generator(node: ast.FunctionDef) -> bool:
    """Whether a function yields."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(each)
    return False
