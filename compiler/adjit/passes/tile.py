"""tile: a step whose results are sums over many rows runs tile by tile, so that what it reads is read once.

    %1 = contract %x, %w [ik,k->i] : f32[100000]         %1 = tiled %x, %y, %w count=2000 sliced=2 sums=1 body=graph ...
    %2 = ... %1, %y ...                              =>  %2 = item %1 index=0 : f32[100]
    %3 = contract %x, %2 [ik,i->k] : f32[100]

A **region** is the nodes that work row by row (each has an axis along which it is independent of the other rows), and
the sums over rows that they feed. It runs tile by tile where rows are many, what it keeps outgrows the cache, and its
matrices are small: a large one would be added up, or read, once more for each tile. Sums are taken in the order of the
tiles, whose size depends on shapes and the number of vector registers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from adjit.ir.axes import relation_of
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, computed, copy_node, substitute_roots, topological
from adjit.ir.node import Node
from adjit.ir.op import Attrs
from adjit.ir.types import Array
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Elementwise, Movement
from adjit.ops.tiles import COMBINED
from adjit.tuned import (
    CACHE_BYTE_COST,
    FEWEST_TILES,
    INNER_TILE_BYTES,
    INNER_TILE_ROWS,
    LAYER_COLUMNS,
    LAYER_TILE_ROWS,
    LIGHT_COST,
    LOOP_TILE_ROWS,
    MEMORY_BYTE_COST,
    MEMORY_BYTES,
    STREAM_AHEAD_ROWS,
    STREAM_ROW_BYTES,
    STREAM_TILE_ROWS,
    STREAM_TILE_UNIT,
    TILE_BYTES,
    TILE_MATRIX_BYTES,
    TILE_ROWS,
    TILING_BYTES,
    TILING_GAIN,
)
from adjit_runtime.target import LINE


def tile(graph: Graph, registers: int = 32) -> Graph:
    """The graph with its largest region in tiles, or `graph` where none pays, for a machine with so many vector
    registers."""
    extents: dict[int, int] = {}
    for node in graph.inputs:
        if node.shape and node.shape[0] >= FEWEST_TILES * TILE_ROWS[0]:
            extents[node.shape[0]] = extents.get(node.shape[0], 0) + node.array_type.nbytes
    for rows in sorted(extents, key=lambda n: -extents[n]):
        region = _Region(graph, rows, registers)
        if region.pays():
            return region.tiled()
    return graph


def reasons_against(graph: Graph) -> list[str]:
    """Why a graph that is not in tiles is not, for each number of rows that its inputs have."""
    found = []
    for rows in sorted({node.shape[0] for node in graph.inputs if node.shape and node.shape[0] > 1}, reverse=True):
        if rows < FEWEST_TILES * TILE_ROWS[0]:
            found.append(f"{rows} rows: fewer than {FEWEST_TILES} tiles of {TILE_ROWS[0]}.")
            continue
        reason = _Region(graph, rows).reason_against()
        if reason:
            found.append(f"{rows} rows: {reason}.")
    return found or ["No input has rows."]


@dataclass(eq=False, slots=True)
class _Found:
    """What a region is made of."""

    axis: dict[Node, int] = field(default_factory=dict)
    sums: list[Node] = field(default_factory=list)
    late: set[Node] = field(default_factory=set)


class _Region:
    def __init__(self, graph: Graph, rows: int, registers: int = 32) -> None:
        self.graph = graph
        self.registers = registers
        self.rows = rows
        self.found = _Found()
        targets = {target for target, _ in graph.updates}
        self.sources = {node for node in graph.inputs if node not in targets and node.shape and node.shape[0] == rows}
        for node in graph.nodes:
            self._place(node)
        self._drop_useless()

    # -- which nodes --------------------------------------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        f = self.found
        if any(arg in f.late or arg in f.sums for arg in node.args):
            f.late.add(node)
            return
        if not any(arg in f.axis or arg in self.sources for arg in node.args):
            return
        axis = self._axis(node)
        if node.op.kind == "check":
            self._stays_outside(node)
        elif axis is not None:
            f.axis[node] = axis
        elif self._is_sum(node):
            f.sums.append(node)
        elif any(arg in f.axis for arg in node.args):
            f.late.add(node)

    def _stays_outside(self, check: Node) -> None:
        """Checks come before any write of state, so before the tiles; what they give is cut like an input."""
        f = self.found
        before = [node for node in topological([check]) if node in f.axis]
        if all(f.axis[node] == 0 for node in before) and check.shape[:1] == (self.rows,):
            for node in before:
                del f.axis[node]
            self.sources.update((*before, check))
        elif before:
            f.late.add(check)

    def _axis_of(self, node: Node) -> int | None:
        """The axis of the rows in a member or a source."""
        return 0 if node in self.sources else self.found.axis.get(node)

    def _follows(self, node: Node, axis: int) -> bool:
        """Whether a tile of `node` along `axis` is available."""
        own = self._axis_of(node)
        if own is not None:
            return own == axis
        if is_uniform(node, axis):
            return True
        return axis == 0 and node.shape[:1] == (self.rows,) and node not in self.found.late

    def _is_whole(self, node: Node) -> bool:
        return self._axis_of(node) is None

    def _dimension(self, node: Node) -> int | None:
        """The dimension of `node` that goes along the rows, or None where it does not work row by row."""
        if node.op.kind == "scatter":
            # What it writes may lie in any row.
            return None
        moving = [(i, axis) for i, arg in enumerate(node.args) if (axis := self._axis_of(arg)) is not None]
        relation = relation_of(node) if moving else None
        if relation is None:
            return None
        first, *others = (relation.dimension(i, axis) for i, axis in moving)
        if first is None or any(dim != first for dim in others):
            return None
        for i, arg in enumerate(node.args):
            axis = relation.axis(i, first)
            if not (self._follows(arg, axis) if axis is not None else not relation.meets(i, first)):
                return None
        return first

    def _axis(self, node: Node) -> int | None:
        """The axis of the rows in the result of `node`, or None where it does not work row by row."""
        dim = self._dimension(node)
        return dim if dim is not None and dim < len(node.shape) else None

    def _is_sum(self, node: Node) -> bool:
        """Whether the result is a sum over the rows, or another reduction that can be taken part by part."""
        if node.op.kind != "contraction" and node.op.name not in COMBINED:
            return False
        dim = self._dimension(node)
        return dim is not None and dim >= len(node.shape)

    def _drop_useless(self) -> None:
        """Keep the members that a sum needs, what is made of those, and all that this needs; others run as they did."""
        axis = self.found.axis
        kept = self._needed(self.found.sums)
        for node in self.graph.nodes:
            if node in axis and node not in kept and any(arg in kept for arg in node.args):
                kept |= {node, *self._needed([node])}
        self.found.axis = {node: axis[node] for node in axis if node in kept}

    def _needed(self, nodes: list[Node]) -> set[Node]:
        """The members that `nodes` are computed from."""
        needed: set[Node] = set()
        waiting = list(nodes)
        while waiting:
            for arg in waiting.pop().args:
                if arg in self.found.axis and arg not in needed:
                    needed.add(arg)
                    waiting.append(arg)
        return needed

    # -- whether ------------------------------------------------------------------------------------------------------

    def pays(self) -> bool:
        """Whether tiles are worth it: see above."""
        return not self.reason_against()

    def reason_against(self) -> str:
        """Why tiles are not worth it; empty where they are."""
        if not self.found.axis or not self.found.sums:
            return "nothing sums over rows that are computed one by one"
        low, _ = self._row_bounds()
        if self.rows < FEWEST_TILES * low:
            return f"fewer than {FEWEST_TILES} tiles of {low}"
        kept, matrices, work = self._kept_bytes(), self._matrix_bytes(), self._flops()
        if kept < TILING_BYTES:
            return f"their {kept >> 10} KB stay in the cache"
        if matrices > TILE_MATRIX_BYTES:
            return f"matrices of {matrices >> 10} KB would be read, or added up, once for each tile"
        if kept * (MEMORY_BYTE_COST if kept > MEMORY_BYTES else CACHE_BYTE_COST) < work * TILING_GAIN:
            return f"their {kept >> 10} KB are little beside the {work // 1_000_000} million operations of the products"
        return ""

    def _kept_bytes(self) -> int:
        """Bytes of the rows that are read, and of those that a step without tiles would write."""
        read = {arg for node in [*self.found.axis, *self.found.sums] for arg in node.args if arg in self.sources}
        kept = [node for node in self.found.axis if _is_kept(node)]
        return sum(node.array_type.nbytes for node in [*read, *kept])

    def _flops(self) -> int:
        """Floating-point operations of the products."""
        products = [node for node in (*self.found.axis, *self.found.sums) if node.op.kind == "contraction"]
        total = 0
        for node in products:
            total += 2 * math.prod(extents_of(node))
        return total

    def _has_products(self) -> bool:
        return any(node.op.kind == "contraction" for node in (*self.found.axis, *self.found.sums))

    def _matrix_bytes(self) -> int:
        matrices: set[Node] = {node for node in self.found.sums if node.op.kind == "contraction"}
        for node in self.found.axis:
            if node.op.kind == "contraction":
                matrices.update(arg for arg in node.args if self._is_whole(arg))
        return sum(node.array_type.nbytes for node in matrices)

    def _row_bounds(self) -> tuple[int, int]:
        """Fewest and most rows of a tile."""
        return TILE_ROWS if self._has_products() else LOOP_TILE_ROWS

    def _multipliers(self) -> list[tuple[int, ...]]:
        """The shapes of what rows are multiplied by."""
        products = (node for node in self.found.axis if node.op.kind == "contraction")
        return [arg.shape for node in products for arg in node.args if self._is_whole(arg)]

    def _has_layers(self) -> bool:
        """Whether rows are multiplied by matrices, which takes rows enough to fill the tiles of a product."""
        return any(len(shape) == 2 and min(shape) >= LAYER_COLUMNS for shape in self._multipliers())

    def _streams(self) -> bool:
        """Whether rows come from memory and are multiplied by vectors alone."""
        return self._kept_bytes() > MEMORY_BYTES and all(len(shape) == 1 for shape in self._multipliers())

    def _tile_rows(self) -> int:
        """Rows of a tile: what fits, and divides the number of rows if anything near does."""
        (low, high), nbytes, unit = self._row_bounds(), TILE_BYTES, 1
        if self._has_products() and self.rows >= FEWEST_TILES * INNER_TILE_ROWS[0]:
            if self._runs_along_rows():
                (low, high), nbytes = INNER_TILE_ROWS, INNER_TILE_BYTES
                unit = LINE // min(node.dtype.itemsize for node in self.found.axis if node.dtype.kind == "f")
            elif self._has_layers():
                (low, high), nbytes = LAYER_TILE_ROWS, INNER_TILE_BYTES
            elif self._streams():
                unit = STREAM_TILE_UNIT
                short = self._kept_bytes() <= STREAM_ROW_BYTES.get(self.registers, 0) * self.rows
                low, high = STREAM_AHEAD_ROWS if short else STREAM_TILE_ROWS
        most = max(low, min(high, nbytes * self.rows // max(1, self._kept_bytes()))) // unit * unit
        return next((n for n in range(most, max(low, most // 2) - 1, -unit) if self.rows % n == 0), most)

    def _runs_along_rows(self) -> bool:
        """Whether most of what is kept has the rows last."""
        kept = {node: node.array_type.nbytes for node in self.found.axis if _is_kept(node)}
        inner = sum(size for node, size in kept.items() if 0 < self.found.axis[node] == len(node.shape) - 1)
        return 2 * inner > sum(kept.values())

    # -- the new graph ------------------------------------------------------------------------------------------------

    def tiled(self) -> Graph:
        """The graph with the region as one `tiled` node, and the rows that are left over by themselves."""
        rows = self._tile_rows()
        count = self.rows // rows
        rest = self.rows - count * rows
        stacked = self._stacked()
        b = Builder()
        body = _Body(self, rows, stacked)
        outer: list[Node] = list(body.sliced)
        done = count * rows
        if rest:
            outer = [_rows(b, node, 0, done) for node in outer]
        b.loc = self.found.sums[0].loc
        combine = [node.op.name if node.op.name in COMBINED else "sum" for node in self.found.sums]
        whole = b.emit(
            "tiled", *outer, *body.whole, count=count, sliced=len(outer), combine=",".join(combine), body=body.graph
        )
        results = [b.emit("item", whole, index=i) for i in range(len(self.found.sums) + len(stacked))]
        if rest:
            results = self._with_rest(b, rest, stacked, results)
        new = dict(zip(self.found.sums, results, strict=False))
        for node, result in zip(stacked, results[len(self.found.sums) :], strict=True):
            new[node] = _with_rows_at(b, result, self.found.axis[node])
        return _substituted(self.graph, new)

    def _with_rest(self, b: Builder, rest: int, stacked: list[Node], results: list[Node]) -> list[Node]:
        body = _Body(self, rest, stacked)
        sliced = [_rows(b, node, self.rows - rest, self.rows) for node in body.sliced]
        last = b.inline(body.graph, [*sliced, *body.whole])
        rules = [COMBINED.get(node.op.name, "add") for node in self.found.sums]
        return [
            b.emit(rules[i], x, y) if i < len(rules) else b.emit("concatenate", x, y, axis=0)
            for i, (x, y) in enumerate(zip(results, last, strict=True))
        ]

    def _stacked(self) -> list[Node]:
        """The members that something outside of the region reads."""
        inside = {*self.found.axis, *self.found.sums}
        read = {arg for node in self.graph.nodes if node not in inside for arg in node.args}
        read.update(self.graph.roots)
        return [node for node in self.found.axis if node in read]


class _Body:
    """The region over so many rows: `graph`, and the nodes outside that its inputs stand for."""

    def __init__(self, region: _Region, rows: int, stacked: list[Node]) -> None:
        self.region = region
        self.rows = rows
        self.builder = Builder()
        self._inputs: dict[Node, Node] = {}
        self._sliced: dict[Node, Node] = {}
        self._new: dict[Node, Node] = {}
        axis = region.found.axis
        for node in region.graph.nodes:
            if node in axis or node in region.found.sums:
                self.builder.loc = node.loc
                self._new[node] = self._visit(node)
        outputs = [self._new[node] for node in region.found.sums]
        for node in stacked:
            self.builder.loc = node.loc
            outputs.append(_with_rows_first(self.builder, self._new[node], axis[node]))
        self.sliced, self.whole = list(self._sliced), list(self._inputs)
        inputs = (*self._sliced.values(), *self._inputs.values())
        self.graph = Graph("tile", inputs, computed(outputs, inputs), tuple(outputs))

    def _visit(self, node: Node) -> Node:
        dim, relation = self.region._dimension(node), relation_of(node)
        assert dim is not None
        assert relation is not None
        axes = [relation.axis(i, dim) for i in range(len(node.args))]
        args = [
            self._whole(arg) if axis is None else self._tile(arg, axis)
            for arg, axis in zip(node.args, axes, strict=True)
        ]
        rows = self.region.found.axis.get(node)
        attrs = node.attrs if rows is None else _resized(node, rows, self.rows)
        return self.builder.emit(node.op, *args, **attrs)

    def _tile(self, node: Node, axis: int) -> Node:
        """A tile of `node` along `axis`."""
        if node in self._new:
            return self._new[node]
        if node.is_splat:
            return self.builder.splat(
                node.attrs["value"], node.array_type.with_shape(_with(node.shape, axis, self.rows))
            )
        if self.region._axis_of(node) is None and is_uniform(node, axis):
            return self.builder.emit(node.op, *map(self._whole, node.args), **_resized(node, axis, self.rows))
        if node not in self._sliced:
            type = Array(node.dtype, _with(node.shape, 0, self.rows))
            self._sliced[node] = Builder(node.loc).input(f"x{len(self._sliced)}", type)
        return self._sliced[node]

    def _whole(self, node: Node) -> Node:
        """A value that all tiles read."""
        if node.is_splat:
            return self.builder.splat(node.attrs["value"], node.array_type)
        if node not in self._inputs:
            self._inputs[node] = Builder(node.loc).input(f"w{len(self._inputs)}", node.array_type.strong)
        return self._inputs[node]


def is_uniform(node: Node, axis: int) -> bool:
    """Whether a value is the same all along an axis, by what it is made of."""
    if node.op.kind == "creation":
        return bool(node.attrs["axis"] != axis)
    if node.op.kind != "movement":
        return node.is_splat
    relation = relation_of(node)
    return relation is not None and not any(relation.meets(i, axis) for i in range(len(node.args)))


def _resized(node: Node, axis: int, n: int) -> Attrs:
    """The attributes of the same op whose result has `n` elements along `axis`."""
    if not isinstance(node.op, Movement) or node.op.resize is None:
        return node.attrs
    return node.op.resize(node.attrs, _with(node.shape, axis, n))


def _is_kept(node: Node) -> bool:
    """Whether a step without tiles would write the value to memory, roughly."""
    return node.op.kind in ("contraction", "running") or (
        isinstance(node.op, Elementwise) and node.op.cost > LIGHT_COST
    )


def _with(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    return (*shape[:axis], n, *shape[axis + 1 :])


def _rows(b: Builder, node: Node, start: int, stop: int) -> Node:
    rank = len(node.shape)
    return b.emit("slice", node, start=(start, *(0,) * (rank - 1)), stop=(stop, *node.shape[1:]), step=(1,) * rank)


def _with_rows_first(b: Builder, node: Node, axis: int) -> Node:
    if axis == 0:
        return node
    return b.emit("transpose", node, axes=(axis, *(i for i in range(len(node.shape)) if i != axis)))


def _with_rows_at(b: Builder, node: Node, axis: int) -> Node:
    if axis == 0:
        return node
    rest = list(range(1, len(node.shape)))
    return b.emit("transpose", node, axes=(*rest[:axis], 0, *rest[axis:]))


def _substituted(graph: Graph, new: dict[Node, Node]) -> Graph:
    """The graph in which the nodes of `new` are replaced, wherever they are read."""
    images: dict[Node, Node] = {node: node for node in graph.inputs}
    images.update(new)

    made = topological(new.values())
    # What the replacements read comes first, with nothing of it replaced.
    for node in made:
        images.setdefault(node, node)
    for node in graph.nodes:
        if node not in images:
            images[node] = copy_node(node, [images[arg] for arg in node.args])
    return substitute_roots(graph, images)
