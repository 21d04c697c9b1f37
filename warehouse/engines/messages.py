"""What engines say went wrong, without what was in anybody's row.

Engines quote the value that they could not read. Definitions are not secret, so faults in the statement (names and
types) keep their words; faults of data keep their code and the words around the value.
"""

import re

_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)
_NUMBER = re.compile(r"(?<![A-Za-z_0-9])-?\d[\d.,:eE+\-/]*")
LONGEST = 300


def without_values(message: str) -> str:
    """The first line, with all that stands between the first and the last quote left out, and every number.

    From the first to the last, because a value may itself hold quotes.
    """
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    # What a value may hold is anything, also line breaks: then its end is missing, and the rest of the line goes too.
    for quote in "'\"":
        if line.count(quote) % 2:
            line = line[: line.index(quote)] + "…"
    return _NUMBER.sub("…", _QUOTED.sub("…", line))[:LONGEST]


def first_line(message: str, *hidden: str | None) -> str:
    """The first line that says something; `hidden` are secrets that must not be in it."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    for secret in hidden:
        if secret:
            line = line.replace(secret, "…")
    return line[:LONGEST]
