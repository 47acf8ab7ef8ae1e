"""Subscripts: what each letter is, and the texts that have no meaning."""

from __future__ import annotations

import itertools

import pytest

from adjit.ir.subscripts import Subscripts

TEXTS = ["ik,kj->ij", "bik,bkj->bij", "ij,ij->", "a,b->ab", "kbi,jkb->jib", ",->", "abcd,dcxy->yabx", "ij,ij->ji"]


@pytest.mark.parametrize("text", TEXTS)
def test_prints_as_it_parses(text: str) -> None:
    spec = Subscripts.of(text)
    assert str(spec) == text
    assert Subscripts.of(spec) is spec
    assert Subscripts.of(str(spec)) == spec
    assert hash(Subscripts.of(text)) == hash(spec)


@pytest.mark.parametrize("text", TEXTS)
def test_each_letter_has_one_part(text: str) -> None:
    spec = Subscripts.of(text)
    kinds = (spec.batch, spec.rows, spec.columns, spec.summed)
    assert sorted("".join(kinds)) == sorted(set(spec.left + spec.right))
    for (first, one), (second, other) in itertools.combinations(enumerate(kinds), 2):
        assert first == second or not set(one) & set(other)
    # In the order of the result, and what is summed in the order of the left operand.
    for kind in kinds[:3]:
        assert [c for c in spec.result if c in kind] == list(kind)
    assert [c for c in spec.left if c in spec.summed] == list(spec.summed)
    swapped = spec.swapped()
    assert (swapped.rows, swapped.columns, swapped.batch) == (spec.columns, spec.rows, spec.batch)
    assert set(swapped.summed) == set(spec.summed)


def test_parts() -> None:
    spec = Subscripts.of("kbi,jkb->jib")
    assert (spec.batch, spec.rows, spec.columns, spec.summed) == ("b", "i", "j", "k")
    assert spec.sizes((2, 3, 4), (5, 2, 3)) == {"k": 2, "b": 3, "i": 4, "j": 5}
    assert str(spec.without("b")) == "ki,jk->ji"
    assert str(spec.with_operand(1, "kj").with_result("ij")) == "kbi,kj->ij"
    assert str(spec.renamed()) == "abc,dab->dcb"
    assert spec.renamed() == Subscripts.of("xyz,wxy->wzy").renamed() != spec.swapped().renamed()


@pytest.mark.parametrize("text", ["", "ik,kj", "ik->i", "a,b,c->abc", "ik,kj->i->j", "->"])
def test_texts_without_a_meaning(text: str) -> None:
    with pytest.raises(ValueError, match="is no index expression of two operands"):
        Subscripts.of(text)
