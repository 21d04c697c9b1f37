"""The compose file and the image describe a service that this code can run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.settings import Settings
from tests.servers import REPOSITORY

COMPOSE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = REPOSITORY / "Dockerfile"
ONE_SHOT = {"migrate"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(COMPOSE.read_text())
    services: dict[str, dict[str, Any]] = document["services"]
    return services


def test_the_services_are_those_of_the_architecture(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {"api", "worker", "migrate", "postgres", "valkey"}


def test_every_long_running_service_has_a_healthcheck(services: dict[str, dict[str, Any]]) -> None:
    for name in set(services) - ONE_SHOT:
        assert services[name]["healthcheck"]["test"], name
    assert services["migrate"]["healthcheck"] == {"disable": True}, "the image's own check would never pass there"


def test_api_and_worker_start_only_after_the_migrations(services: dict[str, dict[str, Any]]) -> None:
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("api", "worker"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_every_northlift_variable_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    known = {f"NORTHLIFT_{name.upper()}" for name in Settings.model_fields}
    for name in ("api", "worker", "migrate"):
        used = {variable for variable in services[name]["environment"] if variable.startswith("NORTHLIFT_")}
        assert {"NORTHLIFT_DATABASE_URL", "NORTHLIFT_REDIS_URL", "NORTHLIFT_DATA_DIR"} <= used <= known
    assert set(re.findall(r"\bNORTHLIFT_[A-Z_]+(?==)", DOCKERFILE.read_text())) <= known


def test_the_password_comes_from_the_environment_and_has_no_default() -> None:
    uses = re.findall(r"(?:POSTGRES_PASSWORD: |northlift:)(\S+?POSTGRES_PASSWORD[^}]*\})", COMPOSE.read_text())
    assert len(uses) == 2
    assert all(use.startswith("${POSTGRES_PASSWORD:?") for use in uses)


def test_the_store_and_the_database_outlive_their_containers(services: dict[str, dict[str, Any]]) -> None:
    assert "data:/var/lib/northlift" in services["api"]["volumes"]
    assert services["api"]["volumes"] == services["worker"]["volumes"], "the worker reads what the API stored"
    assert Path(services["api"]["environment"]["NORTHLIFT_DATA_DIR"]).is_relative_to("/var/lib/northlift")
    assert "postgres:/var/lib/postgresql" in services["postgres"]["volumes"]


def test_only_the_api_is_reachable_and_only_from_this_machine(services: dict[str, dict[str, Any]]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["api"]
    assert services["api"]["ports"][0].startswith("127.0.0.1:")


def test_the_image_runs_as_an_ordinary_user_and_says_whether_it_is_well() -> None:
    last_stage = DOCKERFILE.read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER northlift$", last_stage, re.MULTILINE)
    assert "HEALTHCHECK" in last_stage
    assert "--constraint requirements.lock" in DOCKERFILE.read_text()


def test_the_build_context_holds_everything_that_the_package_needs() -> None:
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = {"app", "experiments", "stats", "warehouse", "workers", "alembic", "alembic.ini", "pyproject.toml"}
    assert needed | {"requirements.lock", "README.md", "LICENSE", "NOTICE"} == allowed
    assert all((REPOSITORY / name).exists() for name in allowed)
