"""The published comparison is the one that the tests make."""

from tests.golden.report import DOCUMENT, document


def test_the_published_table_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.golden.report`"
