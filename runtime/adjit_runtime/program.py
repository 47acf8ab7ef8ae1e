"""Program: a compiled graph as data. Object code, and what its inputs, outputs, constants and arena are.

Self-contained: it pickles, and runs with this package alone. The entry is

    i64 entry(ptr table, ptr arena, ptr report)

`table` holds one address for each slot, in order; `arena` is `arena_bytes` of 64-byte aligned scratch memory, one for
each call in flight; `report` is two i64. The result is 0, or k > 0 where check k - 1 failed: then nothing of a state
slot has been written, report[0] is the value that was refused, and report[1] the number of the turn, where the check
is in a loop; or INTERRUPTED where a handler of a signal raised in
the midst of a long call (codegen/signals.py): nothing of a state slot has been written then either, and the exception
is set in the thread's state of Python, for the caller to raise. Outputs are undefined after both. Slots of role "state"
are read and written in place; "output" slots are written only; the others are read only. No slot may overlap an
"output" or "state" slot, except a slot that is the same state. Arrays are C-ordered and aligned to their element; bools
are bytes 0 or 1.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

ALIGN = 64
"""Bytes: where arenas, and the buffers in them, begin; what a line of the cache has."""
WIDE = {"int8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "float16": "float32"}
"""What programs take data of narrow dtypes as: the next dtype that machine code exists for and that has their values.
"""


# By number: the name of a dtype is made anew whenever it is asked for.
_WIDE = {np.dtype(narrow).num: np.dtype(wide) for narrow, wide in WIDE.items()}


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which machine code gets data of this one."""
    return _WIDE.get(dtype.num, dtype)


def is_narrow(dtype: np.dtype) -> bool:
    """Whether machine code gets data of this dtype in a wider one."""
    return dtype.num in _WIDE


@dataclass(frozen=True, slots=True)
class Slot:
    """One buffer outside the arena: `role` is "input", "state", "output" or "constant"."""

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    weak: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


INTERRUPTED = -1
"""What an entry returns where a handler of a signal raised: the only result below 0."""


@dataclass(frozen=True, slots=True)
class Check:
    """A test that machine code makes at run time: the name of its error, and the text before and after the value that
    was refused; `after` is None where the value is not told. The text has the user's words in it, so it is no
    format. `loop` is the place of the outermost loop around it that tells its turn, "model.py:7"."""

    error: str
    before: str
    after: str | None
    loop: str = ""

    def message(self, value: int, turn: int = 0) -> str:
        """The text of the error."""
        text = self.before if self.after is None else f"{self.before}{value}{self.after}"
        return f"{text} (in turn {turn} of the loop at {self.loop})" if self.loop else text


RUN_HEAD = (
    "entry", "rest_entry", "table", "rest_table", "arena", "report", "order", "rows", "batch", "rest", "seed", "step",
    "position", "done", "budget", "arrays", "outputs", "flushes",
)  # fmt: skip
"""The words of the descriptor of the native loop: what `entry` and `table` are for a whole batch, `rest_entry` and
`rest_table` are for the last one of `rest` rows; `step` points to the state's step count."""
RUN_ARRAY = ("source", "nbytes", "buffer", "slot", "rest_slot")
"""A batched array: its rows, bytes of a row, memory for the gathered rows of a batch, its slots."""
RUN_OUTPUT = ("base", "nbytes", "slot", "rest_slot")
"""A result that is kept for every step: where the first one goes, its bytes, its slots."""


