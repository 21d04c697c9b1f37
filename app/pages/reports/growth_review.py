"""A growth review as a report: the page's own sentences, pictures and numbers (METHODS H6)."""

from collections.abc import Iterator
from typing import Final

from app.charts.theme import Spec
from app.pages import review_words, words
from app.pages.formats import day, gain, moment, number, plural, probability, spread, unbroken
from app.pages.reports.blocks import Block, Bullets, Heading, Number, Numbers, Paragraph, Picture, Report, Table
from app.pages.review_view import ReviewView
from experiments.definitions import ReviewSpec

MOST_LAUNCHES: Final = 20


def growth_review_report(view: ReviewView, spec: ReviewSpec) -> Report:
    """All that one reads at the table; what is unfolded on the page stays there. `spec` has what people added."""
    document = view.document
    owner = f" · {spec.owner}" if spec.owner else ""
    return Report(
        title=spec.name,
        subtitle=f"{view.name} · {view.compared}{owner}",
        made_of=f"Analysis {document.analysis_id}, with what was known at {moment(document.data_as_of)}; "
        f"plan {document.plan_hash[:12]}, seed {document.seed}, code {document.code_version}.",
        at=document.data_as_of,
        blocks=[
            *_answer(view),
            *_ledger(view),
            *_claims(view),
            *_inputs(view),
            *_programme(view),
            *_next(view, spec),
            *_trust(view),
        ],
    )


def _answer(view: ReviewView) -> Iterator[Block]:
    document = view.document
    state = review_words.alarm(document.stagnation)
    yield Paragraph(view.answer, leads=True)
    notes = [f"{figure.note}; {figure.since}" if figure.since else figure.note for figure in view.figures]
    yield Numbers([Number(figure.label, figure.value, note) for figure, note in zip(view.figures, notes, strict=True)])
    yield Paragraph(f"{state.text}. {review_words.stagnation_sentence(document.stagnation)}")
    yield Heading("Against the target", ["F8"])
    yield Paragraph(
        f"{review_words.forecast_sentence(document.forecast, document.unit)} "
        f"{review_words.needed_sentence(document.forecast)}".strip()
    )
    yield from _picture(
        view.forecast, "Solid: observed. Dashed: the median to come without further launches, with its 80 % band."
    )


def _ledger(view: ReviewView) -> Iterator[Block]:
    ledger = view.document.ledger
    yield Heading("The ledger", ["F6"])
    if not ledger.lines:
        yield Paragraph(f"Not estimable. {review_words.reason(ledger.reason)}")
        return
    yield Paragraph(
        "What each part accounts for; the parts add up to what was observed. The base is what nothing on record "
        "explains."
    )
    yield from _picture(view.waterfall, "Thin lines: 80 % intervals. Diamond: what experiments had claimed.")
    yield from _picture(view.weeks, "Solid: observed. Dashed: without any launch, with its 80 % band.")
    rows = [
        [
            line.name,
            review_words.rounded(line.units, line.lower_80, line.upper_80),
            review_words.interval(line.lower_80, line.upper_80),
            review_words.rounded(line.claimed_units),
        ]
        for line in [*view.whole, *view.parts[:MOST_LAUNCHES]]
        if line.component != "observed"
    ]
    yield Table(f"Lines of the ledger{_in(ledger.unit)}", ["Line", "Accounts for", "80 %", "Claimed"], rows)


def _claims(view: ReviewView) -> Iterator[Block]:
    ledger = view.document.ledger
    yield Heading("Claimed, believed, realised", ["F1", "F6"])
    yield Paragraph(review_words.kappa_sentence(ledger))
    yield from _picture(
        view.claims,
        "Diamond: claimed. Violet: believed once all experiments are known. Blue: in the ledger. 80 % intervals.",
    )


def _inputs(view: ReviewView) -> Iterator[Block]:
    shares = view.document.attribution
    yield Heading("What inputs account for", ["E3", "E4"])
    if not shares.estimable:
        yield Paragraph(f"Not estimable. {review_words.reason(shares.reason)}")
        return
    method = review_words.ATTRIBUTIONS[shares.method]
    yield Paragraph(f"Split by {method}. That is accounting: it does not say why an input moved.")
    yield from _picture(view.attribution, f"80 % intervals: {shares.uncertainty}.")


