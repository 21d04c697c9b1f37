"""A small client of the public API: what the command line, the demo and the examples speak."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

PROBLEM = "application/problem+json"
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class ApiFailure(Exception):
    """A call did not succeed; the text is what a person should read."""


class ServiceUnreachable(ApiFailure):
    """Nobody answered: no service at that address, or none that could be understood."""

    def __init__(self, url: str, error: httpx.HTTPError | httpx.InvalidURL) -> None:
        cause = str(error) or type(error).__name__
        super().__init__(
            f"No service answers at {url} ({cause})\n"
            "What to do: start one with `northlift dev`, or name its address with --url or NORTHLIFT_URL."
        )


class ApiProblem(ApiFailure):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        lines = [f"{problem.get('title', 'Error')} ({status})", str(problem.get("detail", ""))]
        lines += [f"  {error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors") or []]
        if problem.get("remedy"):
            lines.append(f"What to do: {problem['remedy']}")
        super().__init__("\n".join(line for line in lines if line))
        self.status = status
        self.problem = problem

    @property
    def slug(self) -> str:
        """The problem type without its path."""
        return str(self.problem.get("type", "")).rsplit("/", 1)[-1]


class ApiClient:
    """Blocking calls to one service with one key.

    Raises `ApiProblem` for every refusal and `ServiceUnreachable` where nobody answers.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 120.0) -> None:
        self.url = url
        try:
            # Bytes, because a pasted key may hold anything and must be refused by the service, not by an encoder.
            headers = {b"X-API-Key": key.strip().encode()}
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        except httpx.InvalidURL as error:
            raise ServiceUnreachable(url, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request; the response of a success."""
        try:
            response = self._http.request(method, path, json=json, content=content, params=params, headers=headers)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServiceUnreachable(self.url, error) from error
        if response.is_success:
            return response
        problem = response.json() if response.headers.get("content-type", "").startswith(PROBLEM) else {}
        raise ApiProblem(response.status_code, problem or {"title": "Unexpected answer", "detail": response.text[:500]})

    def get(self, path: str, **params: str) -> Any:
        return self.request("GET", path, params=params).json()

    def post(self, path: str, body: Any = None, **params: str) -> Any:
        return self.request("POST", path, json={} if body is None else body, params=params).json()

    def put(self, path: str, body: Any) -> Any:
        """Replace an editable resource, on the version that is there now."""
        etag = self.request("GET", path).headers["etag"]
        return self.request("PUT", path, json=body, headers={"If-Match": etag}).json()

    def ensure(self, path: str, body: Mapping[str, Any]) -> bool:
        """Create a resource unless its key is taken; whether it was created."""
        try:
            self.post(path, body)
        except ApiProblem as problem:
            if problem.slug != "key-taken":
                raise
            return False
        return True

    def move(self, experiment_key: str, verb: str, at: datetime) -> bool:
        """Start, pause, resume or stop an experiment, unless it is past that; whether it moved."""
        try:
            self.post(f"/v1/experiments/{experiment_key}/{verb}", {"at": at.isoformat()})
        except ApiProblem as problem:
            if problem.slug != "illegal-transition":
                raise
            return False
        return True

    def ingest(
        self, stream: str, body: bytes, *, batch_id: str, content_type: str, on_error: str = "reject_batch"
    ) -> Any:
        """Send one batch of `exposures` or `events`; sending it again changes nothing."""
        return self.request(
            "POST",
            f"/v1/ingest/{stream}",
            content=body,
            params={"batch_id": batch_id, "on_error": on_error},
            headers={"Content-Type": content_type},
        ).json()

    def wait(
        self,
        analysis_id: str,
        *,
        timeout: float = 900.0,
        progress: Callable[[str, float], None] = lambda stage, fraction: None,
    ) -> dict[str, Any]:
        """Follow an analysis to its end. Raises `ApiProblem` when it failed or was cancelled, `TimeoutError` else."""
        deadline = time.monotonic() + timeout
        while True:
            analysis: dict[str, Any] = self.get(f"/v1/analyses/{analysis_id}")
            progress(analysis.get("stage") or analysis["state"], float(analysis.get("fraction") or 0.0))
            if analysis["state"] == "succeeded":
                return analysis
            if analysis["state"] in FINAL_STATES:
                error = analysis.get("error") or {}
                detail = error.get("detail", "no detail was recorded")
                raise ApiProblem(409, {"title": f"The analysis {analysis['state']}", "detail": detail})
            if time.monotonic() > deadline:
                raise TimeoutError(f"analysis {analysis_id} is still {analysis['state']} after {timeout:g} s")
            time.sleep(0.2)
