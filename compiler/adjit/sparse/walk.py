"""Which elements of the inputs each element of a graph's nodes may depend on, proved from what the ops declare.

    %1 = slice %x start=(1) stop=(9)      =>  element i has column i + 1
    %2 = mul %1, %w                           as %1, and none where a %w that is known is 0
    %3 = sum %2 axes=(0)                      all of them

Nothing is computed of the inputs. What depends on none of them (indices, masks, factors) is known, and used. A result
may have columns that its derivative does not; it never lacks one that the derivative has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from adjit.autodiff.reach import Reach
from adjit.ir.axes import joins, relation_of
from adjit.ir.builder import ITEM, Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import Attrs
from adjit.ir.types import Array, Tuple, is_float
from adjit.ops.arithmetic import select
from adjit.ops.declare import Contraction, Differentiable, Elementwise, Indexing
from adjit.ops.indexing import take
from adjit.sparse.contractions import multiplied
from adjit.sparse.known import Known
from adjit.sparse.places import Places, seen
from adjit.sparse.sets import Sets, collected, end_to_end, union

Loop = Callable[["Walk", Node], list[Sets | None]]
"""`loop(walk, node)`: the sets of the results of a loop."""


class Walk:
    """One walk over a graph. `found` has the sets of what depends on an input; `known` are inputs whose values are."""

    def __init__(
        self,
        graph: Graph,
        reach: Reach,
        found: dict[Node, Sets],
        known: Mapping[Node, np.ndarray],
        cache: dict[object, Places],
        loop: Loop,
    ) -> None:
        self.graph = graph
        self.reach = reach
        self.found = found
        self.known = Known(graph, known)
        self.cache = cache
        self.loop = loop
        self._results: dict[Node, list[Sets | None]] = {}

    def of(self, node: Node) -> Sets:
        """The sets of a node."""
        return self.found.get(node) or Sets(node.array_type.size)

    def run(self) -> None:
        """Find the sets of all nodes that depend on an input."""
        for node in self.graph.nodes:
            if not any(arg in self.found or arg in self._results for arg in node.args):
                continue
            if isinstance(node.type, Tuple):
                self._enter_several(node)
                continue
            sets = self._item(node) if node.op is ITEM else self._rule(node)
            if sets is not None and sets.parts:
                self.found[node] = sets

    def _enter_several(self, node: Node) -> None:
        """A node with several results: a loop, or what nothing is known of."""
        if node in self.reach.bodies:
            self._results[node] = self.loop(self, node)
            return
        assert isinstance(node.type, Tuple)
        read = [self.found[arg] for arg in node.args if arg in self.found]
        everything = union([sets.grouped(sets.size) for sets in read])
        self._results[node] = [everything.taken(np.zeros(type.size, np.int64)) for type in node.type.items]

    def _item(self, node: Node) -> Sets | None:
        results = self._results.get(node.args[0])
        return None if results is None else results[node.attrs["index"]]

    def _rule(self, node: Node) -> Sets | None:
        if node not in self.reach.active:
            return None
        if isinstance(node.op, Elementwise):
            return self._elementwise(node)
        if isinstance(node.op, Indexing):
            return self._at_positions(node)
        if joins(node):
            return self._side_by_side(node)
        if isinstance(node.op, Contraction):
            return self._union([self._factor(node, i) for i in (0, 1)])
        return self._union([self._related(node, i) for i in range(len(node.args))])

    def _union(self, sets: Sequence[Sets | None]) -> Sets | None:
        found = [each for each in sets if each is not None and each.parts]
        return union(found) if found else None

    def _related(self, node: Node, i: int) -> Sets | None:
        """What comes of one operand, by the declared relation; without one, all of it may be anywhere."""
        sets = self.found.get(node.args[i])
        if sets is None:
            return None
        relation = relation_of(node)
        if relation is None:
            return sets.grouped(sets.size).taken(np.zeros(node.array_type.size, np.int64))
        return seen(relation, i, sets, node.attrs.get("reverse", False), self.cache)

    # -- rules by kind ------------------------------------------------------------------------------------------------

    def _elementwise(self, node: Node) -> Sets | None:
        moving = [i for i in _followed(node) if node.args[i] in self.found]
        return self._union([self._masked(node, i) for i in moving])

    def _masked(self, node: Node, i: int) -> Sets:
        """The sets of an operand where it has part in the result, as far as that is known."""
        sets = self.found[node.args[i]]
        read: np.ndarray | None = None
        if node.op is select:
            condition = self.known.of(node.args[0])
            read = None if condition is None else condition if i == 1 else ~condition
        elif is_product(node):
            other = self.known.of(node.args[1 - i])
            read = None if other is None else other != 0
        if read is None or read.all():
            return sets
        return sets.taken(np.where(read.ravel(), np.arange(sets.size), -1))

    def _factor(self, node: Node, i: int) -> Sets | None:
        """What comes of one operand of a contraction: nothing where the other one is 0."""
        sets = self.found.get(node.args[i])
        if sets is None:
            return None
        other = self.known.of(node.args[1 - i])
        if other is None or (other != 0).all():
            return self._related(node, i)
        found = multiplied(node, i, sets, other)
        return self._related(node, i) if found is None else found

    def _side_by_side(self, node: Node) -> Sets | None:
        """Operands one after the other."""
        sets = end_to_end([self.of(arg) for arg in node.args])
        if not node.attrs["axis"]:
            return sets
        starts = np.cumsum([0, *(arg.array_type.size for arg in node.args)])
        numbers = [
            np.arange(start, start + arg.array_type.size).reshape(arg.shape)
            for start, arg in zip(starts, node.args, strict=False)
        ]
        return sets.taken(np.concatenate(numbers, axis=node.attrs["axis"]).ravel())

    def _at_positions(self, node: Node) -> Sets | None:
        """What is read or written at positions: there, where they are known, and anywhere where they are not."""
        assert isinstance(node.op, Indexing)
        x, at = node.args[:2]
        index = self.known.of(at)
        if index is None or node.array_type.size == 0:
            return self._union([self._related(node, i) for i in range(len(node.args))])
        numbers = np.arange(x.array_type.size).reshape(x.shape)
        places = take.evaluate(numbers, index, axis=node.attrs["axis"], batch=node.attrs.get("batch", 0)).ravel()
        if len(node.args) == 2:
            return self.found[x].taken(places)
        return self._written(node, places)

    def _written(self, node: Node, places: np.ndarray) -> Sets | None:
        assert isinstance(node.op, Indexing)
        x, _, update = node.args
        size = node.array_type.size
        into, put = self.found.get(x), self.found.get(update)
        if node.op.adds and np.bincount(places, minlength=size).max() > 1:
            return self._union([into, None if put is None else collected(put, places, size)])
        last = np.full(size, -1)
        last[places] = np.arange(len(places))
        if into is not None and not node.op.adds:
            into = into.taken(np.where(last < 0, np.arange(size), -1))
        return self._union([into, None if put is None else put.taken(last)])


def is_product(node: Node) -> bool:
    """Whether an elementwise op is linear in each of two operands, so that it is 0 where either is."""
    op = node.op
    return isinstance(op, Elementwise) and op.arity == 2 and op.linear == ((0,), (1,))


_FOLLOWED: dict[object, tuple[int, ...]] = {}


def _followed(node: Node) -> tuple[int, ...]:
    """The operands of an elementwise op that its rule hands something to."""
    op = node.op
    assert isinstance(op, Differentiable)
    floats = tuple(i for i, arg in enumerate(node.args) if is_float(arg.dtype))
    if op.vjp is None:
        return floats
    key = (op, tuple(arg.dtype for arg in node.args), _hashable(node.attrs))
    if key not in _FOLLOWED:
        b = Builder()
        xs = [b.value(b.input("x", Array(arg.dtype))) for arg in node.args]
        y, g = (b.value(b.input(name, Array(node.dtype))) for name in "yg")
        found = op.vjp(b, g, y, *xs, **node.attrs)
        _FOLLOWED[key] = tuple(i for i in floats if found[i] is not None)
    return _FOLLOWED[key]


def _hashable(attrs: Attrs) -> tuple[object, ...]:
    return tuple(sorted(attrs.items()))
