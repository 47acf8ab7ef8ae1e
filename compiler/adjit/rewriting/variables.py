"""The variables that a body shares with its function, through their cells; and what a body may do to their values.

A body that is traced once, to run never or often, works on copies of what it changes in place; what they have become is
written back into the values themselves, so that all names of an array see it. What has no copies is looked at before
and after, and a change is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import optree

from adjit.control.call import Tree, problem_of
from adjit.control.carry import shown
from adjit.ir.node import Loc
from adjit.trace import Tracer, is_tracer, lower
from adjit.trace.locate import origin
from adjit.trace.refuse import located
from adjit.trace.tracer import array_of, fresh, node_of
from adjit_runtime.errors import AdjitError, TraceError
from adjit_runtime.guests import tree_flatten


class _Unbound:
    def __repr__(self) -> str:
        return "unbound"


UNBOUND: Final = _Unbound()
"""What a variable has that has no value yet."""

Cells = Mapping[str, CellType]


def cells_of(*functions: Callable[..., Any]) -> dict[str, CellType]:
    """The cells of the variables of functions, by name."""
    found: dict[str, CellType] = {}
    for function in functions:
        found.update(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return found


def get(cell: CellType) -> Any:
    """The value of a variable."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNBOUND


def put(cell: CellType, value: Any) -> None:
    """Give a variable a value, or none."""
    if value is not UNBOUND:
        cell.cell_contents = value
    elif get(cell) is not UNBOUND:
        del cell.cell_contents


@contextmanager
def restored(cells: Cells, names: list[str]) -> Iterator[dict[str, Any]]:
    """The values of variables, which they have again after it."""
    before = {name: get(cells[name]) for name in names}
    try:
        yield before
    finally:
        for name, value in before.items():
            put(cells[name], value)


# -- copies of what is changed in place --------------------------------------------------------------------------------


