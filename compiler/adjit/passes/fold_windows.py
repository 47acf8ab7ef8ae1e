"""fold_windows: products that are added up by windows become a contraction of windows: the adjoint of a convolution.

    %0 = contract %g, %w [nof,jcf->nocj] : f32[8,30,9,3]                   (%g: f32[8,30,6], %w: f32[3,9,6])
    %1 = add_windows %0 axes=(1) extents=(32) step=(1) dilation=(1) : f32[8,32,9]
    =>
    %0 = pad %g low=(0,2,0) high=(0,2,0) interior=(0,0,0) value=0.0 : f32[8,34,6]
    %1 = windows %0 axes=(1) size=(3) step=(1) dilation=(1) : f32[8,32,6,3]
    %2 = flip %w axes=(0) : f32[3,9,6]
    %3 = contract %1, %2 [nofj,jcf->noc] : f32[8,32,9]

The numbers of the windows must come from one operand alone, and the places in them from the other. With a step of s
each s-th element is a contraction of its own, with each s-th place: nothing is multiplied by zeros that stand between.
Of a slice, such as the adjoint of padding takes, only its elements are made. Where there are few columns, c, the last
axis is added up yet: its places are columns of the product then. The sums are the same products in another order."""

from __future__ import annotations

import math
from typing import NamedTuple

from adjit.ir.graph import Graph
from adjit.ir.node import Node, same_bits
from adjit.ir.subscripts import Subscripts
from adjit.ops.contraction import subscripts_of
from adjit.passes.compose_moves import lie_apart
from adjit.passes.eliminate_dead import eliminate_dead
from adjit.passes.rewrite import Rewriter, rewrite
from adjit.tuned import FEW_COLUMNS, MOST_PLACED


def fold_windows(graph: Graph) -> Graph:
    """The graph in which no product is made to be added up by windows."""
    if not any(node.op.name == "add_windows" for node in graph.nodes):
        return graph
    return rewrite(eliminate_dead(rewrite(graph, _cropped, ("slice",))), _step, ("add_windows",))


class _Way(NamedTuple):
    """An axis along which windows are added up: its letter, that of the place in the window, how they lie, and which
    elements are wanted."""

    letter: str
    place: str
    extent: int
    step: int
    dilation: int
    start: int = 0


class _Phase(NamedTuple):
    """Of the elements `phase`, `phase + step` ... along an axis: the places that they come from, from `first` on with
    `stride`, and by how many elements of the operand these lie apart, from `offset` on."""

    first: int
    stride: int
    places: int
    offset: int
    apart: int


def _step(node: Node, rewriter: Rewriter) -> Node | None:
    if node.op.name != "add_windows":
        return None
    (product,) = node.args
    ndim = len(node.shape)
    if 0 not in product.shape and lie_apart(product.shape[ndim:], node.attrs["step"], node.attrs["dilation"]):
        return _side_by_side(node, rewriter)
    if product.op.name == "pad":
        return _of_pad(node, product, rewriter)
    if (apart := _in_groups(node, rewriter)) is not None:
        return rewriter.emit("reshape", apart, shape=node.shape)
    return _folded(node, rewriter, [(0, n) for n in node.shape])


def _cropped(node: Node, rewriter: Rewriter) -> Node | None:
    """Of windows that are added up only what is read, such as the adjoint of what was padded."""
    if node.op.name != "slice":
        return None
    (added,) = node.args
    if added.op.name != "add_windows" or rewriter.is_shared(added):
        return None
    start, stop, step = (node.attrs[name] for name in ("start", "stop", "step"))
    axes = added.attrs["axes"]
    others = [axis for axis in range(len(added.shape)) if axis not in axes]
    if any(n != 1 for n in step) or any(node.shape[axis] != added.shape[axis] for axis in others):
        return None
    product = added.args[0]
    if (apart := _in_groups(added, rewriter)) is not None:
        ndim, last = len(apart.shape), max(axes) + 1
        ends = (*start[:last], *[0] * (ndim - last)), (*stop[:last], *apart.shape[last:])
        part = rewriter.emit("slice", apart, start=ends[0], stop=ends[1], step=(1,) * ndim)
        return rewriter.emit("reshape", part, shape=node.shape)
    if lie_apart(product.shape[len(added.shape) :], added.attrs["step"], added.attrs["dilation"]):
        return None
    return _folded(added, rewriter, list(zip(start, stop, strict=True)))


