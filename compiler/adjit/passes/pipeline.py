"""The passes in order, and `optimize`, which runs them until a round finds nothing, in the bodies of loops as around.

Every pass is a function graph -> graph that returns its argument where there is nothing to do. With ADJIT_VERIFY=1
the graph is verified after each one, and a failure names the pass and prints the graph, or the body, before it.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.ir.equal import graph_key
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ir.text import print_graph
from adjit.ir.verify import verify
from adjit.ops.declare import Bodied
from adjit.passes.across import across
from adjit.passes.compose_moves import compose_moves
from adjit.passes.cse import cse
from adjit.passes.drop_results import drop_results
from adjit.passes.eliminate_dead import eliminate_dead
from adjit.passes.factor import factor
from adjit.passes.flatten_branches import flatten_branches
from adjit.passes.fold import fold
from adjit.passes.fold_contractions import fold_contractions
from adjit.passes.fold_windows import fold_windows
from adjit.passes.forward_parts import forward_parts
from adjit.passes.hoist_broadcasts import hoist_broadcasts
from adjit.passes.hoist_invariants import hoist_invariants
from adjit.passes.identities import identities
from adjit.passes.join_pads import join_pads
from adjit.passes.leave_loops import leave_loops
from adjit.passes.loops import has_loops, substituted
from adjit.passes.mask_from_result import mask_from_result
from adjit.passes.orient import orient
from adjit.passes.simplify import simplify
from adjit.passes.tile import tile as in_tiles
from adjit.passes.untie import untie
from adjit_runtime import environment
from adjit_runtime.errors import AdjitError, InternalError

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    eliminate_dead,
    flatten_branches,
    fold,
    identities,
    simplify,
    compose_moves,
    hoist_broadcasts,
    fold_contractions,
    fold_windows,
    join_pads,
    cse,
    mask_from_result,
    factor,
    eliminate_dead,
    drop_results,
    forward_parts,
    hoist_invariants,
    leave_loops,
    orient,
)
OF_LOOPS: frozenset[Pass] = frozenset({flatten_branches, drop_results, forward_parts, hoist_invariants, leave_loops})
"""Those that have nothing to do in a graph without loops."""

ROUNDS = 4
"""A round makes work for the next one only where one pass enables an earlier one; two are the rule."""
LOOP_ROUNDS = 16
"""The same where there are loops: what leaves one is made simpler around it, and may make the next one simpler."""


def optimize(graph: Graph, allow_inexact: bool = False, tiles: bool = True, registers: int = 32) -> Graph:
    """The same function in fewer and cheaper nodes.

    Values keep their bits, but for the order of sums, which is the plan's, and for powers by small integers.
    With `allow_inexact` the rules that hold on the reals alone run too; `tiles` allows a loop over tiles of rows, where
    it pays, of a size for a machine with so many vector `registers`. The result is for scheduling; it is not to be
    differentiated again."""
    passes = (*PIPELINE, simplify_reals, eliminate_dead) if allow_inexact else PIPELINE
    verified = environment.flag("ADJIT_VERIFY", False)
    graph = _Settling(passes, verified).settled(_run(untie, graph, verified))
    graph = _Settling((across,), verified).settled(graph)
    if not tiles:
        return graph

    def tile(graph: Graph) -> Graph:
        return in_tiles(graph, registers)

    return _run(tile, graph, verified)


class _Settling:
    """Graphs and the bodies in them, each taken through `passes` until a round finds nothing, and once only."""

    def __init__(self, passes: tuple[Pass, ...], verified: bool) -> None:
        self.passes = passes
        self.verified = verified
        self.settled_bodies: dict[Graph, Graph] = {}
        self.by_key: dict[str, Graph] = {}

    def settled(self, graph: Graph) -> Graph:
        """The graph when all is done."""
        loops = has_loops(graph)
        passes = self.passes if loops else tuple(run for run in self.passes if run not in OF_LOOPS)
        # A pass has nothing to do where nothing changed since it ran last.
        seen: dict[Pass, Graph] = {}
        for _ in range(LOOP_ROUNDS if loops else ROUNDS):
            before = graph
            if loops:
                graph = self._with_settled_bodies(graph)
            for run in passes:
                if seen.get(run) is not graph:
                    given, graph = graph, _run(run, graph, self.verified)
                    # What changes a loop may have more to do in one ahead of it.
                    seen[run] = given if run in OF_LOOPS else graph
            if graph is before:
                return graph
        return self._with_settled_bodies(graph) if loops else graph

    def _with_settled_bodies(self, graph: Graph) -> Graph:
        new: dict[Node, Node] = {node: node for node in graph.inputs}
        changed = False
        for node in graph.nodes:
            new[node] = copy_node(node, [new[arg] for arg in node.args])
            if isinstance(node.op, Bodied):
                body = node.attrs["body"]
                settled = self._body(body)
                if settled is not body:
                    changed = True
                    attrs = {**node.attrs, "body": settled}
                    new[node] = Node(node.op, new[node].args, attrs, node.type, node.loc)
        return substituted(graph, new, new.values()) if changed else graph

    def _body(self, body: Graph) -> Graph:
        """What `body`, or a body equal to it, became."""
        found = self.settled_bodies.get(body)
        if found is None:
            key = graph_key(body)
            found = self.by_key.get(key)
            if found is None:
                found = self.by_key[key] = self.settled(body)
            self.settled_bodies[body] = self.settled_bodies[found] = found
        return found


def simplify_reals(graph: Graph) -> Graph:
    """simplify with the rules that hold on the reals."""
    return simplify(graph, allow_inexact=True)


def _run(run: Pass, graph: Graph, verified: bool) -> Graph:
    name = getattr(run, "__name__", str(run))
    try:
        after = run(graph)
        if verified and after is not graph:
            verify(after)
    except (AdjitError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise InternalError(f"the pass {name} failed: {error}\n\nbefore it:\n{print_graph(graph)}") from error
    return after
