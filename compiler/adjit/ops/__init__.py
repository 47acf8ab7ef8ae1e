"""What each op is: one declaration per op, a file per family. Importing the package fills the registry.

declare       the kinds and what each declares
arithmetic    + - * /, comparison, logic, select, cast, random bits
functions     exp, log, sin, pow, floor ...
reduction     sum, max, argmax, cumsum ...
contraction   contract
movement      reshape, transpose, broadcast, slice, pad, concatenate, flip, iota
windows       windows, add_windows
sorting       sort, argsort
factoring     cholesky, lu, triangular_solve, solve, log_det, det
spectral      eigh, svd, qr; matrices: what both families are written in
indexing      check_index, check_fits, check_holds, take, scatter_add, scatter
tiles         tiled
loops         scan
calls         call
batched       an op on many values of its operands at once
scalar        the protocol that elementwise lowerings are written in
"""

from adjit.ops import (
    arithmetic,
    calls,
    contraction,
    factoring,
    functions,
    indexing,
    loops,
    movement,
    reduction,
    sorting,
    spectral,
    tiles,
    windows,
)

__all__ = [
    "arithmetic",
    "calls",
    "contraction",
    "factoring",
    "functions",
    "indexing",
    "loops",
    "movement",
    "reduction",
    "sorting",
    "spectral",
    "tiles",
    "windows",
]
