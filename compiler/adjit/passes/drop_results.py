"""drop_results: what nobody reads of a loop goes, and what stands in it twice stands in it once.

    %0 = scan %a, %b, %x, %x, %w length=9 carried=2 sliced=2      %0 = scan %a, %x length=9 carried=1 sliced=1
              body=graph @f(%a, %b, %x, %y, %w) {                           body=graph @f(%a, %x) {
      %0 = mul %x, %y : f64[3]                                      %0 = mul %x, %x : f64[3]
      %1 = add %a, %0 : f64[3]                                =>    %1 = add %a, %0 : f64[3]
      %2 = add %b, %w : f64[3]                                      return %1
      return %1, %2, %0                                           } : (f64[3])
    } : (f64[3], f64[3], f64[9,3])                                %1 = item %0 index=0 : f64[3]
    %1 = item %0 index=0 : f64[3]

A carry goes where neither its last value is read nor anything that is kept is computed from it in a turn, whether or
not it is computed from itself; that which says whether a loop goes on stays. Carries are one where they begin as one
and are handed on as one. A loop of which nothing is read is left to eliminate_dead."""

from __future__ import annotations

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.passes.loops import Carry, Entry, Loop, Result, Results, rewrite_loops


def drop_results(graph: Graph) -> Graph:
    """The graph whose loops have no results, carries and operands that nothing reads, and none twice."""
    return rewrite_loops(graph, _step)


def _step(loop: Loop, b: Builder) -> Results | None:
    if not loop.read:
        return None
    before = len(loop.node.args), len(loop.results)
    kept = {loop.results[index] for index in loop.read}
    if loop.stops:
        kept.add(loop.carries[0])
    needed = _needed(loop, kept)
    loop.carries = [carry for carry in loop.carries if carry.input in needed or carry in kept]
    loop.stacks = [stack for stack in loop.stacks if stack in kept]
    loop.parts = [entry for entry in loop.parts if entry.input in needed]
    loop.wholes = [entry for entry in loop.wholes if entry.input in needed]
    same: dict[Result, Result] = {}
    _join(loop, same)
    counted = loop.turns is not None
    if before == (len(loop.inputs()) + counted, len(loop.outputs())):
        return None
    made = loop.emit(b)
    return {index: made[same.get(loop.results[index], loop.results[index])] for index in loop.read}


def _needed(loop: Loop, kept: set[Result]) -> set[Node]:
    """The nodes of the body that the results `kept` are computed from, in this turn or an earlier one."""
    by_input = {carry.input: carry for carry in loop.carries}
    needed: set[Node] = set()
    waiting = [result.output for result in kept]
    while waiting:
        node = waiting.pop()
        if node in needed:
            continue
        needed.add(node)
        waiting.extend(node.args)
        if node in by_input:
            waiting.append(by_input[node].output)
    return needed


def _join(loop: Loop, same: dict[Result, Result]) -> None:
    """Leave one of what is there twice; `same` has the result that stands for one that went."""
    new: dict[Node, Node] = {}
    loop.parts = _once(loop.parts, new)
    loop.wholes = _once(loop.wholes, new)
    carries: dict[tuple[object, ...], Carry] = {}
    for carry in loop.carries:
        first = carries.setdefault((carry.operand, carry.output, carry.input.type), carry)
        if first is not carry:
            same[carry] = first
            new[carry.input] = first.input
    loop.carries = list(carries.values())
    if new:
        loop.substitute(new)
    stacks = {stack.output: stack for stack in reversed(loop.stacks)}
    same.update({stack: stacks[stack.output] for stack in loop.stacks if stacks[stack.output] is not stack})
    loop.stacks = [stack for stack in loop.stacks if stack not in same]


def _once(entries: list[Entry], new: dict[Node, Node]) -> list[Entry]:
    first: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        kept = first.setdefault((entry.operand, entry.input.type), entry)
        if kept is not entry:
            new[entry.input] = kept.input
    return list(first.values())