def own(value: Any) -> Any:
    """A value that a body may change: a copy where it is an array, or a dict or list of such."""
    if is_tracer(value):
        return _own_array(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is list:
        return [own(each) for each in value]
    return {key: own(each) for key, each in value.items()} if type(value) is dict else value


def _own_array(x: Tracer) -> Any:
    if x._adjit_scalar:
        return x
    readonly = x._adjit_root.readonly
    if readonly:
        # A write says whose array it is.
        return array_of(fresh(node_of(x), x._adjit_strides, readonly=readonly), readonly)
    return lower.copy(x)


SAME, WRITTEN, NEW = range(3)
"""What a body did to a leaf: nothing, it changed it in place, it put another one there."""


@dataclass(frozen=True, eq=False, slots=True)
class Given:
    """What a variable has ahead of a body, and what the body got for it, with the outline and the leaves of that."""

    before: Any
    copy: Any
    outline: Any
    leaves: list[Any]

    @classmethod
    def of(cls, value: Any) -> Given:
        """A copy of a value."""
        return cls.as_is(value, own(value))

    @classmethod
    def as_is(cls, value: Any, copy: Any) -> Given:
        """A value of which a body has `copy`."""
        return cls(value, copy, _outline(copy), _parts(copy))

    def is_kept(self, now: Any) -> bool:
        """Whether the variable still has the same object, changed or not."""
        return now is self.copy or now is self.before

    def ways(self) -> list[int]:
        """What the body did to each leaf; to one where it changed what there is."""
        if _outline(self.copy) != self.outline:
            return [NEW]
        if isinstance(self.copy, np.ndarray) and not is_tracer(self.copy):
            return [SAME if self.copy.tobytes() == self.before.tobytes() else WRITTEN]
        return [_way(now, leaf) for now, leaf in zip(_parts(self.copy), self.leaves, strict=True)]


def _way(now: Any, given: Any) -> int:
    if now is not given:
        return NEW
    return WRITTEN if is_tracer(now) and now._adjit_root.version else SAME


def _outline(value: Any) -> Any:
    """The lists and dicts of a value, without their leaves."""
    if type(value) is list:
        return [_outline(each) for each in value]
    return [(key, _outline(each)) for key, each in value.items()] if type(value) is dict else None


def _parts(value: Any) -> list[Any]:
    """The leaves of lists and dicts."""
    if type(value) not in (list, dict):
        return [value]
    items = value.values() if type(value) is dict else value
    return [leaf for each in items for leaf in _parts(each)]


def write_back(old: Any, new: Any, ways: list[int]) -> Any:
    """Have a value be what its copy has become, for all who hold it; gives what the variable has then. `ways` says what
    became of each leaf."""
    return _written(old, new, iter(ways if len(ways) == len(_parts(old)) else [NEW] * len(_parts(old))))


def _written(old: Any, new: Any, ways: Iterator[int]) -> Any:
    if type(old) is list:
        old[:] = [_written(a, b, ways) for a, b in zip(old, new, strict=True)] if len(old) == len(new) else new
        return old
    if type(old) is dict:
        fits = list(old) == list(new)
        old.update({key: _written(old[key], new[key], ways) for key in old} if fits else new)
        return old
    way = next(ways)
    if way == WRITTEN and isinstance(old, np.ndarray):
        old[...] = new
    return new if way == NEW else old


def check_alone(name: str, value: Any, others: Mapping[str, Any], loc: Loc) -> None:
    """Raise TraceError where another variable shares memory with a value that was changed in place as a copy."""
    roots = {id(leaf._adjit_root) for leaf in _parts(value) if is_tracer(leaf) and not leaf._adjit_scalar}
    for other, found in others.items():
        leaves = [leaf for leaf in _parts(found) if is_tracer(leaf) and not leaf._adjit_scalar]
        if other != name and any(id(leaf._adjit_root) in roots for leaf in leaves):
            raise located(
                TraceError,
                f"{name} and {other} share memory, and {name} is changed in place in a branch or loop whose condition "
                f"is traced: write {name} = {name}.copy() before",
                loc,
            )


# -- what has no copies ------------------------------------------------------------------------------------------------


_LEFT = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
"""What is never looked at."""


@dataclass(frozen=True, eq=False, slots=True)
class _Seen:
    name: str
    value: Any
    before: Any


def _state(value: Any) -> Any:
    if isinstance(value, list | set):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    return dict(vars(value)) if _is_of_users(type(value)) and hasattr(value, "__dict__") else None


def _restore(value: Any, before: Any) -> None:
    if isinstance(value, list):
        value[:] = before
        return
    held = value if isinstance(value, dict | set) else vars(value)
    held.clear()
    held.update(before)


def _is_of_users(kind: type) -> bool:
    """Whether a class is the user's own; those of packages may keep what they like."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return kind.__module__ == "__main__" or (file is not None and origin(file) == "user")


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(a[key] is b[key] for key in a)
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


class Watch:
    """The lists, dicts, sets and objects that functions can name, as they were."""

    def __init__(self, functions: Sequence[Callable[..., Any]]) -> None:
        found: dict[int, _Seen] = {}
        for function in functions:
            code = function.__code__
            closed = {name: get(cell) for name, cell in cells_of(function).items()}
            named = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
            for name, value in {**named, **closed}.items():
                state = None if is_tracer(value) or isinstance(value, _LEFT) else _state(value)
                if state is not None:
                    found[id(value)] = _Seen(name, value, state)
        self.seen = list(found.values())

    def check(self, where: str, loc: Loc) -> None:
        """Raise TraceError where one was changed."""
        for each in self.seen:
            if not _is_same(_state(each.value), each.before):
                _restore(each.value, each.before)
                raise located(
                    TraceError,
                    f"{each.name} ({type(each.value).__name__}) is changed in {where} whose condition is traced, so "
                    "that it is not known whether, and how often, it happens: bind a variable to arrays and numbers "
                    "there, and write into an array of the full size in place of append",
                    loc,
                )


def leaves_of(value: Any) -> tuple[list[Any], optree.PyTreeSpec] | None:
    """The leaves and structure of what a program can hold; None of anything else."""
    try:
        leaves, spec = tree_flatten(value)
    except (AdjitError, RecursionError, TypeError, ValueError):
        return None
    return None if any(map(problem_of, leaves)) else (leaves, spec)


FULL_SIZE = "write into an array of the full size in place of append"
"""The way out for lists that grow."""


def structure(value: Any) -> str:
    """The structure of a value, as users read it."""
    found = leaves_of(value)
    return "None" if value is None or found is None else shown(Tree("", *found)).replace("*", "array")
