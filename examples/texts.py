"""Text as numbers, which the examples that write learn from.

`load()` gives the 80,000 characters of Shakespeare beside this file (data/README.md), `load(path)` those of any file of
UTF-8, compressed by gzip or not: the numbers of its characters, int32 of shape (length,), and the characters by number.
"""

import gzip
from pathlib import Path

import numpy as np

SHAKESPEARE = Path(__file__).parent / "data" / "shakespeare.txt.gz"


def load(path=SHAKESPEARE):
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        characters, codes = np.unique(list(file.read()), return_inverse=True)
    return codes.astype(np.int32), characters


def windows(codes, length, shift=0):
    """The text cut into rows of length + 1, of which each begins with the last character of the one before.

    All shifts below `length` give the same number of rows."""
    count = len(codes) // length - 2
    return np.lib.stride_tricks.sliding_window_view(codes[shift:], length + 1)[: count * length : length]


def bits_of_pairs(train, test, count):
    """Bits per character of a model that knows how often each character follows each other one in `train`."""
    pairs = np.full((count, count), 0.1)
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    return -np.mean(np.log2((pairs / pairs.sum(1, keepdims=True))[test[:-1], test[1:]]))
