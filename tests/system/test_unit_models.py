"""Models of units through a running service: data in, compiled models sampled, rows that carry their beliefs."""

from typing import Any

import numpy as np
import pytest
import scipy.special as sc

from app.cli.client import ApiClient
from examples.unit_models import run

COUNT = 3000


def analysed(client: ApiClient, key: str, chosen: tuple[str, ...]) -> dict[str, Any]:
    client.wait(run.load(client, key, chosen, COUNT))
    result: dict[str, Any] = client.get(f"/v1/experiments/{key}/result")
    return result


def model_of(result: dict[str, Any], metric_key: str) -> dict[str, Any]:
    return next(m for m in result["models"] if (m["purpose"], m["metric_key"]) == ("likelihood", metric_key))


def assert_carried(result: dict[str, Any], metric_key: str) -> None:
    """The row says what the model believes."""
    model = model_of(result, metric_key)
    row = next(row for row in result["rows"] if row["metric_key"] == metric_key)
    (effect,) = model["effects"]
    assert model["status"] == "ok", model["reason"]
    assert model["diagnostics"]["r_hat"] < 1.01
    assert model["used"] and model["reason"] is None and all(check["passed"] for check in model["checks"])
    for name in ("chance_to_win", "expected_loss", "expected_loss_of_not_shipping", "hdi_lower", "hdi_upper"):
        assert row[name] == effect[name]
    assert row["posterior_lift"] == effect["lift"] and row["prior_source"].endswith("units")


def exact(buyers: tuple[int, int], units: int, scale: float = 0.05) -> tuple[float, float]:
    """Posterior mean of the log lift and chance that it is positive, by quadrature over both rates."""
    log_rate = np.linspace(np.log(0.03), np.log(0.3), 600)
    rate = np.exp(log_rate)
    control, treated = (k * log_rate + (units - k) * np.log1p(-rate) for k in buyers)
    lift = log_rate[None, :] - log_rate[:, None]
    weak = -0.5 * (log_rate - np.log((buyers[0] + 0.5) / (units + 1))) ** 2
    log_density = (control + weak)[:, None] + treated[None, :] - 0.5 * (lift / scale) ** 2
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    return float((weight * lift).sum()), float(weight[lift > 0].sum() + weight[lift == 0].sum() / 2)


def test_a_proportion_with_a_likelihood_is_sampled_by_a_worker_and_its_row_believes_the_model(
    client: ApiClient,
) -> None:
    result = analysed(client, "units_buy", ("buying_users",))
    assert_carried(result, "buying_users")
    made = run.users(COUNT)
    bought = made["spent"] > 0
    counts = int(bought[~made["treated"]].sum()), int(bought[made["treated"]].sum())
    (effect,) = model_of(result, "buying_users")["effects"]
    mean, chance = exact(counts, COUNT // 2)
    error = effect["monte_carlo_error"]
    assert np.log1p(effect["lift"]) == pytest.approx(mean, abs=4 * error + 1e-4)
    sd = error * np.sqrt(result["models"][0]["diagnostics"]["ess_bulk"])
    assert effect["chance_to_win"] == pytest.approx(chance, abs=4 * error / sd / np.sqrt(2 * np.pi) + 2e-3)
    assert sc.ndtr(mean / sd) == pytest.approx(chance, abs=0.03), "the quadrature is about the same posterior"
    again = client.get("/v1/experiments/units_buy/rows", overall="true")["items"]
    assert again[0]["chance_to_win"] == effect["chance_to_win"]


@pytest.mark.simulation
def test_every_likelihood_of_the_example_describes_its_made_up_users(client: ApiClient) -> None:
    """python -m pytest -m simulation tests/system/test_unit_models.py: compiles five models where none is kept."""
    result = analysed(client, run.KEY, tuple(run.ROLES))
    for metric_key in run.ROLES:
        assert_carried(result, metric_key)
    effects = {key: model_of(result, key)["effects"][0] for key in run.ROLES}
    for key, lift in run.LIFT.items():
        # Priors pull towards zero, so the truth lies between; the sign is right beyond doubt only for precise metrics.
        assert effects[key]["hdi_lower"] < lift < effects[key]["hdi_upper"] or abs(effects[key]["lift"]) < abs(lift)
    assert effects["minutes_per_task"]["chance_to_win"] > 0.95
