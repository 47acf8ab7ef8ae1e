"""Runs: many steps on one state in native code, minibatch after minibatch.

A `Run` is one call of `StepFunction.run`; its `Plan`, which the function keeps, is what states of one layout share, its
`_Loop`, which the state keeps, is bound to one of them.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import optree

from adjit_runtime import checks
from adjit_runtime.call import Compiled
from adjit_runtime.errors import AdjitError, ArgumentError, NotFiniteError, NotFiniteWarning, OutOfMemory, ShapeError
from adjit_runtime.guests import rows
from adjit_runtime.history import History
from adjit_runtime.load import Loaded, address_of, run_function
from adjit_runtime.program import RUN_ARRAY, RUN_HEAD, RUN_OUTPUT, is_narrow, wide_dtype
from adjit_runtime.state import State
from adjit_runtime.trees import Signature, as_array, flatten, known_dtype, leaf_type
from adjit_runtime.tuned import RUN_SLICE_SECONDS, RUNS_KEPT

KeptT = TypeVar("KeptT")


class Stepping(Protocol):
    """What a run needs of a step function."""

    __name__: str
    plans: dict[Any, Plan]
    retraced: int

    def compiled(self, signature: Signature, names: Callable[[], list[str]]) -> Compiled:
        """The program of a signature."""

    def step_signature(
        self, state: State, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Signature, list[Any], Callable[[], list[str]]]:
        """The signature of a batch, its leaves, and a function that names them."""

    def parts_of(self, result: Any) -> tuple[Any, Any]:
        """(aux, norms) of what steps give beside the loss."""

    def by_rows(self, tree: optree.PyTreeSpec, arrays: list[np.ndarray]) -> tuple[Stepping, list[np.ndarray]]:
        """The arrays with the rows as axis 0 of each, and the function that takes batches of such."""


def _kept(known: dict[Any, Any], key: Any, value: KeptT) -> KeptT:
    """Keep a value with the last ones."""
    while len(known) >= RUNS_KEPT:
        # Another thread may have been faster.
        known.pop(next(iter(known), None), None)
    known[key] = value
    return value


def _users_level() -> int:
    """How far up the stack, from who calls this, the user's code is: what `warnings.warn` calls the stack level."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    return level


_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_MOST_STEPS = 1 << 48
"""Of one run: their losses would be a thousand terabytes."""


