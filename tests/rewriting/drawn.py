"""Programs drawn by chance: nested branches and loops with jumps, over integers, a float and an array."""

from __future__ import annotations

import random

HEAD = """import numpy as np

def program(a, b, f, w):
    w = w.copy()
    x = 1
    y = a
    z = 0
"""


class Drawn:
    """One program; `seed` says which."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0

    def text(self) -> str:
        """Its source, as a module."""
        return HEAD + "".join(self.block(1, 3, loop=False)) + "    return x, y, z, f, w\n"

    def block(self, depth: int, most: int, *, loop: bool) -> list[str]:
        """Lines of some statements."""
        made = []
        for _ in range(self.random.randint(1, most)):
            made += self.statement(depth, loop=loop)
        return made

    def statement(self, depth: int, *, loop: bool) -> list[str]:
        """Lines of one statement."""
        indent = "    " * depth
        kind = self.random.random()
        if depth > 3 or kind < 0.4:
            return [indent + self.simple() + "\n"]
        if kind < 0.65:
            return self.branch(depth, loop=loop)
        if kind < 0.75 and loop:
            jump = self.random.choice(["break", "continue", "break", "return y, x, z, f * 2, w"])
            return [f"{indent}if {self.test()}:\n", f"{indent}    {jump}\n"]
        if kind < 0.79:
            return [f"{indent}if {self.test()}:\n", f"{indent}    return x, z, y, f, w\n"]
        return self.loop(depth)

    def branch(self, depth: int, *, loop: bool) -> list[str]:
        """An `if` with what may belong to it."""
        indent = "    " * depth
        made = [f"{indent}if {self.test()}:\n", *self.block(depth + 1, 2, loop=loop)]
        if self.random.random() < 0.4:
            made += [f"{indent}elif {self.test()}:\n", *self.block(depth + 1, 2, loop=loop)]
        if self.random.random() < 0.5:
            made += [f"{indent}else:\n", *self.block(depth + 1, 2, loop=loop)]
        return made

    def loop(self, depth: int) -> list[str]:
        """A loop that ends."""
        indent = "    " * depth
        self.count += 1
        i = f"i{self.count}"
        heads = [
            [f"{indent}for {i} in range({self.random.randint(1, 4)}):\n"],
            [f"{indent}for {i} in range(b % 4):\n"],
            [f"{indent}for {i}, v in enumerate(w.copy()):\n", f"{indent}    f = f + 0.25 * v\n"],
            [f"{indent}{i} = 0\n", f"{indent}while {i} < 5 and ({self.test()}):\n", f"{indent}    {i} += 1\n"],
            [f"{indent}{i} = a % 3\n", f"{indent}while {i} > 0:\n", f"{indent}    {i} -= 1\n"],
        ]
        made = [*self.random.choice(heads), f"{indent}    z = (z + {i}) % 17\n", *self.block(depth + 1, 2, loop=True)]
        if self.random.random() < 0.2:
            made += [f"{indent}else:\n", *self.block(depth + 1, 1, loop=False)]
        return made

    def simple(self) -> str:
        """A statement without control flow, but that of expressions."""
        name = self.random.choice("xyz")
        return self.random.choice(
            [
                f"{name} = ({self.integer()} + {self.integer()}) % 23",
                f"{name} = {self.integer()} if {self.test()} else {self.integer()}",
                f"{name} = max({self.integer()}, {self.integer()}) - 1",
                "f = f * 0.5 + 1.0",
                f"f = min(f, 2.0 * w[{self.random.randint(0, 2)}])",
                f"w[{self.integer()} % 3] += 1.0",
                "w *= 0.5",
                f"{name} += 2",
            ]
        )

    def integer(self) -> str:
        """An expression of integers."""
        return self.random.choice(["x", "y", "z", "a", "b", "3", "x * 2", "(a - y)"])

    def test(self) -> str:
        """A condition."""
        one = self.random.choice(
            [
                f"{self.integer()} > {self.random.randint(0, 9)}",
                f"({self.integer()} + {self.integer()}) % 2 == 0",
                f"0 < {self.integer()} <= 5",
                "f > 1.5",
                f"w[{self.random.randint(0, 2)}] < 2.0",
                f"not {self.integer()} % 3",
                f"{self.integer()} in (1, 2, 4)",
            ]
        )
        kind = self.random.random()
        return one if kind < 0.7 else f"{one} {'and' if kind < 0.85 else 'or'} {self.test()}"
