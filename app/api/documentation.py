"""The OpenAPI document: FastAPI's, with problems instead of its own validation errors."""

from typing import Any

from fastapi import FastAPI

from app.api.problems import MEDIA_TYPE, Problem

DESCRIPTION = """
What did we do that moved the North Star, by how much, and how sure are we?

* Send an API key as `X-API-Key` or `Authorization: Bearer`. Scopes: `read`, `write` (includes read), `ingest`, `admin`.
  A revoked key stops working within five seconds.
* Failures are problems (RFC 9457, `application/problem+json`): `type` is an address that explains the kind of problem,
  `remedy` says what to do, `errors` points at fields. Nothing is stored by a request that fails.
* Lists are `{items, next_cursor}`; pass `next_cursor` back as `cursor`.
* `Idempotency-Key` on a POST makes it safe to repeat for three days. Uploads have batch ids instead.
* What people edit has an `ETag`; PUT and PATCH need it as `If-Match`. Results are immutable and have strong ETags.
* Every chance to win has a prior: rows name its source, results list all `priors` and what others would say.
  `decisions` has what each engine recommends, `agreement` why they differ, `monitoring` why beliefs may not decide yet.
* Times are ISO-8601 with an offset, answered in UTC. Relative numbers are fractions: 0.031, not 3.1.
"""


def install(app: FastAPI) -> None:
    """Make the app answer with our document."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = original()
        schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        for operations in document["paths"].values():
            for operation in operations.values():
                _only_problems(operation["responses"])
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents replacing it


def _only_problems(responses: dict[str, Any]) -> None:
    """Failures are problems and nothing else; successes keep their own content."""
    for status, response in responses.items():
        if status.startswith(("4", "5")) and MEDIA_TYPE in response.get("content", {}):
            response["content"] = {MEDIA_TYPE: response["content"][MEDIA_TYPE]}
        elif status == "422":
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
