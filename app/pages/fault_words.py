"""What is wrong with a field, in words for people: checks of definitions speak of strings, patterns and items."""

import re
from typing import Final

_WORDS: Final = (
    (
        r"Field required|(String|Value) should have at least 1 (character|items? after validation, not 0)",
        "must not be empty",
    ),
    (
        r"String should match pattern '\^\[a-z0-9\]\[a-z0-9_.*'",
        "must be lower-case letters, digits, - and _, at most 63, with a letter or a digit first",
    ),
    (r"String should match pattern .*", "must have the form that is described beside it"),
    (
        r"(?:String|Value) should have at most (\d+) (?:characters|items after validation, not \d+)",
        r"must have at most \1 characters",
    ),
    (r"List should have at least (\d+) items? after validation, not (\d+)", r"must be at least \1, and there are \2"),
    (r"List should have at most (\d+) items? after validation, not (\d+)", r"must be at most \1, and there are \2"),
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*|Input should be a finite number", "must be a number"),
    (r"Input should be less than or equal to (\S+)", r"must be at most \1"),
    (r"Input should be less than (\S+)", r"must be less than \1"),
    (r"Input should be greater than or equal to (\S+)", r"must be at least \1"),
    (r"Input should be greater than (\S+)", r"must be more than \1"),
)
_COMPILED: Final = tuple((re.compile(pattern), words) for pattern, words in _WORDS)


def fault_words(text: str) -> str:
    """The fault in words; what has none is said as it is. Several are joined by `; `."""
    return "; ".join(_one(part) for part in text.split("; "))


def _one(text: str) -> str:
    for pattern, words in _COMPILED:
        found = pattern.fullmatch(text)
        if found:
            return found.expand(words)
    return text
