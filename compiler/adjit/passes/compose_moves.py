"""compose_moves: movement of movement becomes one movement, or none.

    %0 = transpose %x axes=(1,0) : f32[3,2]       =>
    %1 = transpose %0 axes=(1,0) : f32[2,3]           users of %1 use %x

    %0 = broadcast %x shape=(4,6) axes=(1)        =>  %0 = slice %x start=(2) stop=(4) step=(1) : f32[2]
    %1 = slice %0 start=(0,2) stop=(4,4) ...          %1 = broadcast %0 shape=(4,2) axes=(1) : f32[4,2]

The smaller value is moved where there is a choice, so that no step makes more work: reductions come before broadcasts
along other axes. Reductions over axes of size 1, and extrema over axes along which a value was broadcast, are movement
too. Does not move anything through arithmetic
(hoist_broadcasts does), and leaves a reshape that merges axes after a transpose alone: that one costs a copy."""

from __future__ import annotations

from adjit.ir.axes import without_ones
from adjit.ir.graph import Graph
from adjit.ir.node import Node, same_bits
from adjit.passes.rewrite import Rewrite, Rewriter, rewrite

Ints = tuple[int, ...]


def compose_moves(graph: Graph) -> Graph:
    """The graph with chains of movement composed."""
    return rewrite(graph, _step, _STEPS)


def _step(node: Node, rewriter: Rewriter) -> Node | None:
    step = _STEPS.get(node.op.name)
    # A step makes nodes of other ops, too.
    return None if step is None else step(node, rewriter)


def _identity(n: int) -> Ints:
    return tuple(range(n))


def _reshape(node: Node, rewriter: Rewriter) -> Node | None:
    (x,) = node.args
    shape: Ints = node.attrs["shape"]
    if x.shape == shape:
        return x
    if x.op.name == "reshape":
        return rewriter.emit("reshape", x.args[0], shape=shape)
    if x.op.name == "broadcast" and without_ones(x.shape) == without_ones(shape):
        return _reshaped_broadcast(x, shape, rewriter)
    return None


def _reshaped_broadcast(x: Node, shape: Ints, rewriter: Rewriter) -> Node:
    """Axes of size 1 come or go: the operand loses its own, and stands at the others' new places."""
    (u,) = x.args
    old = [axis for axis, n in enumerate(x.shape) if n != 1]
    new = [axis for axis, n in enumerate(shape) if n != 1]
    place = dict(zip(old, new, strict=True))
    axes = tuple(place[axis] for axis in x.attrs["axes"] if axis in place)
    flat = rewriter.emit("reshape", u, shape=without_ones(u.shape))
    return rewriter.emit("broadcast", flat, shape=shape, axes=axes)


def _transpose(node: Node, rewriter: Rewriter) -> Node | None:
    (x,) = node.args
    axes: Ints = node.attrs["axes"]
    if axes == _identity(len(axes)):
        return x
    moved = [axis for axis in axes if x.shape[axis] != 1]
    if moved == sorted(moved):
        return rewriter.emit("reshape", x, shape=node.shape)
    if x.op.name == "transpose":
        inner: Ints = x.attrs["axes"]
        return rewriter.emit("transpose", x.args[0], axes=tuple(inner[axis] for axis in axes))
    if x.op.name == "broadcast":
        (u,) = x.args
        # Operand axis i stood at x.axes[i], which is now at the place of that axis in `axes`.
        places = [axes.index(axis) for axis in x.attrs["axes"]]
        order = tuple(sorted(range(len(places)), key=places.__getitem__))
        transposed = rewriter.emit("transpose", u, axes=order)
        return rewriter.emit("broadcast", transposed, shape=node.shape, axes=tuple(sorted(places)))
    return None


