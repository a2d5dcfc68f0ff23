"""Where a client fetches a result that does not go into a response (invocation-plane page, section 8.3).

The URL is its own credential. It leads to the bucket when results are kept in one, else to this installation.
"""

from __future__ import annotations

from gpufn.auth import signed_urls
from gpufn.model.invocation import LINK_SECONDS
from gpufn.runtime.clock import utc_now
from gpufn.store.objects import Objects
from gpufn.wire.objects import result_path


class Links:
    """Makes URLs. ``public_url``: what they begin with; empty: the address that the client calls."""

    def __init__(self, objects: Objects, pepper: bytes, public_url: str) -> None:
        self._objects = objects
        self._pepper = pepper
        self._public_url = public_url.rstrip("/").encode()

    async def result(self, request_id: str, key: str, origin: bytes) -> bytes:
        """A URL for the result kept under ``key``, good for LINK_SECONDS. ``origin``: scheme and host that the client
        calls. Raises Unavailable.
        """
        signed = await self._objects.signed_get(key, LINK_SECONDS)
        if signed is not None:
            return signed.encode()
        path = result_path(request_id)
        expires = int(utc_now().timestamp()) + LINK_SECONDS
        query = signed_urls.query(self._pepper, "GET", path, expires=expires)
        return b"%b%b?%b" % (self._public_url or origin, path.encode(), query.encode())
