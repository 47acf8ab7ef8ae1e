"""Python's own control flow, rewritten ahead of the trace (`jit(f, control_flow=True)`).

source       the syntax tree of a function
names, flow  which names are bound, read, changed, live
statements   each statement of control flow becomes a call, and
expressions  each expression
facts        what is told of them to what runs
functions    from a function to the rewritten one
run          what is called
branches     a branch whose condition is traced
loops        a loop whose end is traced
variables    the variables that these share with the function
sequences    what a `for` goes over
standins     max, min, range and their like
truth        the truth of a value
"""

from adjit.rewriting.functions import rewritten

__all__ = ["rewritten"]