class Run:
    """One call of `run`: its arguments checked, and the steps made."""

    def __init__(
        self,
        function: Stepping,
        state: State,
        data: Any,
        batch_size: int,
        epochs: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        constants: dict[str, Any],
    ) -> None:
        if isinstance(data, np.ndarray) or not isinstance(data, tuple | list):
            raise ArgumentError(f"{function.__name__}.run: data is a tuple of arrays, (X, Y), not {checks.kind(data)}")
        self.on_nan = "warn"
        size = checks.integer(f"{function.__name__}.run: batch_size", batch_size, 1)
        self.epochs = checks.integer(f"{function.__name__}.run: epochs", epochs, 0)
        self.shuffle = checks.flag(f"{function.__name__}.run: shuffle", shuffle)
        self.seed = checks.integer(f"{function.__name__}.run: seed", seed)
        drops = checks.flag(f"{function.__name__}.run: drop_last", drop_last)
        self.function, self.state, self.constants = function, state, constants
        if list in map(type, data):
            data = [rows(f"{function.__name__}.run: data", x) for x in data]
        leaves, self.tree = flatten(tuple(data))
        # As they were given, and as machine code takes them.
        self.function, self.given = function.by_rows(self.tree, [self._array(leaf, i) for i, leaf in enumerate(leaves)])
        self.arrays = [as_array(x, wide_dtype(x.dtype)) if is_narrow(x.dtype) else x for x in self.given]
        if not self.arrays:
            raise ArgumentError(f"{function.__name__}.run: data has no arrays")
        self.rows = self._rows()
        self.batch = size if drops else min(size, self.rows)
        self.whole = self.rows // self.batch if self.batch else 0
        self.rest = 0 if drops or not self.batch else self.rows % self.batch
        self.total = self.epochs * (self.whole + (self.rest > 0))
        if self.total == 0 and self.epochs:
            raise ArgumentError(
                f"{function.__name__}.run: {self.rows} rows make no batch of {batch_size} (drop_last={drop_last})"
            )
        if self.total > _MOST_STEPS:
            raise ArgumentError(
                f"{function.__name__}.run: epochs={self.epochs} are {self.total} steps, and no memory holds the losses "
                f"of more than {_MOST_STEPS}"
            )

    def _array(self, leaf: Any, number: int) -> np.ndarray:
        dtype = known_dtype(leaf)
        if dtype is None:
            dtype = leaf_type(leaf, f"{self.function.__name__}.run: array {number} of the data").dtype
        array = as_array(leaf, dtype)
        if not array.ndim:
            raise ShapeError(
                f"{self.function.__name__}.run: array {number} of the data has no rows; pass it in constants"
            )
        return array.copy() if self.state.overlaps(array) else array

    def _rows(self) -> int:
        rows = {len(array) for array in self.arrays}
        if len(rows) > 1:
            shapes = ", ".join(str(array.shape) for array in self.arrays)
            raise ShapeError(f"{self.function.__name__}.run: the arrays of the data differ in rows: {shapes}")
        return rows.pop()

    def _loop(self) -> _Loop:
        """The loop for such data: the one that the state keeps, or a new one."""
        if self.constants:
            return _Loop(Plan(self), self)
        types = tuple((array.dtype.num, array.shape) for array in self.given)
        data = (self.function.retraced, self.tree, types, self.batch, self.rest, self.shuffle)
        key = (self.function, *data)
        found: _Loop | None = self.state.loops.get(key)
        if found is None:
            found = _kept(self.state.loops, key, _Loop(self._plan(data), self))
        return found

    def _plan(self, data: tuple[Any, ...]) -> Plan:
        """The plan for such data and a state laid out like this one: the one that the function keeps, or a new one."""
        key = (self.state.layout, *data)
        found: Plan | None = self.function.plans.get(key)
        return found if found is not None else _kept(self.function.plans, key, Plan(self))

    def run(self, progress: Callable[[int, int, Any], None] | None) -> History:
        """All steps; the state is ours meanwhile."""
        if not self.total:
            return History(np.empty((0, *self.state.layout.models)))
        loop = self._loop()
        outputs = self._outputs(loop)
        losses = outputs[0]
        arena = loop.begin(self, outputs)
        done = 0
        try:
            while done < self.total:
                begun = time.perf_counter()
                steps = min(loop.pace, self.total - done)
                status = loop.make(steps)
                before, done = done, loop.done
                if status:
                    raise self._failure(loop, status)
                if self.on_nan != "ignore" and not np.isfinite(losses[before:done]).all():
                    self._tell(losses[:done], before)
                spent = time.perf_counter() - begun
                if steps == loop.pace:
                    loop.pace = max(1, min(int(steps * RUN_SLICE_SECONDS / max(spent, 1e-9)), 8 * steps))
                if progress is not None:
                    last = losses[done - 1].astype(np.float64)
                    progress(done, self.total, last if last.ndim else float(last))
        except BaseException as error:
            # A class with slots takes none.
            with contextlib.suppress(AttributeError):
                error.losses = losses[: loop.done].astype(np.float64)  # type: ignore[attr-defined]
            raise
        finally:
            loop.plan.lender.return_arena(arena)
        tree = loop.plan.first.out_tree
        beside = optree.tree_unflatten(tree, outputs[1:]) if tree.num_leaves else None
        return History(losses.astype(np.float64), *self.function.parts_of(beside))

    def _tell(self, losses: np.ndarray, before: int) -> None:
        """Raise, or warn once, for the first loss that is not finite; those in front of `before` are."""
        finite = np.isfinite(losses[before:])
        of, each = "", tuple(range(1, losses.ndim))
        step = before + int(np.argmin(finite.all(axis=each)))
        if each:
            # The others go on as they were.
            model: Any = np.unravel_index(int(np.argmin(finite[step - before])), losses.shape[1:])
            failed = int(np.sum(~finite.all(axis=0)))
            of = f" of model {', '.join(map(str, model))}" + (f" (and of {failed - 1} more)" if failed > 1 else "")
            losses = losses[:, *model]
        was = f", that of the step before {losses[step - 1]:.6g}" if step else ""
        text = (
            f"{self.function.__name__}.run: the loss of step {step} of {self.total}{of} is {losses[step]}{was}: a "
            "lower learning rate or clip_norm may help, and data or parameters may hold such numbers; "
        )
        if self.on_nan == "raise":
            raise NotFiniteError(f"{text}the state is that after step {len(losses) - 1}")
        self.on_nan = "ignore"
        warnings.warn(f'{text}on_nan="raise" stops there, "ignore" says nothing', NotFiniteWarning, _users_level())

    def _outputs(self, loop: _Loop) -> list[np.ndarray]:
        """Memory for the results of all steps."""
        try:
            return [np.empty((self.total, *shape), dtype) for shape, dtype in loop.plan.results]
        except (MemoryError, ValueError):
            raise OutOfMemory(
                f"{self.function.__name__}.run: there is no memory for the results of epochs={self.epochs}, "
                f"{self.total} steps; run fewer epochs at a time"
            ) from None

    def _failure(self, loop: _Loop, status: int) -> AdjitError:
        """The error of a step, with its number."""
        error = loop.failed.failure(status, loop.report)
        return type(error)(f"step {loop.done} of {self.total}: {error}")


