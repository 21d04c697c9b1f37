"""The `northlift` command. Subcommands import what they need when they run: `--help` and children stay light."""

from app.cli.commands import cli


def main() -> None:
    """Console-script entry."""
    cli()
