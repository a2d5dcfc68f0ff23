"""URLs that are their own credential: whoever holds one may do what it says, once or often, until it expires.

The signature covers the method, the path and the end; what else has to hold (headers, the thing itself) is checked by
whoever serves the path.
"""

from __future__ import annotations

import hashlib
import hmac

from gpufn.model.errors import Forbidden

PURPOSE = b"gpufn signed urls v1"


def query(pepper: bytes, method: str, path: str, *, expires: int) -> str:
    """What to put behind ``path?``. ``expires`` in seconds since the epoch."""
    return f"expires={expires}&signature={_signature(pepper, method, path, expires)}"


def check(pepper: bytes, method: str, path: str, *, expires: int, signature: str, now: float) -> None:
    """Raises Forbidden unless the signature is ours for exactly this, and ``now`` is before the end."""
    ours = _signature(pepper, method, path, expires)
    if not hmac.compare_digest(ours.encode(), signature.encode()):
        raise Forbidden("the signature of this URL does not fit; use the URL as it was given, with its method")
    if expires <= now:
        raise Forbidden("this URL has expired; ask for a new one")


def _signature(pepper: bytes, method: str, path: str, expires: int) -> str:
    secret = hmac.digest(pepper, PURPOSE, hashlib.sha256)
    return hmac.new(secret, f"{method}\n{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
