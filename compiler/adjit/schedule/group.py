"""Fusion: which nodes form a kernel.

Nodes are of four sorts. Views (movement, constants, inputs) cost nothing and become index maps. **Light** nodes
(a few instructions on few operands) are computed again wherever they are read. **Heavy** nodes belong to one
group, which stores them if another group reads them. The rest (contractions, reductions, running sums, scatters,
checks) start groups.

A group has a space: the shape that its loops run over, and, once a reduction has joined, the axes that are
reduced. A member stands at the level "full" (it varies along the whole space) or "row" (along the axes that are
not reduced). A heavy node joins the groups of the values that it reads where it reads them element by element,
or a row's value for each element of the row, and where no path through another group leads from the group back
into it; groups that it joins become one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from adjit.ir.axes import joins, sees_windows
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ops.contraction import extents_of, subscripts_of
from adjit.ops.declare import Bodied, Elementwise, Ordered, Reduction
from adjit.schedule.products import is_small, rows_of_block
from adjit.schedule.windowed import reads_windows
from adjit.tuned import HOISTED_COST, KERNEL_MEMBERS, LIGHT_COST, LIGHT_LEAVES, MOST_PLACES, ROW_COST

SAME = ("same",)
FOREIGN = ("foreign",)
GATE = ("gate",)
"""Not read at all: the leaf comes first."""
Relation = tuple[object, ...]

WIDEST = 64
"""Bytes of the widest vector of any target."""
STARTS = frozenset({"contraction", "running", "scatter", "check", "tiled", "scan", "sorting", "factoring"})
"""Kinds that always start a group of their own."""


@dataclass(eq=False, slots=True)
class Group:
    """What becomes one kernel. `reduced` is None until a reduction joins; `ancestors` is a bit set of the numbers of
    all groups that come before it, `before` has those that do so by themselves, `after` those that it does so to."""

    number: int
    kind: str
    space: tuple[int, ...]
    reduced: tuple[int, ...] | None = None
    members: dict[Node, str] = field(default_factory=dict)
    ancestors: int = 0
    before: dict[Group, None] = field(default_factory=dict)
    after: dict[Group, None] = field(default_factory=dict)
    absorbed_by: Group | None = None

    @property
    def rows(self) -> tuple[int, ...]:
        """The dimensions of the space that are not reduced."""
        return tuple(i for i in range(len(self.space)) if i not in (self.reduced or ()))

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row-level member."""
        return tuple(self.space[i] for i in self.rows)


