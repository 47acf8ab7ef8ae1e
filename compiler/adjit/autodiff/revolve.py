"""When to keep which state of a loop, so that the loop backward has the state ahead of each turn: offline binomial
checkpointing, from numbers to numbers.

With room for k states, the first one among them, n turns need

    t(n, k) = r n - beta(k + 1, r - 1)    with  beta(k, r) = (k + r)! / (k! r!)  and the least r with beta(k, r) >= n

steps forward to have each state once, from the last to the first; no way needs fewer (A. Griewank and A. Walther,
Algorithm 799: Revolve, ACM Transactions on Mathematical Software 26, 2000). A step is a turn that gives nothing but the
next state; what the adjoint of a turn computes again beside is not counted. The n - 1 first ones are those of the loop
forward itself.

States form a stack: one is kept until all turns after it have been taken back, so each is kept once at most. A loop
that does not know n keeps states at a stride that doubles (after Wang, Moin and Iaccarino, Minimal repetition dynamic
checkpointing, SIAM Journal on Scientific Computing 31, 2009).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


def beta(k: int, r: int) -> int:
    """The most turns that k states and no step taken more than r times allow."""
    return math.comb(k + r, k) if r >= 0 else 0


def forward_steps(n: int, k: int) -> int:
    """The fewest steps forward for n turns with room for k states: t(n, k)."""
    if n < 2:
        return 0
    r = _repetitions(n, k)
    return r * n - beta(k + 1, r - 1)


def _repetitions(n: int, k: int) -> int:
    """The least r with beta(k, r) >= n."""
    low, high = 0, 1
    while beta(k, high) < n:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if beta(k, middle) >= n else (middle + 1, high)
    return low


def online_rooms(k: int) -> int:
    """How many of k states a loop keeps on its way forward that does not know how far it goes: an odd number, so that
    every power of 2 is a way to go round them. One is the first state. A quarter, or five, are for the way back:
    fewer would have to take a long stretch again turn by turn."""
    return max(1, (k - max(k // 4, 5) - 1) | 1)


def online_steps(n: int, k: int) -> int:
    """The turns forward of a loop that stopped after n, those of the loop itself and those taken again, with room for k
    states: every stride-th was kept on the way, and between two of these the fewest steps are taken."""
    a, stride = online_rooms(k), 1
    if a == 1:
        return n + forward_steps(n, k)
    while n > (a + 1) * stride:
        stride *= 2
    steps, end = n, n
    for place in reversed(range(min(-(-n // stride), a))):
        steps += forward_steps(end - place * stride, k - place)
        end = place * stride
    return steps


class Schedule(NamedTuple):
    """By the number of a turn, in the order forward:

    `row`     where the state lies that is read ahead of taking it back: 0 is the first state
    `back`    how many turns before its own that is the state of
    `stored`  0, or how many turns further on the turn lies ahead of which the state before this one is kept, on the way
              to it: in the row after those on the way"""

    row: np.ndarray
    back: np.ndarray
    stored: np.ndarray


def schedule(n: int, k: int) -> Schedule:
    """What to keep of n turns with room for k states.

    A stretch of turns with a state ahead of it keeps another one in its midst, deals with what lies after that in one
    room less, then with what lies ahead of it. Stretches of a length in a row are all alike: the first one is copied,
    so that there is work for some hundreds of them, however many turns there are."""
    row, back, stored = (np.zeros(n, np.int64) for _ in range(3))
    known: dict[tuple[int, int], int] = {}
    waiting = [(0, n, 0, _repetitions(n, k), False)] if n else []
    while waiting:
        first, length, at, r, is_done = waiting.pop()
        end, free = first + length, k - at
        if (length, at) in known:
            start = known[length, at]
            for array in (row, back, stored):
                array[first + 1 : end] = array[start + 1 : start + length]
        elif free == 1:
            back[first:end] = np.arange(length)
            row[first:end] = at
        elif length - 1 <= free:
            # There is room for all, but for the last one, which is taken back at once.
            row[first : end - 1] = at + np.arange(length - 1)
            stored[first + 1 : end - 1] = np.arange(length - 2, 0, -1)
        elif not is_done:
            while beta(free, r - 1) >= length:
                r -= 1
            split = min(beta(free, r - 1), length - beta(free - 1, r - 1))
            stored[first + split] = length - 1 - split
            waiting += [(first, length, at, r, True), (first + split, length - split, at + 1, r, False),
                        (first, split, at, r - 1, False)]  # fmt: skip
            continue
        known.setdefault((length, at), first)
        row[first], back[first] = at, 0
        row[end - 1], back[end - 1] = at, length - 1
    return Schedule(row, back, stored)


class Stretches(NamedTuple):
    """The same as the loop backward reads it, by turns in the order forward.

    `row`        where the state lies that a turn begins with; the last turn's lies after all that are kept
    `stretches`  the first of its stretches forward, and the one after the last: those of the last turn come first
    `steps`      of each stretch, the turn that it begins with, and the one after its last
    `into`       of each stretch, the row that its last state is written to
    `kept`       the turns ahead of which the loop forward keeps the state, the first one among them"""

    row: np.ndarray
    stretches: np.ndarray
    steps: np.ndarray
    into: np.ndarray
    kept: np.ndarray


def stretches(n: int, k: int) -> Stretches:
    """What the loop backward does ahead of each of n turns."""
    row, back, stored = schedule(n, k)
    turns = np.arange(n)
    # The loop forward was on the way to the last turn.
    places = np.flatnonzero(stored)
    goals = places + stored[places]
    kept = places[goals == n - 1]
    places, goals = places[goals < n - 1], goals[goals < n - 1]
    # Where stretches end: at what is kept on the way, and at the turn itself, if that is further on.
    goes_on = (back > 0) & (turns < n - 1)
    ends = np.concatenate([places, turns[goes_on]])
    goals = np.concatenate([goals, turns[goes_on]])
    order = np.lexsort((ends, -goals))
    ends, goals = ends[order], goals[order]
    count = np.bincount(goals, minlength=n)
    after = np.cumsum(count[::-1])[::-1]
    first = after - count
    is_first = np.arange(len(ends)) == first[goals]
    begins = np.where(is_first, goals - back[goals], np.roll(ends, 1))
    into = row[goals] + 1 + np.arange(len(ends)) - first[goals]
    row = row.copy()
    row[n - 1 :] = min(k, n - 1)
    return Stretches(
        row,
        np.stack([first, after], 1),
        np.stack([begins, ends], 1),
        into,
        np.concatenate([[0], kept]),
    )
