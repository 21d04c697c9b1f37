"""A question put to an engine."""

from warehouse.compile.question import Question
from warehouse.compile.statement import recentred, statement
from warehouse.engine_answers import Answer
from warehouse.engines.contract import Engine


def answer_of(question: Question, engine: Engine) -> Answer:
    """What the engine says. Cells so far from the centre of all that their sums lost digits are asked for again."""
    compiled, asked = statement(question)
    found = Answer(question, asked, engine.run(compiled))
    if lost := found.without_digits():
        found.take(engine.run(recentred(question, lost)))
    return found
