"""Loops and branches of a user's functions: `scan`, `fori_loop`, `while_loop`, `map`; `cond`, `switch`; and
`checkpoint`, a loop of one turn for what a gradient keeps of it.

loops     the loops that users call
branches  the branches that they call
call      one call of a loop, checked
carry     the types of what is carried, and errors about it
bounds    how many turns there are between bounds that are traced
flags     what decides: one bool
kept      what a gradient keeps of a loop
again     `checkpoint`
plain     a loop outside of a trace: Python's
traced    a loop inside of a trace: a node with a body
operands  what a body reads from outside becomes an operand
parts     which operands a turn reads a part of
"""

from adjit.control.again import checkpoint
from adjit.control.branches import cond, switch
from adjit.control.loops import fori_loop, map, scan, while_loop

__all__ = ["checkpoint", "cond", "fori_loop", "map", "scan", "switch", "while_loop"]
