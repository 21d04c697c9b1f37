"""Secrets at rest: encrypted with a key that is not in the database (Fernet: AES-128-CBC and HMAC-SHA-256).

The first of the configured keys encrypts, all of them decrypt, so keys are rotated by putting a new one in front,
encrypting again, and taking the old one away. A secret is sealed together with the place that it is for: moved to
another row, or to a connection that leads elsewhere, it cannot be opened.
"""

import json

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from experiments.errors import NoSecretKey, SecretUnreadable
from experiments.settings import Settings


def new_key() -> str:
    """A new key, to be kept where the service's settings are and nowhere near the database's backups."""
    return Fernet.generate_key().decode()


class SecretKeys:
    """The keys of this service; none is allowed, and then no secret can be kept or read."""

    __slots__ = ("_ring",)

    def __init__(self, keys: str) -> None:
        """`keys`: Fernet keys with commas between them, the one that encrypts first. Raises `NoSecretKey`."""
        names = [key.strip() for key in keys.split(",") if key.strip()]
        try:
            self._ring = MultiFernet([Fernet(key) for key in names]) if names else None
        except ValueError as error:
            raise NoSecretKey(
                "NORTHLIFT_SECRET_KEYS holds something that is no key",
                remedy="Make keys with `northlift secrets new-key`; put commas between several, the newest first.",
            ) from error

    @classmethod
    def of(cls, settings: Settings) -> "SecretKeys":
        """The keys in the settings. Raises `NoSecretKey`."""
        return cls("" if settings.secret_keys is None else settings.secret_keys.get_secret_value())

    def __repr__(self) -> str:
        return "SecretKeys(…)" if self._ring else "SecretKeys()"

    def seal(self, secret: str, *, place: str) -> bytes:
        """The secret for `place`, encrypted. Raises `NoSecretKey`."""
        return self._required().encrypt(json.dumps([place, secret]).encode())

    def open(self, sealed: bytes, *, place: str) -> str:
        """The secret. Raises `NoSecretKey`, and `SecretUnreadable` where no key fits or it is for another place."""
        ring = self._required()
        try:
            found, secret = json.loads(ring.decrypt(sealed))
        except InvalidToken as error:
            raise _unreadable() from error
        if found != place:
            raise _unreadable()
        return str(secret)

    def seal_again(self, sealed: bytes) -> bytes:
        """The same secret, encrypted with the first key. Raises as `open`."""
        try:
            return self._required().rotate(sealed)
        except InvalidToken as error:
            raise _unreadable() from error

    def _required(self) -> MultiFernet:
        if self._ring is None:
            raise NoSecretKey(
                "The service has no key to encrypt secrets with, so it neither keeps nor reads any",
                remedy="Make one with `northlift secrets new-key` and set NORTHLIFT_SECRET_KEYS for API and workers.",
            )
        return self._ring


def _unreadable() -> SecretUnreadable:
    return SecretUnreadable(
        "The stored secret cannot be decrypted with the present keys",
        remedy="Put the key that encrypted it back into NORTHLIFT_SECRET_KEYS, or set the secret again.",
    )
