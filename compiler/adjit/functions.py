"""Compiled functions: what `jit`, `grad` and `value_and_grad` give, and what is built on them.

`stages` has the pipeline; the stages that are a function's own, tracing and differentiating, are here, `compilation`
runs those that are the same for all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optree

from adjit.autodiff.reverse import gradient
from adjit.codegen.interpreter import undisturbed
from adjit.compilation import begin_libraries, compile_graph, log_compilation
from adjit.ir.graph import Graph
from adjit.ir.node import Loc
from adjit.ir.types import Array, is_float
from adjit.profile import Explanation, Profile, explain
from adjit.profile import profile as measure
from adjit.results import checked, split_aux
from adjit.roll import roll
from adjit.stages import Options, Record, Within, limited_record
from adjit.trace import Tracer, current_trace, inline, trace_flat
from adjit.trace.frozen import watched
from adjit.trace.promote import type_of
from adjit_runtime import checks
from adjit_runtime.call import Compiled, CompiledFunction
from adjit_runtime.errors import ArgumentError, DTypeError
from adjit_runtime.guests import tree_flatten, tree_structure
from adjit_runtime.program import is_narrow, wide_dtype
from adjit_runtime.public import public, shorten
from adjit_runtime.trees import LeafType, Signature, as_array


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


class JitFunction(CompiledFunction):
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
        graph, tree = record.build(lambda: watched(self.__wrapped__, self.build, signature, names, record))
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


class Transformed(JitFunction):
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
        signature, record = Signature(tree, types, statics), Record(self.graph_name, self.options())
        graph, results, captures = self._transformed_within(signature, self._names(tree), record)
        return optree.tree_unflatten(results, inline(graph, [*leaves, *captures]))

    def _transformed_within(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The same for what becomes a part of another program."""
        return self.transformed(signature, names, record)

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

    def _transformed_within(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The same; loops keep what that program's limit of memory leaves them."""
        program = limited_record()
        if program is None:
            return self.transformed(signature, names, record)
        if program.options.loops.within:
            record.options = replace(record.options, loops=program.options.loops)
        made = self.transformed(signature, names, record)
        if not record.forward:
            program.within.append(Within(record.until("roll")["roll"], made[0]))
        return made

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


def check_floats(function: JitFunction, wrt: Iterable[int], types: Sequence[LeafType], names: Sequence[str]) -> None:
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


def _parameters(kind: str, function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{kind}: static_argnums counts the parameters of {name_of(function)}, which does not tell them"
        ) from None