def _programme(view: ReviewView) -> Iterator[Block]:
    document = view.document
    yield Heading("Decisions and what they are worth", ["F1", "F4"])
    if document.decisions:
        rows = [
            [
                item.name,
                words.OUTCOMES[item.outcome].text + (", against the recommendation" * item.against_recommendation),
                review_words.per_cent_of(item.claimed),
                review_words.per_cent_of(item.believed),
                review_words.log_interval(item.believed_lower_80, item.believed_upper_80),
                probability(item.chance_wrong_sign),
            ]
            for item in document.decisions
        ]
        yield Table(
            f"Lifts of {view.name} at full coverage",
            ["Experiment", "Decided", "Claimed", "Believed", "80 %", "Wrong sign"],
            rows,
            texts=2,
        )
    else:
        yield Paragraph("Nothing was decided in the period.")
    yield Heading("Running experiments", ["H4"])
    if document.running:
        rows = [
            [
                item.name,
                words.VERDICTS[item.verdict].text if item.verdict else "No result yet",
                ", ".join(words.titled(alarm) for alarm in item.alarms) or "none",
                number(item.days_left),
                gain(item.value_of_waiting),
            ]
            for item in document.running
        ]
        head = ["Experiment", "Verdict", "Alarms", "Days left", "Value of waiting, days"]
        yield Table("The most worth waiting for first", head, rows, texts=3)
    else:
        yield Paragraph("No experiment was under way.")
    yield Heading("Holdout", ["F3"])
    yield Paragraph(unbroken(document.holdout_advice))
    if document.holdouts:
        yield Bullets([review_words.holdout_sentence(item) for item in document.holdouts])


def _next(view: ReviewView, spec: ReviewSpec) -> Iterator[Block]:
    document = view.document
    yield Heading("What to try next", ["H6"])
    if document.follow_ups:
        rows = [
            [item.name, review_words.KINDS[item.kind].text, unbroken(item.reason), spread(item.expected_value)]
            for item in document.follow_ups
        ]
        yield Table("Worth knowing: at most, of the North Star", ["Follow-up", "How", "Why", "Worth"], rows, texts=3)
    for title, text in (("Notes", spec.notes), ("Next bets", spec.next_bets)):
        if text:
            yield Heading(title)
            yield from (Paragraph(part) for part in text.split("\n") if part.strip())
    if document.learnings:
        yield Heading("What was learned")
        yield Bullets([f"{item.name} ({day(item.at)}): {item.text}" for item in document.learnings])
    if document.changes:
        yield Heading("Since the review before")
        rows = [
            [
                item.label,
                review_words.headline_number(item.before, item.unit, units=document.unit),
                review_words.headline_number(item.now, item.unit, units=document.unit),
                review_words.moved(item, document.unit),
            ]
            for item in document.changes
        ]
        yield Table("Headline numbers", ["Number", "Before", "Now", "Difference"], rows)


def _trust(view: ReviewView) -> Iterator[Block]:
    document = view.document
    yield Heading("How far to trust it")
    troubled = [check for check in view.checks if check.status != "pass"]
    passed = len(view.checks) - len(troubled)
    yield Paragraph(f"{plural(passed, 'check')} passed{'.' if not troubled else '; these did not:'}")
    if troubled:
        yield Bullets(
            [unbroken(f"{words.titled(each.name)}: {each.detail} {each.remedy}".replace("`", "")) for each in troubled]
        )
    yield Heading("Methods")
    yield Bullets([f"{identity}: {said}" for identity, said in review_words.method_list([*document.methods, "H4"])])


def _picture(chart: Spec | None, caption: str) -> Iterator[Picture]:
    if chart is not None:
        yield Picture(chart, unbroken(caption))


def _in(unit: str) -> str:
    return f", in {unit}" if unit else ""