class Grouping:
    """The result: `groups` in order of creation, `group_of[node]` for every heavy node, `position[node]` in the
    graph."""

    def __init__(self, graph: Graph, stored: Iterable[Node], unfused: Iterable[Node] = ()) -> None:
        self.graph = graph
        self.stored = frozenset(stored)
        self.unfused = frozenset(unfused)
        self.groups: list[Group] = []
        self.position = {node: number for number, node in enumerate(graph.nodes)}
        self.group_of: dict[Node, Group] = {}
        self._leaves: dict[Node, dict[Node, set[Relation]]] = {}
        self._cost: dict[Node, tuple[int, frozenset[Node]]] = {}
        self._users = graph.users()
        self._spread = _spread(graph, self._users)
        self._after_product: set[Node] = set()
        # At how many places of windows elements are read to compute one of a value, as far as the group of it goes; and
        # what reads some by itself, or by light values.
        self._places: dict[Node, int] = {}
        self._reading: set[Node] = set()
        # Bit sets of numbers: what reads a node, what reduces a space along some axes, what takes no more members.
        self._readers: dict[Node, int] = {}
        self._reducing: dict[tuple[tuple[int, ...], tuple[int, ...] | None], int] = {}
        self._closed = 0
        for node in graph.inputs:
            self._leaves[node] = {}
        for node in graph.nodes:
            self._place(node)
        self.groups = [group for group in self.groups if group.absorbed_by is None]

    def leaves(self, node: Node) -> dict[Node, set[Relation]]:
        """The heavy nodes that `node` is computed from, each with the ways in which it is read."""
        return {node: {SAME}} if node in self.group_of else self._leaves[node]

    def depends_on(self, group: Group, other: Group) -> bool:
        """Whether `group` needs something of `other`."""
        return bool(group.ancestors >> other.number & 1)

    def reads(self, group: Group) -> set[Node]:
        """Everything that has memory of its own and that the members of `group` may read."""
        return {node for member in group.members for arg in member.args for node in self.read_for(arg)}

    def read_for(self, arg: Node) -> frozenset[Node]:
        """What has memory of its own and is read for an operand."""
        known = self._cost.get(arg)
        return frozenset({arg}) if known is None else known[1]

    def relations(self, member: Node) -> dict[Node, set[Relation]]:
        """How a member reads the heavy nodes that it is made of."""
        return self._combined(member)

    def sums_windows(self, node: Node) -> bool:
        """Whether a node reads several places of windows, some of them by itself: so does whoever computes it."""
        return node in self._reading and self._places[node] > MOST_PLACES

    def move(self, node: Node, group: Group) -> None:
        """Let `group`, which reads a member of another group, compute that itself."""
        del self.group_of[node].members[node]
        self._add(group, node, "full", self._combined(node))

    def order_after(self, group: Group, earlier: Group) -> None:
        """Make `group` come after `earlier`, which does not depend on it."""
        self._follow(group, [earlier])

    # -- one node -----------------------------------------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        kind = node.op.kind
        if isinstance(node.op, Elementwise):
            self._count_places(node)
        if kind == "tuple":
            # A result of a loop.
            self._add(self.group_of[node.args[0]], node, "full", ())
        elif kind in STARTS or _stands_alone(node):
            self._start(node, "product" if kind == "contraction" else kind)
        elif kind in ("reduction", "argreduction"):
            self._join(node)
        elif self._is_light(node):
            self._leaves[node] = self._combined(node)
        else:
            self._join(node)

    def _count_places(self, node: Node) -> None:
        count = 0
        for arg in node.args:
            if arg.op.kind == "movement" and reads_windows(arg):
                count += 1
            elif arg not in self.group_of:
                count += self._places.get(arg, 0)
        if count:
            self._reading.add(node)
            self._places[node] = count + sum(self._places.get(arg, 0) for arg in node.args if arg in self.group_of)

    def _is_light(self, node: Node) -> bool:
        if node.op.kind == "leaf":
            self._cost[node] = (0, frozenset() if node.is_splat else frozenset({node}))
            return True
        if node.op.kind == "creation" and node not in self.stored:
            self._cost[node] = (0, frozenset())
            return True
        if node in self.stored or self._replaces_product(node):
            return False
        if node.op.kind == "movement":
            self._cost[node] = self._cost.get(node.args[0], (0, frozenset({node.args[0]})))
            return True
        if not isinstance(node.op, Elementwise) or (node.shape == () and node.op.name != "cast"):
            return False
        if self.sums_windows(node):
            return False
        cost = node.op.cost
        leaves: frozenset[Node] = frozenset()
        for arg in node.args:
            cost += self._cost[arg][0] if arg in self._cost else 0
            leaves |= self.read_for(arg)
        self._cost[node] = (cost, leaves)
        if cost <= LIGHT_COST and len(leaves) <= LIGHT_LEAVES and not self._is_repeated(node, cost + len(leaves)):
            return True
        del self._cost[node]
        return False

    def _replaces_product(self, node: Node) -> bool:
        """Whether several values are made of `node`, and a product is read for it alone: stored in place of what the
        product is without it, it takes no memory, and its readers need not read all that it is made of."""
        if isinstance(node.op, Elementwise) and any(
            arg.shape == node.shape
            and len(self._users[arg]) == 1
            and arg not in self.stored
            and (arg.op.kind == "contraction" or arg in self._after_product)
            for arg in node.args
        ):
            self._after_product.add(node)
        return node in self._after_product and len(self._users.get(node, ())) > 1

    def _is_repeated(self, node: Node, cost: int) -> bool:
        """Whether a light value is worth memory, as windows that overlap, or broadcasts along outer axes, would have it
        computed once more for each vector. (Along the last axis, where vectors run, a loop computes once what it
        repeats.)"""
        if len(node.shape) < 2:
            return False
        last = len(node.shape) - 1
        copies = [
            user.array_type.size - node.array_type.size
            for user in self._users.get(node, ())
            if sees_windows(user) or (user.op.name == "broadcast" and user.attrs["axes"][last] == len(user.shape) - 1)
        ]
        # It takes one load in place of the operations and of the loads of what it is made of.
        return sum(copies) * (cost - 1) >= HOISTED_COST

    def _combined(self, node: Node) -> dict[Node, set[Relation]]:
        found: dict[Node, set[Relation]] = {}
        if isinstance(node.op, Ordered):
            moved, gate = (self.leaves(arg) for arg in node.args)
            found = {leaf: set(relations) for leaf, relations in moved.items()}
            for leaf in gate:
                found.setdefault(leaf, set()).add(GATE)
            return found
        for arg in node.args:
            for leaf, relations in self.leaves(arg).items():
                found.setdefault(leaf, set()).update(_through(node, relation) for relation in relations)
        return found

    # -- groups -------------------------------------------------------------------------------------------------------

    def _new_group(self, kind: str, space: tuple[int, ...], reduced: tuple[int, ...] | None = None) -> Group:
        group = Group(len(self.groups), kind, space)
        self.groups.append(group)
        if kind != "loop":
            self._closed |= 1 << group.number
        self._reduce(group, reduced)
        return group

    def _reduce(self, group: Group, axes: tuple[int, ...] | None) -> None:
        group.reduced = axes
        if axes is not None:
            key = (group.space, axes)
            self._reducing[key] = self._reducing.get(key, 0) | 1 << group.number

    def _add(self, group: Group, node: Node, level: str, leaves: Iterable[Node]) -> None:
        group.members[node] = level
        self.group_of[node] = group
        leaves = tuple(leaves)
        if node not in self._reading:
            self._places[node] = sum(self._places[leaf] for leaf in leaves if self.group_of[leaf] is group)
        for arg in node.args:
            for read in self.read_for(arg):
                self._readers[read] = self._readers.get(read, 0) | 1 << group.number
        if len(group.members) >= KERNEL_MEMBERS:
            self._closed |= 1 << group.number
        self._follow(group, (other for leaf in leaves if (other := self.group_of[leaf]) is not group))

    def _follow(self, group: Group, others: Iterable[Group]) -> None:
        """Put `group`, and all that comes after it, after the `others`."""
        gained = 0
        for other in others:
            group.before[other] = None
            other.after[group] = None
            gained |= other.ancestors | 1 << other.number
        if gained & ~group.ancestors:
            group.ancestors |= gained
            self._hand_on(group)

    def _hand_on(self, group: Group) -> None:
        """Give what comes before `group` to all that comes after it."""
        waiting = [group]
        while waiting:
            giver = waiting.pop()
            known = giver.ancestors | 1 << giver.number
            for other in giver.after:
                if known & ~other.ancestors:
                    other.ancestors |= known
                    waiting.append(other)

    def _start(self, node: Node, kind: str) -> None:
        space = (
            () if isinstance(node.op, Bodied) else node.args[-1].shape if kind in ("check", "running") else node.shape
        )
        reduced = (node.attrs["axis"],) if kind == "running" else None
        leaves = self._combined(node)
        self._add(self._new_group(kind, space, reduced), node, "full", leaves)

    def _join(self, node: Node) -> None:
        leaves = self._combined(node)
        reduces = node.op.kind in ("reduction", "argreduction")
        axes = _reduced_axes(node) if reduces else None
        read = {leaf: rest for leaf, relations in leaves.items() if (rest := relations - {GATE})}
        fitting = {
            group: level
            for group in dict.fromkeys(self.group_of[leaf] for leaf in read)
            if (level := self._fits(node, axes, group, read)) is not None and self._is_legal(group, leaves)
        }
        target: Group | None = None
        for group in sorted(fitting, key=lambda g: -g.number):
            if target is None:
                target = group
            elif fitting[group] == fitting[target]:
                target = self._merged(target, group, axes) or target
        if target is None and reduces:
            target = self._sibling(node, axes or (), leaves)
            if target is not None:
                fitting[target] = "row"
        if target is None:
            space = node.args[0].shape if reduces else node.shape
            target = self._new_group("loop", space, axes)
            fitting[target] = "row" if reduces else "full"
        if reduces and target.reduced is None:
            self._reduce(target, axes)
        self._add(target, node, fitting[target], leaves)

    def _fits(
        self, node: Node, axes: tuple[int, ...] | None, group: Group, leaves: dict[Node, set[Relation]]
    ) -> str | None:
        """The level at which `node` can join `group`, or None."""
        if group.kind not in ("loop", "product") or len(group.members) >= KERNEL_MEMBERS or _reads_elsewhere(node):
            return None
        if group.kind == "product" and not self.unfused.isdisjoint(group.members):
            return None
        inside = {leaf: relations for leaf, relations in leaves.items() if self.group_of[leaf] is group}
        row = ("broadcast", group.space, group.rows)
        at_full = all(
            relations == ({SAME} if group.members[leaf] == "full" else {row}) for leaf, relations in inside.items()
        )
        if axes is not None:
            if any(self._places[leaf] > MOST_PLACES for leaf in inside):
                # A row is gone over more than once: what takes long is read then, not computed again.
                return None
            sums = group.kind == "loop" or self._sums_rows(group, axes, node)
            fits = at_full and sums and node.args[0].shape == group.space
            return "row" if fits and group.reduced in (None, axes) else None
        if at_full and node.shape == group.space:
            # A product reduces what it has made, once.
            return "full" if group.kind == "loop" or all(group.members[leaf] == "full" for leaf in inside) else None
        at_row = all(group.members[leaf] == "row" and relations == {SAME} for leaf, relations in inside.items())
        if group.reduced is None or not at_row or node.shape != group.row_shape:
            return None
        return "row" if self._is_cheap_row(node) or self._is_spread(node, group.space) else None

    def _is_cheap_row(self, node: Node) -> bool:
        return not node.shape or not isinstance(node.op, Elementwise) or node.op.cost <= ROW_COST

    def _is_spread(self, node: Node, space: tuple[int, ...]) -> bool:
        """Whether a row's value goes back to the elements of the row."""
        return space in self._spread.get(node, ())

    def _is_legal(self, group: Group, leaves: Iterable[Node]) -> bool:
        """Whether nothing that a node of these leaves needs from elsewhere needs `group` first."""
        others = (self.group_of[leaf] for leaf in leaves)
        return not any(self.depends_on(other, group) for other in others if other is not group)

    def _merged(self, a: Group, b: Group, axes: tuple[int, ...] | None) -> Group | None:
        """One group of two, or None where they cannot be one."""
        if a.space != b.space or len(a.members) + len(b.members) > KERNEL_MEMBERS:
            return None
        reductions = {group.reduced for group in (a, b) if group.reduced is not None}
        reductions |= {axes} if axes is not None else set()
        if len(reductions) > 1:
            return None
        kinds = {a.kind, b.kind}
        if kinds == {"product"} or ("product" in kinds and reductions):
            return None
        if self._is_between(a, b) or self._is_between(b, a):
            return None
        keep, drop = (a, b) if a.kind == "product" or b.kind != "product" else (b, a)
        self._absorb(keep, drop)
        self._reduce(keep, next(iter(reductions), None))
        return keep

    def _is_between(self, a: Group, b: Group) -> bool:
        """Whether a third group comes after `b` and before `a`."""
        return any(self.depends_on(other, b) for other in a.before)

    def _absorb(self, keep: Group, drop: Group) -> None:
        drop.absorbed_by = keep
        keep.members.update(drop.members)
        for node in drop.members:
            self.group_of[node] = keep
            for arg in node.args:
                for read in self.read_for(arg):
                    self._readers[read] |= 1 << keep.number
        for other in drop.before:
            del other.after[drop]
            other.after[keep] = None
        for other in drop.after:
            del other.before[drop]
            other.before[keep] = None
        both = 1 << keep.number | 1 << drop.number
        keep.before = {other: None for other in (*keep.before, *drop.before) if other is not keep}
        keep.after = {other: None for other in (*keep.after, *drop.after) if other is not keep}
        keep.ancestors = (keep.ancestors | drop.ancestors) & ~both
        self._closed |= 1 << drop.number
        if len(keep.members) >= KERNEL_MEMBERS:
            self._closed |= 1 << keep.number
        self._hand_on(keep)

    def _sibling(self, node: Node, axes: tuple[int, ...], leaves: dict[Node, set[Relation]]) -> Group | None:
        """The last group that already reduces the same space along the same axes and reads a common value."""
        found = 0
        for read in self.read_for(node.args[0]):
            found |= self._readers.get(read, 0)
        needed = self._closed
        for leaf in leaves:
            group = self.group_of[leaf]
            needed |= group.ancestors | 1 << group.number
        found &= self._reducing.get((node.args[0].shape, axes), 0) & ~needed
        return self.groups[found.bit_length() - 1] if found else None

    def _sums_rows(self, group: Group, axes: tuple[int, ...], node: Node) -> bool:
        """Whether a product has all that `node` reduces in one block, along its rows: of a few, or of many small
        matrices. What goes back to the elements is left to a loop, which reads them once for all its passes."""
        found = _rows_summed(group, axes, node)
        if found is None:
            return False
        batched, m, n, k = found
        if batched:
            return is_small(node.dtype, m, n, k, WIDEST)
        return m <= rows_of_block(node.dtype) and not self._is_spread(node, group.space)


