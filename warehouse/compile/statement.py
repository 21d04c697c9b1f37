"""A question as one statement."""

from warehouse.compile import clusters, lines, people
from warehouse.compile.asked import Asked, asked
from warehouse.compile.capping import cap_part, centre, final, gaps, withheld
from warehouse.compile.people import Part
from warehouse.compile.question import Question
from warehouse.compile.values import Readings
from warehouse.compile.words import Statement


def statement(question: Question) -> tuple[Statement, Asked]:
    """The statement whose lines (`warehouse.compile.lines`) answer the question, and what it asks per unit.

    Raises `SourceUnreadable` for columns that a source does not have.
    """
    wanted = asked(question)
    found: list[Part] = people.parts(question)
    readings = Readings(question, wanted)
    found += readings.parts
    keys = unit_keys(question)
    found.append(("wide", readings.wide(keys)))
    found.append(("withheld", withheld(wanted)))
    found += [cap_part(question, wanted, i) for i in wanted.base]
    found.append(("final", final(question, wanted, keys)))
    answers = [lines.summary(question, wanted)]
    if question.work.clustered:
        found += clusters.cluster_parts(question, wanted.k)
        found.append(("centre", centre(wanted.k + 1, "cluster_totals")))
        found += clusters.total_parts(question, wanted.k)
        answers.append(clusters.total_moments(question, wanted.k))
    else:
        found.append(("centre", centre(wanted.k, "final")))
        moment_keys, sets = lines.moment_keys(question)
        found.append(("gaps", gaps(wanted.k, "final", ["arm", *moment_keys])))
        answers.append(lines.moments("gaps", wanted.k, moment_keys, sets))
    if question.is_last:
        summed = "cluster_totals" if question.work.clustered else "final"
        answers.append(lines.buckets(summed, lines.width(question, wanted)))
        if question.work.clustered:
            answers.append(clusters.few(wanted.k))
        answers += lines.populations(question, wanted)
        answers += lines.responses(question, wanted)
        answers += lines.quantiles(question, wanted)
        answers += lines.unit_values(question)
    return question.words.with_parts(found, lines.together(answers)), wanted


def unit_keys(question: Question) -> list[str]:
    """What the lines need to know of a unit besides its values."""
    work = question.work
    return [
        *("unit_id", "arm", "entry", "bucket"),
        *(f"group_{i}" for i in range(len(work.segments))),
        *(["stratum"] if work.strata is not None else []),
        *(["cluster", "assigned_us"] if work.clustered else []),
    ]
