"""The `northlift` command against a running service, as a new user types it: what it prints and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.cli.client import ApiClient
from app.cli.services import LocalService
from tests.servers import REPOSITORY
from tests.shared_data import manifest_entry
from tests.system.conftest import free_port

NSW = REPOSITORY / "examples" / "data" / "nsw.csv"
NSW_OPTIONS = ("--variant", "treat", "--control", "0", "--metric", "re78", "--at", "1978-01-01")
NSW_WEIGHTS = ("--weight", "0=0.584", "--weight", "1=0.416")
DEFINITIONS = """
fact_sources:
  - {kind: events, key: cli_calls, event: cli_call}
metrics:
  - key: cli_calls
    name: Calls
    kind: mean
    measure: {fact_source: cli_calls}
"""


class Shell:
    """Runs `northlift` in the environment of somebody who has the service's address and key."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder

    def __call__(self, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("northlift")), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**self.environment, **more},
            timeout=240,
        )


@pytest.fixture(scope="module")
def northlift(service: LocalService, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NORTHLIFT_")}
    own = {name: value for name, value in service.environment.items() if name.startswith("NORTHLIFT_")}
    place = {"NORTHLIFT_URL": service.url, "NORTHLIFT_KEY": service.sign_in_key()}
    plain = {"NO_COLOR": "1", "COLUMNS": "160", "TERM": "dumb"}
    return Shell({**inherited, **own, **place, **plain}, tmp_path_factory.mktemp("shell"))


def written(folder: Path, text: str) -> Path:
    path = folder / "definitions.yaml"
    path.write_text(text)
    return path


def refused(answer: subprocess.CompletedProcess[str], *words: str) -> None:
    """A fault ends with a message for people and exit code 1 or 2, never with a traceback."""
    assert answer.returncode in (1, 2), answer.stdout
    assert "Traceback" not in answer.stderr
    for word in words:
        assert word in answer.stderr, answer.stderr


def test_apply_creates_then_finds_nothing_to_do_then_changes_what_differs(northlift: Shell, client: ApiClient) -> None:
    file = written(northlift.folder, DEFINITIONS)
    dry = northlift("apply", file, "--dry-run")
    assert dry.stdout.splitlines()[:2] == ["created   fact_sources/cli_calls", "created   metrics/cli_calls"]
    assert "cli_calls" not in str(client.get("/v1/metrics", limit="200")), "a dry run sends nothing"
    assert northlift("apply", file).stdout.splitlines() == dry.stdout.splitlines()[:2]
    unchanged = northlift("apply", file).stdout.splitlines()
    assert unchanged == ["unchanged fact_sources/cli_calls", "unchanged metrics/cli_calls"]
    written(northlift.folder, DEFINITIONS.replace("name: Calls", "name: Calls to us"))
    changed = northlift("apply", file).stdout.splitlines()
    assert changed == ["unchanged fact_sources/cli_calls", "changed   metrics/cli_calls"]
    metric = client.get("/v1/metrics/cli_calls")
    assert (metric["name"], metric["version"]) == ("Calls to us", 2)


def test_apply_refuses_a_bad_file_before_it_sends_anything(northlift: Shell, client: ApiClient) -> None:
    text = DEFINITIONS.replace("cli_", "bad_").replace("kind: mean", "kind: average")
    refused(northlift("apply", written(northlift.folder, text)), "definitions.yaml, metrics[0]: kind:")
    assert "bad_calls" not in str(client.get("/v1/fact-sources", limit="200"))


def test_apply_passes_on_what_the_service_refuses(northlift: Shell) -> None:
    text = DEFINITIONS.replace("cli_", "lost_").replace("fact_source: lost_calls", "fact_source: nowhere")
    refused(northlift("apply", written(northlift.folder, text)), "(422)", "nowhere")


@pytest.fixture(scope="module")
def imported(northlift: Shell) -> subprocess.CompletedProcess[str]:
    """A real experiment, imported once."""
    answer = northlift("import", NSW, "--experiment", "nsw", *NSW_OPTIONS, *NSW_WEIGHTS)
    assert answer.returncode == 0, answer.stderr
    return answer


def test_import_gives_the_reference_numbers_of_a_real_experiment(
    imported: subprocess.CompletedProcess[str], client: ApiClient
) -> None:
    answer = imported
    assert answer.stdout.startswith("Verdict: better\n")
    assert re.search(r"nsw_re78 +primary +1 +\+39\.39%", answer.stdout)
    result: dict[str, Any] = client.get("/v1/experiments/nsw/result")
    row = next(row for row in result["rows"] if row["segment"] is None)
    reference = manifest_entry("ab/nsw_dehejia_wahba.csv")["computed_reference"]
    found = {
        "n_c": row["n_control"],
        "n_t": row["n_treatment"],
        "mean_c": row["mean_control"],
        "mean_t": row["mean_treatment"],
        "diff": row["difference"],
        "rel": row["lift"],
        "se": row["difference_standard_error"],
        "p": row["p_value"],
    }
    assert found == pytest.approx({name: reference[name] for name in found}, rel=1e-6)
    interval = [row["difference_ci_lower"], row["difference_ci_upper"]]
    assert interval == pytest.approx(reference["ci95"], rel=1e-6)


def test_an_import_that_is_run_again_changes_nothing_and_another_file_under_its_key_is_refused(
    northlift: Shell, client: ApiClient, imported: subprocess.CompletedProcess[str]
) -> None:
    rows = client.get("/v1/experiments/nsw/result")["rows"]
    options = ("--experiment", "nsw", *NSW_OPTIONS, *NSW_WEIGHTS)
    assert northlift("import", NSW, *options).stdout == imported.stdout
    assert client.get("/v1/experiments/nsw/result")["rows"] == rows
    other = northlift.folder / "other.csv"
    other.write_text("".join(NSW.read_text().splitlines(keepends=True)[:-1]))
    refused(northlift("import", other, *options), "The batch id was used for other content (409)")


def test_import_refuses_a_file_that_does_not_fit_and_registers_nothing(northlift: Shell, client: ApiClient) -> None:
    options = ("--experiment", "misfit", "--variant", "treat", "--control", "0", "--metric", "re79")
    refused(northlift("import", NSW, *options), "nsw.csv has no column 're79'", "re75, re78")
    refused(northlift("import", NSW, *options[:-1], "re78", "--weight", "0=half"), "--weight wants a number")
    assert "misfit" not in str(client.get("/v1/experiments", limit="200"))


def test_analyze_prints_the_verdict_and_says_when_there_is_nothing_to_analyse(
    northlift: Shell, imported: subprocess.CompletedProcess[str]
) -> None:
    again = northlift("analyze", "nsw")
    assert (again.returncode, again.stdout) == (0, imported.stdout)
    refused(northlift("analyze", "nobody"), "(404)", "nobody")


def test_a_wrong_key_and_an_absent_service_are_named_with_what_to_do(northlift: Shell) -> None:
    refused(northlift("analyze", "nsw", NORTHLIFT_KEY="nl_wrong"), "(401)", "What to do:")
    nobody = f"http://127.0.0.1:{free_port()}"
    refused(northlift("analyze", "nsw", "--url", nobody), f"No service answers at {nobody}", "northlift dev")


def test_a_key_made_on_the_command_line_opens_what_its_scope_allows_until_it_is_revoked(northlift: Shell) -> None:
    made = northlift("keys", "create", "--scope", "read", "--name", "dashboard", "--days", "1")
    key = made.stdout.strip()
    assert made.returncode == 0 and re.fullmatch(r"nl_\S{43}", key)
    assert f"{key[:9]}…" in northlift("keys", "list").stdout
    file = written(northlift.folder, DEFINITIONS.replace("cli_", "reader_"))
    refused(northlift("apply", file, NORTHLIFT_KEY=key), "(403)", "scope `write`")
    assert northlift("keys", "revoke", key[:9]).stdout == f"Revoked {key[:9]}.\n"
    refused(northlift("keys", "revoke", key[:9]), "0 valid keys begin with")


def test_doctor_finds_a_running_service_healthy(northlift: Shell) -> None:
    answer = northlift("doctor")
    assert re.search(r"^ok +database: SQLite, schema \w+$", answer.stdout, re.MULTILINE)
    assert re.search(r"^ok +queue: answers, version \d", answer.stdout, re.MULTILINE)
    faults = [line for line in answer.stdout.splitlines() if line.startswith("FAIL")]
    assert answer.returncode == bool(faults) and all("make setup" in fault for fault in faults)


def test_doctor_migrate_and_doctor_again_lead_a_new_machine_to_health(northlift: Shell) -> None:
    url = f"sqlite+aiosqlite:///{northlift.folder}/new/northlift.sqlite3"
    before = northlift("doctor", NORTHLIFT_DATABASE_URL=url)
    assert before.returncode == 1 and "FAIL database: there is no database" in before.stdout
    refused(northlift("keys", "list", NORTHLIFT_DATABASE_URL=url), "northlift doctor")
    assert northlift("migrate", NORTHLIFT_DATABASE_URL=url).stdout == "The database has the newest schema.\n"
    assert "ok   database: SQLite" in northlift("doctor", NORTHLIFT_DATABASE_URL=url).stdout


def test_dev_says_that_its_port_is_taken(northlift: Shell, service: LocalService) -> None:
    port = service.url.rsplit(":", 1)[1]
    refused(northlift("dev", "--port", port, "--home", "new"), f"127.0.0.1:{port} cannot be used", "--port")
