"""Values as text, which is how ids and levels are compared: the same for one whatever type of number holds it.

Whole numbers have no decimals, and zero has no sign. Floats from 2^63 on, and fractions, are as DuckDB writes them.
`warehouse.compile.words` says the same to other engines.
"""

_LARGEST_FLOAT = repr(float(2**63))


def plain_text(expression: str) -> str:
    """SQL of a value as text. A number that shares its column with text is read as text: 12 must not become 12.0.

    Of whole decimals all zeros go; text keeps them, for 2.00 may be no number.
    """
    kind = f"typeof({expression})"
    return (
        f"CASE WHEN {kind} IN ('FLOAT', 'DOUBLE') THEN {_of_float(expression)}"
        f" WHEN {kind} LIKE 'DECIMAL%' THEN {_without_zeros(expression, '0+')}"
        f" ELSE {_without_zeros(expression, '0')} END"
    )


def id_text(unit: str, kind: str) -> str:
    """SQL of an id in a column of floats or decimals, as tools make of whole numbers with nulls: 13085, not 13085.0."""
    return _without_zeros(unit, "0+") if kind.startswith("DECIMAL") else _of_float(unit)


def _without_zeros(expression: str, zeros: str) -> str:
    return f"regexp_replace(CAST({expression} AS VARCHAR), '^(-?[0-9]+)\\.{zeros}$', '\\1')"


def _of_float(expression: str) -> str:
    number = f"TRY_CAST({expression} AS DOUBLE)"
    is_whole = f"abs({number}) < {_LARGEST_FLOAT} AND {number} = floor({number})"
    whole = f"CAST(TRY_CAST({number} AS BIGINT) AS VARCHAR)"
    return f"CASE WHEN {is_whole} THEN {whole} ELSE CAST({expression} AS VARCHAR) END"
