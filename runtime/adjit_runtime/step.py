"""Steps on a state: one native call each, or a whole run over minibatches in native code.

`StepFunction` binds a state's addresses into the table of a program once; a call fills in the batch alone.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optree

from adjit_runtime import checks
from adjit_runtime.call import Compiled, CompiledFunction
from adjit_runtime.errors import ArgumentError
from adjit_runtime.history import History
from adjit_runtime.load import address_of
from adjit_runtime.native import Entry, fits
from adjit_runtime.public import public, shorten
from adjit_runtime.runs import Plan, Run
from adjit_runtime.state import State
from adjit_runtime.trees import MOST_SIGNATURES, Signature, as_array
from adjit_runtime.tuned import CALLS_TO_ENTRY, RELEASE_SECONDS


class _Binding:
    """A program's table with the addresses of one state; `results` are the arrays that its results go to."""

    def __init__(self, compiled: Compiled, state: State) -> None:
        loaded = compiled.loaded
        program = loaded.program
        self.compiled = compiled
        self.loaded = loaded
        self.table = (ctypes.c_void_p * len(program.slots))()
        self.slots = program.inputs[len(state.addresses) :]
        for number, address in zip(program.inputs, state.addresses, strict=False):
            self.table[number] = address
        for number, address in loaded.constant_addresses.items():
            self.table[number] = address
        self.dtypes = [np.dtype(program.slots[number].dtype) for number in self.slots]
        self.report = (ctypes.c_int64 * 2)()
        self.calls = 0
        self.pointers = (ctypes.addressof(self.table), ctypes.addressof(self.report))

    def fresh_results(self) -> list[np.ndarray]:
        results = []
        for number in self.loaded.program.outputs:
            result = self.loaded.result(number)
            self.table[number] = address_of(result)
            results.append(result)
        return results

    def arguments(self, state: State, leaves: Sequence[Any]) -> list[np.ndarray]:
        """Put the batch into the table; what must stay alive while the call runs."""
        arrays = []
        for number, leaf, dtype in zip(self.slots, leaves, self.dtypes, strict=True):
            array = as_array(leaf, dtype)
            if state.overlaps(array):
                array = array.copy()
            self.table[number] = address_of(array)
            arrays.append(array)
        return arrays


