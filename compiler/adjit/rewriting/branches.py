"""A branch whose condition is traced: both sides are traced, and what their variables have become is joined.

A variable that neither side changed stays as it is; one that both sides give the same known value has that. Arrays and
numbers are results of a branch of the program, and what was changed in place is written back. What one side leaves
unbound, and is read after it, and what differs in its type, is an error that names both lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import CellType
from typing import Any, TypeVar

import numpy as np
import optree

from adjit.control import carry
from adjit.control.branches import Side as Function
from adjit.control.branches import TracedSide, joined
from adjit.control.call import Tree, tree, type_of_leaf
from adjit.control.traced import as_given
from adjit.ir.builder import Builder
from adjit.ir.graph import closed
from adjit.ir.node import Node
from adjit.ir.types import I64, Array
from adjit.rewriting.facts import RETURNED, VALUE, Branch, is_own, shown
from adjit.rewriting.flow import Live
from adjit.rewriting.raised import Raised
from adjit.rewriting.variables import (
    FULL_SIZE,
    NEW,
    UNBOUND,
    Given,
    Watch,
    cells_of,
    check_alone,
    get,
    leaves_of,
    put,
    restored,
    structure,
    write_back,
)
from adjit.trace import Traced, Tracer, checks, current_trace, is_tracer, lower, trace_flat
from adjit.trace.refuse import located
from adjit.trace.tracer import fresh, node_of
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, ShapeError, TraceError

E = TypeVar("E", bound=AdjitError)

_CHECKS = "_adjit_checks"
"""The checks of a side, under the name of a variable that there is none of."""
_MOST_NESTED = 40
"""A branch inside of itself so often is a recursion that has no end in a trace."""
_DEPTH: dict[int, int] = {}

_EMPTY = tree("if", "", None)


@dataclass(eq=False)
class _Traced:
    """A side as it was traced: what its variables are after it, and where their leaves stand among its outputs."""

    number: int
    after: dict[str, Any]
    kept: dict[str, bool]
    ways: dict[str, list[int]]
    leaves: dict[str, tuple[list[Any], optree.PyTreeSpec]]
    types: dict[str, list[Array]]
    traced: Traced | None = None
    raised: Raised | None = None

    def unchanged(self, name: str) -> bool:
        """Whether nothing was written into what a variable had."""
        return not any(self.ways.get(name, ()))


def branch(
    fact: Branch,
    holds: Tracer,
    functions: Sequence[Callable[[], Any]],
    *,
    gives: bool = False,
    over: Sequence[Callable[..., Any]] | None = None,
) -> Any:
    """Run the one of two functions that `holds` chooses when the program runs; `gives`: its result is the result. The
    variables are those of the functions, or of those that they are `over`."""
    key = id(fact)
    _DEPTH[key] = _DEPTH.get(key, 0) + 1
    try:
        if _DEPTH[key] > _MOST_NESTED:
            raise _endless(fact)
        return _Join(fact, holds, functions, over or functions, gives).result()
    finally:
        _DEPTH[key] -= 1
        if not _DEPTH[key]:
            del _DEPTH[key]


def _endless(fact: Branch) -> TraceError:
    return located(
        TraceError,
        "a function calls itself under a traced condition, so that its trace has no end: write a loop, or make what "
        "the depth depends on a static argument",
        fact.loc,
    )


class _Join:
    """Both sides, and what is made of them."""

    def __init__(
        self,
        fact: Branch,
        holds: Tracer,
        functions: Sequence[Callable[[], Any]],
        over: Sequence[Callable[..., Any]],
        gives: bool,
    ) -> None:
        self.fact = fact
        self.holds = holds
        self.functions = functions
        self.over = over
        self.gives = gives
        self.shared: set[str] = set()
        self.cells: dict[str, CellType] = cells_of(*over)
        assigned = {*fact.sides[0].lines, *fact.sides[1].lines}
        self.names = sorted((assigned | fact.changed) & self.cells.keys())

    def result(self) -> Any:
        """The value of an expression; the variables have theirs."""
        fact = self.fact
        if fact.outer:
            raise located(
                TraceError,
                f"{min(fact.outer)} is a global variable, and is bound in {fact.word} whose condition is traced: use "
                "a variable of the function, and return it",
                fact.loc,
            )
        watch = Watch(self.over)
        values = {name: get(self.cells[name]) for name in self.names}
        self.shared = {name for name, value in values.items() if isinstance(value, np.ndarray | list | dict)}
        sides = []
        # First the one that ends with an error: what comes after the branch is the other.
        for number in (0, 1) if fact.sides[1].ends or self.gives else (1, 0):
            side = self._side(number)
            if side.raised is not None:
                return self._without(side.raised, number)
            sides.append(side)
        sides.sort(key=lambda side: side.number)
        watch.check(f"an {fact.word}" if fact.word.startswith("if") else fact.word, fact.loc)
        names = [""] if self.gives else self.names
        wanted = [name for name in names if self._is_wanted(name)]
        decided = {name: self._decided(name, sides) for name in wanted}
        open_ = [name for name, found in decided.items() if found is _JOIN]
        types = {name: self._types(name, sides) for name in open_}
        if any(_CHECKS in side.leaves for side in sides):
            open_, types = [*open_, _CHECKS], {**types, _CHECKS: [Array(I64)]}
        values = self._joined(sides, open_, types)
        if _CHECKS in values:
            checks.keep(values[_CHECKS])
        for name in names:
            found = values.get(name, decided.get(name, UNBOUND))
            if name == "":
                return found
            self._set(name, found, sides)
        return None

    def _without(self, raised: Raised, number: int) -> Any:
        """The other side, where the one of this number raises an error."""
        b = lower.builder()
        flag = b.value(node_of(self.holds))
        holds = ~flag if number == 0 else flag
        checks.note(fresh(holds.node), raised.error, raised.text, raised.loc)
        return self.functions[1 - number]()

    def _is_wanted(self, name: str) -> bool:
        """Whether a variable is read after the branch, or others may see what it does to its value."""
        return name in self.fact.kept or (name in self.fact.changed and name in self.shared)

    def _set(self, name: str, found: Any, sides: Sequence[_Traced]) -> None:
        cell = self.cells[name]
        before = get(cell)
        if name in self.fact.changed and before is not UNBOUND and all(side.kept.get(name) for side in sides):
            ways = [side.ways[name] for side in sides]
            alike = len(ways[0]) == len(ways[1])
            put(cell, write_back(before, found, list(map(max, *ways)) if alike else [NEW]))
            return
        put(cell, found)

    # -- a side --------------------------------------------------------------------------------------------------------

    def _side(self, number: int) -> _Traced:
        side = _Traced(number, {}, {}, {}, {}, {})
        function = self.functions[number]

        def call(_: list[Tracer]) -> Any:
            given = {}
            trace = current_trace()
            assert trace is not None
            trace.may_raise = True
            for name in self.names:
                value = get(self.cells[name])
                if name in self.fact.changed and value is not UNBOUND:
                    given[name] = Given.of(value)
                    put(self.cells[name], given[name].copy)
            result = function()
            if self.gives:
                side.after[""] = result
            for name in self.names:
                self._note(side, name, given.get(name))
            self._check_aliases(side, given)
            leaves = []
            for name in side.after:
                found = leaves_of(side.after[name])
                if found is not None and self._is_wanted(name):
                    side.leaves[name] = found
                    side.types[name] = list(map(type_of_leaf, found[0]))
                    leaves += found[0]
            place = checks.taken()
            if place is not None:
                found = leaves_of(place)
                assert found is not None
                side.leaves[_CHECKS] = found
                leaves.append(place)
            return leaves

        with restored(self.cells, self.names):
            try:
                side.traced = trace_flat(_title(self.fact, number), call, [], [], part="branch")
            except Raised as raised:
                side.raised = raised
        return side

    def _note(self, side: _Traced, name: str, given: Given | None) -> None:
        now = get(self.cells[name])
        side.after[name] = now
        if given is None:
            return
        side.kept[name] = given.is_kept(now)
        side.ways[name] = given.ways()
        if side.kept[name] and side.unchanged(name):
            side.after[name] = given.before
        elif not side.unchanged(name) and isinstance(given.before, np.ndarray) and not is_tracer(given.before):
            raise located(
                TraceError,
                f"{name} is a plain array from outside of the compiled function, and is changed in place where the "
                "condition is traced: write a = np.array(a) in the function before",
                self.fact.loc,
            )

    def _check_aliases(self, side: _Traced, given: dict[str, Given]) -> None:
        """Raise where a side changed its copy of an array that another variable of it sees, too."""
        others = {name: given[name].before if name in given else get(cell) for name, cell in self.cells.items()}
        for name, each in given.items():
            if not side.unchanged(name):
                check_alone(name, each.before, others, self.fact.loc)

    # -- both sides ----------------------------------------------------------------------------------------------------

    def _decided(self, name: str, sides: Sequence[_Traced]) -> Any:
        """What a variable is after the branch where that is known while it is traced, else _JOIN."""
        a, b = (side.after.get(name, UNBOUND) for side in sides)
        if a is b and all(side.unchanged(name) for side in sides):
            return a
        if a is UNBOUND or b is UNBOUND:
            return self._unbound(name, sides)
        if not all(side.kept.get(name, True) for side in sides):
            self._check_one_way(name, sides)
        if _are_equal(a, b):
            return a
        found = [side.leaves.get(name) for side in sides]
        if found[0] is None or found[1] is None:
            raise self._opaque(name, a, b)
        if found[0][1] != found[1][1]:
            what = "structure" + (f": {FULL_SIZE}" if list in (type(a), type(b)) else "")
            raise self._differs(ArgumentError, name, structure(a), structure(b), what)
        return _JOIN

    def _unbound(self, name: str, sides: Sequence[_Traced]) -> Any:
        lacking = next(side for side in sides if side.after.get(name, UNBOUND) is UNBOUND)
        other = sides[1 - lacking.number]
        if name in self._needed(lacking):
            there, here = self.fact.sides[other.number], self.fact.sides[lacking.number]
            line = there.lines.get(name, there.line)
            raise located(
                TraceError,
                f"{name} is bound in line {line} and not in the other side of the branch (line {here.line}), and is "
                "read after it: bind it in both, or give it a value before",
                self.fact.loc,
            )
        return _JOIN if name in other.leaves else other.after[name]

    def _needed(self, side: _Traced) -> Live:
        """What is read after a side: where it jumps to, if that is known."""
        ends = self.fact.sides[side.number].ends
        flags = {flag: side.after.get(flag, False) for flag in ends if flag}
        taken = [flag for flag, value in flags.items() if value is True]
        if taken:
            return ends[taken[0]]
        open_ = [flag for flag, value in flags.items() if value is not False]
        return frozenset().union(*(ends[flag] for flag in (*open_, "") if flag in ends))

    def _check_one_way(self, name: str, sides: Sequence[_Traced]) -> None:
        """Raise where a variable that is bound anew was changed in place as well."""
        if all(side.unchanged(name) for side in sides):
            return
        raise located(
            TraceError,
            f"{name} is changed in place and bound anew in the sides of a branch whose condition is traced: do one of "
            f"both, or write {name} = {name}.copy() before",
            self.fact.loc,
        )

    def _types(self, name: str, sides: Sequence[_Traced]) -> list[Array]:
        """The types of the leaves of a variable, of both sides."""
        found = [side.types[name] for side in sides if name in side.types]
        if len(found) == 1:
            return found[0]
        made = []
        for place, (a, b) in enumerate(zip(*found, strict=True)):
            common = carry.common(a, b) if a.shape == b.shape else None
            if common is None:
                path = Tree("", [], sides[0].leaves[name][1]).paths[place]
                kind, what = (DTypeError, "dtype") if a.shape == b.shape else (ShapeError, "shape")
                raise self._differs(kind, name, carry.named(a), carry.named(b), what, path)
            made.append(common)
        return made

    def _joined(self, sides: Sequence[_Traced], names: list[str], types: dict[str, list[Array]]) -> dict[str, Any]:
        """The variables that the program computes."""
        flat = [type for name in names for type in types[name]]
        if not flat:
            return {name: optree.tree_unflatten(_spec(name, sides), []) for name in names}
        flag = lower.builder().value(node_of(self.holds))
        traced = [self._outputs(side, names, types) for side in sides]
        leaves = joined(traced, flat, lambda k: ~flag if k else flag)
        values, start = {}, 0
        for name in names:
            side = next(side for side in sides if name in side.leaves)
            first, spec = side.leaves[name]
            part = leaves[start : start + len(first)]
            start += len(first)
            values[name] = optree.tree_unflatten(spec, [as_given(x, y) for x, y in zip(part, first, strict=True)])
        return values

    def _outputs(self, side: _Traced, names: list[str], types: dict[str, list[Array]]) -> TracedSide:
        """A side whose outputs are the leaves of these variables; zeros stand for what it does not bind."""
        assert side.traced is not None
        graph = side.traced.graph
        b = Builder.after(graph)
        places, start = {}, 0
        for name, (leaves, _) in side.leaves.items():
            places[name] = graph.outputs[start : start + len(leaves)]
            start += len(leaves)
        outputs: list[Node] = []
        for name in names:
            outputs += places[name] if name in places else [b.splat(0, type) for type in types[name]]
        made = closed(graph.name, graph.inputs, b.nodes, outputs)
        function = Function(self.fact.word, "", self.functions[side.number], _EMPTY)
        return TracedSide(function, replace(side.traced, graph=made), _EMPTY)

    # -- errors --------------------------------------------------------------------------------------------------------

    def _line(self, name: str, number: int) -> str:
        side = self.fact.sides[number]
        return f"line {side.lines.get(name, side.lines.get(RETURNED, side.line) if name == VALUE else side.line)}"

    def _differs(self, kind: type[E], name: str, a: str, b: str, what: str, path: str = "") -> E:
        label = f"{shown(name) or 'the value'}{path}"
        return located(
            kind,
            f"{self.fact.word}: {label} is {a} in {self._line(name, 0)} and {b} in {self._line(name, 1)}; the "
            f"condition is traced, and whichever side runs gives the same {what}",
            self.fact.loc,
        )

    def _opaque(self, name: str, a: Any, b: Any) -> TraceError:
        kinds = " and ".join(
            f"{'a traced value' if is_tracer(x) else type(x).__name__} in {self._line(name, k)}"
            for k, x in enumerate((a, b))
        )
        return located(
            TraceError,
            f"{self.fact.word}: {shown(name) or 'the value'} is {kinds}; the condition is traced, and a program "
            "chooses among arrays and numbers alone: choose by a number, or make what the condition depends on static",
            self.fact.loc,
        )


class _Open:
    pass


_JOIN = _Open()


def _title(fact: Branch, number: int) -> str:
    return ("then", "otherwise")[number] if not is_own(fact.word) else fact.word


def _spec(name: str, sides: Sequence[_Traced]) -> optree.PyTreeSpec:
    return next(side.leaves[name][1] for side in sides if name in side.leaves)


def _are_equal(a: Any, b: Any) -> bool:
    """Whether two known values are one, to the bit."""
    if type(a) is not type(b) or type(a) not in (bool, int, float, str, bytes, type(None)):
        return False
    return bool(repr(a) == repr(b)) if type(a) is float else bool(a == b)
