"""Analyses that sample for seconds: cancelled, killed with their worker, and cut off by the time that models have."""

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.cli.client import ApiClient
from app.cli.services import LocalService
from tests.patience import LONG, comes
from tests.system.bench import AT, Bench, Columns
from tests.system.conftest import free_port

pytestmark = pytest.mark.chaos

KEY, METRICS, UNITS = "long_sampling", 100, 2000
STAGE = "models"


def feed(client: ApiClient) -> None:
    """An experiment that has ended, with a model for the units of each of its many metrics."""
    rng = np.random.default_rng(8)
    metrics: dict[str, Columns] = {
        f"m{i}": {"kind": "proportion", "likelihood": "beta_binomial", "column": f"c{i}"} for i in range(METRICS)
    }
    bench = Bench(client)
    bench.define(KEY, metrics, {"control": 0.5, "treatment": 0.5}, planned_units=UNITS)
    unit = bench.expose(KEY, {"control": UNITS // 2, "treatment": UNITS // 2})
    columns = {f"c{i}": (rng.random(UNITS) < 0.1 + 0.002 * i).astype(float) for i in range(METRICS)}
    bench.facts(KEY, unit, AT + timedelta(days=1), **columns)
    client.move(KEY, "stop", AT + timedelta(days=28))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    """Two workers, so that one is left; their models are those that this machine has compiled."""
    environment = {"NORTHLIFT_LEASE_SECONDS": "4"}
    home = tmp_path_factory.mktemp("sampling")
    with LocalService(home, host="127.0.0.1", port=free_port(), workers=2, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: LocalService) -> Iterator[ApiClient]:
    with ApiClient(service.url, service.sign_in_key()) as client:
        feed(client)
        yield client


def asked(client: ApiClient) -> str:
    """Each is an analysis of its own, of what is known now: always the same data."""
    return str(client.post(f"/v1/experiments/{KEY}/analyses")["id"])


def until_sampling(client: ApiClient, analysis_id: str) -> None:
    """Wait until some models of it have been sampled and many have not."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        seen = client.get(f"/v1/analyses/{analysis_id}")
        assert seen["state"] in ("queued", "running"), "too fast to be interrupted"
        if seen["stage"] == STAGE:
            time.sleep(0.3)
            return
        time.sleep(0.02)
    pytest.fail("it never sampled")


def result(client: ApiClient) -> dict[str, Any]:
    """The newest result without what names its analysis."""
    found: dict[str, Any] = json.loads(client.request("GET", f"/v1/experiments/{KEY}/result").text)
    for name in ("analysis_id", "data_as_of"):
        del found[name]
    return found


def family(process_id: int) -> list[int]:
    """A process and all that came from it."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children")
    tasks = Path(f"/proc/{process_id}/task")
    found = [process_id]
    if children.exists():
        for task in tasks.iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(service: LocalService, worker: str) -> float:
    ticks = 0
    for process_id in family(service.process_id(worker)):
        try:
            fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


WORKERS = ("worker-1", "worker-2")


def busy(service: LocalService, seconds: float) -> dict[str, float]:
    """CPU seconds of each worker and of its processes."""
    before = {worker: cpu_seconds(service, worker) for worker in WORKERS}
    time.sleep(seconds)
    return {worker: cpu_seconds(service, worker) - before[worker] for worker in WORKERS}


@pytest.fixture(scope="module")
def all_of_it(service: LocalService, client: ApiClient) -> float:
    """CPU seconds of such an analysis."""
    before = sum(cpu_seconds(service, worker) for worker in WORKERS)
    client.wait(asked(client))
    return sum(cpu_seconds(service, worker) for worker in WORKERS) - before


@pytest.fixture(scope="module")
def undisturbed(client: ApiClient) -> dict[str, Any]:
    client.wait(asked(client))
    found = result(client)
    likelihoods = [model for model in found["models"] if model["purpose"] == "likelihood"]
    assert len(likelihoods) == METRICS and {model["status"] for model in likelihoods} == {"ok"}
    return found


def test_a_cancelled_analysis_ends_and_its_sampling_with_it(
    service: LocalService, client: ApiClient, undisturbed: dict[str, Any], all_of_it: float
) -> None:
    analysis_id = asked(client)
    until_sampling(client, analysis_id)
    before = {worker: cpu_seconds(service, worker) for worker in WORKERS}
    client.post(f"/v1/analyses/{analysis_id}/cancel")
    assert comes(lambda: client.get(f"/v1/analyses/{analysis_id}")["state"] == "cancelled")
    assert comes(lambda: max(busy(service, 0.5).values()) < 0.1)
    # CPU, not wall. A second of the sampler's processes is promised; a part of all is more than they then take.
    used = sum(cpu_seconds(service, worker) - before[worker] for worker in WORKERS)
    assert used < max(2.0, all_of_it / 3)


def test_an_analysis_whose_worker_is_killed_while_it_samples_gives_the_same_bytes(
    service: LocalService, client: ApiClient, undisturbed: dict[str, Any]
) -> None:
    analysis_id = asked(client)
    until_sampling(client, analysis_id)
    used = busy(service, 0.5)
    os.kill(service.process_id(max(used, key=lambda worker: used[worker])), signal.SIGKILL)
    client.wait(analysis_id)
    assert client.get(f"/v1/analyses/{analysis_id}")["attempt"] == 2
    assert json.dumps(result(client)) == json.dumps(undisturbed)


def test_models_without_time_are_unreliable_and_the_analysis_succeeds(tmp_path: Path) -> None:
    environment = {"NORTHLIFT_MODEL_TIMEOUT_SECONDS": "0.001"}
    with (
        LocalService(tmp_path, host="127.0.0.1", port=free_port(), environment=environment) as service,
        ApiClient(service.url, service.sign_in_key()) as client,
    ):
        feed(client)
        client.wait(asked(client))
        found = result(client)
    models = [model for model in found["models"] if model["purpose"] == "likelihood"]
    assert {model["status"] for model in models} == {"unreliable"}
    assert {model["reason"] for model in models} == {"the model gave no answer within 0.001 seconds"}
    assert not any(model["used"] for model in models)
    assert all(row["chance_to_win"] is not None and "units" not in row["prior_source"] for row in found["rows"])
