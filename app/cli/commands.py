"""All subcommands. Each parses its options, calls one function and prints; the work is in the sibling modules."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command
from app.cli.groups import GROUPS

cli = typer.Typer(
    name="northlift",
    help="What did we do that moved the North Star, by how much, and how sure are we?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
keys_cli = typer.Typer(name="keys", help="API keys", no_args_is_help=True)
for group in (keys_cli, *GROUPS):
    cli.add_typer(group)
out = Console()
err = Console(stderr=True)

Host = Annotated[str, typer.Option(help="Address to listen on")]
Port = Annotated[int, typer.Option(help="Port to listen on")]
Home = Annotated[Path, typer.Option(help="Folder of the embedded database, store and logs")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key", show_default=False)]

DEFAULT_URL = "http://127.0.0.1:8321"


@cli.command()
def serve(host: Host = "127.0.0.1", port: Port = 8321, processes: int = 1) -> None:
    """Run the API and the pages. Needs a database (see `migrate`) and a queue; workers run apart."""
    os.execv(
        sys.executable,
        [
            sys.executable,
            *("-m", "uvicorn", "--factory", "app.main:create_app", "--no-access-log"),
            *("--host", host, "--port", str(port), "--workers", str(processes)),
        ],
    )


@cli.command()
def worker() -> None:
    """Run one worker process until it is told to stop."""
    os.execv(sys.executable, [sys.executable, "-m", "workers"])


@cli.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from app.cli.migrations import upgrade
    from experiments.settings import settings

    with faults_end_the_command():
        upgrade(settings().database_url)
    out.print("The database has the newest schema.")


def _stop_on_sigterm() -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@cli.command()
def dev(host: Host = "127.0.0.1", port: Port = 8321, home: Home = Path(".northlift"), workers: int = 1) -> None:
    """Run everything here: API, pages, workers, an embedded database and an embedded queue."""
    from app.cli.services import LocalService

    _stop_on_sigterm()
    try:
        with faults_end_the_command(), LocalService(home, host=host, port=port, workers=workers) as service:
            _say_where(service.url, service.sign_in_key())
            out.print(f"Logs are in {home}. Ctrl-C stops everything.")
            service.wait()
    except KeyboardInterrupt:
        out.print("Stopped.")


@cli.command()
def demo(
    host: Host = "127.0.0.1",
    port: Port = 8321,
    home: Home = Path(".northlift/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the synthetic company")] = 1,
    users: Annotated[int, typer.Option(min=500, help="Size of the synthetic company")] = 20_000,
    fresh: Annotated[bool, typer.Option(help="Start again from nothing")] = False,
    exit_when_loaded: Annotated[bool, typer.Option(help="Stop once everything is analysed")] = False,
) -> None:
    """Run everything here with a synthetic company in it, loaded through the public API."""
    from app.cli.client import ApiClient
    from app.cli.services import LocalService
    from app.demo import load_company, loaded, print_overview

    _stop_on_sigterm()
    try:
        with faults_end_the_command():
            local = LocalService(home, host=host, port=port)
            if fresh:
                local.forget()
            out.print("Starting the service …")
            with local as service, ApiClient(service.url, service.sign_in_key()) as client:
                if not loaded(client):
                    load_company(client, seed=seed, users=users, console=out)
                print_overview(client, out)
                _say_where(service.url, service.sign_in_key())
                if not exit_when_loaded:
                    out.print("Ctrl-C stops everything; running this again finds the company as you left it.")
                    service.wait()
    except KeyboardInterrupt:
        out.print("Stopped.")


def _say_where(url: str, key: str) -> None:
    out.print(f"\nNorthlift runs at [bold]{url}[/]\nSign-in key:      [bold]{key}[/]", highlight=False, soft_wrap=True)


@keys_cli.command("create")
def keys_create(
    scope: Annotated[list[str], typer.Option(help="read, write, ingest or admin; may be given several times")],
    name: str = "command line",
    days: Annotated[float | None, typer.Option(help="Days until the key expires; never without it")] = None,
) -> None:
    """Make a key and print it: the only time it is shown."""
    from app.cli.keys import create_key_blocking
    from experiments.settings import settings

    with faults_end_the_command():
        out.print(create_key_blocking(settings(), name=name, scopes=scope, days=days), highlight=False, soft_wrap=True)


@keys_cli.command("list")
def keys_list() -> None:
    """Show all keys: name, first characters, scopes, expiry."""
    from app.cli.keys import table_of_keys
    from experiments.settings import settings

    with faults_end_the_command():
        out.print(asyncio.run(table_of_keys(settings())))


@keys_cli.command("revoke")
def keys_revoke(prefix: Annotated[str, typer.Argument(help="First characters of the key, as `list` shows")]) -> None:
    """Revoke a key; requests with it are refused within seconds."""
    from app.cli.keys import revoke_key
    from experiments.settings import settings

    with faults_end_the_command():
        asyncio.run(revoke_key(settings(), prefix=prefix))
    out.print(f"Revoked {prefix}.", highlight=False)


@cli.command()
def apply(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML with definitions")],
    key: Key,
    url: Url = DEFAULT_URL,
    dry_run: Annotated[bool, typer.Option(help="Only say what would change")] = False,
) -> None:
    """Create or change what the file defines: connections, fact sources, metrics, series, North Stars, launches."""
    from app.cli.client import ApiClient
    from app.cli.definitions import apply_definitions, read_definitions

    with faults_end_the_command(), ApiClient(url, key) as client:
        for change in apply_definitions(client, read_definitions(file), dry_run=dry_run):
            out.print(str(change), highlight=False)
    if dry_run:
        out.print("Nothing was sent: this was a dry run.")


@cli.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with one row per unit")],
    experiment: Annotated[str, typer.Option(help="Key of the experiment to register")],
    variant: Annotated[str, typer.Option(help="Column with the variant")],
    control: Annotated[str, typer.Option(help="The control's value in that column")],
    metric: Annotated[list[str], typer.Option(help="Outcome column; the first one is the primary metric")],
    key: Key,
    url: Url = DEFAULT_URL,
    unit_id: Annotated[str | None, typer.Option(help="Column with the unit; default: each row is a unit")] = None,
    covariate: Annotated[list[str] | None, typer.Option(help="METRIC=COLUMN: value before exposure (CUPED)")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these variants take part")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="VARIANT=SHARE; default: equal shares")] = None,
    at: Annotated[datetime | None, typer.Option(help="When it began (UTC); default: so that it ended today")] = None,
    days: Annotated[float, typer.Option(min=0.1, max=730, help="How many days it ran, as planned")] = 7,
) -> None:
    """Register a finished experiment from a unit-level CSV file, analyse it and print the result."""
    from app.cli.client import ApiClient
    from app.cli.importing import UnitFile, import_units, profile
    from app.cli.report import follow, print_result

    with faults_end_the_command():
        unit_file = UnitFile(
            path=file,
            experiment_key=experiment,
            variant_column=variant,
            control=control,
            metrics=tuple(metric),
            at=_began_at(at, days),
            days=days,
            unit_column=unit_id,
            covariates=_pairs(covariate, "--covariate"),
            only_variants=tuple(only or ()),
            weights=_numbers(weight, "--weight"),
        )
        found = profile(unit_file)
        for column, cells in found.missing.items():
            err.print(f"Note: {cells:,} empty cells in column {column!r} count as 0.", highlight=False, markup=False)
        with ApiClient(url, key) as client:
            follow(client, import_units(client, unit_file, found), out)
            print_result(client, experiment, out)


@cli.command()
def analyze(
    experiment: Annotated[str, typer.Argument(help="Key of the experiment")],
    key: Key,
    url: Url = DEFAULT_URL,
) -> None:
    """Analyse an experiment now, follow it with a progress bar and print the verdict."""
    from app.cli.client import ApiClient
    from app.cli.report import follow, print_result

    with faults_end_the_command(), ApiClient(url, key) as client:
        follow(client, str(client.post(f"/v1/experiments/{experiment}/analyses")["id"]), out)
        print_result(client, experiment, out)


@cli.command()
def report(
    experiment: Annotated[str, typer.Argument(help="Key of the experiment")],
    key: Key,
    url: Url = DEFAULT_URL,
) -> None:
    """Print the latest result of an experiment: what both engines say, and what it rests on."""
    from app.cli.client import ApiClient
    from app.cli.report import print_result

    with faults_end_the_command(), ApiClient(url, key) as client:
        print_result(client, experiment, out)


@cli.command()
def plan(
    key: Key,
    url: Url = DEFAULT_URL,
    primary: Annotated[
        list[str] | None, typer.Option(help="METRIC=LIFT worth finding, for example orders=0.02")
    ] = None,
    guardrail: Annotated[list[str] | None, typer.Option(help="METRIC=HARM at most tolerated")] = None,
    equivalence: Annotated[list[str] | None, typer.Option(help="Primary metric that is to show no change")] = None,
    treatments: Annotated[int, typer.Option(min=1, max=19, help="Variants beside the control")] = 1,
    weight: Annotated[list[str] | None, typer.Option(help="VARIANT=SHARE, control first; default: equal")] = None,
    unit_type: str = "user",
    alpha: float = 0.05,
    power: float = 0.8,
    coverage: Annotated[float, typer.Option(help="Share of eligible traffic enrolled")] = 1.0,
    triggered_share: Annotated[float, typer.Option(help="Share of enrolled units that count")] = 1.0,
    monitoring: Annotated[str, typer.Option(help="fixed, always_valid or group_sequential")] = "fixed",
    spending: Annotated[str, typer.Option(help="obrien_fleming, pocock, power, hwang_shih_de_cani")] = "obrien_fleming",
    look_every_days: Annotated[int, typer.Option(help="Days between looks of group_sequential")] = 7,
    futility: Annotated[str, typer.Option(help="none, non_binding or binding")] = "none",
    correction: Annotated[str, typer.Option(help="holm, bonferroni, dunnett or none")] = "bonferroni",
    do_no_harm: Annotated[bool, typer.Option("--do-no-harm", help="Shipping needs no win")] = False,
    cluster_size: Annotated[float | None, typer.Option(help="Mean units per randomised cluster")] = None,
    cluster_cv: Annotated[float, typer.Option(help="Spread of cluster sizes over their mean")] = 0.0,
    icc: Annotated[float, typer.Option(help="Intraclass correlation")] = 0.0,
) -> None:
    """Say how many units and days an experiment needs, from what its metrics did so far."""
    from app.cli.client import ApiClient
    from app.cli.planning import PlanQuestion, print_plan

    looks = {"spending": spending, "look_every_days": look_every_days, "futility": futility}
    question = PlanQuestion(
        unit_type=unit_type,
        primary=_numbers(primary, "--primary"),
        guardrail=_numbers(guardrail, "--guardrail"),
        equivalence=equivalence or [],
        treatments=treatments,
        weights=_numbers(weight, "--weight"),
        options={
            "alpha": alpha,
            "power": power,
            "coverage": coverage,
            "triggered_share": triggered_share,
            "monitoring": monitoring,
            "sequential": {"method": monitoring, **looks} if monitoring == "group_sequential" else None,
            "correction": correction,
            "decision_rule": "do_no_harm" if do_no_harm else None,
            "clusters": {"size": cluster_size, "size_cv": cluster_cv, "icc": icc} if cluster_size is not None else None,
        },
    )
    with faults_end_the_command(), ApiClient(url, key) as client:
        print_plan(client.post("/v1/sample-size", question.body()), unit_type, out)


@cli.command()
def doctor() -> None:
    """Check what a service needs on this machine: database, schema, queue, store, statistics."""
    from app.cli.doctor import examine
    from experiments.settings import settings

    findings = asyncio.run(examine(settings()))
    for finding in findings:
        mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
        out.print(f"{mark} {finding.name}: {finding.detail}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _pairs(options: list[str] | None, flag: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not equals or not name or not value:
            raise typer.BadParameter(f"{flag} wants NAME=VALUE, not {option!r}")
        pairs[name] = value
    return pairs


def _numbers(options: list[str] | None, flag: str) -> dict[str, float]:
    try:
        return {name: float(number) for name, number in _pairs(options, flag).items()}
    except ValueError as error:
        raise typer.BadParameter(f"{flag} wants a number after the =: {error}") from error


def _began_at(given: datetime | None, days: float) -> datetime:
    """A time without an offset is UTC, wherever this machine is; without a time, so long ago that it ended today.

    At midnight, so that an import that is run again on the same day sends the same batches.
    """
    if given is None:
        return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
