"""Formulas over metrics: a safe little language with exact gradients (METHODS §1, E1).

`parse` reads `+ - * /`, unary minus, powers with a numeric exponent, `log exp min max`, numbers and names. Nothing
else exists, and nothing is ever passed to `eval`. A `Formula` evaluates on arrays of any shape and differentiates
itself by forward-mode dual numbers, which is all the delta method and the metric tree need.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.expression import Array, Dual, Name, Node, Number, Operation, dual_of, guarded, names_in, value_of, write

MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 30
FUNCTIONS: Final = {"log": (1, 1), "exp": (1, 1), "pow": (2, 2), "min": (2, None), "max": (2, None)}

_STRANGE = re.compile(r"[^A-Za-z0-9_+\-*/(),.\s]")
_VOCABULARY = "Use + - * /, ** with a number, log, exp, min, max, numbers and metric keys."


class FormulaError(ValueError):
    """A formula that cannot be used: what is wrong, where (0-based `position`), the offending `text`, the `remedy`."""

    def __init__(self, problem: str, *, position: int, text: str, remedy: str) -> None:
        super().__init__(f"{problem} at position {position}: `{text}`. {remedy}")
        self.problem, self.position, self.text, self.remedy = problem, position, text, remedy


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed expression; equal formulas have equal trees. `names` are in order of first appearance."""

    root: Node
    names: tuple[str, ...]

    def evaluate(self, values: Mapping[str, Array | float]) -> Array:
        """The value, in the broadcast shape of the named arrays.

        Cells outside the domain (division by zero, log of a non-positive number) come back non-finite for the caller
        to mask; `denominators` says beforehand where that can happen. Raises `KeyError` for a missing name.
        """
        columns = {name: np.asarray(values[name], dtype=np.float64) for name in self.names}
        with np.errstate(all="ignore"):
            value = value_of(self.root, columns)
        return np.broadcast_to(value, np.broadcast_shapes(value.shape, *(c.shape for c in columns.values()))).copy()

    def value_and_gradient(self, values: Mapping[str, Array | float]) -> tuple[Array, Array]:
        """Value (...,) and gradient (..., n_names), the last axis in the order of `names` (METHODS §1).

        At a tie `min` and `max` have no derivative; the tied operands then share it evenly, whatever their order.
        """
        columns = np.broadcast_arrays(*(np.asarray(values[name], dtype=np.float64) for name in self.names))
        shape = columns[0].shape if columns else ()
        seeds: dict[str, Dual] = {}
        for position, (name, column) in enumerate(zip(self.names, columns, strict=True)):
            slope = np.zeros((*shape, len(self.names)))
            slope[..., position] = 1.0
            seeds[name] = (np.asarray(column), slope)
        with np.errstate(all="ignore"):
            value, slope = dual_of(self.root, seeds, (*shape, len(self.names)))
        return np.broadcast_to(value, shape).copy(), np.broadcast_to(slope, (*shape, len(self.names))).copy()

    def denominators(self) -> tuple[Formula, ...]:
        """Sub-expressions that must stay away from zero: divisors, logs, bases of negative or fractional powers."""
        found = dict.fromkeys(base for base, _ in guarded(self.root) if tuple(names_in(base)))
        return tuple(_formula(node) for node in found)

    def canonical(self) -> str:
        """One spelling per tree: `parse(f.canonical()) == f`. Operand order is kept; spaces and brackets are not."""
        return write(self.root)


