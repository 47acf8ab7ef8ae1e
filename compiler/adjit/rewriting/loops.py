"""A loop whose end is traced: its body is traced once, and the variables that it binds are what is carried.

A `for` over a traced number of elements counts; one whose `break` or `return` is traced, and a `while`, stop by a flag.
What is bound in a turn and read in no other, nor after the loop, is not carried. What is carried has a value before
the loop, and one type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import CellType
from typing import Any

import numpy as np
import optree

from adjit.control import carry, traced
from adjit.control.bounds import Between
from adjit.control.call import Call, Tree, tree, type_of_leaf
from adjit.control.loops import counted
from adjit.ir.types import I64, Array
from adjit.ops.loops import MOST_TURNS
from adjit.rewriting.facts import VALUE, Loop, shown
from adjit.rewriting.truth import both, either, negated, truth
from adjit.rewriting.variables import (
    FULL_SIZE,
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
from adjit.trace import Tracer, checks, is_tracer, lower, trace_flat
from adjit.trace.refuse import is_located, located
from adjit.trace.tracer import fresh, node_of, python_number
from adjit_runtime.errors import AdjitError, ArgumentError, TraceError

_COUNTER = "_adjit_counter"
_NOTHING = Tree("xs", [], tree("for", "xs", None).spec)


@dataclass(eq=False)
class TracedLoop:
    """A loop that begins in the trace under way. `body(i)` is a turn, `test()` whether there is one, beside the flags
    of the loop."""

    fact: Loop
    functions: tuple[Callable[..., Any], ...]
    body: Callable[[Any], Any]
    test: Callable[[], Any] | None = None
    cells: dict[str, CellType] = field(default_factory=dict)
    arrays: tuple[Any, ...] = ()
    before: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, bool] = field(default_factory=dict)
    ways: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells = cells_of(*self.functions)
        names = {*self.fact.lines, *self.fact.changed} & self.cells.keys()
        self.names = sorted(names)
        self.flags = [flag for flag in self.fact.flags if flag in self.cells]

    # -- what users wrote ----------------------------------------------------------------------------------------------

    def run_while(self) -> None:
        """As long as the test holds, and no flag is set."""
        self._run(lambda call: replace(call, length=MOST_TURNS, goes_on=self._goes_on))

    def run_range(self, numbers: range) -> None:
        """The turns of known integers, until a flag is set."""
        limits = (min(numbers), max(numbers)) if numbers else None
        self._run(
            lambda call: replace(call, length=len(numbers), counter=numbers, limits=limits, goes_on=self._goes_on)
        )

    def run_between(self, lower_bound: Any, upper: Any) -> None:
        """The turns of integers, of whose bounds one is traced."""
        if self.flags:
            self._run_counting(lower_bound, upper)
        else:
            self._run(lambda call: counted(call, Between(lower_bound, upper)))

    def _run_counting(self, start: Any, stop: Any) -> None:
        """A loop over numbers up to a traced one, that may end before."""
        counter = CellType(start)
        self.cells[_COUNTER] = counter
        self.names = [*self.names, _COUNTER]
        body = self.body

        def turn(_: Any) -> None:
            i = get(counter)
            body(i)
            # It ends with the loop, so that it fits.
            node = node_of(i)
            b = lower.builder()
            put(counter, python_number(fresh(b.emit("add", node, b.splat(1, node.array_type)))))

        self.body = turn
        self.test = lambda: get(counter) < stop
        self.run_while()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _run(self, of: Callable[[Call], Call]) -> None:
        fact = self.fact
        if fact.outer:
            raise self._error(f"{min(fact.outer)} is a global variable, and is bound in a traced loop: use a variable "
                              "of the function, and return it")  # fmt: skip
        watch = Watch(self.functions)
        start = self._start()
        call = Call(fact.word, _ours, self._turn, _variables(start), _NOTHING, 0)
        with restored(self.cells, self.names) as self.before:
            last = traced.run(of(call))[0]
        watch.check(f"a {fact.word}", fact.loc)
        self._check_shared()
        for name, value in last.items():
            before = get(self.cells[name])
            if not self.kept.get(name):
                put(self.cells[name], value)
            elif any(self.ways[name]):
                put(self.cells[name], write_back(before, value, self.ways[name]))
        self.cells.pop(_COUNTER, None)

    def _goes_on(self, now: dict[str, Any]) -> Any:
        self._take(now)
        stopped = either([get(self.cells[flag]) for flag in self.flags])
        if self.test is None:
            return negated(stopped)
        if not is_tracer(stopped):
            return not stopped and truth(self.test())
        test = self.test
        return truth(both(negated(stopped), test))

    def _turn(self, now: dict[str, Any], i: Any) -> tuple[dict[str, Any], None]:
        self._take(now)
        for flag in self.flags:
            put(self.cells[flag], False)
        given = {name: Given.as_is(value, value) for name, value in now.items()}
        before = {name: _variables({name: value}) for name, value in now.items()}
        shapes = {name: structure(value) for name, value in now.items()}
        constants = {name: get(self.cells[name]) for name in self.names if name not in now}
        self.body(i)
        after = {name: self._after(name) for name in now}
        for name, value in after.items():
            self.kept[name] = given[name].is_kept(value)
            self.ways[name] = given[name].ways()
            if any(self.ways[name]) and not self.kept[name]:
                raise self._error(
                    f"{name} is changed in place and then bound anew in a traced loop (line {self._line(name)}): "
                    f"write {name} = {name}.copy() first"
                )
        self._check_constants(constants)
        self._check_aliases(after)
        self._check_types(before, shapes, after)
        return after, None

    def _take(self, now: dict[str, Any]) -> None:
        """The variables at the begin of a turn: those that are not carried are as they were before the loop."""
        for name in self.names:
            put(self.cells[name], now[name] if name in now else self.before[name])

    def _after(self, name: str) -> Any:
        value = get(self.cells[name])
        if value is UNBOUND:
            raise self._error(f"{name} is deleted in a traced loop, and read in the next turn or after it")
        if leaves_of(value) is None:
            raise self._error(
                f"{shown(name)} is an object of type {type(value).__name__} after a turn of a traced loop "
                f"(line {self._line(name)}): a loop of the program carries arrays and numbers alone"
            )
        return value

    # -- what is carried -----------------------------------------------------------------------------------------------

    def _start(self) -> dict[str, Any]:
        """The variables that are carried, and what they are before the loop."""
        start: dict[str, Any] = {}
        for name in self.names:
            value = get(self.cells[name])
            carried = name in self.fact.needed or name in self.flags or name == _COUNTER
            if value is UNBOUND:
                if carried and name != VALUE:
                    raise self._lacking(name)
                continue
            if (carried or name in self.fact.changed or name == VALUE) and leaves_of(value) is not None:
                start[name] = value
        if VALUE in self.names and VALUE not in start:
            start.update(self._value(start))
        return start

    def _lacking(self, name: str) -> TraceError:
        return self._error(
            f"{name} is bound in the loop (line {self._line(name)}) and read in another turn or after it, and has "
            "no value before it; the number of turns is traced, and may be 0: give it one before line "
            f"{self.fact.loc.line}"
        )

    def _value(self, start: dict[str, Any]) -> dict[str, Any]:
        """Zeros of the type of what is returned in the loop, under its name; empty where nothing is."""
        variables = _variables(start)
        types = [*map(type_of_leaf, variables.leaves), Array(I64, (), True)]
        arrays = [i for i, leaf in enumerate(variables.leaves) if isinstance(leaf, np.ndarray)]
        found: list[Any] = []

        def call(leaves: list[Tracer]) -> Any:
            # Nothing is known of a turn: what returns in a later one does so here.
            self._take(variables.of([lower.copy(leaf) for leaf in leaves[:-1]]))
            for flag in self.flags:
                put(self.cells[flag], False)
            self.body(leaves[-1])
            found.append(self._zeros(get(self.cells[VALUE])))
            checks.dropped()
            return []

        with restored(self.cells, self.names) as self.before:
            trace_flat("turn", call, types, [f"x{i}" for i in range(len(types))], arrays, part="loop")
        return {} if found[0] is UNBOUND else {VALUE: found[0]}

    def _zeros(self, value: Any) -> Any:
        if value is UNBOUND:
            return UNBOUND
        known = leaves_of(value)
        if known is None:
            raise self._error(f"an object of type {type(value).__name__} is returned in a traced loop "
                              f"(line {self._line(VALUE)}): return arrays and numbers")  # fmt: skip
        return optree.tree_unflatten(known[1], list(map(_zero, known[0])))

    # -- errors --------------------------------------------------------------------------------------------------------

    def _line(self, name: str) -> int:
        return self.fact.lines.get(name, self.fact.loc.line)

    def _error(self, text: str) -> TraceError:
        return located(TraceError, f"{self.fact.word}: {text}", self.fact.loc)

    def _check_constants(self, before: dict[str, Any]) -> None:
        """Raise where a variable that is not carried, as it is no array, has another value in the next turn."""
        for name, value in before.items():
            now = get(self.cells[name])
            if name not in self.fact.needed or now is value or value is UNBOUND:
                continue
            if type(now) is type(value) and isinstance(value, str | bytes) and now == value:
                continue
            raise self._error(
                f"{name} is {type(value).__name__} before a traced loop and another {type(now).__name__} after a turn "
                f"(line {self._line(name)}): a loop of the program carries arrays and numbers alone"
            )

    def _check_aliases(self, after: dict[str, Any]) -> None:
        """Raise where two variables are one array after a turn, and one of them is changed in place."""
        seen: dict[int, str] = {}
        for name, value in after.items():
            for leaf in (leaves_of(value) or ([], None))[0]:
                if not is_tracer(leaf) or leaf._adjit_scalar:
                    continue
                other = seen.setdefault(id(leaf._adjit_root), name)
                if other != name and {other, name} & self.fact.changed:
                    raise self._error(
                        f"{other} and {name} share memory after a turn of a traced loop (line {self._line(name)}), "
                        f"and one of them is changed in place: write {name} = {other}.copy()"
                    )

    def _check_shared(self) -> None:
        """Raise where a turn changed its copy of an array that it sees under another name, or goes over."""
        others = {name: get(cell) for name, cell in self.cells.items()}
        others.update(("what the loop goes over", array) for array in self.arrays)
        for name in self.names:
            if any(self.ways.get(name, ())):
                check_alone(name, self.before[name], others, self.fact.loc)

    def _check_types(self, trees: dict[str, Tree], shapes: dict[str, str], after: dict[str, Any]) -> None:
        """Raise where a variable has another type after a turn."""
        for name, value in after.items():
            before, found = trees[name], _variables({name: value})
            if before.spec != found.spec:
                raise self._structure(name, shapes[name], value)
            call = Call(self.fact.word, _ours, self._turn, before, _NOTHING, 0)
            try:
                carry.settled(call, list(map(type_of_leaf, before.leaves)), found)
            except AdjitError as error:
                if is_located(error):
                    raise
                raise located(
                    type(error),
                    f"{error} ({shown(name)} is bound in line {self._line(name)})",
                    self.fact.loc,
                ) from None

    def _structure(self, name: str, before: str, now: Any) -> AdjitError:
        instead = "give it an array or a number before, such as -np.inf or x[0]"
        if before != "None":
            instead = FULL_SIZE if isinstance(now, list) else "keep its structure"
        return located(
            ArgumentError,
            f"{self.fact.word}: {shown(name)} is {before} before a turn of a traced loop and "
            f"{structure(now)} after it (line {self._line(name)}): {instead}",
            self.fact.loc,
        )


def _ours(*_: Any) -> None:
    """The body of a loop, for errors that are to be shown at the loop."""


def _variables(values: dict[str, Any]) -> Tree:
    return _Variables("", *_flat(values))


def _flat(values: dict[str, Any]) -> tuple[list[Any], optree.PyTreeSpec]:
    found = leaves_of(values)
    assert found is not None
    return found


class _Variables(Tree):
    """A dict of variables, whose places are named as users wrote them: `x[0]`, not `['x'][0]`."""

    __slots__ = ()

    @property
    def paths(self) -> list[str]:
        found = [accessor.codify("") for accessor in self.spec.accessors()]
        return [text[2:].replace("']", "", 1) for text in found]


def _zero(leaf: Any) -> Any:
    type_ = type_of_leaf(leaf)
    if type_.weak:
        return {"b": False, "i": 0, "f": 0.0}.get(type_.dtype.kind, 0j)
    zeros = np.zeros(type_.shape, type_.dtype)
    return zeros if isinstance(leaf, np.ndarray) else zeros[()]
