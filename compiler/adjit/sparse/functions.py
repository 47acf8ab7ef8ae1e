"""`sparse_jacobian`, `sparse_hessian` and `pattern`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from adjit.driver import options_of, statics_of
from adjit.functions import GradFunction, trace_call
from adjit.ir.graph import Graph
from adjit.results import check_differentiable, unpack_aux
from adjit.roll import roll
from adjit.sparse.colours import Colouring, Pattern, colouring, star_colouring
from adjit.sparse.compress import compressed
from adjit.sparse.loops import pattern_of
from adjit.sparse.matrix import Entries, Form, scipy_sparse
from adjit.sparse.sets import TooDense, end_to_end
from adjit.stages import Options, Record
from adjit.trace import Tracer, current_trace
from adjit.trace.refuse import trace_error
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.guests import tree_structure
from adjit_runtime.public import public
from adjit_runtime.trees import Signature

SMALL = 64
"""Up to so many rows or columns no matrix is too dense: whoever tries a function out has few."""


class SparseFunction(GradFunction):
    """The Jacobian of a function as a matrix of SciPy, by products as its pattern's colours say."""

    symmetric = False
    dense = "adjit.jacobian"

    def __init__(self, kind: str, function: Callable[..., Any], *rest: Any) -> None:
        super().__init__(kind, function, *rest)
        scipy_sparse(f"adjit.{kind}")
        self._found: tuple[Form, int] | None = None

    def inline(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Raise TraceError: no traced function can go on with a matrix of SciPy."""
        raise trace_error(
            f"{self.kind}: a matrix of SciPy is not traced, so call {self.__name__}'s outside of jit, grad, vmap and "
            "loops; inside, adjit.jvp, vjp and hvp give products with it, and " + self.dense + " all of it"
        )

    @property
    def pattern(self) -> Any:
        """That of the signature that was compiled last: a matrix with True where an entry may be other than 0."""
        return self._last()[0].pattern()

    @property
    def colors(self) -> int:
        """How many products with vectors its entries take."""
        return self._last()[1]

    def _last(self) -> tuple[Form, int]:
        if self._found is None:
            raise ArgumentError(f"{self.kind}: {self.__name__} has no pattern yet, as it was not compiled: call it")
        return self._found

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The graph of the entries, and of aux."""
        traced, wrt, values, aux = self.value(signature, names, record)
        pattern = self.proved(traced, wrt, values)
        colours = self._coloured(pattern)
        record.forward = not colours.reverse
        graph = record.derive("adjoint", functools.partial(_entries, wrt=wrt, values=values, colours=colours), traced)
        form = Form(pattern)
        self._found = form, colours.total
        entries = Entries(form)
        result: Any = (entries, optree.tree_unflatten(aux, range(aux.num_leaves))) if self.has_aux else entries
        return graph, tree_structure(result), []

    def value(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, list[int], int, optree.PyTreeSpec]:
        """The rolled graph of (value, aux), the inputs to differentiate by, how many outputs are the value, and aux."""
        wrt, _ = self.targets(signature, names)
        call = self.on_leaves(signature)
        with record.timed("trace"):
            traced = trace_call(self.graph_name, lambda leaves: self._unpacked(call(leaves)), signature.types, names)
        rolled = record.derive("roll", roll, record.keep("trace", traced.graph))
        values, aux = traced.out_tree.children()
        return rolled, wrt, values.num_leaves, aux

    def _unpacked(self, result: Any) -> tuple[Any, Any]:
        value, aux = unpack_aux(self, result)
        check_differentiable(self, value)
        return value, aux

    def proved(self, graph: Graph, wrt: Sequence[int], values: int) -> Pattern:
        """Where an entry may be other than 0. Raises ArgumentError where that is almost everywhere."""
        width = sum(graph.inputs[i].array_type.size for i in wrt)
        height = sum(node.array_type.size for node in graph.outputs[:values])
        try:
            found = end_to_end(pattern_of(graph, wrt, values)).single()
        except TooDense as error:
            raise self._refusal(height, width, f"more than {error.entries}", "") from None
        if not found.parts:
            return Pattern(np.zeros(height + 1, np.int64), np.zeros(0, np.int64), width)
        table = found.parts[0].table
        pattern = Pattern(table.starts, table.columns, width)
        return pattern.symmetric() if self.symmetric else pattern

    def _coloured(self, pattern: Pattern) -> Colouring:
        small = min(pattern.height, pattern.width)
        if small > SMALL and 2 * pattern.least() > small:
            raise self._refusal(pattern.height, pattern.width, str(len(pattern.columns)), f"{pattern.least()} or more")
        colours = star_colouring(pattern) if self.symmetric else colouring(pattern)
        if small > SMALL and 2 * colours.total > small:
            raise self._refusal(pattern.height, pattern.width, str(len(pattern.columns)), str(colours.total))
        return colours

    def _refusal(self, height: int, width: int, entries: str, colours: str) -> ArgumentError:
        products = f" and take {colours} products" if colours else ""
        return ArgumentError(
            f"{self.kind}: the derivative of {self.__name__}, {height} x {width}, is dense: {entries} of its entries "
            f"may be other than 0{products}; {self.dense} makes all of it, adjit.jvp, vjp and hvp products with vectors"
        )


class SparseHessianFunction(SparseFunction):
    """The same of a gradient: symmetric."""

    symmetric = True
    dense = "adjit.hessian"


class PatternFunction(SparseFunction):
    """What `pattern` shows."""

    def of(self, args: tuple[Any, ...]) -> Any:
        """The pattern for these arguments."""
        if current_trace() is not None:
            return self.inline(args, {})
        signature, _, names = self.signature_of(args, {})
        record = Record(self.graph_name, self.options())
        graph, wrt, values, _ = self.value(signature, names(), record)
        return Form(self.proved(graph, wrt, values)).pattern()


def _entries(graph: Graph, wrt: Sequence[int], values: int, colours: Colouring) -> Graph:
    return compressed(graph, wrt, values, colours)


_KNOWN = {
    "fun": "function", "func": "function", "f": "function", "argnum": "argnums", "aux": "has_aux", "wrt": "argnums",
    "sparsity": "the pattern is proved: adjit.pattern shows it", "static": "static_argnames",
}  # fmt: skip
"""Arguments that other libraries have."""


@public(_KNOWN)
def sparse_jacobian(
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
    """A compiled function that gives the Jacobian of `function` by the arguments `argnums` as a matrix of SciPy.

    The result is a `scipy.sparse.csr_array` of shape (elements of the value, elements of the argument), of the value's
    dtype. Arrays of any shape count in C order; pytrees, and several argnums, leaf by leaf, one after the other, as in
    `ravel`. Where an entry may be other than 0 is proved on the graph of the function when it is compiled, never tried
    with numbers (`adjit.pattern` shows it), so no entry is missed, and entries that happen to be 0 are there. Columns
    that have no row in common share one product in forward mode, or rows one in reverse mode; a few rows or columns
    that are dense are taken apart. All products, and the entries, are one native call; its time is that of as many
    products as `.colors` says. The matrices of one signature share `indices` and `indptr`, which are read-only: take a
    copy of what is to get another pattern. With `has_aux` the function returns (value, aux) and the result is (matrix,
    aux). The arguments after `has_aux` are those of `jit`.

        >>> import numpy as np, adjit
        >>> jacobian = adjit.sparse_jacobian(lambda u: u[1:] * u[:-1])
        >>> jacobian(np.array([1.0, 2.0, 3.0])).toarray().tolist()
        [[2.0, 1.0, 0.0], [0.0, 3.0, 2.0]]
        >>> jacobian.colors, jacobian.pattern.nnz
        (2, 4)

    Needs SciPy, the extra [linalg]: raises MissingExtraError without it. Raises what `jacobian` raises, ArgumentError
    for a Jacobian that is dense, TraceError inside of a traced function, which cannot go on with a matrix of SciPy."""
    return _decorated(
        "sparse_jacobian",
        SparseFunction,
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("sparse_jacobian", tile, inexact, memory_limit=memory_limit),
    )


@public(_KNOWN)
def sparse_hessian(
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
    """A compiled function that gives the second derivatives of `function` by the arguments `argnums` as a matrix.

    As `sparse_jacobian`, of the gradient: `function` returns one float scalar, or (scalar, aux) with `has_aux`, and the
    result is a symmetric `scipy.sparse.csr_array`. Forward over reverse, with a star colouring: by symmetry each entry
    is read from its column's product or from its row's, so that an arrowhead takes two products.

        >>> import numpy as np, adjit
        >>> hessian = adjit.sparse_hessian(lambda u: np.sum((u[1:] - u[:-1]) ** 4))
        >>> hessian(np.array([0.0, 1.0, 1.0])).toarray().tolist()
        [[12.0, -12.0, 0.0], [-12.0, 12.0, 0.0], [0.0, 0.0, 0.0]]

    SciPy's optimisers take it: `scipy.optimize.minimize(adjit.value_and_grad(f), x0, jac=True,
    hess=adjit.sparse_hessian(f), method="trust-constr")`. Raises what `grad` and `sparse_jacobian` raise."""
    return _decorated(
        "sparse_hessian",
        _hessian,
        function,
        argnums,
        has_aux,
        static_argnames,
        static_argnums,
        options_of("sparse_hessian", tile, inexact, memory_limit=memory_limit),
    )


def _hessian(kind: str, function: Callable[..., Any], options: Any, *rest: Any) -> SparseHessianFunction:
    return SparseHessianFunction(kind, GradFunction(kind, function, options, *rest), options, *rest)


def _decorated(
    kind: str,
    make: Callable[..., Any],
    function: Callable[..., Any] | None,
    argnums: int | Sequence[int],
    has_aux: bool,
    static_argnames: str | Iterable[str],
    static_argnums: int | Iterable[int],
    options: Callable[[], Options],
) -> Any:
    statics = statics_of(kind, static_argnames, static_argnums)
    with_aux = checks.flag(f"{kind}: has_aux", has_aux)

    def decorate(function: Callable[..., Any]) -> Any:
        return make(kind, function, options, argnums, with_aux, *statics)

    return decorate if function is None else decorate(function)


@public({"fun": "function", "func": "function", "f": "function", "argnum": "argnums", "wrt": "argnums"})
def pattern(function: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0) -> Any:
    """Where the Jacobian of `function(*args)` by the arguments `argnums` may be other than 0.

    A `scipy.sparse.csr_array` of bools with the shape of the Jacobian, as `sparse_jacobian` has it. Proved on the graph
    from what each operation reads: the numbers in `args` play no part, only their shapes and dtypes. Indices, masks and
    factors that do not depend on arguments are known, and used; what is read at positions that do is taken to be read
    anywhere. So it has all entries that are ever other than 0, and may have more.

        >>> import numpy as np, adjit
        >>> adjit.pattern(lambda u: u[1:] * u[:-1], np.ones(3)).toarray().astype(int).tolist()
        [[1, 1, 0], [0, 1, 1]]

    That of a Hessian is `adjit.pattern(adjit.grad(f), x)`. Needs SciPy, the extra [linalg]: raises MissingExtraError
    without it; else as `sparse_jacobian`."""
    made = PatternFunction("pattern", function, options_of("pattern", "auto", False), argnums, False, (), ())
    return made.of(args)
