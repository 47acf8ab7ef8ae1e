"""Rewrites a graph into the forms that kernels have; the plan's own graph, never shown as the user's.

- Axes of size 1 disappear from elementwise ops, reductions, broadcasts, transposes and contractions, so that values
  which differ only by them share one iteration domain.
- A contraction with a constant that is the same everywhere becomes a sum.
- A contraction that is no matrix product (an operand without a free letter, or nothing summed), or a tiny one,
  becomes a product of elements and a sum.
- A matrix times many, which lie one after the other, is a batch of products: the one matrix is read for each of them.
- Arrays without elements disappear: what is made of them alone is a constant, so that no kernel reads one.
- In the result of another contraction the free axes of each operand are side by side, and those of one come last, so
  that it is a matrix, or several, with rows of adjacent elements; uint8 products go
  through int32, uint64 ones keep their bits.
- What is left of an array in joins is read of its latest version (`versions`).
- A new value of state that is the old value of another one, which gets a new one too, is a copy of that: a node, whose
  kernel comes before what is written over it.
"""

from __future__ import annotations

import math
from string import ascii_letters
from typing import Any

from adjit.ir.axes import base, is_linear, joins, sees_windows, without_ones
from adjit.ir.builder import ITEM, Builder
from adjit.ir.graph import Graph, computed
from adjit.ir.node import Node
from adjit.ir.subscripts import Subscripts
from adjit.ir.types import I32, I64, U8
from adjit.ops.contraction import extents_of, sizes_of, subscripts_of
from adjit.ops.declare import Bodied, Elementwise, Ordered, Reduction
from adjit.ops.lowered import lowered
from adjit.schedule.group import WIDEST
from adjit.schedule.lines import with_lines
from adjit.schedule.overlaps import without_overlaps
from adjit.schedule.taps import by_places
from adjit.schedule.versions import Versions
from adjit.schedule.windowed import groups_of, orientation, reads_windows, view_strides
from adjit.tuned import APART_COLUMNS, TINY_PRODUCT
from adjit_runtime.errors import InternalError


def normalize(graph: Graph) -> Graph:
    """The same function of the same inputs in the forms above; roots keep their shapes."""
    graph = lowered(with_lines(without_overlaps(graph)))
    squeeze = _Squeeze(Builder(), _below_windows(graph))
    flat: dict[Node, Node] = {}
    full: dict[Node, Node] = {node: node for node in graph.inputs}
    looped: dict[tuple[Any, ...], Node] = {}
    for node in graph.nodes:
        squeeze.builder.loc = node.loc
        if isinstance(node.op, Bodied) or node.op is ITEM:
            whole = tuple([squeeze.whole(arg, flat, full) for arg in node.args])
            # Each result has one node.
            key = (whole, node.attrs["index"]) if node.op is ITEM else (node,)
            full[node] = looped.get(key) or squeeze.builder.emit(node.op, *whole, **node.attrs)
            looped[key] = full[node]
            continue
        args = [squeeze.squeezed(arg, flat, full) for arg in node.args]
        result = squeeze.without_elements(node, args) or squeeze.visit(node, args, full)
        if result.shape == node.shape:
            full[node] = result
        else:
            flat[node] = result
    outputs = tuple(squeeze.whole(node, flat, full) for node in graph.outputs)
    renewed = {target for target, value in graph.updates if value is not target}
    updates = tuple(
        (target, squeeze.copied(value) if value in renewed - {target} else squeeze.whole(value, flat, full))
        for target, value in graph.updates
    )
    nodes = computed((*outputs, *(value for _, value in updates)), graph.inputs)
    if looped:
        # The order of the graph, as it says which check of several loops fails first; leaves have no place in it.
        position = {node: number for number, node in enumerate(squeeze.builder.nodes)}
        nodes = tuple(sorted(nodes, key=lambda node: position.get(node, -1)))
    return Graph(graph.name, graph.inputs, nodes, outputs, updates)


def product_sizes(contraction: Node) -> tuple[int, int, int] | None:
    """Rows, columns and sums of a contraction that is a matrix product for the shared kernels; None where one of them
    is 1 or there are so few multiplications that it is a loop among others."""
    batch, m, n, k = extents_of(contraction)
    if any(arg.is_splat for arg in contraction.args) or batch * m * n * k <= TINY_PRODUCT:
        return None
    return (m, n, k) if min(m, n, k) > 1 else None