def _in_groups(node: Node, rewriter: Rewriter) -> Node | None:
    """What adds up the windows of a product whose groups of channels are laid side by side, with them apart."""
    (laid,) = node.args
    if laid.op.name != "reshape" or laid.args[0].op.name != "contract" or rewriter.is_shared(laid):
        return None
    (product,) = laid.args
    ndim, last = len(node.shape), max(node.attrs["axes"]) + 1
    places = laid.shape[ndim:]
    is_apart = product.shape[:last] == laid.shape[:last] and product.shape[-len(places) :] == places
    if not is_apart or len(product.shape) < last + len(places) or 0 in product.shape:
        return None
    return rewriter.emit("add_windows", product, **node.attrs)


def _folded(node: Node, rewriter: Rewriter, wanted: list[tuple[int, int]]) -> Node | None:
    """The elements of `node` that are wanted, from a start to a stop along each axis."""
    (product,) = node.args
    if product.op.name != "contract" or rewriter.is_shared(product) or 0 in product.shape or 0 in node.shape:
        return None
    if any(start >= stop for start, stop in wanted):
        return None
    spec, attrs = subscripts_of(product), node.attrs
    axes, ndim = attrs["axes"], len(node.shape)
    ways = [
        _Way(spec.result[axis], place, wanted[axis][1] - wanted[axis][0], step, dilation, wanted[axis][0])
        for axis, place, step, dilation in zip(axes, spec.result[ndim:], attrs["step"], attrs["dilation"], strict=True)
    ]
    for side in (0, 1):
        own, other = spec.operands[side], spec.operands[1 - side]
        moved, still = {way.letter for way in ways}, {way.place for way in ways}
        if moved <= set(own) - set(other) and still <= set(other) - set(own):
            adjoint = _Adjoint(rewriter, product, side, ways)
            if not adjoint.is_narrow():
                return adjoint.result(spec.result[:ndim])
            return _but_last(node, rewriter, side, ways, wanted) if ways[1:] else None
    return None


def _but_last(node: Node, rewriter: Rewriter, side: int, ways: list[_Way], wanted: list[tuple[int, int]]) -> Node:
    """Where there are few columns, those of all places along the last axis are made at once, which fill vectors, and
    are added up along it."""
    (product,) = node.args
    ndim, *others, last = len(node.shape), *ways
    letters = subscripts_of(product).result[:ndim] + last.place
    folded = _Adjoint(rewriter, product, side, others).result(letters)
    how = {name: node.attrs[name][-1:] for name in ("axes", "extents", "step", "dilation")}
    added = rewriter.emit("add_windows", folded, **how)
    (axis,) = how["axes"]
    start, stop = wanted[axis]
    if stop - start == added.shape[axis]:
        return added
    ends = [(start, stop) if i == axis else (0, n) for i, n in enumerate(added.shape)]
    first, end = zip(*ends, strict=True)
    return rewriter.emit("slice", added, start=first, stop=end, step=(1,) * ndim)


def _side_by_side(node: Node, rewriter: Rewriter) -> Node:
    """Windows that have nothing in common are laid beside one another."""
    (g,) = node.args
    axes: tuple[int, ...] = node.attrs["axes"]
    ndim = len(node.shape)
    order: list[int] = []
    shape: list[int] = []
    low, high, interior = [0] * ndim, [0] * ndim, [0] * ndim
    for axis in range(ndim):
        order.append(axis)
        shape.append(g.shape[axis])
        if axis in axes:
            which = axes.index(axis)
            size = g.shape[ndim + which]
            order.append(ndim + which)
            shape[axis] *= size
            interior[axis] = node.attrs["step"][which] - 1 if size == 1 else 0
            high[axis] = node.shape[axis] - shape[axis] - (shape[axis] - 1) * interior[axis]
    laid = rewriter.emit("reshape", rewriter.emit("transpose", g, axes=tuple(order)), shape=tuple(shape))
    if not any((*high, *interior)):
        return laid
    sides = {"low": tuple(low), "high": tuple(high), "interior": tuple(interior)}
    return rewriter.emit("pad", laid, value=g.dtype.type(0).item(), **sides)


