"""hoist_invariants: what is the same in each turn of a loop is computed ahead of it, and is no carry.

    %0 = scan %c, %w, %x length=9 carried=2 sliced=1        %0 = exp %w : f64[3]
              body=graph @f(%c, %w, %x) {                   %1 = scan %c, %x, %0 length=9 carried=1 sliced=1
      %0 = exp %w : f64[3]                                            body=graph @f(%c, %x, %v0) {
      %1 = mul %0, %x : f64[3]                          =>    %0 = mul %v0, %x : f64[3]
      %2 = add %c, %1 : f64[3]                                %1 = add %c, %0 : f64[3]
      return %2, %w                                           return %1
    } : (f64[3], f64[3])                                    } : (f64[3])
                                                            users of the second result use %w

Constants are made in the body, where fold sees them. So is movement of one operand, which is a way to read it that
takes no memory: a broadcast ahead of a loop comes into it. Checks move where there is a turn that would have made them
ahead of those that stay. What a closed loop computes stays in it."""

from __future__ import annotations

from adjit.ir.axes import relation_of
from adjit.ir.builder import CONSTANT, SMALL_CONSTANT, Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node, same_bits
from adjit.ops.loops import is_closed
from adjit.passes.loops import Carry, Entry, Loop, Results, fitted, may_fail, rewrite_loops


def hoist_invariants(graph: Graph) -> Graph:
    """The graph whose loops compute only what differs from turn to turn."""
    return rewrite_loops(graph, _step)


def _step(loop: Loop, b: Builder) -> Results | None:
    steady = _steady_carries(loop, b)
    changed = _constants_inside(loop, b) or bool(steady)
    # What a branch computes of invariants is all that it does.
    leaves = (loop.length > 1 or (loop.length and loop.runs_all)) and not is_closed(loop.node)
    if leaves and _hoisted(loop, b):
        changed = True
    if not changed:
        return None
    made = loop.emit(b)
    results: Results = {}
    for index in loop.read:
        result = loop.results[index]
        if isinstance(result, Carry) and result in steady:
            results[index] = fitted(b, result.operand, loop.of(index))
        else:
            results[index] = made[result]
    return results


def _steady_carries(loop: Loop, b: Builder) -> set[Carry]:
    """Take out the carries that are in each turn what they were before the first."""
    operands = {entry.input: entry.operand for entry in loop.wholes}
    new: dict[Node, Node] = {}
    found: set[Carry] = set()
    for carry in loop.carries[loop.stops :]:
        if carry.output is carry.input:
            new[carry.input] = loop.whole(b, carry.operand, carry.input.array_type)
        elif operands.get(carry.output) is carry.operand or _is_same_splat(carry.operand, carry.output):
            new[carry.input] = carry.output
        else:
            continue
        found.add(carry)
    if found:
        loop.carries = [carry for carry in loop.carries if carry not in found]
        loop.substitute(new)
    return found


def _is_same_splat(one: Node, other: Node) -> bool:
    return one.is_splat and other.is_splat and same_bits(one.attrs["value"], other.attrs["value"])


def _constants_inside(loop: Loop, b: Builder) -> bool:
    """Make in the body the constants and broadcasts that it reads."""
    inside = [entry for entry in loop.wholes if _is_made_inside(entry)]
    if not inside:
        return False
    # Ahead of the rest, so that none of them becomes what another one is made of.
    loop.wholes = [entry for entry in loop.wholes if entry not in inside]
    loop.substitute({entry.input: _made_inside(loop, entry, b) for entry in inside})
    return True


def _is_made_inside(entry: Entry) -> bool:
    operand, type = entry.operand, entry.input.array_type
    if operand.is_splat:
        return True
    if operand.type != type:
        return False
    return operand.op.name == "broadcast" or (operand.op is CONSTANT and type.size <= SMALL_CONSTANT)


def _made_inside(loop: Loop, entry: Entry, b: Builder) -> Node:
    operand = entry.operand
    if operand.is_splat:
        return Builder(operand.loc).splat(operand.attrs["value"], entry.input.array_type)
    if operand.op is CONSTANT:
        return operand
    (source,) = operand.args
    value = loop.whole(b, source, source.array_type)
    return Builder(operand.loc).emit("broadcast", value, **operand.attrs)


def _hoisted(loop: Loop, b: Builder) -> bool:
    """Compute ahead of the loop what it computes from whole operands alone."""
    nodes = loop.nodes()
    outside: dict[Node, Node] = {}
    steady = {entry.input for entry in loop.wholes}
    # A check stays after those that stay, and where it may be that no turn would have made it.
    fails_first = not loop.runs_all
    for node in nodes:
        fails = may_fail(node)
        if all(arg in steady for arg in node.args) and not (fails and fails_first):
            steady.add(node)
        else:
            fails_first |= fails
    if len(steady) == len(loop.wholes):
        return False
    wanted = _frontier(nodes, steady, set(loop.outputs()))
    if not wanted:
        return False
    for entry in loop.wholes:
        outside[entry.input] = fitted(b, entry.operand, entry.input.array_type)
    for node in nodes:
        if node in steady:
            outside[node] = b.keep(copy_node(node, [outside[arg] for arg in node.args]))
    loop.substitute({node: loop.whole(b, outside[node], node.array_type) for node in wanted})
    return True


def _frontier(nodes: tuple[Node, ...], steady: set[Node], outputs: set[Node]) -> list[Node]:
    """What is computed ahead and read in the loop: constants and the movement on them stay in it."""
    read = {arg for node in nodes if node not in steady for arg in node.args} | outputs
    wanted: list[Node] = []
    for node in reversed(nodes):
        if node not in steady or node not in read:
            continue
        if _is_a_way_to_read(node):
            read.update(node.args)
        else:
            wanted.append(node)
    return wanted[::-1]


def _is_a_way_to_read(node: Node) -> bool:
    """Whether a node takes no work and no memory where it is read: constants, counts, movement of one operand."""
    if node.op.kind != "movement":
        return node.op.kind in ("leaf", "creation")
    relation = relation_of(node)
    return node.op.arity == 1 and relation is not None and not relation.filled
