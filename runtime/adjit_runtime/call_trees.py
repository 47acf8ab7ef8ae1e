"""Trees of arguments and results as words: what the native entry of a call looks at, and what it makes.

`Places` numbers the objects of a call: arguments by position, by keyword in the order of their names, then the items
of containers. `Makers` numbers the parts of a result: its leaves, then what is made of them.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import optree

from adjit_runtime.containers import (
    ReadOnlyDefaultDict,
    ReadOnlyDict,
    ReadOnlyList,
    ReadOnlyOrderedDict,
    children_of,
)
from adjit_runtime.guests import attributes_of, is_settled, is_told_by_equality, maker_of
from adjit_runtime.load import address_of
from adjit_runtime.program import (
    CALL_BITS,
    CALL_BY,
    CALL_DEFAULT,
    CALL_DICT,
    CALL_GUESTS,
    CALL_HASH,
    CALL_INIT,
    CALL_KNOWN,
    CALL_LIST,
    CALL_MAKER,
    CALL_NODE,
    CALL_OBJECT,
    CALL_ORDERED,
    CALL_SAME,
    CALL_TUPLE,
)

# What a state shows counts as plain.
_SHOWN: dict[type, type] = {
    dict: ReadOnlyDict,
    list: ReadOnlyList,
    OrderedDict: ReadOnlyOrderedDict,
    defaultdict: ReadOnlyDefaultDict,
}
_TWINS = _SHOWN | {shown: plain for plain, shown in _SHOWN.items()}


class Places:
    """Where the leaves of a call's arguments are. `records` are the nodes, `sources` the numbers of the leaves in the
    order of optree, `leaves` they themselves, `count` is how many objects there are. `is_static(position or name)` says
    which arguments are no trees but values that have to be the same; the first `bound` ones are looked at elsewhere.
    Where the records are not `complete`, there are values that they cannot tell apart."""

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
        self.complete = True
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

    @property
    def guests(self) -> bool:
        """Whether there are nodes that plain trees do not have."""
        return _has_guests(self.records, CALL_NODE)

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
        elif kind in (dict, ReadOnlyDict, defaultdict, ReadOnlyDefaultDict):
            keys = list(optree.utils.total_order_sorted(x))
            known = self._keep_all(keys)
            self._container(CALL_DICT, source, kind, [x[key] for key in keys], known)
            if isinstance(x, defaultdict):
                self._object(source, kind, {}, {"default_factory": x.default_factory})
        elif kind in (OrderedDict, ReadOnlyOrderedDict):
            # As they lie in the dict, which is what optree reads: `move_to_end` does not change that.
            keys = list(dict.keys(x))
            self._container(CALL_ORDERED, source, kind, [x[key] for key in keys], self._keep_all(keys))
        elif kind in (list, ReadOnlyList):
            self._container(CALL_LIST, source, kind, x)
        elif kind is tuple or _is_plain_namedtuple(x):
            self._container(CALL_TUPLE, source, kind, x)
        elif (attributes := attributes_of(x)) is not None:
            self._object(source, kind, *attributes)
        else:
            self.sources.append(source)
            self.leaves.append(x)

    def _keep_all(self, objects: Sequence[Any]) -> int:
        self.kept.extend(objects)
        addresses = np.array([id(x) for x in objects] or [0], np.int64)
        self.kept.append(addresses)
        return address_of(addresses)

    def _container(
        self, kind: int, source: int, cls: type, items: Sequence[Any], known: int = 0, fixed: Sequence[Any] = ()
    ) -> None:
        """A node of items, after which there are values that must be the same."""
        places = self._children(len(items) + len(fixed))
        twin = _TWINS.get(cls, cls)
        self._node(
            kind, source, first=places.start, count=len(places), type=self._keep(cls), other=self._keep(twin),
            known=known,
        )  # fmt: skip
        for place, item in zip(places, items, strict=False):
            self._tree(item, place)
        for place, value in zip(places[len(items) :], fixed, strict=True):
            self._static(value, place)

    def _object(self, source: int, cls: type, children: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
        """A node with attributes."""
        names = self._keep_all([AttributeError, *children, *fixed])
        self._container(CALL_OBJECT, source, cls, list(children.values()), names, list(fixed.values()))

    def _static(self, value: Any, source: int) -> None:
        """A value that must be the same, as `trees.Static` compares: type and value, at every depth."""
        kind = type(value)
        if kind is tuple:
            self._container(CALL_TUPLE, source, tuple, (), fixed=value)
            return
        # Where more than type and equality tells two values apart, as zeros and items, only the same object will do.
        by_value = kind is float or is_told_by_equality(value)
        cls = self._keep(kind) if by_value else 0
        self._node(CALL_BITS if kind is float else CALL_SAME, source, known=self._keep(value), type=cls)
        if not is_settled(value):
            self._contents(value, source)

    def _contents(self, value: Any, source: int) -> None:
        """The same object with other contents is another value, to a dict of signatures, too."""
        kind = type(value)
        if is_dataclass(value):
            looked_at = {field.name: getattr(value, field.name) for field in fields(value) if field.compare}
            self._object(source, kind, {}, looked_at)
        elif isinstance(value, tuple | frozenset):
            self.complete = False
        else:
            self._node(CALL_HASH, source, first=hash(value), type=self._keep(kind), known=self._keep(TypeError))


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

    @property
    def guests(self) -> bool:
        """Whether there are makers of what plain trees do not have."""
        return _has_guests(self.records, CALL_MAKER)

    def tree(self, spec: optree.PyTreeSpec, first: int) -> int:
        """Make what has this structure of the leaves from `first` on; the number of the part."""
        if spec.is_leaf(strict=True) or _is_plain(spec):
            return self._tree(spec, first)
        return self._add(CALL_BY, range(first, first + spec.num_leaves), known=self._keep(spec.unflatten))

    def tuple(self, parts: Sequence[int]) -> int:
        """Make a tuple of parts; its number."""
        return self._add(CALL_TUPLE, parts)

    def _tree(self, spec: optree.PyTreeSpec, first: int) -> int:
        if spec.is_leaf(strict=True):
            return first
        parts = []
        for child in spec.children():
            parts.append(self._tree(child, first))
            first += child.num_leaves
        make = maker_of(spec.type)
        if make is None:
            # A dict that was flattened has its keys in the order in which it had them.
            return self._container(_one_level(spec, parts))
        names = spec.entries()
        if make is spec.type:
            keywords = self._add(CALL_DICT, parts, known=self._keep_all(names))
            return self._add(CALL_INIT, [keywords], make=self._keep(make), of=self._keep(()))
        node = _one_level(spec, parts)
        fixed = [field.name for field in fields(node) if field.name not in names and hasattr(node, field.name)]
        parts += [self._known(getattr(node, name)) for name in fixed]
        known = self._keep_all([*names, *fixed])
        return self._add(CALL_OBJECT, parts, known=known, make=self._keep(make), of=self._keep(spec.type))

    def _container(self, x: Any) -> int:
        """A container of the numbers of parts."""
        if x is None:
            return self._known(x)
        kind = _KINDS[type(x)]
        if not isinstance(x, dict):
            return self._add(kind, x)
        known, parts = self._keep_all(list(x)), list(x.values())
        if not isinstance(x, defaultdict):
            return self._add(kind, parts, known=known)
        make, factory = self._keep(defaultdict), self._keep(x.default_factory)
        return self._add(kind, parts, known=known, make=make, of=factory)

    def _known(self, x: Any) -> int:
        return self._add(CALL_KNOWN, (), known=self._keep(x))

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

    def _add(self, kind: int, children: Sequence[int], **values: int) -> int:
        record = {"kind": kind, "count": len(children), "children": self._words(children), **values}
        self.records += [record.get(name, 0) for name in CALL_MAKER]
        return self._leaves + self.count - 1


_KINDS = {
    dict: CALL_DICT,
    list: CALL_LIST,
    tuple: CALL_TUPLE,
    OrderedDict: CALL_ORDERED,
    defaultdict: CALL_DEFAULT,
    type(None): CALL_KNOWN,
}


def _has_guests(records: Sequence[int], fields: Sequence[str]) -> bool:
    return not CALL_GUESTS.isdisjoint(records[fields.index("kind") :: len(fields)])


def _one_level(spec: optree.PyTreeSpec, children: Sequence[Any]) -> Any:
    """The node that a structure begins with, of such children."""
    one: Any = spec.one_level()
    return one.unflatten(children)


def _is_plain(spec: optree.PyTreeSpec) -> bool:
    """Whether a structure has nodes alone that native code makes."""
    if spec.is_leaf(strict=True):
        return True
    return (spec.type in _KINDS or maker_of(spec.type) is not None) and all(map(_is_plain, spec.children()))