def _of_pad(node: Node, pad: Node, rewriter: Rewriter) -> Node | None:
    """Windows of which only some are not zero, or only some places: these, added up in their part of the result."""
    (x,) = pad.args
    if not same_bits(pad.attrs["value"], pad.dtype.type(0).item()) or 0 in x.shape:
        return None
    ndim = len(node.shape)
    low, high, gaps = (list(pad.attrs[name]) for name in ("low", "high", "interior"))
    outer = [low[:ndim], high[:ndim], gaps[:ndim]]
    extents, steps, dilations = [], [], []
    ways = zip(*(node.attrs[name] for name in ("axes", "extents", "step", "dilation")), strict=True)
    for place, (axis, extent, step, dilation) in enumerate(ways, ndim):
        steps.append(step * (gaps[axis] + 1))
        dilations.append(dilation * (gaps[place] + 1))
        extents.append(steps[-1] * (x.shape[axis] - 1) + dilations[-1] * (x.shape[place] - 1) + 1)
        first = step * low[axis] + dilation * low[place]
        outer[0][axis], outer[1][axis], outer[2][axis] = first, extent - first - extents[-1], 0
    how = {"extents": tuple(extents), "step": tuple(steps), "dilation": tuple(dilations)}
    added = rewriter.emit("add_windows", x, axes=node.attrs["axes"], **how)
    sides = dict(zip(("low", "high", "interior"), map(tuple, outer), strict=True))
    return rewriter.emit("pad", added, value=pad.attrs["value"], **sides)


