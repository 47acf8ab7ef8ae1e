"""The NumPy function table, a file per family. Importing the package fills it.

ufuncs          elementwise functions; elementary: those that are composed of several ops; special: SciPy's; gamma
reductions      sum, max, any, argmax, cumsum, reduce and accumulate
statistics      mean, var, average, cov, the nan- family
factorizations  solve, inv, det, cholesky, eigh, svd, qr
histograms      bincount, histogram and its edges
sorting         sort, argsort, lexsort, searchsorted, digitize; quantiles: median, quantile and their nan- forms
linear_algebra  matmul, dot, einsum, tensordot, norm; subscripts: einsum's index expressions
shaping         reshape, axes, flips, rolls, tile, repeat; padding: pad
joining         concatenate, stack, split, insert, delete
selection       where, select, clip, take, interp, comparisons of whole arrays
creation        filled arrays, triangles, diagonals, ranges, questions on dtypes
calculus        diff, gradient, polynomials, convolutions
refused         what is not there, with the reason
arrays, calling what the families share
"""

from adjit.trace.functions import (
    calculus,
    creation,
    factorizations,
    histograms,
    joining,
    linear_algebra,
    padding,
    quantiles,
    reductions,
    refused,
    selection,
    shaping,
    sorting,
    special,
    statistics,
    ufuncs,
)

__all__ = [
    "calculus", "creation", "factorizations", "histograms", "joining", "linear_algebra", "padding", "quantiles",
    "reductions", "refused", "selection", "shaping", "sorting", "special", "statistics", "ufuncs",
]  # fmt: skip