class StepFunction(CompiledFunction):
    """A compiled training step. Call it with a state and a batch; `run` makes all steps over the data."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What native loops are, by layout of the state and types of the data: the next state has only to be bound.
        self.plans: dict[Any, Plan] = {}

    def check_state(self, state: Any) -> None:
        """Refuse what is no state of this step."""
        raise NotImplementedError

    def parts_of(self, result: Any) -> tuple[Any, Any]:
        """(aux, norms) of what steps give beside the loss."""
        return result, None

    def by_rows(self, tree: optree.PyTreeSpec, arrays: list[np.ndarray]) -> tuple[StepFunction, list[np.ndarray]]:
        """The data of a run with the rows as axis 0 of each array, and the step that takes batches of such."""
        return self, arrays

    def __call__(self, state: Any, /, *args: Any, **kwargs: Any) -> Any:
        """One step: the state is updated in place, and the loss comes back, as a float; with aux, (loss, aux), with
        norms, (loss, norms), with both, (loss, (aux, norms)). Of many models (`adjit.vmap` of a step) the losses are an
        array."""
        try:
            return self._step(state, args, kwargs)
        except Exception as error:
            shorten(error)
            raise

    def _step(self, state: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self.check_state(state)
        signature, leaves, names = self.step_signature(state, args, kwargs)
        # Before the state is taken, as the code that takes it is made beside.
        compiled = self.compiled(signature, names)
        binding, results, seconds = state.exclusively(self._make, state, compiled, leaves)
        binding.calls += 1
        if binding.calls % CALLS_TO_ENTRY == 2:
            self._offer_step(binding, state, signature, leaves, args, kwargs, seconds)
        loss, *aux = (result if result.ndim else result[()] for result in results)
        # Of many models there is one for each.
        loss = loss if isinstance(loss, np.ndarray) else float(loss)
        if len(results) == 1 and binding.compiled.out_tree.num_leaves == 0:
            return loss
        return loss, optree.tree_unflatten(binding.compiled.out_tree, aux)

    def _make(
        self, state: State, compiled: Compiled, leaves: Sequence[Any]
    ) -> tuple[_Binding, list[np.ndarray], float]:
        """The step itself, on a state that is ours meanwhile: results, and the seconds that the machine code took."""
        binding = self._binding(state, compiled)
        arrays = binding.arguments(state, leaves)
        results = binding.fresh_results()
        loaded = binding.loaded
        arena = loaded.borrow_arena()
        begun = time.perf_counter()
        try:
            status = loaded.entry(binding.pointers[0], address_of(arena), binding.pointers[1])
        finally:
            loaded.return_arena(arena)
        seconds = time.perf_counter() - begun
        del arrays
        if status:
            raise loaded.failure(status, binding.report)
        return binding, results, seconds

    def _offer_step(
        self,
        binding: _Binding,
        state: State,
        signature: Signature,
        leaves: Sequence[Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Make a native entry for steps of this state with a batch like this one, if it can take them."""
        places = self._places((state, *args), kwargs, bound=1)
        if not fits(signature.types, leaves, places, binding.loaded):
            return
        entries = (known for known in state.entries if known.loaded is binding.loaded and known.shape == places.shape)
        entry = next(entries, None)
        if entry is None:
            release = seconds > RELEASE_SECONDS
            tree = binding.compiled.out_tree
            others = state.entries
            entry = Entry(binding.loaded, signature.types, places, tree, others=others, state=state, release=release)
            state.add_entry(entry)
        if not self.has_entry(entry):
            self.install(entry)

    def step_signature(
        self, state: State, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Signature, list[Any], Callable[[], list[str]]]:
        """`signature_of` for the batch; None, which has no leaves, stands where the loss takes the parameters."""
        signature, leaves, names = self.signature_of((None, *args), kwargs)
        return replace(signature, layout=state.layout), leaves, names

    def _binding(self, state: State, compiled: Compiled) -> _Binding:
        """The table of a program for a state. By program: a state may be used by several steps in turn, whose batches
        have one signature."""
        found: _Binding | None = state.bindings.get(compiled)
        if found is None:
            while len(state.bindings) >= MOST_SIGNATURES:
                del state.bindings[next(iter(state.bindings))]
            found = state.bindings[compiled] = _Binding(compiled, state)
        return found

    @public(
        {
            "callback": "progress", "callbacks": "progress", "verbose": "progress", "on_step": "progress",
            "batchsize": "batch_size", "bs": "batch_size", "n_epochs": "epochs", "num_epochs": "epochs",
            "epoch": "epochs", "random_state": "seed", "rng": "seed", "kwargs": "constants",
            "steps": "a run goes by epochs: steps in all are epochs times the batches of the data",
        },
        "run",
    )  # fmt: skip
    def run(
        self,
        state: State,
        data: Any,
        *,
        batch_size: int,
        epochs: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        constants: Mapping[str, Any] | None = None,
        progress: Callable[[int, int, Any], None] | None = None,
        on_nan: str = "warn",
    ) -> History:
        """Train for some epochs over `data`, in native code.

        `data` is a tuple of the loss's batched arguments after the parameters, each a pytree of arrays with one
        common number of rows, or a list of lists of numbers. An epoch takes rows in batches of `batch_size`, in an
        order that depends on `seed` and on the state's step count at its start
        (`adjit.random.permutation(fold_in(key(seed), step), rows)`), or as they lie where `shuffle` is false; the rows
        that are left over make a smaller batch, or none with `drop_last`. `constants` are keyword arguments of the loss
        that are not batched. `progress(steps done, steps in all, last loss)` is called about every 50 ms. A loss that
        is NaN or infinite is looked for as often: with `on_nan="warn"` the first one of a run is a NotFiniteWarning
        that names its step, with "raise" the run stops and raises NotFiniteError, with the state as it is then, with
        "ignore" nothing is said.

        Ctrl-C stops between two steps or in a long one, with the state as after the last whole one. An error in a step
        leaves the state as after the step before, and names the step. Both, and what `progress` raises, have the losses
        so far as `losses`, which NotFiniteError has, too. Raises ArgumentError for data that do not fit, and
        IndexOutOfRange for an index out of range."""
        self.check_state(state)
        if progress is not None:
            _check_progress(f"{self.__name__}.run: progress", progress)
        if not isinstance(constants, Mapping | None) or not all(isinstance(name, str) for name in constants or ()):
            raise ArgumentError(
                f"{self.__name__}.run: constants is a mapping from names to values, not {checks.shown(constants)}"
            )
        checks.choice(f"{self.__name__}.run: on_nan", on_nan, ("raise", "warn", "ignore"))
        job = Run(self, state, data, batch_size, epochs, shuffle, seed, drop_last, dict(constants or {}))
        job.on_nan = on_nan
        return state.exclusively(job.run, progress)


def _check_progress(what: str, progress: Any) -> None:
    if not callable(progress):
        raise ArgumentError(
            f"{what} is a function of (steps done, steps in all, last loss), not {checks.shown(progress)}: "
            "progress=lambda done, total, loss: print(done, total, loss)"
        )
