"""Whole Jacobians and Hessians, products with a Hessian, and gradients of elementwise functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from adjit.autodiff.jacobian import forward_jacobian, reverse_jacobian
from adjit.driver import options_of, statics_of
from adjit.functions import GradFunction, JitFunction, trace_call
from adjit.ir.graph import Graph, closed
from adjit.ir.types import is_float
from adjit.results import check_differentiable, split_aux, unpack_aux
from adjit.roll import roll
from adjit.stages import Options, Record
from adjit.trace import Tracer
from adjit.trace.promote import type_of
from adjit.transforms import JvpFunction
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.guests import tree_map, tree_structure
from adjit_runtime.public import public
from adjit_runtime.trees import Signature


class JacobianFunction(GradFunction):
    """The Jacobian of a function by columns, by rows, or by what is less: `by` has forward, reverse or both."""

    def __init__(self, by: Sequence[str], kind: str, function: Callable[..., Any], *rest: Any) -> None:
        super().__init__(kind, function, *rest)
        self.by = by

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The graph of the Jacobian, and of aux."""
        wrt, gradient_tree = self.targets(signature, names)
        call = self.on_leaves(signature)
        with record.timed("trace"):
            traced = trace_call(self.graph_name, lambda leaves: self._value(call(leaves)), signature.types, names)
        rolled = record.derive("roll", roll, record.keep("trace", traced.graph))
        values, aux = traced.out_tree.children()
        record.forward = self._is_forward(rolled, wrt, values.num_leaves)
        graph = record.derive("adjoint", functools.partial(self._jacobian, wrt, values.num_leaves), rolled)
        block: Any = optree.tree_unflatten(gradient_tree, range(len(wrt)))
        blocks: Any = optree.tree_unflatten(values, [block] * values.num_leaves)
        result: Any = (blocks, optree.tree_unflatten(aux, range(aux.num_leaves))) if self.has_aux else blocks
        return graph, tree_structure(result), traced.captures

    def _value(self, result: Any) -> tuple[Any, Any]:
        value, aux = unpack_aux(self, result)
        check_differentiable(self, value)
        return value, aux

    def _is_forward(self, traced: Graph, wrt: Sequence[int], values: int) -> bool:
        columns = sum(traced.inputs[i].array_type.size for i in wrt)
        rows = sum(node.array_type.size for node in traced.outputs[:values])
        return "forward" in self.by and ("reverse" not in self.by or columns <= rows)

    def _jacobian(self, wrt: Sequence[int], values: int, traced: Graph) -> Graph:
        forward = self._is_forward(traced, wrt, values)
        made = (forward_jacobian if forward else reverse_jacobian)(traced, wrt, values)
        outputs = (*made.outputs[len(traced.outputs) :], *made.outputs[values : len(traced.outputs)])
        return closed(made.name, made.inputs, made.nodes, outputs)


class ElementwiseGradFunction(GradFunction):
    """The gradient of the sum of what a function returns."""

    def loss(self, result: Any) -> tuple[Any, Any]:
        """The sum, and aux."""
        value, aux = unpack_aux(self, result)
        if not (isinstance(value, float | int) or hasattr(value, "dtype")):
            raise ArgumentError(f"{self.kind}: {self.__name__} returns one array, not {checks.kind(value)}")
        check_differentiable(self, value)
        return split_aux(self, (np.sum(value), aux) if self.has_aux else np.sum(value))


_KNOWN = {
    "fun": "function", "func": "function", "f": "function", "argnum": "argnums", "aux": "has_aux", "wrt": "argnums",
    "chunk_size": "the columns or rows are computed one by one, in a loop", "static": "static_argnames",
    "holomorphic": "there are no complex numbers", "strict": "what does not depend on an argument has the derivative 0",
    "vectorize": "the columns or rows are computed one by one, in a loop",
}  # fmt: skip
"""Arguments that other libraries have."""

Make = Callable[..., Any]


