"""Trees of arguments and results as words: what the native entry of a call looks at, and what it makes.

`Places` numbers the objects of a call: arguments by position, by keyword in the order of their names, then the items
of containers. `Makers` numbers the parts of a result: its leaves, then what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from adjit_runtime.containers import ReadOnlyDict, ReadOnlyList, children_of
from adjit_runtime.guests import is_told_by_equality
from adjit_runtime.load import address_of
from adjit_runtime.program import (
    CALL_BITS,
    CALL_BY,
    CALL_DICT,
    CALL_LIST,
    CALL_MAKER,
    CALL_NODE,
    CALL_NONE,
    CALL_SAME,
    CALL_TUPLE,
)

# What a state shows counts as plain.
_TWINS: dict[type, type] = {dict: ReadOnlyDict, ReadOnlyDict: dict, list: ReadOnlyList, ReadOnlyList: list}
_KINDS = {dict: CALL_DICT, list: CALL_LIST, tuple: CALL_TUPLE, type(None): CALL_NONE}


class Places:
    """Where the leaves of a call's arguments are. `records` are the nodes, `sources` the numbers of the leaves in the
    order of optree, `leaves` they themselves, `count` is how many objects there are. `is_static(position or name)` says
    which arguments are no trees but values that have to be the same; the first `bound` ones are looked at elsewhere."""

    def __init__(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        is_static: Callable[[int | str], bool] = lambda place: False,
        bound: int = 0,
    ) -> None:
        self.records: list[int] = []
        self.sources: list[int] = []
        self.leaves: list[Any] = []
        self.kept: list[Any] = []
        self.names = sorted(kwargs)
        self.arguments = len(args)
        self.count = len(args) + len(kwargs)
        by_name = [(name, kwargs[name]) for name in self.names]
        places: list[tuple[int | str, Any]] = [*enumerate(args), *by_name]
        for source, (place, value) in list(enumerate(places))[bound:]:
            if is_static(place):
                self._static(value, source)
            else:
                self._tree(value, source)

    @property
    def shape(self) -> tuple[Any, ...]:
        """How many arguments by position there are, and the names of the others."""
        return (self.arguments, *self.names)

    @property
    def plain(self) -> bool:
        """Whether all arguments are leaves by position."""
        return not self.records and not self.names

    def _keep(self, x: Any) -> int:
        self.kept.append(x)
        return id(x)

    def _node(self, kind: int, source: int, **values: int) -> None:
        record = {"kind": kind, "source": source, **values}
        self.records += [record.get(name, 0) for name in CALL_NODE]

    def _children(self, count: int) -> range:
        first = self.count
        self.count += count
        return range(first, self.count)

    def _tree(self, x: Any, source: int) -> None:
        kind = type(x)
        if x is None:
            self._node(CALL_SAME, source, known=self._keep(x))
        elif kind in (dict, ReadOnlyDict):
            keys = list(optree.utils.total_order_sorted(x))
            known = self._keep_all(keys)
            self._container(CALL_DICT, source, kind, [x[key] for key in keys], known)
        elif kind in (list, ReadOnlyList):
            self._container(CALL_LIST, source, kind, x)
        elif kind is tuple or _is_plain_namedtuple(x):
            self._container(CALL_TUPLE, source, kind, x)
        else:
            self.sources.append(source)
            self.leaves.append(x)

    def _keep_all(self, objects: Sequence[Any]) -> int:
        self.kept.extend(objects)
        addresses = np.array([id(x) for x in objects] or [0], np.int64)
        self.kept.append(addresses)
        return address_of(addresses)

    def _container(self, kind: int, source: int, cls: type, items: Sequence[Any], known: int = 0) -> None:
        places = self._children(len(items))
        twin = _TWINS.get(cls, cls)
        self._node(
            kind, source, first=places.start, count=len(items), type=self._keep(cls), other=self._keep(twin),
            known=known,
        )  # fmt: skip
        for place, item in zip(places, items, strict=True):
            self._tree(item, place)

    def _static(self, value: Any, source: int) -> None:
        """A value that must be the same, as `trees.Static` compares: type and value, at every depth."""
        kind = type(value)
        if kind is tuple:
            places = self._children(len(value))
            cls = self._keep(tuple)
            self._node(CALL_TUPLE, source, first=places.start, count=len(value), type=cls, other=cls)
            for place, item in zip(places, value, strict=True):
                self._static(item, place)
            return
        # Where more than type and equality tells two values apart, as zeros and items, only the same object will do.
        by_value = kind is float or is_told_by_equality(value)
        cls = self._keep(kind) if by_value else 0
        self._node(CALL_BITS if kind is float else CALL_SAME, source, known=self._keep(value), type=cls)


def _is_plain_namedtuple(x: Any) -> bool:
    """Whether a named tuple is one to optree, too, and not registered as something else."""
    if not optree.is_namedtuple(x):
        return False
    children = children_of(x)
    return children is not None and len(children) == len(x) and all(map(lambda a, b: a is b, children, x))


class Makers:
    """How a result is made of its leaves. `records` has one maker for each container, children first."""

    def __init__(self, leaves: int) -> None:
        self.records: list[int] = []
        self.kept: list[Any] = []
        self._leaves = leaves

    @property
    def count(self) -> int:
        """How many makers there are."""
        return len(self.records) // len(CALL_MAKER)

    def tree(self, spec: optree.PyTreeSpec, first: int) -> int:
        """Make what has this structure of the leaves from `first` on; the number of the part."""
        if spec.is_leaf(strict=True):
            return first
        if not _is_plain(spec):
            return self._add(CALL_BY, range(first, first + spec.num_leaves), self._keep(spec.unflatten))
        # A dict that was flattened has its keys in the order in which it had them.
        return self._plain(spec.unflatten(range(first, first + spec.num_leaves)))

    def tuple(self, parts: Sequence[int]) -> int:
        """Make a tuple of parts; its number."""
        return self._add(CALL_TUPLE, parts)

    def _plain(self, x: Any) -> int:
        kind = type(x)
        if kind is int:
            number: int = x
            return number
        known = 0
        if kind is dict:
            known = self._keep_all(list(x))
            x = list(x.values())
        elif x is None:
            known, x = self._keep(x), ()
        return self._add(_KINDS[kind], [self._plain(child) for child in x], known)

    def _keep(self, x: Any) -> int:
        self.kept.append(x)
        return id(x)

    def _keep_all(self, objects: Sequence[Any]) -> int:
        self.kept.extend(objects)
        return self._words([id(x) for x in objects])

    def _words(self, numbers: Sequence[int]) -> int:
        words = np.array([*numbers, 0], np.int64)
        self.kept.append(words)
        return address_of(words)

    def _add(self, kind: int, children: Sequence[int], known: int = 0) -> int:
        record = {"kind": kind, "count": len(children), "children": self._words(children), "known": known}
        self.records += [record[name] for name in CALL_MAKER]
        return self._leaves + self.count - 1


def _is_plain(spec: optree.PyTreeSpec) -> bool:
    """Whether a structure has dicts, lists, tuples and None alone."""
    if spec.is_leaf(strict=True):
        return True
    return spec.type in _KINDS and all(map(_is_plain, spec.children()))