def _rows_summed(group: Group, axes: tuple[int, ...], node: Node) -> tuple[bool, int, int, int] | None:
    """Whether the product of a group has a batch, and its rows, columns and sums, if `node` reduces its rows."""
    contraction = next((member for member in group.members if member.op.kind == "contraction"), None)
    if contraction is None or not isinstance(node.op, Reduction) or node.dtype.kind != "f":
        return None
    spec = subscripts_of(contraction)
    if not spec.rows + spec.columns:
        return None
    _, m, n, k = extents_of(contraction)
    rows = spec.rows
    # The columns are those of the operand that has the last axis.
    if spec.result[-1] in spec.rows:
        rows, m, n = spec.columns, n, m
    is_along = len(rows) == 1 and axes == (spec.result.index(rows),)
    return (bool(spec.batch), m, n, k) if is_along else None


def _spread(graph: Graph, users: dict[Node, list[Node]]) -> dict[Node, frozenset[tuple[int, ...]]]:
    """For each node the shapes that it is broadcast to, by itself or by what is made of it element by element."""
    found: dict[Node, frozenset[tuple[int, ...]]] = {}
    for node in reversed(graph.nodes):
        shapes: frozenset[tuple[int, ...]] = frozenset()
        for user in users.get(node, ()):
            if user.op.name == "broadcast":
                shapes |= {user.shape}
            elif isinstance(user.op, Elementwise) and user.shape == node.shape:
                shapes |= found.get(user, frozenset())
        if shapes:
            found[node] = shapes
    return found


def _through(node: Node, relation: Relation) -> Relation:
    """How a leaf is read by `node`'s users when it is read so by `node`."""
    if isinstance(node.op, Elementwise) or relation == GATE:
        return relation
    if node.op.name == "broadcast" and relation == SAME:
        return ("broadcast", node.shape, node.attrs["axes"])
    if node.op.kind in ("reduction", "argreduction"):
        return relation
    return FOREIGN


def _reduced_axes(node: Node) -> tuple[int, ...]:
    if node.op.kind == "argreduction":
        return (node.attrs["axis"],)
    return tuple(node.attrs["axes"])


def _reads_elsewhere(node: Node) -> bool:
    """Whether a node reads its operands at other places than its own, so that it joins no group of theirs."""
    return not isinstance(node.op, Elementwise) and node.op.kind not in ("reduction", "argreduction")


def _stands_alone(node: Node) -> bool:
    """Movement that needs memory of its own: several operands side by side, or gaps to fill."""
    return joins(node) or (node.op.name == "pad" and any(node.attrs["interior"]))
