"""`northlift experiments`: drafts of what follows."""

from typer.testing import CliRunner

from app.cli.commands import cli


def test_an_absent_service_ends_with_a_message() -> None:
    absent = ["experiments", "follow-up", "checkout", "--key", "k", "--url", "http://127.0.0.1:9"]
    ended = CliRunner().invoke(cli, absent)
    assert ended.exit_code == 1
    assert "127.0.0.1:9" in ended.output


def test_what_an_experiment_may_be_to_its_parent_is_told_beforehand() -> None:
    ended = CliRunner().invoke(cli, ["experiments", "follow-up", "checkout", "--key", "k", "--relation", "likes"])
    assert ended.exit_code == 2
