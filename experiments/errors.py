"""What can go wrong in the domain. Every class is one RFC 9457 problem type; `app` turns it into a response."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault in the input: where (a JSON pointer) and what to do about it."""

    pointer: str
    detail: str


class DomainError(Exception):
    """Base of all problems a caller can cause or must know about.

    `detail` says what happened, `remedy` what to do; `errors` name the fields. `extra` members go into the problem.
    """

    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request could not be carried out"

    def __init__(
        self,
        detail: str,
        *,
        remedy: str | None = None,
        errors: Sequence[FieldError] = (),
        **extra: str | int | float | bool | list[str] | None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.errors = tuple(errors)
        self.extra = extra

    @classmethod
    def slug(cls) -> str:
        """The problem type: the class name in kebab-case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


class NotFound(DomainError):
    status, title = 404, "No such resource"


class KeyTaken(DomainError):
    status, title = 409, "The key is already in use"


class InvalidDefinition(DomainError):
    status, title = 422, "The definition is not valid"


class InvalidFormula(DomainError):
    status, title = 422, "The formula is not valid"


class IllegalTransition(DomainError):
    status, title = 409, "The experiment cannot move to that status"


class PlanIncomplete(DomainError):
    status, title = 422, "The analysis plan is not complete"


class PlanFrozen(DomainError):
    status, title = 409, "The analysis plan is frozen"


class VersionConflict(DomainError):
    status, title = 412, "The resource has changed since you read it"


class PreconditionRequired(DomainError):
    status, title = 428, "If-Match is required"


class Unauthenticated(DomainError):
    status, title = 401, "An API key is required"


class Forbidden(DomainError):
    status, title = 403, "The API key does not allow this"


class IdempotencyMismatch(DomainError):
    status, title = 422, "The Idempotency-Key was used for another request"


class BatchMismatch(DomainError):
    status, title = 409, "The batch id was used for other content"


class BatchRejected(DomainError):
    status, title = 422, "The batch was refused"


class TooBusy(DomainError):
    """Raised with `retry_after_seconds`, which becomes the header Retry-After."""

    status, title = 503, "The service takes no more uploads at the moment"


class StorageFull(DomainError):
    status, title = 507, "There is no room to store this"


class PayloadTooLarge(DomainError):
    status, title = 413, "The upload is too large"


class UnsupportedMediaType(DomainError):
    status, title = 415, "The content type is not supported"


class NotReady(DomainError):
    status, title = 409, "The resource is not in a state that allows this"


class SourceUnreadable(DomainError):
    status, title = 422, "The fact source cannot be read"


class NoSecretKey(DomainError):
    status, title = 409, "The service has no key for secrets"


class SecretUnreadable(DomainError):
    status, title = 409, "The secret cannot be decrypted"


class InUse(DomainError):
    status, title = 409, "Something else needs it"


class DataDeleted(DomainError):
    status, title = 410, "The data was deleted"
