"""`northlift connections` and `northlift secrets`: warehouses, and the keys that their secrets are encrypted with."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from app.cli.faults import faults_end_the_command

connections_cli = typer.Typer(name="connections", help="Warehouses that fact sources read", no_args_is_help=True)
secrets_cli = typer.Typer(name="secrets", help="Keys that secrets are encrypted with", no_args_is_help=True)
out = Console()

Name = Annotated[str, typer.Argument(help="Key of the connection")]
Url = Annotated[str, typer.Option(envvar="NORTHLIFT_URL", help="Address of the service")]
Key = Annotated[str, typer.Option(envvar="NORTHLIFT_KEY", help="API key of an administrator", show_default=False)]
DEFAULT_URL = "http://127.0.0.1:8321"


@connections_cli.command("list")
def connections_list(key: Key, url: Url = DEFAULT_URL) -> None:
    """List connections: where they lead, and what their last check found. `northlift apply` registers them."""
    from app.cli.client import ApiClient
    from app.cli.connections import connections_table
    from app.cli.launches import every_item

    with faults_end_the_command(), ApiClient(url, key) as client:
        out.print(connections_table(every_item(client, "/v1/connections")))


@connections_cli.command("check")
def connections_check(connection: Name, key: Key, url: Url = DEFAULT_URL) -> None:
    """Open a connection from the service, and say who answers and what the role may do."""
    from app.cli.client import ApiClient
    from app.cli.connections import check_lines

    with faults_end_the_command(), ApiClient(url, key) as client:
        found = client.post(f"/v1/connections/{connection}/check")
    for line in check_lines(found):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if not found["ok"]:
        raise typer.Exit(1)


@connections_cli.command("secret")
def connections_secret(
    connection: Name,
    key: Key,
    url: Url = DEFAULT_URL,
    forget: Annotated[bool, typer.Option("--forget", help="Keep none")] = False,
) -> None:
    """Set the password or token: asked for at a terminal, else read from standard input; never an argument."""
    from app.cli.client import ApiClient

    secret = None
    if not forget:
        asked = typer.prompt("Password or token", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
        secret = str(asked).rstrip("\r\n")
    with faults_end_the_command(), ApiClient(url, key) as client:
        client.request("PUT", f"/v1/connections/{connection}/secret", json={"secret": secret})
    out.print(f"{connection}: the secret is {'forgotten' if forget else 'kept, encrypted'}.", highlight=False)


@connections_cli.command("delete")
def connections_delete(connection: Name, key: Key, url: Url = DEFAULT_URL) -> None:
    """Forget a connection that nothing uses, and its secret."""
    from app.cli.client import ApiClient

    with faults_end_the_command(), ApiClient(url, key) as client:
        client.request("DELETE", f"/v1/connections/{connection}")
    out.print(f"Deleted {connection}.", highlight=False)


@secrets_cli.command("new-key")
def secrets_new_key() -> None:
    """Print a new key for NORTHLIFT_SECRET_KEYS. It is kept nowhere: losing it loses the secrets."""
    from experiments.secret_keys import new_key

    out.print(new_key(), highlight=False, soft_wrap=True)


@secrets_cli.command("encrypt-again")
def secrets_encrypt_again() -> None:
    """Encrypt all secrets with the first key of NORTHLIFT_SECRET_KEYS, after which the others may go."""
    from app.cli.connections import encrypt_again
    from experiments.settings import settings

    with faults_end_the_command():
        count = asyncio.run(encrypt_again(settings()))
    out.print(f"{count} {'secret is' if count == 1 else 'secrets are'} encrypted with the first key.", highlight=False)