class _Adjoint:
    """One rewrite: `side` has the operand whose windows are taken in place of those that are added up."""

    def __init__(self, rewriter: Rewriter, product: Node, side: int, ways: list[_Way]) -> None:
        self.rewriter = rewriter
        self.spec = subscripts_of(product)
        self.side = side
        self.ways = ways
        self.moved, self.still = product.args[side], product.args[1 - side]

    def is_narrow(self) -> bool:
        """Whether the contraction has few columns, and not many more with those of all places along the last axis."""
        spec, letters = self.spec, self.spec.operands[1 - self.side]
        if spec.batch:
            return False
        sizes = dict(zip(letters, self.still.shape, strict=True))
        places = {way.place for way in self.ways}
        columns = math.prod(sizes[c] for c in letters if c in spec.result and c not in places)
        placed = columns * sizes[self.ways[-1].place]
        return columns <= FEW_COLUMNS and placed <= MOST_PLACED * math.prod(sizes[c] for c in spec.summed)

    def result(self, letters: str) -> Node:
        """The sum of all windows, or of those along some axes."""
        return self._from(0, (), letters)

    def _from(self, number: int, phases: tuple[int, ...], letters: str) -> Node:
        """The part in which the first axes have these phases."""
        if number == len(self.ways):
            return self._part(phases, letters)
        way = self.ways[number]
        parts = [self._from(number + 1, (*phases, phase), letters) for phase in range(way.step)]
        if way.step == 1:
            return parts[0]
        return self._interleaved(parts, letters.index(way.letter), way.extent)

    def _part(self, phases: tuple[int, ...], letters: str) -> Node:
        spec = self.spec
        found = [_phase(way, phase, self._size(way.place)) for way, phase in zip(self.ways, phases, strict=True)]
        own = spec.operands[self.side]
        if any(each.places == 0 for each in found):
            return self._zeros(letters)
        moved = self._padded(found)
        axes = [own.index(way.letter) for way in self.ways]
        order = sorted(range(len(axes)), key=axes.__getitem__)
        windows = self.rewriter.emit(
            "windows",
            moved,
            axes=tuple(axes[i] for i in order),
            size=tuple(found[i].places for i in order),
            step=(1,) * len(axes),
            dilation=tuple(found[i].apart for i in order),
        )
        places = "".join(self.ways[i].place for i in order)
        still = self._chosen(found)
        changed = Subscripts(own + places, spec.operands[1 - self.side], letters)
        pair = (windows, still) if self.side == 0 else (still, windows)
        return self.rewriter.emit("contract", *pair, spec=changed if self.side == 0 else changed.swapped())

    def _size(self, letter: str) -> int:
        return self.still.shape[self.spec.operands[1 - self.side].index(letter)]

    def _each(self, way: _Way) -> int:
        return -(-way.extent // way.step)

    def _zeros(self, letters: str) -> Node:
        sizes = self.spec.sizes(*(self._operands()))
        sizes.update({way.letter: self._each(way) for way in self.ways})
        type = self.moved.array_type.strong.with_shape(tuple(sizes[letter] for letter in letters))
        return self.rewriter.splat(0, type)

    def _operands(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shapes = self.moved.shape, self.still.shape
        return shapes if self.side == 0 else shapes[::-1]

    def _padded(self, found: list[_Phase]) -> Node:
        """The operand with zeros around it, so that each element has a window."""
        own = self.spec.operands[self.side]
        shape = self.moved.shape
        low, high, start, stop = [0] * len(own), [0] * len(own), [0] * len(own), list(shape)
        for way, each in zip(self.ways, found, strict=True):
            axis = own.index(way.letter)
            ahead, behind = each.offset + each.apart * (each.places - 1), self._each(way) - each.offset - shape[axis]
            low[axis], high[axis] = max(ahead, 0), max(behind, 0)
            start[axis], stop[axis] = max(-ahead, 0), shape[axis] - max(-behind, 0)
        moved = self.moved
        if any(start) or tuple(stop) != shape:
            moved = self.rewriter.emit("slice", moved, start=tuple(start), stop=tuple(stop), step=(1,) * len(own))
        if not any((*low, *high)):
            return moved
        value = moved.dtype.type(0).item()
        return self.rewriter.emit("pad", moved, low=tuple(low), high=tuple(high), interior=(0,) * len(own), value=value)

    def _chosen(self, found: list[_Phase]) -> Node:
        """The other operand's places of this phase, the last one first."""
        still, letters = self.still, self.spec.operands[1 - self.side]
        start, stop, step = [0] * len(letters), list(still.shape), [1] * len(letters)
        for way, each in zip(self.ways, found, strict=True):
            axis = letters.index(way.place)
            start[axis], step[axis] = each.first, each.stride
            stop[axis] = each.first + each.stride * (each.places - 1) + 1
        if any(start) or tuple(stop) != still.shape or step != [1] * len(letters):
            still = self.rewriter.emit("slice", still, start=tuple(start), stop=tuple(stop), step=tuple(step))
        turned = tuple(sorted(letters.index(way.place) for way in self.ways))
        return self.rewriter.emit("flip", still, axes=turned)

    def _interleaved(self, parts: list[Node], axis: int, extent: int) -> Node:
        """Element i of phase p is element i * phases + p."""
        emit = self.rewriter.emit
        shape = parts[0].shape
        thin = (*shape[: axis + 1], 1, *shape[axis + 1 :])
        side = emit("concatenate", *(emit("reshape", part, shape=thin) for part in parts), axis=axis + 1)
        laid = (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :])
        whole = emit("reshape", side, shape=laid)
        stop = (*shape[:axis], extent, *shape[axis + 1 :])
        if stop == laid:
            return whole
        return emit("slice", whole, start=(0,) * len(stop), stop=stop, step=(1,) * len(stop))


def _phase(way: _Way, phase: int, size: int) -> _Phase:
    """The places j with dilation * j = phase modulo the step."""
    _, _, _, step, dilation, start = way
    phase += start
    first = next((j for j in range(min(size, step)) if (dilation * j - phase) % step == 0), None)
    if first is None:
        return _Phase(0, 1, 0, 0, 1)
    common = math.gcd(step, dilation)
    stride = step // common
    count = -(-(size - first) // stride)
    return _Phase(first, stride, count, (dilation * first - phase) // step, dilation // common)
