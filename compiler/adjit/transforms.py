"""Derivatives at a point: `jvp`, `vjp` and `linearize`.

They are called with the point and trace the function anew at each call; inside a traced function they become a part of
that one. `vjp` and `linearize` compute all that does not wait for cotangents or tangents once, and keep what the rest
reads of it (`autodiff.split`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import optree

from adjit.autodiff.forward_mode import jvp as pushed
from adjit.autodiff.linear import forward_part, reverse_part
from adjit.autodiff.split import Split
from adjit.driver import options_of
from adjit.functions import JitFunction, Transformed, check_floats, trace_call
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import is_float
from adjit.results import unpack_aux
from adjit.roll import roll
from adjit.stages import Record
from adjit.trace import Tracer, current_trace, inline
from adjit.trace.function import Traced
from adjit.trace.promote import type_of
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from adjit_runtime.guests import tree_structure
from adjit_runtime.public import public
from adjit_runtime.trees import LeafType, Signature, flatten


class _AtPoint(Transformed):
    """A function that is differentiated by all of its arguments."""

    def __init__(self, kind: str, function: Callable[..., Any], has_aux: bool) -> None:
        self.kind = kind
        self.has_aux = checks.flag(f"{kind}: has_aux", has_aux)
        super().__init__(function, options_of(kind, "auto", False), (), ())

    def traced(self, signature: Signature, names: Sequence[str], record: Record) -> tuple[Traced, Graph]:
        """The trace of (value, aux), and its graph with loops rolled up."""
        call = self.on_leaves(signature)
        with record.timed("trace"):
            traced = trace_call(self.graph_name, lambda leaves: unpack_aux(self, call(leaves)), signature.types, names)
        return traced, record.derive("roll", roll, record.keep("trace", traced.graph))

    def result(self, value: Any, more: Any, aux: Any) -> optree.PyTreeSpec:
        """The tree of (value, more), and aux where there is one."""
        found: Any = (value, more, aux) if self.has_aux else (value, more)
        return tree_structure(found)


def _numbered(tree: optree.PyTreeSpec) -> Any:
    return optree.tree_unflatten(tree, range(tree.num_leaves))


# -- jvp ---------------------------------------------------------------------------------------------------------------


class JvpFunction(_AtPoint):
    """(primals, tangents) -> (value, its tangent), of a function of the primals."""

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The graph with tangents."""
        positional, _ = signature.tree.children()
        primals = positional.children()[0]
        count = primals.num_leaves
        check_floats(self, range(count), signature.types, names)
        _check_tangents(self.kind, signature.types[:count], signature.types[count:], names[:count])
        plain: Any = (_numbered(primals), {})
        at = Signature(tree_structure(plain), signature.types[:count])
        traced, rolled = self.traced(at, names[:count], record)
        values, aux = traced.out_tree.children()
        graph = record.derive("adjoint", functools.partial(_with_tangents, count, values.num_leaves), rolled)
        return graph, self.result(_numbered(values), _numbered(values), _numbered(aux)), traced.captures

    def _names(self, tree: optree.PyTreeSpec) -> list[str]:
        positional, _ = tree.children()
        plain: Any = (_numbered(positional.children()[0]), {})
        names = super()._names(tree_structure(plain))
        return [*names, *(f"the tangent of {name}" for name in names)]


def _with_tangents(inputs: int, values: int, traced: Graph) -> Graph:
    """Inputs: those of the function, their tangents, captures. Outputs: the values, their tangents, aux."""
    made = pushed(traced, range(inputs))
    given, count = len(traced.inputs), len(traced.outputs)
    b = Builder.after(made)
    tangents = _with_zeros(b, traced.outputs[:values], made.outputs[count:])
    outputs = (*made.outputs[:values], *tangents, *made.outputs[values:count])
    entered = (*made.inputs[:inputs], *made.inputs[given:], *made.inputs[inputs:given])
    return closed(made.name, entered, b.nodes, outputs)


