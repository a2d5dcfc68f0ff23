"""Fetching the public keys of an issuer. The only place that speaks to issuers; its library's errors end here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gpufn.model.errors import Unavailable

ANSWER_MAX = 256 * 1024
"""Largest document read, in bytes."""
SECONDS = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def fetch_keys(issuer: str, jwks_url: str = "") -> Mapping[str, Any]:
    """The issuer's JWK set: at ``jwks_url``, else where its OpenID configuration says. Raises Unavailable."""
    try:
        async with httpx.AsyncClient(timeout=SECONDS, follow_redirects=False) as client:
            url = jwks_url
            if not url:
                found = await _document(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                url = str(found.get("jwks_uri", ""))
            document = await _document(client, url)
        return dict(KeySet.import_key_set(document).as_dict(private=False))  # type: ignore[arg-type]
    except (httpx.HTTPError, httpx.InvalidURL, JoseError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"the keys of issuer {issuer} cannot be read: {error}") from error


async def _document(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"'{url[:200]}' is no https URL")
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        content = b""
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > ANSWER_MAX:
                raise ValueError(f"{url[:200]} answers with more than {ANSWER_MAX} bytes")
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError(f"{url[:200]} does not answer with an object")
    return document
