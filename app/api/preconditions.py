"""ETags of what people edit: `"<version>"`. Editing needs `If-Match`, reading honours `If-None-Match`."""

from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.responses import Response

from experiments.errors import PreconditionRequired, VersionConflict


def etag_of(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match or If-Match header names the tag."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags


def not_modified(request: Request, version: int) -> Response | None:
    """304, when the client already has this version."""
    etag = etag_of(version)
    return (
        Response(status_code=304, headers={"ETag": etag})
        if matches(request.headers.get("if-none-match"), etag)
        else None
    )


def expected_version(
    if_match: Annotated[str | None, Header(description='The ETag you read, for example `"3"`; `*` for any')] = None,
) -> int | None:
    """The version that the caller last saw; None for `*`. Raises `PreconditionRequired` without the header."""
    if if_match is None:
        raise PreconditionRequired(
            "This changes what others may have changed too: say which version you have seen",
            remedy="Read the resource, and send its ETag as If-Match.",
        )
    tag = if_match.strip()
    if tag == "*":
        return None
    number = tag.removeprefix("W/").strip('"')
    if not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise VersionConflict(
            f"{tag[:40]} is not the ETag of any version", remedy="Send the ETag exactly as it was returned."
        )
    return int(number)


def optional_version(
    if_match: Annotated[str | None, Header(description="The ETag you read, if the move depends on it")] = None,
) -> int | None:
    """As `expected_version`, where the state machine itself already refuses what must not happen."""
    return None if if_match is None else expected_version(if_match)


IfMatch = Annotated[int | None, Depends(expected_version)]
OptionalIfMatch = Annotated[int | None, Depends(optional_version)]