def _decorated(
    kind: str,
    make: Make,
    function: Callable[..., Any] | None,
    argnums: int | Sequence[int],
    has_aux: bool,
    static_argnames: str | Iterable[str],
    static_argnums: int | Iterable[int],
    options: Callable[[], Options],
) -> Any:
    """What `make(kind, function, options, ...)` gives; without a function, the decorator that does."""
    statics = statics_of(kind, static_argnames, static_argnums)
    with_aux = checks.flag(f"{kind}: has_aux", has_aux)

    def decorate(function: Callable[..., Any]) -> Any:
        return make(kind, function, options, argnums, with_aux, *statics)

    return decorate if function is None else decorate(function)


@public(_KNOWN)
def jacfwd(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the Jacobian of `function` by the arguments `argnums`, column by column.

    The result has the tree of the function's value; each leaf of that is the tree of the argument, a tuple of such for
    several argnums, and each leaf of that an array of the value's shape, followed by the argument's. Values are floats;
    with `has_aux` the function returns (value, aux) and the result is (Jacobian, aux). Forward mode: the time is that
    of a jvp for each element of the arguments, so this is for functions with few of them; what does not wait for
    tangents is computed once. The arguments after `has_aux` are those of `jit`.

        >>> import numpy as np, adjit
        >>> residuals = lambda p, t: p[0] * np.exp(-p[1] * t)
        >>> adjit.jacfwd(residuals)(np.array([1.0, 0.0]), np.array([0.0, 1.0, 2.0])).tolist()
        [[1.0, 0.0], [1.0, -1.0], [1.0, -2.0]]

    The result is float64 and in C order for SciPy: `scipy.optimize.least_squares(f, x0, jac=adjit.jacfwd(f))`. Inside
    another traced function it becomes a part of that one. Raises what `jit` raises, DTypeError for an argument or a
    value that is no float."""
    return _decorated(
        "jacfwd",
        functools.partial(JacobianFunction, ("forward",)),
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("jacfwd", tile, inexact, memory_limit=memory_limit),
    )


@public(_KNOWN)
def jacrev(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the Jacobian of `function` by the arguments `argnums`, row by row.

    As `jacfwd`, in reverse mode: the time is that of a pullback for each element of the value, so this is for functions
    with few of them.

        >>> import numpy as np, adjit
        >>> adjit.jacrev(lambda x: {"sum": x.sum(), "first": x[:1] ** 2})(np.array([3.0, 4.0]))["first"].tolist()
        [[6.0, 0.0]]
    """
    return _decorated(
        "jacrev",
        functools.partial(JacobianFunction, ("reverse",)),
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("jacrev", tile, inexact, memory_limit=memory_limit),
    )


@public(_KNOWN)
def jacobian(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the Jacobian of `function` by the arguments `argnums`.

    As `jacfwd` where the arguments have no more elements than the value, else as `jacrev`: chosen for each signature.

        >>> import numpy as np, adjit
        >>> adjit.jacobian(lambda x: np.cumsum(x))(np.ones(3)).tolist()
        [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    return _decorated(
        "jacobian",
        functools.partial(JacobianFunction, ("forward", "reverse")),
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("jacobian", tile, inexact, memory_limit=memory_limit),
    )


@public(_KNOWN)
def hessian(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the second derivatives of `function` by the arguments `argnums`.

    Forward over reverse: the Jacobian, by columns, of the gradient. The result has the tree of the function's value,
    of the argument and of the argument again (as that of two Jacobians); for a scalar of one array of the shape s it is
    an array of the shape s + s. With `has_aux` the result is (Hessian, aux).

        >>> import numpy as np, adjit
        >>> adjit.hessian(lambda x: x[0] ** 2 * x[1])(np.array([3.0, 5.0])).tolist()
        [[10.0, 6.0], [6.0, 0.0]]

    `hvp` gives its product with a vector in the time of a few gradients. Raises as `jacfwd` does."""
    return _decorated(
        "hessian",
        _hessian,
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("hessian", tile, inexact, memory_limit=memory_limit),
    )


@public(_KNOWN)
def elementwise_grad(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the derivative of each element of the result by its own element of the argument.

    That of an elementwise `function`, which returns one array of floats. It is the gradient of the sum of the result:
    where an element of the argument has part in several of the result, their derivatives are added. `argnums`,
    `has_aux` and the others are those of `grad`.

        >>> import numpy as np, adjit
        >>> slope = adjit.elementwise_grad(np.tanh)
        >>> slope(np.array([0.0, 20.0])).tolist()
        [1.0, 0.0]
        >>> adjit.elementwise_grad(slope)(np.zeros(2)).tolist()
        [-0.0, -0.0]
    """
    return _decorated(
        "elementwise_grad",
        ElementwiseGradFunction,
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("elementwise_grad", tile, inexact, memory_limit=memory_limit),
    )


def _hessian(kind: str, function: Callable[..., Any], *rest: Any) -> JacobianFunction:
    return JacobianFunction(("forward",), kind, JacobianFunction(("reverse",), kind, function, *rest), *rest)


@public(_KNOWN)
def hvp(
    function: Callable[..., Any] | None = None,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function of (x, v, ...) that gives the product of the Hessian of `function` by x with v.

    `function(x, ...)` returns one float scalar; x and v are pytrees of floats of one structure, and so is the result; v
    may have integers for float64.
    Forward over reverse: the time is that of about two gradients, and no Hessian is made.

        >>> import numpy as np, adjit
        >>> product = adjit.hvp(lambda x: np.sum(x**3))
        >>> product(np.array([1.0, 2.0]), np.array([1.0, 10.0])).tolist()
        [6.0, 120.0]

    SciPy's optimisers take it as it is: `scipy.optimize.minimize(adjit.value_and_grad(f), x0, jac=True,
    hessp=adjit.hvp(f), method="trust-ncg")`. Raises what `grad` raises, and ShapeError, DTypeError and ArgumentError
    for a v that does not fit."""
    names, numbers = statics_of("hvp", static_argnames, static_argnums)
    options = options_of("hvp", tile, inexact, memory_limit=memory_limit)

    def decorate(function: Callable[..., Any]) -> HvpFunction:
        return HvpFunction(GradFunction("hvp", function, options, 0, False, names, numbers))

    return decorate if function is None else decorate(function)


class HvpFunction(JitFunction):
    """(x, v, ...) -> the derivative of a gradient by x, along v."""

    kind = "hvp"

    def __init__(self, gradient: GradFunction) -> None:
        self.gradient = gradient
        super().__init__(_product(gradient), gradient.options, gradient.static_argnames, ())


def _product(gradient: GradFunction) -> Callable[..., Any]:
    parameters = list(gradient.__signature__.parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = parameters[0].name if parameters and parameters[0].kind in positional else "x"

    taken = {parameter.name for parameter in parameters}
    vector = next(name for name in ("v", "vector", "along") if name not in taken)

    @functools.wraps(gradient.__wrapped__)
    def product(x: Any, v: Any, /, *args: Any, **kwargs: Any) -> Any:
        def at(x: Any) -> Any:
            return gradient(x, *args, **kwargs)

        at.__signature__ = _signature(first)  # type: ignore[attr-defined]
        if tree_structure(x) != tree_structure(v):
            raise ArgumentError(
                f"hvp: {vector} has the structure of {first}, which {gradient.__name__} is differentiated by"
            )
        moved = JvpFunction("hvp", at, False)
        # What messages call it by; a lambda has its line in its name.
        moved.__name__ = gradient.__name__
        return moved((x,), (tree_map(_float, v),))[1]

    rest = parameters[1:] if parameters and parameters[0].kind in positional else parameters
    product.__signature__ = _signature(first, vector, *rest)  # type: ignore[attr-defined]
    return product


def _float(x: Any) -> Any:
    """A vector of integers as one of floats: SciPy asks with such, too."""
    type = type_of(x)
    return x if type.weak or is_float(type.dtype) else x.astype(np.float64)


def _signature(*parameters: str | inspect.Parameter) -> inspect.Signature:
    """Of parameters; names are of those that go by position."""
    return inspect.Signature(
        [
            inspect.Parameter(each, inspect.Parameter.POSITIONAL_ONLY) if isinstance(each, str) else each
            for each in parameters
        ]
    )