class Plan:
    """What a native loop is for data of certain types on states of one layout: programs for a whole batch and for the
    last one, which is `rest` where it is smaller, and words and tables without addresses of a state or of data.

    `results` are shape and dtype of each result of a step; `constants` the leaves after the data, for each program."""

    def __init__(self, run: Run) -> None:
        self.constants: list[list[Any]] = []
        whole = self._compiled(run, run.batch) if run.whole else None
        rest = self._compiled(run, run.rest) if run.rest else None
        first = whole or rest
        assert first is not None
        self.first, self.rest = first, rest
        self.results = self._results(run, first, whole, rest)
        self.programs = [compiled.loaded for compiled in (whole, rest) if compiled is not None]
        self.lender = max(self.programs, key=lambda loaded: loaded.program.arena_bytes)
        self.run = run_function(any(loaded.polls for loaded in self.programs))
        layout = run.state.layout
        self.offsets = np.array(layout.offsets, np.int64)
        self.owned = [np.array(loaded.program.inputs[: len(layout.offsets)]) for loaded in self.programs]
        self.batched = [loaded.program.inputs[len(layout.offsets) :] for loaded in self.programs]
        self.tables = [_constants_table(loaded) for loaded in self.programs]
        # Of an array of the data: what a batch of it takes. Where the order is not shuffled nothing is gathered.
        self.buffers = [((run.batch, *array.shape[1:]), array.dtype) for array in run.arrays if run.shuffle]
        self.words = self._words(run)

    def _compiled(self, run: Run, rows: int) -> Compiled:
        """The program for batches of so many rows."""
        sample: Any = optree.tree_unflatten(run.tree, [array[:rows] for array in run.given])
        signature, leaves, names = run.function.step_signature(run.state, sample, run.constants)
        self.constants.append(leaves[len(run.arrays) :])
        return run.function.compiled(signature, names)

    @staticmethod
    def _results(
        run: Run, first: Compiled, whole: Compiled | None, rest: Compiled | None
    ) -> list[tuple[tuple[int, ...], str]]:
        def of(compiled: Compiled) -> list[tuple[tuple[int, ...], str]]:
            program = compiled.loaded.program
            return [(program.slots[number].shape, program.slots[number].dtype) for number in program.outputs]

        if whole is not None and rest is not None and of(whole) != of(rest):
            raise ShapeError(
                f"{run.function.__name__}.run: results of the last batch of {run.rest} rows have other shapes "
                "than those of a whole one and cannot be stacked; pass drop_last=True, or leave them out of aux"
            )
        return of(first)

    def _words(self, run: Run) -> np.ndarray:
        """The descriptor of the loop, zero where addresses of a state, of data, buffers and results belong."""
        words: list[int] = []
        for i, array in enumerate(run.arrays):
            slot, rest_slot = self.batched[0][i], self.batched[-1][i]
            record = {"nbytes": array[:1].nbytes, "slot": slot, "rest_slot": rest_slot}
            words += [record.get(name, 0) for name in RUN_ARRAY]
        for i, (shape, dtype) in enumerate(self.results):
            nbytes = math.prod(shape) * np.dtype(dtype).itemsize
            slot, rest_slot = self.programs[0].program.outputs[i], self.programs[-1].program.outputs[i]
            record = {"nbytes": nbytes, "slot": slot, "rest_slot": rest_slot}
            words += [record.get(name, 0) for name in RUN_OUTPUT]
        head = {
            "entry": self.programs[0].address, "rest_entry": self.programs[-1].address, "rows": run.rows,
            "batch": run.batch, "rest": run.rest, "arrays": len(run.arrays), "outputs": len(self.results),
            "flushes": int(self.programs[0].program.flushes),
        }  # fmt: skip
        return np.array([*(head.get(name, 0) for name in RUN_HEAD), *words], dtype=np.int64)


