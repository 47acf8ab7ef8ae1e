"""Dataclasses as nodes of trees, and values for their static fields."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree

X, Y = np.arange(3.0), np.arange(3.0, 6.0)


Pair = namedtuple("Pair", "x y")


STATIC = {"static": True}


@dataclass
class Two:
    """Two children."""

    x: Any
    y: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    """Without a dict of its own."""

    y: Any
    x: Any = 1.0


@dataclass
class Layer:
    """Fields that are static by their value, and as they say."""

    w: Any
    activation: str = "tanh"
    b: Any = None
    size: Any = field(default=3, metadata=STATIC)
    flag: Any = field(default=True, metadata={"pytree_node": False})


@dataclass
class Deeper(Two):
    """One child more."""

    z: Any = None


@optree.dataclasses.dataclass(namespace="tests")
class Optree:
    """One that optree registers."""

    x: Any
    y: Any


@optree.dataclasses.dataclass(namespace="tests")
class OptreeLayer:
    """One with metadata."""

    x: Any
    y: Any
    n: Any = optree.dataclasses.field(default=2, pytree_node=False)


def by_hand(t: Any) -> Any:
    """x - y, of items or attributes."""
    return t["x"] - t["y"] if isinstance(t, dict) else t.x - t.y


def without(x: Any, name: str) -> Any:
    """An object that lost an attribute."""
    delattr(x, name)
    return x


@dataclass(unsafe_hash=True)
class Config:
    """A value that can be changed, and is told by its contents."""

    n: Any


@dataclass(eq=False)
class Identical:
    """A value that can be changed, and is told by what it is."""

    n: Any


class Hashed:
    """A value that can be changed, of a class that is no dataclass."""

    def __init__(self, n: Any) -> None:
        self.n = n

    def __hash__(self) -> int:
        return hash(self.n)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and self.n == other.n
