"""A question as one statement, and as the one that asks for some of its cells again."""

from collections.abc import Sequence

from sqlglot import exp

from warehouse.compile import clusters, lines, people
from warehouse.compile.asked import Asked, asked
from warehouse.compile.capping import cap_part, centre, final, gaps, gaps_in_cells, withheld
from warehouse.compile.people import Part
from warehouse.compile.question import Question
from warehouse.compile.values import Readings
from warehouse.compile.words import Statement


def statement(question: Question) -> tuple[Statement, Asked]:
    """The statement whose lines (`warehouse.compile.lines`) answer the question, and what it asks per unit.

    Raises `SourceUnreadable` for columns that a source does not have.
    """
    found, wanted = _values(question)
    width, source = lines.width(question, wanted), summed(question)
    keys, sets = cell_keys(question)
    found.append(("centre", centre(width, "cluster_totals" if question.work.clustered else "final")))
    found.append(("gaps", gaps(width, source, ["arm", *keys])))
    answers = [
        lines.summary(question, wanted),
        lines.moments("gaps", width, keys, sets),
        lines.ranges(source, width, keys, sets),
    ]
    if question.is_last:
        answers.append(lines.buckets("cluster_totals" if question.work.clustered else "final", width))
        if question.work.clustered:
            answers.append(clusters.few(wanted.k))
        answers += lines.populations(question, wanted)
        answers += lines.responses(question, wanted)
        answers += lines.quantiles(question, wanted)
        answers += lines.unit_values(question)
    return question.words.with_parts(found, lines.together(answers)), wanted


def recentred(question: Question, cells: Sequence[Sequence[str]]) -> Statement:
    """The moments of some sets of cells, each cell about its own centre, and the centres.

    For cells that are many of their standard deviations away from the centre of all: sums about that have lost the
    digits of their spread.
    """
    found, wanted = _values(question)
    width, source = lines.width(question, wanted), summed(question)
    keys, _ = cell_keys(question)
    apart: list[exp.Select] = []
    answers: list[exp.Select] = []
    for i, cell in enumerate(cells):
        part = f"centre_{i}"
        found.append((part, centre(width, source, [*cell, "arm"])))
        apart.append(gaps_in_cells(width, source, ["arm", *keys], ["arm", *cell], part))
        answers.append(lines.centres(part, width, keys, cell))
    every = exp.Subquery(this=lines.together(apart), alias=exp.TableAlias(this=exp.to_identifier("e")))
    found.append(("gaps", exp.Select(expressions=[exp.Star()]).from_(every, copy=False)))
    return question.words.with_parts(found, lines.together([*answers, lines.moments("gaps", width, keys, [keys])]))


def cell_keys(question: Question) -> tuple[list[str], list[list[str]]]:
    """The keys of moments, and the sets in which they group."""
    return clusters.total_keys(question) if question.work.clustered else lines.moment_keys(question)


def summed(question: Question) -> str:
    """The part whose rows moments are of."""
    return "totals" if question.work.clustered else "final"


def _values(question: Question) -> tuple[list[Part], Asked]:
    """The parts up to what moments are of."""
    wanted = asked(question)
    found: list[Part] = people.parts(question)
    readings = Readings(question, wanted)
    found += readings.parts
    keys = unit_keys(question)
    found.append(("wide", readings.wide(keys)))
    found.append(("withheld", withheld(wanted)))
    found += [cap_part(question, wanted, i) for i in wanted.base]
    found.append(("final", final(question, wanted, keys)))
    if question.work.clustered:
        found += clusters.cluster_parts(question, wanted.k)
        found += clusters.total_parts(question, wanted.k)
    return found, wanted


def unit_keys(question: Question) -> list[str]:
    """What the lines need to know of a unit besides its values."""
    work = question.work
    return [
        *("unit_id", "arm", "entry", "bucket"),
        *(f"group_{i}" for i in range(len(work.segments))),
        *(["stratum"] if work.strata is not None else []),
        *(["cluster", "assigned_us"] if work.clustered else []),
    ]
