"""Numbers are written once, the same everywhere, and never claim more than they know."""

from datetime import UTC, date, datetime, timedelta

from app.pages import formats, words
from app.pages.sign_in import safe_return
from stats.reasons import Reason

NBSP = "\u00a0"


def test_levels_keep_three_significant_digits_and_thousands() -> None:
    assert [formats.number(value) for value in (12345.0, 2.0649, 0.00123, 0, None, -1.5, 0.99996)] == [
        "12,345",
        "2.06",
        "0.00123",
        "0",
        "–",
        "−1.50",
        "1.00",
    ]


def test_probabilities_never_claim_certainty() -> None:
    assert formats.probability(1.0) == f"> 99.9{NBSP}%"
    assert formats.probability(0.0) == f"< 0.1{NBSP}%"
    assert formats.probability(0.956) == f"95.6{NBSP}%"
    assert formats.probability(None) == "–"


def test_shares_too_small_to_matter_are_not_written_in_scientific_notation() -> None:
    assert formats.share(3.7e-13) == f"< 0.001{NBSP}%"
    assert formats.share(0.5) == f"50{NBSP}%"
    assert [formats.points(value) for value in (0.0061, -0.0004, None)] == [
        f"+0.610{NBSP}points",
        f"−0.0400{NBSP}points",
        "–",
    ]
    assert formats.spread(0.01532) == f"1.5{NBSP}%"


def test_intervals_have_the_decimals_their_width_needs() -> None:
    assert formats.between(-0.021, 0.013) == f"−2.1{NBSP}% to +1.3{NBSP}%"
    assert formats.between(0.00012, 0.00153) == f"+0.01{NBSP}% to +0.15{NBSP}%"
    assert formats.between(None, 0.1) == "–"


def test_p_values_below_one_in_ten_thousand_say_only_that() -> None:
    assert [formats.p_value(value) for value in (1e-12, 0.0026, 0.04, None)] == ["< 0.0001", "0.0026", "0.040", "–"]


def test_times_are_utc_whatever_zone_they_came_in() -> None:
    oslo = datetime.fromisoformat("2026-09-07T01:30:00+02:00")
    assert formats.moment(oslo) == "6 Sep 2026, 23:30 UTC"
    assert formats.day(date(2026, 9, 7)) == "7 Sep 2026"
    start = datetime(2026, 9, 7, tzinfo=UTC)
    assert formats.days(start, start + timedelta(hours=3)) == "less than a day"
    assert formats.days(start, start + timedelta(days=12)) == "12 days"


def test_every_reason_the_estimators_give_has_a_sentence() -> None:
    assert {str(reason) for reason in Reason} <= set(words.REASONS)
    assert words.reason("some_new_code") == "Some new code."


def test_only_addresses_of_ours_are_returned_to() -> None:
    assert safe_return("/experiments?q=a") == "/experiments?q=a"
    assert {safe_return(bad) for bad in ("//x", "https://x", "/\\x", "javascript:alert(1)", "/sign-out", "")} == {"/"}


def test_p_values_are_compared_by_the_sign_that_is_true() -> None:
    assert [formats.p_equals(value) for value in (1e-9, 0.0026, None)] == ["p < 0.0001", "p = 0.0026", "–"]
    assert formats.p_equals(0.03, "q") == "q = 0.030"


def test_what_stands_in_backticks_is_code_and_everything_is_escaped() -> None:
    assert formats.coded("Give it a `margin` <b>") == "Give it a <code>margin</code> &lt;b&gt;"
    assert formats.coded("one ` alone <") == "one ` alone &lt;"


def test_counts_are_written_out() -> None:
    assert [formats.number(value, 9) for value in (0, 700, 12_345)] == ["0", "700", "12,345"]
