"""training_step: a loss function and an optimiser become one native step that updates a state in place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from adjit.autodiff.reverse import gradient
from adjit.driver import options_of
from adjit.functions import JitFunction, trace_call
from adjit.ir.graph import Graph, with_updates
from adjit.optim import Optimizer, Schedule
from adjit.optim.optimizer import Mask
from adjit.optim.schedule import Numbers
from adjit.profile import Profile
from adjit.random import fold_in
from adjit.results import split_aux
from adjit.roll import roll
from adjit.stages import Options, Record
from adjit.trace import inline
from adjit.trace.integers import bound
from adjit.updating import Updating
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, StateError
from adjit_runtime.models import numbers_for
from adjit_runtime.program import is_narrow
from adjit_runtime.public import public
from adjit_runtime.state import Layout, State, layout_of
from adjit_runtime.step import StepFunction
from adjit_runtime.trees import Signature, flatten, leaf_names, leaf_type

MOST_DEEP = 100
"""Containers in one another that parameters may lie in: a state shows them by recursion."""
_EXTRAS = ("clip_norm", "clip_value", "weight_decay", "l1", "l2")


class TrainingStep(StepFunction, JitFunction):
    """A compiled training step; `training_step` makes it. Call it with a state and a batch.

    `init(params)` makes a state, `run` trains over data, `ir(stage)` shows what became of the loss."""

    kind = "training_step"
    depth = 0
    """How many axes of models a state has: a step of `vmap` is of many models."""

    def __init__(
        self,
        loss: Callable[..., Any],
        options: Callable[[], Options],
        optimizer: Optimizer,
        has_aux: bool,
        extras: Mapping[str, Numbers | None],
        regularized: Mask | None,
        static_argnames: Iterable[str],
        control_flow: bool = False,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(
                "training_step: optimizer is an optimiser, such as adjit.optim.adam(1e-3), not "
                f"{checks.shown(optimizer)}"
            )
        super().__init__(loss, options, static_argnames, (), control_flow)
        self.optimizer = optimizer
        self.has_aux = has_aux
        self.regularized = regularized
        self.hyper = {**optimizer.hyper, **{name: value for name, value in extras.items() if value is not None}}
        self.extras = {name for name, value in extras.items() if value is not None}
        for name in self.extras & set(optimizer.hyper):
            raise ArgumentError(f"training_step: {optimizer.name} has a {name} of its own; give it there")
        if "weight_decay" in self.extras and optimizer.hyper.get("learning_rate") is None:
            raise ArgumentError("training_step: weight_decay needs an optimiser with a learning_rate")
        self.structural = {
            name: f"it was switched off when the step was made, so there is no code for it; make a step with {name}"
            for name in (*optimizer.hyper, *(extra for extra in _EXTRAS if extra not in optimizer.hyper))
            if self.hyper.get(name) is None
        }
        off = frozenset(self.structural)
        self.updating = Updating(self.__name__, optimizer, self.hyper, frozenset(self.extras), off, regularized)
        self._fitting: set[Any] = set()
        self._wants_key = self._read_signature()

    def _read_signature(self) -> bool:
        """Whether the loss takes a key. The step's own signature has a state in place of the parameters."""
        parameters = list(self.__signature__.parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if not parameters or parameters[0].kind not in (*positional, inspect.Parameter.VAR_POSITIONAL):
            raise ArgumentError(f"{self.__name__}: the loss takes the parameters as its first argument")
        if parameters[0].name in self.static_argnames:
            raise ArgumentError(f"{self.__name__}: the parameters cannot be static")
        wants_key = any(p.name == "key" and p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
        state = inspect.Parameter("state", inspect.Parameter.POSITIONAL_ONLY)
        rest = parameters if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL else parameters[1:]
        kept = [p for p in rest if p.kind is not inspect.Parameter.KEYWORD_ONLY or p.name != "key"]
        self.__signature__ = inspect.Signature([state, *kept])
        return wants_key

    def _lacks_key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the loss has a `key` that a batch may fill, and this one does not."""
        parameter = self.__signature__.parameters.get("key")
        if parameter is None or parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            return False
        if "key" in self.static_argnames or parameter.default not in (None, inspect.Parameter.empty):
            return False
        try:
            return "key" not in self.__signature__.bind_partial(None, *args, **kwargs).arguments
        except TypeError:
            # The call does not fit at all, and is refused with what does.
            return False

    # -- states -------------------------------------------------------------------------------------------------------

    @public({"seed": "key", "rng": "key", "parameters": "params"}, "init")
    def init(self, params: Any, *, key: int = 0) -> State:
        """A state with copies of the parameters: a pytree of float32 and float64 arrays.

        `key` is the integer that a loss with the argument `key` gets its random numbers from. Raises DTypeError for a
        parameter of another dtype, ArgumentError for what is no array or no integer, WeakOverflowError (an
        OverflowError) for a key outside int64."""
        number = checks.integer(f"{self.__name__}.init: key", key)
        layout, values = self.layout(*self.parameters(params))
        return State(layout, [*values, number, 0], self.__name__)

    def parameters(self, params: Any) -> tuple[list[np.ndarray], optree.PyTreeSpec]:
        """The arrays of a pytree of parameters, and the tree."""
        leaves, spec = flatten(params)
        if max(map(len, spec.paths()), default=0) > MOST_DEEP:
            raise ArgumentError(f"{self.__name__}: params is nested too deep, in more than {MOST_DEEP} containers")
        arrays = []
        for name, leaf in zip(leaf_names(spec, "params"), leaves, strict=True):
            if not isinstance(leaf, np.ndarray | np.generic | float):
                instead = ": write it with a point, 1.0" if type(leaf) is int else checks.own_class(leaf)
                raise ArgumentError(f"{self.__name__}: {name} is {checks.kind(leaf)}, not an array or a float{instead}")
            if isinstance(leaf, np.ndarray) and not checks.computes_plainly(leaf):
                raise ArgumentError(f"{self.__name__}: {name}: {checks.own_rules(leaf)}")
            array = np.asarray(leaf)
            if array.dtype.newbyteorder("=") not in (np.dtype(np.float32), np.dtype(np.float64)):
                raise DTypeError(
                    f"{self.__name__}: {name} is {array.dtype}; parameters are float32 or float64, and what is not "
                    "trained is an argument of the loss"
                )
            arrays.append(array.astype(array.dtype.newbyteorder("="), copy=False))
        return arrays, spec

    def layout(
        self, arrays: Sequence[np.ndarray], spec: optree.PyTreeSpec, models: tuple[int, ...] = ()
    ) -> tuple[Layout, list[Any]]:
        """The layout of a state with these parameters, and the values of all its leaves but key and step count. All
        have the axes of the `models` first."""
        kept = [self._kept(array, models) for array in arrays]
        hyper: dict[str, Any] = {}
        for name, value in self.hyper.items():
            if isinstance(value, Schedule):
                hyper[name] = {key: self._numbers(f"{name}.{key}", n, models) for key, n in value.numbers.items()}
            elif value is not None:
                hyper[name] = self._numbers(name, value, models)
        trees = (optree.tree_unflatten(spec, arrays), optree.tree_unflatten(spec, kept))
        shared = {name: np.full(models, float(initial)) for name, (initial, _) in self.optimizer.shared.items()}
        return layout_of(*trees, shared, hyper, self.structural, models)

    def _numbers(self, name: str, value: Any, models: tuple[int, ...]) -> np.ndarray:
        return numbers_for(f"{self.__name__}: {name}", value, models)

    def _kept(self, array: np.ndarray, models: tuple[int, ...]) -> Any:
        """What the optimiser keeps for a parameter: a pytree of arrays and numbers, of many models stacked."""
        if models:
            each, trees = zip(*(flatten(self._kept(np.asarray(one), models[1:])) for one in array), strict=True)
            stacked: Any = [np.stack(leaves) for leaves in zip(*each, strict=True)]
            return optree.tree_unflatten(trees[0], stacked)
        kept = self.optimizer.init(array)
        for leaf in flatten(kept)[0]:
            type = leaf_type(leaf, f"{self.optimizer.name}: what init keeps")
            if is_narrow(type.dtype):
                raise DTypeError(f"{self.optimizer.name}: what init keeps is {type}, which no machine code exists for")
        return kept

    def check_state(self, state: Any) -> None:
        """Refuse what is no state, or the state of a step with another optimiser or form."""
        if not isinstance(state, State):
            raise ArgumentError(
                f"{self.__name__}: a training step takes a state, which step.init(params) makes, not "
                f"{checks.kind(state)}"
            )
        if state.layout in self._fitting:
            return
        models = state.layout.models
        if len(models) != self.depth:
            raise StateError(
                f"{self.__name__}: {state!r} does not fit this step, which is of "
                + ("one model: adjit.vmap(step) is of many" if not self.depth else "many: its init makes their state")
            )
        if self.layout(*self.parameters(state.params), models)[0] is not state.layout:
            raise StateError(
                f"{self.__name__}: {state!r} does not fit this step: the optimiser or its options are others than "
                "those it was made for"
            )
        self._fitting.add(state.layout)

    def call_signature(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What `ir` needs of a call."""
        if not args:
            raise ArgumentError(f"{self.__name__}: ir takes the state first, then the batch")
        self.check_state(args[0])
        return self.step_signature(args[0], args[1:], kwargs)

    @public(name="profile")
    def profile(self, *args: Any, calls: int = 200, steps: int | None = None, **kwargs: Any) -> Profile:
        """Time of each kernel of a step on a copy of the state: `step.profile(state, x, y, steps=200)`; see `jit`."""
        count = calls if steps is None else checks.integer(f"{self.__name__}.profile: steps", steps, 1)
        return super().profile(*args, calls=count, **kwargs)

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[np.ndarray]:
        """The leaves of the state, then those of the batch."""
        state = args[0]
        return [*state.leaves(), *super().bound(args, kwargs)]

    # -- the graph ----------------------------------------------------------------------------------------------------

    def build(self, signature: Signature, names: Sequence[str], record: Record) -> tuple[Graph, optree.PyTreeSpec]:
        """The graph of the whole step: loss, adjoint, clipping and optimiser, with updates of the state."""
        layout = signature.layout
        count = layout.params.num_leaves
        with record.timed("trace"):
            loss = self._loss(signature, names)
        rolled = record.derive("roll", roll, record.keep("trace", loss.graph))
        adjoint = record.derive("adjoint", functools.partial(gradient, wrt=range(count)), rolled)
        n_outputs = len(loss.graph.outputs)

        def whole(adjoint: Graph, leaves: list[Any]) -> list[Any]:
            state, batch = leaves[: len(layout.types)], leaves[len(layout.types) :]
            # No one makes more steps than float64 counts.
            bound(state[-1], 0, 2**53)
            key = [fold_in(state[-2], state[-1])] if self._wants_key else []
            results = inline(adjoint, [*state[:count], *batch, *key])
            tables = self.updating.tables(layout, state, results[n_outputs:], loss.tables)
            gradients = [tables[i].gradient if i in tables else g for i, g in enumerate(results[n_outputs:])]
            value, penalised = self.updating.penalised(layout, state, results[0], gradients)
            return [value, *results[1:n_outputs], *self.updating.updated(layout, state, penalised, tables)]

        def step(adjoint: Graph) -> Graph:
            call, types = functools.partial(whole, adjoint), (*layout.types, *signature.types)
            traced = trace_call(self.graph_name, call, types, (*layout.names, *names))
            return with_updates(traced.graph, n_outputs, self._targets(layout))

        with record.timed("step"):
            graph = step(adjoint)
        return record.keep("step", graph, ("adjoint", step)), loss.out_tree.children()[1]

    def _loss(self, signature: Signature, names: Sequence[str]) -> Any:
        layout = signature.layout
        count = layout.params.num_leaves

        def call(leaves: list[Any]) -> Any:
            params = optree.tree_unflatten(layout.params, leaves[:count])
            batch = leaves[count : count + len(signature.types)]
            given: Any = optree.tree_unflatten(signature.tree, batch)
            (_, *args), kwargs = given
            if self._wants_key:
                kwargs = {**kwargs, "key": leaves[-1]}
            elif self._lacks_key(args, kwargs):
                raise ArgumentError(
                    f"{self.__name__}: the argument `key` of the loss gets a key from the state where it is "
                    "keyword-only, and stays empty here: write a * before it, as in loss(params, x, *, key=None)"
                )
            return split_aux(self, self.call_plain((params, *args), kwargs, signature.statics))

        types = [*layout.types[:count], *signature.types]
        all_names = [*layout.names[:count], *names]
        if self._wants_key:
            types.append(layout.types[-2])
            all_names.append("key")
        traced = trace_call(self.graph_name, call, types, all_names)
        if traced.captures:
            raise ArgumentError(f"{self.__name__}: a training step cannot be called inside a traced function")
        return traced

    def _targets(self, layout: Any) -> list[int]:
        """The numbers of the state's leaves that a step replaces: parameters, moments, shared numbers, step count."""
        return [*range(layout.parts["shared"].stop), len(layout.types) - 1]


@public(
    {
        "optim": "optimizer", "opt": "optimizer", "loss_fn": "loss", "model": "loss", "function": "loss",
        "aux": "has_aux", "max_norm": "clip_norm", "clip": "clip_norm", "grad_clip": "clip_norm",
        "clipnorm": "clip_norm", "fastmath": "inexact", "fast_math": "inexact",
        "clipvalue": "clip_value", "wd": "weight_decay", "static_argnums": "static_argnames",
        "lr": "the rate is the optimiser's, as adjit.optim.adam(1e-3)",
        "learning_rate": "the rate is the optimiser's, as adjit.optim.adam(1e-3)",
    }
)  # fmt: skip
def training_step(
    loss: Callable[..., Any],
    optimizer: Optimizer,
    *,
    has_aux: bool = False,
    clip_norm: Numbers | None = None,
    clip_value: Numbers | None = None,
    weight_decay: Numbers | None = None,
    l1: Numbers | None = None,
    l2: Numbers | None = None,
    regularized: Mask | None = None,
    static_argnames: str | Iterable[str] = (),
    tile: str = "auto",
    flush_subnormals: bool = True,
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> TrainingStep:
    """One native function that makes a training step: loss, gradients, clipping and update of the state in place.

    `loss(params, *batch)` returns a float scalar, or (scalar, aux) with `has_aux`. A keyword-only argument `key` of it
    gets a key made from the state's key and step count (see `adjit.random`).

    clip_value     each gradient is clipped to [-clip_value, clip_value]
    clip_norm      then all are scaled so that their common norm is at most clip_norm (Pascanu et al. 2013)
    weight_decay   decoupled: p -= learning_rate * weight_decay * p (Loshchilov and Hutter 2019)
    l1, l2         l1 * sum |p| and l2 * sum p^2 are added to the loss
    regularized    a function from the parameters (shapes and dtypes) to a pytree of bools: the leaves to which
                   weight_decay, l1 and l2 apply; all of them without it
    tile           "off": never tile by tile over the rows of the batch; "auto": where the plan finds that it pays
    flush_subnormals   within the step numbers below the smallest normal one (1.2e-38, float64 2.2e-308) count as zero,
                   as many processors are slow with them, and moments that decay end there; False: as IEEE 754 has it
    inexact        rewrite rules run that hold on the reals alone: see `jit`
    control_flow   if, while and their like on traced values become branches and loops: see `jit`
    memory_limit   the most bytes, as a number or as "200MB", that the step may need beside state, batch and result:
                   what the gradient reads late is computed again, see `jit`

    The numbers are in `state.hyper` and may be changed between steps; None or 0 switches one off for good. Each of
    them, and those of the optimiser and of schedules, may be an array with one for each model: `adjit.vmap` of the step
    trains many models at once.

        >>> import numpy as np, adjit
        >>> def loss(params, x, y):
        ...     return np.mean((x @ params["w"] - y) ** 2)
        >>> step = adjit.training_step(loss, adjit.optim.sgd(0.1))
        >>> state = step.init({"w": np.zeros(2)})
        >>> step(state, np.eye(2), np.ones(2))
        1.0
        >>> state.params["w"].tolist()
        [0.1, 0.1]

    Raises what `jit` raises; StateError for a state that is busy, closed or of another step."""
    extras = {"clip_norm": clip_norm, "clip_value": clip_value, "weight_decay": weight_decay, "l1": l1, "l2": l2}
    switched = {
        name: None if value is None else checks.or_off(f"training_step: {name} is None or", value)
        for name, value in extras.items()
    }
    for name in ("clip_norm", "clip_value"):
        # One model alone cannot have no code for it, and clipped to 0 it would not move.
        if isinstance(limits := switched[name], np.ndarray) and not limits.all():
            raise ArgumentError(f"training_step: {name} is 0 for one of several models, which np.inf leaves unclipped")
    if regularized is not None:
        checks.function("training_step: regularized", regularized)
    names = checks.several("training_step: static_argnames", static_argnames, str)
    with_aux = checks.flag("training_step: has_aux", has_aux)
    flushes = checks.flag("training_step: flush_subnormals", flush_subnormals)
    options = options_of("training_step", tile, inexact, flushes, memory_limit)
    return TrainingStep(loss, options, optimizer, with_aux, switched, regularized, names, control_flow)
