"""Ids are found by their whole text, whatever their hashes."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.id_lookup import IdLookup, size_of

TEXTS = st.text("ab\x00é", max_size=9) | st.text("01", min_size=15, max_size=17)


def hashes_of(texts: list[str], bits: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Few bits mean that many texts share a hash."""
    few = [sum(text.encode()) % (1 << bits) << 64 - bits for text in texts]
    return np.array(few, dtype=np.uint64)


@settings(max_examples=60)
@given(
    known=st.sets(TEXTS, max_size=12), asked=st.lists(TEXTS, max_size=30), bits=st.integers(1, 6), cut=st.integers(0, 3)
)
def test_an_id_is_found_with_what_is_stored_with_it_even_where_all_hashes_are_alike(
    known: set[str], asked: list[str], bits: int, cut: int
) -> None:
    texts = sorted(known)
    lengths = {n: sum(len(text.encode()) == n for text in texts) for n in {len(text.encode()) for text in texts}}
    lookup = IdLookup(lengths, 2)
    for some in (texts[:5], texts[5:]):
        places = [[texts.index(text), -texts.index(text)] for text in some]
        lookup.add(pa.array(some, pa.string()), hashes_of(some, bits), np.array(places, dtype=np.int64).reshape(-1, 2))
    asked += texts
    batch = pa.array(["x"] * cut + asked, pa.string())[cut:]
    found, stored = lookup.finish().find(batch, hashes_of(asked, bits))
    assert found.tolist() == [text in known for text in asked]
    assert [texts[place] for place in stored[found, 0]] == [text for text in asked if text in known]
    assert (stored[found, 1] == -stored[found, 0]).all()


def test_the_size_of_a_lookup_is_that_of_its_arrays() -> None:
    assert size_of({14: 10_000_000}, 2) == 10_000_000 * 4 * 8 + 5 * 2**25
    assert size_of({}, 2) == 0
