"""Loops of a user's function: `scan`, `fori_loop`, `map`.

loops     what users call
call      one call of a loop, checked
carry     the types of what is carried, and errors about it
plain     a loop outside of a trace: Python's
traced    a loop inside of a trace: a node with a body
operands  what a body reads from outside becomes an operand
parts     which operands a turn reads a part of
"""

from adjit.control.loops import fori_loop, map, scan

__all__ = ["fori_loop", "map", "scan"]
