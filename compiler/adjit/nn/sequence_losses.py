"""Connectionist temporal classification: the loss of a sequence of labels whose places in time nobody knows.

Graves, Fernández, Gomez, Schmidhuber 2006. The probability of the labels is a sum over all ways in which they, each
repeated and with blanks between them, fill the time; the forward recursion takes it in logarithms, as one loop over
time for the whole batch, whose adjoint is the backward recursion."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.control import scan
from adjit.nn.activations import log_softmax, logsumexp
from adjit.nn.operands import counted, dtype_of, numbers, operand, positions
from adjit.nn.targets import KNOWN, reduced
from adjit.trace import apply, is_tracer
from adjit_runtime import checks
from adjit_runtime.errors import DTypeError, IndexOutOfRange, ShapeError
from adjit_runtime.public import public


@public(KNOWN)
def ctc(
    logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    blank: int = 0,
    batch_first: bool = False,
    zero_infinity: bool = False,
    reduction: str = "mean",
    weights: Any = None,
) -> Any:
    """-log P(labels | logits), summed over all alignments (connectionist temporal classification).

    logits         (time, batch, classes), or (batch, time, classes) with `batch_first`; log-probabilities will do
    labels         (batch, length): integers, each a class other than `blank`
    logit_lengths  (batch,): how much of the time each sequence has; None: all
    label_lengths  (batch,): how many of its labels each has; None: all. What stands after them may be anything
    blank          the class that stands for no label
    zero_infinity  a sequence that is too short for its labels has the loss inf, and no derivative; with this, 0
    Returns        (for "none") (batch,), dtype of the logits. A mean is one over sequences: PyTorch's, which divides by
                   the number of labels first, is np.mean(losses / np.maximum(label_lengths, 1))

    `weights` multiply the losses; a mean is then sum(weights * losses) / sum(weights). Raises ShapeError where shapes
    do not fit, DTypeError for labels or lengths that are no integers, and IndexOutOfRange for a label that is no class
    or the blank, and for lengths longer than what is there. Source: Graves, Fernández, Gomez, Schmidhuber 2006.

    >>> import numpy as np
    >>> from adjit import nn
    >>> logits = np.zeros((2, 1, 3))  # of the nine ways, three say "1": 11, 1-, -1
    >>> round(float(nn.ctc(logits, np.array([[1]]))), 4), round(float(np.log(9 / 3)), 4)
    (1.0986, 1.0986)
    """
    logits, labels = numbers("ctc: logits", logits), operand("ctc: labels", labels)
    first = checks.flag("ctc: batch_first", batch_first)
    if np.ndim(logits) != 3:
        order = "(batch, time, classes)" if first else "(time, batch, classes)"
        raise ShapeError(f"ctc: logits are {order}, not of shape {np.shape(logits)}")
    logits = np.swapaxes(logits, 0, 1) if first else logits
    time, batch, classes = np.shape(logits)
    if np.ndim(labels) != 2 or np.shape(labels)[0] != batch:
        raise ShapeError(f"ctc: labels are (batch, length) with a batch of {batch}, not of shape {np.shape(labels)}")
    if dtype_of(labels).kind not in "iu":
        raise DTypeError(f"ctc: labels are integers, not {dtype_of(labels)}")
    blank = checks.integer("ctc: blank", blank, 0, classes - 1) if classes else 0
    most = np.shape(labels)[1]
    frames = _lengths("logit_lengths", logit_lengths, batch, time)
    sizes = _lengths("label_lengths", label_lengths, batch, most)
    path = _path(labels, sizes, blank, classes)
    # One column for each place of the path, read once: nothing in the loop looks for a class.
    emitted = np.take_along_axis(log_softmax(logits), np.broadcast_to(path, (time, *np.shape(path))), axis=2)
    each = -_final(_forward(emitted, path, frames), sizes)
    if checks.flag("ctc: zero_infinity", zero_infinity):
        each = np.where(each == np.inf, 0.0, each)
    return reduced("ctc", each, reduction, weights)


def _lengths(name: str, lengths: Any, batch: int, most: int) -> Any:
    """Lengths as int64 (batch,), each from 0 to `most`; None where all have that."""
    if lengths is None:
        return None
    found = positions(f"ctc: {name}", lengths, most + 1, 0, "a length")
    if np.shape(found) != (batch,):
        raise ShapeError(f"ctc: {name} of shape {np.shape(found)} is not one for each of {batch} sequences")
    return found


def _path(labels: Any, sizes: Any, blank: int, classes: int) -> Any:
    """Labels with blanks around each: classes (batch, 2 length + 1). What stands after a label's end is blank, too."""
    batch, most = np.shape(labels)
    labels = labels.astype(np.int64) if is_tracer(labels) else np.asarray(labels, np.int64)
    wrong = (labels < 0) | (labels >= classes) | (labels == blank)
    there = None if sizes is None else counted(most, 1, 2, sizes) < sizes[:, None]
    if there is not None:
        wrong = wrong & there
    text = f"ctc: labels are classes from 0 to {classes - 1} other than {blank}, which is the blank"
    if is_tracer(wrong):
        labels = apply("check_holds", labels, ~np.any(wrong), error="IndexOutOfRange", text=text)
    elif np.any(wrong):
        raise IndexOutOfRange(f"{text}, not {labels[wrong][0]}")
    found = labels if there is None else np.where(there, labels, blank)
    blanks = np.full((batch, most), blank)
    return np.concatenate(
        [np.stack([blanks, found], axis=2).reshape(batch, 2 * most), np.full((batch, 1), blank)], axis=1
    )


def _forward(emitted: Any, path: Any, frames: Any) -> Any:
    """The logarithm of the probability of each place of the path after the last frame: (batch, 2 length + 1)."""
    time, batch, size = np.shape(emitted)
    dtype = dtype_of(emitted)
    # As if a frame before the first one had been at the first blank, which a path may leave at once.
    start = np.full((batch, size), -np.inf, dtype)
    start[:, 0] = 0.0
    never = np.full((batch, 2), -np.inf, dtype)
    # A label follows the one two places before it, but for its own kind: between these is a blank.
    skips = path[:, 2:] != path[:, :-2]

    def turn(alpha: Any, x: Any) -> tuple[Any, None]:
        frame, i = x
        moved = np.concatenate([never[:, :1], alpha[:, :-1]], axis=1)
        skipped = np.concatenate([never, np.where(skips, alpha[:, :-2], -np.inf)], axis=1)[:, :size]
        after = logsumexp(np.stack([alpha, moved, skipped]), axis=0) + frame
        return after if frames is None else np.where((i < frames)[:, None], after, alpha), None

    return scan(turn, start, (emitted, np.arange(time)))[0]


def _final(last: Any, sizes: Any) -> Any:
    """The logarithm of the probability that a path is over: at its last label, or the blank after it."""
    if sizes is not None:
        place = counted(np.shape(last)[1], 1, 2, sizes)
        ends = (place == 2 * sizes[:, None]) | (place == 2 * sizes[:, None] - 1)
        return logsumexp(np.where(ends, last, -np.inf), axis=1)
    return logsumexp(last[:, -2:], axis=1)
