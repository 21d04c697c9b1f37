"""Experiments that follow others: the form arrives filled, and what it has no field for is not lost."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.pages.experiment_form import ExperimentForm
from experiments.definitions import Estimation, ExperimentSpec, ExposureSource, Sequential, Trigger
from experiments.definitions.estimation import Beliefs
from experiments.follow_up import with_unseen_options
from experiments.tables import Experiment
from experiments.validation import parse
from tests.app.pages.conftest import Reader
from tests.app.world import spec_of

pytestmark = pytest.mark.anyio

ELABORATE = spec_of(
    "elaborate",
    "Elaborate",
    tags=["core", "checkout"],
    segments=["country", "platform"],
    two_way_segments=[("country", "platform")],
    coverage=0.375,
    planned_units=12_345,
    cluster="country",
    trigger=Trigger(fact_source="orders"),
    exposures=ExposureSource(fact_source="shown", variant_column="arm", segments={"country": "land"}),
    purpose="aa",
    estimation=Estimation(
        engine="bayesian",
        beliefs=Beliefs(prior="stated", family="student_t4", chance_to_win=0.975, horizon_days=90.5, waiting_cost=0.02),
        ci_level=0.9,
        power=0.85,
        cuped=False,
        stratify_by=["country"],
        sequential=Sequential(method="group_sequential", spending="power", spending_parameter=2.5, look_every_days=3),
        exploratory_correction="e_bh",
        decision_rule="do_no_harm",
        screen_interactions=False,
        prior_mean=0.01,
        prior_scale=0.0325,
        rope=0.0015,
        srm_threshold=0.001,
        seed=7,
    ),
)


@pytest.mark.parametrize("spec", [ELABORATE, spec_of("plain", "Plain")], ids=["elaborate", "plain"])
def test_a_definition_survives_the_form(spec: ExperimentSpec) -> None:
    form = ExperimentForm.of(spec)
    document = with_unseen_options(form.document(), spec)
    assert not form.faults
    assert parse(ExperimentSpec, document) == spec


def test_what_the_form_changed_is_not_changed_back() -> None:
    form = ExperimentForm.of(ELABORATE)
    form.fields |= {"trigger_source": "", "ci_level": "99", "engine": "both"}
    form.metrics = form.metrics[:1]
    spec = parse(ExperimentSpec, with_unseen_options(form.document(), ELABORATE))
    assert spec.trigger is None
    assert (spec.estimation.ci_level, spec.estimation.engine, spec.estimation.seed) == (0.99, "both", 7)
    assert len(spec.metrics) == 1


@pytest.mark.parametrize(("relation", "says"), [("iterates", "Iterates on"), ("replicates", "Replicates")])
async def test_the_form_comes_filled_from_the_parent(company: Reader, relation: str, says: str) -> None:
    text = (await company.http.get("/experiments/new", params={"from": "scheduled", "relation": relation})).text
    assert f'{says} <a href="/experiments/scheduled">Scheduled looks</a>' in text
    assert 'id="key" name="key" type="text" value="scheduled-2"' in text
    assert '<details class="advanced" open>' in text
    assert 'value="country × platform"' in text
    assert 'role="alert"' not in text


async def test_a_follow_up_that_is_registered_knows_where_it_comes_from(writer: Reader) -> None:
    async with writer.database.read() as session:
        parent = await session.scalar(sa.select(Experiment).where(col(Experiment.key) == "checkout"))
    assert parent is not None
    spec = ExperimentSpec.model_validate(parent.spec)
    form = ExperimentForm.of(spec)
    sent = {name: text for name, text in form.fields.items() if text}
    for prefix, rows in (("variant", form.variants), ("metric", form.metrics)):
        sent |= {f"{prefix}-{i}-{name}": text for i, row in enumerate(rows) for name, text in row.items()}
    sent |= {"control": "0", "key": "checkout-2", "parent_key": "checkout", "relation": "replicates"}
    answer = await writer.submit("/experiments/new", **sent)
    assert answer.headers.get("location") == "/experiments/checkout-2", answer.text
    assert 'Replicates <a href="/experiments/checkout">' in (await writer.http.get("/experiments/checkout-2")).text
    again = (await writer.http.get("/experiments/new?from=checkout-2&relation=replicates")).text
    assert 'value="checkout-3"' in again


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"parent_key": "nobody", "relation": "iterates"}, 422, "there is no experiment `nobody`"),
        ({"parent_key": "scheduled", "relation": "likes"}, 422, "/relation"),
        ({"parent_key": "scheduled"}, 422, "parent_key and relation go together"),
    ],
)
async def test_a_follow_up_of_nothing_is_refused(
    company: Reader, changes: dict[str, str], status: int, says: str
) -> None:
    fields = {"key": "lost", "name": "Lost", "unit_type": "user", "data": "events", "control": "0"}
    fields |= {"variant-0-key": "a", "variant-0-weight": "50"}
    fields |= {"variant-1-key": "b", "variant-1-weight": "50"}
    answer = await company.submit("/experiments/new", **fields, **changes)
    assert answer.status_code == status
    assert says in answer.text, answer.text[answer.text.index('id="faults"') :][:600]


async def test_following_what_is_not_there_is_a_problem_in_words(company: Reader) -> None:
    assert (await company.http.get("/experiments/new?from=nobody")).status_code == 404
    assert (await company.http.get("/experiments/new?from=scheduled&relation=likes")).status_code == 422
