"""What the client says when nobody answers, or when the key is not one."""

import pytest

from app.cli.client import ApiClient, ApiProblem, ServiceUnreachable
from tests.system.conftest import free_port


@pytest.mark.parametrize("address", ["somewhere", "http://", "http://127.0.0.1:{port}", "http://[::1"])
def test_an_address_where_nobody_answers_is_named_with_what_to_do(address: str) -> None:
    url = address.format(port=free_port())
    with pytest.raises(ServiceUnreachable) as unreachable, ApiClient(url, "nl_any") as client:
        client.get("/v1/experiments")
    assert f"No service answers at {url}" in str(unreachable.value)
    assert "northlift dev" in str(unreachable.value)


def test_a_key_of_any_characters_is_for_the_service_to_refuse() -> None:
    with pytest.raises(ServiceUnreachable), ApiClient(f"http://127.0.0.1:{free_port()}", " ключ\n") as client:
        client.get("/v1/experiments")


def test_a_problem_reads_as_title_detail_fields_and_remedy() -> None:
    problem = ApiProblem(
        422,
        {
            "type": "/problems/invalid-definition",
            "title": "The definition is not valid",
            "detail": "the weights must sum to 1",
            "errors": [{"pointer": "/variants", "detail": "they sum to 0.9"}],
            "remedy": "Correct the weights.",
        },
    )
    assert problem.slug == "invalid-definition"
    assert str(problem).splitlines() == [
        "The definition is not valid (422)",
        "the weights must sum to 1",
        "  /variants: they sum to 0.9",
        "What to do: Correct the weights.",
    ]
