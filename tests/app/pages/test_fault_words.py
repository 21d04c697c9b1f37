"""Faults of fields are said in words that people in front of a form understand."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, SecretStr

from app.pages.fault_words import fault_words
from experiments.definitions.elements import Key
from experiments.errors import InvalidDefinition
from experiments.validation import parse


class Form(BaseModel):
    key: Key
    name: str = Field(min_length=1, max_length=3)
    port: int = Field(ge=1, le=65535)
    days: float = Field(gt=0, lt=90)
    unit_id: SecretStr = Field(min_length=1, max_length=3)
    remote: Annotated[str, Field(pattern="^sc://")]
    variants: list[int] = Field(min_length=2, max_length=2)


GOOD = {"key": "a", "name": "b", "port": 1, "days": 1, "unit_id": "c", "remote": "sc://", "variants": [1, 2]}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("key", "Bad Key!", "must be lower-case letters, digits, - and _, at most 63, with a letter or a digit first"),
        ("name", "", "must not be empty"),
        ("unit_id", "", "must not be empty"),
        ("name", "long", "must have at most 3 characters"),
        ("unit_id", "long", "must have at most 3 characters"),
        ("port", 99999, "must be at most 65535"),
        ("port", 0, "must be at least 1"),
        ("port", "x", "must be a whole number"),
        ("days", 90, "must be less than 90"),
        ("days", 0, "must be more than 0"),
        ("days", "soon", "must be a number"),
        ("remote", "http://", "must have the form that is described beside it"),
        ("variants", [1], "must be at least 2, and there are 1"),
        ("variants", [1, 2, 3], "must be at most 2, and there are 3"),
    ],
)
def test_what_a_check_says_is_said_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        parse(Form, GOOD | {name: value})
    assert fault_words(refused.value.errors[0].detail) == words


def test_what_is_in_words_already_stays_and_several_are_each_said() -> None:
    assert fault_words("there is no metric `x`; Field required") == "there is no metric `x`; must not be empty"