def _leading(letters: str, free: str, summed: str) -> str:
    """The first of an operand's free letters, where the others are side by side but not with them; empty where all are,
    or where more than the order of the axes is in the way."""
    if free in letters or summed not in letters:
        return ""
    return next((free[:i] for i in range(1, len(free)) if letters.startswith(free[:i]) and free[i:] in letters), "")


def _below_windows(graph: Graph) -> set[Node]:
    """Pads of what is computed, without gaps, that windows are read of."""
    return {
        node
        for user in graph.nodes
        if sees_windows(user)
        for node in user.args
        if node.op.name == "pad" and base(node.args[0]).op.kind != "leaf" and not any(node.attrs["interior"])
    }


class _Squeeze:
    def __init__(self, builder: Builder, below_windows: set[Node]) -> None:
        self.builder = builder
        self.below_windows = below_windows
        self.versions = Versions(builder)

    def reshape(self, node: Node, shape: tuple[int, ...]) -> Node:
        if node.shape == shape:
            return node
        if node.is_splat:
            return self.builder.splat(node.attrs["value"], node.array_type.with_shape(shape))
        if is_linear(node):
            return self.reshape(node.args[0], shape)
        return self.builder.emit("reshape", node, shape=shape)

    def squeezed(self, node: Node, flat: dict[Node, Node], full: dict[Node, Node]) -> Node:
        if node not in flat:
            flat[node] = self.reshape(full[node], without_ones(node.shape))
        return flat[node]

    def whole(self, node: Node, flat: dict[Node, Node], full: dict[Node, Node]) -> Node:
        if node not in full:
            full[node] = self.reshape(flat[node], node.shape)
        return full[node]

    def copied(self, node: Node) -> Node:
        self.builder.loc = None
        return self.builder.emit("stop_gradient", node)

    def without_elements(self, node: Node, args: list[Node]) -> Node | None:
        """What `node` is where it has no elements, or where operands of it have none."""
        if node.op.kind == "leaf":
            return None
        flat = node.array_type.with_shape(without_ones(node.shape))
        if 0 in node.shape:
            return self.builder.splat(0, flat)
        empty = [0 in arg.shape for arg in node.args]
        if not any(empty):
            return None
        if isinstance(node.op, Reduction):
            assert node.op.identity is not None
            return self.builder.splat(node.op.identity(node.dtype), flat)
        if node.op.kind == "contraction":
            return self.builder.splat(0, flat)
        if node.op.name == "pad":
            return self.builder.splat(node.attrs["value"], flat)
        if joins(node):
            parts = [
                self.reshape(arg, original.shape)
                for arg, original, gone in zip(args, node.args, empty, strict=True)
                if not gone
            ]
            return self.reshape(
                self.builder.emit(node.op, *parts, **node.attrs) if len(parts) > 1 else parts[0], flat.shape
            )
        if node.op.kind == "scatter" or isinstance(node.op, Ordered):
            return args[0]
        raise InternalError(f"{node.op.name} makes {node.type} of nothing")

    def visit(self, node: Node, args: list[Node], full: dict[Node, Node]) -> Node:
        name = node.op.name
        emit = self.builder.emit
        shape = node.shape
        if isinstance(node.op, Elementwise):
            return emit(node.op, *args, **node.attrs)
        if is_linear(node):
            return self.reshape(args[0], without_ones(shape))
        if node.op.kind == "leaf":
            return node
        operand = node.args[0].shape if node.args else ()
        kept = [i for i, n in enumerate(operand) if n != 1]
        if node.op.kind == "reduction":
            axes = tuple(kept.index(axis) for axis in node.attrs["axes"] if operand[axis] != 1)
            return emit(node.op, args[0], axes=axes) if axes else args[0]
        if name == "transpose":
            axes = tuple(kept.index(axis) for axis in node.attrs["axes"] if operand[axis] != 1)
            return args[0] if axes == tuple(range(len(axes))) else emit("transpose", args[0], axes=axes)
        if name == "broadcast":
            places = [i for i, n in enumerate(shape) if n != 1]
            stands = [axis for axis, n in zip(node.attrs["axes"], operand, strict=True) if n != 1]
            axes = tuple(places.index(axis) for axis in stands)
            wide = without_ones(shape)
            return args[0] if args[0].shape == wide else emit("broadcast", args[0], shape=wide, axes=axes)
        if node.op.kind == "contraction":
            return self._contract(node, args)
        if node.op.kind == "gather" and args[0].is_splat:
            return self.builder.splat(args[0].attrs["value"], node.array_type.with_shape(without_ones(shape)))
        whole = [self.reshape(arg, original.shape) for arg, original in zip(args, node.args, strict=True)]
        if name == "pad" and node in self.below_windows:
            return self.reshape(self._within_margins(whole[0], **node.attrs), without_ones(shape))
        result = emit(node.op, *whole, **node.attrs)
        return self.reshape(self.versions.renewed(result) if joins(node) else result, without_ones(shape))

    def _within_margins(self, x: Node, low: tuple[int, ...], high: tuple[int, ...], **attrs: Any) -> Node:
        """What is padded, as a concatenation: whatever computes it writes it where it belongs."""
        for axis in reversed(range(len(low))):
            margins = [
                self.builder.splat(attrs["value"], x.array_type.with_shape((*x.shape[:axis], n, *x.shape[axis + 1 :])))
                for n in (low[axis], high[axis])
            ]
            parts = [part for part in (margins[0], x, margins[1]) if part.shape[axis]]
            if len(parts) > 1:
                x = self.versions.renewed(self.builder.emit("concatenate", *parts, axis=axis))
        return x

    def _sum_of_products(
        self, x: Node, left: str, y: Node, right: str, letters: str, sizes: dict[str, int], kept: int
    ) -> Node:
        """Outer and dot products, matrix times vector: bound by memory, so a loop that fuses serves them best."""
        shape = tuple(sizes[c] for c in letters)
        spread = []
        for node, own in ((x, left), (y, right)):
            order = sorted(own, key=letters.index)
            if "".join(order) != own:
                node = self.builder.emit("transpose", node, axes=tuple(own.index(c) for c in order))
            if node.shape != shape:
                node = self.builder.emit("broadcast", node, shape=shape, axes=tuple(letters.index(c) for c in order))
            spread.append(node)
        product = self.builder.emit("mul", *spread)
        axes = tuple(range(kept, len(letters)))
        return self.builder.emit("sum", product, axes=axes) if axes else product

    def _sums(self, x: Node, left: str, splat: Node, result: str, shape: tuple[int, ...]) -> Node:
        """A contraction with a constant that is the same everywhere: sums of the other operand, spread out."""
        summed = tuple(i for i, c in enumerate(left) if c not in result)
        if summed:
            x = self.builder.emit("sum", x, axes=summed)
        kept = [c for c in left if c in result]
        order = sorted(kept, key=result.index)
        if order != kept:
            x = self.builder.emit("transpose", x, axes=tuple(kept.index(c) for c in order))
        if x.shape != shape:
            x = self.builder.emit("broadcast", x, shape=shape, axes=tuple(result.index(c) for c in order))
        return self.builder.emit("mul", x, self.builder.splat(splat.attrs["value"], x.array_type))

    def _adjacent(self, node: Node, letters: str, batch: str, runs: tuple[str, str]) -> tuple[Node, str]:
        """The operand with the letters of each run side by side and in order, so that each run has one stride."""
        if all(run in letters for run in runs):
            return node, letters
        wanted = batch + runs[0] + runs[1]
        return self.builder.emit("transpose", node, axes=tuple(letters.index(c) for c in wanted)), wanted

    def _apart(
        self, operands: tuple[Node, Node], spec: Subscripts, sizes: dict[str, int]
    ) -> tuple[tuple[Node, Node], Subscripts]:
        """A matrix times many that lie one after the other is a product for each of them, where one product of all
        wants a copy of the many and leaves their results side by side: x @ w of many models, `ab,dbc->dac`."""
        for side, free in ((1, spec.columns), (0, spec.rows)):
            first = _leading(spec.operands[side], free, spec.summed)
            if not first or math.prod(sizes[c] for c in free if c not in first) < APART_COLUMNS:
                continue
            other = operands[1 - side]
            shape = (*(sizes[c] for c in first), *other.shape)
            spread = self.builder.emit("broadcast", other, shape=shape, axes=tuple(range(len(first), len(shape))))
            pair = (spread, operands[1]) if side else (operands[0], spread)
            return pair, spec.with_operand(1 - side, first + spec.operands[1 - side])
        return operands, spec

    def _of_windows(self, args: tuple[Node, Node], spec: Subscripts, windowed: int) -> Node:
        """A contraction of windows, which are read where they lie; the other operand and the result suit them."""
        groups = groups_of(spec, spec.sizes(*(arg.shape for arg in args)))
        if groups > 1:
            return self._in_groups(args, spec, windowed, groups)
        own, other = args[windowed], args[1 - windowed]
        strides = dict(zip(spec.operands[windowed], view_strides(own), strict=True))
        sizes = spec.sizes(*(arg.shape for arg in args))
        letters, order, apart = orientation(spec, sizes, strides, windowed, WIDEST // own.dtype.itemsize)
        given = spec.operands[1 - windowed]
        if letters != given:
            other = self.builder.emit("transpose", other, axes=tuple(given.index(c) for c in letters))
        if apart:
            other = self.copied(other)
        pair = (own, other) if windowed == 0 else (other, own)
        changed = spec.with_operand(1 - windowed, letters).with_result(order)
        product = self.builder.emit("contract", *pair, spec=changed)
        if order == spec.result:
            return product
        return self.builder.emit("transpose", product, axes=tuple(order.index(c) for c in spec.result))

    def _by_places(
        self, args: tuple[Node, Node], spec: Subscripts, windowed: int, sizes: dict[str, int]
    ) -> Node | None:
        def multiply(x: Node, left: str, y: Node, right: str, result: str, summed: str) -> Node:
            return self._sum_of_products(x, left, y, right, result + summed, sizes, len(result))

        return by_places(self.builder, args, spec, windowed, sizes, multiply) if args[0].dtype.kind == "f" else None

    def _in_groups(self, args: tuple[Node, Node], spec: Subscripts, windowed: int, groups: int) -> Node:
        """Sums of each of so many groups of rows, which threads share, and the sums of these."""
        letter = next(c for c in ascii_letters if c not in spec.left + spec.right)
        apart = tuple(self.reshape(arg, (groups, arg.shape[0] // groups, *arg.shape[1:])) for arg in args)
        grouped = Subscripts(*(letter + letters for letters in (*spec.operands, spec.result)))
        sums = self._of_windows((apart[0], apart[1]), grouped, windowed)
        return self.builder.emit("sum", sums, axes=(0,))

    def _contract(self, node: Node, args: list[Node]) -> Node:
        sizes = sizes_of(node)
        spec = subscripts_of(node).without({c for c, n in sizes.items() if n == 1})
        left, right, result = spec.left, spec.right, spec.result
        x, y = args
        dtype = node.dtype
        if x.is_splat or y.is_splat:
            other, letters, splat = (x, left, y) if y.is_splat else (y, right, x)
            return self._sums(other, letters, splat, result, tuple(sizes[c] for c in result))
        if dtype == U8:
            x, y = (self.builder.emit("cast", arg, dtype=I32) for arg in (x, y))
        elif dtype.name == "uint64":
            x, y = (self.builder.emit("cast", arg, dtype=I64) for arg in (x, y))
        windowed = next((side for side, arg in enumerate((x, y)) if reads_windows(arg)), None)
        if product_sizes(node) is None:
            found = self._by_places((x, y), spec, windowed, sizes) if windowed is not None else None
            if found is not None:
                return found
            product = self._sum_of_products(x, left, y, right, result + spec.summed, sizes, len(result))
            return product if product.dtype == dtype else self.builder.emit("cast", product, dtype=dtype)
        if windowed is not None and dtype.kind == "f":
            return self._of_windows((x, y), spec, windowed)
        (x, y), spec = self._apart((x, y), spec, sizes)
        left, right, batch, rows, columns = spec.left, spec.right, spec.batch, spec.rows, spec.columns
        x, left = self._adjacent(x, left, batch, (rows, spec.summed))
        y, right = self._adjacent(y, right, batch, (spec.summed, columns))
        if rows in result and columns in result and result.endswith((rows, columns)):
            product = self.builder.emit("contract", x, y, spec=Subscripts(left, right, result))
        else:
            # The last letter stays the last, so that what reads the product goes along its rows.
            order = batch + (rows + columns if result[-1] in columns else columns + rows)
            ordered = self.builder.emit("contract", x, y, spec=Subscripts(left, right, order))
            product = self.builder.emit("transpose", ordered, axes=tuple(order.index(c) for c in result))
        return product if product.dtype == dtype else self.builder.emit("cast", product, dtype=dtype)