def _constants_table(loaded: Loaded) -> np.ndarray:
    """A program's table with the addresses of its constants alone."""
    table = np.zeros(max(len(loaded.program.slots), 1), np.int64)
    for number, address in loaded.constant_addresses.items():
        table[number] = address
    return table


class _Loop:
    """The native loop of a plan on one state: tables, buffers and descriptor. A state keeps the last ones, so that a
    run on such data again has only to say where the data are. `pace` is how many steps take about a slice of time."""

    def __init__(self, plan: Plan, run: Run) -> None:
        self.plan = plan
        self.batch, self.rows = run.batch, run.rows
        self.report = np.zeros(2, np.int64)
        self.words = words = plan.words.copy()
        tables = [table.copy() for table in plan.tables]
        self.kept: list[Any] = [tables]
        places = plan.offsets + run.state.addresses[0]  # The leaves of a state lie in one block.
        for number, table in enumerate(tables):
            table[plan.owned[number]] = places
            self._bind(run, number, table)
        words[_TABLE], words[_REST_TABLE] = address_of(tables[0]), address_of(tables[-1])
        words[_REPORT], words[_STEP] = address_of(self.report), run.state.addresses[-1]
        for at, (shape, dtype) in enumerate(plan.buffers):
            buffer = np.empty(shape, dtype)
            self.kept.append(buffer)
            words[len(RUN_HEAD) + at * len(RUN_ARRAY) + _BUFFER] = address_of(buffer)
        if run.shuffle:
            order = np.empty(run.rows, np.int64)
            self.kept.append(order)
            words[_ORDER] = address_of(order)
        self.pace = 1
        self._address = address_of(words)

    def _bind(self, run: Run, number: int, table: np.ndarray) -> None:
        """Put the constants into the table of a program."""
        program, slots = self.plan.programs[number].program, self.plan.batched[number][len(run.arrays) :]
        for slot, leaf in zip(slots, self.plan.constants[number], strict=True):
            array = as_array(leaf, np.dtype(program.slots[slot].dtype))
            array = array.copy() if run.state.overlaps(array) else array
            table[slot] = address_of(array)
            self.kept.append(array)

    def begin(self, run: Run, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Bind data, results and an arena, which is the caller's to give back."""
        words, at = self.words, len(RUN_HEAD)
        for array in run.arrays:
            words[at + _SOURCE] = address_of(array)
            at += len(RUN_ARRAY)
        for output in outputs:
            words[at + _BASE] = address_of(output)
            at += len(RUN_OUTPUT)
        arena = self.plan.lender.borrow_arena()
        words[_ARENA] = address_of(arena)
        words[_SEED] = run.seed
        words[_POSITION] = words[_DONE] = 0
        return arena

    def make(self, steps: int) -> int:
        """So many steps; the status of the last one."""
        self.words[_BUDGET] = steps
        return self.plan.run(self._address)

    @property
    def done(self) -> int:
        """Steps made so far."""
        return int(self.words[_DONE])

    @property
    def failed(self) -> Loaded:
        """The program of the step at which the loop stopped."""
        plan = self.plan
        if plan.rest is not None and self.rows - int(self.words[_POSITION]) < self.batch:
            return plan.rest.loaded
        return plan.first.loaded


_ARENA, _SEED, _POSITION, _DONE, _BUDGET, _TABLE, _REST_TABLE, _REPORT, _ORDER, _STEP = map(
    RUN_HEAD.index,
    ("arena", "seed", "position", "done", "budget", "table", "rest_table", "report", "order", "step"),
)
_SOURCE, _BUFFER, _BASE = RUN_ARRAY.index("source"), RUN_ARRAY.index("buffer"), RUN_OUTPUT.index("base")
