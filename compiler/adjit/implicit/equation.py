"""A user's function of x and of parameters as a graph: x, what is traced in the other arguments, and what it reads from
outside are its inputs. Its derivatives are graphs that are copied into the trace under way."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import vjp
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.types import F64, Array, is_float
from adjit.ops.calls import floats_of
from adjit.trace import Tracer, inline, is_tracer, lower, trace_flat
from adjit.trace.promote import type_of
from adjit.trace.refuse import located
from adjit.trace.returned import returned
from adjit.trace.tracer import plain_of
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError, WeakOverflowError
from adjit_runtime.guests import tree_flatten


@dataclass(frozen=True, eq=False)
class Equation:
    """`graph` has the leaves of x and of the parameters as inputs, and gives leaves like those of x. `x` are the leaves
    to begin with, `parameters` the others' values, as traced values."""

    kind: str
    function: Callable[..., Any]
    tree: optree.PyTreeSpec
    graph: Graph
    x: list[Tracer]
    parameters: list[Tracer]

    @property
    def size(self) -> int:
        """How many leaves x has."""
        return len(self.x)

    @functools.cached_property
    def floats(self) -> list[int]:
        """The numbers of the parameters that have a derivative."""
        return floats_of(self.graph.inputs[self.size :])

    def at(self, x: Sequence[Any], parameters: Sequence[Any]) -> list[Tracer]:
        """What the function gives."""
        return inline(self.graph, [*x, *parameters])

    @functools.cached_property
    def along_x(self) -> Graph:
        """Of x, parameters and tangents of x, the tangents of the result."""
        return _tangents(self.graph, range(self.size))

    @functools.cached_property
    def against_x(self) -> Graph:
        """Of x, parameters and cotangents of the result, those of x."""
        return _cotangents(self.graph, range(self.size))

    def along(self, graph: Graph, args: Sequence[Any], tangents: Sequence[Any]) -> list[Tracer]:
        """The tangents of what a graph of x, parameters and more gives, for tangents of the parameters (a value for
        each, of which those of floats count), or of x and the parameters."""
        wrt = self._wrt(len(tangents))
        first = self.size + len(self.parameters) - len(tangents)
        if not wrt:
            return [lower.full(0.0, node.shape, node.dtype) for node in graph.outputs]
        return inline(_tangents(graph, wrt), [*args, *(tangents[i - first] for i in wrt)])

    def against(self, graph: Graph, args: Sequence[Any], cotangents: Sequence[Any], count: int) -> list[Any]:
        """The gradients by the last `count` of x and parameters; None for those that are no floats."""
        wrt = self._wrt(count)
        found: list[Any] = [None] * count
        first = self.size + len(self.parameters) - count
        for i, gradient in zip(wrt, inline(_cotangents(graph, wrt), [*args, *cotangents]), strict=True):
            found[i - first] = gradient
        return found

    def _wrt(self, count: int) -> list[int]:
        """The floats among the last `count` of x and parameters."""
        wrt = [*range(self.size), *(self.size + i for i in self.floats)]
        return [i for i in wrt if i >= self.size + len(self.parameters) - count]


def _tangents(graph: Graph, wrt: Sequence[int]) -> Graph:
    made = jvp(graph, wrt)
    return closed(made.name, made.inputs, made.nodes, made.outputs[len(graph.outputs) :])


def _cotangents(graph: Graph, wrt: Sequence[int]) -> Graph:
    made = vjp(graph, wrt)
    return closed(made.name, made.inputs, made.nodes, made.outputs[len(graph.outputs) :])


