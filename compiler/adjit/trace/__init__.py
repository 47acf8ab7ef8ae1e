"""Tracing: from a Python function that calls NumPy to a graph.

tracer       Tracer and NumPy's protocols
context      the trace under way
handle       what in-place code means: root and path
indexing     x[key]
promote      NumPy's promotion, weak scalars, the warning of widening
locate       the user's file and line
frozen       random numbers that a trace would draw once
returned     errors that point at a function's return
refuse       every text with which tracing says no
table        which implementation stands for which function of NumPy
dispatch     how a call of a function finds it
    ufuncs       how a call of a ufunc runs; operators: Python's
lower        the vocabulary of implementations
arithmetic, methods, functions/   the implementations
known        values that are known inside a trace
exchange     functions that are exchanged while a trace is under way
    undispatched what stands for those that do not dispatch
constructors float(x), np.float64(x): classes that are called with tracers
checks       what must hold when the program runs, and no value is made of
function     trace_flat, inline, apply
"""

from adjit.trace import arithmetic, dispatch, functions, methods, operators, ufuncs, undispatched
from adjit.trace.context import Trace, current_trace
from adjit.trace.function import Traced, apply, asarray, inline, mark_table, stop_gradient, trace_flat
from adjit.trace.table import implements, refused, ufunc
from adjit.trace.tracer import Tracer, is_tracer

__all__ = [
    "Trace", "Traced", "Tracer", "apply", "arithmetic", "asarray", "current_trace", "dispatch", "functions",
    "implements", "inline", "is_tracer", "mark_table", "methods", "operators", "refused", "stop_gradient", "trace_flat",
    "ufunc", "ufuncs", "undispatched",
]  # fmt: skip
