"""leave_loops: products that need not be taken turn by turn are taken of all turns at once, before a loop or after it.

    %0 = scan %h, %x, %w, %u length=200 carried=1 sliced=1     %0 = contract %x, %w [aij,jk->aik] : f32[200,8,32]
              body=graph @f(%h, %x, %w, %u) {                  %1 = scan %h, %0, %u length=200 carried=1 sliced=1
      %0 = contract %x, %w [ij,jk->ik] : f32[8,32]                       body=graph @f(%h, %v0, %u) {
      %1 = contract %h, %u [ij,jk->ik] : f32[8,32]       =>      %0 = contract %h, %u [ij,jk->ik] : f32[8,32]
      %2 = add %0, %1 : f32[8,32]                                %1 = add %v0, %0 : f32[8,32]
      return %2                                                  return %1
    } : (f32[8,32])                                            } : (f32[8,32])

    carried: %1 = contract %x, %g [ij,ik->jk]                  stacked: %g
             %2 = add %dw, %1                            =>    %3 = contract %x, %g [aij,aik->jk] : f32[16,32]
                                                               %4 = add %dw, %3 : f32[16,32]

**Ahead** goes a product of an invariant with what depends on the turn's parts of operands alone, and what is made of it
alone and is no larger. **After** goes a product whose result is stacked, or made into what is, and one that is added to
a sum that is carried and that nothing else reads; its operands are stacked in its place, where that is less than what
is read of the invariant, or read and written of the sum, in each turn. It pays where what is stacked stays in the cache
or is little beside the invariant or the sum.

Sums over turns are then taken in the order of the plan's products, not in the order of turns, and the sum's first value
is added last. Checks stay, so that an error names its turn; so does what has no form over several turns, and all of a
loop whose turns may not all run, or that has checkpoints so as not to keep values of all of its turns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ops.batched import batched, can_batch, summed
from adjit.ops.declare import Contraction
from adjit.ops.loops import may_stack
from adjit.passes.loops import Carry, Loop, Result, Results, Stack, ancestors, fitted, may_fail, rewrite_loops
from adjit.tuned import LEAVING_GAIN, STACKED_BYTES, STACKED_CACHE_BYTES

Users = dict[Node, list[Node]]


def leave_loops(graph: Graph) -> Graph:
    """The graph whose loops have no products that can be taken of all turns at once."""
    return rewrite_loops(graph, _step)


def _step(loop: Loop, b: Builder) -> Results | None:
    if loop.length < 2 or not loop.runs_all or not may_stack(loop.node):
        return None
    if not any(isinstance(node.op, Contraction) for node in loop.body.nodes):
        return None
    ahead = _take_ahead(loop, b)
    after = _After.found(loop, _Known(loop, products=False))
    if after is not None:
        return after.results(b)
    return loop.emitted(b) if ahead else None


class _Known:
    """What the values of a body depend on: what is `carried`, what is `varying` from turn to turn at all, and what is
    `free`, computable outside of the loop from operands; of `products` that vary only where that is said."""

    def __init__(self, loop: Loop, products: bool) -> None:
        self.loop = loop
        self.products = products
        self.nodes = loop.nodes()
        self.outputs = loop.outputs()
        self.users: Users = {}
        for node in self.nodes:
            for arg in node.args:
                self.users.setdefault(arg, []).append(node)
        self.carried = {carry.input for carry in loop.carries}
        self.varying = self.carried | {entry.input for entry in loop.parts}
        self.free = {entry.input for entry in (*loop.parts, *loop.wholes)}
        for node in self.nodes:
            if any(arg in self.carried for arg in node.args):
                self.carried.add(node)
            if any(arg in self.varying for arg in node.args):
                self.varying.add(node)
            if all(arg in self.free for arg in node.args) and self._has_form_outside(node):
                self.free.add(node)

    def _has_form_outside(self, node: Node) -> bool:
        """Whether a node whose args are known outside of the loop can be computed there, for all turns at once where it
        varies."""
        if node not in self.varying:
            return not may_fail(node)
        return can_batch(node) and (self.products or not isinstance(node.op, Contraction))

    def varies_in_one(self, node: Node) -> Node | None:
        """The operand of a contraction that varies, where the other one does not."""
        varying = [arg for arg in node.args if arg in self.varying]
        return varying[0] if isinstance(node.op, Contraction) and len(varying) == 1 else None

    def invariant(self, node: Node) -> Node:
        """The operand of such a contraction that does not."""
        return next(arg for arg in node.args if arg not in self.varying)

    def is_little(self, nbytes: int, matrix: Node) -> bool:
        """Whether so many bytes, stacked in each turn, cost less than to read or to write a matrix in each."""
        return nbytes * self.loop.length <= STACKED_CACHE_BYTES or nbytes * LEAVING_GAIN <= matrix.array_type.nbytes

    def pays_ahead(self, node: Node) -> bool:
        """Whether it pays to stack such a contraction."""
        return self.is_little(node.array_type.nbytes, self.invariant(node))

    def factors(self, term: Node) -> tuple[Node, list[Node]]:
        """What is added up in a term but for its sign and constant factors, and the nodes that make these of it."""
        between: list[Node] = []
        while term.op.name == "neg" or (term.op.name == "mul" and term.args[0].is_splat):
            if not self.is_read_by(term.args[-1], term):
                break
            between.append(term)
            term = term.args[-1]
        return term, between

    def is_read_by(self, node: Node, user: Node) -> bool:
        """Whether a node has this user and no other reader."""
        return self.users.get(node, []) == [user] and node not in self.outputs


@dataclass(eq=False, slots=True)
class _Outside:
    """Body nodes computed outside of the loop: `values` has for each the outer node, and whether that is of all turns,
    stacked."""

    loop: Loop
    b: Builder
    values: dict[Node, tuple[Node, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.loop.parts:
            self.values[entry.input] = entry.operand, True
        for entry in self.loop.wholes:
            self.values[entry.input] = fitted(self.b, entry.operand, entry.input.array_type), False

    def compute(self, nodes: Iterable[Node], order: Iterable[Node]) -> None:
        """Make the outer nodes of `nodes` and of all that they need."""
        wanted = ancestors(nodes, self.values)
        for node in order:
            if node not in wanted:
                continue
            args = [self.values[arg][0] for arg in node.args]
            stacked = [self.values[arg][1] for arg in node.args]
            if any(stacked):
                self.values[node] = batched(self.b, node, args, stacked, self.loop.length), True
            else:
                self.values[node] = self.b.keep(copy_node(node, args)), False


# -- ahead of the loop -------------------------------------------------------------------------------------------------


def _take_ahead(loop: Loop, b: Builder) -> bool:
    """Hand in as parts the products that need nothing of other turns."""
    known = _Known(loop, products=True)
    taken = _taken_ahead(known)
    read = {arg for node in known.nodes if node not in taken for arg in node.args} | set(known.outputs)
    wanted = [node for node in known.nodes if node in taken and node in read]
    if not wanted:
        return False
    outside = _Outside(loop, b)
    outside.compute(wanted, known.nodes)
    loop.substitute({node: loop.part(outside.values[node][0], node.array_type) for node in wanted})
    return True


def _taken_ahead(known: _Known) -> set[Node]:
    """Products of invariants, and what is made of one alone and is no larger."""
    taken: set[Node] = set()
    staying: set[Node] = set()
    left = STACKED_BYTES
    for node in known.nodes:
        if node not in known.free or node not in known.varying:
            continue
        if any(arg in staying for arg in node.args):
            # It would take a product along that stays.
            staying.add(node)
        elif _follows(known, node, taken):
            taken.add(node)
        elif isinstance(node.op, Contraction):
            nbytes = node.array_type.nbytes * known.loop.length
            if known.varies_in_one(node) is None or nbytes > left or not known.pays_ahead(node):
                staying.add(node)
                continue
            taken.add(node)
            left -= nbytes
    return taken


def _follows(known: _Known, node: Node, taken: set[Node]) -> bool:
    """Whether a node is made of such as are taken, which nothing else reads, and is no larger than any of them."""
    operands = [arg for arg in node.args if arg in taken]
    return bool(operands) and all(
        known.is_read_by(arg, node) and node.array_type.nbytes <= arg.array_type.nbytes for arg in operands
    )


# -- after the loop ----------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Sum:
    """A carry that only adds: its `steps` in order, each the addition of a term to what the one before gave."""

    carry: Carry
    steps: list[tuple[Node, Node]]
    moved: list[Node] = field(default_factory=list)

    @staticmethod
    def of(carry: Carry, known: _Known) -> _Sum | None:
        """The sum that a carry is, if it is one."""
        steps: list[tuple[Node, Node]] = []
        at = carry.input
        while at is not carry.output:
            users = known.users.get(at, [])
            if len(users) != 1 or at in known.outputs or users[0].op.name != "add":
                return None
            (add,) = users
            steps.append((add, add.args[1] if add.args[0] is at else add.args[0]))
            at = add
        ends = known.outputs.count(at) == 1 and not known.users.get(at)
        return _Sum(carry, steps) if steps and ends else None

    def shorten(self) -> dict[Node, Node]:
        """What stands for the last addition when the terms that moved are gone."""
        at = self.carry.input
        for add, term in self.steps:
            if term not in self.moved:
                at = Builder(add.loc).emit(add.op, at, term)
        return {self.steps[-1][0]: at}


@dataclass(eq=False, slots=True)
class _After:
    """What is computed after the loop: the nodes that are `moved`, of what is `stacked` for them, and terms of sums."""

    known: _Known
    sums: list[_Sum]
    moved: set[Node]
    stacked: list[Node]

    @staticmethod
    def found(loop: Loop, known: _Known) -> _After | None:
        """What is worth it; None where nothing is."""
        sums = [found for carry in loop.carries if (found := _Sum.of(carry, known)) is not None]
        search = _Search(known, sums)
        moved = search.moved()
        if not moved:
            return None
        read = dict.fromkeys(arg for node in known.nodes if node in moved for arg in node.args if arg not in moved)
        outputs = {stack.output for stack in loop.stacks}
        stacked = [arg for arg in read if arg in known.varying and (arg not in known.free or arg in outputs)]
        stacked = [arg for arg in stacked if arg not in {entry.input for entry in loop.parts}]
        added = sum(arg.array_type.nbytes for arg in stacked if arg not in outputs) * loop.length
        if added > STACKED_BYTES:
            return None
        after = _After(known, sums, moved, stacked)
        after._choose_terms()
        return after

    def _choose_terms(self) -> None:
        """The terms that moved, and those that are there outside anyway."""
        outside = {entry.input for entry in self.known.loop.parts}.union(self.stacked)
        for found in self.sums:
            for _, term in found.steps:
                core, _ = self.known.factors(term)
                if core in self.moved or _summand(core) in outside:
                    found.moved.append(term)

    def results(self, b: Builder) -> Results:
        """The loop without all this, and its results."""
        loop = self.known.loop
        old = {index: loop.results[index].output for index in loop.read}
        stacks = {stack.output: stack for stack in loop.stacks}
        for node in self.stacked:
            if node not in stacks:
                stacks[node] = Stack(node)
                loop.stacks.append(stacks[node])
        gone: set[Result] = {stack for stack in loop.stacks if stack.output in self.moved}
        loop.stacks = [stack for stack in loop.stacks if stack not in gone]
        short: dict[Node, Node] = {}
        for found in self.sums:
            if found.moved:
                short.update(found.shorten())
        kept = {node: stacks[node] for node in self.stacked}
        loop.substitute(short)
        made = loop.emit(b)
        outside = _Outside(loop, b)
        outside.values.update({node: (made[stack], True) for node, stack in kept.items()})
        added = {found.carry: self._total(found, outside) for found in self.sums if found.moved}
        outside.compute([old[index] for index in loop.read if loop.results[index] in gone], self.known.nodes)
        results: Results = {}
        for index in loop.read:
            result = loop.results[index]
            if result in gone:
                results[index] = outside.values[old[index]][0]
            elif isinstance(result, Carry) and result in added:
                results[index] = _typed_sum(b, made[result], added[result])
            else:
                results[index] = made[result]
        return results

    def _total(self, found: _Sum, outside: _Outside) -> list[Node]:
        """The sums over all turns of the terms that moved."""
        b, order = outside.b, self.known.nodes
        totals = []
        for term in found.moved:
            core, between = self.known.factors(term)
            if core in self.moved:
                outside.compute(core.args, order)
                left, right = (outside.values[arg][0] for arg in core.args)
                total = summed(b, core, left, right)
            else:
                inner = _summand(core)
                outside.compute([inner], order)
                axes = () if inner is core else (axis + 1 for axis in core.attrs["axes"])
                total = b.emit("sum", outside.values[inner][0], axes=(0, *axes))
            for step in reversed(between):
                total = b.emit(step.op, *step.args[:-1], total)
            totals.append(total)
        return totals


def _summand(core: Node) -> Node:
    """What a sum over axes adds up, or the value itself."""
    return core.args[0] if core.op.name == "sum" else core


def _typed_sum(b: Builder, first: Node, others: list[Node]) -> Node:
    total = first
    for other in others:
        total = b.emit("add", total, other)
    return fitted(b, total, first.array_type)


class _Search:
    """Which nodes of a body can be computed after the loop, and which are worth it."""

    def __init__(self, known: _Known, sums: list[_Sum]) -> None:
        self.known = known
        self.steps = {add for found in sums for add, _ in found.steps}
        self.added = {known.factors(term)[0] for found in sums for _, term in found.steps}
        self.late = self._late(sums)

    def _late(self, sums: list[_Sum]) -> set[Node]:
        """Nodes with a form over all turns, which no turn waits for: read by such nodes, by sums, and stacked."""
        known = self.known
        adding = {found.carry for found in sums}
        needed = {carry.output for carry in known.loop.carries if carry not in adding}
        late: set[Node] = set()
        for node in reversed(known.nodes):
            users = known.users.get(node, [])
            if node in self.steps or node in needed or not self._has_form_after(node):
                continue
            if all(user in late or user in self.steps for user in users) and self._may_be_added(node, users):
                late.add(node)
        return late

    def _has_form_after(self, node: Node) -> bool:
        known = self.known
        return (
            node in known.varying
            and can_batch(node)
            and all(arg in known.varying or arg in known.free for arg in node.args)
        )

    def _may_be_added(self, node: Node, users: list[Node]) -> bool:
        """Whether, as far as sums read it, it is a product whose sum over turns is a product."""
        if not any(user in self.steps for user in users):
            return True
        core, _ = self.known.factors(node)
        return isinstance(core.op, Contraction) and all(arg in self.known.varying for arg in core.args)

    def moved(self) -> set[Node]:
        """The products that are worth it, and what is made of them."""
        known = self.known
        there = {entry.input for entry in known.loop.parts} | {stack.output for stack in known.loop.stacks}
        moved: set[Node] = set()
        for node in known.nodes:
            if node not in self.late:
                continue
            if any(arg in moved for arg in node.args) or self._pays(node, there):
                moved.add(node)
        return moved

    def _pays(self, node: Node, there: set[Node]) -> bool:
        """Whether a product reads or writes more in each turn than what is stacked for it has."""
        known = self.known
        if not isinstance(node.op, Contraction):
            return False
        new = {arg for arg in node.args if arg in known.varying and arg not in known.free and arg not in there}
        stacked = sum(arg.array_type.nbytes for arg in new)
        if node in self.added:
            matrix, most = node, 2 * node.array_type.nbytes
        elif known.varies_in_one(node) is not None:
            matrix = known.invariant(node)
            most = matrix.array_type.nbytes
        else:
            return False
        if stacked > most or not known.is_little(stacked, matrix):
            return False
        there |= new
        return True
