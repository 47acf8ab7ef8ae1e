"""What rewritten code calls: each construct runs as Python has it where its condition is known, and else becomes a
branch or loop of the program."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adjit.rewriting import raised, sequences, standins, truth
from adjit.rewriting.branches import branch
from adjit.rewriting.facts import VALUE, Branch, Fact, Loop, Side
from adjit.rewriting.loops import TracedLoop
from adjit.rewriting.sequences import Sequence, sequence_of
from adjit.rewriting.standins import is_open
from adjit.rewriting.variables import cells_of, get
from adjit.trace import asarray, is_tracer

Body = Callable[..., Any]


class Statements:
    """The control flow of one function: `facts` says of each construct what its source tells."""

    def __init__(self, file: str, facts: list[Fact], rewritten: Callable[[Any], Any]) -> None:
        self.file = file
        self.facts = facts
        self.rewritten = rewritten

    # -- branches ------------------------------------------------------------------------------------------------------

    def if_(self, number: int, test: Any, then: Body, otherwise: Body) -> None:
        """`if test:`"""
        holds = truth.truth(test)
        if not is_tracer(holds):
            (then if holds else otherwise)()
            return
        fact = self.facts[number]
        assert isinstance(fact, Branch)
        branch(fact, holds, (then, otherwise))

    def choose(self, number: int, test: Any, then: Body, otherwise: Body) -> Any:
        """`then() if test else otherwise()`"""
        holds = truth.truth(test)
        if not is_tracer(holds):
            return (then if holds else otherwise)()
        fact = self.facts[number]
        assert isinstance(fact, Branch)
        return branch(fact, holds, (then, otherwise), gives=True)

    def no(self, *flags: Any) -> Any:
        """Whether no flag is set."""
        return truth.negated(truth.either(list(flags)))

    # -- loops ---------------------------------------------------------------------------------------------------------

    def while_(self, number: int, test: Body, body: Body) -> None:
        """`while test():`, until a flag is set."""
        fact = self.facts[number]
        assert isinstance(fact, Loop)
        cells = cells_of(test, body)
        while True:
            goes_on = self._goes_on(fact, cells)
            if not is_tracer(goes_on) and goes_on:
                goes_on = truth.truth(test())
            if is_tracer(goes_on):
                TracedLoop(fact, (test, body), lambda _: body(), test).run_while()
                return
            if not goes_on:
                return
            body()

    def for_(self, number: int, iterable: Any, body: Body) -> None:
        """`for item in iterable:`, until a flag is set."""
        fact = self.facts[number]
        assert isinstance(fact, Loop)
        found = sequence_of(iterable)
        if found is not None and is_tracer(found.length):
            low, high = found.bounds or (0, found.length)
            loop = TracedLoop(fact, (body,), lambda i: body(found.item(i)), arrays=found.arrays)
            loop.run_between(low, high)
            return
        if not fact.flags:
            for item in iterable if found is None else found:
                body(item)
            return
        self._until(fact, found, iter(iterable if found is None else found), body)

    def _until(self, fact: Loop, found: Sequence | None, items: Iterator[Any], body: Body) -> None:
        """A loop of known length, which a flag may end; the turns after one that is traced are a loop that stops."""
        cells = cells_of(body)
        for count, item in enumerate(items, 1):
            body(item)
            goes_on = self._goes_on(fact, cells)
            if not is_tracer(goes_on):
                if not goes_on:
                    return
                continue
            if found is None:
                self._guarded(fact, items, body)
            elif count < found.length:
                loop = TracedLoop(fact, (body,), lambda i: body(found.item(i)), arrays=found.arrays)
                loop.run_range(range(count, found.length))
            return

    def _guarded(self, fact: Loop, items: Iterator[Any], body: Body) -> None:
        """The turns over objects that no number chooses, each as a branch."""
        cells = cells_of(body)
        line = fact.loc.line
        sides = (Side(fact.lines, {"": fact.needed}, line), Side({}, {"": fact.needed}, line))
        kept = fact.needed.union(fact.flags, [VALUE])
        guard = Branch(fact.loc, sides, kept, fact.changed, fact.outer, fact.word)
        for item in items:
            holds = self._goes_on(fact, cells)
            if not is_tracer(holds):
                if not holds:
                    return
                body(item)
                continue
            branch(guard, holds, (functools.partial(body, item), _nothing), over=(body,))

    def _goes_on(self, fact: Loop, cells: Any) -> Any:
        return self.no(*(get(cells[flag]) for flag in fact.flags if flag in cells))

    # -- expressions ---------------------------------------------------------------------------------------------------

    def and_(self, first: Any, *others: Body) -> Any:
        """`first and others[0]() and ...`"""
        for other in others:
            first = truth.both(first, other)
        return first

    def or_(self, first: Any, *others: Body) -> Any:
        """`first or others[0]() or ...`"""
        for other in others:
            first = truth.one_of(first, other)
        return first

    def not_(self, value: Any) -> Any:
        """`not value`"""
        return truth.negated(truth.truth(value))

    def compare(self, left: Any, *pairs: tuple[str, Body]) -> Any:
        """`left < pairs[0][1]() < ...`"""
        (sign, operand), *others = pairs
        right = operand()
        holds = _OPERATORS[sign](left, right)
        return truth.both(holds, lambda: self.compare(right, *others)) if others else holds

    def item(self, values: Any, key: Any) -> Any:
        """`values[key]`; a traced key chooses among the elements of a plain array, or of a list or tuple of numbers."""
        if is_open(key) and not is_tracer(values) and isinstance(values, np.ndarray | list | tuple):
            return asarray(values)[key]
        return values[key]

    def assert_(self, test: Any, message: Body, guarded: bool) -> None:
        """`assert test, message()`; `guarded` where a handler may catch it."""
        holds = truth.truth(test)
        if is_tracer(holds):
            raised.check(holds, message, guarded)
            return
        if not holds:
            text = message()
            raise AssertionError() if text is None else AssertionError(text)

    def raise_(self, error: Body | None) -> None:
        """Ahead of `raise error()`; None for one that a handler may catch, and for what a handler raises again."""
        raised.begin(error)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, function: Any) -> Any:
        """What is called in the place of a function."""
        found = standins.of(function)
        if found is not function:
            return found
        if standins.takes_functions(function):
            return self._giving(function)
        return self.rewritten(function)

    def _giving(self, function: Any) -> Any:
        """A function that is given rewritten ones."""

        def called(*args: Any, **kwargs: Any) -> Any:
            named = {name: self._argument(each) for name, each in kwargs.items()}
            return function(*map(self._argument, args), **named)

        return called

    def _argument(self, value: Any) -> Any:
        return self.rewritten(value) if callable(value) and not is_tracer(value) else value

    def along(self, function: Any) -> Any:
        """What is called in the place of enumerate, zip and reversed."""
        return sequences.along(function)


def _nothing() -> None:
    """What runs after the end of a loop."""


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "is": operator.is_, "is not": operator.is_not, "in": lambda a, b: truth.contains(a, b),
    "not in": lambda a, b: truth.negated(truth.truth(truth.contains(a, b))),
}  # fmt: skip
