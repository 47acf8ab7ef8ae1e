"""forward_parts: a loop neither stacks what is there already nor slices what is the same in each turn.

    %0 = broadcast %b shape=(9,3) axes=(1) : f64[9,3]       %0 = scan %c, %x, %b length=9 carried=1 sliced=1
    %1 = scan %c, %x, %0 length=9 carried=1 sliced=2                  body=graph @f(%c, %x, %v0) {
              body=graph @f(%c, %x, %b) {                     %0 = mul %x, %v0 : f64[3]
      %0 = mul %x, %b : f64[3]                          =>    %1 = add %c, %0 : f64[3]
      %1 = add %c, %0 : f64[3]                                return %1
      return %1, %x                                         } : (f64[3])
    } : (f64[3], f64[9,3])                                  users of the second result use %x

A loop of no turns is what it begins with, one of a single turn that runs is its body; what counts the turns of one that
takes all goes. A result that is the same in each turn is computed once and broadcast. A loop that is closed stays as it
is, and one of a few turns is not unrolled."""

from __future__ import annotations

from adjit.ir.builder import CONSTANT, Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.batched import repeated
from adjit.ops.loops import is_closed
from adjit.passes.loops import Loop, Results, Stack, fitted, rewrite_loops


def forward_parts(graph: Graph) -> Graph:
    """The graph whose loops have none but results that they make, and operands that differ from turn to turn."""
    return rewrite_loops(graph, _step)


def _step(loop: Loop, b: Builder) -> Results | None:
    if is_closed(loop.node):
        return None
    turns = _turns(loop)
    changed = turns is not None and turns >= loop.length
    if changed:
        loop.turns = None
    if loop.length == 0 or (turns is not None and turns <= 0):
        return _before_the_first_turn(loop, b)
    if loop.length == 1 and loop.runs_all:
        return _only_turn(loop, b)
    results = _forwarded(loop, b)
    changed |= _without_repeated(loop, b)
    if not results and not changed:
        return None
    loop.stacks = [stack for stack in loop.stacks if not any(loop.results[i] is stack for i in results)]
    made = loop.emit(b)
    return {index: results[index] if index in results else made[loop.results[index]] for index in loop.read}


def _turns(loop: Loop) -> int | None:
    """How many turns a loop that is counted is told to take, where that is known."""
    if loop.turns is None or loop.turns.shape or not loop.turns.is_splat:
        return None
    return int(loop.turns.attrs["value"])


def _before_the_first_turn(loop: Loop, b: Builder) -> Results:
    results: Results = {}
    for index in loop.read:
        result = loop.results[index]
        type = loop.of(index)
        results[index] = b.splat(0, type) if isinstance(result, Stack) else fitted(b, result.operand, type)
    return results


def _only_turn(loop: Loop, b: Builder) -> Results:
    operands = [fitted(b, carry.operand, carry.input.array_type) for carry in loop.carries]
    operands += [_only_part(b, entry.operand, entry.input.array_type) for entry in loop.parts]
    operands += [fitted(b, entry.operand, entry.input.array_type) for entry in loop.wholes]
    values = b.inline(loop.body, operands)
    return {
        index: repeated(b, values[index], 1) if isinstance(loop.results[index], Stack) else values[index]
        for index in loop.read
    }


def _only_part(b: Builder, operand: Node, type: Array) -> Node:
    return fitted(b, b.emit("reshape", operand, shape=type.shape), type)


def _forwarded(loop: Loop, b: Builder) -> Results:
    """The stacked results that are there without the loop."""
    parts = {entry.input: entry.operand for entry in loop.parts}
    wholes = {entry.input: entry.operand for entry in loop.wholes}
    results: Results = {}
    for index in loop.read:
        result = loop.results[index]
        if not isinstance(result, Stack):
            continue
        if result.output in parts:
            results[index] = parts[result.output]
        elif result.output in wholes:
            results[index] = repeated(b, wholes[result.output], loop.length)
        elif result.output.op is CONSTANT:
            results[index] = repeated(b, result.output, loop.length)
    return results


def _without_repeated(loop: Loop, b: Builder) -> bool:
    """Hand in as a whole what has the same part for each turn."""
    new: dict[Node, Node] = {}
    for entry in loop.parts:
        operand, type = entry.operand, entry.input.array_type
        if operand.is_splat:
            new[entry.input] = b.splat(operand.attrs["value"], type)
        elif operand.op.name == "broadcast" and 0 not in operand.attrs["axes"]:
            (source,) = operand.args
            axes = tuple(axis - 1 for axis in operand.attrs["axes"])
            if source.shape == type.shape:
                new[entry.input] = loop.whole(b, source, type)
            else:
                value = loop.whole(b, source, source.array_type.strong)
                new[entry.input] = Builder(entry.input.loc).emit("broadcast", value, shape=type.shape, axes=axes)
    if not new:
        return False
    loop.parts = [entry for entry in loop.parts if entry.input not in new]
    loop.substitute(new)
    return True
