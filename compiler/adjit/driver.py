"""What users hold of functions: `jit`, `grad` and `value_and_grad`.

`stages` has the pipeline; the stages that are a function's own, tracing and differentiating, are here, `compilation`
runs those that are the same for all; `training` builds the training step on `Function`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from adjit.autodiff.reverse import gradient
from adjit.codegen.interpreter import undisturbed
from adjit.compilation import begin_libraries, compile_graph, log_compilation, shared_library
from adjit.ir.graph import Graph
from adjit.ir.node import Loc
from adjit.ir.types import Array, is_float
from adjit.profile import Explanation, Profile, explain
from adjit.profile import profile as measure
from adjit.results import checked, split_aux
from adjit.roll import roll
from adjit.stages import Options, Record, Text
from adjit.trace import Tracer, current_trace, inline, trace_flat
from adjit.trace.frozen import watched
from adjit.trace.promote import type_of
from adjit_runtime import checks, log
from adjit_runtime.call import Compiled, CompiledFunction
from adjit_runtime.checkpoint import load, save
from adjit_runtime.errors import ArgumentError, DTypeError
from adjit_runtime.guests import tree_flatten, tree_structure
from adjit_runtime.history import History
from adjit_runtime.program import Library, is_narrow, wide_dtype
from adjit_runtime.public import public, shorten
from adjit_runtime.state import State, layout_of
from adjit_runtime.step import StepFunction
from adjit_runtime.threads import get_threads, set_threads
from adjit_runtime.trees import LeafType, Signature, as_array, flatten, leaf_names, leaf_type

__all__ = [
    "Function", "GradFunction", "History", "Library", "Profile", "Record", "Signature", "State", "StepFunction", "Text",
    "Transformed", "check_floats", "compile_graph", "flatten", "get_threads", "grad", "jit", "layout_of", "leaf_names",
    "leaf_type", "load", "options_of", "save", "set_threads", "shared_library", "split_aux", "statics_of", "trace_call",
    "value_and_grad",
]  # fmt: skip


def trace_call(name: str, call: Callable[[list[Tracer]], Any], types: Sequence[LeafType], names: Sequence[str]) -> Any:
    """Trace a function of a list of leaves."""
    arrays = frozenset(i for i, type in enumerate(types) if type.is_array)
    traced = trace_flat(name, call, [Array(type.dtype, type.shape, type.weak) for type in types], names, arrays)
    begin_libraries(traced.graph)
    return traced


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a function; one without a name of its own is called by its place."""
    name = str(getattr(function, "__name__", type(function).__name__))
    code = getattr(function, "__code__", None)
    if name == "<lambda>" and code is not None:
        return f"<lambda> at {Loc(code.co_filename, code.co_firstlineno)}"
    return name if name.isidentifier() else "function"


def _graph_name(name: str) -> str:
    """The name of a graph: the function's. A lambda's has no line, with which its program would leave the cache."""
    return name if name.isidentifier() else "lambda" if name.startswith("<lambda>") else "function"


