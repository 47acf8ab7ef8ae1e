"""The passes in order, and `optimize`, which runs them until a round finds nothing.

Every pass is a function graph -> graph that returns its argument where there is nothing to do. With ADJIT_VERIFY=1
the graph is verified after each one, and a failure names the pass and prints the graph before it.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.ir.graph import Graph
from adjit.ir.text import print_graph
from adjit.ir.verify import verify
from adjit.passes.compose_moves import compose_moves
from adjit.passes.cse import cse
from adjit.passes.eliminate_dead import eliminate_dead
from adjit.passes.factor import factor
from adjit.passes.fold import fold
from adjit.passes.fold_contractions import fold_contractions
from adjit.passes.hoist_broadcasts import hoist_broadcasts
from adjit.passes.join_pads import join_pads
from adjit.passes.mask_from_result import mask_from_result
from adjit.passes.orient import orient
from adjit.passes.simplify import simplify
from adjit.passes.tile import tile as in_tiles
from adjit_runtime import environment
from adjit_runtime.errors import AdjitError, InternalError

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    eliminate_dead,
    fold,
    simplify,
    compose_moves,
    hoist_broadcasts,
    fold_contractions,
    join_pads,
    cse,
    mask_from_result,
    factor,
    eliminate_dead,
    orient,
)

ROUNDS = 4
"""A round makes work for the next one only where one pass enables an earlier one; two are the rule."""


def optimize(graph: Graph, allow_inexact: bool = False, tiles: bool = True, registers: int = 32) -> Graph:
    """The same function in fewer and cheaper nodes.

    Values keep their bits, but for the order of sums, which is the plan's, and for powers by small integers.
    With `allow_inexact` the rules that hold on the reals alone run too; `tiles` allows a loop over tiles of rows, where
    it pays, of a size for a machine with so many vector `registers`. The result is for scheduling; it is not to be
    differentiated again."""
    passes = (*PIPELINE, simplify_reals, eliminate_dead) if allow_inexact else PIPELINE
    verified = environment.flag("ADJIT_VERIFY", False)
    # A pass has nothing to do where nothing changed since it ran last.
    seen: dict[Pass, Graph] = {}
    for run in passes * ROUNDS:
        if seen.get(run) is not graph:
            graph = _run(run, graph, verified)
            seen[run] = graph
    if not tiles:
        return graph

    def tile(graph: Graph) -> Graph:
        return in_tiles(graph, registers)

    return _run(tile, graph, verified)


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
