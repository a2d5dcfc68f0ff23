"""API keys: how one is made, recognised and remembered.

A key is ``nvapi-``, 8 characters that may be shown, 43 secret characters (256 bits), and 6 characters of checksum, so
that a mistyped key is recognised without a look into the database (auth page, section 3.4; keys must start with
``nvapi-``, section 17). Stored is only its keyed hash under the installation's pepper.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Sequence
from datetime import datetime

from gpufn.model.access import ALL_RESOURCES, ApiKey, Resource
from gpufn.model.errors import Invalid
from gpufn.model.ids import AccountId, KeyId, new_id

PREFIX = "nvapi-"
SHOWN = len(PREFIX) + 8
"""Characters of a key that may be stored and shown."""

_FORM = re.compile(r"nvapi-[A-Za-z0-9_-]{57}")


def digest(pepper: bytes, token: bytes) -> bytes:
    """What is stored of a key: BLAKE2b keyed with the installation's pepper, 32 bytes."""
    return hashlib.blake2b(token, key=pepper, digest_size=32).digest()


def mint(
    *,
    pepper: bytes,
    nca_id: AccountId,
    owner: str,
    scopes: Sequence[str],
    now: datetime,
    resources: Sequence[Resource] = ALL_RESOURCES,
    description: str = "",
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key to store, and its value, which nobody can read again."""
    body = PREFIX + _base64(secrets.token_bytes(6)) + _base64(secrets.token_bytes(32))
    value = body + _checksum(body)
    key = ApiKey(
        id=KeyId(new_id()),
        prefix=value[:SHOWN],
        digest=digest(pepper, value.encode()),
        nca_id=nca_id,
        owner=owner,
        description=description,
        scopes=tuple(scopes),
        resources=tuple(resources),
        created_at=now,
        expires_at=expires_at,
    )
    return key, value


def looks_like_key(value: str) -> bool:
    """Whether ``value`` has the form and the checksum of a key of ours. Says nothing about whether it is known."""
    return _FORM.fullmatch(value) is not None and hmac.compare_digest(_checksum(value[:-6]), value[-6:])


def parse(value: str | None) -> str:
    """``value``, if it can be a key. Raises Invalid in the key service's words (auth page, section 3.4)."""
    if not value:
        raise Invalid("api key empty")
    if _FORM.fullmatch(value) is None:
        raise Invalid("api key format invalid")
    if not looks_like_key(value):
        raise Invalid("Invalid key")
    return value


def matches(key: ApiKey, *, pepper: bytes, value: str) -> bool:
    """Whether ``value`` is that key, compared in constant time."""
    return hmac.compare_digest(key.digest, digest(pepper, value.encode()))


def _checksum(body: str) -> str:
    return _base64(zlib.crc32(body.encode()).to_bytes(4, "big"))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
