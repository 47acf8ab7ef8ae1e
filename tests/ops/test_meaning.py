"""Every op: the evaluator gives the meaning that NumPy gives it."""

from __future__ import annotations

import numpy as np
import pytest

from adjit.ir.evaluate import evaluate
from adjit.ir.op import OPS
from tests.ops.samples import COMPUTED, MEANING, assert_close, cases_of, graph_of, tolerance

WITHOUT_NUMPY = {"random_bits": "the known answers of Threefry are in test_random_bits"}


@pytest.mark.parametrize("name", [name for name in COMPUTED if name not in WITHOUT_NUMPY])
def test_the_evaluator_means_what_numpy_means(name: str) -> None:
    for case in cases_of(name):
        (found,) = evaluate(graph_of([case]), *case.arrays)
        with np.errstate(all="ignore"):
            wanted = np.asarray(MEANING[name](*case.arrays, **case.attrs)).astype(found.dtype)
        assert_close(found, wanted, case, 0.0 if tolerance(case) == 0 else 64.0)


def test_random_bits_are_threefrys() -> None:
    """Known answers of Threefry-2x32 with 20 rounds, from the test vectors of Random123 1.09."""
    answers = [
        ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]

    def word(pair: tuple[int, int]) -> np.int64:
        return np.uint64(pair[0] | pair[1] << 32).astype(np.int64)

    for key, counter, answer in answers:
        found = OPS["random_bits"].evaluate(word(key), word(counter))
        assert found == word(answer)
