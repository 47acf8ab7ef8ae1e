"""Formulas of SymPy: expressions become graphs, and graphs expressions. SymPy is imported where it is used.

arguments   which symbols an argument holds, and what a call gives for them
terms       expressions as a list in which equal parts stand once; numbers and names that it does not know
heads       what each function of SymPy is in ops; special: those that are composed of many
scalars     the list as a graph of scalars, with its derivatives
spread      that graph on arrays, inside of a trace
formula     all of these: a formula as a function of traced values
expressions a graph of scalars as expressions
"""

from adjit.formulas.expressions import Expressions, length_of, symbols_of
from adjit.formulas.formula import Formula

__all__ = ["Expressions", "Formula", "length_of", "symbols_of"]