def _broadcast(node: Node, rewriter: Rewriter) -> Node | None:
    (x,) = node.args
    shape: Ints = node.attrs["shape"]
    axes: Ints = node.attrs["axes"]
    if x.shape == shape:
        return x
    if x.op.name == "broadcast":
        return rewriter.emit("broadcast", x.args[0], shape=shape, axes=tuple(axes[i] for i in x.attrs["axes"]))
    if without_ones(shape) == without_ones(x.shape):
        return rewriter.emit("reshape", x, shape=shape)
    if x.op.name == "reshape" and without_ones(x.shape) == without_ones(x.args[0].shape):
        (u,) = x.args
        if 1 not in u.shape:
            kept = tuple(axis for axis, n in zip(axes, x.shape, strict=True) if n != 1)
            return rewriter.emit("broadcast", u, shape=shape, axes=kept)
    return None


def _slice(node: Node, rewriter: Rewriter) -> Node | None:
    (x,) = node.args
    start, step = node.attrs["start"], node.attrs["step"]
    if x.shape == node.shape:
        return x
    if 0 in node.shape:
        return None
    if x.op.name == "slice":
        inner, pace = x.attrs["start"], x.attrs["step"]
        first = tuple(i + a * s for i, a, s in zip(inner, start, pace, strict=True))
        steps = tuple(s * t for s, t in zip(pace, step, strict=True))
        return _cut(x.args[0], first, steps, node.shape, rewriter)
    if x.op.name == "broadcast":
        (u,) = x.args
        axes = x.attrs["axes"]
        first, steps, shape = (tuple(of[axis] for axis in axes) for of in (start, step, node.shape))
        return rewriter.emit("broadcast", _cut(u, first, steps, shape, rewriter), shape=node.shape, axes=axes)
    if x.op.name == "pad":
        return _slice_of_pad(node, x, rewriter)
    if x.op.name == "concatenate":
        return _slice_of_concatenate(node, x, rewriter)
    if x.op.name == "windows":
        return _slice_of_windows(node, x, rewriter)
    return None


def _slice_of_windows(node: Node, x: Node, rewriter: Rewriter) -> Node:
    """Some windows of a part, and some places of each."""
    (u,) = x.args
    start, step, shape = list(node.attrs["start"]), list(node.attrs["step"]), list(node.shape)
    axes: Ints = x.attrs["axes"]
    first, pace, reach = start[: len(u.shape)], step[: len(u.shape)], shape[: len(u.shape)]
    steps, dilations = [], []
    ways = zip(axes, x.attrs["step"], x.attrs["dilation"], strict=True)
    for place, (axis, apart, dilation) in enumerate(ways, len(u.shape)):
        steps.append(apart * step[axis])
        dilations.append(dilation * step[place])
        first[axis], pace[axis] = apart * start[axis] + dilation * start[place], 1
        reach[axis] = steps[-1] * (shape[axis] - 1) + dilations[-1] * (shape[place] - 1) + 1
    part = _cut(u, tuple(first), tuple(pace), tuple(reach), rewriter)
    size = tuple(shape[len(u.shape) :])
    return rewriter.emit("windows", part, axes=axes, size=size, step=tuple(steps), dilation=tuple(dilations))


def _cut(x: Node, start: Ints, step: Ints, shape: Ints, rewriter: Rewriter) -> Node:
    """`shape` elements (none of them 0) of `x` from `start`, every `step`-th."""
    stop = tuple(i + (n - 1) * s + 1 for i, n, s in zip(start, shape, step, strict=True))
    return rewriter.emit(
        "slice", x, start=start, stop=stop, step=tuple(s if n > 1 else 1 for s, n in zip(step, shape, strict=True))
    )