def _with_zeros(b: Builder, values: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """A tangent for each value: those of floats, zeros for the others."""
    found = iter(tangents)
    return [next(found) if is_float(node.dtype) else b.splat(0, node.array_type.strong) for node in values]


def _check_tangents(
    kind: str, types: Sequence[LeafType], given: Sequence[LeafType], names: Sequence[str], what: str = "tangent"
) -> None:
    """Raise ShapeError or DTypeError for a tangent that is not of its primal's type."""
    for name, type, found in zip(names, types, given, strict=True):
        if found.shape != type.shape:
            raise ShapeError(f"{kind}: the {what} of {name} is {found}, and {name} is {type}: they have one shape")
        if found.dtype != type.dtype and not found.weak:
            raise DTypeError(
                f"{kind}: the {what} of {name} is {found}, and {name} is {type}: write .astype(np.{type.dtype.name})"
            )


@public({"fun": "function", "f": "function", "func": "function"})
def jvp(function: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False) -> Any:
    """The value of `function(*primals)` and its derivative along `tangents`: (value, tangent).

    `primals` and `tangents` are tuples of pytrees of floats, with the same structure, shapes and dtypes; the result's
    tangent has those of the value, and is 0 for what is no float. With `has_aux` the function returns (value, aux), and
    the result is (value, tangent, aux). Forward mode: it takes about as long as two calls of the function, whatever the
    sizes.

        >>> import numpy as np, adjit
        >>> value, slope = adjit.jvp(lambda x, y: x * np.sin(y), (2.0, 0.0), (1.0, 3.0))
        >>> float(value), float(slope)
        (0.0, 6.0)

    The function is traced at each call; in a loop write `adjit.jit(lambda x, v: adjit.jvp(f, (x,), (v,)))`, of which it
    becomes a part. Raises what `jit` raises, DTypeError for a primal that is no float, ShapeError, DTypeError and
    ArgumentError for tangents that do not fit."""
    checks.function("jvp: function", function)
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            raise ArgumentError(
                f"jvp: {what} is a tuple with one entry for each argument, (x,), not {checks.shown(given)}"
            )
    first, second = (flatten(tuple(given))[1] for given in (primals, tangents))
    if first != second:
        raise ArgumentError(f"jvp: tangents have the structure of primals: {_shown(first)}, not {_shown(second)}")
    return JvpFunction("jvp", function, has_aux)(tuple(primals), tuple(tangents))


def _shown(tree: optree.PyTreeSpec) -> str:
    return str(tree).removeprefix("PyTreeSpec(").removesuffix(")").partition(", namespace=")[0]


# -- vjp and linearize -------------------------------------------------------------------------------------------------


class Side(NamedTuple):
    """Argument or value: the tree, the types of its leaves and what messages call them."""

    tree: optree.PyTreeSpec
    types: list[LeafType]
    names: list[str]


class _Splitting(_AtPoint):
    """primals -> ((value, aux), what is kept). `late` is the graph of what waits, from what is kept and a value of the
    side `taken`; it gives one of the tree `given`."""

    late: Graph
    taken: Side
    given: optree.PyTreeSpec

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The early graph."""
        check_floats(self, range(len(signature.types)), signature.types, names)
        traced, rolled = self.traced(signature, names, record)
        values, aux = traced.out_tree.children()
        positional, _ = signature.tree.children()
        types = [LeafType(node.dtype, node.shape) for node in traced.graph.outputs[: values.num_leaves]]
        paths = [f"the value{accessor.codify('')}" for accessor in values.accessors()]
        self.enter(Side(positional, list(signature.types), list(names)), Side(values, types, paths))
        parts = self.parts(rolled, len(signature.types), values.num_leaves)
        self.late = parts.late
        graph = record.keep("adjoint", parts.early)
        kept: Any = [0] * (len(graph.outputs) - len(traced.graph.outputs))
        result: Any = ((_numbered(values), _numbered(aux)), kept)
        return graph, tree_structure(result), traced.captures

    def enter(self, primals: Side, values: Side) -> None:
        """Note which way the late graph goes."""
        raise NotImplementedError

    def parts(self, graph: Graph, inputs: int, values: int) -> Split:
        """What is early and late of the derivative of the first outputs by the first inputs."""
        raise NotImplementedError


class _Pulling(_Splitting):
    """Of a cotangent of the value."""

    def enter(self, primals: Side, values: Side) -> None:
        """From the value to the primals."""
        self.taken, self.given = values, primals.tree

    def parts(self, graph: Graph, inputs: int, values: int) -> Split:
        """Those of reverse mode."""
        return reverse_part(graph, range(inputs), values)


class _Pushing(_Splitting):
    """Of tangents of the primals."""

    def enter(self, primals: Side, values: Side) -> None:
        """From the primals to the value."""
        self.taken, self.given = primals, values.tree

    def parts(self, graph: Graph, inputs: int, values: int) -> Split:
        """Those of forward mode, with zeros for what is no float."""
        parts = forward_part(graph, range(inputs), values)
        b = Builder.after(parts.late)
        outputs = _with_zeros(b, graph.outputs[:values], parts.late.outputs)
        return parts._replace(late=closed(parts.late.name, b.inputs, b.nodes, outputs))


class Linear:
    """A linear function that `vjp` or `linearize` gave; it keeps what it reads of the point.

    Call it outside of traced functions, or inside of them, where it becomes a part of them."""

    def __init__(self, made: _Splitting, kept: Sequence[Any], what: str) -> None:
        self._kind, self._what = made.kind, what
        self._late, self._taken, self._given, self._kept = made.late, made.taken, made.given, list(kept)
        self.__name__ = f"{made.__name__}_{what}"
        self._compiled = JitFunction(self._inlined, made.options, (), ())

    def __repr__(self) -> str:
        return f"<{self._kind} {self.__name__}>"

    def apply(self, given: Any) -> Any:
        """The results for an argument of the right structure."""
        leaves, tree = flatten(given)
        taken = self._taken
        if tree != taken.tree:
            raise ArgumentError(
                f"{self._kind}: the {self._what} has the structure {_shown(taken.tree)}, not {_shown(tree)}"
            )
        types = [LeafType(type.dtype, type.shape, type.weak) for type in map(type_of, leaves)]
        _check_tangents(self._kind, taken.types, types, taken.names, self._what)
        floats = [leaf for leaf, type in zip(leaves, taken.types, strict=True) if is_float(type.dtype)]
        run = self._inlined if current_trace() is not None else self._compiled
        return optree.tree_unflatten(self._given, run(self._kept, floats))

    def _inlined(self, kept: list[Any], given: list[Any]) -> list[Any]:
        return list(inline(self._late, [*kept, *given]))


class Pullback(Linear):
    """From a cotangent of the value to the cotangents of the primals, a tuple with one for each."""

    @public(name="the pullback")
    def __call__(self, cotangent: Any) -> Any:
        """The cotangents of the primals."""
        return self.apply(cotangent)


class Pushforward(Linear):
    """From tangents of the primals, one argument for each, to that of the value."""

    @public(name="the linear function")
    def __call__(self, *tangents: Any) -> Any:
        """The tangent of the value."""
        return self.apply(tangents)


@public({"fun": "function", "f": "function", "func": "function"})
def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of `function(*primals)` and its pullback: (value, pullback), with `has_aux` (value, pullback, aux).

    `pullback(cotangent)` takes a pytree like the value (of what is no float, anything of the right shape and dtype) and
    gives a tuple of gradients, one like each primal: pytrees of floats. The value is computed once; the pullback reads
    what was kept of it and can be called often, and inside traced functions.

        >>> import numpy as np, adjit
        >>> value, pullback = adjit.vjp(lambda x, y: x * np.sin(y), np.array([1.0, 2.0]), np.zeros(2))
        >>> [g.tolist() for g in pullback(np.array([1.0, 3.0]))]
        [[0.0, 0.0], [1.0, 6.0]]

    The function is traced at each call. Raises what `jit` raises, DTypeError for a primal that is no float, and from
    the pullback ShapeError, DTypeError and ArgumentError for a cotangent that does not fit."""
    return _split_at(_Pulling("vjp", function, has_aux), primals, Pullback, "cotangent")


@public({"fun": "function", "f": "function", "func": "function"})
def linearize(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of `function(*primals)` and its derivative there: (value, linear), with `has_aux` (value, linear, aux).

    `linear(*tangents)` takes one tangent like each primal and gives that of the value, as `jvp` does; the value, and
    all else that does not wait for tangents, is computed once.

        >>> import numpy as np, adjit
        >>> value, linear = adjit.linearize(lambda x: np.exp(x).sum(), np.zeros(2))
        >>> float(linear(np.array([1.0, 2.0]))), float(linear(np.array([0.0, 5.0])))
        (3.0, 5.0)

    Raises as `vjp` does."""
    return _split_at(_Pushing("linearize", function, has_aux), primals, Pushforward, "tangent")


def _split_at(made: _Splitting, primals: Iterable[Any], kind: type[Linear], what: str) -> Any:
    (value, aux), kept = made(*primals)
    linear = kind(made, kept, what)
    return (value, linear, aux) if made.has_aux else (value, linear)
