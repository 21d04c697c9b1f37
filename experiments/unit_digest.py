"""What stays of the id of an erased unit: HMAC-SHA-256 of it, by which it is recognised and cannot be found out.

The key is a random file below the data folder. It is none of the keys that secrets are encrypted with: those are
rotated and thrown away, and a digest cannot be made again when its id is gone.
"""

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

KEY_FILE: Final = ".erasure.key"
_BYTES: Final = 32


def digest_key(data_dir: Path) -> bytes:
    """The key, which is made when it is first asked for; readable by the service's own user alone."""
    path = data_dir / KEY_FILE
    try:
        return _read(path)
    except FileNotFoundError:
        data_dir.mkdir(parents=True, exist_ok=True)
    made = data_dir / f"{KEY_FILE}.{secrets.token_hex(8)}"
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        # Fails where another process was faster: all use the key that is there.
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return _read(path)


def unit_digest(key: bytes, unit_type: str, unit_id: str) -> str:
    """The digest of a unit, in hexadecimal. The same id is another unit in another unit type."""
    return hmac.digest(key, f"{unit_type}\n{unit_id}".encode(), "sha256").hex()


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise ValueError(f"{path.name} does not hold a key; put it back from a backup of the data folder")
    return key