MOST_DIMENSIONS = 8
"""Arrays of more dimensions take the path through Python."""
CALL_ARRAY, CALL_STATE, CALL_FLOAT, CALL_INT, CALL_BOOL, CALL_LOSS32, CALL_LOSS64 = range(7)
"""Kinds of leaves and results: an array or a NumPy scalar, the state, a Python float, int or bool; a float32 or float64
given as a float."""
CALL_HEAD = (
    "arguments", "keywords", "plain", "leaves", "results", "entry", "table", "arena", "report", "release", "busy",
    "block", "block_end", "slow", "state", "array_type", "float_type", "int_type", "true", "false", "new_array",
    "as_scalar", "copy", "names", "nodes", "node_records", "makers", "maker_records", "objects", "held", "parts",
    "guests",
)  # fmt: skip
"""The words of a native entry: counts, the program and what it is called with, whether to release the GIL, the word
that marks it busy, the bytes of the state, and addresses of objects and functions of Python and NumPy; `slow` is
called with what does not fit. `plain` says that every argument is a leaf by position, `guests` that there are
`CALL_GUESTS` among nodes or makers. Memory of a call: `objects` are the arguments, by position, then by the `names` of
keywords, then what nodes hold; `held` are references that the call took itself; `parts` are the results, then what
makers make of them, NULL between two calls."""
CALL_LEAF = ("kind", "slot", "source", "descr", "number", "ndim", "nbytes", "scalar", "value")
CALL_RESULT = ("kind", "slot", "descr", "ndim", "value")
"""Fields of a record; `MOST_DIMENSIONS` words with the shape follow. `source` is the number of an object."""
CALL_DICT, CALL_LIST, CALL_TUPLE, CALL_SAME, CALL_BITS, CALL_KNOWN, CALL_BY = range(7)
CALL_ORDERED, CALL_OBJECT, CALL_HASH, CALL_DEFAULT, CALL_INIT = range(7, 12)
CALL_GUESTS = frozenset(range(CALL_ORDERED, CALL_INIT + 1))
"""Kinds of nodes and makers, the last ones of which plain trees do not have."""
CALL_NODE = ("kind", "source", "first", "count", "type", "other", "known")
"""What an object must be, before its leaves are looked at: a dict, list or tuple of exactly one of two types, whose
`count` items become the objects from `first` on, a dict's by the keys at the address `known`, which an OrderedDict
(CALL_ORDERED) has in that order; or an object (CALL_OBJECT) whose attributes with the names at `known` do, after the
exception that says that one is not there; or an object that is `known` or equals it and is of the same `type`, or is
of that type and has the same 8 bytes as value (CALL_BITS), or the hash `first` (CALL_HASH), where `known` is the
exception that says that it has none."""
CALL_MAKER = ("kind", "count", "children", "known", "make", "of")
"""What is made of parts, whose numbers lie at the address `children`: a dict or OrderedDict with the keys at `known`, a
list, a tuple; what `make(of)` gives, with such keys (CALL_DEFAULT) or attributes (CALL_OBJECT) set; what `make` gives
for the tuple `of` and the one part as keywords (CALL_INIT); the object `known` (CALL_KNOWN); or what the function
`known` gives for a tuple of the parts (CALL_BY). The last one is the result; where there is none, the one part is."""
CONSTRUCTOR_HEAD = ("class0", "class1", "class2", "convert", "not_implemented", "type_call")
CONSTRUCTOR_RECORD = ("class", "function")
MOST_CONSTRUCTORS = 15
"""The words of the library "constructors": the classes of arguments that it looks for, and objects and functions that
it calls; then a record for each class that calls it, with the function that this class had, or 0."""


@dataclass(frozen=True, slots=True)
class Library:
    """Object code that programs share, the functions in it that they call, and the libraries that it calls itself."""

    name: str
    code: bytes
    symbols: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """See the module's contract. `inputs[i]` and `outputs[i]` are slot numbers of the graph's inputs and outputs.

    `libraries` names the shared objects that the code calls (`adjit_gemm_f32` lives in "gemm_f32"); the loader
    gets their object code from whoever made the program. Where it `flushes`, subnormal numbers count as zero in it.
    """

    name: str
    entry: str
    code: bytes
    slots: tuple[Slot, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena_bytes: int
    target: str
    libraries: tuple[str, ...] = ()
    flushes: bool = False
    checks: tuple[Check, ...] = ()
    constants: dict[int, np.ndarray] = field(default_factory=dict)


def dump_program(program: Program, digests: dict[int, str]) -> bytes:
    """A program as bytes, with digests in place of its constants, which `load_program` is given again."""
    return pickle.dumps((replace(program, constants={}), digests), protocol=5)


def load_program(data: bytes, constants: Callable[[str], np.ndarray]) -> Program:
    """The program that `dump_program` wrote; `constants(digest)` gives the arrays."""
    program, digests = pickle.loads(data)
    bound = {number: constants(digest) for number, digest in digests.items()}
    loaded: Program = replace(program, constants=bound)
    return loaded


POOL_WORDS = {
    "open": 0, "done": 16, "lock": 32, "function": 48, "context": 49, "share": 50, "mode": 51, "generation": 64,
    "sleepers": 80, "stop": 81, "joined": 82, "cpu": 83, "threads": 96,
}  # fmt: skip
"""Words of a pool of threads (codegen/pool.py); what different threads write is 128 bytes apart."""
POOL_SIZE = 112
"""Words of a pool."""
