"""Subscripts: which axes of two operands a contraction multiplies, sums and keeps. It prints as einsum writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Subscripts:
    """A letter for each axis of the left operand, of the right one, and of the result: `ik,kj->ij`.

    Letters of both operands and the result are the `batch`, of one operand and the result the `rows` (left) or the
    `columns` (right), each in the order of the result; those of both operands alone are `summed`, in the order of the
    left one."""

    left: str
    right: str
    result: str
    batch: str = field(init=False, repr=False, compare=False)
    rows: str = field(init=False, repr=False, compare=False)
    columns: str = field(init=False, repr=False, compare=False)
    summed: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        left, right, result = self.left, self.right, self.result
        kinds = {
            "batch": [c for c in result if c in left and c in right],
            "rows": [c for c in result if c in left and c not in right],
            "columns": [c for c in result if c in right and c not in left],
            "summed": [c for c in left if c not in result],
        }
        for name, letters in kinds.items():
            object.__setattr__(self, name, "".join(letters))

    @classmethod
    def of(cls, written: str | Subscripts) -> Subscripts:
        """From the text; raises ValueError where that is no index expression of two operands."""
        if isinstance(written, Subscripts):
            return written
        operands, arrow, result = written.partition("->")
        left, comma, right = operands.partition(",")
        if not arrow or not comma or "," in right or "->" in result:
            raise ValueError(f"{written!r} is no index expression of two operands")
        return cls(left, right, result)

    def __str__(self) -> str:
        return f"{self.left},{self.right}->{self.result}"

    @property
    def operands(self) -> tuple[str, str]:
        """The letters of the left operand and of the right one."""
        return self.left, self.right

    def sizes(self, left: Sequence[int], right: Sequence[int]) -> dict[str, int]:
        """The extent of each letter for operands of these shapes."""
        return dict(zip(self.left + self.right, (*left, *right), strict=True))

    def swapped(self) -> Subscripts:
        """The operands in each other's place."""
        return Subscripts(self.right, self.left, self.result)

    def with_operand(self, side: int, letters: str) -> Subscripts:
        """Other letters for the left operand (0) or the right one (1)."""
        return replace(self, **{("left", "right")[side]: letters})

    def with_result(self, letters: str) -> Subscripts:
        """Other letters for the result."""
        return replace(self, result=letters)

    def without(self, letters: str | set[str]) -> Subscripts:
        """These letters taken out everywhere."""
        kept = ("".join(c for c in part if c not in letters) for part in (*self.operands, self.result))
        return Subscripts(*kept)

    def renamed(self) -> Subscripts:
        """The letters a, b, c ... in the order in which they first stand: equal for contractions that do the same."""
        names: dict[str, str] = {}
        for letter in str(self):
            if letter.isalpha():
                names.setdefault(letter, chr(ord("a") + len(names)))
        return Subscripts(*("".join(names[c] for c in part) for part in (*self.operands, self.result)))
