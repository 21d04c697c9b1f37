"""Units in two variants of a batch are suspected whatever their ids look like."""

from random import Random

import pyarrow as pa
import pytest

from warehouse.crossed_units import VariantsSeen, text_hashes
from warehouse.vectors import FEW_TEXTS


def exposures(rows: list[tuple[str, str, str]]) -> pa.Table:
    experiment, unit, variant = (pa.array([row[i] for row in rows]) for i in range(3))
    columns = [experiment.cast(FEW_TEXTS), unit, variant.cast(FEW_TEXTS)]
    return pa.Table.from_arrays(columns, ["experiment_key", "unit_id", "variant_key"])


def test_the_same_text_has_the_same_hash_wherever_it_stands() -> None:
    random = Random(4)
    texts = ["".join(random.choices("ab0é\u3000", k=random.randint(1, longest))) for longest in (4, 12, 40) * 100]
    alone = [int(text_hashes(pa.chunked_array([[text]]))[0]) for text in texts]
    for some in (slice(None), slice(0, None, 3), slice(1, None, 3), slice(2, None, 3)):
        column = pa.array(["skipped", *texts[some]]).slice(1)
        assert text_hashes(pa.chunked_array([column, column])).tolist() == alone[some] * 2
    assert len(set(alone)) == len(set(texts))


@pytest.mark.parametrize("unit", ["7", "user-0007", "0f8fad5b-d9cb-469f-a165-70867728950e"])
def test_a_unit_in_two_variants_of_an_experiment_is_suspected_and_no_other(unit: str) -> None:
    others = [("a", f"{unit}{i}", "control" if i % 2 else "treatment") for i in range(100)]
    seen = VariantsSeen()
    seen.add(exposures([*others, ("a", unit, "control"), ("b", unit, "treatment"), ("a", unit, "control")]))
    assert not seen.suspicious()
    seen.add(exposures([("c", unit, "treatment"), ("a", unit, "treatment")]))
    assert seen.suspicious()


def test_more_variants_than_are_told_apart_are_suspected() -> None:
    seen = VariantsSeen()
    seen.add(exposures([("a", f"u{i}", f"v{i}") for i in range(1025)]))
    assert seen.suspicious()