def equation(kind: str, function: Callable[..., Any], x0: Any, args: tuple[Any, ...]) -> Equation:
    """The function, traced for an x like x0.

    Raises ShapeError, DTypeError and ArgumentError where x is no float, or where the function does not give what is
    like x."""
    given, types, tree = leaves_of(kind, x0)
    leaves, args_tree = tree_flatten(args)
    moving = [i for i, leaf in enumerate(leaves) if is_tracer(leaf) and plain_of(leaf) is None]
    operands = [leaves[i] for i in moving]

    def call(tracers: list[Tracer]) -> Any:
        found = list(leaves)
        for i, tracer in zip(moving, tracers[len(types) :], strict=True):
            found[i] = tracer
        x = optree.tree_unflatten(tree, tracers[: len(types)])
        result = function(x, *optree.tree_unflatten(args_tree, found))
        return _checked(kind, function, result, tree)

    names = [*(f"x{i}" for i in range(len(types))), *(f"parameter{i}" for i in range(len(moving)))]
    while True:
        arrays = [i for i, leaf in enumerate([*given, *operands]) if isinstance(leaf, np.ndarray)]
        traced = trace_flat(kind, call, [*types, *map(type_of, operands)], names, arrays)
        wanted = _settled(kind, function, types, traced.graph)
        if wanted == types:
            break
        types = wanted
    x = [lower.convert(leaf, type.dtype, type.shape, type.weak) for leaf, type in zip(given, types, strict=True)]
    parameters = [lower.as_tracer(leaf) for leaf in [*operands, *traced.captures]]
    return Equation(kind, function, tree, _strong(traced.graph, types), x, parameters)


def leaves_of(kind: str, x0: Any) -> tuple[list[Any], list[Array], optree.PyTreeSpec]:
    """The leaves of x0, their types and the structure. Raises ArgumentError and DTypeError for others than floats."""
    try:
        leaves, tree = tree_flatten(x0)
    except RecursionError:
        raise located(ArgumentError, f"{kind}: x0 is nested too deep, or holds itself") from None
    if not leaves:
        raise located(ArgumentError, f"{kind}: x0 is {checks.shown(x0)}, which has no numbers")
    for leaf in leaves:
        if not is_tracer(leaf) and not isinstance(leaf, bool | int | float | np.generic | np.ndarray):
            raise located(ArgumentError, f"{kind}: x0 is {checks.shown(leaf)}, which is no array and no number")
    return leaves, [_type_of(kind, leaf) for leaf in leaves], tree


def _type_of(kind: str, leaf: Any) -> Array:
    if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind not in "biuf":
        raise located(DTypeError, f"{kind}: x0 is of dtype {leaf.dtype}, and x is found among floats")
    if isinstance(leaf, int) and not isinstance(leaf, bool) and abs(leaf) > sys.float_info.max:
        raise located(WeakOverflowError, f"{kind}: x0 is {checks.shown(leaf)}, which is too large for a float")
    found = type_of(leaf)
    if found.weak and found.dtype.kind in "if":
        return Array(F64, (), True)
    if not is_float(found.dtype):
        raise located(DTypeError, f"{kind}: x0 is {found}, and x is found among floats: write x0.astype(float)")
    return found


def _checked(kind: str, function: Callable[..., Any], result: Any, tree: optree.PyTreeSpec) -> Any:
    found = tree_flatten(result)[1]
    if found != tree:
        hint = " (a return is missing?)" if result is None else ""
        raise returned(
            ArgumentError, function, f"{kind}: f gives {_shown(found)}, where x0 is {_shown(tree)}{hint}: the same "
            "structure, in the same dicts, lists and tuples"
        )  # fmt: skip
    return result


def _shown(tree: optree.PyTreeSpec) -> str:
    return str(tree).removeprefix("PyTreeSpec(").removesuffix(")").partition(", namespace=")[0]


def _settled(kind: str, function: Callable[..., Any], types: Sequence[Array], graph: Graph) -> list[Array]:
    """The types that x must have: numbers of Python take the dtype that the function gives."""
    found = []
    for before, node in zip(types, graph.outputs, strict=True):
        now = node.array_type
        if before.shape != now.shape:
            raise returned(ShapeError, function, f"{kind}: f gives {now}, where x0 is {before}: they have one shape")
        if before.weak and is_float(now.dtype):
            found.append(now)
        elif now.weak or before.dtype == now.dtype:
            found.append(before)
        else:
            raise returned(
                DTypeError, function, f"{kind}: f gives {now}, where x0 is {before}: start with "
                f"np.{now.dtype.name}, or return .astype(np.{before.dtype.name})"
            )  # fmt: skip
    return found


def _strong(graph: Graph, types: Sequence[Array]) -> Graph:
    """The graph whose results are of the types of x."""
    if [node.array_type for node in graph.outputs] == list(types):
        return graph
    b = Builder.after(graph)
    outputs = [
        node if node.array_type == type else b.emit("cast", node, dtype=type.dtype, weak=type.weak)
        for node, type in zip(graph.outputs, types, strict=True)
    ]
    return b.graph(graph.name, outputs)