class Function(CompiledFunction):
    """A function that is compiled at the first call of each signature.

    `f.ir(stage)` shows what became of it, `f.signatures()` what it was compiled for, `f.__wrapped__` is the plain
    function."""

    kind = "jit"

    def __init__(
        self,
        function: Callable[..., Any],
        options: Callable[[], Options],
        static_argnames: Iterable[str],
        static_argnums: Iterable[int],
        control_flow: bool = False,
    ) -> None:
        # (A training step calls its function a loss.)
        argument = "loss" if self.kind == "training_step" else "function"
        checks.function(f"{self.kind}: {argument}", function)
        names, positions = set(static_argnames), tuple(static_argnums)
        if positions:
            parameters = _parameters(self.kind, function)
            for position in positions:
                if not -len(parameters) <= position < len(parameters):
                    raise ArgumentError(
                        f"{self.kind}: static_argnums has {position}, and {name_of(function)} has no argument of that "
                        "number that could be static"
                    )
                names.add(parameters[position])
        super().__init__(function, name_of(function), names)
        self.graph_name = _graph_name(self.__name__)
        self.records: dict[Signature, Record] = {}
        self.options = options
        if checks.flag(f"{self.kind}: control_flow", control_flow):
            # Fifteen modules, which those who ask for it wait for alone.
            from adjit.rewriting import rewritten

            self.called = rewritten(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The compiled function; inside another traced function it becomes a part of that one."""
        try:
            if current_trace() is not None:
                return self.inline(args, kwargs)
            return super().__call__(*args, **kwargs)
        except Exception as error:
            shorten(error)
            raise

    def inline(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function inside a trace that is under way."""
        return self.called(*args, **kwargs)

    @public(name="ir")
    def ir(self, stage: str, *args: Any, **kwargs: Any) -> Any:
        """What a stage made of the function: "trace", "rolled", "adjoint", "optimized" give a Graph, "plan",
        "llvm", "asm" text.

        Of the last signature, or of the one of the arguments. Both print; a graph's text parses back with
        `adjit.parse`."""
        return self._record(args, kwargs).show(stage)

    @public(name="explain")
    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """Why the kernels of the program are what they are: fused or not, tiled or not, on threads or not.

        Of the last signature, or of the one of the arguments. Prints as text."""
        return explain(self._record(args, kwargs), self.__name__)

    @public(name="profile")
    def profile(self, *args: Any, calls: int = 200, **kwargs: Any) -> Profile:
        """Time of each kernel of the program of these arguments, as the median of `calls` on copies of them.

        A table that prints: the user's lines, microseconds, bytes, GB/s, GFLOP/s and the share of the machine's limit
        (`adjit.machine()`)."""
        record = self._record(args, kwargs)
        calls = checks.integer(f"{self.__name__}.profile: calls", calls, 1)
        return measure(record, self.__name__, self.bound(args, kwargs), calls)

    def retrace(self) -> None:
        """Forget every program, so that the next call of each signature traces the function anew.

        For when something changed that a trace takes as it finds it: arrays and numbers that the function closes over,
        globals, attributes, files.

            >>> import numpy as np, adjit
            >>> scale = np.array([1.0, 2.0])
            >>> f = adjit.jit(lambda x: np.sum(x * scale))
            >>> float(f(np.ones(2)))
            3.0
            >>> scale[:] = 10
            >>> f.retrace()
            >>> float(f(np.ones(2)))
            20.0
        """
        self._lock.run(self._forget)

    def _forget(self) -> None:
        # First the number, by which a state knows the loops that it keeps for this function.
        self.retraced += 1
        self._compiled = {}
        self._used = {}
        self._calls = {}
        self.records = {}
        self._chain(list)

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[np.ndarray]:
        """The arrays that a call gives to the program, in order."""
        signature, leaves, _ = self.call_signature(args, kwargs)
        return [as_array(leaf, wide_dtype(type.dtype)) for leaf, type in zip(leaves, signature.types, strict=True)]

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
        """What there is of the last signature, or of the one of the arguments, which is compiled where it is not."""
        if args or kwargs:
            signature, _, names = self.call_signature(args, kwargs)
            self.compiled(signature, names)
            return self.records[signature]
        if not self.records:
            raise ArgumentError(f"{self.__name__} has not been compiled yet: call it, or pass arguments to ir")
        return next(reversed(self.records.values()))

    def call_signature(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Signature, list[Any], Callable[[], list[str]]]:
        """The signature of a call, its leaves and their names."""
        return self.signature_of(args, kwargs)

    def compile(self, signature: Signature, names: Sequence[str], reason: str) -> Compiled:
        """All stages for one signature."""
        record = Record(self.graph_name, self.options())
        compiled = undisturbed(self._compile, signature, names, record)
        log_compilation(record, signature.describe(names), reason)
        self.records[signature] = record
        return compiled

    def forget(self, signature: Signature) -> None:
        """Let go of a signature's program, and of what its stages made."""
        super().forget(signature)
        self.records.pop(signature, None)

    def _compile(self, signature: Signature, names: Sequence[str], record: Record) -> Compiled:
        graph, tree = watched(self.__wrapped__, self.build, signature, names, record)
        return Compiled(compile_graph(graph, record), tree)

    def build(self, signature: Signature, names: Sequence[str], record: Record) -> tuple[Graph, optree.PyTreeSpec]:
        """The graph to compile, and the tree of its results."""
        with record.timed("trace"):
            traced = trace_call(self.graph_name, self.on_leaves(signature), signature.types, names)
        return record.derive("roll", roll, record.keep("trace", traced.graph)), traced.out_tree

    def on_leaves(self, signature: Signature) -> Callable[[list[Any]], Any]:
        """The plain function as one of a list of leaves."""

        def call(leaves: list[Any]) -> Any:
            given: Any = optree.tree_unflatten(signature.tree, leaves)
            args, kwargs = given
            return checked(self, self.call_plain(args, kwargs, signature.statics))

        return call


class Transformed(Function):
    """A function whose graph is made of that of another one: `transformed` makes it."""

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The graph for a signature, the tree of its results, and the values of enclosing traces that are its last
        inputs."""
        raise NotImplementedError

    def inline(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The transformed function inside a trace: its graph is copied into it."""
        args, kwargs, statics = self._split(args, kwargs)
        call: Any = (args, kwargs)
        leaves, tree = tree_flatten(call)
        # A tracer shows the class of what it stands for.
        types = tuple(
            LeafType(t.dtype, t.shape, t.weak, not t.shape and isinstance(leaf, np.ndarray))
            for leaf, t in zip(leaves, map(type_of, leaves), strict=True)
        )
        record = Record(self.graph_name, self.options())
        graph, results, captures = self.transformed(Signature(tree, types, statics), self._names(tree), record)
        return optree.tree_unflatten(results, inline(graph, [*leaves, *captures]))

    def build(self, signature: Signature, names: Sequence[str], record: Record) -> tuple[Graph, optree.PyTreeSpec]:
        """The transformed graph."""
        graph, tree, _ = self.transformed(signature, names, record)
        return graph, tree


class GradFunction(Transformed):
    """value_and_grad of a function: (value, gradients), or ((value, aux), gradients); its `kind` grad has no value."""

    def __init__(
        self,
        kind: str,
        function: Callable[..., Any],
        options: Callable[[], Options],
        argnums: int | Sequence[int],
        has_aux: bool,
        static_argnames: Iterable[str],
        static_argnums: Iterable[int],
        control_flow: bool = False,
    ) -> None:
        self.kind = kind
        several = checks.several(f"{self.kind}: argnums", argnums, int)
        self.argnums = argnums if isinstance(argnums, int) else several
        if not several or len(set(several)) < len(several):
            raise ArgumentError(f"{self.kind}: argnums is one position or several different ones, not {argnums}")
        super().__init__(function, options, static_argnames, static_argnums, control_flow)
        self.has_aux = has_aux
        self.with_value = kind == "value_and_grad"

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The adjoint graph."""
        wrt, gradient_tree = self.targets(signature, names)
        call = self.on_leaves(signature)
        with record.timed("trace"):
            traced = trace_call(self.graph_name, lambda leaves: self.loss(call(leaves)), signature.types, names)
        count = len(traced.graph.outputs)
        rolled = record.derive("roll", roll, record.keep("trace", traced.graph))
        graph = record.derive("adjoint", functools.partial(_adjoint, wrt, self.with_value), rolled)
        aux_tree = traced.out_tree.children()[1]
        value: Any = (0, optree.tree_unflatten(aux_tree, range(count - 1))) if self.has_aux else 0
        gradients = optree.tree_unflatten(gradient_tree, range(len(wrt)))
        result: Any = (value, gradients)
        if not self.with_value:
            result = (gradients, value[1]) if self.has_aux else gradients
        return graph, tree_structure(result), traced.captures

    def loss(self, result: Any) -> tuple[Any, Any]:
        """(loss, aux) of what the function returned."""
        return split_aux(self, result)

    def targets(self, signature: Signature, names: Sequence[str]) -> tuple[list[int], optree.PyTreeSpec]:
        """The leaves to differentiate by, and the tree of their gradients."""
        positional, _ = signature.tree.children()
        sizes = [child.num_leaves for child in positional.children()]
        numbers = (self.argnums,) if isinstance(self.argnums, int) else self.argnums
        wrt: list[int] = []
        trees = []
        for number in numbers:
            if not -len(sizes) <= number < len(sizes):
                raise ArgumentError(
                    f"{self.kind}: argnums={self.argnums}, and {self.__name__} was called with {len(sizes)} positional "
                    "arguments: give what it is differentiated by without its name"
                )
            number %= len(sizes)
            start = sum(sizes[:number])
            wrt.extend(range(start, start + sizes[number]))
            trees.append(positional.children()[number])
        check_floats(self, wrt, signature.types, names)
        if isinstance(self.argnums, int):
            return wrt, trees[0]
        parts: Any = tuple(optree.tree_unflatten(tree, range(tree.num_leaves)) for tree in trees)
        return wrt, tree_structure(parts)


def check_floats(function: Function, wrt: Iterable[int], types: Sequence[LeafType], names: Sequence[str]) -> None:
    """Raise DTypeError for a leaf that a function is to be differentiated by, and cannot be."""
    for leaf in wrt:
        dtype = types[leaf].dtype
        asked = f"{function.kind}: {function.__name__} is to be differentiated by {names[leaf]}, which is"
        if is_float(dtype) and is_narrow(dtype):
            raise DTypeError(
                f"{asked} {types[leaf]}; no machine code exists for its gradient: write "
                f"x.astype(np.{wide_dtype(dtype).name})"
            )
        if not is_float(dtype):
            raise DTypeError(f"{asked} {_whole(types[leaf])}")


def _whole(type: LeafType) -> str:
    """What an argument without a gradient is, and what to write."""
    if type.dtype.kind not in "iu":
        return f"{type}; only floats have a gradient"
    if type.weak:
        return "a Python int; only floats have a gradient: write it with a point, 1.0"
    return f"{type}; only floats have a gradient: write x.astype(float)"


def _adjoint(wrt: Sequence[int], with_value: bool, traced: Graph) -> Graph:
    """The gradient of a trace. Without the value its outputs are the gradients, then what is beside the value."""
    graph = gradient(traced, wrt)
    if with_value:
        return graph
    count = len(traced.outputs)
    return Graph(graph.name, graph.inputs, graph.nodes, (*graph.outputs[count:], *graph.outputs[1:count]))


_KNOWN = {
    "argnum": "argnums",
    "static_argnum": "static_argnums",
    "static_argname": "static_argnames",
    "static": "static_argnames",
    "aux": "has_aux",
    "wrt": "argnums counts the positional arguments, as argnums=(0, 1)",
    "donate_argnums": "results are new arrays; a training step updates its state in place",
    "donate_argnames": "results are new arrays; a training step updates its state in place",
    "fastmath": "inexact",
    "fast_math": "inexact",
    "backend": "adjit compiles for this CPU",
    "device": "adjit compiles for this CPU",
}
"""Arguments that other libraries have."""


@public(_KNOWN)
def jit(
    function: Callable[..., Any] | None = None,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A function of NumPy arrays, compiled to machine code at the first call of each signature.

    Arguments and results are pytrees of arrays and numbers: float32, float64, int32, int64, uint8, bool (uint64 too).
    Dataclasses and classes that are registered with optree are pytrees; array.array, a Series and a DataFrame of one
    dtype are the arrays of their values. Arrays of other integers and float16 are taken, too, and promoted as in NumPy
    where they meet others; what NumPy computes in such a dtype wants a cast.
    Arguments named in `static_argnames`, or numbered in `static_argnums`, are part of the signature and stay plain
    Python values inside. Results are new arrays, scalars where they have no dimensions. With `tile="off"` nothing runs
    tile by tile over rows, as it otherwise does where the plan finds that it pays. With `inexact=True` rewrite rules
    run that hold on the reals alone, such as x / 3.0 = x * (1 / 3.0) and x - x = 0: results agree to rounding, but NaN,
    infinities and the sign of zero may be lost (docs/performance.md has the rules). With `control_flow=True` the source
    of the function, and of those of the user's own that it calls, is rewritten ahead of the trace: if, while, for, and,
    or, not and their like run as Python while their values are known, and are branches and loops of the program where
    they are traced (docs/control_flow.md). With `memory_limit`, a number of bytes or a text such as "200MB", a call
    needs no more memory than that beside its arguments, results and state (ADJIT_LOG=compile says how much it needs):
    what gradients read late is computed again, as far as that takes (docs/performance.md; `ir("plan")` begins with
    what). Also a decorator:

        >>> import numpy as np, adjit
        >>> @adjit.jit
        ... def norm(x):
        ...     return np.sqrt(np.sum(x * x))
        >>> float(norm(np.array([3.0, 4.0])))
        5.0

    Raises TraceError, with the line, for what cannot be compiled; ShapeError, DTypeError and IndexOutOfRange where
    NumPy would raise ValueError, TypeError and IndexError; ArgumentError for an argument that is no array; OutOfMemory,
    a MemoryError, for a limit that is out of reach, with the least that is not."""
    if function is None:
        return functools.partial(
            jit, static_argnames=static_argnames, static_argnums=static_argnums, tile=tile, inexact=inexact,
            control_flow=control_flow, memory_limit=memory_limit,
        )  # fmt: skip
    names, numbers = statics_of("jit", static_argnames, static_argnums)
    return Function(function, options_of("jit", tile, inexact, memory_limit=memory_limit), names, numbers, control_flow)


@public(_KNOWN)
def value_and_grad(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the value of `function` and its gradient by the arguments `argnums`.

    `function` returns one float scalar, or (scalar, aux) with `has_aux`. The result is (value, gradient) or ((value,
    aux), gradient); the gradient has the pytree, shapes and dtypes of the argument, and is a tuple for several argnums.
    Argnums count positional arguments; the arguments after `has_aux` are those of `jit`.

        >>> import numpy as np, adjit
        >>> value, slope = adjit.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
        >>> float(value), slope.tolist()
        (5.0, [2.0, 4.0])

    Inside another traced function it differentiates there, so gradients of gradients work. Raises what `jit` raises,
    DTypeError for an argument that is no float, ShapeError where the result is no scalar."""
    return _gradient_function(
        "value_and_grad", function, argnums, has_aux, static_argnames, static_argnums, control_flow,
        options_of("value_and_grad", tile, inexact, memory_limit=memory_limit),
    )  # fmt: skip


@public(_KNOWN)
def grad(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the gradient of `function`, as `value_and_grad` without the value.

    With `has_aux` the result is (gradient, aux).

        >>> import numpy as np, adjit
        >>> cube = lambda x: x**3
        >>> float(adjit.grad(adjit.grad(cube))(2.0))
        12.0
    """
    return _gradient_function(
        "grad", function, argnums, has_aux, static_argnames, static_argnums, control_flow,
        options_of("grad", tile, inexact, memory_limit=memory_limit),
    )  # fmt: skip


def _gradient_function(
    kind: str,
    function: Callable[..., Any] | None,
    argnums: int | Sequence[int],
    has_aux: bool,
    static_argnames: str | Iterable[str],
    static_argnums: int | Iterable[int],
    control_flow: bool,
    options: Callable[[], Options],
) -> Any:
    """The compiled gradient of a function; without one, the decorator that makes it."""
    names, numbers = statics_of(kind, static_argnames, static_argnums)
    with_aux = checks.flag(f"{kind}: has_aux", has_aux)

    def decorate(function: Callable[..., Any]) -> GradFunction:
        return GradFunction(kind, function, options, argnums, with_aux, names, numbers, control_flow)

    return decorate if function is None else decorate(function)


def options_of(
    kind: str, tile: str, inexact: bool, flush: bool = False, memory_limit: int | str | None = None
) -> Callable[[], Options]:
    """What a user chose; each program gets it with the target of the moment in which it is made."""
    in_tiles = checks.choice(f"{kind}: tile", tile, ("auto", "off")) == "auto"
    exact = checks.flag(f"{kind}: inexact", inexact)
    limit = checks.nbytes(f"{kind}: memory_limit", memory_limit)
    return functools.partial(Options, in_tiles, flush, exact, memory_limit=limit)


def statics_of(
    kind: str, names: str | Iterable[str], numbers: int | Iterable[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names and numbers of static arguments."""
    return (
        checks.several(f"{kind}: static_argnames", names, str),
        checks.several(f"{kind}: static_argnums", numbers, int),
    )


def _parameters(kind: str, function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{kind}: static_argnums counts the parameters of {name_of(function)}, which does not tell them"
        ) from None


log.configure()
