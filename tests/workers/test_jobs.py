"""From recorded data to stored documents, through a worker: experiment, North Star series, baselines."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from experiments import analysis_request
from experiments.database import Database
from experiments.result import Row
from experiments.settings import Settings
from experiments.tables import Analysis, Result, ResultRow
from experiments.types import utc_now
from tests.workers.shop import open_shop
from workers.models.folder import BundleFolder
from workers.models.pool import ModelPool
from workers.preparation import KINDS
from workers.run import Runner

pytestmark = pytest.mark.anyio


async def test_every_kind_of_analysis_ends_in_the_document_that_its_data_imply(
    database: Database, worker_settings: Settings, tmp_path: Path
) -> None:
    now = utc_now()
    shop = await open_shop(database, worker_settings, tmp_path, now)
    # Models that cannot be compiled must not cost the analysis anything but what they would have said.
    models = ModelPool(
        folder=BundleFolder(tmp_path), fit_seconds=20, memory_bytes=512 * 1024 * 1024, compile_seconds=0.05
    )

    async def nothing(*args: Any) -> None: ...

    patient = worker_settings.model_copy(update={"analysis_timeout_seconds": 120.0})
    runner = Runner(database, patient, KINDS, models.answer, nothing)
    try:
        async with database.write() as session:
            wanted = {"actor": "tests", "at": utc_now()}
            asked = [
                await analysis_request.of_experiment(session, experiment=shop.experiment, **wanted),
                await analysis_request.of_north_star(session, key="orders", **wanted),
                await analysis_request.of_baseline(session, unit_type="user", **wanted),
            ]
        for row, created in asked:
            assert created
            await runner.run(row.id)
        documents = [await stored(database, row) for row, _ in asked]
    finally:
        await models.close()
    experiment, series, baseline = documents

    orders = next(r for r in experiment["rows"] if r["metric_key"] == "orders" and r["segment"] is None)
    assert (orders["n_control"], orders["n_treatment"]) == shop.units
    assert orders["mean_control"] == pytest.approx(shop.mean_orders[0], rel=1e-12)
    assert orders["lift"] == pytest.approx(shop.mean_orders[1] / shop.mean_orders[0] - 1, rel=1e-9)
    assert experiment["verdict"] == "better"
    effect = experiment["north_star"][0]
    assert effect["tree"]["lift"] == pytest.approx(effect["direct"]["lift"], abs=1e-8)
    # All orders of the company came from people since they were exposed.
    (topline,) = experiment["topline"]
    assert (topline["source"], topline["estimable"]) == ("measured", True)
    assert topline["share"] == pytest.approx(1) and topline["lift"] == pytest.approx(orders["lift"], rel=1e-9)
    assert experiment["joint_effects"][0]["metric_keys"] == ["orders", "active_users", "orders_per_active"]
    assert effect["blended"] == effect["direct"] and experiment["projected"][0]["median"] > 0
    assert [m["status"] for m in experiment["segment_models"]] == ["unreliable"]
    assert "the model was not compiled within 0.05 seconds" in experiment["segment_models"][0]["reason"]
    assert len(experiment["segment_models"][0]["effects"]) == 3

    total = sum(shop.mean_orders[i] * shop.units[i] for i in (0, 1))
    assert sum(point["value"] or 0.0 for point in series["points"]) == pytest.approx(total)
    assert baseline["unit_type"] == "user" and baseline["cumulative_units"][-1] > 0
    assert {m["metric_key"] for m in baseline["metrics"]} == {"active_users", "orders_per_active", "orders"}


async def stored(database: Database, row: Analysis) -> dict[str, Any]:
    """The document, after checking that its bytes, ETag and flat rows agree."""
    async with database.read() as session:
        done = await session.get(Analysis, row.id)
        assert done is not None and done.state == "succeeded", done and done.error
        result = await session.get(Result, done.result_id)
        assert result is not None
        rows = (await session.scalars(sa.select(ResultRow).order_by(ResultRow.id))).all()
    document: dict[str, Any] = json.loads(result.body, parse_constant=pytest.fail)  # NaN and infinities
    assert result.etag == hashlib.sha256(result.body).hexdigest()
    assert document["analysis_id"] == str(row.id) and document["kind"] == row.kind
    if row.kind == "experiment":
        shared = [name for name in ResultRow.model_fields if name in Row.model_fields]
        assert [{name: getattr(row, name) for name in shared} for row in rows] == [
            {name: row[name] for name in shared} for row in document["rows"]
        ]
        assert {"p_value_adjusted", "decision_lower", "significant", "family", "harm_p_value"} < set(shared)
        assert any(row.significant is not None for row in rows)
        believed = [row for row in rows if row.chance_to_win is not None]
        assert believed and {"rope_probability", "expected_loss_of_not_shipping"} < set(shared)
        for row in believed:  # a chance without its interval and its prior would be a number without its uncertainty
            assert row.hdi_lower is not None and row.hdi_upper is not None and row.posterior_lift is not None
            assert row.hdi_lower <= row.posterior_lift <= row.hdi_upper and row.prior_source
        assert result.verdict == document["verdict"] and document["recommendation"]["reasons"]
    return document
