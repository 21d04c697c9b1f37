"""Values as text, which is how ids are compared: the same for an id whatever type of number holds it."""


def plain_text(expression: str) -> str:
    """SQL of a value as text. A number that shares its column with text is read as text: 12 must not become 12.0.

    Of whole decimals all zeros go; text keeps them, for 2.00 may be no number.
    """
    zeros = f"CASE WHEN typeof({expression}) LIKE 'DECIMAL%' THEN '0+' ELSE '0' END"
    return f"regexp_replace(CAST({expression} AS VARCHAR), '^(-?[0-9]+)\\.' || {zeros} || '$', '\\1')"


def id_text(unit: str, kind: str) -> str:
    """SQL of an id in a column of floats or decimals, as tools make of whole numbers with nulls: 13085, not 13085.0."""
    if kind.startswith("DECIMAL"):
        return plain_text(unit)
    # Every whole number below 2^53 is a float.
    is_whole = f"abs({unit}) < {float(2**53)!r} AND {unit} = floor({unit})"
    return f"CASE WHEN {is_whole} THEN CAST(CAST({unit} AS BIGINT) AS VARCHAR) ELSE CAST({unit} AS VARCHAR) END"