def parse(text: str, names: Collection[str] | None = None) -> Formula:
    """Read a formula. `names` limits which keys may occur (None: any). Raises `FormulaError` with a remedy."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"The formula is {len(text)} characters long",
            position=MAX_LENGTH,
            text=text[MAX_LENGTH : MAX_LENGTH + 20],
            remedy=f"Keep it within {MAX_LENGTH} characters; define parts as metrics of their own.",
        )
    if strange := _STRANGE.search(text):
        raise FormulaError(
            "There is a character formulas do not use",
            position=strange.start(),
            text=strange.group(),
            remedy=_VOCABULARY,
        )
    body = re.sub(r"\s", " ", text)
    start = len(body) - len(body.lstrip())
    if not body.strip():
        raise FormulaError("The formula is empty", position=0, text=text, remedy="Write at least one metric key.")
    try:
        tree = ast.parse(body.strip(), mode="eval")
    except SyntaxError as error:
        where = max((error.offset or 1) - 1, 0)
        raise FormulaError(
            "This is not a complete expression",
            position=start + where,
            text=body.strip()[where : where + 20] or "end of formula",
            remedy="Check brackets and operators around it.",
        ) from None
    except (RecursionError, MemoryError):
        raise _too_deep(start, body) from None
    root = _Reader(body.strip(), start, names).read(tree.body, depth=1)
    formula = _formula(root)
    if not formula.names:
        raise FormulaError(
            "The formula names no metric", position=start, text=body.strip(), remedy="Use at least one metric key."
        )
    _refuse_impossible_constants(root, start, body.strip())
    return formula


class _Reader:
    """Turns Python's syntax tree into ours, refusing everything not on the list."""

    def __init__(self, text: str, start: int, names: Collection[str] | None) -> None:
        self.text, self.start, self.names = text, start, names

    def read(self, node: ast.expr, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _too_deep(self.start + node.col_offset, self.text)
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(node, value)
            case ast.Name(id=key):
                return self._name(node, key)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _negative(self.read(operand, depth if isinstance(operand, ast.Constant) else depth + 1))
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return Operation("+", self._chain(node, depth))
            case ast.BinOp(op=ast.Mult()):
                return Operation("*", self._chain(node, depth))
            case ast.BinOp(op=ast.Div(), left=left, right=right):
                return Operation("/", (self.read(left, depth + 1), self.read(right, depth + 1)))
            case ast.BinOp(op=ast.Pow(), left=left, right=right):
                return self._power(left, right, depth)
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in FUNCTIONS:
                fewest, most = FUNCTIONS[function]
                if len(arguments) < fewest or (most is not None and len(arguments) > most):
                    wanted = f"{fewest} argument{'s' if fewest > 1 else ''}" + ("" if most else " or more")
                    raise self._error(node, f"`{function}` takes {wanted}", "Add or remove arguments.")
                if function == "pow":
                    return self._power(arguments[0], arguments[1], depth)
                return Operation(function, tuple(self.read(a, depth + 1) for a in arguments))
            case ast.Call(func=ast.Name(id=function)):
                raise self._error(node, f"`{function}` is not a function formulas know", _VOCABULARY)
            case _:
                raise self._error(node, "This kind of expression is not allowed", _VOCABULARY)

    def _chain(self, node: ast.BinOp, depth: int) -> tuple[Node, ...]:
        """Operands of a left-nested run of `+ -` or of `*`, read in a loop so a long sum is not a deep one."""
        family: tuple[type[ast.operator], ...] = (ast.Mult,) if isinstance(node.op, ast.Mult) else (ast.Add, ast.Sub)
        operands: list[Node] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, family):
            operand = self.read(left.right, depth + 1)
            operands.append(_negative(operand) if isinstance(left.op, ast.Sub) else operand)
            left = left.left
        operands.append(self.read(left, depth + 1))
        return tuple(reversed(operands))

    def _power(self, base: ast.expr, exponent: ast.expr, depth: int) -> Node:
        power = self.read(exponent, depth + 1)
        if not isinstance(power, Number):
            raise self._error(exponent, "An exponent must be a number", "Write for example x ** 2 or x ** -0.5.")
        return Operation("**", (self.read(base, depth + 1), power))

    def _number(self, node: ast.expr, value: int | float) -> Number:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._error(node, "This number is too large", "Use a number below 1e308.")
        return Number(number)

    def _name(self, node: ast.expr, key: str) -> Name:
        if key in FUNCTIONS:
            raise self._error(node, f"`{key}` is a function", f"Write {key}(...) or rename the metric.")
        if self.names is not None and key not in self.names:
            close = difflib.get_close_matches(key, self.names, n=1)
            known = ", ".join(sorted(self.names)[:12]) or "none"
            hint = f"Did you mean `{close[0]}`?" if close else f"Known keys: {known}."
            raise self._error(node, f"`{key}` is not a known metric", hint)
        return Name(key)

    def _error(self, node: ast.expr, problem: str, remedy: str) -> FormulaError:
        text = self.text[node.col_offset : node.end_col_offset]
        return FormulaError(problem, position=self.start + node.col_offset, text=text, remedy=remedy)


def _too_deep(position: int, text: str) -> FormulaError:
    return FormulaError(
        f"The formula is nested more than {MAX_DEPTH} levels deep",
        position=position,
        text=text.strip()[:20],
        remedy="Define inner parts as metrics of their own.",
    )


def _negative(node: Node) -> Node:
    return Number(-node.value) if isinstance(node, Number) else Operation("neg", (node,))


def _formula(root: Node) -> Formula:
    return Formula(root, tuple(dict.fromkeys(names_in(root))))


def _refuse_impossible_constants(root: Node, start: int, text: str) -> None:
    """`x / 0` and `log(-1)` can never be numbers, whatever the data."""
    for base, operator in guarded(root):
        if tuple(names_in(base)):
            continue
        value = float(_formula(base).evaluate({}))
        if not math.isfinite(value) or value == 0 or (operator != "/" and value < 0):
            raise FormulaError(
                f"`{operator}` of the constant {value:g} is undefined",
                position=start + max(text.find(write(base)), 0),
                text=write(base),
                remedy="Remove it or use a positive constant.",
            )
