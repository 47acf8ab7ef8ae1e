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
from adjit.optim import Optimizer
from adjit.optim.optimizer import Mask
from adjit.optim.rules import (
    Rule,
    assigned,
    check_extras,
    hyper_of_rules,
    initial_numbers,
    initial_shared,
    switched_off,
)
from adjit.optim.schedule import Numbers
from adjit.profile import Profile
from adjit.random import fold_in
from adjit.results import renewed, split_aux, split_state
from adjit.roll import roll
from adjit.stages import Options, Record
from adjit.trace import inline
from adjit.trace.integers import bound
from adjit.updating import Updating
from adjit.watching import Watch, named, norms, watched
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, StateError
from adjit_runtime.guests import tree_structure
from adjit_runtime.models import numbers_for
from adjit_runtime.program import is_narrow, wide_dtype
from adjit_runtime.public import public
from adjit_runtime.state import Layout, State, layout_of
from adjit_runtime.step import StepFunction
from adjit_runtime.trees import Signature, flatten, leaf_names, leaf_type

Leaves = tuple[Sequence[np.ndarray], optree.PyTreeSpec]
MOST_DEEP = 100
"""Containers in one another that parameters may lie in: a state shows them by recursion."""
_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL,
)  # fmt: skip
_EXTRAS = ("clip_norm", "clip_value", "weight_decay", "l1", "l2")
_NO_STATE = flatten(None)[1]


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
        has_state: bool,
        watches: tuple[str, ...],
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
        self.has_state = has_state
        self.watches = watches
        self.regularized = regularized
        given = {name: value for name, value in extras.items() if value is not None}
        self.hyper = {**hyper_of_rules(optimizer), **given}
        self.extras = set(given)
        check_extras(optimizer, self.extras)
        self.structural = {
            name: f"it was switched off when the step was made, so there is no code for it; make a step with {name}"
            for name in switched_off(dict.fromkeys(_EXTRAS) | self.hyper)
        }
        off = frozenset(self.structural)
        self.updating = Updating(self.__name__, optimizer, self.hyper, frozenset(self.extras), off, regularized)
        self._fitting: set[Any] = set()
        self._wants_key = self._read_signature()

    def _read_signature(self) -> bool:
        """Whether the loss takes a key. The step's own signature has a state in place of the parameters."""
        parameters = list(self.__signature__.parameters.values())
        if not parameters or parameters[0].kind not in _POSITIONAL:
            raise ArgumentError(f"{self.__name__}: the loss takes the parameters as its first argument")
        own = parameters[: 1 + self.has_state]
        taking = next((i for i, p in enumerate(own) if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
        if taking is not None:
            own = own[:taking]
        elif len(own) < 1 + self.has_state or own[-1].kind not in _POSITIONAL:
            raise ArgumentError(
                f"{self.__name__}: with state=True the loss takes the parameters first, then the state, by position: "
                "def loss(params, state, x, y)"
            )
        for parameter in own:
            if parameter.name in self.static_argnames:
                raise ArgumentError(
                    f"{self.__name__}: {parameter.name} cannot be static: parameters and state are traced"
                )
        wants_key = any(p.name == "key" and p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
        kept = [p for p in parameters[len(own) :] if p.kind is not inspect.Parameter.KEYWORD_ONLY or p.name != "key"]
        name = "state" if all(p.name != "state" for p in kept) else "training_state"
        self.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY), *kept])
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

    @public({"seed": "key", "rng": "key", "parameters": "params", "state": "model_state"}, "init")
    def init(self, params: Any, model_state: Any = None, *, key: int = 0) -> State:
        """A state with copies of the parameters: a pytree of float32 and float64 arrays.

        `model_state` is what a loss of a step with `state=True` takes beside the parameters at the first step: a pytree
        of arrays of any dtype that machine code exists for, and of Python numbers, which become float64, int64 and
        bool. `key` is the integer that a loss with the argument `key` gets its random numbers from. Raises DTypeError
        for arrays of other dtypes, ArgumentError for what is no array or no integer and for a model state that the step
        does not have or lacks, WeakOverflowError (an OverflowError) for a key outside int64."""
        number = checks.integer(f"{self.__name__}.init: key", key)
        layout, values = self.layout(self.parameters(params), self.carried(model_state))
        return State(layout, [*values, number, 0], self.__name__)

    def _flattened(self, tree: Any, root: str) -> tuple[list[Any], optree.PyTreeSpec]:
        leaves, spec = flatten(tree)
        if max(map(len, spec.paths()), default=0) > MOST_DEEP:
            raise ArgumentError(f"{self.__name__}: {root} is nested too deep, in more than {MOST_DEEP} containers")
        return leaves, spec

    def carried(self, model_state: Any) -> Leaves:
        """The arrays of a model state, and the tree."""
        if (model_state is not None) is not self.has_state:
            raise ArgumentError(
                f"{self.__name__}.init: "
                + (
                    "the loss takes a state beside the parameters: init(params, model_state)"
                    if self.has_state
                    else "model_state is for a loss that takes and gives back a state: make the step with state=True"
                )
            )
        leaves, spec = self._flattened(model_state, "model_state")
        arrays = []
        for name, leaf in zip(leaf_names(spec, "model_state"), leaves, strict=True):
            if not isinstance(leaf, np.ndarray | np.generic | bool | int | float):
                raise ArgumentError(
                    f"{self.__name__}: {name} is {checks.kind(leaf)}, not an array or a number{checks.own_class(leaf)}"
                )
            dtype = leaf_type(leaf, f"{self.__name__}: {name}").dtype
            if is_narrow(dtype):
                raise DTypeError(
                    f"{self.__name__}: {name} is {dtype}, which no machine code keeps: write "
                    f"x.astype(np.{wide_dtype(dtype).name})"
                )
            arrays.append(np.asarray(leaf, dtype))
        return arrays, spec

    def parameters(self, params: Any) -> Leaves:
        """The arrays of a pytree of parameters, and the tree."""
        leaves, spec = self._flattened(params, "params")
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

    def layout(self, params: Leaves, carried: Leaves, models: tuple[int, ...] = ()) -> tuple[Layout, list[Any]]:
        """The layout of a state with these parameters and this model state, and the values of all its leaves but key
        and step count. All have the axes of the `models` first."""
        arrays, spec = params
        rules = assigned(self.optimizer, leaf_names(spec, "params"))
        kept = [self._kept(rule, array, models) for rule, array in zip(rules, arrays, strict=True)]
        hyper = initial_numbers(self.hyper, functools.partial(self._numbers, models=models))
        trees = (optree.tree_unflatten(spec, arrays), optree.tree_unflatten(spec, kept), _tree(carried))
        shared = {name: np.full(models, number) for name, number in initial_shared(self.optimizer, self.hyper).items()}
        return layout_of(*trees, shared, hyper, self.structural, models)

    def _numbers(self, name: str, value: Any, models: tuple[int, ...]) -> np.ndarray:
        return numbers_for(f"{self.__name__}: {name}", value, models)

    def _kept(self, rule: Rule, array: np.ndarray, models: tuple[int, ...]) -> Any:
        """What the optimiser keeps for a parameter: a pytree of arrays and numbers, of many models stacked."""
        if models:
            each, trees = zip(*(flatten(self._kept(rule, np.asarray(one), models[1:])) for one in array), strict=True)
            stacked: Any = [np.stack(leaves) for leaves in zip(*each, strict=True)]
            return optree.tree_unflatten(trees[0], stacked)
        kept = rule.initial(array, self.optimizer)
        for leaf in flatten(kept)[0]:
            type = leaf_type(leaf, f"{rule.optimizer.name}: what init keeps")
            if is_narrow(type.dtype):
                raise DTypeError(f"{rule.optimizer.name}: what init keeps is {type}, which no machine code exists for")
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
        if (state.layout.model_state != _NO_STATE) is not self.has_state:
            raise StateError(
                f"{self.__name__}: {state!r} does not fit this step, whose loss takes "
                + ("a state beside the parameters, too" if self.has_state else "no state beside the parameters")
            )
        carried = (state.values()[state.layout.parts["model_state"]], state.layout.model_state)
        if self.layout(self.parameters(state.params), carried, models)[0] is not state.layout:
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

    def parts_of(self, result: Any) -> tuple[Any, Any]:
        """(aux, norms) of what steps give beside the loss."""
        if not self.watches:
            return result, None
        return result if self.has_aux else (None, result)

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
        n_kept = len(loss.graph.outputs)
        n_outputs = n_kept - layout.model_state.num_leaves

        def whole(adjoint: Graph, leaves: list[Any]) -> list[Any]:
            state, batch = leaves[: len(layout.types)], leaves[len(layout.types) :]
            # No one makes more steps than float64 counts.
            bound(state[-1], 0, 2**53)
            key = [fold_in(state[-2], state[-1])] if self._wants_key else []
            results = inline(adjoint, [*state[:count], *state[layout.parts["model_state"]], *batch, *key])
            tables = self.updating.tables(layout, state, results[n_kept:], loss.tables)
            gradients = [tables[i].gradient if i in tables else g for i, g in enumerate(results[n_kept:])]
            value, penalised = self.updating.penalised(layout, state, results[0], gradients)
            clipped = self.updating.clipped(layout, state, penalised)
            new, others = self.updating.updated(layout, state, clipped, value, tables)
            found = norms(self.watches, state[:count], penalised, new[:count], tables)
            return [value, *results[1:n_outputs], *found, *new, *results[n_outputs:n_kept], *others]

        def step(adjoint: Graph) -> Graph:
            call, types = functools.partial(whole, adjoint), (*layout.types, *signature.types)
            traced = trace_call(self.graph_name, call, types, (*layout.names, *names))
            return with_updates(traced.graph, n_outputs + len(self.watches), self._targets(layout))

        with record.timed("step"):
            graph = step(adjoint)
        return record.keep("step", graph, ("adjoint", step)), self._out_tree(layout, loss.out_tree.children()[1])

    def _out_tree(self, layout: Layout, aux: optree.PyTreeSpec) -> optree.PyTreeSpec:
        """The tree of what a step gives beside the loss: aux, norms, or a pair of them."""
        if not self.watches:
            return aux
        record = named(self.watches, layout, self.watches)
        return tree_structure((optree.tree_unflatten(aux, range(aux.num_leaves)), record) if self.has_aux else record)

    def _loss(self, signature: Signature, names: Sequence[str]) -> Any:
        """The trace of the loss: its value, aux, and the leaves of the new model state."""
        layout = signature.layout
        count, own = layout.params.num_leaves, layout.parts["model_state"]
        first = count + layout.model_state.num_leaves

        def call(leaves: list[Any]) -> Any:
            params = optree.tree_unflatten(layout.params, leaves[:count])
            batch = leaves[first : first + len(signature.types)]
            given: Any = optree.tree_unflatten(signature.tree, batch)
            (_, *args), kwargs = given
            if self._wants_key:
                kwargs = {**kwargs, "key": leaves[-1]}
            elif self._lacks_key(args, kwargs):
                raise ArgumentError(
                    f"{self.__name__}: the argument `key` of the loss gets a key from the state where it is "
                    "keyword-only, and stays empty here: write a * before it, as in loss(params, x, *, key=None)"
                )
            positional, named = self.placed((params, *args), kwargs, signature.statics)
            if not self.has_state:
                return *split_aux(self, self.call_placed(positional, named)), []
            positional.insert(1, optree.tree_unflatten(layout.model_state, leaves[count:first]))
            value, aux, new = split_state(self, self.call_placed(positional, named))
            return value, aux, renewed(self, layout.model_state, layout.types[own], layout.names[own], new)

        types = [*layout.types[:count], *layout.types[own], *signature.types]
        all_names = [*layout.names[:count], *layout.names[own], *names]
        if self._wants_key:
            types.append(layout.types[-2])
            all_names.append("key")
        traced = trace_call(self.graph_name, call, types, all_names)
        if traced.captures:
            raise ArgumentError(f"{self.__name__}: a training step cannot be called inside a traced function")
        return traced

    def _targets(self, layout: Any) -> list[int]:
        """The numbers of the state's leaves that a step replaces: parameters, moments, model state, shared numbers,
        step count."""
        return [*range(layout.parts["shared"].stop), len(layout.types) - 1]