def _slice_of_pad(node: Node, x: Node, rewriter: Rewriter) -> Node | None:
    """Where the slice lies within the operand, or without it altogether."""
    (u,) = x.args
    first, last, steps = [], [], []
    for axis, n in enumerate(node.shape):
        gap = x.attrs["interior"][axis] + 1
        step = node.attrs["step"][axis]
        begin = node.attrs["start"][axis] - x.attrs["low"][axis]
        end = begin + (n - 1) * step
        if end < 0 or begin > (u.shape[axis] - 1) * gap:
            return rewriter.splat(x.attrs["value"], node.array_type)
        if begin % gap or (step % gap and n > 1):
            return None
        first.append(begin // gap)
        last.append(end // gap)
        steps.append(max(step // gap, 1))
    if any(i < 0 or j >= n for i, j, n in zip(first, last, u.shape, strict=True)):
        return None
    return _cut(u, tuple(first), tuple(steps), node.shape, rewriter)


def _slice_of_concatenate(node: Node, x: Node, rewriter: Rewriter) -> Node | None:
    """Where the slice reads one part only."""
    axis = x.attrs["axis"]
    begin, step = node.attrs["start"][axis], node.attrs["step"][axis]
    end = begin + (node.shape[axis] - 1) * step
    at = 0
    for part in x.args:
        n = part.shape[axis]
        if at <= begin and end < at + n:
            start = tuple(i - at if j == axis else i for j, i in enumerate(node.attrs["start"]))
            return _cut(part, start, node.attrs["step"], node.shape, rewriter)
        at += n
    return None


def _pad(node: Node, rewriter: Rewriter) -> Node | None:
    (x,) = node.args
    low, high, interior = (node.attrs[name] for name in ("low", "high", "interior"))
    if x.shape == node.shape:
        return x
    if x.op.name != "pad" or any(interior) or any(x.attrs["interior"]):
        return None
    if not same_bits(node.attrs["value"], x.attrs["value"]):
        return None
    lows = tuple(a + b for a, b in zip(low, x.attrs["low"], strict=True))
    highs = tuple(a + b for a, b in zip(high, x.attrs["high"], strict=True))
    return rewriter.emit("pad", x.args[0], low=lows, high=highs, interior=interior, value=node.attrs["value"])


def _concatenate(node: Node, rewriter: Rewriter) -> Node | None:
    axis = node.attrs["axis"]
    if len(node.args) == 1:
        return node.args[0]
    flat: list[Node] = []
    for part in node.args:
        if part.op.name == "concatenate" and part.attrs["axis"] == axis:
            flat += part.args
        elif part.shape[axis]:
            flat.append(part)
    joined = flat[:1]
    for part in flat[1:]:
        whole = _rejoined(joined[-1], part, axis, rewriter)
        if whole is None:
            joined.append(part)
        else:
            joined[-1] = whole
    if not joined:
        return node.args[0]
    return rewriter.emit("concatenate", *joined, axis=axis) if len(joined) < len(node.args) else None


def _rejoined(a: Node, b: Node, axis: int, rewriter: Rewriter) -> Node | None:
    """Two neighbouring slices of one value as one slice."""
    if (
        not (a.op.name == b.op.name == "slice" and a.args[0] is b.args[0])
        or max(*a.attrs["step"], *b.attrs["step"]) > 1
    ):
        return None
    if a.attrs["stop"][axis] != b.attrs["start"][axis]:
        return None
    for name in ("start", "stop"):
        if any(i != j for k, (i, j) in enumerate(zip(a.attrs[name], b.attrs[name], strict=True)) if k != axis):
            return None
    stop = tuple(b.attrs["stop"][k] if k == axis else i for k, i in enumerate(a.attrs["stop"]))
    return rewriter.emit("slice", a.args[0], start=a.attrs["start"], stop=stop, step=a.attrs["step"])


def _flip(node: Node, rewriter: Rewriter) -> Node | None:
    (x,) = node.args
    axes = set(node.attrs["axes"])
    if x.op.name == "flip":
        return rewriter.emit("flip", x.args[0], axes=tuple(sorted(axes ^ set(x.attrs["axes"]))))
    needed = {axis for axis in axes if x.shape[axis] > 1}
    if x.op.name == "broadcast":
        needed &= set(x.attrs["axes"])
    if needed == axes:
        return None if axes else x
    return rewriter.emit("flip", x, axes=tuple(sorted(needed)))


def _windows(node: Node, rewriter: Rewriter) -> Node | None:
    """Windows that lie side by side are axes cut in two."""
    (x,) = node.args
    axes: Ints = node.attrs["axes"]
    if 0 in node.shape or not lie_apart(node.attrs["size"], node.attrs["step"], node.attrs["dilation"]):
        return None
    ndim = len(x.shape)
    stop, step = list(x.shape), [1] * ndim
    for axis, size, apart in zip(axes, node.attrs["size"], node.attrs["step"], strict=True):
        count = node.shape[axis]
        stop[axis] = count * size if size > 1 else (count - 1) * apart + 1
        step[axis] = 1 if size > 1 or count == 1 else apart
    part = rewriter.emit("slice", x, start=(0,) * ndim, stop=tuple(stop), step=tuple(step))
    cut: list[int] = []
    places: list[int] = []
    for axis in range(ndim):
        cut.append(node.shape[axis])
        if axis in axes:
            places.append(len(cut))
            cut.append(node.attrs["size"][axes.index(axis)])
    rest = [i for i in range(len(cut)) if i not in places]
    return rewriter.emit("transpose", rewriter.emit("reshape", part, shape=tuple(cut)), axes=(*rest, *places))


def lie_apart(size: Ints, step: Ints, dilation: Ints) -> bool:
    """Whether windows have no element in common and leave none out between, or are single elements."""
    return all(k == 1 or (k == s and d == 1) for k, s, d in zip(size, step, dilation, strict=True))


def _reduction(node: Node, rewriter: Rewriter) -> Node | None:
    """Over no axes, over axes of size 1, of a transpose; extrema of a broadcast and of themselves."""
    (x,) = node.args
    name, axes = node.op.name, node.attrs["axes"]
    if all(x.shape[axis] == 1 for axis in axes):
        return rewriter.emit("reshape", x, shape=node.shape)
    if x.op.name == "transpose":
        return _reduced_transpose(node, x, rewriter)
    if x.op.name == name:
        kept = [axis for axis in range(len(x.args[0].shape)) if axis not in x.attrs["axes"]]
        both = tuple(sorted({*x.attrs["axes"], *(kept[axis] for axis in axes)}))
        return None if rewriter.is_shared(x) else rewriter.emit(name, x.args[0], axes=both)
    if x.op.name == "broadcast" and 0 not in x.shape:
        copied = {axis for axis in range(len(x.shape)) if axis not in x.attrs["axes"]}
        if name not in ("max", "min", "any", "all"):
            copied -= set(axes)
        return _reduced_broadcast(node, x, copied, rewriter) if copied else None
    return None


def _reduced_transpose(node: Node, x: Node, rewriter: Rewriter) -> Node:
    (u,) = x.args
    order: Ints = x.attrs["axes"]
    axes = tuple(sorted(order[axis] for axis in node.attrs["axes"]))
    left = [axis for axis in range(len(order)) if axis not in axes]
    wanted = [axis for i, axis in enumerate(order) if i not in node.attrs["axes"]]
    reduced = rewriter.emit(node.op.name, u, axes=axes)
    return rewriter.emit("transpose", reduced, axes=tuple(left.index(axis) for axis in wanted))


def _reduced_broadcast(node: Node, x: Node, copied: set[int], rewriter: Rewriter) -> Node:
    """Without the axes of `copied`: those that are reduced have one extremum, the others get copies of the result."""
    kept = [axis for axis in range(len(x.shape)) if axis not in copied]
    left = [axis for axis in range(len(x.shape)) if axis not in node.attrs["axes"]]
    axes = tuple(kept.index(axis) for axis in x.attrs["axes"])
    narrow = rewriter.emit("broadcast", x.args[0], shape=tuple(x.shape[axis] for axis in kept), axes=axes)
    rest = tuple(kept.index(axis) for axis in node.attrs["axes"] if axis not in copied)
    reduced = rewriter.emit(node.op.name, narrow, axes=rest)
    axes = tuple(i for i, axis in enumerate(left) if axis not in copied)
    return rewriter.emit("broadcast", reduced, shape=node.shape, axes=axes)


_STEPS: dict[str, Rewrite] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "flip": _flip,
    "windows": _windows,
    **dict.fromkeys(("sum", "prod", "max", "min", "any", "all"), _reduction),
}
