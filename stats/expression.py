"""The expression tree behind formulas: its nodes, its value and exact gradient, its one spelling (METHODS §1).

Gradients are forward-mode dual numbers: every node carries its value (...,) and its derivatives (..., n_names).
Nothing here validates; `stats.formula.parse` is the only door.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Number:
    """A finite constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A metric key (or whatever the caller names its columns)."""

    key: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`operator` is one of `+ * / neg ** log exp min max`.

    Sums and products hold whole chains; `a - b` is the sum of `a` and `neg b`.
    """

    operator: str
    operands: tuple[Node, ...]


type Node = Number | Name | Operation


def names_in(node: Node) -> Iterator[str]:
    """Every name, in order of appearance, with repeats."""
    if isinstance(node, Name):
        yield node.key
    elif isinstance(node, Operation):
        for operand in node.operands:
            yield from names_in(operand)


def guarded(node: Node) -> Iterator[tuple[Node, str]]:
    """Every (sub-expression, operator) whose operator is undefined or steep where the sub-expression is zero."""
    if not isinstance(node, Operation):
        return
    if node.operator == "/":
        yield node.operands[1], "/"
    elif node.operator == "log":
        yield node.operands[0], "log"
    elif node.operator == "**":
        base, power = node.operands
        if isinstance(power, Number) and (power.value < 0 or not power.value.is_integer()):
            yield base, "**"
    for operand in node.operands:
        yield from guarded(operand)


_SIMPLE: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "+": np.add,
    "*": np.multiply,
    "/": np.divide,
    "min": np.minimum,
    "max": np.maximum,
}


def value_of(node: Node, columns: Mapping[str, Array]) -> Array:
    match node:
        case Number(number):
            return np.asarray(number)
        case Name(key):
            return columns[key]
        case Operation("**", (base, Number(power))):
            return np.asarray(value_of(base, columns) ** power)
        case Operation(operator, operands):
            values = [value_of(operand, columns) for operand in operands]
            if operator == "neg":
                return np.asarray(-values[0])
            if operator in ("log", "exp"):
                return np.asarray(np.log(values[0]) if operator == "log" else np.exp(values[0]))
            total = values[0]
            for value in values[1:]:
                total = np.asarray(_SIMPLE[operator](total, value))
            return total


type Dual = tuple[Array, Array]  # value (...,), gradient (..., n_names)


def dual_of(node: Node, seeds: Mapping[str, Dual], gradient_shape: tuple[int, ...]) -> Dual:
    match node:
        case Number(number):
            return np.asarray(number), np.zeros(gradient_shape)
        case Name(key):
            return seeds[key]
        case Operation("**", (base, Number(power))):
            value, slope = dual_of(base, seeds, gradient_shape)
            rate = np.zeros_like(value) if power == 0 else power * value ** (power - 1)
            return np.asarray(value**power), slope * rate[..., None]
        case Operation(operator, operands):
            first, *rest = (dual_of(operand, seeds, gradient_shape) for operand in operands)
            if operator == "neg":
                return -first[0], -first[1]
            if operator == "log":
                return np.log(first[0]), first[1] / first[0][..., None]
            if operator == "exp":
                value = np.exp(first[0])
                return value, first[1] * value[..., None]
            if operator in ("min", "max"):
                return _extreme(operator, [first, *rest])
            for other in rest:
                first = _combine(operator, first, other)
            return first


def _combine(operator: str, left: Dual, right: Dual) -> Dual:
    (a, da), (b, db) = left, right
    if operator == "+":
        return a + b, da + db
    if operator == "*":
        return a * b, da * b[..., None] + db * a[..., None]
    quotient = a / b
    return quotient, (da - db * quotient[..., None]) / b[..., None]


def _extreme(operator: str, duals: list[Dual]) -> Dual:
    """Smallest or largest operand; tied operands share the derivative evenly, so their order does not matter."""
    values = np.stack(np.broadcast_arrays(*(value for value, _ in duals)))
    best = values.min(axis=0) if operator == "min" else values.max(axis=0)
    tied = (values == best).astype(np.float64)
    share = tied / tied.sum(axis=0)
    slope = np.zeros(np.broadcast_shapes(*(slope.shape for _, slope in duals)))
    for part, winner, (_, own) in zip(share, tied, duals, strict=True):
        slope = slope + np.where(winner[..., None] > 0, own * part[..., None], 0.0)
    return best, np.where(np.isnan(best)[..., None], np.nan, slope)


def write(node: Node) -> str:
    """The shortest spelling that parses back to the same tree."""
    return _spell(node)[0]


# Binding strength, weakest first; an operand weaker than its place asks for gets brackets.
_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)


def _spell(node: Node) -> tuple[str, int]:
    match node:
        case Number(number):
            text = str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
            return text, _SIGN if text.startswith("-") else _ATOM
        case Name(key):
            return key, _ATOM
        case Operation("+", (first, *rest)):
            text = _inside(first, _PRODUCT)
            for operand in rest:
                spelled = _inside(operand, _PRODUCT)
                match operand:
                    case Operation("neg", (positive,)):
                        text += f" - {_inside(positive, _PRODUCT)}"
                    case Number(number) if spelled.startswith("-"):
                        text += f" - {spelled[1:]}"
                    case _:
                        text += f" + {spelled}"
            return text, _SUM
        case Operation("*", (first, *rest)):
            return " * ".join([_inside(first, _PRODUCT), *(_inside(operand, _SIGN) for operand in rest)]), _PRODUCT
        case Operation("/", (top, bottom)):
            return f"{_inside(top, _PRODUCT)} / {_inside(bottom, _SIGN)}", _PRODUCT
        case Operation("neg", (operand,)):
            return f"-{_inside(operand, _SIGN)}", _SIGN
        case Operation("**", (base, power)):
            return f"{_inside(base, _ATOM)} ** {_inside(power, _SIGN)}", _POWER
        case Operation(function, operands):
            return f"{function}({', '.join(write(operand) for operand in operands)})", _ATOM


def _inside(node: Node, place: int) -> str:
    text, strength = _spell(node)
    return text if strength >= place else f"({text})"