def _tree(leaves: Leaves) -> Any:
    return optree.tree_unflatten(leaves[1], leaves[0])


@public(
    {
        "optim": "optimizer", "opt": "optimizer", "loss_fn": "loss", "model": "loss", "function": "loss",
        "aux": "has_aux", "has_state": "state", "stateful": "state", "max_norm": "clip_norm",
        "clip": "clip_norm", "grad_clip": "clip_norm",
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
    state: bool = False,
    watch: Watch = None,
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

    With `state` the loss has a state that is not trained, such as running statistics: `loss(params, state, *batch)`
    returns (scalar, new state), or (scalar, (new state, aux)) with `has_aux`, as `value_and_grad(loss, has_aux=True)`
    takes it, too. `step.init(params, state)` begins with it, and `state.model_state` has what the last step gave: a
    pytree of arrays of any dtype, of one structure, whose shapes and dtypes stay, updated in place. No gradient
    flows from one step to another.

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

    With `watch` a step gives the norms of each parameter's gradient, weight and update beside the loss, computed in the
    same pass: True for all, or some of "gradients" (before clipping), "weights" and "updates". A step then returns
    (loss, norms), or (loss, (aux, norms)) with `has_aux`, and the history of a run has `norms`: see `adjit.Norms`.

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
    with_aux, with_state = checks.flag("training_step: has_aux", has_aux), checks.flag("training_step: state", state)
    flushes = checks.flag("training_step: flush_subnormals", flush_subnormals)
    options = options_of("training_step", tile, inexact, flushes, memory_limit)
    return TrainingStep(
        loss, options, optimizer, with_aux, with_state, watched(watch), switched, regularized, names, control_flow
    )
